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
use sheer_policy::{outbound::ResponseClasses, wire::profile as wire};

use super::{Compiler, backends, default, detect, filters, http, settings};
use crate::{
    destination::profile_route,
    objects::{
        AppProtocol, Interval, ProfileBudget, RequestCondition, ServiceProfile,
        traffic::{BudgetSettings, RetrySettings},
    },
    target::Target,
};

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
            let said = profile_route(route);
            let classes = wire::classes(&said.response_classes);
            let retry = route.is_retryable.then(|| retry(&classes.clone().unwrap_or_default()));
            let extra = v1::RuleExtras {
                retry: retry.as_ref().map(|retry| retry.extras(false)),
                condition: said.condition.as_ref().map(wire::condition),
                classes: classes.as_ref().map(to_message),
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

fn retry(classes: &ResponseClasses) -> settings::Retry {
    settings::Retry::of_profile(RetrySettings {
        statuses: wire::failed_statuses(classes),
        grpc_codes: wire::failed_codes(classes),
        limit: wire::ATTEMPTS,
        ..RetrySettings::default()
    })
}

fn to_message(classes: &ResponseClasses) -> v1::ResponseClasses {
    let ranges = |ranges: &[(u16, u16)]| {
        let ranges = ranges.iter().map(|(first, last)| v1::StatusRange {
            first: (*first).into(),
            last: (*last).into(),
        });
        ranges.collect()
    };
    v1::ResponseClasses {
        failures: ranges(&classes.failures),
        successes: ranges(&classes.successes),
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
