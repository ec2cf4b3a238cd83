//! Bundles of handles for the data path: resolved with the endpoint or target, then used without a look-up.

use std::{
    cell::{OnceCell, RefCell},
    sync::Arc,
    time::Duration,
};

use sheer_api::Verdict;

use super::{
    cell::{Counter, Gauge, Histogram},
    family,
    labels::LabelSet,
    registry::Shard,
    response::ResponseOutcome,
};
use crate::{
    error::{Direction, ProxyError},
    telemetry::{Cells, Count, Key, Series},
};

/// Which side of the proxy a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The proxy accepted it.
    Src,
    /// The proxy opened it.
    Dst,
}

impl Peer {
    /// Value of the label `peer`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Src => "src",
            Self::Dst => "dst",
        }
    }
}

/// Request metrics of one endpoint or target (outbound), or of one port and client (inbound). Of one worker: not `Sync`.
#[derive(Debug)]
pub struct HttpMetrics {
    shard: Shard,
    labels: LabelSet,
    requests: Counter,
    /// Few endpoints ever see one.
    further_attempts: OnceCell<Counter>,
    /// A handful a target: found by a walk, not by a hash.
    responses: RefCell<Vec<(ResponseKey, Counter)>>,
    latencies: RefCell<Vec<(u16, Histogram)>>,
    /// What the control plane is told, where it is told by these labels.
    series: Option<Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ResponseKey {
    status: u16,
    grpc_status: Option<u16>,
    success: bool,
    error: Option<&'static str>,
}

impl HttpMetrics {
    /// Resolves the handles of `labels`.
    pub fn new(shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            shard: shard.clone(),
            labels: labels.clone(),
            requests: shard.counter(&family::REQUEST_TOTAL, labels),
            further_attempts: OnceCell::new(),
            responses: RefCell::default(),
            latencies: RefCell::default(),
            series: None,
        }
    }

    /// The same, told to the control plane as `key`.
    #[must_use]
    pub fn told_as(mut self, key: Key) -> Self {
        self.series = self.shard.recorder().map(|recorder| recorder.series(key));
        self
    }

    /// What the control plane is told.
    pub fn series(&self) -> Option<&Series> {
        self.series.as_ref()
    }

    /// Counts a request: once, where it went first.
    pub fn request(&self) {
        self.requests.inc();
    }

    /// Counts a request that was counted elsewhere already and did not get its answer there.
    pub fn further_attempt(&self) {
        let family = &family::SHEER_REQUEST_FURTHER_ATTEMPTS_TOTAL;
        self.further_attempts
            .get_or_init(|| self.shard.counter(family, &self.labels))
            .inc();
    }

    /// Counts the end of a response.
    pub fn response(&self, outcome: &ResponseOutcome) {
        let ResponseOutcome {
            status,
            grpc_status,
            success,
            error,
            latency,
            spoken: _,
            trace,
        } = *outcome;
        if let Some(series) = &self.series {
            series.ended(outcome);
        }
        let key = ResponseKey {
            status,
            grpc_status,
            success,
            error,
        };
        let mut responses = self.responses.borrow_mut();
        if let Some((_, counter)) = responses.iter().find(|(found, _)| *found == key) {
            counter.inc();
        } else {
            let counter = self.shard.counter(&family::RESPONSE_TOTAL, &self.response_labels(key));
            counter.inc();
            responses.push((key, counter));
        }
        let mut latencies = self.latencies.borrow_mut();
        if let Some((_, histogram)) = latencies.iter().find(|(found, _)| *found == status) {
            histogram.record_traced(latency, trace);
        } else {
            let labels = self.labels.with("status_code", itoa::Buffer::new().format(status));
            let histogram = self.shard.histogram(&family::RESPONSE_LATENCY_MS, &labels);
            histogram.record_traced(latency, trace);
            latencies.push((status, histogram));
        }
    }

    fn response_labels(&self, key: ResponseKey) -> LabelSet {
        let grpc_status = key.grpc_status.map(|code| code.to_string());
        self.labels
            .to_builder()
            .label("status_code", itoa::Buffer::new().format(key.status))
            .label("classification", if key.success { "success" } else { "failure" })
            .label_if("grpc_status", grpc_status.as_deref())
            .label_if("error", key.error)
            .build()
    }
}

/// Connection metrics of one peer.
#[derive(Clone, Debug)]
pub struct TcpMetrics {
    shard: Shard,
    labels: LabelSet,
    open_total: Counter,
    open: Gauge,
    read: Counter,
    write: Counter,
    /// Closes without an error, by far the most.
    closed: Counter,
    /// What the control plane is told, where it is told by these labels.
    cells: Option<Arc<Cells>>,
}

impl TcpMetrics {
    /// Resolves the handles of `labels`.
    pub fn new(shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            shard: shard.clone(),
            labels: labels.clone(),
            open_total: shard.counter(&family::TCP_OPEN_TOTAL, labels),
            open: shard.gauge(&family::TCP_OPEN_CONNECTIONS, labels),
            read: shard.counter(&family::TCP_READ_BYTES_TOTAL, labels),
            write: shard.counter(&family::TCP_WRITE_BYTES_TOTAL, labels),
            closed: shard.counter(&family::TCP_CLOSE_TOTAL, &labels.with("errno", "")),
            cells: None,
        }
    }

    /// The same, told to the control plane as `key`.
    #[must_use]
    pub fn told_as(mut self, key: Key) -> Self {
        self.cells = self.shard.recorder().map(|recorder| recorder.cells(key));
        self
    }

    /// Counts a connection; the guard counts its end.
    pub fn open(&self) -> TcpOpen {
        self.open_as(self.cells.clone())
    }

    /// Where its series are made.
    pub(crate) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The same, told to the control plane by these cells.
    pub fn open_as(&self, cells: Option<Arc<Cells>>) -> TcpOpen {
        self.open_total.inc();
        self.open.inc();
        let open = TcpOpen {
            metrics: self.clone(),
            cells,
            error: "",
        };
        open.tell(Count::Opened, 1);
        open
    }
}

/// An open connection. Dropping it counts the close.
#[derive(Debug)]
pub struct TcpOpen {
    metrics: TcpMetrics,
    cells: Option<Arc<Cells>>,
    error: &'static str,
}

impl TcpOpen {
    /// Bytes read from the peer.
    pub fn read(&self, bytes: u64) {
        self.metrics.read.add(bytes);
        self.tell(Count::Read, bytes);
    }

    /// Bytes written to the peer.
    pub fn wrote(&self, bytes: u64) {
        self.metrics.write.add(bytes);
        self.tell(Count::Written, bytes);
    }

    /// The connection will have ended with the name of an error (`ECONNRESET`).
    pub fn failed(&mut self, error: &'static str) {
        self.error = error;
    }

    fn tell(&self, count: Count, n: u64) {
        if let Some(cells) = &self.cells {
            cells.add(count, n);
        }
    }
}

impl Drop for TcpOpen {
    fn drop(&mut self) {
        self.metrics.open.dec();
        self.tell(Count::Closed, 1);
        if self.error.is_empty() {
            self.metrics.closed.inc();
            return;
        }
        self.tell(Count::Failed, 1);
        let labels = self.metrics.labels.with("errno", self.error);
        self.metrics.shard.counter(&family::TCP_CLOSE_TOTAL, &labels).inc();
    }
}

impl Shard {
    /// Counts how often the bodies of a request waited for a window: the request's, and the response's. Most never do: a look-up each.
    pub fn stalls(&self, direction: Direction, [request, response]: [u32; 2]) {
        for (way, stalls) in [("request", request), ("response", response)] {
            if stalls > 0 {
                let labels = LabelSet::builder()
                    .label("direction", direction.as_str())
                    .label("body", way);
                self.counter(&family::SHEER_FLOW_CONTROL_STALLS_TOTAL, &labels.build())
                    .add(stalls.into());
            }
        }
    }
}

/// Sizes of header lists of requests of one half.
pub fn header_lists(shard: &Shard, direction: Direction) -> Histogram {
    let labels = LabelSet::builder().label("direction", direction.as_str()).build();
    shard.histogram(&family::SHEER_HEADER_LIST_BYTES, &labels)
}

/// TLS between proxies, of one half.
#[derive(Clone, Debug)]
pub struct HandshakeMetrics {
    shard: Shard,
    labels: LabelSet,
    done: Counter,
}

impl HandshakeMetrics {
    /// Resolves the handles of one half.
    pub fn new(shard: &Shard, direction: Direction) -> Self {
        let labels = LabelSet::builder().label("direction", direction.as_str()).build();
        Self {
            done: shard.counter(&family::SHEER_TLS_HANDSHAKES_TOTAL, &labels.with("result", "ok")),
            shard: shard.clone(),
            labels,
        }
    }

    /// Counts a handshake that is over. Failures are rare: a look-up each.
    pub fn ended(&self, error: Option<&ProxyError>) {
        let Some(error) = error else { return self.done.inc() };
        let labels = self
            .labels
            .to_builder()
            .label("result", "failed")
            .label("reason", error.reason());
        self.shard
            .counter(&family::SHEER_TLS_HANDSHAKES_TOTAL, &labels.build())
            .inc();
    }
}

/// What detection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectResult {
    /// Neither HTTP/1 nor HTTP/2.
    NotHttp,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The client stayed silent.
    ReadTimeout,
    /// The connection failed before anything was found.
    Error,
}

/// Results of detection of one half.
#[derive(Clone, Debug)]
pub struct DetectMetrics {
    results: [Counter; 5],
    took: Histogram,
}

impl DetectMetrics {
    /// Resolves the handles of `labels`.
    pub fn new(shard: &Shard, direction: Direction, labels: &LabelSet) -> Self {
        let (family, took) = match direction {
            Direction::Inbound => (
                &family::INBOUND_TCP_DETECT_HTTP_RESULTS_TOTAL,
                &family::INBOUND_TCP_DETECT_HTTP_DURATION_SECONDS,
            ),
            Direction::Outbound => (
                &family::OUTBOUND_TCP_DETECT_HTTP_RESULTS_TOTAL,
                &family::OUTBOUND_TCP_DETECT_HTTP_DURATION_SECONDS,
            ),
        };
        let results = ["not_http", "http/1", "http/2", "read_timeout", "error"];
        Self {
            results: results.map(|result| shard.counter(family, &labels.with("result", result))),
            took: shard.histogram(took, labels),
        }
    }

    /// Counts one result, and how long it took to find.
    pub fn record(&self, result: DetectResult, took: Duration) {
        self.took.record(took);
        let index = match result {
            DetectResult::NotHttp => 0,
            DetectResult::Http1 => 1,
            DetectResult::Http2 => 2,
            DetectResult::ReadTimeout => 3,
            DetectResult::Error => 4,
        };
        self.results[index].inc();
    }
}

/// Decisions of inbound policy about requests, for one route and the rule that lets its client in (no rule where denied).
#[derive(Clone, Debug)]
pub struct HttpAuthzMetrics {
    /// Requests allowed.
    pub allow: Counter,
    /// Requests denied.
    pub deny: Counter,
}

impl HttpAuthzMetrics {
    /// Resolves the handles of `labels` (see [`super::inbound_labels`], with `route_*` and `authz_*` added).
    pub fn new(shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            allow: shard.counter(&family::INBOUND_HTTP_AUTHZ_ALLOW_TOTAL, labels),
            deny: shard.counter(&family::INBOUND_HTTP_AUTHZ_DENY_TOTAL, labels),
        }
    }
}

/// Decisions of inbound policy about connections, for one rule (or, where denied, for the server).
#[derive(Clone, Debug)]
pub struct TcpAuthzMetrics {
    /// Connections allowed.
    pub allow: Counter,
    /// Connections denied.
    pub deny: Counter,
    /// Open connections that a change of policy ended.
    pub terminate: Counter,
}

impl TcpAuthzMetrics {
    /// Resolves the handles of `labels` (see [`super::inbound_labels`], with `authz_*` added where a rule matched).
    pub fn new(shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            allow: shard.counter(&family::INBOUND_TCP_AUTHZ_ALLOW_TOTAL, labels),
            deny: shard.counter(&family::INBOUND_TCP_AUTHZ_DENY_TOTAL, labels),
            terminate: shard.counter(&family::INBOUND_TCP_AUTHZ_TERMINATE_TOTAL, labels),
        }
    }
}

/// Endpoints of one balancer by state.
#[derive(Clone, Debug)]
pub struct BalancerMetrics {
    /// Endpoints that take traffic.
    pub ready: Gauge,
    /// Endpoints that do not (yet).
    pub pending: Gauge,
    /// The same as Linkerd's balancer calls them.
    drawn: [Gauge; 2],
    /// Endpoints that came.
    pub added: Counter,
    /// Endpoints that went.
    pub removed: Counter,
    /// Who waits for an endpoint.
    pub queue: QueueMetrics,
    /// Endpoints that sit out.
    pub breaker: BreakerMetrics,
}

/// Who waits for an endpoint of one balancer.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    /// Who waits now.
    pub length: Gauge,
    /// Who had to wait.
    pub requests: Counter,
    /// How long.
    pub latency: Histogram,
    /// Times that an endpoint became ready where there was none.
    pub open: Counter,
    /// Times that the last ready endpoint was lost.
    pub shut: Counter,
}

/// Breakers of one balancer's endpoints.
#[derive(Clone, Debug)]
pub struct BreakerMetrics {
    /// Endpoints that began to sit out.
    pub trips: Counter,
    /// Endpoints that failed their probe.
    pub reopenings: Counter,
    /// Endpoints that take requests again.
    pub closings: Counter,
    /// Endpoints that sit out now.
    pub open: Gauge,
    /// Endpoints of which one request decides.
    pub probation: Gauge,
}

impl BreakerMetrics {
    fn new(shard: &Shard, labels: &LabelSet) -> Self {
        let endpoints = |state| shard.gauge(&family::SHEER_BREAKER_ENDPOINTS, &labels.with("state", state));
        Self {
            trips: shard.counter(&family::SHEER_BREAKER_TRIPS_TOTAL, labels),
            reopenings: shard.counter(&family::SHEER_BREAKER_REOPENINGS_TOTAL, labels),
            closings: shard.counter(&family::SHEER_BREAKER_CLOSINGS_TOTAL, labels),
            open: endpoints("open"),
            probation: endpoints("probation"),
        }
    }
}

impl BalancerMetrics {
    /// Resolves the handles of an HTTP balancer.
    pub fn http(shard: &Shard, labels: &LabelSet) -> Self {
        let families = [
            &family::OUTBOUND_HTTP_BALANCER_ENDPOINTS,
            &family::OUTBOUND_HTTP_BALANCER_P2C_ENDPOINTS,
            &family::OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL,
        ];
        let queue = QueueMetrics {
            length: shard.gauge(&family::OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH, labels),
            requests: shard.counter(&family::OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL, labels),
            latency: shard.histogram(&family::OUTBOUND_HTTP_BALANCER_QUEUE_LATENCY_SECONDS, labels),
            open: shard.counter(&family::OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL, labels),
            shut: shard.counter(&family::OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL, labels),
        };
        Self::new(shard, families, queue, labels)
    }

    /// Resolves the handles of a TCP balancer.
    pub fn tcp(shard: &Shard, labels: &LabelSet) -> Self {
        let families = [
            &family::OUTBOUND_TCP_BALANCER_ENDPOINTS,
            &family::OUTBOUND_TCP_BALANCER_P2C_ENDPOINTS,
            &family::OUTBOUND_TCP_BALANCER_P2C_UPDATES_TOTAL,
        ];
        let queue = QueueMetrics {
            length: shard.gauge(&family::OUTBOUND_TCP_BALANCER_QUEUE_LENGTH, labels),
            requests: shard.counter(&family::OUTBOUND_TCP_BALANCER_QUEUE_REQUESTS_TOTAL, labels),
            latency: shard.histogram(&family::OUTBOUND_TCP_BALANCER_QUEUE_LATENCY_SECONDS, labels),
            open: shard.counter(&family::OUTBOUND_TCP_BALANCER_QUEUE_GATE_OPEN_TOTAL, labels),
            shut: shard.counter(&family::OUTBOUND_TCP_BALANCER_QUEUE_GATE_SHUT_TOTAL, labels),
        };
        Self::new(shard, families, queue, labels)
    }

    fn new(
        shard: &Shard,
        [endpoints, drawn, updates]: [&'static family::Family; 3],
        queue: QueueMetrics,
        labels: &LabelSet,
    ) -> Self {
        let states = ["ready", "pending"].map(|state| labels.with("endpoint_state", state));
        let [ready, pending] = states.clone().map(|labels| shard.gauge(endpoints, &labels));
        Self {
            ready,
            pending,
            drawn: states.map(|labels| shard.gauge(drawn, &labels)),
            added: shard.counter(updates, &labels.with("op", "Add")),
            removed: shard.counter(updates, &labels.with("op", "Remove")),
            queue,
            breaker: BreakerMetrics::new(shard, labels),
        }
    }

    /// Endpoints became ready, or ceased to be; likewise those that are not.
    pub fn changed(&self, ready: i64, pending: i64) {
        self.ready.add(ready);
        self.pending.add(pending);
        self.drawn[0].add(ready);
        self.drawn[1].add(pending);
    }
}

impl Shard {
    /// Counts a request that the proxy itself failed. Errors are rare: a look-up each.
    pub fn http_error(&self, direction: Direction, verdict: Verdict, reason: &str) {
        let family = match direction {
            Direction::Inbound => &family::INBOUND_HTTP_ERRORS_TOTAL,
            Direction::Outbound => &family::OUTBOUND_HTTP_ERRORS_TOTAL,
        };
        self.error(family, direction, verdict, reason);
    }

    /// Counts a connection that the proxy itself failed.
    pub fn tcp_error(&self, direction: Direction, verdict: Verdict, reason: &str) {
        let family = match direction {
            Direction::Inbound => &family::INBOUND_TCP_ERRORS_TOTAL,
            Direction::Outbound => &family::OUTBOUND_TCP_ERRORS_TOTAL,
        };
        self.error(family, direction, verdict, reason);
    }

    fn error(&self, family: &'static family::Family, direction: Direction, verdict: Verdict, reason: &str) {
        self.counter(family, &LabelSet::builder().label("error", reason).build())
            .inc();
        let labels = LabelSet::builder()
            .label("direction", direction.as_str())
            .label("verdict", verdict.as_str())
            .label("reason", reason)
            .build();
        self.counter(&family::SHEER_ERRORS_TOTAL, &labels).inc();
    }
}
