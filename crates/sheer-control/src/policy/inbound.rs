//! Who may come in at a pod's port, how it speaks, what its routes do, and how much may come.
//!
//! * [`clients`]: whom policies let in, and how many requests.
//! * [`routes`]: the routes of a port.

mod clients;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use sheer_api::linkerd::inbound::{
    self as api, ProxyProtocol,
    proxy_protocol::{Detect, Grpc, Http1, Http2, Kind, Opaque, Tls},
};

use self::routes::Routes;
use super::outbound::DETECT_TIMEOUT;
use crate::{
    config::MeshConfig,
    objects::{Pod, ProxyProtocol as Spoken},
    ports,
    store::Snapshot,
};

pub(crate) use self::routes::cannot_be_applied;

/// API group of what Sheer's policies are named as.
const GROUP: &str = "policy.sheer.dev";

/// The policy of a pod's port: of its Server, or else the default of the pod, its namespace, or the mesh.
pub(super) fn of_port(snapshot: &Snapshot, config: &MeshConfig, pod: &Pod, port: u16) -> api::Server {
    let opaque = ports::is_opaque(snapshot, pod, port);
    let probes = ports::probe_paths(pod, port).into_iter().collect();
    let server = ports::find_server(snapshot, pod, port);
    let routes = Routes::new(snapshot, config, server, probes);
    let Some(server) = server else {
        let policy = default_policy(snapshot, config, pod, port);
        return api::Server {
            protocol: Some(protocol(Spoken::Unknown, opaque, &routes, None)),
            authorizations: clients::of_default(config, policy),
            labels: labels("", "default", policy),
            ..api::Server::default()
        };
    };
    let limit = clients::rate_limit(snapshot, config, server);
    let mut labels = labels(GROUP, "server", &server.metadata.name);
    labels.insert("namespace".to_owned(), server.metadata.namespace.clone());
    api::Server {
        protocol: Some(protocol(server.spec.proxy_protocol, opaque, &routes, limit)),
        authorizations: clients::of_server(snapshot, config, server),
        labels,
        ..api::Server::default()
    }
}

/// The default policy of a port without a Server.
fn default_policy<'a>(snapshot: &'a Snapshot, config: &'a MeshConfig, pod: &'a Pod, port: u16) -> &'a str {
    let (namespace, annotations) = (&pod.metadata.namespace, &pod.metadata.annotations);
    let chosen = ports::setting(snapshot, namespace, annotations, "default-inbound-policy");
    let policy = chosen.unwrap_or(&config.default_inbound_policy);
    if ports::requires_identity(snapshot, pod, port) {
        clients::requiring_identity(policy)
    } else {
        policy
    }
}

fn labels(group: &str, kind: &str, name: &str) -> HashMap<String, String> {
    [("group", group), ("kind", kind), ("name", name)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn protocol(
    spoken: Spoken,
    opaque: bool,
    routes: &Routes<'_>,
    limit: Option<api::HttpLocalRateLimit>,
) -> ProxyProtocol {
    let http2 = |limit| {
        Kind::Http2(Http2 {
            routes: routes.http(),
            local_rate_limit: limit,
        })
    };
    let kind = match spoken {
        Spoken::Unknown if opaque => Kind::Opaque(Opaque {}),
        Spoken::Unknown => Kind::Detect(Detect {
            timeout: DETECT_TIMEOUT.try_into().ok(),
            http_routes: routes.http(),
            http_local_rate_limit: limit,
        }),
        Spoken::Http1 => Kind::Http1(Http1 {
            routes: routes.http(),
            local_rate_limit: limit,
        }),
        Spoken::Http2 => http2(limit),
        // The API has no limit for gRPC: it is HTTP/2 all the same.
        Spoken::Grpc => match routes.grpc() {
            Some(routes) if limit.is_none() => Kind::Grpc(Grpc { routes }),
            _ => http2(limit),
        },
        Spoken::Opaque => Kind::Opaque(Opaque {}),
        Spoken::Tls => Kind::Tls(Tls {}),
    };
    ProxyProtocol { kind: Some(kind) }
}
