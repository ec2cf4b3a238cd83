//! What the workload sends: from the redirected connection to the endpoint's proxy. Reads top to bottom.
//!
//! ```text
//! accept ► original destination ► discover ► detect ─┬─ HTTP ► route ► balance ► connect ► exchange ► observe
//!          (here)                 (targets)  (detect) │        (route) └──── (attempts) ────┘
//!                                                     └─ bytes ► route ► balance ► connect ► relay    ► observe
//!                                                               (opaque)
//! ```
//!
//! A destination's policy is held in a [`resolution`], with its [`services`] and what is prepared for each rule ([`plan`]).
//!
//! One [`Outbound`] a worker; the accept loop calls [`Outbound::serve`] for each connection. What the mesh does not know is
//! forwarded as it is: one connection out for each connection in, to the very address that the workload asked for.

mod affinity;
mod asked;
mod attempts;
mod detect;
mod egress;
mod hedge;
mod http;
mod mirror;
mod observe;
mod opaque;
mod plan;
mod referee;
mod resolution;
mod route;
mod services;
mod targets;

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use tokio::net::TcpStream;

use self::{
    detect::Detected,
    http::HttpConnection,
    observe::Observer,
    targets::{Target, Targets},
};
use crate::{
    accept,
    addr::{ClientAddr, OrigDst},
    connect::{Connector, liveness},
    discovery::Discovery,
    error::{Direction, ProxyError},
    http1_server, http2,
    identity::Identity,
    io::Io,
    life::Life,
    metrics::{HandshakeMetrics, Peer as Side, Shard},
    pool::{Pool, ServiceView},
    record::{About, Peer, Recorder, Speaks},
    settings::Settings,
    sight::Sampler,
    sys,
    tap::{LegFacts, Taps},
    trace::Tracer,
};

/// The outbound path of one worker.
pub struct Outbound {
    settings: Arc<Settings>,
    life: Life,
    observer: Observer,
    targets: Rc<Targets>,
    pool: Rc<Pool>,
    sampler: Rc<Sampler>,
    recorder: Recorder,
    taps: Rc<Taps>,
    tracer: OnceCell<Rc<Tracer>>,
    http2: http2::Config,
    /// Counts the frames of the workload's connections.
    frames: Rc<http2::FrameMetrics>,
}

impl Outbound {
    /// A path without connections.
    pub fn new(
        settings: Arc<Settings>,
        discovery: Arc<dyn Discovery>,
        identity: Identity,
        life: Life,
        shard: Shard,
    ) -> Rc<Self> {
        let connector = Connector {
            identity,
            mark: settings.mark,
            tcp: settings.outbound.connect,
            timeout: settings.outbound.connect_timeout,
            handshakes: HandshakeMetrics::new(&shard, Direction::Outbound),
        };
        let recorder = Recorder::new(&settings, Direction::Outbound, &shard);
        let sampler = Sampler::new(&settings.sight.redactor);
        let pool = Pool::new(connector, &settings.outbound, settings.http, recorder.clone());
        let observer = Observer::new(&shard, settings.outbound.max_in_flight);
        let frames = http2::FrameMetrics::new(&shard, Direction::Outbound, Side::Src);
        let targets = Targets::new(discovery, Rc::clone(&pool), shard, &settings);
        let http2 = accepting(&settings);
        Rc::new(Self {
            settings,
            life,
            observer,
            targets,
            pool,
            sampler,
            recorder,
            taps: Taps::new(true),
            tracer: OnceCell::new(),
            http2,
            frames,
        })
    }

    /// Who watches.
    pub(crate) fn taps(&self) -> &Rc<Taps> {
        &self.taps
    }

    /// Records what passes.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What the recorder is told of a connection of the application.
    fn about(target: &Target, speaks: Speaks) -> About {
        About {
            original: Some(target.dst().0),
            name: Some(Arc::clone(&target.resolution().target.name)),
            ..About::new(Peer::App, true, speaks)
        }
    }

    /// Services as they stand, for sight.
    pub(crate) fn services(&self) -> Vec<ServiceView> {
        self.pool.views()
    }

    /// Replaces the HTTP/2 connections to peers of the mesh; how many.
    pub(crate) fn renew_connections(&self) -> usize {
        self.pool.renew()
    }

    /// Takes samples of the requests that pass.
    pub(crate) fn sampler(&self) -> &Rc<Sampler> {
        &self.sampler
    }

    /// From now on has requests recorded by this tracer.
    pub fn trace(&self, tracer: &Rc<Tracer>) {
        // A second one would be a mistake of the caller, and the first is as good.
        let _ = self.tracer.set(Rc::clone(tracer));
    }

    /// Who records requests; nobody, and a look costs next to nothing.
    pub(crate) fn tracer(&self) -> Option<&Rc<Tracer>> {
        self.tracer.get()
    }

    /// Serves a connection that redirection brought here, to its end.
    pub async fn serve(self: Rc<Self>, tcp: TcpStream, client: ClientAddr) {
        match self.original_destination(&tcp) {
            Ok(dst) => self.serve_to(tcp, dst).await,
            Err(error) => {
                tracing::debug!(%client, "no way to go");
                self.refuse(&tcp, &error);
            }
        }
    }

    /// Serves a connection whose client wanted to go to `dst`.
    pub async fn serve_to(self: Rc<Self>, client: TcpStream, dst: OrigDst) {
        let liveness = liveness(self.settings.outbound.accept);
        if let Err(error) = sys::set_up(&client, liveness) {
            tracing::debug!(%dst, %error, "the client is gone already");
            return;
        }
        let target = self.targets.find(dst);
        let accepted = target.accepted();
        target.resolved().await;
        let detected = tokio::select! {
            biased; // who has spoken is served, also in a drain
            detected = detect::protocol(&self, client, &target) => detected,
            () = self.life.quiet_in_drain(|| 0) => return tracing::debug!(%dst, "a silent connection ends with the proxy"),
        };
        if let Ok(detected) = &detected {
            self.observer.speaks(detected.protocol());
        }
        match detected {
            Ok(Detected::Http1(client)) => Box::pin(self.http1(client, target)).await,
            Ok(Detected::Http2(client)) => Box::pin(self.http2(client, target)).await,
            Ok(Detected::Opaque(client, server, kind)) => {
                Box::pin(opaque::serve(&self, client, server, &target, (accepted, &kind))).await
            }
            Err(error) => {
                tracing::debug!(%dst, %error, "the connection ended before anybody said anything");
                self.observer.refused(&error);
                self.given_up(&target, &error);
            }
        }
    }

    /// For the recorder, and for who watches: a connection that ended before anybody said anything.
    fn given_up(&self, target: &Target, error: &ProxyError) {
        let about = Self::about(target, Speaks::Tcp);
        let client = LegFacts {
            id: self.recorder.given_up(about, error),
            original: Some(target.dst().0),
            ..LegFacts::default()
        };
        let destination = || target.resolution().target.name.to_string();
        self.taps.given_up(client, destination, error);
    }

    /// Where the client wanted to go. A connection to the proxy itself would be redirected back here for ever.
    fn original_destination(&self, tcp: &TcpStream) -> Result<OrigDst, ProxyError> {
        let own = |error: std::io::Error| ProxyError::NoOriginalDst { why: error.to_string() };
        let local = sys::canonical(tcp.local_addr().map_err(own)?);
        let Some(dst) = accept::original_dst(tcp)? else {
            return Err(ProxyError::Loop { addr: local });
        };
        let mut listens = self.settings.outbound.listen.iter();
        if listens.any(|&listen| accept::loops(dst, listen, |ip| ip == local.ip())) {
            return Err(ProxyError::Loop { addr: dst.0 });
        }
        Ok(dst)
    }

    /// Ends a connection that the proxy will not serve: a reset, because nothing else can be said before a protocol is known.
    fn refuse(&self, client: &TcpStream, error: &ProxyError) {
        tracing::warn!(%error, "connection refused");
        self.observer.refused(error);
        // Without it the client sees an orderly end, as if there had been nothing to say.
        let _ = sys::reset_on_close(client);
    }

    async fn http2(self: Rc<Self>, client: Io, target: Rc<Target>) {
        let dst = target.dst();
        let client = self.recorder.http(Self::about(&target, Speaks::Http2), client);
        let connection = HttpConnection::new(&self, target);
        if let Err(error) = http2::serve(client, &self.http2, connection, &self.life).await {
            tracing::debug!(%dst, %error, "HTTP/2 connection of the application ended");
        }
    }

    async fn http1(self: Rc<Self>, client: Io, target: Rc<Target>) {
        let dst = target.dst();
        let (client, _) = self.recorder.http(Self::about(&target, Speaks::Http1), client);
        let connection = HttpConnection::new(&self, target);
        let config = http1_server::Config {
            direction: Direction::Outbound,
            header_limit: self.settings.http.header_list_limit,
            terse: !self.settings.outbound.informational_headers,
        };
        if let Err(error) = http1_server::serve(client, config, connection, &self.life).await {
            tracing::debug!(%dst, %error, "HTTP/1 connection of the application ended");
        }
    }
}

/// HTTP/2 towards the application.
fn accepting(settings: &Settings) -> http2::Config {
    let header_limit = settings.http.header_list_limit;
    let settings = &settings.outbound.http2;
    http2::Config {
        header_limit,
        stream_window: settings.stream_window,
        connection_window: settings.connection_window,
        max_concurrent_streams: settings.max_concurrent_streams,
        max_frame_size: settings.max_frame_size,
        max_send_buffer: Some(settings.max_send_buffer),
        max_pending_accept_resets: Some(settings.max_pending_accept_reset_streams),
        await_settings: false,
        keep_alive: settings.keep_alive_interval.map(|interval| http2::KeepAlive {
            interval,
            timeout: settings.keep_alive_timeout,
        }),
    }
}
