//! Handles of what is counted by route and backend, under Linkerd's names (`outbound_{http,grpc}_route_…`).

use std::cell::{OnceCell, RefCell};

use super::{cell::Counter, family, labels::LabelSet, registry::Shard};

/// How requests of one rule went. Of one worker: not `Sync`.
#[derive(Debug)]
pub struct RouteMetrics {
    shard: Shard,
    labels: LabelSet,
    is_grpc: bool,
    /// A handful a rule: found by a walk, not by a hash.
    statuses: RefCell<Vec<(RouteStatus, Counter)>>,
    retries: OnceCell<RetryMetrics>,
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

/// How requests of one rule went at one backend. Of one worker: not `Sync`.
#[derive(Debug)]
pub struct RouteBackendMetrics {
    /// Requests that went there.
    pub requests: Counter,
    statuses: RefCell<Vec<(RouteStatus, Counter)>>,
    shard: Shard,
    labels: LabelSet,
    is_grpc: bool,
}

impl RouteMetrics {
    /// Of a rule with these `parent_*` and `route_*` labels.
    pub fn new(shard: &Shard, labels: &LabelSet, is_grpc: bool) -> Self {
        Self {
            shard: shard.clone(),
            labels: labels.clone(),
            is_grpc,
            statuses: RefCell::default(),
            retries: OnceCell::new(),
        }
    }

    /// Counts the end of a request.
    pub fn ended(&self, status: RouteStatus) {
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
            requests: shard.counter(family, labels),
            statuses: RefCell::default(),
            shard: shard.clone(),
            labels: labels.clone(),
            is_grpc,
        }
    }

    /// Counts the end of a request.
    pub fn ended(&self, status: RouteStatus) {
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

fn count(counters: &RefCell<Vec<(RouteStatus, Counter)>>, status: RouteStatus, new: impl FnOnce() -> Counter) {
    let mut counters = counters.borrow_mut();
    if let Some((_, counter)) = counters.iter().find(|(found, _)| *found == status) {
        return counter.inc();
    }
    let counter = new();
    counter.inc();
    counters.push((status, counter));
}

fn status_labels(labels: &LabelSet, status: RouteStatus, is_grpc: bool) -> LabelSet {
    let number = |number: Option<u16>| number.map(|number| number.to_string()).unwrap_or_default();
    let labels = labels.to_builder();
    let labels = if is_grpc {
        labels.label("grpc_status", &number(status.grpc_status))
    } else {
        labels.label("http_status", &number(status.status))
    };
    labels.label("error", status.error.unwrap_or_default()).build()
}
