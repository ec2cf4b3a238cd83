//! `HTTPRoute` of Gateway API, and of `policy.linkerd.io` / `policy.sheer.dev` in the same form.

use serde::{Deserialize, Serialize};

use super::{HttpBackendRef, Interval, ObjectMeta, ParentRef, RouteFilter, RouteRetry, SessionPersistence, ValueMatch};

/// Rules for requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Parents and rules.
    pub spec: HttpRouteSpec,
}

/// Parents and rules of an [`HttpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts of requests that it takes; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The rules.
    #[serde(default = "one_rule")]
    pub rules: Vec<HttpRouteRule>,
}

/// As Gateway API: no rules is one rule that takes everything.
fn one_rule() -> Vec<HttpRouteRule> {
    vec![HttpRouteRule::default()]
}

/// One rule of an [`HttpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of them must match; everything does where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,
    /// What is done to requests and responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<RouteFilter>,
    /// Where requests go; nowhere (500) where empty, unless a filter answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,
    /// How long requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
    /// When they are sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RouteRetry>,
    /// Requests of one session go to the same endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

/// What a request has to be like: everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Header fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<ValueMatch>,
    /// Method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// A path to match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathMatch {
    /// How it is compared.
    #[serde(rename = "type", default)]
    pub kind: PathMatchType,
    /// The path, or a regular expression for it.
    #[serde(default = "root")]
    pub value: String,
}

fn root() -> String {
    "/".to_owned()
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "Gateway API's own words")]
pub enum PathMatchType {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

/// How long requests may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTimeouts {
    /// The whole, every attempt included; 0 for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Interval>,
    /// One attempt; 0 for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Interval>,
}
