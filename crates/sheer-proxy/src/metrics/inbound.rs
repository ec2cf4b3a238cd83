//! Handles of what is counted by route of what arrives, under Linkerd's names (`inbound_{http,grpc}_…`).

use std::{
    cell::{OnceCell, RefCell},
    time::Duration,
};

use super::{
    cell::{Counter, Histogram},
    family,
    labels::LabelSet,
    registry::Shard,
    route::{RouteStatus, count, status_labels},
};

/// How requests of one route of one port went. Of one worker: not `Sync`.
#[derive(Debug)]
pub struct InboundRouteMetrics {
    shard: Shard,
    labels: LabelSet,
    /// Of HTTP, and of gRPC: a port may take both.
    kinds: [OnceCell<OfKind>; 2],
}

#[derive(Debug)]
struct OfKind {
    requests: Counter,
    took: Histogram,
    /// A handful a route: found by a walk, not by a hash.
    statuses: RefCell<Vec<(RouteStatus, Counter)>>,
}

impl InboundRouteMetrics {
    /// Of a port and route with these `parent_*` and `route_*` labels.
    pub fn new(shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            shard: shard.clone(),
            labels: labels.clone(),
            kinds: Default::default(),
        }
    }

    /// Counts a request that is over.
    pub fn ended(&self, is_grpc: bool, status: RouteStatus, took: Duration) {
        let kind = self.kinds[usize::from(is_grpc)].get_or_init(|| self.of_kind(is_grpc));
        kind.requests.inc();
        kind.took.record(took);
        let family = if is_grpc {
            &family::INBOUND_GRPC_STATUSES_TOTAL
        } else {
            &family::INBOUND_HTTP_STATUSES_TOTAL
        };
        count(&kind.statuses, status, || {
            self.shard
                .counter(family, &status_labels(&self.labels, status, is_grpc))
        });
    }

    fn of_kind(&self, is_grpc: bool) -> OfKind {
        let (requests, took) = if is_grpc {
            (
                &family::INBOUND_GRPC_REQUESTS_TOTAL,
                &family::INBOUND_GRPC_REQUEST_DURATION_SECONDS,
            )
        } else {
            (
                &family::INBOUND_HTTP_REQUESTS_TOTAL,
                &family::INBOUND_HTTP_REQUEST_DURATION_SECONDS,
            )
        };
        OfKind {
            requests: self.shard.counter(requests, &self.labels),
            took: self.shard.histogram(took, &self.labels),
            statuses: RefCell::default(),
        }
    }
}
