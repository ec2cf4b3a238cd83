//! How traffic leaves a workload: what it is spoken in, which route takes it, and where it goes.
//!
//! A plain function from a snapshot to two messages: Linkerd's policy, whose shape follows Linkerd's policy controller, so that a
//! linkerd2-proxy treats it as it does at home, and what that cannot say (`sheer.v1.OutboundExtras`).

mod backends;
mod egress;
mod extras;
mod filters;
mod grpc;
mod http;
mod profile;
mod settings;
mod streams;

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use sheer_api::{
    linkerd::{
        meta::{Metadata, Resource, metadata},
        opaque_route::Forbidden,
        outbound::{
            FailureAccrual, OpaqueRoute, OutboundPolicy, ProxyProtocol,
            backend::balance_p2c::Load,
            opaque_route,
            proxy_protocol::{self, Detect, Grpc, Http1, Http2, Opaque, Tls},
        },
    },
    v1,
};

pub(super) use egress::{fallback, find as find_egress, is_of_cluster, of_egress};
pub(super) use extras::{in_zone, object};
pub(super) use filters::{Actions, PolicyFilter, grpc_injector, http_injector};
pub(super) use http::{headers, host, http_match, method};

use crate::{
    config::MeshConfig,
    objects::{AppProtocol, EgressNetwork, Service, ServicePort, Traffic},
    ports,
    routes::{ParentKey, Port, Route, RouteIndex, RouteType},
    store::Snapshot,
};

/// Longest that a proxy waits for a client's first bytes; Sheer's own proxy waits much less.
pub(super) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What proxies are told of a destination: both messages are of the same snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compiled {
    /// Linkerd's part.
    pub(super) policy: OutboundPolicy,
    /// What it cannot say.
    pub(super) extras: v1::OutboundExtras,
}

/// What traffic goes to.
#[derive(Clone, Copy)]
enum Parent<'a> {
    /// A Service's port.
    Service(&'a Service, u16),
    /// An address outside the mesh.
    Egress(&'a EgressNetwork, SocketAddr),
}

/// What is being compiled.
struct Compiler<'a> {
    snapshot: &'a Snapshot,
    config: &'a MeshConfig,
    parent: Parent<'a>,
    /// The parent's annotations.
    settings: Traffic,
    /// The parent's estimate of load, which all backends share (as Linkerd).
    load: Load,
    extras: v1::OutboundExtras,
    /// Backends whose own wishes are in the extras.
    noted: HashSet<(String, String, u16)>,
}

/// Which rule of which route is being compiled.
#[derive(Clone, Copy)]
struct Place<'a> {
    route: &'a Route,
    /// The route, as metrics name it.
    metadata: &'a Metadata,
    /// The route's annotations.
    annotations: &'a Traffic,
    /// Which of its rules.
    index: usize,
}

/// The policy for a service's port and the clients of a namespace.
pub(super) fn of_service(
    snapshot: &Snapshot,
    config: &MeshConfig,
    service: &Service,
    port: u16,
    client: &str,
) -> Compiled {
    let compiler = Compiler::new(snapshot, config, Parent::Service(service, port));
    let ports = &service.spec.ports;
    match ports.iter().find(|known| known.port == port && known.is_tcp()) {
        Some(known) => compiler.of_port(service, known, client),
        None => compiler.finish(proxy_protocol::Kind::Opaque(undefined_port())),
    }
}

/// What is spoken; `None` where it has to be detected.
fn protocol(snapshot: &Snapshot, service: &Service, port: &ServicePort) -> Option<AppProtocol> {
    match &port.app_protocol {
        Some(name) => Some(AppProtocol::parse(name).unwrap_or(AppProtocol::Opaque)),
        None => ports::is_service_opaque(snapshot, service, port).then_some(AppProtocol::Opaque),
    }
}

impl<'a> Compiler<'a> {
    fn new(snapshot: &'a Snapshot, config: &'a MeshConfig, parent: Parent<'a>) -> Self {
        let annotations = match parent {
            Parent::Service(service, _) => &service.metadata.annotations,
            Parent::Egress(network, _) => &network.metadata.annotations,
        };
        let settings = Traffic::read(annotations);
        Self {
            snapshot,
            config,
            parent,
            load: settings::load(settings.penalty.as_ref()),
            extras: v1::OutboundExtras {
                budget: settings.budget.map(settings::budget),
                ..v1::OutboundExtras::default()
            },
            settings,
            noted: HashSet::new(),
        }
    }

    fn routes(&self) -> &'a RouteIndex {
        self.snapshot.routes()
    }

    fn finish(self, kind: proxy_protocol::Kind) -> Compiled {
        Compiled {
            policy: OutboundPolicy {
                metadata: Some(self.parent_metadata()),
                protocol: Some(ProxyProtocol { kind: Some(kind) }),
            },
            extras: self.extras,
        }
    }

    fn parent_metadata(&self) -> Metadata {
        match self.parent {
            Parent::Service(service, port) => reference(service, port),
            Parent::Egress(network, address) => egress::reference(network, address.port()),
        }
    }

    fn accrual(&self) -> Option<FailureAccrual> {
        self.settings.accrual.as_ref().map(settings::accrual)
    }

    fn of_port(mut self, service: &Service, port: &ServicePort, client: &str) -> Compiled {
        let spoken = protocol(self.snapshot, service, port);
        let profile = self.routes().find_profile(client, service, &self.config.cluster_domain);
        if let Some(profile) = profile.filter(|profile| profile::counts(profile))
            && spoken != Some(AppProtocol::Opaque)
        {
            let kind = self.of_profile(profile, spoken);
            return self.finish(kind);
        }
        let parent = ParentKey::service(&service.metadata.namespace, &service.metadata.name);
        let routes = self
            .routes()
            .attached(&parent, Port::of(port), client, RouteType::of_port(spoken));
        let kind = self.kind(spoken, &routes);
        self.finish(kind)
    }

    /// What is told, by what is spoken and the type of the routes.
    fn kind(&mut self, spoken: Option<AppProtocol>, routes: &[Route]) -> proxy_protocol::Kind {
        let route_type = routes.first().map(Route::route_type);
        let failure_accrual = self.accrual();
        match (spoken, route_type) {
            (Some(AppProtocol::Opaque) | None, Some(RouteType::Tls)) => proxy_protocol::Kind::Tls(Tls {
                routes: self.tls_routes(routes),
            }),
            (Some(AppProtocol::Opaque), _) | (None, Some(RouteType::Tcp)) => {
                proxy_protocol::Kind::Opaque(self.opaque(routes))
            }
            (_, Some(RouteType::Grpc)) | (Some(AppProtocol::Grpc), None) => proxy_protocol::Kind::Grpc(Grpc {
                routes: self.grpc_routes(routes),
                failure_accrual,
            }),
            (Some(AppProtocol::Http1), _) => proxy_protocol::Kind::Http1(Http1 {
                routes: self.http_routes(routes),
                failure_accrual,
            }),
            (Some(AppProtocol::Http2 | AppProtocol::Grpc), _) => proxy_protocol::Kind::Http2(Http2 {
                routes: self.http_routes(routes),
                failure_accrual,
            }),
            (None, _) => {
                let routes = self.http_routes(routes);
                let opaque = self.opaque(&[]);
                detect(opaque, routes, failure_accrual)
            }
        }
    }
}

fn detect(
    opaque: Opaque,
    routes: Vec<sheer_api::linkerd::outbound::HttpRoute>,
    failure_accrual: Option<FailureAccrual>,
) -> proxy_protocol::Kind {
    proxy_protocol::Kind::Detect(Detect {
        timeout: DETECT_TIMEOUT.try_into().ok(),
        opaque: Some(opaque),
        http1: Some(Http1 {
            routes: routes.clone(),
            failure_accrual,
        }),
        http2: Some(Http2 {
            routes,
            failure_accrual,
        }),
    })
}

fn reference(service: &Service, port: u16) -> Metadata {
    resource(
        "core",
        "Service",
        &service.metadata.namespace,
        &service.metadata.name,
        port,
    )
}

fn resource(group: &str, kind: &str, namespace: &str, name: &str, port: u16) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Resource(Resource {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            section: String::new(),
            port: port.into(),
        })),
    }
}

/// A route, as metrics name it.
pub(super) fn route_reference(route: &Route) -> Metadata {
    let metadata = route.metadata();
    resource(
        route.group(),
        route.kind().as_str(),
        &metadata.namespace,
        &metadata.name,
        0,
    )
}

fn default(name: &str) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Default(name.to_owned())),
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
            metadata: Some(default("undefined-port")),
            rules: vec![rule],
        }],
    }
}

#[cfg(test)]
mod tests;
