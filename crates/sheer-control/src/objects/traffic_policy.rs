//! What stands beside routes: grants for references across namespaces, traffic that leaves the mesh, faults to inject.

use serde::{Deserialize, Serialize};

use super::{Interval, Network, ObjectMeta};

/// Lets routes of other namespaces name objects of this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceGrant {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Who, and what.
    pub spec: ReferenceGrantSpec,
}

/// Who may name what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReferenceGrantSpec {
    /// Who: one of them.
    pub from: Vec<GrantFrom>,
    /// What: one of them.
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrantFrom {
    /// API group of the route.
    pub group: String,
    /// Kind of the route.
    pub kind: String,
    /// Namespace of the route.
    pub namespace: String,
}

/// What may be referred to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrantTo {
    /// API group; empty or `core` for a Service.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Every object of the kind where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Addresses outside the mesh, to which routes can be attached. For the clients of its namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EgressNetwork {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Which addresses, and what becomes of traffic that no route takes.
    pub spec: EgressNetworkSpec,
}

/// Which addresses, and what becomes of traffic that no route takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressNetworkSpec {
    /// Everything that is not of the cluster where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
    /// What becomes of traffic that no route takes.
    pub traffic_policy: TrafficPolicy,
}

/// What becomes of traffic that no route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "Linkerd's own words")]
pub enum TrafficPolicy {
    Allow,
    Deny,
}

/// Faults to inject, for testing applications: an `ExtensionRef` filter of a route names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpFault {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// The faults.
    pub spec: HttpFaultSpec,
}

/// The faults of an [`HttpFault`]: the delay first, then the abort, each by its own share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpFaultSpec {
    /// Waits before the request is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Answers instead of sending the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

/// A delay to inject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultDelay {
    /// How long.
    pub duration: Interval,
    /// Share of requests, 0–100; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
}

/// A failure to inject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultAbort {
    /// The answer's status, 200–599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The answer's gRPC code, 1–16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_code: Option<u16>,
    /// Share of requests, 0–100; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Told to the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
