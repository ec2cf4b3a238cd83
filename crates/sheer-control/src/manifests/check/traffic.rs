//! Annotations that are right each by itself, and together useless or contradictory.

use super::Checker;
use crate::objects::{Kind, Labels, Object, Service, Traffic, annotation, traffic::TimeoutSettings};

impl Checker {
    /// What annotations of an object do together.
    pub(super) fn traffic(&mut self, object: &Object) {
        let annotations = &object.metadata().annotations;
        if annotations.is_empty() {
            return;
        }
        self.within("metadata", |c| {
            c.within("annotations", |c| {
                let settings = Traffic::read(annotations);
                c.retries(object.kind(), annotations, &settings);
                c.breaking(annotations, &settings);
                c.balancing(annotations, &settings);
                if let Some(hedge) = &settings.hedge {
                    if hedge.max_attempts < 2 {
                        c.useless(annotations, "hedge", "max-attempts", "below 2: nothing is hedged");
                    }
                } else {
                    c.useless(
                        annotations,
                        "hedge",
                        "max-attempts",
                        "of no effect without hedge.sheer.dev/delay",
                    );
                }
            });
        });
    }

    /// Warns at an annotation, where it is there.
    fn useless(&mut self, annotations: &Labels, scope: &str, name: &str, message: &str) {
        let keys = annotations.keys().filter(|key| {
            let found = key.split_once('/').filter(|(_, found)| *found == name);
            found.is_some_and(|(domain, _)| {
                let plain = domain
                    .strip_suffix("sheer.dev")
                    .or_else(|| domain.strip_suffix("linkerd.io"));
                plain.is_some_and(|plain| plain.trim_end_matches('.').trim_end_matches(".alpha") == scope)
            })
        });
        let keys: Vec<String> = keys.cloned().collect();
        for key in keys {
            self.warning(&key, message);
        }
    }

    fn retries(&mut self, kind: Kind, annotations: &Labels, settings: &Traffic) {
        let timeouts = settings.timeouts.unwrap_or_default();
        if let Some(retry) = &settings.retry {
            if retry.statuses.is_empty() && retry.grpc_codes.is_empty() {
                let message = "names no answers to retry, and neither does retry.*/http or retry.*/grpc: only requests that were not answered at all are sent again";
                self.useless(annotations, "retry", "limit", message);
                self.useless(annotations, "retry", "timeout", message);
            }
            if retry.limit == 0 {
                self.useless(annotations, "retry", "limit", "0: nothing is sent again");
            }
            if kind == Kind::GrpcRoute && !retry.statuses.is_empty() {
                let message = "of no effect on a GRPCRoute: gRPC fails with status 200; write retry.*/grpc";
                self.useless(annotations, "retry", "http", message);
            }
            if let (Some(one), Some(whole)) = (retry.timeout, timeouts.request)
                && one >= whole
            {
                let message = "not shorter than timeout.*/request: the request ends before a second attempt can begin";
                self.useless(annotations, "retry", "timeout", message);
            }
        }
        let TimeoutSettings { request, response, .. } = timeouts;
        if let (Some(response), Some(request)) = (response, request)
            && response >= request
        {
            self.useless(
                annotations,
                "timeout",
                "response",
                "not shorter than timeout.*/request: it never counts",
            );
        }
    }

    fn breaking(&mut self, annotations: &Labels, settings: &Traffic) {
        let consecutive = ["max-failures", "min-penalty", "max-penalty", "jitter-ratio"];
        let rate = ["threshold", "window", "min-requests"];
        let rate_names = rate.map(|name| format!("failure-accrual-success-rate-{name}"));
        match &settings.accrual {
            None => {
                let message = "of no effect without balancer.*/failure-accrual: no endpoint ever sits out";
                for name in consecutive
                    .map(|name| format!("failure-accrual-consecutive-{name}"))
                    .iter()
                    .chain(&rate_names)
                {
                    self.useless(annotations, "balancer", name, message);
                }
                for name in ["failure-accrual-honor-retry-after", "max-ejected-percent"] {
                    self.useless(annotations, "balancer", name, message);
                }
            }
            Some(accrual) => {
                if accrual.success_rate.is_none() {
                    for name in &rate_names {
                        let message = "of no effect with failure-accrual: consecutive; write unified for the success rate to count";
                        self.useless(annotations, "balancer", name, message);
                    }
                }
                if accrual.min_penalty > accrual.max_penalty {
                    let message = "max-penalty (60s where nothing is said) is shorter than min-penalty: an endpoint sits out for the latter";
                    self.useless(
                        annotations,
                        "balancer",
                        "failure-accrual-consecutive-max-penalty",
                        message,
                    );
                    self.useless(
                        annotations,
                        "balancer",
                        "failure-accrual-consecutive-min-penalty",
                        message,
                    );
                }
                if accrual.max_failures == 0 && accrual.success_rate.is_none() {
                    let message = "0: no endpoint ever sits out";
                    self.useless(
                        annotations,
                        "balancer",
                        "failure-accrual-consecutive-max-failures",
                        message,
                    );
                }
            }
        }
    }

    fn balancing(&mut self, annotations: &Labels, settings: &Traffic) {
        if settings.penalty.is_none() {
            for name in ["load-biaser-penalty", "load-biaser-max-retry-after"] {
                let message = "of no effect without balancer.*/penalize-failures";
                self.useless(annotations, "balancer", name, message);
            }
        }
        if annotation(annotations, "balancer", "session-affinity-header").is_some() {
            let message = "of no effect beside balancer.sheer.dev/session-affinity-header, which counts";
            self.useless(annotations, "balancer", "session-affinity-cookie", message);
        }
        if settings.same_zone == Some(false) {
            let message = "of no effect with balancer.sheer.dev/locality: none";
            self.useless(annotations, "balancer", "locality-spill-over", message);
        }
    }

    pub(super) fn session_affinity(&mut self, service: &Service) {
        let settings = Traffic::read(&service.metadata.annotations);
        match service.spec.session_affinity.as_deref() {
            None | Some("None") => {}
            Some("ClientIP") if settings.affinity.is_some() => {
                self.warning(
                    "sessionAffinity",
                    "of no effect beside the annotation balancer.sheer.dev/session-affinity-*, which counts",
                );
            }
            Some("ClientIP") => {}
            Some(other) => self.error("sessionAffinity", format!("{other:?} is neither None nor ClientIP")),
        }
        match service.spec.traffic_distribution.as_deref() {
            None | Some("PreferClose" | "PreferSameZone") => {}
            Some("PreferSameNode") => self.warning(
                "trafficDistribution",
                "treated as PreferSameZone: nodes are not told apart",
            ),
            Some(other) => self.warning(
                "trafficDistribution",
                format!("{other:?} is not known: endpoints are chosen whatever their zone"),
            ),
        }
        let asks = service.spec.traffic_distribution.is_some() || settings.same_zone == Some(true);
        if !asks && settings.spill_over.is_some() {
            self.within_root(&["metadata", "annotations"], |c| {
                c.warning(
                    "balancer.sheer.dev/locality-spill-over",
                    "of no effect without balancer.sheer.dev/locality: same-zone or spec.trafficDistribution",
                );
            });
        }
    }

    /// Checks something of another part of the object.
    fn within_root(&mut self, path: &[&str], check: impl FnOnce(&mut Self)) {
        use crate::manifests::tree::Step;
        let path = path.iter().map(|key| Step::Key((*key).to_owned())).collect();
        let here = std::mem::replace(&mut self.path, path);
        check(self);
        self.path = here;
    }
}
