//! What is prepared for the requests of one rule, on one worker: backends with their services, handles of metrics. Made when a request
//! first meets the rule, and anew when the policy changes.

use std::{cell::OnceCell, rc::Rc, sync::Arc, time::Duration};

use sheer_policy::{
    outbound::{Backend, Filter, HeaderModifier, HttpRule, Retry},
    routes::Rule,
};

use super::{mirror::MirrorPlan, resolution::Resolution, services::labelled};
use crate::{
    error::ProxyError,
    exchange::{Origin, Outcome},
    filters,
    metrics::{LabelSet, ResponseOutcome, RouteBackendMetrics, RouteMetrics, RouteStatus, Shard},
    pool::{Carrier, Service},
    telemetry::{Count, Series},
};

/// What is prepared for the requests of one rule.
pub(super) struct RulePlan {
    pub(super) rule: Arc<Rule<HttpRule>>,
    pub(super) metrics: Rc<RouteMetrics>,
    /// As what requests that go to no backend are told to the control plane.
    series: Option<Series>,
    /// At the places that the rule has them.
    pub(super) backends: Vec<Rc<BackendPlan>>,
    pub(super) retry: Option<Rc<Retry>>,
    pub(super) mirrors: Vec<MirrorPlan>,
}

/// One backend of a rule.
pub(super) struct BackendPlan {
    pub(super) backend: Arc<Backend>,
    pub(super) metrics: RouteBackendMetrics,
    /// Of the rule; none for copies.
    route: Option<Rc<RouteMetrics>>,
    /// As what its requests are told to the control plane; none for copies.
    pub(super) series: Option<Series>,
    /// What is done to a request that goes here, after the rule's own filters.
    pub(super) filters: Vec<Filter>,
    /// What is done to the heads of its responses.
    pub(super) response: Vec<HeaderModifier>,
    streams: OnceCell<Rc<Service>>,
    http1: OnceCell<Rc<Service>>,
}

impl std::fmt::Debug for RulePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rule {}", self.rule.route, self.rule.index)
    }
}

impl RulePlan {
    pub(super) fn new(rule: &Arc<Rule<HttpRule>>, resolution: &Resolution) -> Self {
        let shard = &resolution.context.shard;
        let labels = LabelSet::builder()
            .object("parent_", resolution.target.parent())
            .object("route_", &rule.route)
            .label("route_rule", &rule.index.to_string());
        let metrics = Rc::new(RouteMetrics::new(shard, &labels.clone().build(), rule.is_grpc));
        let backends = rule.action.backends.all().map(|route| {
            let mut labels = labels.clone();
            if let Some(object) = labelled(&route.backend) {
                labels = labels.object("backend_", object);
            }
            let every = rule.action.filters.iter().chain(&route.filters);
            Rc::new(BackendPlan {
                backend: Arc::clone(&route.backend),
                metrics: RouteBackendMetrics::new(shard, &labels.build(), rule.is_grpc),
                route: Some(Rc::clone(&metrics)),
                series: resolution.routed(&rule.route, rule.index, labelled(&route.backend)),
                filters: route.filters.clone(),
                response: filters::of_responses(every),
                streams: OnceCell::new(),
                http1: OnceCell::new(),
            })
        });
        let mirrors = rule.action.mirrors.iter();
        Self {
            backends: backends.collect(),
            metrics,
            series: resolution.routed(&rule.route, rule.index, None),
            retry: rule.action.retry.clone().map(Rc::new),
            mirrors: mirrors.map(|mirror| MirrorPlan::new(mirror, resolution)).collect(),
            rule: Arc::clone(rule),
        }
    }

    /// Counts the end of a request.
    pub(super) fn ended(&self, backend: Option<&BackendPlan>, status: RouteStatus, outcome: &Outcome) {
        let took = outcome.started.elapsed();
        self.metrics.ended(status, took);
        if let Some(backend) = backend {
            backend.metrics.ended(status, took);
        }
        let Some(response) = ResponseOutcome::of(outcome) else {
            return;
        };
        self.metrics.seen(&response);
        if let Some(series) = backend.map_or(&self.series, |backend| &backend.series) {
            series.ended(&response);
        }
    }
}

impl BackendPlan {
    /// A backend without filters, beside the rule's own.
    pub(super) fn bare(backend: Arc<Backend>, shard: &Shard, labels: &LabelSet) -> Self {
        Self {
            backend,
            metrics: RouteBackendMetrics::new(shard, labels, false),
            route: None,
            series: None,
            filters: Vec::new(),
            response: Vec::new(),
            streams: OnceCell::new(),
            http1: OnceCell::new(),
        }
    }

    /// Counts an attempt at an endpoint, which had its response's head, or its end, after this time.
    pub(super) fn attempt(&self, success: bool, took: Duration) {
        if let Some(route) = &self.route {
            route.attempt(success, took);
        }
        if let Some(series) = &self.series {
            series.attempt(success);
        }
    }

    /// Tells the control plane of something that happened to a request.
    pub(super) fn tell(&self, count: Count) {
        if let Some(series) = &self.series {
            series.add(count, 1);
        }
    }

    /// What carries requests to this backend: streams of HTTP/2; for HTTP/1 streams to peers of the mesh and connections to others.
    pub(super) fn service(&self, origin: Origin, resolution: &Resolution) -> Result<Rc<Service>, ProxyError> {
        let (cell, carrier) = match origin {
            Origin::Http2 => (&self.streams, Carrier::Streams),
            Origin::Http1 { .. } => (&self.http1, Carrier::AsHinted),
        };
        if let Some(service) = cell.get() {
            return Ok(Rc::clone(service));
        }
        let service = resolution.services.find(&self.backend, carrier)?;
        Ok(Rc::clone(cell.get_or_init(|| service)))
    }
}
