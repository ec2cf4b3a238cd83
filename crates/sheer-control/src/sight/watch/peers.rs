//! The other half of a request: both proxies saw the same stream of the same connection, so the other one can be asked for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sheer_api::v1;

use super::{Hidden, is_hidden, names, redacted};
use crate::{
    config::MeshConfig,
    objects::Pod,
    sight::{
        asker::{Asker, Right},
        connect::{Proxies, Proxy},
        hidden::Latest,
    },
    store::{Snapshot, Store},
};

/// A proxy notes a request when it is over, which is a little later on one side than on the other.
const AGAIN: Duration = Duration::from_millis(40);

/// Proxies that were asked before, by pod.
pub(super) struct Peers {
    store: Store,
    config: Arc<MeshConfig>,
    proxies: Arc<Proxies>,
    redaction: super::RedactionKey,
    asker: Asker,
    hidden: Arc<Latest>,
    open: Mutex<HashMap<String, Proxy>>,
}

impl Peers {
    pub(super) fn new(sight: &super::Sight, asker: &Asker) -> Arc<Self> {
        Arc::new(Self {
            store: sight.store.clone(),
            config: Arc::clone(&sight.config),
            proxies: Arc::clone(&sight.proxies),
            redaction: sight.redaction.clone(),
            asker: asker.clone(),
            hidden: Arc::clone(&sight.hidden),
            open: Mutex::default(),
        })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.latest()
    }

    /// What nobody may look at now.
    pub(super) fn hidden(&self, snapshot: &Snapshot) -> Arc<Hidden> {
        self.hidden.of(snapshot)
    }

    /// The domain of names of services.
    pub(super) fn domain(&self) -> &str {
        &self.config.cluster_domain
    }

    /// The inbound view of a request that went out on this leg; `in_short` without what was on the wire.
    /// The error says why there is none.
    pub(super) async fn inbound_of(&self, upstream: &v1::Leg, in_short: bool) -> Result<v1::ExchangeView, String> {
        let leg = v1::Leg {
            local: upstream.remote.clone(),
            remote: upstream.local.clone(),
            stream: upstream.stream,
            ..v1::Leg::default()
        };
        let asked = v1::ExchangesRequest {
            client: Some(leg),
            in_short,
            ..v1::ExchangesRequest::default()
        };
        self.ask(&upstream.remote, asked).await
    }

    /// The outbound view of a request that came in on this leg.
    pub(super) async fn outbound_of(&self, client: &v1::Leg, in_short: bool) -> Result<v1::ExchangeView, String> {
        // The other side connected to where the connection was going before it was redirected here.
        let remote = if client.original.is_empty() {
            &client.local
        } else {
            &client.original
        };
        let leg = v1::Leg {
            local: client.remote.clone(),
            remote: remote.clone(),
            stream: client.stream,
            ..v1::Leg::default()
        };
        let asked = v1::ExchangesRequest {
            upstream: Some(leg),
            in_short,
            ..v1::ExchangesRequest::default()
        };
        self.ask(&client.remote, asked).await
    }

    async fn ask(&self, address: &str, asked: v1::ExchangesRequest) -> Result<v1::ExchangeView, String> {
        if address.is_empty() {
            return Err("which proxy was at the other end is not known any more, as the connection is gone".to_owned());
        }
        let (pod, mut proxy) = self.at(address).await?;
        let asked = v1::ExchangesRequest {
            rights: Some(self.rights()),
            ..asked
        };
        for attempt in 0..2 {
            if attempt > 0 {
                tokio::time::sleep(AGAIN).await;
            }
            let answer = proxy.exchanges(asked.clone()).await;
            let answer = answer.inspect_err(|_| self.forget(&pod))?;
            if let Some(view) = answer.exchanges.into_iter().next() {
                return Ok(view);
            }
        }
        Err(format!(
            "the sidecar of {} has nothing left of it: frames are kept of open connections, of the last that ended, and of the last 200 failures; it did not \
             fail there, or failed before those",
            super::name(&pod)
        ))
    }

    /// The connection of another proxy whose other end is this one: ours has these addresses.
    pub(super) async fn connection_of(&self, (local, remote): (&str, &str)) -> Result<v1::Connection, String> {
        let (pod, mut proxy) = self.at(remote).await?;
        let asked = v1::ConnectionsRequest {
            rights: Some(self.rights()),
            peer: "mesh".to_owned(),
            ended: true,
            local: remote.to_owned(),
            remote: local.to_owned(),
        };
        let mut found = None;
        for attempt in 0..2 {
            if attempt > 0 {
                tokio::time::sleep(AGAIN).await;
            }
            let answer = proxy.connections(asked.clone()).await;
            let answer = answer.inspect_err(|_| self.forget(&pod))?;
            found = answer.connections.into_iter().next_back().or(found);
            if found.as_ref().is_some_and(|found| found.ending.is_some()) {
                break;
            }
        }
        found.ok_or_else(|| format!("the sidecar of {} has nothing left of it", super::name(&pod)))
    }

    fn rights(&self) -> v1::Rights {
        redacted(&self.redaction, &self.hidden.of(&self.store.latest()), &self.asker)
    }

    /// The proxy of the pod at an address, where the caller may ask it.
    async fn at(&self, address: &str) -> Result<(Arc<Pod>, Proxy), String> {
        let snapshot = self.store.latest();
        let pod = names::find_pod(&snapshot, address).ok_or_else(|| format!("no pod of the mesh is at {address}"))?;
        if is_hidden(&snapshot, &pod) {
            return Err("sight is disabled for the workload at the other end".to_owned());
        }
        let may = self.asker.must(&snapshot, &pod, Right::Tap);
        may.map_err(|refused| refused.message().to_owned())?;
        let proxy = self.proxy(&pod).await?;
        Ok((pod, proxy))
    }

    fn forget(&self, pod: &Pod) {
        self.open.lock().remove(&super::name(pod));
    }

    async fn proxy(&self, pod: &Pod) -> Result<Proxy, String> {
        let name = super::name(pod);
        if let Some(known) = self.open.lock().get(&name) {
            return Ok(known.clone());
        }
        let proxy = self.proxies.connect(&self.config, pod).await;
        let proxy = proxy.map_err(|why| format!("{name} has no proxy of the mesh, or it cannot be asked: {why}"))?;
        self.open.lock().insert(name, proxy.clone());
        Ok(proxy)
    }
}
