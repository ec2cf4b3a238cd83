//! What a service keeps for each of its endpoints.

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use crate::{
    connect::{Connected, Speak},
    discovery::{Endpoint, Hint},
    error::ProxyError,
    exchange::Upstream,
    metrics::{HttpMetrics, LabelSet, Shard, TcpMetrics},
    pool::{H2Peer, Keep, OnDemand, Pool, StreamSlot, watch::Watcher},
    telemetry::Key,
};

/// What carries the requests of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Streams of the HTTP/2 connections that the worker keeps.
    Streams,
    /// Streams of connections that this service has for itself.
    OwnStreams,
    /// Streams where the endpoint's proxy takes HTTP/1 in HTTP/2, connections elsewhere.
    AsHinted,
    /// Connections, lent to whoever comes next.
    Connections,
    /// Connections that this service has for itself.
    OwnConnections,
}

/// What a service keeps for each of its endpoints.
#[derive(Debug)]
pub struct Member {
    link: Link,
    /// Counts what is sent to the endpoint for this service.
    pub metrics: HttpMetrics,
    watcher: OnceCell<Watching>,
}

#[derive(Debug)]
enum Link {
    Streams(Rc<H2Peer>),
    Connections(Rc<OnDemand>),
}

/// Keeps a watcher alive.
struct Watching(#[expect(dead_code, reason = "held, not called: the link calls it")] Watcher);

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watching")
    }
}

impl Member {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        carrier: Carrier,
        pool: &Pool,
        shard: &Shard,
        (labels, key): (LabelSet, Key),
    ) -> Self {
        let tcp = TcpMetrics::new(shard, &labels).told_as(key.clone());
        let link = match carrier {
            Carrier::Streams => Link::Streams(pool.h2_peer(endpoint, tcp)),
            Carrier::OwnStreams => Link::Streams(pool.private_h2_peer(endpoint, tcp)),
            Carrier::AsHinted if takes_h2(endpoint) => Link::Streams(pool.h2_peer(endpoint, tcp)),
            Carrier::AsHinted | Carrier::Connections => Link::Connections(pool.on_demand(endpoint, tcp, Keep::ForAll)),
            Carrier::OwnConnections => Link::Connections(pool.on_demand(endpoint, tcp, Keep::ForOne)),
        };
        Self {
            link,
            metrics: HttpMetrics::new(shard, &labels).told_as(key),
            watcher: OnceCell::new(),
        }
    }

    /// Notes what the endpoint is called by those who talk to it, for one that the mesh does not know.
    pub(crate) fn name_host(&self, host: Option<&str>) {
        if let (Some(series), Some(host)) = (self.metrics.series(), host) {
            series.cells().name_host(host);
        }
    }

    /// From now on calls `watcher` when the endpoint becomes usable or unusable.
    pub(super) fn watch(&self, watcher: Watcher) {
        match &self.link {
            Link::Streams(peer) => peer.watch(&watcher),
            Link::Connections(peer) => peer.watch(&watcher),
        }
        let _ = self.watcher.set(Watching(watcher));
    }

    pub(super) fn is_up(&self) -> bool {
        match &self.link {
            Link::Streams(peer) => peer.is_up(),
            Link::Connections(peer) => peer.is_up(),
        }
    }

    /// How many requests it takes at once now.
    pub(super) fn room(&self) -> usize {
        match &self.link {
            Link::Streams(peer) => peer.room(),
            Link::Connections(peer) if peer.is_up() => usize::MAX,
            Link::Connections(_) => 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        match &self.link {
            Link::Streams(peer) => peer.has_room(),
            Link::Connections(_) => true,
        }
    }

    pub(super) fn why_down(&self) -> Option<ProxyError> {
        match &self.link {
            Link::Streams(peer) => peer.why_down(),
            Link::Connections(peer) => peer.why_down(),
        }
    }

    pub(super) fn hurry(&self) {
        match &self.link {
            Link::Streams(peer) => peer.hurry(),
            Link::Connections(peer) => peer.hurry(),
        }
    }

    /// Whether the server closed a connection that is kept for one client.
    pub(super) fn is_closed(&self) -> bool {
        match &self.link {
            Link::Streams(peer) => peer.lost_one(),
            Link::Connections(peer) => peer.is_closed(),
        }
    }

    /// What a request can be sent on; none where the endpoint turns out not to be usable, which it knows from now on.
    pub(super) async fn upstream(&self) -> Result<Option<(Upstream, Option<StreamSlot>)>, ProxyError> {
        Ok(match &self.link {
            Link::Streams(peer) => peer.reserve().map(|(send, slot)| {
                let upstream = Upstream::H2 {
                    send,
                    mesh: peer.is_meshed(),
                    tape: slot.tape().clone(),
                };
                (upstream, Some(slot))
            }),
            Link::Connections(peer) => peer.http1().await.ok().map(|upstream| (upstream, None)),
        })
    }

    /// A connection of HTTP/1 for one request that leaves HTTP.
    pub(super) async fn tunnel(&self) -> Result<Option<Upstream>, ProxyError> {
        match &self.link {
            // Its streams are well: that this connection failed says nothing about them, and only this request looks elsewhere.
            Link::Streams(peer) => peer.http1().await.map(Some),
            Link::Connections(peer) => Ok(peer.http1().await.ok()),
        }
    }

    /// A connection of the caller's own; none where the endpoint does not take one, which it knows from now on.
    pub(super) async fn connect(&self, speak: Speak) -> Result<Option<Connected>, ProxyError> {
        match &self.link {
            Link::Streams(_) => Err(ProxyError::Internal {
                what: "streams were asked for a connection",
            }),
            Link::Connections(peer) => Ok(peer.connect(speak).await.ok()),
        }
    }
}

/// Whether HTTP/1 may be carried in HTTP/2, which only a proxy of the mesh can undo.
fn takes_h2(endpoint: &Endpoint) -> bool {
    endpoint.hint == Hint::H2 && endpoint.identity.is_some()
}
