//! The routes of a port: those that users attached to its Server, or else one that takes everything; and the paths of probes, which nobody has
//! to be authorised for.
//!
//! Linkerd's API has two forms of routes, and words for few filters: the others are told in extras. A gRPC port gets the form of gRPC where that can say all; else, as with a rate limit, which it does
//! not know, HTTP/2 with the same rules in the form of HTTP.

use sheer_api::{
    linkerd::{
        grpc_route::{GrpcFailureInjector, GrpcRouteMatch, GrpcRpcMatch},
        http_route::{HttpFailureInjector, HttpRouteMatch, PathMatch, path_match},
        inbound::{Authz, GrpcRoute, HttpRoute, grpc_route, http_route},
    },
    v1,
};

use super::clients::{self, default};
use crate::{
    config::MeshConfig,
    objects::{self, FilterType, MatchType, RouteFilter, Server},
    policy::outbound::{self, Actions, PolicyFilter, grpc_injector, http_injector},
    routes::{ParentKey, ParentKind, Route, RouteIndex, unsupported},
    store::Snapshot,
};

/// What a rule answers that cannot be applied (Gateway API: a filter that is not known is not skipped).
const CANNOT: u32 = 500;
/// `UNAVAILABLE`
const GRPC_CANNOT: u32 = 14;

/// The routes of a port.
pub(super) struct Routes<'a> {
    index: &'a RouteIndex,
    /// Those that users attached, in their order of precedence, with those that they let in.
    own: Vec<(&'a Route, Vec<Authz>)>,
    probes: Vec<String>,
}

/// Routes in one form, and what that cannot say of their rules.
pub(super) struct Told<R> {
    pub(super) routes: Vec<R>,
    pub(super) extras: Vec<v1::InboundRuleExtras>,
}

impl<'a> Routes<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        config: &MeshConfig,
        server: Option<&Server>,
        probes: Vec<String>,
    ) -> Self {
        let own = server.map_or(&[][..], |server| {
            snapshot.routes().of_parent(&ParentKey {
                kind: ParentKind::Server,
                namespace: server.metadata.namespace.clone(),
                name: server.metadata.name.clone(),
            })
        });
        // A route of another namespace could open a port that is not its own, or close it.
        let own = own.iter().filter(|route| {
            server.is_some_and(|server| server.metadata.namespace == route.metadata().namespace)
                && matches!(route, Route::Http(..) | Route::Grpc(_))
        });
        Self {
            index: snapshot.routes(),
            own: own
                .map(|route| (route, clients::of_route(snapshot, config, route)))
                .collect(),
            probes,
        }
    }

    /// In the form of gRPC; `None` where that cannot say it.
    pub(super) fn grpc(&self) -> Option<Told<GrpcRoute>> {
        let mut extras = Vec::new();
        let own = self.own.iter().map(|(route, authorizations)| match route {
            Route::Grpc(object) if object.spec.rules.iter().all(has_names_only) => {
                Some(self.grpc_route(route, object, authorizations, &mut extras))
            }
            _ => None,
        });
        let mut routes = own.collect::<Option<Vec<_>>>()?;
        if routes.is_empty() {
            routes.push(everything_grpc());
        }
        Some(Told { routes, extras })
    }

    /// In the form of HTTP.
    pub(super) fn http(&self) -> Told<HttpRoute> {
        let mut extras = Vec::new();
        let own = self.own.iter().map(|(route, authorizations)| {
            let route: &Route = route;
            let (hosts, rules) = match route {
                Route::Http(_, object) => {
                    let rules = object.spec.rules.iter().enumerate();
                    let rules = rules.map(|(index, rule)| http_route::Rule {
                        matches: rule.matches.iter().map(outbound::http_match).collect(),
                        filters: self.http_filters((route, index), &rule.filters, &mut extras),
                    });
                    (&object.spec.hostnames, rules.collect())
                }
                Route::Grpc(object) => {
                    let rules = object.spec.rules.iter().enumerate();
                    let rules = rules.map(|(index, rule)| http_route::Rule {
                        matches: rule.matches.iter().map(grpc_as_http).collect(),
                        filters: self.http_filters((route, index), &rule.filters, &mut extras),
                    });
                    (&object.spec.hostnames, rules.collect())
                }
                Route::Tls(_) | Route::Tcp(_) => unreachable!("left out when the routes were collected"),
            };
            HttpRoute {
                metadata: Some(outbound::route_reference(route)),
                hosts: hosts.iter().map(|host| outbound::host(host)).collect(),
                authorizations: authorizations.clone(),
                rules,
            }
        });
        let mut routes: Vec<_> = own.collect();
        if routes.is_empty() {
            routes.push(everything_http());
        }
        routes.extend(self.of_probes());
        Told { routes, extras }
    }

    fn of_probes(&self) -> Option<HttpRoute> {
        let probe = |path: &String| HttpRouteMatch {
            path: at(path_match::Kind::Exact(path.clone())),
            method: Some(outbound::method("GET")),
            ..HttpRouteMatch::default()
        };
        (!self.probes.is_empty()).then(|| HttpRoute {
            metadata: Some(default("probe")),
            hosts: Vec::new(),
            authorizations: vec![clients::of_probes()],
            rules: vec![http_route::Rule {
                matches: self.probes.iter().map(probe).collect(),
                filters: Vec::new(),
            }],
        })
    }

    fn grpc_route(
        &self,
        route: &Route,
        object: &objects::GrpcRoute,
        authorizations: &[Authz],
        extras: &mut Vec<v1::InboundRuleExtras>,
    ) -> GrpcRoute {
        let found = |said: &objects::GrpcRouteMatch| {
            let method = said.method.clone().unwrap_or_default();
            GrpcRouteMatch {
                rpc: Some(GrpcRpcMatch {
                    service: method.service.unwrap_or_default(),
                    method: method.method.unwrap_or_default(),
                }),
                headers: outbound::headers(&said.headers),
            }
        };
        let rules = object.spec.rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| grpc_route::Rule {
            matches: rule.matches.iter().map(found).collect(),
            filters: self.grpc_filters((route, index), &rule.filters, extras),
        });
        GrpcRoute {
            metadata: Some(outbound::route_reference(route)),
            authorizations: authorizations.to_vec(),
            rules: rules.collect(),
            hosts: object.spec.hostnames.iter().map(|host| outbound::host(host)).collect(),
        }
    }

    fn http_filters(
        &self,
        (route, index): (&Route, usize),
        filters: &[RouteFilter],
        extras: &mut Vec<v1::InboundRuleExtras>,
    ) -> Vec<http_route::Filter> {
        use http_route::filter::Kind;
        let filter = |kind| http_route::Filter { kind: Some(kind) };
        let actions = match self.actions(route, filters) {
            Ok(actions) => actions,
            Err(message) => {
                return vec![filter(Kind::FailureInjector(HttpFailureInjector {
                    status: CANNOT,
                    message,
                    ratio: None,
                }))];
            }
        };
        let (filters, more) = actions.split(|said| match said {
            PolicyFilter::RequestHeaders(said) => Some(filter(Kind::RequestHeaderModifier(said.clone()))),
            PolicyFilter::Redirect(said) => Some(filter(Kind::Redirect(said.clone()))),
            PolicyFilter::Abort(abort) => Some(filter(Kind::FailureInjector(http_injector(abort)?))),
            PolicyFilter::ResponseHeaders(_) => None,
        });
        note(extras, (route, index), more);
        filters
    }

    fn grpc_filters(
        &self,
        (route, index): (&Route, usize),
        filters: &[RouteFilter],
        extras: &mut Vec<v1::InboundRuleExtras>,
    ) -> Vec<grpc_route::Filter> {
        use grpc_route::filter::Kind;
        let filter = |kind| grpc_route::Filter { kind: Some(kind) };
        let actions = match self.actions(route, filters) {
            Ok(actions) => actions,
            Err(message) => {
                return vec![filter(Kind::FailureInjector(GrpcFailureInjector {
                    code: GRPC_CANNOT,
                    message,
                    ratio: None,
                }))];
            }
        };
        let (filters, more) = actions.split(|said| match said {
            PolicyFilter::RequestHeaders(said) => Some(filter(Kind::RequestHeaderModifier(said.clone()))),
            PolicyFilter::Abort(abort) => Some(filter(Kind::FailureInjector(grpc_injector(abort)?))),
            // Manifests with a redirect are refused: gRPC has none.
            PolicyFilter::ResponseHeaders(_) | PolicyFilter::Redirect(_) => None,
        });
        note(extras, (route, index), more);
        filters
    }

    /// What filters do to what comes in; why they cannot be applied.
    fn actions(&self, route: &Route, filters: &[RouteFilter]) -> Result<Actions, String> {
        if let Some(why) = cannot_be_applied(filters) {
            return Err(why);
        }
        let mut actions = Actions::read(self.index, route, filters, false);
        actions.dead.take().map_or(Ok(actions), Err)
    }
}

/// Notes what the policy cannot say of a rule, where there is any.
fn note(extras: &mut Vec<v1::InboundRuleExtras>, (route, index): (&Route, usize), filters: Vec<v1::FilterExtra>) {
    if !filters.is_empty() {
        extras.push(v1::InboundRuleExtras {
            route: Some(outbound::object(&outbound::route_reference(route))),
            rule: u32::try_from(index).unwrap_or(u32::MAX),
            filters,
        });
    }
}

/// Why filters cannot be applied to what comes in: copies are made where a request is sent.
pub(crate) fn cannot_be_applied(filters: &[RouteFilter]) -> Option<String> {
    let mirrors = filters.iter().any(|filter| filter.kind == FilterType::RequestMirror);
    let why = "the filter RequestMirror is not supported on a route of a Server; write it on a route of the Service";
    unsupported(filters, false).or_else(|| mirrors.then(|| why.to_owned()))
}

fn everything_http() -> HttpRoute {
    HttpRoute {
        metadata: Some(default("default")),
        hosts: Vec::new(),
        authorizations: Vec::new(),
        rules: vec![http_route::Rule {
            matches: vec![HttpRouteMatch {
                path: at(path_match::Kind::Prefix("/".to_owned())),
                ..HttpRouteMatch::default()
            }],
            filters: Vec::new(),
        }],
    }
}

fn everything_grpc() -> GrpcRoute {
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

fn at(kind: path_match::Kind) -> Option<PathMatch> {
    Some(PathMatch { kind: Some(kind) })
}

/// Whether the form of gRPC can say all matches of a rule: it has no regular expressions.
fn has_names_only(rule: &objects::GrpcRouteRule) -> bool {
    let methods = rule.matches.iter().filter_map(|found| found.method.as_ref());
    methods.into_iter().all(|method| method.kind == MatchType::Exact)
}

/// A match of gRPC in the form of HTTP: a whole path, a service's prefix, or what a regular expression says.
fn grpc_as_http(said: &objects::GrpcRouteMatch) -> HttpRouteMatch {
    let kind = match &said.method {
        None => path_match::Kind::Prefix("/".to_owned()),
        Some(method) => match (&method.service, &method.method) {
            (Some(service), Some(name)) if method.kind == MatchType::Exact => {
                path_match::Kind::Exact(format!("/{service}/{name}"))
            }
            (Some(service), None) if method.kind == MatchType::Exact => path_match::Kind::Prefix(format!("/{service}")),
            _ => path_match::Kind::Regex(path_regex(method)),
        },
    };
    HttpRouteMatch {
        path: at(kind),
        headers: outbound::headers(&said.headers),
        ..HttpRouteMatch::default()
    }
}

/// A method as a regular expression for the whole path. Names of gRPC hold nothing but letters, digits, `_` and `.`.
fn path_regex(said: &objects::GrpcMethodMatch) -> String {
    let part = |name: &Option<String>| match name {
        None => "[^/]+".to_owned(),
        Some(name) if said.kind == MatchType::Exact => name.replace('.', "\\."),
        Some(regex) => format!("(?:{regex})"),
    };
    format!("/{}/{}", part(&said.service), part(&said.method))
}
