//! How traffic to a service leaves: what it is spoken in, and to whom it is balanced.
//!
//! The shape follows Linkerd's policy controller, so that a linkerd2-proxy treats it as it does at home.

use std::time::Duration;

use sheer_api::linkerd::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{HttpRouteMatch, PathMatch, path_match},
    meta::{Metadata, Resource, metadata},
    opaque_route::Forbidden,
    outbound::{
        Backend, GrpcRoute, HttpRoute, OpaqueRoute, OutboundPolicy, ProxyProtocol, Queue,
        backend::{self, BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery},
        grpc_route, http_route, opaque_route,
        proxy_protocol::{self, Detect, Grpc, Http1, Http2, Opaque},
    },
};

use crate::{
    config::MeshConfig,
    objects::{AppProtocol, Service, ServicePort},
    ports,
    store::Snapshot,
};

/// Longest that a proxy waits for a client's first bytes; Sheer's own proxy waits much less.
pub(super) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What an endpoint that was never measured is taken for.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
/// Half-life of a measurement.
const RTT_DECAY: Duration = Duration::from_secs(10);
/// Requests that wait while no endpoint is ready.
const QUEUE_CAPACITY: u32 = 100;
/// How long they wait.
const FAILFAST_TIMEOUT: Duration = Duration::from_secs(3);

/// The policy for a service's port.
pub(super) fn of_service(snapshot: &Snapshot, config: &MeshConfig, service: &Service, port: u16) -> OutboundPolicy {
    let metadata = reference(service, port);
    let Some(known) = service
        .spec
        .ports
        .iter()
        .find(|known| known.port == port && known.is_tcp())
    else {
        return policy(metadata, proxy_protocol::Kind::Opaque(undefined_port()));
    };
    let backend = balanced(config, service, port);
    let kind = match protocol(snapshot, service, known) {
        Some(AppProtocol::Opaque) => proxy_protocol::Kind::Opaque(opaque(backend)),
        Some(AppProtocol::Http1) => proxy_protocol::Kind::Http1(Http1 {
            routes: vec![http(backend)],
            failure_accrual: None,
        }),
        Some(AppProtocol::Http2) => proxy_protocol::Kind::Http2(Http2 {
            routes: vec![http(backend)],
            failure_accrual: None,
        }),
        Some(AppProtocol::Grpc) => proxy_protocol::Kind::Grpc(Grpc {
            routes: vec![grpc(backend)],
            failure_accrual: None,
        }),
        None => proxy_protocol::Kind::Detect(Detect {
            timeout: DETECT_TIMEOUT.try_into().ok(),
            opaque: Some(opaque(backend.clone())),
            http1: Some(Http1 {
                routes: vec![http(backend.clone())],
                failure_accrual: None,
            }),
            http2: Some(Http2 {
                routes: vec![http(backend)],
                failure_accrual: None,
            }),
        }),
    };
    policy(metadata, kind)
}

/// What is spoken; `None` where it has to be detected.
fn protocol(snapshot: &Snapshot, service: &Service, port: &ServicePort) -> Option<AppProtocol> {
    match &port.app_protocol {
        Some(name) => Some(AppProtocol::parse(name).unwrap_or(AppProtocol::Opaque)),
        None => ports::is_service_opaque(snapshot, service, port).then_some(AppProtocol::Opaque),
    }
}

fn policy(metadata: Metadata, kind: proxy_protocol::Kind) -> OutboundPolicy {
    OutboundPolicy {
        metadata: Some(metadata),
        protocol: Some(ProxyProtocol { kind: Some(kind) }),
    }
}

fn reference(service: &Service, port: u16) -> Metadata {
    let resource = Resource {
        group: "core".to_owned(),
        kind: "Service".to_owned(),
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        section: String::new(),
        port: port.into(),
    };
    Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    }
}

fn default(name: &str) -> Option<Metadata> {
    Some(Metadata {
        kind: Some(metadata::Kind::Default(name.to_owned())),
    })
}

fn balanced(config: &MeshConfig, service: &Service, port: u16) -> Backend {
    let path = format!("{}:{port}", service.fqdn(&config.cluster_domain));
    let discovery = endpoint_discovery::Kind::Dst(endpoint_discovery::DestinationGet { path });
    Backend {
        metadata: Some(reference(service, port)),
        queue: Some(Queue {
            capacity: QUEUE_CAPACITY,
            failfast_timeout: FAILFAST_TIMEOUT.try_into().ok(),
        }),
        kind: Some(backend::Kind::Balancer(BalanceP2c {
            discovery: Some(EndpointDiscovery { kind: Some(discovery) }),
            load: Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
                default_rtt: DEFAULT_RTT.try_into().ok(),
                decay: RTT_DECAY.try_into().ok(),
            })),
        })),
    }
}

fn http(backend: Backend) -> HttpRoute {
    use http_route::{Distribution, RouteBackend, Rule, distribution};
    let everything = PathMatch {
        kind: Some(path_match::Kind::Prefix("/".to_owned())),
    };
    let backends = vec![RouteBackend {
        backend: Some(backend),
        ..RouteBackend::default()
    }];
    HttpRoute {
        metadata: default("http"),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![HttpRouteMatch {
                path: Some(everything),
                ..HttpRouteMatch::default()
            }],
            backends: Some(Distribution {
                kind: Some(distribution::Kind::FirstAvailable(distribution::FirstAvailable {
                    backends,
                })),
            }),
            ..Rule::default()
        }],
    }
}

fn grpc(backend: Backend) -> GrpcRoute {
    use grpc_route::{Distribution, RouteBackend, Rule, distribution};
    let backends = vec![RouteBackend {
        backend: Some(backend),
        ..RouteBackend::default()
    }];
    GrpcRoute {
        metadata: default("grpc"),
        hosts: Vec::new(),
        rules: vec![Rule {
            // Both names empty: every method of every service.
            matches: vec![GrpcRouteMatch {
                rpc: Some(GrpcRpcMatch::default()),
                headers: Vec::new(),
            }],
            backends: Some(Distribution {
                kind: Some(distribution::Kind::FirstAvailable(distribution::FirstAvailable {
                    backends,
                })),
            }),
            ..Rule::default()
        }],
    }
}

fn opaque(backend: Backend) -> Opaque {
    use opaque_route::{Distribution, RouteBackend, Rule, distribution};
    let backends = vec![RouteBackend {
        backend: Some(backend),
        filters: Vec::new(),
    }];
    let distribution = distribution::Kind::FirstAvailable(distribution::FirstAvailable { backends });
    let rule = Rule {
        backends: Some(Distribution {
            kind: Some(distribution),
        }),
        filters: Vec::new(),
    };
    Opaque {
        routes: vec![OpaqueRoute {
            metadata: default("opaq"),
            rules: vec![rule],
        }],
    }
}

/// A service's address with a port that it does not have: refused, as a machine refuses a port on which nothing listens.
fn undefined_port() -> Opaque {
    use opaque_route::{Distribution, Filter, Rule, distribution, filter};
    let rule = Rule {
        backends: Some(Distribution {
            kind: Some(distribution::Kind::Empty(distribution::Empty {})),
        }),
        filters: vec![Filter {
            kind: Some(filter::Kind::Forbidden(Forbidden {})),
        }],
    };
    Opaque {
        routes: vec![OpaqueRoute {
            metadata: default("undefined-port"),
            rules: vec![rule],
        }],
    }
}
