//! What arrives at the workload, from the accepted connection to the application. Read [`Inbound::connection`] top to bottom.
//!
//! ```text
//! accept → original destination → policy of the port → TLS or not → transport header → protocol → route → authorise → limit →
//! filters → application
//! ```
//!
//! The application sees the connection on the very address it listens on; the source address is this proxy's (see
//! `docs/headers.md` for how it learns who its client is). One [`Inbound`] a worker; nothing in it is shared between workers.

mod admission;
mod app;
mod http;
mod observe;
mod opaque;
mod policy;
mod port;
mod speech;

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};

use self::{
    http::Requests,
    policy::{Client, ClientTls},
    port::{Port, Ports},
    speech::{Conversation, Speech},
};
use crate::{
    accept,
    addr::ClientAddr,
    detect::Rewind,
    discovery::{Discovery, ProtocolPlan},
    error::{Direction, ProxyError},
    http1_server, http2,
    identity::{Identity, MeshAlpn},
    io::{Io, Stream},
    life::Life,
    metrics::{DetectMetrics, HandshakeMetrics, Histogram, LabelSet, Peer as Side, Shard, family, header_lists},
    record::{About, Peer, Recorder, Speaks, Tape},
    settings::Settings,
    sight::Sampler,
    sys,
    tap::{LegFacts, Taps},
    tls,
    trace::Tracer,
    transport_header::{SessionProtocol, TransportHeader},
};

/// What the inbound half of one worker works with.
pub struct Inbound {
    settings: Arc<Settings>,
    discovery: Arc<dyn Discovery>,
    identity: Identity,
    life: Life,
    shard: Shard,
    detected: DetectMetrics,
    handshakes: HandshakeMetrics,
    header_lists: Histogram,
    /// Counts the frames of clients' connections, and of those to the application.
    frames: [Rc<http2::FrameMetrics>; 2],
    ports: Rc<RefCell<Ports>>,
    /// Requests that have no response yet.
    in_flight: std::cell::Cell<usize>,
    sampler: Rc<Sampler>,
    recorder: Recorder,
    taps: Rc<Taps>,
    /// Tells connections of the mesh to take no more requests, so that peers open new ones.
    renew: tokio::sync::Notify,
    /// Connections of the mesh that wait for that.
    renewable: std::cell::Cell<usize>,
    tracer: OnceCell<Rc<Tracer>>,
}

/// What a connection speaks to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    Opaque,
}

impl Inbound {
    /// The inbound half of one worker.
    pub fn new(
        settings: Arc<Settings>,
        discovery: Arc<dyn Discovery>,
        identity: Identity,
        life: Life,
        shard: Shard,
    ) -> Rc<Self> {
        let detected = DetectMetrics::new(&shard, Direction::Inbound, &LabelSet::builder().build());
        let recorder = Recorder::new(&settings, Direction::Inbound, &shard);
        let sampler = Sampler::new(&settings.sight.redactor);
        Rc::new(Self {
            handshakes: HandshakeMetrics::new(&shard, Direction::Inbound),
            header_lists: header_lists(&shard, Direction::Inbound),
            frames: [Side::Src, Side::Dst].map(|peer| http2::FrameMetrics::new(&shard, Direction::Inbound, peer)),
            settings,
            discovery,
            identity,
            life,
            shard,
            detected,
            ports: Rc::default(),
            in_flight: std::cell::Cell::new(0),
            sampler,
            recorder,
            taps: Taps::new(false),
            renew: tokio::sync::Notify::new(),
            renewable: std::cell::Cell::new(0),
            tracer: OnceCell::new(),
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

    /// Has peers of the mesh replace their HTTP/2 connections to this proxy (GOAWAY); how many there are.
    pub(crate) fn renew_connections(&self) -> usize {
        self.renew.notify_waiters();
        self.renewable.get()
    }

    /// From now on has requests recorded by this tracer.
    pub fn trace(&self, tracer: &Rc<Tracer>) {
        // A second one would be a mistake of the caller, and the first is as good.
        let _ = self.tracer.set(Rc::clone(tracer));
    }

    /// Takes samples of the requests that pass.
    pub(crate) fn sampler(&self) -> &Rc<Sampler> {
        &self.sampler
    }

    /// Serves one accepted connection to its end.
    pub async fn serve(self: Rc<Self>, tcp: TcpStream, client: ClientAddr) {
        match self.destination(&tcp) {
            Ok(dst) => self.serve_to(tcp, client, dst).await,
            Err(error) => self.failed(client, &error),
        }
    }

    /// As [`Self::serve`], for a connection that was going to `dst`; `None` for the proxy's own port.
    pub async fn serve_to(self: Rc<Self>, tcp: TcpStream, client: ClientAddr, dst: Option<SocketAddr>) {
        let ended = Rc::clone(&self).connection(tcp, client, dst).await;
        if let Err(error) = ended {
            self.failed(client, &error);
            self.given_up((client, dst), &error);
        }
    }

    /// For the recorder, and for who watches: a connection that ended before it was known what it is for.
    fn given_up(&self, (client, dst): (ClientAddr, Option<SocketAddr>), error: &ProxyError) {
        if matches!(error, ProxyError::ShuttingDown) {
            return;
        }
        let original = Some(dst.unwrap_or(self.settings.inbound.listen));
        let about = About {
            remote: Some(client.0),
            original,
            ..About::new(Peer::Outside, true, Speaks::Tcp)
        };
        let client = LegFacts {
            id: self.recorder.given_up(about, error),
            remote: Some(client.0),
            original,
            ..LegFacts::default()
        };
        let destination = || original.map_or_else(String::new, |address| address.to_string());
        self.taps.given_up(client, destination, error);
    }

    fn failed(&self, client: ClientAddr, error: &ProxyError) {
        let (verdict, reason) = (error.verdict(), error.reason());
        tracing::info!(%client, %verdict, reason, "inbound connection ended: {}", error.in_full());
        self.shard.tcp_error(Direction::Inbound, verdict, reason);
    }

    async fn connection(
        self: Rc<Self>,
        tcp: TcpStream,
        client: ClientAddr,
        dst: Option<SocketAddr>,
    ) -> Result<(), ProxyError> {
        let options = self.settings.inbound.accept;
        let liveness = sys::Liveness {
            keepalive: options.keepalive,
            user_timeout: options.user_timeout,
        };
        // Fails only for a socket that is gone, which the first read says better.
        drop(sys::set_up(&tcp, liveness));

        let redirected = match dst {
            Some(dst) => Some(self.port(dst).await?),
            None => None,
        };
        let client = Client {
            addr: client.0,
            tls: ClientTls::None,
        };
        let mut talk = Conversation {
            stream: Stream::Tcp(tcp),
            buf: BytesMut::new(),
            client,
            app: None,
            handshake: Duration::ZERO,
            server_name: None,
        };

        let first = self.unless_drained(self.first_bytes(&mut talk, redirected.as_ref()));
        let alpn = match first.await? {
            Speech::OwnTls => {
                let alpn;
                (talk, alpn) = self.end_tls(talk).await?;
                alpn
            }
            Speech::OtherTls => {
                talk.client.tls = ClientTls::Opaque;
                None
            }
            Speech::Client => None,
            Speech::Server => {
                let port = redirected.ok_or_else(|| self.loops())?;
                self.opaque(talk, port).await;
                return Ok(());
            }
        };

        let (port, said) = match (alpn, redirected) {
            (Some(MeshAlpn::TransportHeader), _) => self.unless_drained(self.transport_header(&mut talk)).await?,
            (Some(MeshAlpn::H2), Some(port)) => (port, Some(Protocol::Http2)),
            (Some(MeshAlpn::Http1), Some(port)) => (port, Some(Protocol::Http1)),
            (Some(MeshAlpn::None) | None, Some(port)) => (port, None),
            // Straight to the proxy's own port, and no word of what for.
            (_, None) => return Err(self.loops()),
        };
        let protocol = match said {
            Some(protocol) => protocol,
            None => self.unless_drained(self.protocol(&mut talk, &port)).await?,
        };
        match protocol {
            Protocol::Http1 => self.http1(talk, port).await,
            Protocol::Http2 => self.http2(talk, port).await,
            Protocol::Opaque => {
                self.opaque(talk, port).await;
                Ok(())
            }
        }
    }

    /// Waits for what a client says, but in a drain not for one that stays silent.
    async fn unless_drained<T>(&self, said: impl Future<Output = Result<T, ProxyError>>) -> Result<T, ProxyError> {
        tokio::select! {
            biased; // who has spoken is served, also in a drain
            said = said => said,
            () = self.life.quiet_in_drain(|| 0) => Err(ProxyError::ShuttingDown),
        }
    }

    /// Where the connection was going; `None` where it was going to the proxy's own port.
    fn destination(&self, tcp: &TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
        let Some(dst) = accept::original_dst(tcp)? else {
            return Ok(None);
        };
        let ips = &self.settings.inbound.ips;
        if accept::loops(dst, self.settings.inbound.listen, |ip| {
            ips.is_empty() || ips.contains(&ip)
        }) {
            return Ok(None);
        }
        Ok(Some(dst.0))
    }

    fn loops(&self) -> ProxyError {
        ProxyError::Loop {
            addr: self.settings.inbound.listen,
        }
    }

    /// Ends the mutual TLS of a peer.
    async fn end_tls(&self, talk: Conversation) -> Result<(Conversation, Option<MeshAlpn>), ProxyError> {
        let credentials = self.identity.current().ok_or(ProxyError::IdentityNotReady)?;
        let Stream::Tcp(tcp) = talk.stream else {
            return Err(ProxyError::Internal { what: "TLS within TLS" });
        };
        let began = Instant::now();
        let accepted = tls::accept(Rewind::new(tcp, talk.buf), talk.client.addr, &credentials).await;
        self.handshakes.ended(accepted.as_ref().err());
        let accepted = accepted?;
        let client = Client {
            tls: ClientTls::Mutual(accepted.peer),
            ..talk.client
        };
        Ok((
            Conversation {
                stream: Stream::TlsAccepted(accepted.stream),
                buf: BytesMut::new(),
                client,
                app: talk.app,
                handshake: began.elapsed(),
                server_name: None,
            },
            accepted.alpn,
        ))
    }

    /// Reads which port the peer means, and what it will speak.
    async fn transport_header(&self, talk: &mut Conversation) -> Result<(Rc<Port>, Option<Protocol>), ProxyError> {
        let client = talk.client.addr;
        let failed = |why: String| ProxyError::TransportHeader { client, why };
        let wait = self.settings.inbound.detect_timeout;
        let header = timeout(wait, TransportHeader::read(&mut talk.stream, &mut talk.buf))
            .await
            .map_err(|_| failed(format!("not within {wait:?}")))?
            .map_err(|error| failed(error.to_string()))?;
        self.shard
            .counter(
                &family::INBOUND_TCP_TRANSPORT_HEADER_CONNECTIONS_TOTAL,
                &LabelSet::default(),
            )
            .inc();
        if let Some(name) = header.name {
            return Err(failed(format!("this workload is no gateway to {name}")));
        }
        if header.port == self.settings.inbound.listen.port() {
            return Err(self.loops());
        }
        let local = talk
            .stream
            .tcp()
            .local_addr()
            .map_err(|error| failed(error.to_string()))?;
        let port = self
            .port(sys::canonical(SocketAddr::new(local.ip(), header.port)))
            .await?;
        let protocol = match header.protocol {
            Some(SessionProtocol::Http1) => Protocol::Http1,
            Some(SessionProtocol::Http2) => Protocol::Http2,
            None => Protocol::Opaque,
        };
        Ok((port, Some(protocol)))
    }

    /// What the connection speaks: the policy says it, or the bytes do.
    async fn protocol(&self, talk: &mut Conversation, port: &Rc<Port>) -> Result<Protocol, ProxyError> {
        if matches!(talk.client.tls, ClientTls::Opaque) {
            return Ok(Protocol::Opaque);
        }
        match port.policy().protocol {
            ProtocolPlan::Http1 => Ok(Protocol::Http1),
            ProtocolPlan::Http2 => Ok(Protocol::Http2),
            ProtocolPlan::Opaque | ProtocolPlan::Tls => Ok(Protocol::Opaque),
            ProtocolPlan::Detect { timeout } => self.detect_http(talk, port, timeout).await,
        }
    }

    async fn http1(self: Rc<Self>, talk: Conversation, port: Rc<Port>) -> Result<(), ProxyError> {
        let config = http1_server::Config {
            direction: Direction::Inbound,
            header_limit: self.settings.http.header_list_limit,
            terse: false,
        };
        let (requests, (io, _)) = self.requests(talk, port, Speaks::Http1);
        let cut_off = Rc::clone(&requests);
        let ended = tokio::select! {
            biased; // what is done counts as done
            ended = http1_server::serve(io, config, requests, &self.life) => ended,
            () = cut_off.cut_off() => return Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an inbound HTTP/1 connection ended");
        }
        Ok(())
    }

    async fn http2(self: Rc<Self>, talk: Conversation, port: Rc<Port>) -> Result<(), ProxyError> {
        let server = self.settings.inbound.http2;
        let keep_alive = server
            .keep_alive_interval
            .filter(|_| talk.client.is_meshed())
            .map(|interval| http2::KeepAlive {
                interval,
                timeout: server.keep_alive_timeout,
            });
        let config = http2::Config {
            header_limit: self.settings.http.header_list_limit,
            stream_window: server.stream_window,
            connection_window: server.connection_window,
            max_concurrent_streams: server.max_concurrent_streams,
            max_frame_size: server.max_frame_size,
            max_send_buffer: Some(server.max_send_buffer),
            max_pending_accept_resets: Some(server.max_pending_accept_reset_streams),
            await_settings: false,
            keep_alive,
        };
        let (requests, taped) = self.requests(talk, port, Speaks::Http2);
        let cut_off = Rc::clone(&requests);
        let ended = tokio::select! {
            biased; // what is done counts as done
            ended = http2::serve(taped, &config, requests, &self.life) => ended,
            () = cut_off.cut_off() => return Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an inbound HTTP/2 connection ended");
        }
        Ok(())
    }

    /// What serves the requests of a connection, and the connection with its bytes counted and recorded.
    fn requests(self: &Rc<Self>, talk: Conversation, port: Rc<Port>, speaks: Speaks) -> (Rc<Requests>, (Io, Tape)) {
        let about = Self::about((&talk.stream, &talk.client, talk.handshake), &port, speaks);
        let metrics = port.observers(&talk.client).open(&talk.client);
        // What detection has read went past the counter.
        metrics.read(talk.buf.len() as u64);
        let io = Rewind::new(talk.stream.metered(metrics), talk.buf);
        let taped = self.recorder.http(about, io);
        (Rc::new(Requests::new(Rc::clone(self), port, talk.client)), taped)
    }

    /// What the recorder is told of a client's connection.
    fn about((stream, client, handshake): (&Stream, &Client, Duration), port: &Port, speaks: Speaks) -> About {
        let peer = if client.is_meshed() { Peer::Mesh } else { Peer::Outside };
        About {
            original: Some(port.app.addr()),
            identity: client.identity().cloned(),
            tls: stream.tls_facts(),
            took: (Duration::ZERO, handshake),
            remote: Some(client.addr),
            ..About::new(peer, true, speaks)
        }
    }

    /// Whether a server name is this workload's own.
    fn is_own_name(&self, sni: Option<&str>) -> bool {
        match &self.settings.identity.server_name {
            ServerName::DnsName(own) => sni.is_some_and(|sni| sni.eq_ignore_ascii_case(own.as_ref())),
            _ => false,
        }
    }
}
