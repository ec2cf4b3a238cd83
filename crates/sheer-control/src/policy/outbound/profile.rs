//! `ServiceProfile`s for Sheer's proxy: their routes as routes of HTTP, their conditions in the extras. (A linkerd2-proxy asks
//! `Destination.GetProfile`.)

use sheer_api::{
    linkerd::{
        http_route::{HttpRouteMatch, PathMatch, Timeouts, path_match},
        meta::{Metadata, Resource, metadata},
        outbound::{
            HttpRoute,
            http_route::{Distribution, RouteBackend, Rule, WeightedRouteBackend},
            proxy_protocol::{self, Http1, Http2},
        },
    },
    v1,
};

use super::{Compiler, backends, default, detect, filters, http, settings};
use crate::{
    objects::{
        AppProtocol, Interval, ProfileBudget, ProfileRoute, RequestCondition, ResponseCondition, ServiceProfile,
        traffic::{BudgetSettings, RetrySettings},
    },
    target::Target,
};

/// Attempts beyond the first: a profile has no number of its own, the budget is what bounds them.
const ATTEMPTS: u32 = 10;
/// What is a failure where no class says so.
const FAILURES: (u16, u16) = (500, 599);
/// No path: it does not begin with a slash.
const NOTHING: &str = "ServiceProfile";

/// Whether a profile takes the place of routes (as Linkerd: one that only lists opaque ports does not).
pub(super) fn counts(profile: &ServiceProfile) -> bool {
    !(profile.spec.routes.is_empty() && profile.spec.dst_overrides.is_empty())
}

impl Compiler<'_> {
    /// What is told of a Service with a profile.
    pub(super) fn of_profile(&mut self, profile: &ServiceProfile, spoken: Option<AppProtocol>) -> proxy_protocol::Kind {
        if let Some(said) = &profile.spec.retry_budget {
            self.extras.budget = Some(settings::budget(budget(said)));
        }
        let routes = self.profile_routes(profile);
        let failure_accrual = self.accrual();
        match spoken {
            Some(AppProtocol::Http1) => proxy_protocol::Kind::Http1(Http1 {
                routes,
                failure_accrual,
            }),
            Some(AppProtocol::Http2 | AppProtocol::Grpc) => proxy_protocol::Kind::Http2(Http2 {
                routes,
                failure_accrual,
            }),
            Some(AppProtocol::Opaque) | None => {
                let opaque = self.opaque(&[]);
                detect(opaque, routes, failure_accrual)
            }
        }
    }

    fn profile_routes(&mut self, profile: &ServiceProfile) -> Vec<HttpRoute> {
        let backends = self.overrides(profile);
        let mut routes = Vec::new();
        for route in &profile.spec.routes {
            let metadata = reference(profile, &route.name);
            let retry = route.is_retryable.then(|| retry(route));
            let extra = v1::RuleExtras {
                retry: retry.as_ref().map(|retry| retry.extras(false)),
                condition: Some(condition(&route.condition)),
                ..v1::RuleExtras::default()
            };
            self.note_rule(&metadata, 0, extra);
            routes.push(HttpRoute {
                metadata: Some(metadata),
                hosts: Vec::new(),
                rules: vec![Rule {
                    matches: vec![simple_match(&route.condition)],
                    backends: Some(backends.clone()),
                    timeouts: route.timeout.and_then(Interval::bound).map(|timeout| Timeouts {
                        request: settings::duration(timeout),
                        ..Timeouts::default()
                    }),
                    retry: retry.as_ref().map(settings::Retry::http),
                    ..Rule::default()
                }],
            });
        }
        routes.push(HttpRoute {
            metadata: Some(default("http")),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![http::everything()],
                backends: Some(backends),
                ..Rule::default()
            }],
        });
        routes
    }

    /// Where requests go: to the Service itself, or where the profile sends them.
    fn overrides(&mut self, profile: &ServiceProfile) -> Distribution {
        if profile.spec.dst_overrides.is_empty() {
            let own = self.own_backend();
            return http::first(own);
        }
        let mut weighted = Vec::new();
        for over in &profile.spec.dst_overrides {
            let (backend, filters) = match Target::parse(&over.authority, &self.config.cluster_domain) {
                Ok(Target::Service { namespace, name, port }) => {
                    match self.snapshot.find_service(&namespace, &name).cloned() {
                        Some(service) => (self.balanced(&service, port), Vec::new()),
                        None => nothing(format!("there is no Service {namespace}/{name}")),
                    }
                }
                _ => nothing(format!("{:?} is not the name of a Service", over.authority)),
            };
            weighted.push(WeightedRouteBackend {
                weight: over.weight.milli,
                backend: Some(RouteBackend {
                    backend: Some(backend),
                    filters,
                    ..RouteBackend::default()
                }),
            });
        }
        http::random(weighted)
    }
}

fn nothing(
    why: String,
) -> (
    sheer_api::linkerd::outbound::Backend,
    Vec<sheer_api::linkerd::outbound::http_route::Filter>,
) {
    (backends::invalid(), vec![filters::http_failure(500, why)])
}

/// A route of a profile, as metrics name it.
fn reference(profile: &ServiceProfile, route: &str) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Resource(Resource {
            group: "linkerd.io".to_owned(),
            kind: "ServiceProfile".to_owned(),
            name: profile.metadata.name.clone(),
            namespace: profile.metadata.namespace.clone(),
            section: route.to_owned(),
            port: 0,
        })),
    }
}

fn budget(said: &ProfileBudget) -> BudgetSettings {
    BudgetSettings {
        ratio: said.retry_ratio.into(),
        min_per_second: said.min_retries_per_second,
        ttl: said.ttl.bound().unwrap_or(BudgetSettings::default().ttl),
    }
}

fn retry(route: &ProfileRoute) -> settings::Retry {
    settings::Retry::of_profile(RetrySettings {
        statuses: failures(route),
        limit: ATTEMPTS,
        ..RetrySettings::default()
    })
}

/// Statuses that are failures: of several classes the first that has a status counts, what is in none is none.
fn failures(route: &ProfileRoute) -> Vec<(u16, u16)> {
    if route.response_classes.is_empty() {
        return vec![FAILURES];
    }
    let fails = |status: u16| {
        let mut classes = route.response_classes.iter();
        classes
            .find(|class| holds(&class.condition, status))
            .is_some_and(|class| class.is_failure)
    };
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in (100..=599).filter(|status| fails(*status)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    ranges
}

/// Whether a status fulfils a condition.
fn holds(condition: &ResponseCondition, status: u16) -> bool {
    let in_range = condition.status.is_none_or(|range| {
        let status = u32::from(status);
        // One bound alone is that status.
        let (min, max) = (range.min.or(range.max), range.max.or(range.min));
        min.is_none_or(|min| status >= min) && max.is_none_or(|max| status <= max)
    });
    in_range
        && condition.all.iter().flatten().all(|condition| holds(condition, status))
        && condition
            .any
            .as_ref()
            .is_none_or(|any| any.iter().any(|condition| holds(condition, status)))
        && condition.not.as_ref().is_none_or(|not| !holds(not, status))
}

/// The whole condition.
fn condition(said: &RequestCondition) -> v1::Condition {
    use v1::condition::Kind;
    let several = |conditions: &[RequestCondition]| v1::Conditions {
        conditions: conditions.iter().map(condition).collect(),
    };
    let all = said.all.iter().map(|all| Kind::All(several(all)));
    let any = said.any.iter().map(|any| Kind::Any(several(any)));
    let not = said.not.iter().map(|not| Kind::Not(Box::new(condition(not))));
    let path = said.path_regex.iter().map(|regex| Kind::PathRegex(regex.clone()));
    let method = said.method.iter().map(|method| Kind::Method(method.clone()));
    let mut parts: Vec<Kind> = all.chain(any).chain(not).chain(path).chain(method).collect();
    if parts.len() == 1 {
        return v1::Condition { kind: parts.pop() };
    }
    let conditions = parts.into_iter().map(|kind| v1::Condition { kind: Some(kind) });
    v1::Condition {
        kind: Some(Kind::All(v1::Conditions {
            conditions: conditions.collect(),
        })),
    }
}

/// What a proxy without extras goes by: a condition of path and method as it is, any other as one that nothing fulfils.
fn simple_match(said: &RequestCondition) -> HttpRouteMatch {
    let path = match (&said.path_regex, &said.all, &said.any, &said.not) {
        (Some(regex), None, None, None) => path_match::Kind::Regex(regex.clone()),
        (None, None, None, None) if said.method.is_some() => path_match::Kind::Prefix("/".to_owned()),
        _ => path_match::Kind::Exact(NOTHING.to_owned()),
    };
    HttpRouteMatch {
        path: Some(PathMatch { kind: Some(path) }),
        method: said.method.as_deref().map(http::method),
        ..HttpRouteMatch::default()
    }
}
