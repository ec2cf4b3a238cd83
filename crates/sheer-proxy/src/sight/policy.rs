//! What discovery holds of a destination, as the policy that explains it.

use std::sync::Arc;

use sheer_policy::outbound::{
    self, BackendTarget, Backends, HttpPolicy, HttpRule, LoadEstimate, OutboundPolicy, RouteBackend, StreamRule,
};
use sheer_policy::routes::{Routes, Rule};

use crate::discovery::{Backend, ObjectRef, OutboundTarget};

/// The policy of a target: one rule for everything.
pub(super) fn of(target: &OutboundTarget) -> Arc<OutboundPolicy> {
    let backends = Backends::First(vec![RouteBackend {
        backend: Arc::new(backend(target)),
        filters: Vec::new(),
    }]);
    let rule = Rule {
        route: ObjectRef::default_of("http"),
        index: 0,
        is_grpc: false,
        hosts: Arc::default(),
        matches: Vec::new(),
        action: HttpRule {
            backends: backends.clone(),
            ..HttpRule::default()
        },
    };
    let http = HttpPolicy {
        routes: Arc::new(Routes::new(vec![rule])),
        accrual: None,
    };
    let stream = StreamRule {
        route: ObjectRef::default_of("opaq"),
        server_names: Vec::new(),
        refuses: None,
        backends,
    };
    Arc::new(OutboundPolicy {
        parent: target.parent.clone(),
        protocol: target.protocol,
        http1: http.clone(),
        http2: http,
        opaque: Arc::new([stream.clone()]),
        tls: Arc::new([stream]),
        budget: outbound::RetryBudget::default(),
    })
}

fn backend(target: &OutboundTarget) -> outbound::Backend {
    let (object, to) = match &target.backend {
        Backend::Forward(endpoint) => (target.parent.clone(), BackendTarget::Forward(Arc::clone(endpoint))),
        Backend::Balance {
            path,
            backend,
            default_rtt,
            decay,
            ..
        } => {
            let load = LoadEstimate {
                default_rtt: *default_rtt,
                decay: *decay,
                penalty: None,
            };
            (
                backend.clone(),
                BackendTarget::Balance {
                    path: Arc::clone(path),
                    load,
                },
            )
        }
        Backend::None { why } => (target.parent.clone(), BackendTarget::Invalid { why: Arc::clone(why) }),
    };
    outbound::Backend {
        object,
        target: to,
        queue_capacity: None,
        failfast_timeout: None,
        balancing: outbound::Balancing::default(),
    }
}
