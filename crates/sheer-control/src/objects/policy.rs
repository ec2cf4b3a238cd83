//! Who may talk to whom. Groups `policy.sheer.dev` and `policy.linkerd.io`, the same fields.

use serde::{Deserialize, Serialize};

use super::{IntOrString, Kind, LabelSelector, ObjectMeta};

/// A port of some pods, to which policies can be attached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Which port of which pods.
    pub spec: ServerSpec,
}

/// Which port of which pods, and how it speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSpec {
    /// The pods.
    pub pod_selector: LabelSelector,
    /// The port, by number or by the name of a container's port.
    pub port: IntOrString,
    /// What is spoken; detected where absent.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// The default policy where no AuthorizationPolicy lets a client in; `deny` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_policy: Option<String>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyProtocol {
    /// Detected.
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
    /// HTTP/1.
    #[serde(rename = "HTTP/1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "HTTP/2")]
    Http2,
    /// gRPC.
    #[serde(rename = "gRPC")]
    Grpc,
    /// Never inspected.
    #[serde(rename = "opaque")]
    Opaque,
    /// The application's own TLS, passed through.
    #[serde(rename = "TLS")]
    Tls,
}

/// Lets clients in that fulfil every authentication that it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationPolicy {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// To what, and whom.
    pub spec: AuthorizationPolicySpec,
}

/// To what, and whom, an [`AuthorizationPolicy`] lets in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicySpec {
    /// A Server, a route of a Server, or a Namespace (all its Servers).
    pub target_ref: TargetRef,
    /// All of them must be fulfilled; none needed where empty.
    #[serde(default)]
    pub required_authentication_refs: Vec<AuthenticationRef>,
}

/// What a policy is attached to, in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetRef {
    /// API group; `policy.sheer.dev`, `policy.linkerd.io`, `gateway.networking.k8s.io`, or empty / `core` for a Namespace.
    #[serde(default)]
    pub group: String,
    /// `Server`, `HTTPRoute`, `GRPCRoute` or `Namespace`.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl TargetRef {
    /// Whether a route of this kind and name, in the policy's namespace, is meant.
    pub fn means_route(&self, kind: Kind, name: &str) -> bool {
        self.route_kind() == Some(kind) && self.name == name
    }

    /// The kind of route that is meant; `None` where it is something else.
    pub fn route_kind(&self) -> Option<Kind> {
        match (self.group.as_str(), self.kind.as_str()) {
            ("policy.sheer.dev" | "policy.linkerd.io", "HTTPRoute") => Some(Kind::PolicyHttpRoute),
            (_, "HTTPRoute") => Some(Kind::HttpRoute),
            (_, "GRPCRoute") => Some(Kind::GrpcRoute),
            _ => None,
        }
    }
}

/// An authentication that a policy requires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthenticationRef {
    /// API group.
    #[serde(default)]
    pub group: String,
    /// `MeshTLSAuthentication`, `NetworkAuthentication` or `ServiceAccount`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// The policy's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A set of identities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshTlsAuthentication {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// The identities.
    pub spec: MeshTlsAuthenticationSpec,
}

/// The identities of a [`MeshTlsAuthentication`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshTlsAuthenticationSpec {
    /// `*`, `*.suffix`, or whole identities (DNS-like or `spiffe://`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// ServiceAccounts, or Namespaces (all their ServiceAccounts).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_refs: Vec<AuthenticationRef>,
}

/// A set of client networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkAuthentication {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// The networks.
    pub spec: NetworkAuthenticationSpec,
}

/// The networks of a [`NetworkAuthentication`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkAuthenticationSpec {
    /// At least one.
    pub networks: Vec<Network>,
}

/// A network with exceptions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The network, as `10.0.0.0/8`; a bare address is a network of one.
    #[serde(with = "cidr")]
    pub cidr: ipnet::IpNet,
    /// Parts of it that are not meant.
    #[serde(default, with = "cidrs", skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<ipnet::IpNet>,
}

/// A CIDR or a bare address.
pub(crate) fn parse_network(text: &str) -> Result<ipnet::IpNet, String> {
    let net = text
        .parse()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
    net.map_err(|_| format!("{text:?} is neither a network (as 10.0.0.0/8) nor an address"))
}

mod cidr {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(net: &ipnet::IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(net)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ipnet::IpNet, D::Error> {
        super::parse_network(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

mod cidrs {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(nets: &[ipnet::IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(nets.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ipnet::IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| super::parse_network(text))
            .collect::<Result<_, _>>()
            .map_err(D::Error::custom)
    }
}
