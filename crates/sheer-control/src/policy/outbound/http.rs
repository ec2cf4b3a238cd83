//! `HTTPRoute`s, and the default where there are none.

use sheer_api::{
    linkerd::{
        http_route::{
            HeaderMatch, HostMatch, HttpRouteMatch, PathMatch, QueryParamMatch, header_match, host_match, path_match,
            query_param_match,
        },
        http_types::{HttpMethod, http_method},
        outbound::{Backend, HttpRoute, http_route},
    },
    v1,
};

use super::{
    Actions, Compiler, Parent, Place,
    backends::{Share, Words},
    default, egress, extras, filters, route_reference, settings,
};
use crate::{
    objects::{self, BackendRef, HttpBackendRef, HttpRouteRule, MatchType, PathMatchType, Traffic, ValueMatch},
    routes::Route,
};

use http_route::{Distribution, RouteBackend, Rule, WeightedRouteBackend, distribution};

impl Compiler<'_> {
    /// The routes of a parent, and what takes the rest: for a Service without routes everything, for an EgressNetwork what no route takes.
    pub(super) fn http_routes(&mut self, routes: &[Route]) -> Vec<HttpRoute> {
        let own = routes.iter().filter_map(|route| match route {
            Route::Http(_, object) => Some((route, object)),
            _ => None,
        });
        let mut all: Vec<_> = own.map(|(route, object)| self.http_route(route, object)).collect();
        if all.is_empty() || matches!(self.parent, Parent::Egress(..)) {
            all.push(self.default_http_route());
        }
        all
    }

    fn http_route(&mut self, route: &Route, object: &objects::HttpRoute) -> HttpRoute {
        let metadata = route_reference(route);
        let annotations = Traffic::read(&object.metadata.annotations);
        let place = |index| Place {
            route,
            metadata: &metadata,
            annotations: &annotations,
            index,
        };
        let rules = object.spec.rules.iter().enumerate();
        HttpRoute {
            rules: rules.map(|(index, rule)| self.http_rule(place(index), rule)).collect(),
            hosts: object.spec.hostnames.iter().map(|name| host(name)).collect(),
            metadata: Some(metadata),
        }
    }

    fn http_rule(&mut self, place: Place<'_>, rule: &HttpRouteRule) -> Rule {
        let Place {
            route,
            metadata,
            annotations,
            index,
        } = place;
        let matches = rule.matches.iter().map(http_match).collect();
        let mut actions = self.actions(route, &rule.filters, false);
        let references: Vec<BackendRef> = rule.backend_refs.iter().map(HttpBackendRef::plain).collect();
        let shares = self.shares(route, &references);
        self.note_session(rule.session_persistence.as_ref(), &shares);
        let (timeouts, retry) =
            settings::of_rule(rule.timeouts.as_ref(), rule.retry.as_ref(), annotations, &self.settings);
        let mut extra = extras::of_actions(&mut actions);
        let (backends, dead) = self.http_backends(route, &rule.backend_refs, shares, &mut extra);
        if let Some(why) = actions.dead.take().or(dead) {
            return Rule {
                matches,
                filters: vec![filters::http_failure(500, why)],
                backends: Some(empty()),
                ..Rule::default()
            };
        }
        let (filters, more) = actions.http();
        extra.filters = more;
        extra.retry = retry.as_ref().map(|retry| retry.extras(false));
        self.note_rule(metadata, index, extra);
        Rule {
            matches,
            filters,
            backends: Some(backends),
            timeouts,
            retry: retry.as_ref().map(settings::Retry::http),
            ..Rule::default()
        }
    }

    /// Where a rule sends requests; without backends to the parent itself (as Linkerd). The text is why nothing may pass.
    fn http_backends(
        &mut self,
        route: &Route,
        references: &[HttpBackendRef],
        shares: Vec<Share>,
        extra: &mut v1::RuleExtras,
    ) -> (Distribution, Option<String>) {
        if references.is_empty() {
            let own = self.own_backend();
            return (first(own), None);
        }
        let words = Words {
            split: Actions::http,
            failure: |why| filters::http_failure(500, why),
            weighted: |weight, backend, filters| WeightedRouteBackend {
                weight,
                backend: Some(RouteBackend {
                    backend: Some(backend),
                    filters,
                    ..RouteBackend::default()
                }),
            },
        };
        let (weighted, dead) = self.weighted((route, references), shares, extra, &words);
        (random(weighted), dead)
    }

    /// Everything, to the parent itself.
    pub(super) fn default_http_route(&mut self) -> HttpRoute {
        let backend = self.own_backend();
        let (name, filters) = match self.parent {
            Parent::Service(..) => ("http", Vec::new()),
            Parent::Egress(network, _) if egress::allows(network) => ("http-egress-allow", Vec::new()),
            Parent::Egress(..) => (
                "http-egress-deny",
                vec![filters::http_failure(403, egress::DENIED.to_owned())],
            ),
        };
        let metadata = default(name);
        let (timeouts, retry) = settings::of_rule(None, None, &Traffic::default(), &self.settings);
        let extra = v1::RuleExtras {
            retry: retry.as_ref().map(|retry| retry.extras(false)),
            ..v1::RuleExtras::default()
        };
        self.note_rule(&metadata, 0, extra);
        HttpRoute {
            metadata: Some(metadata),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![everything()],
                filters,
                backends: Some(first(backend)),
                timeouts,
                retry: retry.as_ref().map(settings::Retry::http),
                ..Rule::default()
            }],
        }
    }
}

/// One backend for everything.
pub(super) fn first(backend: Backend) -> Distribution {
    let backends = vec![RouteBackend {
        backend: Some(backend),
        ..RouteBackend::default()
    }];
    Distribution {
        kind: Some(distribution::Kind::FirstAvailable(distribution::FirstAvailable {
            backends,
        })),
    }
}

/// Backends by weight.
pub(super) fn random(backends: Vec<WeightedRouteBackend>) -> Distribution {
    Distribution {
        kind: Some(distribution::Kind::RandomAvailable(distribution::RandomAvailable {
            backends,
        })),
    }
}

fn empty() -> Distribution {
    Distribution {
        kind: Some(distribution::Kind::Empty(distribution::Empty {})),
    }
}

/// Every request.
pub(super) fn everything() -> HttpRouteMatch {
    HttpRouteMatch {
        path: Some(PathMatch {
            kind: Some(path_match::Kind::Prefix("/".to_owned())),
        }),
        ..HttpRouteMatch::default()
    }
}

pub(in crate::policy) fn host(name: &str) -> HostMatch {
    let found = match name.strip_prefix("*.") {
        Some(domain) => host_match::Match::Suffix(host_match::Suffix {
            reverse_labels: domain.split('.').rev().map(str::to_owned).collect(),
        }),
        None => host_match::Match::Exact(name.to_owned()),
    };
    HostMatch { r#match: Some(found) }
}

pub(in crate::policy) fn http_match(said: &objects::HttpRouteMatch) -> HttpRouteMatch {
    let path = said.path.as_ref().map(|path| match path.kind {
        PathMatchType::Exact => path_match::Kind::Exact(path.value.clone()),
        PathMatchType::PathPrefix => path_match::Kind::Prefix(path.value.clone()),
        PathMatchType::RegularExpression => path_match::Kind::Regex(path.value.clone()),
    });
    let query = |said: &ValueMatch| QueryParamMatch {
        name: said.name.clone(),
        value: Some(match said.kind {
            MatchType::Exact => query_param_match::Value::Exact(said.value.clone()),
            MatchType::RegularExpression => query_param_match::Value::Regex(said.value.clone()),
        }),
    };
    HttpRouteMatch {
        // Gateway API: without a path, every path.
        path: Some(PathMatch {
            kind: Some(path.unwrap_or_else(|| path_match::Kind::Prefix("/".to_owned()))),
        }),
        headers: headers(&said.headers),
        query_params: said.query_params.iter().map(query).collect(),
        method: said.method.as_deref().map(method),
    }
}

/// Header fields to match. Of two for one field the first counts (Gateway API).
pub(in crate::policy) fn headers(said: &[ValueMatch]) -> Vec<HeaderMatch> {
    let mut names: Vec<String> = Vec::new();
    let mut matches = Vec::new();
    for header in said {
        let name = header.name.to_ascii_lowercase();
        if names.contains(&name) {
            continue;
        }
        matches.push(HeaderMatch {
            name: header.name.clone(),
            value: Some(match header.kind {
                MatchType::Exact => header_match::Value::Exact(header.value.clone().into_bytes()),
                MatchType::RegularExpression => header_match::Value::Regex(header.value.clone()),
            }),
        });
        names.push(name);
    }
    matches
}

pub(in crate::policy) fn method(name: &str) -> HttpMethod {
    use http_method::{Registered, Type};
    HttpMethod {
        r#type: Some(match Registered::from_str_name(name) {
            Some(registered) => Type::Registered(registered.into()),
            None => Type::Unregistered(name.to_owned()),
        }),
    }
}
