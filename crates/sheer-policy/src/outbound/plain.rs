//! Policies without conditions: what holds where a control plane says less than a whole policy.

use std::sync::Arc;

use super::{
    Backend, BackendTarget, Backends, Balancing, HttpPolicy, HttpRule, LoadEstimate, OutboundPolicy, RetryBudget,
    RouteBackend, StreamRule,
};
use crate::{
    Endpoint, ObjectRef, ProtocolPlan,
    routes::{Routes, Rule},
};

impl OutboundPolicy {
    /// Everything goes to one backend, whatever is spoken.
    pub fn plain(parent: ObjectRef, protocol: ProtocolPlan, backend: Backend) -> Self {
        let backend = Arc::new(backend);
        let http = HttpPolicy::plain(&backend);
        Self {
            parent,
            protocol,
            http1: http.clone(),
            http2: http,
            opaque: Arc::new([StreamRule::plain("opaque", &backend)]),
            tls: Arc::new([StreamRule::plain("tls", &backend)]),
            budget: RetryBudget::default(),
        }
    }
}

impl HttpPolicy {
    /// Every request goes to one backend.
    pub fn plain(backend: &Arc<Backend>) -> Self {
        let rule = Rule {
            route: ObjectRef::default_of("http"),
            index: 0,
            is_grpc: false,
            hosts: Arc::default(),
            matches: Vec::new(),
            action: HttpRule {
                backends: Backends::only(backend),
                ..HttpRule::default()
            },
        };
        Self {
            routes: Arc::new(Routes::new(vec![rule])),
            accrual: None,
        }
    }
}

impl StreamRule {
    /// Every connection goes to one backend.
    pub fn plain(route: &str, backend: &Arc<Backend>) -> Self {
        Self {
            route: ObjectRef::default_of(route),
            server_names: Vec::new(),
            refuses: None,
            backends: Backends::only(backend),
        }
    }
}

impl Backends {
    /// One backend.
    pub fn only(backend: &Arc<Backend>) -> Self {
        Self::First(vec![RouteBackend {
            backend: Arc::clone(backend),
            filters: Vec::new(),
        }])
    }

    /// Every backend.
    pub fn all(&self) -> impl Iterator<Item = &RouteBackend> {
        let (first, weighted): (&[_], &[_]) = match self {
            Self::None => (&[], &[]),
            Self::First(backends) => (backends, &[]),
            Self::Weighted(backends) => (&[], backends),
        };
        first.iter().chain(weighted.iter().map(|(backend, _)| backend))
    }

    /// Every backend, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut RouteBackend> {
        let (first, weighted): (&mut [_], &mut [_]) = match self {
            Self::None => (&mut [], &mut []),
            Self::First(backends) => (backends, &mut []),
            Self::Weighted(backends) => (&mut [], backends),
        };
        first.iter_mut().chain(weighted.iter_mut().map(|(backend, _)| backend))
    }
}

impl Backend {
    /// The endpoints of a service.
    pub fn balanced(object: ObjectRef, path: &str) -> Self {
        let target = BackendTarget::Balance {
            path: path.into(),
            load: LoadEstimate::default(),
        };
        Self::to(object, target)
    }

    /// One endpoint.
    pub fn forward(endpoint: Endpoint) -> Self {
        Self::to(
            ObjectRef::default_of("forward"),
            BackendTarget::Forward(Arc::new(endpoint)),
        )
    }

    fn to(object: ObjectRef, target: BackendTarget) -> Self {
        Self {
            object,
            target,
            queue_capacity: None,
            failfast_timeout: None,
            balancing: Balancing::default(),
        }
    }
}
