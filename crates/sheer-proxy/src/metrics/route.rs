//! Handles of what is counted by route and backend, under Linkerd's names (`outbound_{http,grpc}_route_…`).

use std::{
    cell::{OnceCell, RefCell},
    time::Duration,
};

use super::{
    cell::{Counter, Histogram},
    family,
    labels::LabelSet,
    registry::Shard,
    response::ResponseOutcome,
};
use crate::exchange::{End, Outcome};

/// How requests of one rule went. Of one worker: not `Sync`.
#[derive(Debug)]
pub struct RouteMetrics {
    shard: Shard,
    labels: LabelSet,
    is_grpc: bool,
    /// A handful a rule: found by a walk, not by a hash.
    statuses: RefCell<Vec<(RouteStatus, Counter)>>,
    took: Histogram,
    retries: OnceCell<RetryMetrics>,
    legacy: LegacyMetrics,
}

/// The same under Linkerd's older names (`route_…`), by which `sheer stat` asks a Prometheus too. Effective and actual: a request counts once, an
/// attempt each time.
#[derive(Debug)]
struct LegacyMetrics {
    requests: Counter,
    /// By whether they went well.
    responses: [OnceCell<Counter>; 2],
    latency: Histogram,
    attempts: OnceCell<Counter>,
    attempts_ended: [OnceCell<Counter>; 2],
    attempts_latency: OnceCell<Histogram>,
}

/// How a request of a route ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// HTTP status; none where no response began.
    pub status: Option<u16>,
    /// `grpc-status`, where there was one.
    pub grpc_status: Option<u16>,
    /// Why the proxy made the response up or cut it.
    pub error: Option<&'static str>,
}

/// What became of retries of one rule.
#[derive(Clone, Debug)]
pub struct RetryMetrics {
    /// The rule's own limit was reached.
    pub limit_exceeded: Counter,
    /// The destination's budget was spent.
    pub overflow: Counter,
    /// Attempts beyond the first.
    pub requests: Counter,
    /// Requests that such an attempt answered well.
    pub successes: Counter,
}

impl LegacyMetrics {
    fn new(shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            requests: shard.counter(&family::ROUTE_REQUEST_TOTAL, labels),
            responses: Default::default(),
            latency: shard.histogram(&family::ROUTE_RESPONSE_LATENCY_MS, labels),
            attempts: OnceCell::new(),
            attempts_ended: Default::default(),
            attempts_latency: OnceCell::new(),
        }
    }
}

/// The older families have the direction as a label.
fn outbound(labels: &LabelSet) -> LabelSet {
    labels.with("direction", "outbound")
}

/// How requests of one rule went at one backend. Of one worker: not `Sync`.
#[derive(Debug)]
pub struct RouteBackendMetrics {
    /// Requests that went there.
    pub requests: Counter,
    took: Histogram,
    statuses: RefCell<Vec<(RouteStatus, Counter)>>,
    shard: Shard,
    labels: LabelSet,
    is_grpc: bool,
}

impl RouteStatus {
    /// Of a request that is over.
    pub fn of(outcome: &Outcome) -> Self {
        Self {
            status: outcome.status.map(|status| status.as_u16()),
            grpc_status: outcome.grpc_status,
            error: match outcome.end {
                End::Complete => None,
                End::Proxy { reason, .. } => Some(reason),
                End::ClientReset(_) => Some("client-reset"),
                End::ServerReset(_) => Some("server-reset"),
                End::Dropped => Some("dropped"),
            },
        }
    }
}

impl RouteMetrics {
    /// Of a rule with these `parent_*` and `route_*` labels.
    pub fn new(shard: &Shard, labels: &LabelSet, is_grpc: bool) -> Self {
        Self {
            shard: shard.clone(),
            labels: labels.clone(),
            is_grpc,
            statuses: RefCell::default(),
            took: shard.histogram(
                if is_grpc {
                    &family::OUTBOUND_GRPC_ROUTE_REQUEST_DURATION_SECONDS
                } else {
                    &family::OUTBOUND_HTTP_ROUTE_REQUEST_DURATION_SECONDS
                },
                labels,
            ),
            retries: OnceCell::new(),
            legacy: LegacyMetrics::new(shard, &outbound(labels)),
        }
    }

    /// Counts what a caller saw of a request.
    pub fn seen(&self, outcome: &ResponseOutcome) {
        let LegacyMetrics { responses, latency, .. } = &self.legacy;
        self.ended_as(&family::ROUTE_RESPONSE_TOTAL, responses, outcome.success);
        latency.record(outcome.latency);
    }

    /// Counts a request.
    pub fn request(&self) {
        self.legacy.requests.inc();
    }

    /// Counts the end of an attempt, which had its response's head, or its end, after this time.
    pub fn attempt(&self, success: bool, took: Duration) {
        let LegacyMetrics {
            attempts,
            attempts_ended,
            attempts_latency,
            ..
        } = &self.legacy;
        let labels = || outbound(&self.labels);
        let counter = || self.shard.counter(&family::ROUTE_ACTUAL_REQUEST_TOTAL, &labels());
        attempts.get_or_init(counter).inc();
        self.ended_as(&family::ROUTE_ACTUAL_RESPONSE_TOTAL, attempts_ended, success);
        let histogram = || {
            self.shard
                .histogram(&family::ROUTE_ACTUAL_RESPONSE_LATENCY_MS, &labels())
        };
        attempts_latency.get_or_init(histogram).record(took);
    }

    /// A request was not sent again though its rule would have it: there was no budget, or the limit was reached. Rare: a look-up each.
    pub fn skipped(&self, why: &'static str) {
        let labels = outbound(&self.labels).with("skipped", why);
        self.shard.counter(&family::ROUTE_RETRYABLE_TOTAL, &labels).inc();
    }

    fn ended_as(&self, family: &'static family::Family, counters: &[OnceCell<Counter>; 2], success: bool) {
        counters[usize::from(success)]
            .get_or_init(|| {
                let classification = if success { "success" } else { "failure" };
                self.shard
                    .counter(family, &outbound(&self.labels).with("classification", classification))
            })
            .inc();
    }

    /// Counts the end of a request, and how long it took.
    pub fn ended(&self, status: RouteStatus, took: Duration) {
        self.took.record(took);
        let family = if self.is_grpc {
            &family::OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES_TOTAL
        } else {
            &family::OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL
        };
        count(&self.statuses, status, || {
            self.shard
                .counter(family, &status_labels(&self.labels, status, self.is_grpc))
        });
    }

    /// What becomes of retries; few rules have any.
    pub fn retries(&self) -> &RetryMetrics {
        self.retries.get_or_init(|| {
            let families = if self.is_grpc {
                [
                    &family::OUTBOUND_GRPC_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL,
                    &family::OUTBOUND_GRPC_ROUTE_RETRY_OVERFLOW_TOTAL,
                    &family::OUTBOUND_GRPC_ROUTE_RETRY_REQUESTS_TOTAL,
                    &family::OUTBOUND_GRPC_ROUTE_RETRY_SUCCESSES_TOTAL,
                ]
            } else {
                [
                    &family::OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL,
                    &family::OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW_TOTAL,
                    &family::OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS_TOTAL,
                    &family::OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES_TOTAL,
                ]
            };
            let [limit_exceeded, overflow, requests, successes] =
                families.map(|family| self.shard.counter(family, &self.labels));
            RetryMetrics {
                limit_exceeded,
                overflow,
                requests,
                successes,
            }
        })
    }

    /// Counts an attempt beyond the first by its reason (`status`, `grpc-status`, `connection`, …). Rare: a look-up each.
    pub fn tried_again(&self, reason: &'static str) {
        self.note(&family::SHEER_RETRIES_TOTAL, "reason", reason);
    }

    /// Counts what became of a second attempt beside the first (`sent`, `won`, `no-budget`, …). Rare: a look-up each.
    pub fn hedged(&self, result: &'static str) {
        self.note(&family::SHEER_HEDGES_TOTAL, "result", result);
    }

    fn note(&self, family: &'static family::Family, name: &str, value: &str) {
        self.shard.counter(family, &self.labels.with(name, value)).inc();
    }
}

impl RouteBackendMetrics {
    /// Of a rule's backend with these `parent_*`, `route_*` and `backend_*` labels.
    pub fn new(shard: &Shard, labels: &LabelSet, is_grpc: bool) -> Self {
        let family = if is_grpc {
            &family::OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS_TOTAL
        } else {
            &family::OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS_TOTAL
        };
        Self {
            took: shard.histogram(
                if is_grpc {
                    &family::OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS
                } else {
                    &family::OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS
                },
                labels,
            ),
            requests: shard.counter(family, labels),
            statuses: RefCell::default(),
            shard: shard.clone(),
            labels: labels.clone(),
            is_grpc,
        }
    }

    /// Counts the end of a request, and how long it took.
    pub fn ended(&self, status: RouteStatus, took: Duration) {
        self.took.record(took);
        let family = if self.is_grpc {
            &family::OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL
        } else {
            &family::OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL
        };
        count(&self.statuses, status, || {
            self.shard
                .counter(family, &status_labels(&self.labels, status, self.is_grpc))
        });
    }
}

pub(super) fn count(
    counters: &RefCell<Vec<(RouteStatus, Counter)>>,
    status: RouteStatus,
    new: impl FnOnce() -> Counter,
) {
    let mut counters = counters.borrow_mut();
    if let Some((_, counter)) = counters.iter().find(|(found, _)| *found == status) {
        return counter.inc();
    }
    let counter = new();
    counter.inc();
    counters.push((status, counter));
}

pub(super) fn status_labels(labels: &LabelSet, status: RouteStatus, is_grpc: bool) -> LabelSet {
    let number = |number: Option<u16>| number.map(|number| number.to_string()).unwrap_or_default();
    let labels = labels.to_builder();
    let labels = if is_grpc {
        labels.label("grpc_status", &number(status.grpc_status))
    } else {
        labels.label("http_status", &number(status.status))
    };
    labels.label("error", status.error.unwrap_or_default()).build()
}
