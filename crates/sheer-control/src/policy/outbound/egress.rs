//! Traffic to addresses outside the mesh: `EgressNetwork`s, and what is told where there is none.

use std::{net::SocketAddr, sync::Arc};

use sheer_api::linkerd::{
    meta::Metadata,
    outbound::{
        Backend, HttpRoute, OpaqueRoute, OutboundPolicy, ProxyProtocol, backend, http_route, opaque_route,
        proxy_protocol::Opaque,
    },
};

use super::{Compiled, Compiler, Parent, backends, default, detect, http, resource};
use crate::{
    config::MeshConfig,
    objects::{EgressNetwork, TrafficPolicy},
    routes::{ParentKey, Port, RouteType},
    store::Snapshot,
};

/// What a caller is told of denied traffic.
pub(super) const DENIED: &str = "traffic not allowed";

/// EgressNetworks of this namespace are for the clients of all.
const GLOBAL_NAMESPACES: [&str; 2] = ["sheer-egress", "linkerd-egress"];

/// An address of an EgressNetwork, as metrics name it.
pub(super) fn reference(network: &EgressNetwork, port: u16) -> Metadata {
    let metadata = &network.metadata;
    resource(
        "policy.sheer.dev",
        "EgressNetwork",
        &metadata.namespace,
        &metadata.name,
        port,
    )
}

/// Whether traffic that no route takes is let out.
pub(super) fn allows(network: &EgressNetwork) -> bool {
    network.spec.traffic_policy == TrafficPolicy::Allow
}

/// The EgressNetwork of an address, for the clients of a namespace: that of the smallest network, of equal ones the client's own, then by
/// name.
pub(in crate::policy) fn find<'a>(
    snapshot: &'a Snapshot,
    config: &MeshConfig,
    address: SocketAddr,
    client: &str,
) -> Option<&'a Arc<EgressNetwork>> {
    let networks = snapshot.routes().egress_networks().filter_map(|network| {
        let namespace = network.metadata.namespace.as_str();
        let is_global = GLOBAL_NAMESPACES.contains(&namespace);
        (namespace == client || is_global).then_some(())?;
        let length = match &network.spec.networks {
            Some(networks) => networks.iter().filter_map(|network| covers(network, address)).max()?,
            None => (!is_of_cluster(config, address)).then_some(0)?,
        };
        Some((network, (length, namespace == client)))
    });
    // Of equals the last would win: they come by namespace and name.
    let networks: Vec<_> = networks.collect();
    networks
        .into_iter()
        .rev()
        .max_by_key(|(_, rank)| *rank)
        .map(|(network, _)| network)
}

/// How long the prefix of a network is, where it has an address.
fn covers(network: &crate::objects::Network, address: SocketAddr) -> Option<u8> {
    let excepted = network.except.iter().any(|net| net.contains(&address.ip()));
    (network.cidr.contains(&address.ip()) && !excepted).then(|| network.cidr.prefix_len())
}

/// Whether an address is one of pods or Services.
pub(in crate::policy) fn is_of_cluster(config: &MeshConfig, address: SocketAddr) -> bool {
    config.cluster_networks.iter().any(|net| net.contains(&address.ip()))
}

/// The policy for an address of an EgressNetwork and the clients of a namespace.
pub(in crate::policy) fn of_egress(
    snapshot: &Snapshot,
    config: &MeshConfig,
    network: &EgressNetwork,
    address: SocketAddr,
    client: &str,
) -> Compiled {
    let mut compiler = Compiler::new(snapshot, config, Parent::Egress(network, address));
    let port = Port::number(address.port());
    let parent = ParentKey::egress(network);
    let routes = snapshot.routes().attached(&parent, port, client, RouteType::ALL);
    let kind = compiler.kind(None, &routes);
    compiler.finish(kind)
}

/// An address outside the mesh that nobody says anything of: forwarded as it is, told so that a policy that comes later reaches the proxy.
pub(in crate::policy) fn fallback(address: SocketAddr) -> Compiled {
    let metadata = default("egress-fallback");
    let backend = Backend {
        metadata: Some(metadata.clone()),
        queue: backends::queue(),
        kind: Some(backend::Kind::Forward(backends::forward(address))),
    };
    let first = opaque_route::distribution::FirstAvailable {
        backends: vec![opaque_route::RouteBackend {
            backend: Some(backend.clone()),
            filters: Vec::new(),
        }],
    };
    let opaque = Opaque {
        routes: vec![OpaqueRoute {
            metadata: Some(metadata.clone()),
            rules: vec![opaque_route::Rule {
                backends: Some(opaque_route::Distribution {
                    kind: Some(opaque_route::distribution::Kind::FirstAvailable(first)),
                }),
                filters: Vec::new(),
            }],
        }],
    };
    let route = HttpRoute {
        metadata: Some(metadata.clone()),
        hosts: Vec::new(),
        rules: vec![http_route::Rule {
            matches: vec![http::everything()],
            backends: Some(http::first(backend)),
            ..http_route::Rule::default()
        }],
    };
    let kind = detect(opaque, vec![route], None);
    Compiled {
        policy: OutboundPolicy {
            metadata: Some(metadata),
            protocol: Some(ProxyProtocol { kind: Some(kind) }),
        },
        extras: sheer_api::v1::OutboundExtras::default(),
    }
}
