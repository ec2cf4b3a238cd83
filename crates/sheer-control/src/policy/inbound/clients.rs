//! Whom policies let in: the objects that say so, as authorizations of Linkerd's API.

use std::collections::HashMap;

use ipnet::IpNet;
use sheer_api::linkerd::{
    inbound::{self as api, Authn, Authz, Identity, IdentitySuffix, authn},
    meta::{Metadata, Resource, metadata},
};

use super::{GROUP, labels};
use crate::{
    config::MeshConfig,
    objects::{
        AuthenticationRef, AuthorizationPolicy, HttpLocalRateLimitPolicy, MeshTlsAuthentication, Server,
        ServerAuthorization, ServerMeshTls,
    },
    routes::Route,
    store::Snapshot,
};

/// Client networks, each with exceptions.
type Networks = Vec<(IpNet, Vec<IpNet>)>;

pub(super) fn default(name: &str) -> Metadata {
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

/// A policy of a user.
fn of_object(kind: &str, namespace: &str, name: &str, networks: Networks, authentication: Authn) -> Authz {
    let resource = Resource {
        group: GROUP.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..Resource::default()
    };
    let metadata = Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    };
    authorization(metadata, labels(GROUP, kind, name), networks, authentication)
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

fn any_tls() -> Authn {
    mesh_tls(authn::permit_mesh_tls::Clients::Unauthenticated(
        authn::PermitUnauthenticated {},
    ))
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

/// What lets probes in.
pub(super) fn of_probes() -> Authz {
    authorization(
        default("probe"),
        labels("", "default", "probe"),
        everywhere(),
        unauthenticated(),
    )
}

/// What one of the default policies lets in.
pub(super) fn of_default(config: &MeshConfig, policy: &str) -> Vec<Authz> {
    let authentication = match policy {
        "deny" => return Vec::new(),
        "all-authenticated" | "cluster-authenticated" => identities(&["*".to_owned()]),
        "all-tls-unauthenticated" | "cluster-tls-unauthenticated" => any_tls(),
        // "audit" lets everybody in too; proxies count and log those that it alone lets in.
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

/// The default policy that asks for an identity where this one does not (`proxy-require-identity-inbound-ports`); `deny` and `audit` stay.
pub(super) fn requiring_identity(policy: &str) -> &str {
    match policy {
        "all-unauthenticated" | "all-tls-unauthenticated" => "all-authenticated",
        "cluster-unauthenticated" | "cluster-tls-unauthenticated" => "cluster-authenticated",
        policy => policy,
    }
}

/// Whom a Server lets in at all its requests. Its own default policy comes last: who has a rule is counted under that.
pub(super) fn of_server(snapshot: &Snapshot, config: &MeshConfig, server: &Server) -> Vec<Authz> {
    let namespace = &server.metadata.namespace;
    let targets = |policy: &AuthorizationPolicy| {
        let target = &policy.spec.target_ref;
        match target.kind.as_str() {
            "Server" => target.name == server.metadata.name,
            "Namespace" => target.name == *namespace,
            _ => false,
        }
    };
    let policies = snapshot.policies(namespace).filter(|policy| targets(policy));
    let mut authorizations: Vec<Authz> = policies
        .filter_map(|policy| of_policy(snapshot, config, policy))
        .collect();
    let older = snapshot.server_authorizations(namespace);
    let older = older.filter(|authorization| authorization.spec.server.means(&server.metadata));
    authorizations.extend(older.map(|authorization| of_server_authorization(config, authorization)));
    if let Some(policy) = &server.spec.access_policy {
        authorizations.extend(of_default(config, policy));
    }
    authorizations
}

/// Whom the policies of a route let in beside those whom its Server lets in.
pub(super) fn of_route(snapshot: &Snapshot, config: &MeshConfig, route: &Route) -> Vec<Authz> {
    let policies = snapshot.policies(&route.metadata().namespace);
    let targeted = policies.filter(|policy| policy.spec.target_ref.means_route(route.kind(), &route.metadata().name));
    targeted
        .filter_map(|policy| of_policy(snapshot, config, policy))
        .collect()
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
    let authentication = names.map_or_else(unauthenticated, |names| identities(&names));
    let networks = networks.unwrap_or_else(everywhere);
    let metadata = &policy.metadata;
    Some(of_object(
        "authorizationpolicy",
        &metadata.namespace,
        &metadata.name,
        networks,
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

fn of_server_authorization(config: &MeshConfig, authorization: &ServerAuthorization) -> Authz {
    let (metadata, client) = (&authorization.metadata, &authorization.spec.client);
    let networks = if client.networks.is_empty() {
        everywhere()
    } else {
        let networks = client.networks.iter();
        networks.map(|network| (network.cidr, network.except.clone())).collect()
    };
    let authentication = match &client.mesh_tls {
        None => unauthenticated(),
        Some(ServerMeshTls {
            unauthenticated_tls: true,
            ..
        }) => any_tls(),
        Some(mesh) => {
            let accounts = mesh.service_accounts.iter();
            let accounts = accounts.map(|account| {
                let namespace = account.namespace.as_deref().unwrap_or(&metadata.namespace);
                config.identity(namespace, &account.name)
            });
            identities(&mesh.identities.iter().cloned().chain(accounts).collect::<Vec<_>>())
        }
    };
    of_object(
        "serverauthorization",
        &metadata.namespace,
        &metadata.name,
        networks,
        authentication,
    )
}

/// The limit of a Server: of several policies the first by name.
pub(super) fn rate_limit(snapshot: &Snapshot, config: &MeshConfig, server: &Server) -> Option<api::HttpLocalRateLimit> {
    use api::http_local_rate_limit::{Limit, Override, r#override::ClientIdentities};
    let target = |policy: &HttpLocalRateLimitPolicy| {
        let target = &policy.spec.target_ref;
        target.kind == "Server" && target.name == server.metadata.name
    };
    let mut policies = snapshot.rate_limits(&server.metadata.namespace);
    let policy = policies.find(|policy| target(policy))?;
    let HttpLocalRateLimitPolicy { metadata, spec } = &**policy;
    let limit = |requests_per_second| Limit { requests_per_second };
    let identity = |client: &AuthenticationRef| Identity {
        name: config.identity(client.namespace.as_deref().unwrap_or(&metadata.namespace), &client.name),
    };
    let resource = Resource {
        group: GROUP.to_owned(),
        kind: "HTTPLocalRateLimitPolicy".to_owned(),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        ..Resource::default()
    };
    let overrides = spec.overrides.iter().map(|over| Override {
        limit: Some(limit(over.requests_per_second)),
        clients: Some(ClientIdentities {
            identities: over.client_refs.iter().map(identity).collect(),
        }),
    });
    Some(api::HttpLocalRateLimit {
        metadata: Some(Metadata {
            kind: Some(metadata::Kind::Resource(resource)),
        }),
        total: spec.total.map(|rate| limit(rate.requests_per_second)),
        identity: spec.identity.map(|rate| limit(rate.requests_per_second)),
        overrides: overrides.collect(),
    })
}
