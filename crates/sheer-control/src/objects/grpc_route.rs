//! `GRPCRoute` of Gateway API.

use serde::{Deserialize, Serialize};

use super::{HttpBackendRef, MatchType, ObjectMeta, ParentRef, RouteFilter, SessionPersistence, ValueMatch};

/// Rules for calls of gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrpcRoute {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Parents and rules.
    pub spec: GrpcRouteSpec,
}

/// Parents and rules of a [`GrpcRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts of calls that it takes; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The rules.
    #[serde(default = "one_rule")]
    pub rules: Vec<GrpcRouteRule>,
}

/// As Gateway API: no rules is one rule that takes everything.
fn one_rule() -> Vec<GrpcRouteRule> {
    vec![GrpcRouteRule::default()]
}

/// One rule of a [`GrpcRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteRule {
    /// Name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of them must match; everything does where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcRouteMatch>,
    /// What is done to calls and answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<RouteFilter>,
    /// Where calls go; nowhere where empty, unless a filter answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,
    /// Calls of one session go to the same endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

/// What a call has to be like: everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrpcRouteMatch {
    /// Service and method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Metadata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
}

/// A method to match; at least one of service and method is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrpcMethodMatch {
    /// How names are compared.
    #[serde(rename = "type", default)]
    pub kind: MatchType,
    /// Every service where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Every method where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}
