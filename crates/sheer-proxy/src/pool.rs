//! Connections to endpoints, and the services that spread requests over them. One a worker.
//!
//! * An endpoint that speaks HTTP/2 has one connection a worker, whatever services it belongs to, kept open ([`h2`]); others get
//!   connections as they are needed ([`on_demand`]).
//! * A [`Service`] knows the endpoints of one target, asks [`crate::balance`] which one is next, queues while none is ready, and says
//!   why when the wait is over.
//!
//! Called by the outbound path. Knows nothing of requests: it hands out what one can be sent on.

mod backoff;
mod h2;
mod on_demand;
mod service;
mod watch;

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use http::uri::Authority;

use self::service::Services;
pub(crate) use self::service::{EndpointView, ServiceView};
use self::{
    h2::H2Peer,
    on_demand::{Keep, OnDemand},
};
pub use self::{
    h2::StreamSlot,
    service::{Carrier, EndpointSeries, Lease, Member, Pick, Queue, Service, ServiceOptions, TcpLease},
};
use crate::{
    connect::{Connected, Connector, Link, Speak},
    discovery::{Endpoint, Hint, PeerIdentity},
    error::ProxyError,
    http2,
    io::Io,
    metrics::TcpMetrics,
    record::{About, Peer, Recorder, Speaks, Tape},
    settings::{Backoff, Http, Outbound},
};

/// PING towards peers of the mesh, and only those: applications may count PINGs as abuse (gRPC's `too_many_pings`).
const KEEP_ALIVE: http2::KeepAlive = http2::KeepAlive {
    interval: Duration::from_secs(10),
    timeout: Duration::from_secs(5),
};

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    shared: Rc<Shared>,
    peers: RefCell<AHashMap<PeerKey, Weak<H2Peer>>>,
    services: Services,
}

/// What every connection of a worker is made with.
#[derive(Debug)]
struct Shared {
    connector: Connector,
    backoff: Backoff,
    http: Http,
    /// Idle connections of HTTP/1 to one endpoint.
    max_idle: usize,
    /// How long one is kept.
    http1_idle_timeout: Duration,
    recorder: Recorder,
}

impl Shared {
    /// Opens a connection that HTTP will be spoken on, counted and recorded.
    async fn open(
        &self,
        endpoint: &Endpoint,
        speaks: Speaks,
        metrics: &TcpMetrics,
    ) -> Result<(Io, Tape, Arc<Link>), ProxyError> {
        let speak = match speaks {
            Speaks::Http2 => Speak::Http2,
            Speaks::Http1 | Speaks::Tcp | Speaks::Tls => Speak::Http1,
        };
        let Connected { stream, link } = self.connector.connect(endpoint, speak).await?;
        let about = About {
            tls: stream.tls_facts(),
            took: link.took(),
            ..about(endpoint, speaks)
        };
        let (io, tape) = self.recorder.http(about, stream.metered(metrics.open()).io());
        Ok((io, tape, link))
    }

    fn http2_config(&self, meshed: bool) -> http2::Config {
        http2::Config {
            header_limit: self.http.header_list_limit,
            stream_window: self.http.stream_window,
            connection_window: self.http.connection_window,
            await_settings: true,
            keep_alive: meshed.then_some(KEEP_ALIVE),
            ..http2::Config::default()
        }
    }
}

/// What the recorder is told of a connection to an endpoint.
pub(crate) fn about(endpoint: &Endpoint, speaks: Speaks) -> About {
    let peer = if endpoint.identity.is_some() {
        Peer::Mesh
    } else {
        Peer::Outside
    };
    About {
        identity: endpoint.identity.as_ref().map(|identity| Arc::clone(&identity.id)),
        ..About::new(peer, false, speaks)
    }
}

/// What makes two endpoints the same peer, reached in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PeerKey {
    addr: SocketAddr,
    identity: Option<PeerIdentity>,
    opaque: bool,
    transport_port: Option<u16>,
    authority: Option<Authority>,
}

impl PeerKey {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            addr: endpoint.addr,
            identity: endpoint.identity.clone(),
            opaque: endpoint.hint == Hint::Opaque,
            transport_port: endpoint.transport_port,
            authority: endpoint.authority_override.clone(),
        }
    }
}

impl Pool {
    /// A pool without connections.
    pub fn new(connector: Connector, settings: &Outbound, http: Http, recorder: Recorder) -> Rc<Self> {
        let shared = Rc::new(Shared {
            connector,
            backoff: settings.backoff,
            http,
            max_idle: settings.max_idle_connections,
            http1_idle_timeout: settings.http1_idle_timeout,
            recorder,
        });
        Rc::new(Self {
            shared,
            peers: RefCell::default(),
            services: Services::default(),
        })
    }

    /// The HTTP/2 peer of an endpoint, shared by all who need it.
    fn h2_peer(&self, endpoint: &Arc<Endpoint>, metrics: TcpMetrics) -> Rc<H2Peer> {
        let mut peers = self.peers.borrow_mut();
        let key = PeerKey::of(endpoint);
        if let Some(peer) = peers.get(&key).and_then(Weak::upgrade) {
            return peer;
        }
        // A new peer is rare enough to clear away those that are gone.
        peers.retain(|_, peer| peer.strong_count() > 0);
        let peer = H2Peer::new(Arc::clone(endpoint), Rc::clone(&self.shared), metrics);
        peers.insert(key, Rc::downgrade(&peer));
        peer
    }

    /// Replaces the connections to peers of the mesh; how many.
    pub(crate) fn renew(&self) -> usize {
        let peers: Vec<_> = self.peers.borrow().values().filter_map(Weak::upgrade).collect();
        peers
            .iter()
            .filter(|peer| peer.is_meshed())
            .map(|peer| peer.renew())
            .sum()
    }

    /// An HTTP/2 peer of its own.
    fn private_h2_peer(&self, endpoint: &Arc<Endpoint>, metrics: TcpMetrics) -> Rc<H2Peer> {
        H2Peer::new(Arc::clone(endpoint), Rc::clone(&self.shared), metrics)
    }

    fn on_demand(&self, endpoint: &Arc<Endpoint>, metrics: TcpMetrics, keep: Keep) -> Rc<OnDemand> {
        OnDemand::new(Arc::clone(endpoint), Rc::clone(&self.shared), metrics, keep)
    }
}
