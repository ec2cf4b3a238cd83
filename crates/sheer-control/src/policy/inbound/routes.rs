//! The routes of a port: those that users attached to its Server, or else one that takes everything; and the paths of probes, which nobody has
//! to be authorised for.
//!
//! Linkerd's API has two forms of routes. A gRPC port gets the form of gRPC where that can say all; else, as with a rate limit, which it does
//! not know, HTTP/2 with the same rules in the form of HTTP.

use sheer_api::linkerd::{
    grpc_route::{GrpcFailureInjector, GrpcRouteMatch, GrpcRpcMatch},
    http_route::{
        HttpFailureInjector, HttpRouteMatch, PathMatch, PathModifier, Ratio, RequestHeaderModifier, RequestRedirect,
        path_match, path_modifier,
    },
    http_types::{Headers, Scheme, headers, scheme},
    inbound::{Authz, GrpcRoute, HttpRoute, grpc_route, http_route},
    meta::{Metadata, Resource, metadata},
};

use super::{
    clients::{self, default},
    matches,
};
use crate::{
    config::MeshConfig,
    objects::{self, FaultAbort, FilterType, Header, HeaderModifier, MatchType, PathModifierType, RouteFilter, Server},
    routes::{ParentKey, ParentKind, Route, RouteIndex, fault_of, unsupported},
    store::Snapshot,
};

/// What a rule answers that cannot be applied (Gateway API: a filter that is not known is not skipped).
const CANNOT: u32 = 500;
/// `UNAVAILABLE`
const GRPC_CANNOT: u32 = 14;
/// Of a fault's share, a million is the whole.
const WHOLE: f64 = 1_000_000.0;

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
                metadata: Some(reference(route)),
                hosts: hosts.iter().map(|host| matches::host(host)).collect(),
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
            method: Some(matches::method("GET")),
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
            matches: rule.matches.iter().map(matches::http).collect(),
            filters: self.http_filters(route, &rule.filters),
        }
    }

    fn grpc_as_http(&self, route: &Route, rule: &objects::GrpcRouteRule) -> http_route::Rule {
        let found = |said: &objects::GrpcRouteMatch| HttpRouteMatch {
            path: at(match &said.method {
                Some(method) => path_match::Kind::Regex(path_regex(method)),
                None => path_match::Kind::Prefix("/".to_owned()),
            }),
            headers: matches::headers(&said.headers),
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
                headers: matches::headers(&said.headers),
            }
        };
        let rule = |rule: &objects::GrpcRouteRule| grpc_route::Rule {
            matches: rule.matches.iter().map(found).collect(),
            filters: self.grpc_filters(route, &rule.filters),
        };
        GrpcRoute {
            metadata: Some(reference(route)),
            hosts: object.spec.hostnames.iter().map(|host| matches::host(host)).collect(),
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
                message(&abort),
                ratio(abort.percent),
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
                message(&abort),
                ratio(abort.percent),
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
                actions.push(Action::Headers(request_headers(said)));
            }
            if let Some(said) = &filter.request_redirect {
                actions.push(Action::Redirect(redirect(said)));
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

fn reference(route: &Route) -> Metadata {
    let resource = Resource {
        group: route.group().to_owned(),
        kind: route.kind().as_str().to_owned(),
        name: route.metadata().name.clone(),
        namespace: route.metadata().namespace.clone(),
        ..Resource::default()
    };
    Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    }
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

fn request_headers(said: &HeaderModifier) -> RequestHeaderModifier {
    let fields = |fields: &[Header]| {
        let field = |field: &Header| headers::Header {
            name: field.name.clone(),
            value: field.value.clone().into_bytes(),
        };
        (!fields.is_empty()).then(|| Headers {
            headers: fields.iter().map(field).collect(),
        })
    };
    RequestHeaderModifier {
        add: fields(&said.add),
        set: fields(&said.set),
        remove: said.remove.clone(),
    }
}

fn redirect(said: &objects::RequestRedirect) -> RequestRedirect {
    let scheme = said.scheme.as_deref().map(|name| match name {
        "https" => scheme::Registered::Https,
        _ => scheme::Registered::Http,
    });
    let path = said.path.as_ref().and_then(|path| match path.kind {
        PathModifierType::ReplaceFullPath => path.replace_full_path.clone().map(path_modifier::Replace::Full),
        PathModifierType::ReplacePrefixMatch => path.replace_prefix_match.clone().map(path_modifier::Replace::Prefix),
    });
    RequestRedirect {
        scheme: scheme.map(|scheme| Scheme {
            r#type: Some(scheme::Type::Registered(scheme.into())),
        }),
        host: said.hostname.clone().unwrap_or_default(),
        path: path.map(|replace| PathModifier { replace: Some(replace) }),
        port: said.port.unwrap_or(0).into(),
        status: said.status_code.unwrap_or(302).into(),
    }
}

fn message(abort: &FaultAbort) -> String {
    abort
        .message
        .clone()
        .unwrap_or_else(|| "injected by an HTTPFault".to_owned())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a share"
)]
fn ratio(percent: Option<f64>) -> Option<Ratio> {
    percent.map(|percent| Ratio {
        numerator: (percent.clamp(0.0, 100.0) / 100.0 * WHOLE).round() as u32,
        denominator: WHOLE as u32,
    })
}
