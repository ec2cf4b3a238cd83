//! What is told of each request and connection: the one place where the outbound path counts.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    time::Duration,
};

use http::StatusCode;
use sheer_api::Verdict;
use tokio::time::Instant;

use super::plan::BackendPlan;
use crate::{
    balance::{self, Fault, InFlight},
    error::{Direction, ProxyError},
    exchange::{End, Outcome, Sink},
    metrics::{
        Counter, DetectMetrics, DetectResult, Histogram, HttpMetrics, LabelSet, ResponseOutcome, Shard, family,
        header_lists,
    },
    pool::{Member, StreamSlot},
    telemetry::Key,
};

/// Counts for one worker.
pub(super) struct Observer {
    shard: Shard,
    detect: DetectMetrics,
    protocols: [OnceCell<Counter>; PROTOCOLS.len()],
    header_lists: Histogram,
    waiting: Rc<Waiting>,
}

/// What outbound connections may speak, in Linkerd's words.
const PROTOCOLS: [&str; 4] = ["opaq", "tls", "http/1", "http/2"];

/// Requests without the head of a response.
struct Waiting {
    count: Cell<usize>,
    limit: usize,
}

impl Observer {
    pub(super) fn new(shard: &Shard, max_in_flight: usize) -> Self {
        Self {
            shard: shard.clone(),
            detect: DetectMetrics::new(shard, Direction::Outbound, &LabelSet::default()),
            protocols: Default::default(),
            header_lists: header_lists(shard, Direction::Outbound),
            waiting: Rc::new(Waiting {
                count: Cell::new(0),
                limit: max_in_flight,
            }),
        }
    }

    /// What detection found.
    pub(super) fn detected(&self, result: DetectResult, took: Duration) {
        self.detect.record(result, took);
    }

    /// What a connection speaks.
    pub(super) fn speaks(&self, protocol: &'static str) {
        let family = &family::OUTBOUND_TCP_PROTOCOL_CONNECTIONS_TOTAL;
        let labels = || LabelSet::builder().label("protocol", protocol).build();
        let place = PROTOCOLS.iter().position(|known| *known == protocol).unwrap_or(0);
        self.protocols[place]
            .get_or_init(|| self.shard.counter(family, &labels()))
            .inc();
    }

    /// How large a request's header list is.
    pub(super) fn header_list(&self, bytes: usize) {
        self.header_lists.record_units(bytes as u64);
    }

    /// A connection that was not served.
    pub(super) fn refused(&self, error: &ProxyError) {
        self.shard
            .tcp_error(Direction::Outbound, error.verdict(), error.reason());
    }

    /// Admits a request, unless too many wait for their response.
    pub(super) fn admit(&self) -> Result<Admitted, ProxyError> {
        let waiting = &self.waiting;
        if waiting.count.get() >= waiting.limit {
            return Err(ProxyError::TooMany {
                what: "requests",
                limit: waiting.limit,
            });
        }
        waiting.count.set(waiting.count.get() + 1);
        Ok(Admitted(Rc::clone(waiting)))
    }

    /// Who is told of a request that goes to an endpoint: its first, or another after that one did not serve it.
    pub(super) fn endpoint(
        &self,
        (request, slot): (InFlight<Member>, Option<StreamSlot>),
        admitted: &Rc<Admitted>,
        backend: &Rc<BackendPlan>,
        attempt: u32,
    ) -> Rc<AtEndpoint> {
        let metrics = &request.node().value.metrics;
        if attempt == 1 {
            metrics.request();
        } else {
            metrics.further_attempt();
        }
        let node = Rc::clone(request.node());
        Rc::new(AtEndpoint {
            counts: Counts {
                shard: self.shard.clone(),
                node,
            },
            began: request.began(),
            request: RefCell::new(Some(request)),
            admitted: RefCell::new(Some(Rc::clone(admitted))),
            slot,
            backend: Rc::clone(backend),
            took: Cell::new(None),
            is_told: Cell::new(false),
        })
    }
}

/// A request that waits for its response, counted until dropped.
pub(super) struct Admitted(Rc<Waiting>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
    }
}

/// Requests for one target that never got an endpoint. Until one has, nothing of it is on the metrics page.
pub(super) struct NoEndpoint {
    shard: Shard,
    labels: LabelSet,
    /// As what the control plane is told of them.
    key: Key,
    metrics: OnceCell<HttpMetrics>,
}

impl NoEndpoint {
    pub(super) fn new(shard: &Shard, labels: LabelSet, key: Key) -> Self {
        Self {
            shard: shard.clone(),
            labels,
            key,
            metrics: OnceCell::new(),
        }
    }
}

impl Sink for NoEndpoint {
    fn end(&self, outcome: &Outcome) {
        count_error(&self.shard, outcome);
        let metrics = self
            .metrics
            .get_or_init(|| HttpMetrics::new(&self.shard, &self.labels).told_as(self.key.clone()));
        metrics.request();
        if let Some(response) = ResponseOutcome::of(outcome) {
            metrics.response(&response);
        }
    }
}

/// Where requests at an endpoint are counted.
#[derive(Clone)]
pub(super) struct Counts {
    shard: Shard,
    node: Rc<balance::Node<Member>>,
}

impl Counts {
    /// Counts the end of a request.
    pub(super) fn end(&self, outcome: &Outcome) -> Option<ResponseOutcome> {
        self.shard.stalls(Direction::Outbound, outcome.stalls);
        count_error(&self.shard, outcome);
        let response = ResponseOutcome::of(outcome)?;
        self.node.value.metrics.response(&response);
        Some(response)
    }
}

/// A request at an endpoint: tells the balancer how it goes, and counts it.
pub(super) struct AtEndpoint {
    counts: Counts,
    /// Until it is known how the endpoint did.
    request: RefCell<Option<InFlight<Member>>>,
    /// Until the response's head.
    admitted: RefCell<Option<Rc<Admitted>>>,
    /// The stream is open until the request is over.
    slot: Option<StreamSlot>,
    backend: Rc<BackendPlan>,
    began: std::time::Instant,
    /// Until the response's head.
    took: Cell<Option<Duration>>,
    /// It is known how the attempt went.
    is_told: Cell<bool>,
}

impl AtEndpoint {
    /// The endpoint did not serve the request, which goes elsewhere or is answered by the proxy.
    pub(super) fn lost(&self, error: &ProxyError) {
        self.attempt(false);
        self.finish(judge_error(error.verdict()), None);
    }

    /// Another attempt at the same request was faster, or its client is gone: given up, which says of the endpoint how long it was silent, and no
    /// more.
    pub(super) fn outrun(&self) {
        self.attempt(true);
        self.finish(balance::Outcome::Neutral, None);
    }

    /// Where it is counted.
    pub(super) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Counts the attempt, once.
    fn attempt(&self, success: bool) {
        if self.is_told.replace(true) {
            return;
        }
        if let Some(series) = self.counts.node.value.metrics.series() {
            series.attempt(success);
        }
        let took = self.took.get().unwrap_or_else(|| self.began.elapsed());
        self.backend.attempt(success, took);
    }

    fn finish(&self, outcome: balance::Outcome, hint: Option<Duration>) {
        if let Some(request) = self.request.take() {
            request.finish_with(outcome, hint, now());
        }
    }
}

impl Sink for AtEndpoint {
    fn response(&self, outcome: &Outcome) {
        let now = now();
        self.took.set(Some(now - self.began));
        self.admitted.take();
        if let (Some(slot), End::Dropped) = (&self.slot, outcome.end) {
            slot.answered();
        }
        if let Some(fault) = fault(outcome) {
            self.finish(balance::Outcome::Failure(fault), outcome.retry_after);
        } else if let Some(request) = &mut *self.request.borrow_mut() {
            request.answered(now);
        }
    }

    fn passed_over(&self, outcome: &Outcome) {
        let status = outcome.status.map_or(0, |status| status.as_u16());
        self.attempt(ResponseOutcome::is_success(status, outcome.grpc_status));
        let judged = fault(outcome).map_or(balance::Outcome::Success, balance::Outcome::Failure);
        self.finish(judged, outcome.retry_after);
    }

    fn end(&self, outcome: &Outcome) {
        self.finish(judge(outcome), outcome.retry_after);
        if let Some(response) = self.counts.end(outcome) {
            self.attempt(response.success);
        }
    }
}

/// What an answer says against its endpoint, if anything.
fn fault(outcome: &Outcome) -> Option<Fault> {
    match outcome.is_failure_by_class() {
        Some(true) => return Some(by_answer(outcome).unwrap_or(Fault::Failed)),
        Some(false) => return None,
        None => {}
    }
    by_answer(outcome)
}

fn by_answer(outcome: &Outcome) -> Option<Fault> {
    match (outcome.grpc_status, outcome.status) {
        (Some(14), _) => Some(Fault::Unavailable),
        (Some(2 | 4 | 13 | 15), _) => Some(Fault::Failed),
        (Some(8), _) | (None, Some(StatusCode::TOO_MANY_REQUESTS)) => Some(Fault::Overloaded),
        (None, Some(status)) if status.is_server_error() => Some(Fault::Unavailable),
        (Some(_), _) | (None, _) => None,
    }
}

/// What the end of a request says about its endpoint.
fn judge(outcome: &Outcome) -> balance::Outcome {
    match outcome.end {
        End::Complete => fault(outcome).map_or(balance::Outcome::Success, balance::Outcome::Failure),
        // Applications cancel streams as a matter of course.
        End::ServerReset(code) if matches!(code.0, h2::Reason::CANCEL | h2::Reason::NO_ERROR) => {
            balance::Outcome::Neutral
        }
        End::ServerReset(_) => balance::Outcome::Failure(Fault::Lost),
        End::Proxy { verdict, .. } => judge_error(verdict),
        End::ClientReset(_) | End::Dropped => balance::Outcome::Neutral,
    }
}

/// Whether an error speaks against the endpoint, and not against the client, a policy, or this proxy.
fn judge_error(verdict: Verdict) -> balance::Outcome {
    match verdict {
        Verdict::Application
        | Verdict::ApplicationLibrary
        | Verdict::Network
        | Verdict::Identity
        | Verdict::Kubernetes => balance::Outcome::Failure(Fault::Lost),
        Verdict::ClientConfig
        | Verdict::Proxy
        | Verdict::ProxyLibrary
        | Verdict::Discovery
        | Verdict::Policy
        | Verdict::Injection
        | Verdict::Kernel
        | Verdict::Capacity => balance::Outcome::Neutral,
    }
}

fn count_error(shard: &Shard, outcome: &Outcome) {
    if let End::Proxy { verdict, reason } = outcome.end {
        shard.http_error(Direction::Outbound, verdict, reason);
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
