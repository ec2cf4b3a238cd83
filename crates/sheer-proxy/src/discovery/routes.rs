//! Converts the routes of outbound policies to rules: what a request has to be like, and where it then goes. Pure functions.
//!
//! A target has one backend today: that of the rule that takes a request without anything special. The whole list is kept in order,
//! for the matching of requests.

use sheer_api::linkerd::{grpc_route, http_route, opaque_route, outbound as api};

/// One rule of one route.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Takes every request.
    pub(super) takes_all: bool,
    /// Why it takes nothing, where a filter says so.
    pub(super) refuses: Option<String>,
    /// Where it sends what it takes, with weights; the first only where they are tried in order.
    pub(super) backends: Vec<(api::Backend, u32)>,
}

/// Where a request without anything special goes.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// There.
    Backend(Box<api::Backend>),
    /// Nowhere, and why.
    Nothing(String),
    /// There are no rules.
    Unsaid,
}

/// The rule that takes every request, or else the first that takes any: more requests are right with it than without.
pub(super) fn default_choice(rules: &[Rule]) -> Choice {
    let Some(rule) = rules.iter().find(|rule| rule.takes_all).or(rules.first()) else {
        return Choice::Unsaid;
    };
    if let Some(why) = &rule.refuses {
        return Choice::Nothing(why.clone());
    }
    // The first of the heaviest.
    let heaviest = rule
        .backends
        .iter()
        .rev()
        .max_by_key(|(_, weight)| *weight)
        .filter(|(_, weight)| *weight > 0);
    match heaviest {
        Some((backend, _)) => Choice::Backend(Box::new(backend.clone())),
        None => Choice::Nothing("the route has no backend".to_owned()),
    }
}

/// The four kinds of routes differ in their generated types only.
macro_rules! backends {
    ($kind:ident, $distribution:expr) => {{
        use api::$kind::distribution::Kind;
        match $distribution.and_then(|distribution| distribution.kind) {
            Some(Kind::FirstAvailable(first)) => first
                .backends
                .into_iter()
                .filter_map(|backend| Some((backend.backend?, 1)))
                .collect(),
            Some(Kind::RandomAvailable(random)) => {
                let weighted = random.backends.into_iter();
                weighted
                    .filter_map(|weighted| Some((weighted.backend?.backend?, weighted.weight)))
                    .collect()
            }
            Some(Kind::Empty(_)) | None => Vec::new(),
        }
    }};
}

pub(super) fn http(routes: Vec<api::HttpRoute>) -> Vec<Rule> {
    let rules = routes.into_iter().flat_map(|route| {
        let any_host = route.hosts.is_empty();
        route.rules.into_iter().map(move |rule| Rule {
            takes_all: any_host && (rule.matches.is_empty() || rule.matches.iter().any(http_takes_all)),
            refuses: None,
            backends: backends!(http_route, rule.backends),
        })
    });
    rules.collect()
}

pub(super) fn grpc(routes: Vec<api::GrpcRoute>) -> Vec<Rule> {
    let rules = routes.into_iter().flat_map(|route| {
        let any_host = route.hosts.is_empty();
        route.rules.into_iter().map(move |rule| Rule {
            takes_all: any_host && (rule.matches.is_empty() || rule.matches.iter().any(grpc_takes_all)),
            refuses: None,
            backends: backends!(grpc_route, rule.backends),
        })
    });
    rules.collect()
}

pub(super) fn opaque(routes: Vec<api::OpaqueRoute>) -> Vec<Rule> {
    let rules = routes.into_iter().flat_map(|route| route.rules).map(|rule| Rule {
        takes_all: true,
        refuses: rule.filters.into_iter().find_map(|filter| {
            use api::opaque_route::filter::Kind;
            filter.kind.map(|kind| match kind {
                Kind::Invalid(invalid) => refused_as_invalid(&invalid),
                Kind::Forbidden(_) => FORBIDDEN.to_owned(),
            })
        }),
        backends: backends!(opaque_route, rule.backends),
    });
    rules.collect()
}

pub(super) fn tls(routes: Vec<api::TlsRoute>) -> Vec<Rule> {
    let rules = routes.into_iter().flat_map(|route| {
        let any_name = route.snis.is_empty();
        route.rules.into_iter().map(move |rule| Rule {
            takes_all: any_name,
            refuses: rule.filters.into_iter().find_map(|filter| {
                use api::tls_route::filter::Kind;
                filter.kind.map(|kind| match kind {
                    Kind::Invalid(invalid) => refused_as_invalid(&invalid),
                    Kind::Forbidden(_) => FORBIDDEN.to_owned(),
                })
            }),
            backends: backends!(tls_route, rule.backends),
        })
    });
    rules.collect()
}

const FORBIDDEN: &str = "a policy forbids this destination";

fn refused_as_invalid(invalid: &opaque_route::Invalid) -> String {
    format!("the route is invalid: {}", invalid.message)
}

fn http_takes_all(found: &http_route::HttpRouteMatch) -> bool {
    use http_route::path_match::Kind;
    let any_path = match found.path.as_ref().and_then(|path| path.kind.as_ref()) {
        None => true,
        Some(Kind::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
        Some(Kind::Exact(_) | Kind::Regex(_)) => false,
    };
    any_path && found.headers.is_empty() && found.query_params.is_empty() && found.method.is_none()
}

fn grpc_takes_all(found: &grpc_route::GrpcRouteMatch) -> bool {
    let any_rpc = found
        .rpc
        .as_ref()
        .is_none_or(|rpc| rpc.service.is_empty() && rpc.method.is_empty());
    any_rpc && found.headers.is_empty()
}
