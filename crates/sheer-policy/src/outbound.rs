//! Where traffic to a destination goes, and what is done to it on the way.

mod choice;
mod plain;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode, uri::Scheme};

use crate::{Endpoint, ObjectRef, ProtocolPlan, routes::Routes};

/// Load estimate of an endpoint that was never measured, where the policy does not say: Linkerd's.
pub const DEFAULT_RTT: Duration = Duration::from_millis(30);
/// Decay of the peak estimate, where the policy does not say: Linkerd's.
pub const DECAY: Duration = Duration::from_secs(10);

/// What the policy says of a destination (a Service's port, an EgressNetwork).
#[derive(Clone, Debug)]
pub struct OutboundPolicy {
    /// What it was asked for (`parent_*` labels).
    pub parent: ObjectRef,
    /// How to find out the protocol.
    pub protocol: ProtocolPlan,
    /// Rules for requests of HTTP/1.
    pub http1: HttpPolicy,
    /// Rules for requests of HTTP/2, gRPC among them.
    pub http2: HttpPolicy,
    /// Rules for connections whose protocol is not HTTP, in order: the first is taken.
    pub opaque: Arc<[StreamRule]>,
    /// Rules for connections of TLS that is not the mesh's, by server name.
    pub tls: Arc<[StreamRule]>,
    /// How much may be tried again, for everything that goes to this destination.
    pub budget: RetryBudget,
}

/// Rules for one version of HTTP. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HttpPolicy {
    /// Which rule takes a request. None: the destination has no routes for this protocol.
    pub routes: Arc<Routes<HttpRule>>,
    /// When an endpoint sits out, where the policy says it.
    pub accrual: Option<FailureAccrual>,
}

/// What happens to the requests that a rule takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRule {
    /// What is done to the request and its response, in order.
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub backends: Backends,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// When it is sent again.
    pub retry: Option<Retry>,
    /// A second attempt before the first has answered (gRPC hedging).
    pub hedge: Option<Hedge>,
    /// Who gets a copy.
    pub mirrors: Vec<Mirror>,
    /// Which answers count as failures, where the policy says it.
    pub classes: Option<Arc<ResponseClasses>>,
    /// The request's own headers (`l5d-retry-*`, `l5d-timeout`, …) may change retries and timeouts.
    pub allow_request_headers: bool,
}

/// One rule for connections.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRule {
    /// The route (`route_*` labels).
    pub route: ObjectRef,
    /// Server names of TLS that it takes; all where empty, and none of it is looked at for opaque connections.
    pub server_names: Vec<crate::routes::HostMatch>,
    /// Why it takes nothing, where a filter says so.
    pub refuses: Option<Refusal>,
    /// Where a connection goes.
    pub backends: Backends,
}

/// Why a rule lets no connection through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An operator forbids it (`EgressNetwork` with `trafficPolicy: Deny`, a port that a Service does not have).
    Forbidden,
    /// The route is not valid; the text is the control plane's.
    Invalid(Arc<str>),
}

/// Where a rule sends what it takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Backends {
    /// Nowhere: a rule without backends. Answered with 500 (Gateway API), unless a filter answers.
    #[default]
    None,
    /// The first that can be reached.
    First(Vec<RouteBackend>),
    /// Each gets its share.
    Weighted(Vec<(RouteBackend, u32)>),
}

impl Backends {
    /// A backend by its place in the policy.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut RouteBackend> {
        match self {
            Self::None => None,
            Self::First(backends) => backends.get_mut(index),
            Self::Weighted(backends) => backends.get_mut(index).map(|(backend, _)| backend),
        }
    }
}

/// A backend of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteBackend {
    /// Where it goes.
    pub backend: Arc<Backend>,
    /// What is done to the requests that go there, after the rule's own filters.
    pub filters: Vec<Filter>,
}

/// Endpoints, or the reason why there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The object (`backend_*` labels).
    pub object: ObjectRef,
    /// Where it goes.
    pub target: BackendTarget,
    /// Requests that may wait while no endpoint is ready; the proxy's setting where the policy does not say, or says less.
    pub queue_capacity: Option<usize>,
    /// How long they wait before the fail-fast answer; the proxy's setting where the policy does not say.
    pub failfast_timeout: Option<Duration>,
    /// How endpoints are chosen beyond what Linkerd's API can say.
    pub balancing: Balancing,
}

/// Where a backend leads.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendTarget {
    /// To one endpoint.
    Forward(Arc<Endpoint>),
    /// To the endpoints of a service, balanced.
    Balance {
        /// What discovery is asked for, as `ledger.bank.svc.cluster.local:8080`.
        path: Arc<str>,
        /// How load is estimated.
        load: LoadEstimate,
    },
    /// Nowhere: the control plane says why. Answered with 500 (Gateway API: a backend that does not exist).
    Invalid {
        /// Why, for the caller.
        why: Arc<str>,
    },
}

/// How the load of an endpoint is estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadEstimate {
    /// Of an endpoint that was never measured.
    pub default_rtt: Duration,
    /// Time in which an estimate sinks to 1/e.
    pub decay: Duration,
    /// What a 429, a 503 or another failure adds.
    pub penalty: Option<Penalty>,
}

impl Default for LoadEstimate {
    fn default() -> Self {
        Self {
            default_rtt: DEFAULT_RTT,
            decay: DECAY,
            penalty: None,
        }
    }
}

/// What an answer that says "too much" adds to an endpoint's estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// Added where the answer does not say how long.
    pub penalty: Duration,
    /// `Retry-After` and `grpc-retry-pushback-ms` count up to this.
    pub max_retry_after: Duration,
    /// Time in which the penalty sinks to 1/e.
    pub decay: Duration,
}

/// How endpoints of a backend are chosen, beyond load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balancing {
    /// A new endpoint's share grows to its whole over this time.
    pub slow_start: Option<Duration>,
    /// Requests with the same key go to the same endpoint while it is well.
    pub affinity: Option<Affinity>,
    /// At most this share of the endpoints sits out at once, 0–100. `None`: no bound beyond "never all".
    pub max_ejected_percent: Option<u8>,
    /// Endpoints of the proxy's own zone first; others join as these are loaded.
    pub locality: Option<Locality>,
}

/// Same zone first, with spill-over by load.
#[derive(Clone, Debug, PartialEq)]
pub struct Locality {
    /// The proxy's own zone: endpoints whose label `zone` is the same come first.
    pub zone: Arc<str>,
    /// Others take part once the local ones have this many requests each under way.
    pub spill_over_at: f64,
}

/// What makes requests belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The value of a request header.
    Header(HeaderName),
    /// The value of a cookie that the application set.
    Cookie(Arc<str>),
    /// The client's address.
    ClientIp,
}

/// How long a request may take. `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole stream, every attempt included.
    pub request: Option<Duration>,
    /// From the end of the request to the head of the response.
    pub response: Option<Duration>,
    /// Without a frame in either direction.
    pub idle: Option<Duration>,
}

/// When a request is sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts beyond the first.
    pub limit: u32,
    /// Largest body that is kept for it, bytes.
    pub max_request_bytes: usize,
    /// HTTP statuses, inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// gRPC codes.
    pub grpc_codes: Vec<u16>,
    /// Longest that one attempt may take until the head of its response.
    pub timeout: Option<Duration>,
    /// Time between attempts; at once where there is none.
    pub backoff: Option<Backoff>,
    /// Longest hint of the server (`Retry-After`, `grpc-retry-pushback-ms`) that is obeyed; one that is longer is passed on with its answer, and
    /// nothing is tried again. Where it is not said, hints count within the waits' own bounds.
    pub max_hint: Option<Duration>,
}

/// Which statuses are failures and which are not, whatever else would make them one (a ServiceProfile's `responseClasses`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseClasses {
    /// Inclusive ranges.
    pub failures: Vec<(u16, u16)>,
    /// Inclusive ranges.
    pub successes: Vec<(u16, u16)>,
}

impl ResponseClasses {
    /// Whether a status is a failure; `None` where no class has it.
    pub fn is_failure(&self, status: u16) -> Option<bool> {
        let has = |ranges: &[(u16, u16)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&status));
        if has(&self.failures) {
            return Some(true);
        }
        has(&self.successes).then_some(false)
    }
}

/// Growing waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
    /// Up to this share of a wait is added at random.
    pub jitter: f64,
    /// A hint of the server (`Retry-After`, `grpc-retry-pushback-ms`) counts instead.
    pub honour_hint: bool,
}

/// How much may be tried again: a share of the traffic, and a floor for quiet times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries for each request: 0.2 is one for five.
    pub ratio: f64,
    /// Always allowed, a second.
    pub min_per_second: u32,
    /// How long a request counts.
    pub ttl: Duration,
}

impl Default for RetryBudget {
    /// 20 % of traffic plus 10 a second: no destination is without one.
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 10,
            ttl: Duration::from_secs(10),
        }
    }
}

/// Another attempt before the first has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long an attempt has before the next is sent.
    pub delay: Duration,
    /// Attempts at once, the first included.
    pub max_attempts: u32,
}

/// A copy of requests for somebody whose answers nobody reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Who gets it.
    pub backend: Arc<Backend>,
    /// Share of requests.
    pub share: Share,
}

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// So many …
    pub numerator: u32,
    /// … of so many. Never 0.
    pub denominator: u32,
}

impl Share {
    /// Every request.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// Whether a request belongs to the share; `random` is uniform in `0..1`.
    pub fn takes(self, random: f64) -> bool {
        random * f64::from(self.denominator) < f64::from(self.numerator)
    }
}

/// What a rule does to a request or its response.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Changes the request's headers.
    RequestHeaders(HeaderModifier),
    /// Changes the response's headers.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Changes host or path.
    Rewrite(Rewrite),
    /// Answers with a failure, for testing applications.
    Abort(Abort),
    /// Waits, for testing applications.
    Delay(Delay),
}

/// Changes of headers: additions first, then sets, then removals (`http_route.proto`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderModifier {
    /// Added beside what is there.
    pub add: HeaderMap,
    /// Replaces what is there.
    pub set: HeaderMap,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

/// Where a redirect leads; what is `None` is as in the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// Scheme of the location.
    pub scheme: Option<Scheme>,
    /// Host of the location.
    pub host: Option<Arc<str>>,
    /// Port of the location.
    pub port: Option<u16>,
    /// Path of the location.
    pub path: Option<PathModifier>,
    /// Status of the answer.
    pub status: StatusCode,
}

/// What a request becomes before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The host.
    pub host: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// How a path changes. The query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// To this one.
    Full(Arc<str>),
    /// The prefix that the rule matched, to this one.
    Prefix(Arc<str>),
}

/// A failure to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// What the caller gets.
    pub answer: AbortAnswer,
    /// The operator's words, for the caller.
    pub message: Arc<str>,
    /// Share of requests.
    pub share: Share,
}

/// The answer of an injected failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortAnswer {
    /// An HTTP status.
    Http(StatusCode),
    /// A gRPC code.
    Grpc(u16),
}

/// A delay to inject, before the request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub delay: Duration,
    /// Share of requests.
    pub share: Share,
}

/// When an endpoint sits out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureAccrual {
    /// After so many failures in a row.
    pub max_consecutive: Option<u32>,
    /// Where its success rate sinks below a threshold.
    pub success_rate: Option<SuccessRate>,
    /// How long; longer each time a probe fails.
    pub backoff: Backoff,
    /// At least so many endpoints stay.
    pub min_ready: usize,
}

/// Success rate as a reason to sit out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// Below this (0–1).
    pub threshold: f64,
    /// Window of the moving average.
    pub window: Duration,
    /// Not before so many requests.
    pub min_requests: u32,
}
