//! Who may come in at a pod's port, and how it speaks.

use std::collections::HashMap;

use ipnet::IpNet;
use sheer_api::linkerd::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{HttpRouteMatch, PathMatch, path_match},
    http_types::{HttpMethod, http_method},
    inbound::{
        self as api, Authn, Authz, GrpcRoute, HttpRoute, Identity, IdentitySuffix, ProxyProtocol, authn, grpc_route,
        http_route,
        proxy_protocol::{self, Detect, Grpc, Http1, Http2, Opaque, Tls},
    },
    meta::{Metadata, Resource, metadata},
};

use super::outbound::DETECT_TIMEOUT;
use crate::{
    config::MeshConfig,
    objects::{AuthenticationRef, AuthorizationPolicy, MeshTlsAuthentication, Pod, ProxyProtocol as Spoken, Server},
    ports,
    store::Snapshot,
};

/// API group of what Sheer's policies are named as.
const GROUP: &str = "policy.sheer.dev";

/// Client networks, each with exceptions.
type Networks = Vec<(IpNet, Vec<IpNet>)>;

/// The policy of a pod's port: of its Server, or else the default of the pod, its namespace, or the mesh.
pub(super) fn of_port(snapshot: &Snapshot, config: &MeshConfig, pod: &Pod, port: u16) -> api::Server {
    let routes = Routes {
        probes: ports::probe_paths(pod, port).into_iter().collect(),
    };
    if let Some(server) = ports::find_server(snapshot, pod, port) {
        let opaque = ports::is_opaque(snapshot, pod, port);
        return api::Server {
            protocol: Some(routes.protocol(server.spec.proxy_protocol, opaque)),
            authorizations: of_server(snapshot, config, server),
            labels: labels(GROUP, "server", &server.metadata.name),
            ..api::Server::default()
        };
    }
    let chosen = ports::setting(
        snapshot,
        &pod.metadata.namespace,
        &pod.metadata.annotations,
        "default-inbound-policy",
    );
    let policy = chosen.unwrap_or(&config.default_inbound_policy);
    api::Server {
        protocol: Some(routes.protocol(Spoken::Unknown, ports::is_opaque(snapshot, pod, port))),
        authorizations: default_authorizations(config, policy),
        labels: labels("", "default", policy),
        ..api::Server::default()
    }
}

fn labels(group: &str, kind: &str, name: &str) -> HashMap<String, String> {
    [("group", group), ("kind", kind), ("name", name)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The default routes: everything, and the paths of probes, which nobody has to be authorised for.
struct Routes {
    probes: Vec<String>,
}

impl Routes {
    fn protocol(&self, spoken: Spoken, opaque: bool) -> ProxyProtocol {
        use proxy_protocol::Kind;
        let kind = match spoken {
            Spoken::Unknown if opaque => Kind::Opaque(Opaque {}),
            Spoken::Unknown => Kind::Detect(Detect {
                timeout: DETECT_TIMEOUT.try_into().ok(),
                http_routes: self.http(),
                http_local_rate_limit: None,
            }),
            Spoken::Http1 => Kind::Http1(Http1 {
                routes: self.http(),
                local_rate_limit: None,
            }),
            Spoken::Http2 => Kind::Http2(Http2 {
                routes: self.http(),
                local_rate_limit: None,
            }),
            Spoken::Grpc => Kind::Grpc(Grpc { routes: vec![grpc()] }),
            Spoken::Opaque => Kind::Opaque(Opaque {}),
            Spoken::Tls => Kind::Tls(Tls {}),
        };
        ProxyProtocol { kind: Some(kind) }
    }

    fn http(&self) -> Vec<HttpRoute> {
        let route = |name: &str, matches, authorizations| HttpRoute {
            metadata: Some(default(name)),
            hosts: Vec::new(),
            authorizations,
            rules: vec![http_route::Rule {
                matches,
                filters: Vec::new(),
            }],
        };
        let at = |kind| Some(PathMatch { kind: Some(kind) });
        let everything = HttpRouteMatch {
            path: at(path_match::Kind::Prefix("/".to_owned())),
            ..HttpRouteMatch::default()
        };
        let mut routes = vec![route("default", vec![everything], Vec::new())];
        if !self.probes.is_empty() {
            let get = HttpMethod {
                r#type: Some(http_method::Type::Registered(http_method::Registered::Get.into())),
            };
            let probe = |path: &String| HttpRouteMatch {
                path: at(path_match::Kind::Exact(path.clone())),
                method: Some(get.clone()),
                ..HttpRouteMatch::default()
            };
            let authorization = authorization(
                default("probe"),
                labels("", "default", "probe"),
                everywhere(),
                unauthenticated(),
            );
            routes.push(route(
                "probe",
                self.probes.iter().map(probe).collect(),
                vec![authorization],
            ));
        }
        routes
    }
}

fn grpc() -> GrpcRoute {
    GrpcRoute {
        metadata: Some(default("default")),
        hosts: Vec::new(),
        authorizations: Vec::new(),
        rules: vec![grpc_route::Rule {
            matches: vec![GrpcRouteMatch {
                rpc: Some(GrpcRpcMatch::default()),
                headers: Vec::new(),
            }],
            filters: Vec::new(),
        }],
    }
}

fn default(name: &str) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Default(name.to_owned())),
    }
}

fn everywhere() -> Networks {
    MeshConfig::everywhere()
        .into_iter()
        .map(|net| (net, Vec::new()))
        .collect()
}

fn authorization(
    metadata: Metadata,
    labels: HashMap<String, String>,
    networks: Networks,
    authentication: Authn,
) -> Authz {
    let network = |(net, except): (IpNet, Vec<IpNet>)| api::Network {
        net: Some(net.into()),
        except: except.into_iter().map(Into::into).collect(),
    };
    Authz {
        networks: networks.into_iter().map(network).collect(),
        authentication: Some(authentication),
        labels,
        metadata: Some(metadata),
    }
}

fn unauthenticated() -> Authn {
    Authn {
        permit: Some(authn::Permit::Unauthenticated(authn::PermitUnauthenticated {})),
    }
}

fn mesh_tls(clients: authn::permit_mesh_tls::Clients) -> Authn {
    Authn {
        permit: Some(authn::Permit::MeshTls(authn::PermitMeshTls { clients: Some(clients) })),
    }
}

fn identities(names: &[String]) -> Authn {
    use authn::permit_mesh_tls::{Clients, PermitClientIdentities};
    let mut permitted = PermitClientIdentities::default();
    for name in names {
        match name.strip_prefix('*') {
            // An empty suffix is every identity.
            Some("") => permitted.suffixes.push(IdentitySuffix { parts: Vec::new() }),
            Some(suffix) => {
                let parts = suffix.trim_start_matches('.').split('.').map(str::to_owned).collect();
                permitted.suffixes.push(IdentitySuffix { parts });
            }
            None => permitted.identities.push(Identity { name: name.clone() }),
        }
    }
    mesh_tls(Clients::Identities(permitted))
}

/// What one of the default policies lets in.
fn default_authorizations(config: &MeshConfig, policy: &str) -> Vec<Authz> {
    use authn::permit_mesh_tls::Clients;
    let authentication = match policy {
        "deny" => return Vec::new(),
        "all-authenticated" | "cluster-authenticated" => identities(&["*".to_owned()]),
        "all-tls-unauthenticated" | "cluster-tls-unauthenticated" => {
            mesh_tls(Clients::Unauthenticated(authn::PermitUnauthenticated {}))
        }
        // "audit" lets everybody in too; the name in metrics and logs is the difference.
        _ => unauthenticated(),
    };
    let networks = if policy.starts_with("cluster-") {
        config.cluster_networks.iter().map(|net| (*net, Vec::new())).collect()
    } else {
        everywhere()
    };
    vec![authorization(
        default(policy),
        labels("", "default", policy),
        networks,
        authentication,
    )]
}

fn of_server(snapshot: &Snapshot, config: &MeshConfig, server: &Server) -> Vec<Authz> {
    let targets = |policy: &AuthorizationPolicy| {
        let target = &policy.spec.target_ref;
        match target.kind.as_str() {
            "Server" => target.name == server.metadata.name,
            "Namespace" => target.name == server.metadata.namespace,
            _ => false,
        }
    };
    let policies = snapshot
        .policies(&server.metadata.namespace)
        .filter(|policy| targets(policy));
    let mut authorizations: Vec<Authz> = policies
        .filter_map(|policy| of_policy(snapshot, config, policy))
        .collect();
    if let Some(policy) = &server.spec.access_policy {
        authorizations.extend(default_authorizations(config, policy));
    }
    authorizations
}

/// What a policy lets in; nobody where something that it requires does not exist, or can never be fulfilled.
fn of_policy(snapshot: &Snapshot, config: &MeshConfig, policy: &AuthorizationPolicy) -> Option<Authz> {
    let (mut names, mut networks): (Option<Vec<String>>, Option<Networks>) = (None, None);
    for reference in &policy.spec.required_authentication_refs {
        let namespace = reference.namespace.as_deref().unwrap_or(&policy.metadata.namespace);
        if reference.kind == "NetworkAuthentication" {
            let authentication = snapshot.find_network(namespace, &reference.name)?;
            let nets = authentication
                .spec
                .networks
                .iter()
                .map(|network| (network.cidr, network.except.clone()));
            // A second one would have to be fulfilled as well: one policy can hold one.
            if networks.replace(nets.collect()).is_some() {
                return None;
            }
        } else if names
            .replace(required_names(snapshot, config, reference, namespace)?)
            .is_some()
        {
            return None;
        }
    }
    let resource = Resource {
        group: GROUP.to_owned(),
        kind: "authorizationpolicy".to_owned(),
        name: policy.metadata.name.clone(),
        namespace: policy.metadata.namespace.clone(),
        ..Resource::default()
    };
    let metadata = Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    };
    let authentication = names.map_or_else(unauthenticated, |names| identities(&names));
    let labels = labels(GROUP, "authorizationpolicy", &policy.metadata.name);
    Some(authorization(
        metadata,
        labels,
        networks.unwrap_or_else(everywhere),
        authentication,
    ))
}

fn required_names(
    snapshot: &Snapshot,
    config: &MeshConfig,
    reference: &AuthenticationRef,
    namespace: &str,
) -> Option<Vec<String>> {
    match reference.kind.as_str() {
        "MeshTLSAuthentication" => Some(names_of(config, snapshot.find_mesh_tls(namespace, &reference.name)?)),
        "ServiceAccount" => Some(vec![config.identity(namespace, &reference.name)]),
        _ => None,
    }
}

fn names_of(config: &MeshConfig, authentication: &MeshTlsAuthentication) -> Vec<String> {
    let own = &authentication.metadata.namespace;
    let of_reference = |reference: &AuthenticationRef| match reference.kind.as_str() {
        "ServiceAccount" => config.identity(reference.namespace.as_deref().unwrap_or(own), &reference.name),
        // Every service account of the namespace.
        _ => format!(
            "*.{}.serviceaccount.identity.{}.{}",
            reference.name, config.control_namespace, config.trust_domain
        ),
    };
    let listed = authentication.spec.identities.iter().cloned();
    listed
        .chain(authentication.spec.identity_refs.iter().map(of_reference))
        .collect()
}
