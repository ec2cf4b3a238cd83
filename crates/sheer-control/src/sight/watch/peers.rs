//! The other half of a request: both proxies saw the same stream of the same connection, so the other one can be asked for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sheer_api::v1;
use tokio::{sync::oneshot, time::sleep};

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

/// How long requests that are over wait for others of the same proxy: they are asked for together.
const TOGETHER: Duration = Duration::from_millis(5);

/// Requests that a proxy is asked for together, at most.
const AT_ONCE: usize = 256;

/// The side of a proxy that a leg is at.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Client,
    Upstream,
}

/// A request whose other half somebody waits for.
struct Waiting {
    /// As the proxy that is asked has it.
    leg: v1::Leg,
    answer: oneshot::Sender<Result<Option<v1::ExchangeView>, String>>,
}

/// Proxies that were asked before, by pod.
pub(super) struct Peers {
    store: Store,
    config: Arc<MeshConfig>,
    proxies: Arc<Proxies>,
    redaction: super::RedactionKey,
    asker: Asker,
    hidden: Arc<Latest>,
    open: Mutex<HashMap<String, Proxy>>,
    /// Requests that one proxy is about to be asked for, by its pod.
    waiting: Mutex<HashMap<(String, Side), Vec<Waiting>>>,
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
            waiting: Mutex::default(),
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
    pub(super) async fn inbound_of(
        self: &Arc<Self>,
        upstream: &v1::Leg,
        in_short: bool,
    ) -> Result<v1::ExchangeView, String> {
        let leg = v1::Leg {
            local: upstream.remote.clone(),
            remote: upstream.local.clone(),
            stream: upstream.stream,
            ..v1::Leg::default()
        };
        Box::pin(self.half(&upstream.remote, (Side::Client, leg), in_short)).await
    }

    /// The outbound view of a request that came in on this leg.
    pub(super) async fn outbound_of(
        self: &Arc<Self>,
        client: &v1::Leg,
        in_short: bool,
    ) -> Result<v1::ExchangeView, String> {
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
        Box::pin(self.half(&client.remote, (Side::Upstream, leg), in_short)).await
    }

    /// What the proxy at this address recorded of a request on this leg.
    async fn half(
        self: &Arc<Self>,
        address: &str,
        (side, leg): (Side, v1::Leg),
        in_short: bool,
    ) -> Result<v1::ExchangeView, String> {
        if address.is_empty() {
            return Err("which proxy was at the other end is not known any more, as the connection is gone".to_owned());
        }
        let (pod, mut proxy) = self.at(address).await?;
        for attempt in 0..2 {
            if attempt > 0 {
                sleep(AGAIN).await;
            }
            let view = if in_short {
                self.in_short(&pod, &proxy, (side, leg.clone())).await?
            } else {
                let asked = question(side, vec![leg.clone()]);
                Box::pin(self.ask(&pod, &mut proxy, asked)).await?.pop()
            };
            if let Some(view) = view {
                return Ok(view);
            }
        }
        Err(format!(
            "the sidecar of {} has nothing left of it: frames are kept of open connections, of the last that ended, of the last 200 failures and of the \
             last 200 requests that a tap has shown; it is none of those there",
            super::name(&pod)
        ))
    }

    /// The same together with other requests of the proxy: whoever is first asks for all.
    async fn in_short(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        proxy: &Proxy,
        (side, leg): (Side, v1::Leg),
    ) -> Result<Option<v1::ExchangeView>, String> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            let together = waiting.entry((super::name(pod), side)).or_default();
            together.push(Waiting { leg, answer });
            together.len() == 1
        };
        if is_first {
            let (peers, pod, proxy) = (Arc::clone(self), Arc::clone(pod), proxy.clone());
            tokio::spawn(async move { peers.ask_together(&pod, proxy, side).await });
        }
        answered
            .await
            .unwrap_or_else(|_| Err(format!("{} was not asked", super::name(pod))))
    }

    /// Asks for those that wait by then, and gives each its own.
    async fn ask_together(&self, pod: &Pod, mut proxy: Proxy, side: Side) {
        sleep(TOGETHER).await;
        let together = self.waiting.lock().remove(&(super::name(pod), side));
        let mut together = together.unwrap_or_default();
        while !together.is_empty() {
            let rest = together.split_off(together.len().min(AT_ONCE));
            let some = std::mem::replace(&mut together, rest);
            let asked = v1::ExchangesRequest {
                in_short: true,
                ..question(side, some.iter().map(|one| one.leg.clone()).collect())
            };
            let views = self.ask(pod, &mut proxy, asked).await;
            if views.is_err() {
                // Nor would it answer for the others.
                together.clear();
            }
            for Waiting { leg, answer } in some {
                let found = views.as_ref().map(|views| found(views, side, &leg).cloned());
                let _ = answer.send(found.map_err(Clone::clone));
            }
            together.retain(|one| !one.answer.is_closed());
        }
    }

    async fn ask(
        &self,
        pod: &Pod,
        proxy: &mut Proxy,
        asked: v1::ExchangesRequest,
    ) -> Result<Vec<v1::ExchangeView>, String> {
        let asked = v1::ExchangesRequest {
            rights: Some(self.rights()),
            ..asked
        };
        let answer = proxy.exchanges(asked).await;
        let answer = answer.inspect_err(|_| self.forget(pod))?;
        Ok(answer.exchanges)
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
                sleep(AGAIN).await;
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
        // In the heap, as it is rare and large: a tap keeps room for hundreds of whom asks.
        let proxy = Box::pin(self.proxies.connect(&self.config, pod)).await;
        let proxy = proxy.map_err(|why| format!("{name} has no proxy of the mesh, or it cannot be asked: {why}"))?;
        self.open.lock().insert(name, proxy.clone());
        Ok(proxy)
    }
}

/// Asks for the requests on these legs.
fn question(side: Side, legs: Vec<v1::Leg>) -> v1::ExchangesRequest {
    let limit = u32::try_from(legs.len()).unwrap_or(u32::MAX);
    let (clients, upstreams) = match side {
        Side::Client => (legs, Vec::new()),
        Side::Upstream => (Vec::new(), legs),
    };
    v1::ExchangesRequest {
        clients,
        upstreams,
        limit,
        ..v1::ExchangesRequest::default()
    }
}

/// The latest of those that were on this leg: one that failed before on a connection of the same addresses comes after it.
fn found<'a>(views: &'a [v1::ExchangeView], side: Side, leg: &v1::Leg) -> Option<&'a v1::ExchangeView> {
    views.iter().find(|view| is_on(view, side, leg))
}

/// Whether a request was on this leg: of one that was redirected, by the address that the other end knows.
fn is_on(view: &v1::ExchangeView, side: Side, asked: &v1::Leg) -> bool {
    let leg = view.exchange.as_ref().and_then(|exchange| match side {
        Side::Client => exchange.client.as_ref(),
        Side::Upstream => exchange.upstream.as_ref(),
    });
    leg.is_some_and(|leg| {
        leg.stream == asked.stream && leg.remote == asked.remote && [&leg.local, &leg.original].contains(&&asked.local)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(local: &str, original: &str, stream: u32) -> v1::Leg {
        v1::Leg {
            local: local.to_owned(),
            original: original.to_owned(),
            remote: "10.77.0.2:40000".to_owned(),
            stream,
            ..v1::Leg::default()
        }
    }

    fn view(id: u64, client: v1::Leg) -> v1::ExchangeView {
        v1::ExchangeView {
            exchange: Some(v1::Exchange {
                id,
                upstream: Some(leg("10.77.0.3:50000", "", client.stream)),
                client: Some(client),
                ..v1::Exchange::default()
            }),
            ..v1::ExchangeView::default()
        }
    }

    #[test]
    fn each_gets_the_latest_view_of_its_own_leg() {
        let own = |stream| leg("10.77.0.3:4143", "10.77.0.3:9000", stream);
        let views = [
            view(9, own(3)),
            view(8, own(5)),
            view(7, own(3)),
            view(6, leg("10.77.0.3:9001", "", 3)),
        ];
        let id = |side, asked: &v1::Leg| {
            let exchange = found(&views, side, asked).and_then(|view| view.exchange.as_ref());
            exchange.map(|exchange| exchange.id)
        };
        // By the address that it was going to, or by that of the proxy; again for who asks again.
        for _ in 0..2 {
            assert_eq!(id(Side::Client, &leg("10.77.0.3:9000", "", 3)), Some(9));
        }
        assert_eq!(id(Side::Client, &leg("10.77.0.3:4143", "", 5)), Some(8));
        assert_eq!(id(Side::Client, &leg("10.77.0.3:9001", "", 3)), Some(6));
        assert_eq!(id(Side::Client, &leg("10.77.0.3:9000", "", 7)), None);
        assert_eq!(id(Side::Client, &leg("10.77.0.3:50000", "", 3)), None);
        assert_eq!(id(Side::Upstream, &leg("10.77.0.3:50000", "", 5)), Some(8));
    }
}
