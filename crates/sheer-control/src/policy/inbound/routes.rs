//! The routes of a port: those that users attached to its Server, or else one that takes everything; and the paths of probes, which nobody has
//! to be authorised for.
//!
//! Linkerd's API has two forms of routes. A gRPC port gets the form of gRPC where that can say all; else, as with a rate limit, which it does
//! not know, HTTP/2 with the same rules in the form of HTTP.

use sheer_api::linkerd::{
    grpc_route::{GrpcFailureInjector, GrpcRouteMatch, GrpcRpcMatch},
    http_route::{HttpFailureInjector, HttpRouteMatch, PathMatch, RequestHeaderModifier, RequestRedirect, path_match},
    inbound::{Authz, GrpcRoute, HttpRoute, grpc_route, http_route},
};

use super::clients::{self, default};
use crate::{
    config::MeshConfig,
    objects::{self, FaultAbort, FilterType, MatchType, RouteFilter, Server},
    policy::outbound,
    routes::{ParentKey, ParentKind, Route, RouteIndex, fault_of, unsupported},
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
    pub(super) fn grpc(&self) -> Option<Vec<GrpcRoute>> {
        let own = self.own.iter().map(|(route, authorizations)| match route {
            Route::Grpc(object) if object.spec.rules.iter().all(has_names_only) => {
                Some(self.grpc_route(route, object, authorizations))
            }
            _ => None,
        });
        let own = own.collect::<Option<Vec<_>>>()?;
        Some(if own.is_empty() { vec![everything_grpc()] } else { own })
    }

    /// In the form of HTTP.
    pub(super) fn http(&self) -> Vec<HttpRoute> {
        let own = self.own.iter().map(|(route, authorizations)| {
            let (hosts, rules) = match route {
                Route::Http(_, object) => (
                    &object.spec.hostnames,
                    object
                        .spec
                        .rules
                        .iter()
                        .map(|rule| self.http_rule(route, rule))
                        .collect(),
                ),
                Route::Grpc(object) => (
                    &object.spec.hostnames,
                    object
                        .spec
                        .rules
                        .iter()
                        .map(|rule| self.grpc_as_http(route, rule))
                        .collect(),
                ),
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
        routes
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

    fn http_rule(&self, route: &Route, rule: &objects::HttpRouteRule) -> http_route::Rule {
        http_route::Rule {
            matches: rule.matches.iter().map(outbound::http_match).collect(),
            filters: self.http_filters(route, &rule.filters),
        }
    }

    fn grpc_as_http(&self, route: &Route, rule: &objects::GrpcRouteRule) -> http_route::Rule {
        let found = |said: &objects::GrpcRouteMatch| HttpRouteMatch {
            path: at(match &said.method {
                Some(method) => path_match::Kind::Regex(path_regex(method)),
                None => path_match::Kind::Prefix("/".to_owned()),
            }),
            headers: outbound::headers(&said.headers),
            ..HttpRouteMatch::default()
        };
        http_route::Rule {
            matches: rule.matches.iter().map(exact_where_it_can(found)).collect(),
            filters: self.http_filters(route, &rule.filters),
        }
    }

    fn grpc_route(&self, route: &Route, object: &objects::GrpcRoute, authorizations: &[Authz]) -> GrpcRoute {
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
        let rule = |rule: &objects::GrpcRouteRule| grpc_route::Rule {
            matches: rule.matches.iter().map(found).collect(),
            filters: self.grpc_filters(route, &rule.filters),
        };
        GrpcRoute {
            metadata: Some(outbound::route_reference(route)),
            hosts: object.spec.hostnames.iter().map(|host| outbound::host(host)).collect(),
            authorizations: authorizations.to_vec(),
            rules: object.spec.rules.iter().map(rule).collect(),
        }
    }

    fn http_filters(&self, route: &Route, filters: &[RouteFilter]) -> Vec<http_route::Filter> {
        use http_route::filter::Kind;
        let filter = |kind| http_route::Filter { kind: Some(kind) };
        let failure =
            |status, message, ratio| filter(Kind::FailureInjector(HttpFailureInjector { status, message, ratio }));
        let actions = match self.actions(route, filters) {
            Ok(actions) => actions,
            Err(why) => return vec![failure(CANNOT, why, None)],
        };
        let kind = |action| match action {
            Action::Headers(said) => filter(Kind::RequestHeaderModifier(said)),
            Action::Redirect(said) => filter(Kind::Redirect(said)),
            Action::Abort(abort) => failure(
                abort.http_status.map_or(CANNOT, u32::from),
                outbound::message(&abort),
                outbound::ratio(abort.percent),
            ),
        };
        actions.into_iter().map(kind).collect()
    }

    fn grpc_filters(&self, route: &Route, filters: &[RouteFilter]) -> Vec<grpc_route::Filter> {
        use grpc_route::filter::Kind;
        let filter = |kind| grpc_route::Filter { kind: Some(kind) };
        let failure =
            |code, message, ratio| filter(Kind::FailureInjector(GrpcFailureInjector { code, message, ratio }));
        let actions = match self.actions(route, filters) {
            Ok(actions) => actions,
            Err(why) => return vec![failure(GRPC_CANNOT, why, None)],
        };
        let kind = |action| match action {
            Action::Headers(said) => filter(Kind::RequestHeaderModifier(said)),
            // Manifests with it are refused: gRPC has no redirects.
            Action::Redirect(_) => failure(GRPC_CANNOT, "gRPC has no redirects".to_owned(), None),
            Action::Abort(abort) => failure(
                abort.grpc_code.map_or(GRPC_CANNOT, u32::from),
                outbound::message(&abort),
                outbound::ratio(abort.percent),
            ),
        };
        actions.into_iter().map(kind).collect()
    }

    /// What filters do to what comes in; why they cannot be applied.
    fn actions(&self, route: &Route, filters: &[RouteFilter]) -> Result<Vec<Action>, String> {
        if let Some(why) = cannot_be_applied(filters) {
            return Err(why);
        }
        let mut actions = Vec::new();
        for filter in filters {
            if let Some(said) = &filter.request_header_modifier {
                actions.push(Action::Headers(outbound::request_headers(said)));
            }
            if let Some(said) = &filter.request_redirect {
                actions.push(Action::Redirect(outbound::redirect(said)));
            }
            if let Some(reference) = &filter.extension_ref {
                let fault = fault_of(self.index, &route.metadata().namespace, reference).map_err(|bad| bad.message)?;
                if fault.delay.is_some() {
                    return Err(
                        "a delay is not supported on what comes in; write it on a route of the Service".to_owned(),
                    );
                }
                actions.extend(fault.abort.map(Action::Abort));
            }
        }
        Ok(actions)
    }
}

/// What a filter does.
enum Action {
    Headers(RequestHeaderModifier),
    Redirect(RequestRedirect),
    Abort(FaultAbort),
}

/// Why filters cannot be applied to what comes in: Linkerd's API knows three.
pub(crate) fn cannot_be_applied(filters: &[RouteFilter]) -> Option<String> {
    let of_outbound = |filter: &RouteFilter| {
        let name = match filter.kind {
            FilterType::ResponseHeaderModifier => "ResponseHeaderModifier",
            FilterType::UrlRewrite => "URLRewrite",
            FilterType::RequestMirror => "RequestMirror",
            _ => return None,
        };
        Some(format!(
            "the filter {name} is not supported on a route of a Server; write it on a route of the Service"
        ))
    };
    unsupported(filters, false).or_else(|| filters.iter().find_map(of_outbound))
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
fn exact_where_it_can(
    otherwise: impl Fn(&objects::GrpcRouteMatch) -> HttpRouteMatch,
) -> impl Fn(&objects::GrpcRouteMatch) -> HttpRouteMatch {
    move |said| {
        let mut found = otherwise(said);
        if let Some(method) = said.method.as_ref().filter(|method| method.kind == MatchType::Exact) {
            match (&method.service, &method.method) {
                (Some(service), Some(method)) => {
                    found.path = at(path_match::Kind::Exact(format!("/{service}/{method}")));
                }
                (Some(service), None) => found.path = at(path_match::Kind::Prefix(format!("/{service}"))),
                (None, _) => {}
            }
        }
        found
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
