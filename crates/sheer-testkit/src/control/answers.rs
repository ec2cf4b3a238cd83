//! Answers as a control plane sends them for the usual cases.

use std::net::SocketAddr;

use sheer_api::linkerd::{
    destination::{ProtocolHint, TlsIdentity, WeightedAddr, protocol_hint, tls_identity},
    inbound, meta, outbound,
};

/// An endpoint outside of the mesh.
pub fn endpoint(addr: SocketAddr) -> WeightedAddr {
    WeightedAddr {
        addr: Some(addr.into()),
        weight: 10_000,
        ..WeightedAddr::default()
    }
}

/// An endpoint with a sidecar that takes HTTP/2 and, on `transport_port`, transport headers.
pub fn meshed_endpoint(addr: SocketAddr, identity: &str, transport_port: u16) -> WeightedAddr {
    let name = tls_identity::DnsLikeIdentity {
        name: identity.to_owned(),
    };
    let strategy = tls_identity::Strategy::DnsLikeIdentity(name.clone());
    let opaque_transport = protocol_hint::OpaqueTransport {
        inbound_port: transport_port.into(),
    };
    WeightedAddr {
        tls_identity: Some(TlsIdentity {
            strategy: Some(strategy),
            server_name: Some(name),
        }),
        protocol_hint: Some(ProtocolHint {
            protocol: Some(protocol_hint::Protocol::H2(protocol_hint::H2 {})),
            opaque_transport: Some(opaque_transport),
        }),
        ..endpoint(addr)
    }
}

/// Policy of a Service `name` of namespace `test`: detect, and balance over the endpoints of `path`.
pub fn balance_policy(name: &str, path: &str) -> outbound::OutboundPolicy {
    use outbound::backend::{self, endpoint_discovery};
    let service = service(name);
    let dst = endpoint_discovery::DestinationGet { path: path.to_owned() };
    let discovery = backend::EndpointDiscovery {
        kind: Some(endpoint_discovery::Kind::Dst(dst)),
    };
    let kind = backend::Kind::Balancer(backend::BalanceP2c {
        discovery: Some(discovery),
        load: None,
    });
    let queue = outbound::Queue {
        capacity: 100,
        failfast_timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
    };
    let backend = outbound::Backend {
        metadata: Some(service.clone()),
        kind: Some(kind),
        queue: Some(queue),
    };
    detect_policy(service, backend)
}

/// Policy of an address that is of no service: detect, and forward to it.
pub fn forward_policy(endpoint: WeightedAddr) -> outbound::OutboundPolicy {
    let metadata = default("forward");
    let kind = Some(outbound::backend::Kind::Forward(endpoint));
    detect_policy(
        metadata.clone(),
        outbound::Backend {
            metadata: Some(metadata),
            kind,
            queue: None,
        },
    )
}

/// Policy of an inbound port that lets everybody in and detects.
pub fn open_server() -> inbound::Server {
    use inbound::{Authn, Authz, Network, ProxyProtocol, authn, proxy_protocol};
    let everywhere = |net: &str| Network {
        net: Some(
            net.parse::<std::net::IpAddr>()
                .map(|ip| (ip, 0).into())
                .expect("an address"),
        ),
        except: Vec::new(),
    };
    let permit = authn::Permit::Unauthenticated(authn::PermitUnauthenticated {});
    let detect = proxy_protocol::Detect {
        timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..proxy_protocol::Detect::default()
    };
    let name = |name: &str| [("name".to_owned(), format!("default:{name}"))].into();
    inbound::Server {
        protocol: Some(ProxyProtocol {
            kind: Some(proxy_protocol::Kind::Detect(detect)),
        }),
        authorizations: vec![Authz {
            networks: vec![everywhere("0.0.0.0"), everywhere("::")],
            authentication: Some(Authn { permit: Some(permit) }),
            labels: name("all-unauthenticated"),
            metadata: Some(default("all-unauthenticated")),
        }],
        labels: name("all-unauthenticated"),
        server_ips: Vec::new(),
    }
}

/// The same backend for whatever is detected.
fn detect_policy(metadata: meta::Metadata, backend: outbound::Backend) -> outbound::OutboundPolicy {
    use outbound::{http_route, opaque_route, proxy_protocol};
    let http_backend = http_route::RouteBackend {
        backend: Some(backend.clone()),
        ..Default::default()
    };
    let first = http_route::distribution::FirstAvailable {
        backends: vec![http_backend],
    };
    let http_rule = http_route::Rule {
        backends: Some(http_route::Distribution {
            kind: Some(http_route::distribution::Kind::FirstAvailable(first)),
        }),
        ..http_route::Rule::default()
    };
    let http_routes = vec![outbound::HttpRoute {
        metadata: Some(default("http")),
        hosts: Vec::new(),
        rules: vec![http_rule],
    }];
    let tcp_backend = opaque_route::RouteBackend {
        backend: Some(backend),
        filters: Vec::new(),
    };
    let first = opaque_route::distribution::FirstAvailable {
        backends: vec![tcp_backend],
    };
    let kind = Some(opaque_route::distribution::Kind::FirstAvailable(first));
    let tcp_rule = opaque_route::Rule {
        backends: Some(opaque_route::Distribution { kind }),
        filters: Vec::new(),
    };
    let opaque_routes = vec![outbound::OpaqueRoute {
        metadata: Some(default("opaque")),
        rules: vec![tcp_rule],
    }];
    let detect = proxy_protocol::Detect {
        timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        opaque: Some(proxy_protocol::Opaque { routes: opaque_routes }),
        http1: Some(proxy_protocol::Http1 {
            routes: http_routes.clone(),
            failure_accrual: None,
        }),
        http2: Some(proxy_protocol::Http2 {
            routes: http_routes,
            failure_accrual: None,
        }),
    };
    let protocol = outbound::ProxyProtocol {
        kind: Some(proxy_protocol::Kind::Detect(detect)),
    };
    outbound::OutboundPolicy {
        protocol: Some(protocol),
        metadata: Some(metadata),
    }
}

fn service(name: &str) -> meta::Metadata {
    let resource = meta::Resource {
        group: "core".to_owned(),
        kind: "Service".to_owned(),
        name: name.to_owned(),
        namespace: "test".to_owned(),
        ..meta::Resource::default()
    };
    meta::Metadata {
        kind: Some(meta::metadata::Kind::Resource(resource)),
    }
}

fn default(name: &str) -> meta::Metadata {
    meta::Metadata {
        kind: Some(meta::metadata::Kind::Default(name.to_owned())),
    }
}
