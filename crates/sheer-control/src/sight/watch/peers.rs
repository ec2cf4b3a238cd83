//! The other half of a request: both proxies saw the same stream of the same connection, so the other one can be asked for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sheer_api::v1;

use super::{is_hidden, names, redacted};
use crate::{
    config::MeshConfig,
    objects::Pod,
    sight::{
        asker::{Asker, Right},
        connect::{Proxies, Proxy},
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
            open: Mutex::default(),
        })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.latest()
    }

    /// The domain of names of services.
    pub(super) fn domain(&self) -> &str {
        &self.config.cluster_domain
    }

    /// The inbound view of a request that went out on this leg; `in_short` without what was on the wire.
    pub(super) async fn inbound_of(&self, upstream: &v1::Leg, in_short: bool) -> Option<v1::ExchangeView> {
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
    pub(super) async fn outbound_of(&self, client: &v1::Leg, in_short: bool) -> Option<v1::ExchangeView> {
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

    async fn ask(&self, address: &str, asked: v1::ExchangesRequest) -> Option<v1::ExchangeView> {
        let snapshot = self.store.latest();
        let pod = names::find_pod(&snapshot, address)?;
        if is_hidden(&snapshot, &pod) || !self.asker.may(&snapshot, &pod, Right::Tap) {
            return None;
        }
        let asked = v1::ExchangesRequest {
            rights: Some(redacted(&self.redaction, &snapshot, &pod, &self.asker)),
            ..asked
        };
        let mut proxy = self.proxy(&pod).await?;
        for attempt in 0..2 {
            if attempt > 0 {
                tokio::time::sleep(AGAIN).await;
            }
            match proxy.exchanges(asked.clone()).await {
                Ok(answer) => {
                    if let Some(view) = answer.exchanges.into_iter().next() {
                        return Some(view);
                    }
                }
                Err(_) => {
                    self.open.lock().remove(&super::name(&pod));
                    return None;
                }
            }
        }
        None
    }

    async fn proxy(&self, pod: &Pod) -> Option<Proxy> {
        let name = super::name(pod);
        if let Some(known) = self.open.lock().get(&name) {
            return Some(known.clone());
        }
        let proxy = self.proxies.connect(&self.config, pod).await.ok()?;
        self.open.lock().insert(name, proxy.clone());
        Some(proxy)
    }
}
