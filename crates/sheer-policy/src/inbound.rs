//! Who may come in at a workload's port.

use std::sync::Arc;

use crate::{ObjectRef, ProtocolPlan, limit::Limiter, outbound::Filter, routes::Routes};

/// What an inbound port allows and how it speaks.
#[derive(Clone, Debug)]
pub struct InboundPolicy {
    /// How to find out the protocol.
    pub protocol: ProtocolPlan,
    /// Who may come in; nobody where empty. The first that matches wins.
    pub authorizations: Vec<Authorization>,
    /// The Server (`srv_*` labels).
    pub server: ObjectRef,
    /// Routes of HTTP and gRPC: each extends who may come in, for the requests that it takes. A request that none takes is answered 404.
    /// Empty where the control plane sends none: then every request is taken.
    pub routes: Arc<Routes<InboundRule>>,
    /// How much may come in.
    pub rate_limit: Option<Arc<Limiter>>,
}

impl InboundPolicy {
    /// Takes over the buckets of the policy that was in force, where the limit is the same: another edit of the policy is no fresh start.
    pub fn take_over_limits(&mut self, before: &Self) {
        if let (Some(now), Some(before)) = (&mut self.rate_limit, &before.rate_limit)
            && ***before == ***now
        {
            *now = Arc::clone(before);
        }
    }
}

/// One rule of a route of a Server.
#[derive(Clone, Debug)]
pub struct InboundRule {
    /// Who may send these requests, beside those that the Server lets in. Shared by all rules of a route.
    pub authorizations: Arc<[Authorization]>,
    /// What is done to the request, in order.
    pub filters: Vec<Filter>,
}

/// One rule of who may come in.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// Client networks, each with exceptions.
    pub networks: Vec<(ipnet::IpNet, Vec<ipnet::IpNet>)>,
    /// Required identity.
    pub authentication: Authentication,
    /// The policy that this came from (`authz_*` labels).
    pub policy: ObjectRef,
}

/// What a client has to prove.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nothing.
    Unauthenticated,
    /// mTLS with any identity of the mesh, or none (`MeshTLS: unauthenticated`).
    MeshTlsAny,
    /// mTLS with one of these identities, or one that ends in one of these suffixes.
    MeshTls {
        /// Whole names.
        identities: Vec<String>,
        /// Suffixes, each a list of labels; an empty list matches every identity.
        suffixes: Vec<Vec<String>>,
    },
}

/// How many requests a second a port takes (`HTTPLocalRateLimitPolicy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The policy.
    pub policy: ObjectRef,
    /// Of all clients together, requests a second.
    pub total: Option<u32>,
    /// Of each client identity, requests a second.
    pub identity: Option<u32>,
    /// Instead of `identity`, for these clients.
    pub overrides: Vec<RateOverride>,
}

/// A limit for some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateOverride {
    /// Requests a second, of these clients together.
    pub requests_per_second: u32,
    /// Their identities.
    pub identities: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn limited(authorizations: Vec<Authorization>, per_second: u32) -> InboundPolicy {
        InboundPolicy {
            protocol: ProtocolPlan::Http2,
            authorizations,
            server: ObjectRef::default(),
            routes: Arc::default(),
            rate_limit: Some(Arc::new(Limiter::new(RateLimit {
                policy: ObjectRef::default(),
                total: Some(per_second),
                identity: None,
                overrides: Vec::new(),
            }))),
        }
    }

    /// Whether a client is let in now.
    fn take(policy: &InboundPolicy, now: Instant) -> bool {
        let limiter = policy.rate_limit.as_ref().expect("a limit");
        limiter.client(None, |_| false, now).take(now).is_ok()
    }

    #[test]
    fn another_edit_of_the_policy_is_no_fresh_start_for_who_is_past_the_limit() {
        let now = Instant::now();
        let before = limited(Vec::new(), 1);
        assert!(take(&before, now) && !take(&before, now));
        let rule = Authorization {
            networks: Vec::new(),
            authentication: Authentication::Unauthenticated,
            policy: ObjectRef::default(),
        };
        let mut edited = limited(vec![rule], 1);
        edited.take_over_limits(&before);
        assert!(!take(&edited, now));
        let mut raised = limited(Vec::new(), 2);
        raised.take_over_limits(&before);
        assert!(take(&raised, now), "a changed limit starts anew");
    }
}
