//! Who may come in at a pod's port, how it speaks, what its routes do, and how much may come.
//!
//! * [`clients`]: whom policies let in, and how many requests.
//! * [`routes`]: the routes of a port.

mod clients;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use sheer_api::{
    linkerd::inbound::{
        self as api, ProxyProtocol,
        proxy_protocol::{Detect, Grpc, Http1, Http2, Kind, Opaque, Tls},
    },
    v1,
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

/// What a proxy is told of a port: both messages are of the same snapshot.
pub(super) struct Compiled {
    /// Linkerd's part.
    pub(super) server: api::Server,
    /// What it cannot say.
    pub(super) extras: v1::InboundExtras,
}

/// The policy of a pod's port: of its Server, or else the default of the pod, its namespace, or the mesh.
pub(super) fn of_port(snapshot: &Snapshot, config: &MeshConfig, pod: &Pod, port: u16) -> Compiled {
    let opaque = ports::is_opaque(snapshot, pod, port);
    let probes = ports::probe_paths(pod, port).into_iter().collect();
    let server = ports::find_server(snapshot, pod, port);
    let routes = Routes::new(snapshot, config, server, probes);
    let Some(server) = server else {
        let policy = default_policy(snapshot, config, pod, port);
        let (protocol, extras) = protocol(Spoken::Unknown, opaque, &routes, None);
        let server = api::Server {
            protocol: Some(protocol),
            authorizations: clients::of_default(config, policy),
            labels: of_server("", labels("", "default", policy)),
            ..api::Server::default()
        };
        return Compiled { server, extras };
    };
    let limit = clients::rate_limit(snapshot, config, server);
    let labels = labels(GROUP, "server", &server.metadata.name);
    let (protocol, extras) = protocol(server.spec.proxy_protocol, opaque, &routes, limit);
    let server = api::Server {
        protocol: Some(protocol),
        authorizations: clients::of_server(snapshot, config, server),
        labels: of_server(&server.metadata.namespace, labels),
        ..api::Server::default()
    };
    Compiled { server, extras }
}

/// The labels of a Server; Linkerd's have no namespace, and pass over it. A control plane sends the same keys always.
fn of_server(namespace: &str, mut labels: HashMap<String, String>) -> HashMap<String, String> {
    labels.insert("namespace".to_owned(), namespace.to_owned());
    labels
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
) -> (ProxyProtocol, v1::InboundExtras) {
    let mut rules = Vec::new();
    let mut http = || {
        let told = routes.http();
        rules = told.extras;
        told.routes
    };
    let kind = match spoken {
        Spoken::Unknown if opaque => Kind::Opaque(Opaque {}),
        Spoken::Unknown => Kind::Detect(Detect {
            timeout: DETECT_TIMEOUT.try_into().ok(),
            http_routes: http(),
            http_local_rate_limit: limit,
        }),
        Spoken::Http1 => Kind::Http1(Http1 {
            routes: http(),
            local_rate_limit: limit,
        }),
        // The API has no limit for gRPC: it is HTTP/2 all the same.
        Spoken::Grpc if limit.is_none() => match routes.grpc() {
            Some(told) => {
                rules = told.extras;
                Kind::Grpc(Grpc { routes: told.routes })
            }
            None => Kind::Http2(Http2 {
                routes: http(),
                local_rate_limit: None,
            }),
        },
        Spoken::Http2 | Spoken::Grpc => Kind::Http2(Http2 {
            routes: http(),
            local_rate_limit: limit,
        }),
        Spoken::Opaque => Kind::Opaque(Opaque {}),
        Spoken::Tls => Kind::Tls(Tls {}),
    };
    (ProxyProtocol { kind: Some(kind) }, v1::InboundExtras { rules })
}
