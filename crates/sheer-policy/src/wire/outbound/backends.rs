//! Backends: services that are balanced, single endpoints, and how their endpoints are chosen.

use std::{collections::HashMap, sync::Arc};

use sheer_api::{linkerd::outbound as api, v1};

use super::{Extras, filters, reference};
use crate::{
    ObjectRef,
    outbound::{Affinity, Backend, BackendTarget, Balancing, LoadEstimate, Locality, Mirror, Penalty},
    wire::common,
};

/// Requests under way at each local endpoint before those of other zones take part, where the control plane does not say.
const SPILL_OVER_AT: f64 = 8.0;

impl Extras<'_> {
    pub(super) fn backend(&self, said: api::Backend) -> Arc<Backend> {
        let object = common::object(said.metadata);
        let target = match said.kind {
            Some(api::backend::Kind::Forward(addr)) => match common::endpoint(addr, &HashMap::new()) {
                Some(endpoint) => BackendTarget::Forward(Arc::new(endpoint)),
                None => invalid("the policy names an endpoint without an address"),
            },
            Some(api::backend::Kind::Balancer(balancer)) => balance(balancer),
            None => invalid("the policy names a backend without an address"),
        };
        let queue = said.queue.unwrap_or_default();
        Arc::new(Backend {
            target,
            queue_capacity: usize::try_from(queue.capacity).ok().filter(|capacity| *capacity > 0),
            failfast_timeout: common::duration(queue.failfast_timeout),
            balancing: self.balancing(&object),
            object,
        })
    }

    fn balancing(&self, object: &ObjectRef) -> Balancing {
        let Some(said) = self.backends.get(object) else {
            return Balancing::default();
        };
        use v1::affinity::Key;
        let affinity = said.affinity.as_ref().and_then(|affinity| affinity.key.as_ref());
        Balancing {
            slow_start: common::duration(said.slow_start),
            affinity: affinity.and_then(|key| match key {
                Key::Header(name) => name.parse().ok().map(Affinity::Header),
                Key::Cookie(name) => Some(Affinity::Cookie(name.as_str().into())),
                Key::ClientIp(_) => Some(Affinity::ClientIp),
            }),
            max_ejected_percent: u8::try_from(said.max_ejected_percent)
                .ok()
                .filter(|share| (1..=100).contains(share)),
            locality: said
                .locality
                .as_ref()
                .filter(|locality| !locality.zone.is_empty())
                .map(|locality| Locality {
                    zone: locality.zone.as_str().into(),
                    spill_over_at: if locality.spill_over_at > 0.0 {
                        locality.spill_over_at
                    } else {
                        SPILL_OVER_AT
                    },
                }),
        }
    }

    pub(super) fn mirror(&self, said: &v1::Mirror) -> Mirror {
        let object = reference(said.backend.as_ref());
        let target = BackendTarget::Balance {
            path: said.path.as_str().into(),
            load: LoadEstimate::default(),
        };
        Mirror {
            share: filters::share(said.share),
            backend: Arc::new(Backend {
                balancing: self.balancing(&object),
                object,
                target,
                queue_capacity: None,
                failfast_timeout: None,
            }),
        }
    }
}

fn invalid(why: &str) -> BackendTarget {
    BackendTarget::Invalid { why: why.into() }
}

fn balance(balancer: api::backend::BalanceP2c) -> BackendTarget {
    use api::backend::{balance_p2c::Load, endpoint_discovery};
    let Some(endpoint_discovery::Kind::Dst(discovery)) = balancer.discovery.and_then(|discovery| discovery.kind) else {
        return invalid("the policy names a service without a way to find its endpoints");
    };
    if discovery.path.is_empty() {
        return invalid("the policy names a service without a name");
    }
    let mut load = LoadEstimate::default();
    match balancer.load {
        Some(Load::PeakEwma(said)) => {
            load.default_rtt = common::duration(said.default_rtt).unwrap_or(load.default_rtt);
            load.decay = common::duration(said.decay).unwrap_or(load.decay);
        }
        Some(Load::PenaltyPeakEwma(said)) => {
            load.default_rtt = common::duration(said.default_rtt).unwrap_or(load.default_rtt);
            load.decay = common::duration(said.decay).unwrap_or(load.decay);
            load.penalty = common::duration(said.penalty).map(|penalty| Penalty {
                penalty,
                max_retry_after: common::duration(said.max_retry_after).unwrap_or_default(),
                decay: common::duration(said.penalty_decay).unwrap_or(load.decay),
            });
        }
        None => {}
    }
    BackendTarget::Balance {
        path: discovery.path.into(),
        load,
    }
}

/// A backend that answers every request with an error.
pub(super) fn refusing(why: String) -> Backend {
    Backend {
        object: ObjectRef::default_of("invalid"),
        target: BackendTarget::Invalid { why: why.into() },
        queue_capacity: None,
        failfast_timeout: None,
        balancing: Balancing::default(),
    }
}
