//! Who may come in at a workload's port.

use std::sync::Arc;

use crate::{ObjectRef, ProtocolPlan, outbound::Filter, routes::Routes};

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
    pub rate_limit: Option<Arc<RateLimit>>,
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
