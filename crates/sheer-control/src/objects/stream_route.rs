//! `TLSRoute` and `TCPRoute` of Gateway API.

use serde::{Deserialize, Serialize};

use super::{BackendRef, ObjectMeta, ParentRef};

/// Rules for connections of TLS that is the application's own, by server name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlsRoute {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Parents and rules.
    pub spec: TlsRouteSpec,
}

/// Parents and rules of a [`TlsRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Server names of connections that it takes; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The first is taken.
    pub rules: Vec<StreamRouteRule>,
}

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Parents and rules.
    pub spec: TcpRouteSpec,
}

/// Parents and rules of a [`TcpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpRouteSpec {
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// The first is taken.
    pub rules: Vec<StreamRouteRule>,
}

/// One rule of a [`TlsRoute`] or [`TcpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRouteRule {
    /// Name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where connections go; they are refused where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
}
