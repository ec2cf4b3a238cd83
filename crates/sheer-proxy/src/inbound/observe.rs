//! Who is told what happens on a port: metrics and the log, resolved once for each port and client identity.

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use ahash::AHashMap;
use sheer_policy::limit::Scope;

use super::policy::Client;
use crate::{
    discovery::{Authorization, InboundPolicy, ObjectRef},
    error::Direction,
    exchange::{End, Head, Outcome, Sink},
    metrics::{
        Counter, HttpAuthzMetrics, HttpMetrics, InboundRouteMetrics, LabelSet, ResponseOutcome, Shard, TcpAuthzMetrics,
        TcpMetrics, TcpOpen, application_labels, family, inbound_labels,
    },
    telemetry::{Key, PathNote, PathPeer, PeerKey, Series},
};

/// Route and rule of a decision.
type ByRoute = (Option<ObjectRef>, Option<ObjectRef>);

/// The metrics of one port and client identity.
pub(super) struct Observers {
    pub(super) http: HttpMetrics,
    tcp: TcpMetrics,
    /// Connections to the application, where they are counted one by one: see [`Self::app`].
    app: OnceCell<TcpMetrics>,
    addr: SocketAddr,
    server: Arc<ObjectRef>,
    shard: Shard,
    labels: LabelSet,
    policy: Arc<InboundPolicy>,
    /// Whether a route of the policy is one that somebody wrote.
    has_user_routes: bool,
    routes: RefCell<AHashMap<Option<ObjectRef>, Rc<InboundRouteMetrics>>>,
    http_authz: RefCell<AHashMap<ByRoute, Rc<HttpAuthzMetrics>>>,
    /// By the rule that let a client in, or none.
    tcp_authz: RefCell<AHashMap<Option<ObjectRef>, Rc<TcpAuthzMetrics>>>,
    route_not_found: OnceCell<Counter>,
    rate_limited: RefCell<AHashMap<Scope, Counter>>,
}

impl Observers {
    pub(super) fn new(shard: &Shard, addr: SocketAddr, policy: Arc<InboundPolicy>, client: &Client) -> Self {
        let labels = inbound_labels(addr, &policy.server, client.tls_label());
        let is_users = |rule: &Arc<sheer_policy::routes::Rule<_>>| !rule.route.is_default();
        Self {
            http: HttpMetrics::new(shard, &labels),
            tcp: TcpMetrics::new(shard, &labels),
            app: OnceCell::new(),
            addr,
            server: Arc::new(policy.server.clone()),
            shard: shard.clone(),
            labels,
            has_user_routes: policy.routes.rules().iter().any(is_users),
            policy,
            routes: RefCell::default(),
            http_authz: RefCell::default(),
            tcp_authz: RefCell::default(),
            route_not_found: OnceCell::new(),
            rate_limited: RefCell::default(),
        }
    }

    /// Counts a connection of a client, until dropped.
    pub(super) fn open(&self, client: &Client) -> TcpOpen {
        let cells = self.shard.recorder().map(|recorder| recorder.cells(self.key(client)));
        self.tcp.open_as(cells)
    }

    /// Who is told of the requests of one connection.
    pub(super) fn sink(self: &Rc<Self>, client: &Client) -> Rc<HttpSink> {
        Rc::new(HttpSink {
            observers: Rc::clone(self),
            series: self.shard.recorder().map(|recorder| recorder.series(self.key(client))),
        })
    }

    /// Notes the path of a request, while somebody looks at paths.
    pub(super) fn path(&self, client: &Client, head: &Head) -> Option<Box<PathNote>> {
        let about = || PathPeer {
            direction: Direction::Inbound,
            client: Some((client.addr.ip(), client.identity().cloned(), client.tls.told())),
            target: Arc::clone(&self.server),
            authority: "".into(),
        };
        let recorder = self.shard.recorder()?;
        recorder.path(about, head.method.as_str(), head.uri.path())
    }

    /// As what the control plane is told of a client: by its address, which these observers do not go by.
    fn key(&self, client: &Client) -> Key {
        let peer = PeerKey {
            address: Some(client.addr.ip()),
            identity: client.identity().cloned(),
            tls: client.tls.told(),
            place: None,
        };
        Key::from_client(&self.server, self.addr.port(), peer)
    }

    /// Connections to the application that carry one connection of a client each. Ports of HTTP never have one.
    pub(super) fn app(&self) -> &TcpMetrics {
        self.app
            .get_or_init(|| TcpMetrics::new(&self.shard, &application_labels(self.addr, &self.policy.server)))
    }

    /// The policy that these are about.
    pub(super) fn policy(&self) -> &Arc<InboundPolicy> {
        &self.policy
    }

    /// Whether a route of the policy is one that somebody wrote.
    pub(super) fn has_user_routes(&self) -> bool {
        self.has_user_routes
    }

    /// Where decisions about requests are counted: under the route, and the rule that let the client in.
    pub(super) fn http_authz(&self, route: Option<&ObjectRef>, rule: Option<&Authorization>) -> Rc<HttpAuthzMetrics> {
        let key = (route.cloned(), rule.map(|rule| rule.policy.clone()));
        let mut known = self.http_authz.borrow_mut();
        let made = known.entry(key).or_insert_with_key(|(route, rule)| {
            let mut labels = self.labels.to_builder();
            for (prefix, object) in [("route_", route), ("authz_", rule)] {
                if let Some(object) = object {
                    labels = labels.object(prefix, object);
                }
            }
            Rc::new(HttpAuthzMetrics::new(&self.shard, &labels.build()))
        });
        Rc::clone(made)
    }

    /// Where requests of a route are counted.
    pub(super) fn route(&self, route: Option<&ObjectRef>) -> Rc<InboundRouteMetrics> {
        let mut known = self.routes.borrow_mut();
        let made = known.entry(route.cloned()).or_insert_with_key(|route| {
            let mut labels = LabelSet::builder().object("parent_", &self.policy.server);
            if let Some(route) = route {
                labels = labels.object("route_", route);
            }
            Rc::new(InboundRouteMetrics::new(&self.shard, &labels.build()))
        });
        Rc::clone(made)
    }

    /// Where decisions about connections are counted: under the rule that let the client in, or under the server where none did.
    pub(super) fn tcp_authz(&self, rule: Option<&Authorization>) -> Rc<TcpAuthzMetrics> {
        let key = rule.map(|rule| rule.policy.clone());
        let mut known = self.tcp_authz.borrow_mut();
        let made = known.entry(key).or_insert_with_key(|rule| {
            let labels = match rule {
                Some(rule) => self.labels.to_builder().object("authz_", rule).build(),
                None => self.labels.clone(),
            };
            Rc::new(TcpAuthzMetrics::new(&self.shard, &labels))
        });
        Rc::clone(made)
    }

    /// Requests that no route takes.
    pub(super) fn route_not_found(&self) -> &Counter {
        self.route_not_found.get_or_init(|| {
            self.shard
                .counter(&family::INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL, &self.labels)
        })
    }

    /// Requests past a limit.
    pub(super) fn rate_limited(&self, policy: &ObjectRef, scope: Scope) -> Counter {
        let mut known = self.rate_limited.borrow_mut();
        let made = known.entry(scope).or_insert_with(|| {
            let labels = self.labels.to_builder().object("ratelimit_", policy);
            let labels = labels.label("ratelimit_scope", scope.as_str()).build();
            self.shard.counter(&family::INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL, &labels)
        });
        made.clone()
    }

    /// A client was let in that another default policy than `audit` would have refused.
    pub(super) fn audited(&self, client: &Client, route: Option<&ObjectRef>) {
        let identity = client.identity().map_or("no identity", |identity| identity);
        let route = route.filter(|route| !route.is_default()).map(ToString::to_string);
        tracing::info!(
            client = %client.addr,
            identity,
            server = %self.policy.server,
            route,
            "let in by the policy audit alone: no rule allows it"
        );
    }

    /// A change of policy ended the connection of a client.
    pub(super) fn revoked(&self, client: &Client) {
        self.tcp_authz(None).terminate.inc();
        let identity = client.identity().map_or("no identity", |identity| identity);
        tracing::info!(
            client = %client.addr,
            identity,
            server = %self.policy.server,
            "connection ended: policy has changed, and no rule lets its client in any longer"
        );
    }
}

/// Counts the requests of one connection.
pub(super) struct HttpSink {
    observers: Rc<Observers>,
    series: Option<Series>,
}

impl Sink for HttpSink {
    fn end(&self, outcome: &Outcome) {
        if let End::Proxy { verdict, reason } = outcome.end {
            self.observers.shard.http_error(Direction::Inbound, verdict, reason);
        }
        self.observers.shard.stalls(Direction::Inbound, outcome.stalls);
        if let Some(response) = ResponseOutcome::of(outcome) {
            self.observers.http.response(&response);
            if let Some(series) = &self.series {
                series.ended(&response);
            }
        }
    }
}
