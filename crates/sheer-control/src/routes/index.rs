//! Routes by their parents, and what routes may refer to.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::objects::{
    AppProtocol, EgressNetwork, GATEWAY_GROUP, GrpcRoute, HttpFault, HttpRoute, Kind, Object, ObjectId, ObjectMeta,
    ParentRef, ReferenceGrant, Service, ServicePort, ServiceProfile, TcpRoute, TlsRoute,
};

/// A route of any kind. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// `HTTPRoute`, of either group.
    Http(Kind, Arc<HttpRoute>),
    /// `GRPCRoute`
    Grpc(Arc<GrpcRoute>),
    /// `TLSRoute`
    Tls(Arc<TlsRoute>),
    /// `TCPRoute`
    Tcp(Arc<TcpRoute>),
}

/// Types of routes, the most specific first: of several on one port only the first counts (GEP-1426).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteType {
    /// Calls of gRPC.
    Grpc,
    /// Requests.
    Http,
    /// Connections of TLS.
    Tls,
    /// Connections.
    Tcp,
}

impl RouteType {
    /// All of them.
    pub(crate) const ALL: &'static [Self] = &[Self::Grpc, Self::Http, Self::Tls, Self::Tcp];

    /// Those that a port can have, by what it speaks; `None` where that is detected.
    pub(crate) fn of_port(spoken: Option<AppProtocol>) -> &'static [Self] {
        match spoken {
            None => Self::ALL,
            Some(AppProtocol::Http1) => &[Self::Http],
            Some(AppProtocol::Http2 | AppProtocol::Grpc) => &[Self::Grpc, Self::Http],
            Some(AppProtocol::Opaque) => &[Self::Tls, Self::Tcp],
        }
    }
}

impl Route {
    /// The route that an object is.
    pub(crate) fn of(object: &Object) -> Option<Self> {
        Some(match object {
            Object::HttpRoute(route) => Self::Http(Kind::HttpRoute, route.clone()),
            Object::PolicyHttpRoute(route) => Self::Http(Kind::PolicyHttpRoute, route.clone()),
            Object::GrpcRoute(route) => Self::Grpc(route.clone()),
            Object::TlsRoute(route) => Self::Tls(route.clone()),
            Object::TcpRoute(route) => Self::Tcp(route.clone()),
            _ => return None,
        })
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Http(kind, _) => *kind,
            Self::Grpc(_) => Kind::GrpcRoute,
            Self::Tls(_) => Kind::TlsRoute,
            Self::Tcp(_) => Kind::TcpRoute,
        }
    }

    /// Its type.
    pub(crate) fn route_type(&self) -> RouteType {
        match self {
            Self::Http(..) => RouteType::Http,
            Self::Grpc(_) => RouteType::Grpc,
            Self::Tls(_) => RouteType::Tls,
            Self::Tcp(_) => RouteType::Tcp,
        }
    }

    /// Its API group, as metrics and grants name it.
    pub(crate) fn group(&self) -> &'static str {
        match self {
            Self::Http(Kind::PolicyHttpRoute, _) => "policy.linkerd.io",
            _ => GATEWAY_GROUP,
        }
    }

    /// Name, namespace, annotations.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Http(_, route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tls(route) => &route.metadata,
            Self::Tcp(route) => &route.metadata,
        }
    }

    /// What it is attached to.
    pub(crate) fn parents(&self) -> &[ParentRef] {
        match self {
            Self::Http(_, route) => &route.spec.parent_refs,
            Self::Grpc(route) => &route.spec.parent_refs,
            Self::Tls(route) => &route.spec.parent_refs,
            Self::Tcp(route) => &route.spec.parent_refs,
        }
    }

    /// What makes it unique.
    pub(crate) fn id(&self) -> ObjectId {
        ObjectId {
            kind: self.kind(),
            namespace: self.metadata().namespace.clone(),
            name: self.metadata().name.clone(),
        }
    }

    /// Gateway API's order between routes that match equally: the older, then by namespace and name. Those of unknown age come last.
    fn rank(&self) -> (bool, Option<&str>, &str, &str, Kind) {
        let metadata = self.metadata();
        let age = metadata.creation_timestamp.as_deref();
        (age.is_none(), age, &metadata.namespace, &metadata.name, self.kind())
    }
}

/// What can be a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ParentKind {
    /// Outbound traffic to a service.
    Service,
    /// Outbound traffic to addresses outside the mesh.
    EgressNetwork,
    /// Inbound traffic.
    Server,
}

impl ParentKind {
    fn of(reference: &ParentRef) -> Option<Self> {
        match (reference.group.as_str(), reference.kind.as_str()) {
            ("" | "core", "Service") => Some(Self::Service),
            ("policy.sheer.dev" | "policy.linkerd.io", "EgressNetwork") => Some(Self::EgressNetwork),
            ("policy.sheer.dev" | "policy.linkerd.io", "Server") => Some(Self::Server),
            _ => None,
        }
    }
}

/// A parent, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ParentKey {
    pub(crate) kind: ParentKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ParentKey {
    /// A Service.
    pub(crate) fn service(namespace: &str, name: &str) -> Self {
        Self {
            kind: ParentKind::Service,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// An EgressNetwork.
    pub(crate) fn egress(network: &EgressNetwork) -> Self {
        Self {
            kind: ParentKind::EgressNetwork,
            namespace: network.metadata.namespace.clone(),
            name: network.metadata.name.clone(),
        }
    }

    /// Whether a route of a namespace means this parent.
    pub(crate) fn is(&self, reference: &ParentRef, namespace: &str) -> bool {
        reference.name == self.name
            && reference.namespace.as_deref().unwrap_or(namespace) == self.namespace
            && ParentKind::of(reference) == Some(self.kind)
    }

    /// What a route of a namespace means; `None` where it is nothing that Sheer knows (a Gateway).
    pub(crate) fn of(reference: &ParentRef, namespace: &str) -> Option<Self> {
        let kind = ParentKind::of(reference)?;
        Some(Self {
            kind,
            namespace: reference.namespace.as_deref().unwrap_or(namespace).to_owned(),
            name: reference.name.clone(),
        })
    }
}

type Named<T> = HashMap<(String, String), Arc<T>>;

/// Routes by their parents, and what routes may refer to.
#[derive(Debug, Default)]
pub(crate) struct RouteIndex {
    by_parent: HashMap<ParentKey, Vec<Route>>,
    all: Vec<Route>,
    /// Parents of which routes or ServiceProfiles stand in other namespaces than their own.
    with_consumers: HashSet<ParentKey>,
    services: Named<Service>,
    servers: HashSet<(String, String)>,
    egress: BTreeMap<(String, String), Arc<EgressNetwork>>,
    faults: Named<HttpFault>,
    /// By namespace and name of the Service that their names mean.
    profiles: HashMap<(String, String), Vec<Arc<ServiceProfile>>>,
    grants: HashMap<String, Vec<Arc<ReferenceGrant>>>,
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone(), metadata.name.clone())
}

fn find<'a, T>(map: &'a Named<T>, namespace: &str, name: &str) -> Option<&'a Arc<T>> {
    map.get(&(namespace.to_owned(), name.to_owned()))
}

/// Namespace and name of the Service that a profile's name means: `NAME.NAMESPACE.svc.DOMAIN`.
fn profiled(name: &str) -> Option<(String, String)> {
    let mut labels = name.splitn(4, '.');
    let (name, namespace, svc) = (labels.next()?, labels.next()?, labels.next()?);
    (svc == "svc").then(|| (namespace.to_owned(), name.to_owned()))
}

impl RouteIndex {
    /// The index of what users wrote.
    pub(crate) fn new<'a>(objects: impl Iterator<Item = &'a Object>) -> Self {
        let mut index = Self::default();
        for object in objects {
            match object {
                Object::Service(o) => drop(index.services.insert(key(&o.metadata), o.clone())),
                Object::Server(o) => drop(index.servers.insert(key(&o.metadata))),
                Object::EgressNetwork(o) => drop(index.egress.insert(key(&o.metadata), o.clone())),
                Object::HttpFault(o) => drop(index.faults.insert(key(&o.metadata), o.clone())),
                Object::ServiceProfile(o) => {
                    if let Some(service) = profiled(&o.metadata.name) {
                        if service.0 != o.metadata.namespace {
                            index.with_consumers.insert(ParentKey::service(&service.0, &service.1));
                        }
                        index.profiles.entry(service).or_default().push(o.clone());
                    }
                }
                Object::ReferenceGrant(o) => {
                    let grants = index.grants.entry(o.metadata.namespace.clone()).or_default();
                    grants.push(o.clone());
                }
                other => index.all.extend(Route::of(other)),
            }
        }
        index.all.sort_by(|a, b| a.rank().cmp(&b.rank()));
        for route in &index.all {
            let mut parents = Vec::new();
            for reference in route.parents() {
                if let Some(parent) = ParentKey::of(reference, &route.metadata().namespace)
                    && !parents.contains(&parent)
                {
                    parents.push(parent);
                }
            }
            for parent in parents {
                if parent.namespace != route.metadata().namespace {
                    index.with_consumers.insert(parent.clone());
                }
                index.by_parent.entry(parent).or_default().push(route.clone());
            }
        }
        index
    }

    /// Every route, in the order of precedence.
    pub(crate) fn all(&self) -> &[Route] {
        &self.all
    }

    /// The routes that name a parent, whatever the port, in the order of precedence.
    pub(crate) fn of_parent(&self, parent: &ParentKey) -> &[Route] {
        self.by_parent.get(parent).map_or(&[], Vec::as_slice)
    }

    /// The routes that count for a port of a parent and the clients of a namespace, in the order of precedence: all of one type.
    ///
    /// Routes of the client's namespace (consumer routes) replace those of the parent's (GEP-1426); of the types that the port can have the
    /// most specific counts.
    pub(crate) fn attached(&self, parent: &ParentKey, port: Port<'_>, client: &str, types: &[RouteType]) -> Vec<Route> {
        let named = self.of_parent(parent).iter();
        let named = named.filter(|route| types.contains(&route.route_type()) && names_port(route, parent, port));
        let named: Vec<&Route> = named.collect();
        let of = |namespace: &str| -> Vec<&Route> {
            let in_namespace = named.iter().filter(|route| route.metadata().namespace == namespace);
            in_namespace.copied().collect()
        };
        let consumer = if client == parent.namespace {
            Vec::new()
        } else {
            of(client)
        };
        let routes = if consumer.is_empty() {
            of(&parent.namespace)
        } else {
            consumer
        };
        let route_type = routes.iter().map(|route| route.route_type()).min();
        let routes = routes
            .into_iter()
            .filter(|route| Some(route.route_type()) == route_type);
        routes.cloned().collect()
    }

    /// Whether the clients of some namespace have routes or a ServiceProfile of their own for a parent.
    pub(crate) fn differs_by_client(&self, parent: &ParentKey) -> bool {
        self.with_consumers.contains(parent)
    }

    /// A Service as users wrote it.
    pub(crate) fn find_service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        find(&self.services, namespace, name)
    }

    /// Whether there is a Server.
    pub(super) fn has_server(&self, namespace: &str, name: &str) -> bool {
        self.servers.contains(&(namespace.to_owned(), name.to_owned()))
    }

    /// An EgressNetwork by name.
    pub(crate) fn find_egress(&self, namespace: &str, name: &str) -> Option<&Arc<EgressNetwork>> {
        self.egress.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Every EgressNetwork, by namespace and name.
    pub(crate) fn egress_networks(&self) -> impl Iterator<Item = &Arc<EgressNetwork>> {
        self.egress.values()
    }

    /// An HTTPFault by name.
    pub(super) fn find_fault(&self, namespace: &str, name: &str) -> Option<&Arc<HttpFault>> {
        find(&self.faults, namespace, name)
    }

    /// The ServiceProfile of a Service in a domain: the client's namespace first, then the Service's own.
    pub(crate) fn find_profile(&self, client: &str, service: &Service, domain: &str) -> Option<&Arc<ServiceProfile>> {
        let full_name = service.fqdn(domain);
        let own = self.profiles_of(&service.metadata.namespace, &service.metadata.name);
        let of = |namespace: &str| {
            let mut own = own.iter();
            own.find(|profile| profile.metadata.namespace == namespace && profile.metadata.name == full_name)
        };
        of(client).or_else(|| of(&service.metadata.namespace))
    }

    /// The ServiceProfiles of a Service, in whatever domain and namespace.
    pub(crate) fn profiles_of(&self, namespace: &str, name: &str) -> &[Arc<ServiceProfile>] {
        let key = (namespace.to_owned(), name.to_owned());
        self.profiles.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The grants of a namespace.
    pub(super) fn grants(&self, namespace: &str) -> &[Arc<ReferenceGrant>] {
        self.grants.get(namespace).map_or(&[], Vec::as_slice)
    }
}

/// A port of a parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port<'a> {
    /// Number.
    pub(crate) number: u16,
    /// Its name, where the parent is a Service that names it.
    pub(crate) name: Option<&'a str>,
}

impl<'a> Port<'a> {
    /// A port of a Service.
    pub(crate) fn of(port: &'a ServicePort) -> Self {
        Self {
            number: port.port,
            name: port.name.as_deref(),
        }
    }

    /// A port of addresses outside the mesh.
    pub(crate) fn number(number: u16) -> Self {
        Self { number, name: None }
    }
}

/// Whether a route names a port of a parent.
pub(super) fn names_port(route: &Route, parent: &ParentKey, port: Port<'_>) -> bool {
    let mut references = route.parents().iter();
    references.any(|reference| reference_names(reference, port) && parent.is(reference, &route.metadata().namespace))
}

/// Whether a reference is for a port.
pub(super) fn reference_names(reference: &ParentRef, port: Port<'_>) -> bool {
    reference.port.is_none_or(|number| number == port.number)
        && reference
            .section_name
            .as_deref()
            .is_none_or(|name| Some(name) == port.name)
}
