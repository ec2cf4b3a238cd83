//! Errors of the data path. Each knows whose fault it is, which side it comes from, whether the request may be sent elsewhere,
//! its stable reason code and its status. `docs/errors.md` is the table of this file for users.
//!
//! Every stage of the path makes them; only `exchange::synthesize` turns them into responses.

mod parts;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use sheer_api::Verdict;
use sheer_policy::limit::Scope;

pub(crate) use parts::connection_lost;
pub use parts::{ConnectCause, Direction, GrpcCode, Injected, Leg, ListSize, Part, ResetCode, TimeLimit};

/// Why the proxy itself ends a request or a connection: one variant a reason that users can look up in `docs/errors.md`.
/// Text for the caller is `Display`; it uses operators' words and says what to do next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// No endpoint became ready within the fail-fast time.
    #[error("service {service} has {endpoints} endpoints and none is ready: {why}")]
    FailFast {
        /// The service as `name.namespace:port`.
        service: String,
        /// Endpoints that discovery knows.
        endpoints: usize,
        /// Why none of them is ready, as `10.3.0.7:8080: connection refused`.
        why: String,
    },
    /// Too many requests wait for a service already.
    #[error("{waiting} requests wait for service {service} already, the limit of its queue")]
    QueueFull {
        /// The service as `name.namespace:port`.
        service: String,
        /// Requests that wait.
        waiting: usize,
    },
    /// Too many requests or connections at once.
    #[error("the proxy serves {limit} {what} already, its limit")]
    TooMany {
        /// `requests` or `connections`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A connection could not be opened.
    #[error("cannot connect to {addr}: {cause}")]
    Connect {
        /// The endpoint.
        addr: SocketAddr,
        /// What the attempt ended with.
        cause: ConnectCause,
    },
    /// The server proved another identity than the one that was promised.
    #[error("{addr} should be {expected} but its certificate is for {found}")]
    IdentityMismatch {
        /// The endpoint.
        addr: SocketAddr,
        /// The identity that discovery promised.
        expected: Arc<str>,
        /// The names in the certificate, comma-separated; `nobody` where there are none.
        found: String,
    },
    /// The TLS handshake with the server failed for another reason.
    #[error("TLS with {addr} failed: {why}")]
    TlsConnect {
        /// The endpoint.
        addr: SocketAddr,
        /// What TLS said.
        why: String,
    },
    /// The TLS handshake with the client failed.
    #[error("TLS with client {client} failed: {why}")]
    TlsAccept {
        /// The client.
        client: SocketAddr,
        /// What TLS said.
        why: String,
    },
    /// The proxy has no certificate yet.
    #[error("this workload has no certificate yet: its proxy waits for the control plane's identity service")]
    IdentityNotReady,
    /// Policy of the port does not let this client in.
    #[error("client {client} ({identity}) is not allowed on port {port}{}", if *.told { format!(" by {by}") } else { String::new() })]
    PolicyDenied {
        /// Address of the client.
        client: SocketAddr,
        /// Identity of the client, or `no identity`.
        identity: Arc<str>,
        /// Port of the workload.
        port: u16,
        /// The objects that decided, as `HTTPRoute bank/admin of Server bank/ledger-grpc`.
        by: String,
        /// Whether the client may know them.
        told: bool,
    },
    /// More requests than an operator allows.
    #[error("more than {per_second} requests a second{}{}", whose(*.scope), if *.told { format!(": {by}") } else { String::new() })]
    RateLimited {
        /// The limit.
        per_second: u32,
        /// Whose requests are counted.
        scope: Scope,
        /// Until one more is let in.
        retry_after: Duration,
        /// The policy object, as `HTTPLocalRateLimitPolicy bank/ledger`.
        by: String,
        /// Whether the client may know it.
        told: bool,
    },
    /// No policy is known for the port.
    #[error("the policy of port {port} is not known yet: the control plane has not answered")]
    PolicyUnknown {
        /// Port of the workload.
        port: u16,
    },
    /// The control plane says that there is nothing to send to.
    #[error("{service} has no backend: {why}")]
    NoBackend {
        /// The service or address.
        service: String,
        /// Why, from the control plane.
        why: Arc<str>,
    },
    /// The connection would come back to this proxy for ever.
    #[error(
        "{addr} is this proxy itself: the connection would loop (sent straight to a proxy port, or the redirection is wrong)"
    )]
    Loop {
        /// Where the client wanted to go.
        addr: SocketAddr,
    },
    /// A header list, or the trailers, went past the limit.
    #[error("{leg} {}", size.past(*limit))]
    HeaderListTooLarge {
        /// Which list.
        leg: Leg,
        /// Its size, as far as it was read.
        size: ListSize,
        /// The limit.
        limit: usize,
    },
    /// The client's request is malformed or ambiguous.
    #[error("bad request: {why}")]
    BadRequest {
        /// What is wrong with it, in the words of the specification.
        why: String,
        /// The answer: 400, or what the specification has for this very mistake.
        status: StatusCode,
    },
    /// The server's response is malformed or ambiguous.
    #[error("malformed response from {addr}: {why}")]
    BadResponse {
        /// The endpoint.
        addr: SocketAddr,
        /// What is wrong with it, in the words of the specification.
        why: String,
    },
    /// The server reset the stream.
    #[error("{addr} reset the stream with {code}")]
    UpstreamReset {
        /// The endpoint.
        addr: SocketAddr,
        /// The code of RST_STREAM.
        code: ResetCode,
    },
    /// The server closed the connection (or said GOAWAY and did not serve the request).
    #[error("{}{addr} closed the connection before the response was complete: {why}", if *.sidecar { "the sidecar of " } else { "" })]
    UpstreamClosed {
        /// The endpoint.
        addr: SocketAddr,
        /// The connection was one of mutual TLS with its sidecar: what became of the application is not known.
        sidecar: bool,
        /// How: `end of stream`, `connection reset`, `GOAWAY NO_ERROR`.
        why: String,
        /// `true` if the server says, or the protocol guarantees, that it did not act on the request.
        unprocessed: bool,
    },
    /// The client broke the protocol or its connection ended inside a request.
    #[error("the client ended the request: {why}")]
    ClientGone {
        /// How: `CANCEL`, `end of stream`.
        why: String,
    },
    /// A timeout that an operator set.
    #[error("{limit} within {after:?}")]
    Timeout {
        /// Which.
        limit: TimeLimit,
        /// The limit.
        after: Duration,
    },
    /// The time that the caller itself gave the call (`grpc-timeout`) is over.
    #[error("the caller's deadline passed after {after:?}{}", if *.sent { "" } else { ", before the request was sent" })]
    Deadline {
        /// Whether the request had been sent.
        sent: bool,
        /// What the caller gave, as it arrived here.
        after: Duration,
    },
    /// No rule of the destination's routes takes the request.
    #[error("no route of {service} takes this request")]
    NoRoute {
        /// The service or address.
        service: String,
    },
    /// The rule that takes the request has no backend, or one that does not exist.
    #[error("{service} cannot be reached by {route}: {why}")]
    InvalidBackend {
        /// The service or address.
        service: String,
        /// The route.
        route: String,
        /// Why, from the control plane.
        why: Arc<str>,
    },
    /// An operator forbids the destination.
    #[error("{service} is forbidden by {route}")]
    Forbidden {
        /// The service or address.
        service: String,
        /// The route.
        route: String,
    },
    /// A failure that an operator injects.
    #[error("injected by {route}: {message}")]
    Injected {
        /// The route.
        route: String,
        /// The operator's words.
        message: Arc<str>,
        /// What the caller gets.
        answer: Injected,
    },
    /// The server answered, and its answer is of those that are tried again. Callers see it only where nothing came of that.
    #[error("{addr} answered {status} and no other attempt could be made")]
    TriedAgain {
        /// The endpoint.
        addr: SocketAddr,
        /// As `503`, or `gRPC 14`.
        status: String,
    },
    /// A meshed connection that does not start as it must.
    #[error("transport header from {client}: {why}")]
    TransportHeader {
        /// The peer.
        client: SocketAddr,
        /// What is wrong.
        why: String,
    },
    /// The kernel does not know where the connection wanted to go.
    #[error("no original destination: {why} (is the redirection in place?)")]
    NoOriginalDst {
        /// The system's words.
        why: String,
    },
    /// The proxy is going away and takes no more work.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// A fault of the proxy itself.
    #[error("the proxy failed: {what}")]
    Internal {
        /// Where.
        what: &'static str,
    },
}

/// Who caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who sent the request.
    Client,
    /// This proxy, or what it is told by the control plane.
    Proxy,
    /// Who answers the request.
    Server,
}

impl ProxyError {
    /// The server's connection failed before anything was said on it.
    pub(crate) fn server_lost(addr: SocketAddr, error: &std::io::Error) -> Self {
        Self::UpstreamClosed {
            addr,
            sidecar: false,
            why: connection_lost(error).to_owned(),
            unprocessed: true,
        }
    }

    /// The same, where the connection that was lost may be one with a sidecar.
    pub(crate) fn with_sidecar(mut self, is: bool) -> Self {
        if let Self::UpstreamClosed { sidecar, .. } = &mut self {
            *sidecar = is;
        }
        self
    }

    /// The client's connection failed before it was known what it wants.
    pub(crate) fn client_lost(error: &std::io::Error) -> Self {
        Self::ClientGone {
            why: connection_lost(error).to_owned(),
        }
    }

    /// The layer at fault.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::FailFast { .. } | Self::QueueFull { .. } | Self::TooMany { .. } | Self::ShuttingDown => {
                Verdict::Capacity
            }
            Self::Connect { cause, .. } => match cause {
                ConnectCause::Refused => Verdict::Application,
                ConnectCause::TimedOut(_) | ConnectCause::Reset | ConnectCause::Unreachable => Verdict::Network,
                ConnectCause::Local(_) => Verdict::Kernel,
                ConnectCause::Other(_) => Verdict::Network,
            },
            Self::IdentityMismatch { .. }
            | Self::TlsConnect { .. }
            | Self::TlsAccept { .. }
            | Self::IdentityNotReady => Verdict::Identity,
            Self::PolicyDenied { .. }
            | Self::PolicyUnknown { .. }
            | Self::NoRoute { .. }
            | Self::InvalidBackend { .. }
            | Self::Forbidden { .. }
            | Self::RateLimited { .. }
            | Self::Injected { .. } => Verdict::Policy,
            Self::NoBackend { .. } => Verdict::Discovery,
            Self::Loop { .. } | Self::NoOriginalDst { .. } => Verdict::Injection,
            Self::HeaderListTooLarge { leg, .. } => match leg.part {
                Part::RequestHeaders | Part::RequestTrailers => Verdict::ClientConfig,
                Part::ResponseHeaders | Part::ResponseTrailers => Verdict::Application,
            },
            Self::BadRequest { .. } | Self::ClientGone { .. } => Verdict::ClientConfig,
            Self::BadResponse { .. } => Verdict::ApplicationLibrary,
            Self::UpstreamReset { .. }
            | Self::UpstreamClosed { sidecar: false, .. }
            | Self::Timeout { .. }
            | Self::Deadline { sent: true, .. }
            | Self::TriedAgain { .. } => Verdict::Application,
            Self::Deadline { sent: false, .. } => Verdict::ClientConfig,
            Self::UpstreamClosed { sidecar: true, .. } | Self::TransportHeader { .. } | Self::Internal { .. } => {
                Verdict::Proxy
            }
        }
    }

    /// Stable code of the reason, as `failfast`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FailFast { .. } => "failfast",
            Self::QueueFull { .. } => "queue-full",
            Self::TooMany { .. } => "too-many",
            Self::Connect { cause, .. } => match cause {
                ConnectCause::Refused => "connect-refused",
                ConnectCause::TimedOut(_) => "connect-timeout",
                ConnectCause::Reset => "connect-reset",
                ConnectCause::Unreachable => "connect-unreachable",
                ConnectCause::Local(_) => "connect-local",
                ConnectCause::Other(_) => "connect-failed",
            },
            Self::IdentityMismatch { .. } => "identity-mismatch",
            Self::TlsConnect { .. } => "tls-connect",
            Self::TlsAccept { .. } => "tls-accept",
            Self::IdentityNotReady => "identity-not-ready",
            Self::PolicyDenied { .. } => "policy-denied",
            Self::PolicyUnknown { .. } => "policy-unknown",
            Self::NoRoute { .. } => "no-route",
            Self::RateLimited { .. } => "rate-limited",
            Self::Injected { .. } => "fault-injected",
            Self::NoBackend { .. } => "no-backend",
            Self::Loop { .. } => "loop",
            Self::HeaderListTooLarge { .. } => "header-list-too-large",
            Self::BadRequest { .. } => "bad-request",
            Self::BadResponse { .. } => "bad-response",
            Self::UpstreamReset { .. } => "upstream-reset",
            Self::UpstreamClosed { .. } => "upstream-closed",
            Self::ClientGone { .. } => "client-gone",
            Self::Timeout { limit, .. } => limit.reason(),
            Self::Deadline { .. } => "deadline",
            Self::InvalidBackend { .. } => "invalid-backend",
            Self::Forbidden { .. } => "forbidden",
            Self::TriedAgain { .. } => "tried-again",
            Self::TransportHeader { .. } => "transport-header",
            Self::NoOriginalDst { .. } => "no-original-destination",
            Self::ShuttingDown => "shutting-down",
            Self::Internal { .. } => "internal",
        }
    }

    /// Status of the response that an HTTP caller gets.
    pub fn http_status(&self) -> StatusCode {
        match self {
            Self::FailFast { .. }
            | Self::QueueFull { .. }
            | Self::TooMany { .. }
            | Self::IdentityNotReady
            | Self::PolicyUnknown { .. }
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect { .. }
            | Self::IdentityMismatch { .. }
            | Self::TlsConnect { .. }
            | Self::BadResponse { .. }
            | Self::UpstreamReset { .. }
            | Self::UpstreamClosed { .. }
            | Self::TriedAgain { .. } => StatusCode::BAD_GATEWAY,
            Self::PolicyDenied { .. } | Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NoBackend { .. } | Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Injected { answer, .. } => answer.http_status(),
            Self::Loop { .. } => StatusCode::LOOP_DETECTED,
            Self::HeaderListTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BadRequest { status, .. } => *status,
            Self::TlsAccept { .. } | Self::ClientGone { .. } | Self::TransportHeader { .. } => StatusCode::BAD_REQUEST,
            Self::Timeout { .. } | Self::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::NoOriginalDst { .. } | Self::InvalidBackend { .. } | Self::Internal { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// Status of the response that a gRPC caller gets.
    pub fn grpc_status(&self) -> GrpcCode {
        match self {
            Self::FailFast { .. }
            | Self::QueueFull { .. }
            | Self::Connect { .. }
            | Self::IdentityMismatch { .. }
            | Self::TlsConnect { .. }
            | Self::IdentityNotReady
            | Self::PolicyUnknown { .. }
            | Self::UpstreamReset { .. }
            | Self::UpstreamClosed { .. }
            | Self::InvalidBackend { .. }
            | Self::TriedAgain { .. }
            | Self::ShuttingDown => GrpcCode::Unavailable,
            Self::Injected { answer, .. } => answer.grpc_status(),
            Self::TooMany { .. } | Self::HeaderListTooLarge { .. } | Self::RateLimited { .. } => {
                GrpcCode::ResourceExhausted
            }
            Self::PolicyDenied { .. } | Self::Forbidden { .. } => GrpcCode::PermissionDenied,
            Self::NoBackend { .. } | Self::NoRoute { .. } => GrpcCode::NotFound,
            Self::Loop { .. } | Self::NoOriginalDst { .. } => GrpcCode::FailedPrecondition,
            Self::BadRequest { .. } | Self::TlsAccept { .. } | Self::TransportHeader { .. } => {
                GrpcCode::InvalidArgument
            }
            Self::ClientGone { .. } => GrpcCode::Cancelled,
            Self::BadResponse { .. } | Self::Internal { .. } => GrpcCode::Internal,
            Self::Timeout { .. } | Self::Deadline { .. } => GrpcCode::DeadlineExceeded,
        }
    }

    /// Whether the request certainly had no effect, so that it may be sent to another endpoint whatever its method.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::IdentityMismatch { .. } | Self::TlsConnect { .. } => true,
            Self::UpstreamReset { code, .. } => code.0 == h2::Reason::REFUSED_STREAM,
            Self::UpstreamClosed { unprocessed, .. } => *unprocessed,
            Self::FailFast { .. }
            | Self::QueueFull { .. }
            | Self::TooMany { .. }
            | Self::TlsAccept { .. }
            | Self::IdentityNotReady
            | Self::PolicyDenied { .. }
            | Self::PolicyUnknown { .. }
            | Self::NoRoute { .. }
            | Self::RateLimited { .. }
            | Self::Injected { .. }
            | Self::NoBackend { .. }
            | Self::Loop { .. }
            | Self::HeaderListTooLarge { .. }
            | Self::BadRequest { .. }
            | Self::BadResponse { .. }
            | Self::ClientGone { .. }
            | Self::Timeout { .. }
            | Self::Deadline { .. }
            | Self::InvalidBackend { .. }
            | Self::Forbidden { .. }
            | Self::TriedAgain { .. }
            | Self::TransportHeader { .. }
            | Self::NoOriginalDst { .. }
            | Self::ShuttingDown
            | Self::Internal { .. } => false,
        }
    }

    /// The text for the log: what a caller may not know is in it.
    pub fn in_full(&self) -> String {
        match self {
            Self::PolicyDenied { by, told: false, .. } => format!("{self} by {by}"),
            Self::RateLimited { by, told: false, .. } => format!("{self}: {by}"),
            error => error.to_string(),
        }
    }

    /// When the caller may try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::BadRequest { .. }
            | Self::ClientGone { .. }
            | Self::TlsAccept { .. }
            | Self::PolicyDenied { .. }
            | Self::Deadline { sent: false, .. }
            | Self::NoRoute { .. }
            | Self::RateLimited { .. }
            | Self::TransportHeader { .. } => Side::Client,
            Self::Connect { .. }
            | Self::IdentityMismatch { .. }
            | Self::TlsConnect { .. }
            | Self::BadResponse { .. }
            | Self::UpstreamReset { .. }
            | Self::UpstreamClosed { .. }
            | Self::Timeout { .. }
            | Self::Deadline { sent: true, .. }
            | Self::TriedAgain { .. } => Side::Server,
            Self::HeaderListTooLarge { leg, .. } => match leg.part {
                Part::RequestHeaders | Part::RequestTrailers => Side::Client,
                Part::ResponseHeaders | Part::ResponseTrailers => Side::Server,
            },
            Self::FailFast { .. }
            | Self::QueueFull { .. }
            | Self::TooMany { .. }
            | Self::IdentityNotReady
            | Self::PolicyUnknown { .. }
            | Self::NoBackend { .. }
            | Self::InvalidBackend { .. }
            | Self::Forbidden { .. }
            | Self::Injected { .. }
            | Self::Loop { .. }
            | Self::NoOriginalDst { .. }
            | Self::ShuttingDown
            | Self::Internal { .. } => Side::Proxy,
        }
    }
}

/// Whose requests a limit counts, in words.
fn whose(scope: Scope) -> &'static str {
    match scope {
        Scope::Total => ", of all clients together",
        Scope::Identity => ", of one client",
        Scope::Override => ", of clients as this one",
    }
}
