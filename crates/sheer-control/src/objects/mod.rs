//! Kubernetes-shaped objects, narrowed to the fields that Sheer honours.
//!
//! Owned by nobody: plain data that sources fill in and everything else reads. A field that stands here is honoured somewhere; a
//! field that does not is named to the user by [`crate::manifests`], so do not add one "for later".

mod access;
mod annotations;
mod app_protocol;
mod grpc_route;
mod http_route;
mod interval;
mod meta;
mod policy;
mod profile;
mod route;
mod service;
mod stream_route;
pub(crate) mod traffic;
mod traffic_policy;
mod workload;

use std::{fmt, sync::Arc};

pub use access::{
    HttpLocalRateLimitPolicy, HttpLocalRateLimitPolicySpec, RateLimitOverride, RequestRate, ServerAuthorization,
    ServerAuthorizationSpec, ServerClients, ServerMeshTls, ServerRef, ServiceAccountRef,
};
pub use annotations::{PortRange, annotation, parse_cores, parse_networks, parse_ports, parse_publish, parse_weight};
pub use app_protocol::AppProtocol;
pub use grpc_route::{GrpcMethodMatch, GrpcRoute, GrpcRouteMatch, GrpcRouteRule, GrpcRouteSpec};
pub use http_route::{
    HttpRoute, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, PathMatch, PathMatchType, RouteTimeouts,
};
pub use interval::Interval;
pub use meta::{IntOrString, LabelSelector, Labels, ObjectMeta, Requirement, SelectorOperator};
pub use policy::{
    AuthenticationRef, AuthorizationPolicy, AuthorizationPolicySpec, MeshTlsAuthentication, MeshTlsAuthenticationSpec,
    Network, NetworkAuthentication, NetworkAuthenticationSpec, ProxyProtocol, Server, ServerSpec, TargetRef,
};
pub use profile::{
    DstOverride, ProfileBudget, ProfileRoute, Quantity, RequestCondition, ResponseClass, ResponseCondition,
    ServiceProfile, ServiceProfileSpec, StatusRange,
};
pub use route::{
    BackendRef, ExtensionRef, FilterType, Fraction, GATEWAY_GROUP, Header, HeaderModifier, HttpBackendRef, MatchType,
    ParentRef, PathModifier, PathModifierType, RequestMirror, RequestRedirect, RouteFilter, RouteRetry,
    SessionPersistence, SessionType, UrlRewrite, ValueMatch,
};
use serde::{Deserialize, Serialize};
pub use service::{Service, ServicePort, ServiceSpec};
pub use stream_route::{StreamRouteRule, TcpRoute, TcpRouteSpec, TlsRoute, TlsRouteSpec};
pub use traffic::Traffic;
pub use traffic_policy::{
    EgressNetwork, EgressNetworkSpec, FaultAbort, FaultDelay, GrantFrom, GrantTo, HttpFault, HttpFaultSpec,
    ReferenceGrant, ReferenceGrantSpec, TrafficPolicy,
};
pub use workload::{
    Container, ContainerPort, Deployment, EnvVar, ExecAction, FieldRef, GrpcAction, HttpGetAction, Pod, PodCondition,
    PodIp, PodSpec, PodStatus, PodTemplate, Probe, StatefulSet, TcpSocketAction, TemplateMeta, ValueFrom, WorkloadSpec,
};

/// A namespace: only its annotations matter (they are defaults for what is in it).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
}

/// A service account: the identity of the pods that run as it. Pods may name one that no file declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
}

/// The kinds that Sheer honours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1 Namespace`
    Namespace,
    /// `v1 ServiceAccount`
    ServiceAccount,
    /// `v1 Service`
    Service,
    /// `v1 Pod`
    Pod,
    /// `apps/v1 Deployment`
    Deployment,
    /// `apps/v1 StatefulSet`
    StatefulSet,
    /// `policy.sheer.dev Server`
    Server,
    /// `policy.sheer.dev AuthorizationPolicy`
    AuthorizationPolicy,
    /// `policy.sheer.dev MeshTLSAuthentication`
    MeshTlsAuthentication,
    /// `policy.sheer.dev NetworkAuthentication`
    NetworkAuthentication,
    /// `policy.sheer.dev HTTPLocalRateLimitPolicy`
    HttpLocalRateLimitPolicy,
    /// `policy.sheer.dev ServerAuthorization`
    ServerAuthorization,
    /// `gateway.networking.k8s.io HTTPRoute`
    HttpRoute,
    /// `policy.sheer.dev HTTPRoute`
    PolicyHttpRoute,
    /// `gateway.networking.k8s.io GRPCRoute`
    GrpcRoute,
    /// `gateway.networking.k8s.io TLSRoute`
    TlsRoute,
    /// `gateway.networking.k8s.io TCPRoute`
    TcpRoute,
    /// `gateway.networking.k8s.io ReferenceGrant`
    ReferenceGrant,
    /// `policy.sheer.dev EgressNetwork`
    EgressNetwork,
    /// `policy.sheer.dev HTTPFault`
    HttpFault,
    /// `linkerd.io ServiceProfile`
    ServiceProfile,
}

impl Kind {
    /// The kind as manifests spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::Server => "Server",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::MeshTlsAuthentication => "MeshTLSAuthentication",
            Self::NetworkAuthentication => "NetworkAuthentication",
            Self::HttpLocalRateLimitPolicy => "HTTPLocalRateLimitPolicy",
            Self::ServerAuthorization => "ServerAuthorization",
            Self::HttpRoute | Self::PolicyHttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::EgressNetwork => "EgressNetwork",
            Self::HttpFault => "HTTPFault",
            Self::ServiceProfile => "ServiceProfile",
        }
    }

    /// The `apiVersion` under which Sheer writes the kind.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::ServiceAccount | Self::Service | Self::Pod => "v1",
            Self::Deployment | Self::StatefulSet => "apps/v1",
            Self::Server | Self::PolicyHttpRoute => "policy.sheer.dev/v1beta3",
            Self::AuthorizationPolicy
            | Self::MeshTlsAuthentication
            | Self::NetworkAuthentication
            | Self::HttpLocalRateLimitPolicy
            | Self::EgressNetwork
            | Self::HttpFault => "policy.sheer.dev/v1alpha1",
            Self::ServerAuthorization => "policy.sheer.dev/v1beta1",
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io/v1",
            Self::TlsRoute | Self::TcpRoute => "gateway.networking.k8s.io/v1alpha2",
            Self::ReferenceGrant => "gateway.networking.k8s.io/v1beta1",
            Self::ServiceProfile => "linkerd.io/v1alpha2",
        }
    }
}

impl Kind {
    /// The API group under which Sheer writes the kind; empty for the core.
    pub fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether the kind is read from a group: policies are in Linkerd's as well as in Sheer's own.
    pub fn is_of(self, group: &str) -> bool {
        let own = self.group();
        own == group || (own == POLICY_GROUP && group == LINKERD_POLICY_GROUP)
    }
}

/// Sheer's own policies.
const POLICY_GROUP: &str = "policy.sheer.dev";
/// Linkerd's, which mean the same.
const LINKERD_POLICY_GROUP: &str = "policy.linkerd.io";

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What makes an object unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for a [`Namespace`].
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Any object that Sheer honours. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the type of its name")]
pub enum Object {
    Namespace(Arc<Namespace>),
    ServiceAccount(Arc<ServiceAccount>),
    Service(Arc<Service>),
    Pod(Arc<Pod>),
    Deployment(Arc<Deployment>),
    StatefulSet(Arc<StatefulSet>),
    Server(Arc<Server>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    MeshTlsAuthentication(Arc<MeshTlsAuthentication>),
    NetworkAuthentication(Arc<NetworkAuthentication>),
    HttpLocalRateLimitPolicy(Arc<HttpLocalRateLimitPolicy>),
    ServerAuthorization(Arc<ServerAuthorization>),
    HttpRoute(Arc<HttpRoute>),
    PolicyHttpRoute(Arc<HttpRoute>),
    GrpcRoute(Arc<GrpcRoute>),
    TlsRoute(Arc<TlsRoute>),
    TcpRoute(Arc<TcpRoute>),
    ReferenceGrant(Arc<ReferenceGrant>),
    EgressNetwork(Arc<EgressNetwork>),
    HttpFault(Arc<HttpFault>),
    ServiceProfile(Arc<ServiceProfile>),
}

impl Object {
    /// The object's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Service(_) => Kind::Service,
            Self::Pod(_) => Kind::Pod,
            Self::Deployment(_) => Kind::Deployment,
            Self::StatefulSet(_) => Kind::StatefulSet,
            Self::Server(_) => Kind::Server,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::MeshTlsAuthentication(_) => Kind::MeshTlsAuthentication,
            Self::NetworkAuthentication(_) => Kind::NetworkAuthentication,
            Self::HttpLocalRateLimitPolicy(_) => Kind::HttpLocalRateLimitPolicy,
            Self::ServerAuthorization(_) => Kind::ServerAuthorization,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::PolicyHttpRoute(_) => Kind::PolicyHttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::TlsRoute(_) => Kind::TlsRoute,
            Self::TcpRoute(_) => Kind::TcpRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::EgressNetwork(_) => Kind::EgressNetwork,
            Self::HttpFault(_) => Kind::HttpFault,
            Self::ServiceProfile(_) => Kind::ServiceProfile,
        }
    }

    /// Name, namespace, labels, annotations.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(o) => &o.metadata,
            Self::ServiceAccount(o) => &o.metadata,
            Self::Service(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Deployment(o) => &o.metadata,
            Self::StatefulSet(o) => &o.metadata,
            Self::Server(o) => &o.metadata,
            Self::AuthorizationPolicy(o) => &o.metadata,
            Self::MeshTlsAuthentication(o) => &o.metadata,
            Self::NetworkAuthentication(o) => &o.metadata,
            Self::HttpLocalRateLimitPolicy(o) => &o.metadata,
            Self::ServerAuthorization(o) => &o.metadata,
            Self::HttpRoute(o) | Self::PolicyHttpRoute(o) => &o.metadata,
            Self::GrpcRoute(o) => &o.metadata,
            Self::TlsRoute(o) => &o.metadata,
            Self::TcpRoute(o) => &o.metadata,
            Self::ReferenceGrant(o) => &o.metadata,
            Self::EgressNetwork(o) => &o.metadata,
            Self::HttpFault(o) => &o.metadata,
            Self::ServiceProfile(o) => &o.metadata,
        }
    }

    /// What makes the object unique.
    pub fn id(&self) -> ObjectId {
        let (kind, metadata) = (self.kind(), self.metadata());
        let namespace = if kind == Kind::Namespace {
            String::new()
        } else {
            metadata.namespace.clone()
        };
        ObjectId {
            kind,
            namespace,
            name: metadata.name.clone(),
        }
    }

    /// The object as a manifest, with `apiVersion` and `kind`: what status files hold.
    pub fn to_manifest(&self) -> serde_json::Value {
        let body = match self {
            Self::Namespace(o) => serde_json::to_value(o),
            Self::ServiceAccount(o) => serde_json::to_value(o),
            Self::Service(o) => serde_json::to_value(o),
            Self::Pod(o) => serde_json::to_value(o),
            Self::Deployment(o) => serde_json::to_value(o),
            Self::StatefulSet(o) => serde_json::to_value(o),
            Self::Server(o) => serde_json::to_value(o),
            Self::AuthorizationPolicy(o) => serde_json::to_value(o),
            Self::MeshTlsAuthentication(o) => serde_json::to_value(o),
            Self::NetworkAuthentication(o) => serde_json::to_value(o),
            Self::HttpLocalRateLimitPolicy(o) => serde_json::to_value(o),
            Self::ServerAuthorization(o) => serde_json::to_value(o),
            Self::HttpRoute(o) | Self::PolicyHttpRoute(o) => serde_json::to_value(o),
            Self::GrpcRoute(o) => serde_json::to_value(o),
            Self::TlsRoute(o) => serde_json::to_value(o),
            Self::TcpRoute(o) => serde_json::to_value(o),
            Self::ReferenceGrant(o) => serde_json::to_value(o),
            Self::EgressNetwork(o) => serde_json::to_value(o),
            Self::HttpFault(o) => serde_json::to_value(o),
            Self::ServiceProfile(o) => serde_json::to_value(o),
        };
        let mut body = body.expect("objects have string keys and finite numbers, so they always become JSON");
        body["apiVersion"] = self.kind().api_version().into();
        body["kind"] = self.kind().as_str().into();
        body
    }
}
