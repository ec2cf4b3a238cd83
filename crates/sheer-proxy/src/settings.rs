//! Settings of the proxy: environment variables in, one checked [`Settings`] out, or every mistake at once.
//!
//! `main` reads them once; everything else is handed the part that it needs. Nothing else may read the environment.

mod document;
mod format;
mod read;
mod source;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::redact::Redactor;

pub use document::markdown;
pub use source::{Mistake, Note};
pub use trace::{AccessLog, AccessLogFormat, Collector, ExportProtocol, Resource, Trace};

const EVERY_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
const EVERY_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

/// Checks an environment. Also says what is worth a line in the log; or else names every mistake.
pub fn read(environment: impl IntoIterator<Item = (String, String)>) -> Result<(Settings, Vec<Note>), Vec<Mistake>> {
    let mut source = source::Source::new(environment);
    let settings = read::settings(&mut source);
    let source::Source {
        mut mistakes,
        mut notes,
        ..
    } = source;
    // Some settings are read twice, as parts of two checks.
    mistakes.dedup();
    notes.dedup();
    match settings {
        Some(settings) if mistakes.is_empty() => Ok((settings, notes)),
        _ => Err(mistakes),
    }
}

/// Everything that an operator can set, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The inbound half.
    pub inbound: Inbound,
    /// The outbound half.
    pub outbound: Outbound,
    /// HTTP, for both halves.
    pub http: Http,
    /// The admin server.
    pub admin: Admin,
    /// What the proxy shows to the control plane.
    pub sight: Sight,
    /// What is kept of what passed.
    pub recorder: Recorder,
    /// Logs.
    pub logs: Logs,
    /// Traces.
    pub trace: Trace,
    /// The access log; off where there is none.
    pub access_log: Option<AccessLog>,
    /// Who this proxy is.
    pub identity: Identity,
    /// Where services are looked up.
    pub destination: ControlAddr,
    /// Where policies are looked up.
    pub policy: ControlAddr,
    /// Names this workload to the control plane; opaque to the proxy.
    pub workload: String,
    /// Where the mesh's workloads and services are.
    pub cluster_networks: Vec<IpNet>,
    /// Context token of `Destination.Get`; opaque to the proxy.
    pub destination_context: String,
    /// Streams to the control plane.
    pub control_streams: ControlStreams,
    /// Data-path threads.
    pub workers: usize,
    /// `SO_MARK` of the proxy's own sockets, where redirection exempts them by mark.
    pub mark: Option<u32>,
    /// Longest drain.
    pub shutdown_grace: Duration,
    /// How long a metric series that nobody uses is kept.
    pub metrics_retain_idle: Duration,
    /// Whether the control plane is told of traffic.
    pub telemetry: bool,
}

/// The inbound half.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where redirection sends what arrives at the workload.
    pub listen: SocketAddr,
    /// TCP options of accepted connections.
    pub accept: TcpOptions,
    /// TCP options of connections to the application.
    pub connect: TcpOptions,
    /// How long a connection to the application may take.
    pub connect_timeout: Duration,
    /// How long TLS detection may take, and the upper bound of protocol detection.
    pub detect_timeout: Duration,
    /// Ports of the workload whose policy has to be known before it is ready.
    pub ports: BTreeSet<u16>,
    /// Ports that are never inspected, until the control plane says otherwise.
    pub opaque_ports: BTreeSet<u16>,
    /// Policy of a port that the control plane has not spoken of.
    pub default_policy: DefaultPolicy,
    /// The workload's own addresses: what is neither here nor loopback is not ours. Empty: any.
    pub ips: BTreeSet<IpAddr>,
    /// Requests without a response yet, over all ports; beyond, new ones are refused.
    pub max_in_flight: usize,
    /// Idle HTTP/1 connections kept to each port of the application.
    pub max_idle_connections: usize,
    /// How long such a connection is kept.
    pub http1_idle_timeout: Duration,
    /// How long an unused policy stays subscribed.
    pub discovery_idle: Duration,
    /// HTTP/2 towards clients.
    pub http2: Http2Server,
}

/// The outbound half.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Where redirection sends what the workload sends: one address, or one of each family.
    pub listen: Vec<SocketAddr>,
    /// TCP options of accepted connections.
    pub accept: TcpOptions,
    /// TCP options of connections to endpoints.
    pub connect: TcpOptions,
    /// How long a connection to an endpoint may take.
    pub connect_timeout: Duration,
    /// Upper bound of protocol detection.
    pub detect_timeout: Duration,
    /// How long a request waits for a ready endpoint, where the policy does not say.
    pub http_failfast: Duration,
    /// Requests that may wait, where the policy does not say.
    pub http_queue: usize,
    /// How long a connection waits for a ready endpoint.
    pub tcp_failfast: Duration,
    /// Connections that may wait.
    pub tcp_queue: usize,
    /// Requests without a response yet; beyond, new ones are refused.
    pub max_in_flight: usize,
    /// Idle HTTP/1 connections kept to each endpoint.
    pub max_idle_connections: usize,
    /// How long such a connection is kept.
    pub http1_idle_timeout: Duration,
    /// How long an unused destination stays subscribed.
    pub discovery_idle: Duration,
    /// How long the first answer about a destination is waited for.
    pub first_answer: Duration,
    /// HTTP/2 towards the application.
    pub http2: Http2Server,
    /// Waits between attempts to reach an endpoint.
    pub backoff: Backoff,
    /// Whether what the proxy answers itself carries `l5d-proxy-error` and the like to the application.
    pub informational_headers: bool,
}

/// HTTP, for both halves.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// Largest list of header fields or trailers on any leg, in bytes as RFC 9113 6.5.2 counts them.
    pub header_list_limit: usize,
    /// How long a silent client keeps the server side closed before whoever speaks first decides.
    pub detect_wait: Duration,
    /// HTTP/2 window of a stream, in both directions of proxy connections that have no setting of their own.
    pub stream_window: u32,
    /// HTTP/2 window of a connection.
    pub connection_window: u32,
}

/// HTTP/2 of a server side.
#[derive(Clone, Copy, Debug)]
pub struct Http2Server {
    /// Time between two PINGs; none is sent where absent.
    pub keep_alive_interval: Option<Duration>,
    /// How long an answer to a PING may take.
    pub keep_alive_timeout: Duration,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub max_concurrent_streams: Option<u32>,
    /// `SETTINGS_MAX_FRAME_SIZE`.
    pub max_frame_size: Option<u32>,
    /// Bytes buffered to write for each stream.
    pub max_send_buffer: usize,
    /// Reset streams remembered before the peer is deemed hostile.
    pub max_pending_accept_reset_streams: usize,
    /// `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub stream_window: u32,
    /// Window of the connection.
    pub connection_window: u32,
}

/// TCP options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// `SO_KEEPALIVE` and `TCP_KEEPIDLE`.
    pub keepalive: Option<Duration>,
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Option<Duration>,
}

/// Exponential waits with jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// First wait.
    pub min: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Share of a wait that is added at random, 0 to 1.
    pub jitter: f64,
}

/// The admin server.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether `POST /shutdown` works.
    pub shutdown_endpoint: bool,
}

/// What the proxy shows to the control plane.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Identities that may ask.
    pub clients: Vec<Arc<str>>,
    /// Fields whose values are replaced by a keyed hash, beside those that always are: names, or endings as `*-key`.
    pub redact: Vec<String>,
    /// The same of fields of bodies and parameters of queries.
    pub redact_fields: Vec<String>,
    /// What hides both, with a key of this process: for what leaves it without anybody who asks.
    pub(crate) redactor: Redactor,
}

/// What is kept of what passed.
#[derive(Clone, Copy, Debug)]
pub struct Recorder {
    /// Bytes of memory, over all workers; 0: nothing is recorded.
    pub memory: usize,
    /// Whether an answer that says failure (5xx, a gRPC status) counts as one, so that its recording is kept.
    pub keep_answers: bool,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Logs {
    /// Filter, as `warn,sheer_proxy=info`.
    pub filter: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Who this proxy is, and how it proves it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, as `ledger.bank.serviceaccount.identity.sheer.cluster.local` or a `spiffe://` URI.
    pub name: Arc<str>,
    /// The name that its certificate answers for in TLS (SNI).
    pub server_name: rustls_pki_types::ServerName<'static>,
    /// Folder of `key.p8` and `csr.der`.
    pub dir: PathBuf,
    /// File of the workload's token, read again for each request.
    pub token_file: PathBuf,
    /// PEM of the trust anchors.
    pub trust_anchors: String,
    /// Where certificates are issued.
    pub service: ControlAddr,
    /// Shortest time between two certificates.
    pub min_refresh: Duration,
    /// Longest time between two certificates.
    pub max_refresh: Duration,
}

/// Address of a service of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddr {
    /// A name (resolved again for each connection) or an address.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// Whom to expect in TLS; plaintext where absent (loopback only).
    pub name: Option<rustls_pki_types::ServerName<'static>>,
}

impl std::fmt::Display for ControlAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
        }
    }
}

/// A name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A DNS name, without the dot at its end.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl Host {
    /// Whether this is this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

/// Limits of the streams to the control plane.
#[derive(Clone, Copy, Debug)]
pub struct ControlStreams {
    /// How long the first message may take.
    pub initial_timeout: Option<Duration>,
    /// How long a stream may be silent before it is opened anew.
    pub idle_timeout: Option<Duration>,
    /// How long a stream lives before it is opened anew.
    pub lifetime: Option<Duration>,
}

/// Policy of a port that the control plane has not spoken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Nobody may come in.
    Deny,
    /// Who may come in: any network or those of the cluster, with or without mutual TLS.
    Allow {
        /// Name of the policy, as `all-unauthenticated`.
        name: &'static str,
        /// Client networks.
        networks: Vec<IpNet>,
        /// Whether mutual TLS is required.
        authenticated: bool,
    },
}
