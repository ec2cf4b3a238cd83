//! How much may come in, and Linkerd's older form of who may. Groups `policy.sheer.dev` and `policy.linkerd.io`, the same fields.

use serde::{Deserialize, Serialize};

use super::{AuthenticationRef, LabelSelector, Network, ObjectMeta, TargetRef};

/// How many requests a second a Server takes, of each of its proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpLocalRateLimitPolicy {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Of what, and how many.
    pub spec: HttpLocalRateLimitPolicySpec,
}

/// Of what, and how many, an [`HttpLocalRateLimitPolicy`] allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpLocalRateLimitPolicySpec {
    /// A Server.
    pub target_ref: TargetRef,
    /// Of all clients together; no bound where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<RequestRate>,
    /// Of each client identity; no bound where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<RequestRate>,
    /// Instead of `identity`, for some clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<RateLimitOverride>,
}

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRate {
    /// Above 0.
    pub requests_per_second: u32,
}

/// A rate for some clients together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitOverride {
    /// Above 0.
    pub requests_per_second: u32,
    /// Their ServiceAccounts.
    pub client_refs: Vec<AuthenticationRef>,
}

/// Lets clients in at some Servers. Linkerd's form before `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerAuthorization {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Where, and whom.
    pub spec: ServerAuthorizationSpec,
}

/// Where, and whom, a [`ServerAuthorization`] lets in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerAuthorizationSpec {
    /// The Servers.
    pub server: ServerRef,
    /// The clients.
    pub client: ServerClients,
}

/// Servers by name or by their labels: one of the two is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerRef {
    /// Of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

impl ServerRef {
    /// Whether a Server of the same namespace is meant.
    pub fn means(&self, server: &ObjectMeta) -> bool {
        self.name.as_ref().is_some_and(|name| *name == server.name)
            || self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&server.labels))
    }
}

/// Clients of a [`ServerAuthorization`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerClients {
    /// From these networks; from anywhere where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Whoever it is.
    #[serde(default)]
    pub unauthenticated: bool,
    /// Who has proved an identity.
    #[serde(rename = "meshTLS", default, skip_serializing_if = "Option::is_none")]
    pub mesh_tls: Option<ServerMeshTls>,
}

/// Clients that speak mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerMeshTls {
    /// With any identity, or none.
    #[serde(rename = "unauthenticatedTLS", default)]
    pub unauthenticated_tls: bool,
    /// `*`, `*.suffix`, or whole identities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// ServiceAccounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<ServiceAccountRef>,
}

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAccountRef {
    /// Name.
    pub name: String,
    /// The object's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
