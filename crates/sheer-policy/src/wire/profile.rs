//! `DestinationProfile`: the routes of a ServiceProfile. A control plane that is not Sheer's tells them here and nowhere else; Sheer's own compiles
//! them into the policy, by the same functions.

use std::sync::Arc;

use sheer_api::{
    linkerd::{
        destination::{self as api, DestinationProfile, RequestMatch, ResponseMatch},
        http_types::{HttpMethod, http_method},
        meta::Metadata,
    },
    v1,
};

use super::{common, matches, outbound};
use crate::{
    ObjectRef,
    outbound::{
        Backend, Backends, Backoff, HttpPolicy, HttpRule, ResponseClasses, Retry, RetryBudget, RouteBackend, Timeouts,
    },
    routes::{self, Routes, Rule},
};

/// Attempts beyond the first: a profile has no number of its own, the budget is what bounds them.
pub const ATTEMPTS: u32 = 10;
/// gRPC codes that are failures where no class says otherwise.
pub const FAILED_CODES: [u16; 5] = [2, 4, 13, 14, 15];
/// Statuses that are failures where no class says otherwise.
const FAILED_STATUSES: (u16, u16) = (500, 599);
/// Waits between attempts: short, as there may be many.
const BACKOFF: Backoff = Backoff {
    min: std::time::Duration::from_millis(25),
    max: std::time::Duration::from_millis(250),
    jitter: 0.5,
    honour_hint: true,
};

/// What a profile says of requests, where it says anything.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its routes, and one for the rest.
    pub http: HttpPolicy,
    /// How much may be tried again.
    pub budget: Option<RetryBudget>,
}

/// The routes of a profile; none where it has neither routes nor overrides. `own` is where requests go that it sends nowhere else.
pub fn routes(profile: &DestinationProfile, own: &Arc<Backend>) -> Option<Profile> {
    if profile.routes.is_empty() && profile.dst_overrides.is_empty() {
        return None;
    }
    let backends = overrides(profile, own);
    let named = common::object(profile.profile_ref.clone());
    let mut rules: Vec<_> = profile
        .routes
        .iter()
        .map(|said| rule(said, &named, &backends))
        .collect();
    rules.push(Rule {
        route: ObjectRef::default_of("http"),
        index: 0,
        is_grpc: false,
        hosts: Arc::default(),
        matches: Vec::new(),
        action: HttpRule {
            backends,
            ..HttpRule::default()
        },
    });
    Some(Profile {
        http: HttpPolicy {
            routes: Arc::new(Routes::new(rules)),
            accrual: None,
        },
        budget: profile.retry_budget.map(|said| {
            outbound::budget(v1::RetryBudget {
                ratio: said.retry_ratio.into(),
                min_per_second: said.min_retries_per_second,
                ttl: said.ttl,
            })
        }),
    })
}

fn overrides(profile: &DestinationProfile, own: &Arc<Backend>) -> Backends {
    if profile.dst_overrides.is_empty() {
        return Backends::only(own);
    }
    let weighted = profile.dst_overrides.iter().map(|over| {
        let object = over.backend_ref.clone().map_or_else(
            || ObjectRef::default_of(&over.authority),
            |reference: Metadata| common::object(Some(reference)),
        );
        let backend = Backend::balanced(object, over.authority.trim_end_matches('.'));
        let backend = RouteBackend {
            backend: Arc::new(backend),
            filters: Vec::new(),
        };
        (backend, over.weight)
    });
    Backends::Weighted(weighted.collect())
}

/// A route whose condition cannot be read takes nothing: the rest is for the others.
fn rule(said: &api::Route, profile: &ObjectRef, backends: &Backends) -> Rule<HttpRule> {
    let name = said.metrics_labels.get("route").cloned().unwrap_or_default();
    let condition = said.condition.as_ref().map(condition).unwrap_or_default();
    let never = || routes::Condition::Any(Vec::new());
    Rule {
        route: ObjectRef {
            section: name,
            ..profile.clone()
        },
        index: 0,
        is_grpc: false,
        hosts: Arc::default(),
        matches: vec![routes::RequestMatch {
            condition: Some(matches::condition(&condition).unwrap_or_else(|_| never())),
            ..routes::RequestMatch::default()
        }],
        action: HttpRule {
            backends: backends.clone(),
            timeouts: Timeouts {
                request: common::duration(said.timeout),
                ..Timeouts::default()
            },
            retry: said.is_retryable.then(|| retry(&said.response_classes)),
            classes: classes(&said.response_classes).map(Arc::new),
            ..HttpRule::default()
        },
    }
}

fn retry(said: &[api::ResponseClass]) -> Retry {
    let classes = classes(said).unwrap_or_default();
    Retry {
        limit: ATTEMPTS,
        max_request_bytes: outbound::MAX_REQUEST_BYTES,
        statuses: failed_statuses(&classes),
        grpc_codes: failed_codes(&classes),
        timeout: None,
        backoff: Some(BACKOFF),
        max_hint: None,
    }
}

/// Which statuses are tried again: what the classes call a failure, and of the rest what is one anyhow.
pub fn failed_statuses(classes: &ResponseClasses) -> Vec<(u16, u16)> {
    let (first, last) = FAILED_STATUSES;
    ranges(|status| classes.is_failure(status).unwrap_or((first..=last).contains(&status)))
}

/// Which codes of gRPC are tried again: none where a class says that whatever has status 200 is well.
pub fn failed_codes(classes: &ResponseClasses) -> Vec<u16> {
    if classes.is_failure(200).is_some() {
        return Vec::new();
    }
    FAILED_CODES.to_vec()
}

/// What response classes say of statuses: of several the first that has a status counts. None where there are none.
pub fn classes(said: &[api::ResponseClass]) -> Option<ResponseClasses> {
    let class_of = |status: u16| {
        let mut classes = said.iter();
        classes
            .find(|class| {
                class
                    .condition
                    .as_ref()
                    .is_some_and(|condition| holds(condition, status))
            })
            .map(|class| class.is_failure)
    };
    (!said.is_empty()).then(|| ResponseClasses {
        failures: ranges(|status| class_of(status) == Some(true)),
        successes: ranges(|status| class_of(status) == Some(false)),
    })
}

/// The statuses of which something holds, as inclusive ranges.
fn ranges(holds: impl Fn(u16) -> bool) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in (100..=599).filter(|status| holds(*status)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    ranges
}

/// Whether a status fulfils a condition. One that says nothing is fulfilled by nothing.
fn holds(condition: &ResponseMatch, status: u16) -> bool {
    use api::response_match::Match;
    match &condition.r#match {
        Some(Match::All(all)) => all.matches.iter().all(|one| holds(one, status)),
        Some(Match::Any(any)) => any.matches.iter().any(|one| holds(one, status)),
        Some(Match::Not(not)) => !holds(not, status),
        Some(Match::Status(range)) => {
            let status = u32::from(status);
            // One bound alone is that status.
            let (min, max) = match (range.min, range.max) {
                (0, max) => (max, max),
                (min, 0) => (min, min),
                both => both,
            };
            (min..=max).contains(&status)
        }
        None => false,
    }
}

/// A condition on requests, as the extras have it.
pub fn condition(said: &RequestMatch) -> v1::Condition {
    use api::request_match::{Match, Seq};
    use v1::condition::Kind;
    let several = |said: &Seq| v1::Conditions {
        conditions: said.matches.iter().map(condition).collect(),
    };
    let kind = said.r#match.as_ref().map(|said| match said {
        Match::All(all) => Kind::All(several(all)),
        Match::Any(any) => Kind::Any(several(any)),
        Match::Not(not) => Kind::Not(Box::new(condition(not))),
        Match::Path(path) => Kind::PathRegex(path.regex.clone()),
        Match::Method(name) => Kind::Method(method(name)),
    });
    v1::Condition { kind }
}

fn method(said: &HttpMethod) -> String {
    match &said.r#type {
        Some(http_method::Type::Registered(number)) => http_method::Registered::try_from(*number)
            .map(|registered| registered.as_str_name().to_owned())
            .unwrap_or_default(),
        Some(http_method::Type::Unregistered(name)) => name.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use sheer_api::linkerd::destination::{
        HttpStatusRange, PathMatch, ResponseClass, WeightedDst, request_match, response_match,
    };

    use super::*;

    fn class(min: u32, max: u32, is_failure: bool) -> ResponseClass {
        let range = HttpStatusRange { min, max };
        ResponseClass {
            condition: Some(ResponseMatch {
                r#match: Some(response_match::Match::Status(range)),
            }),
            is_failure,
        }
    }

    #[test]
    fn the_first_class_counts_and_what_is_in_none_is_as_ever() {
        let classes = classes(&[class(503, 0, false), class(500, 504, true), class(0, 429, true)]).expect("classes");
        let said = [200, 429, 500, 503, 504, 599].map(|status| classes.is_failure(status));
        assert_eq!(said, [None, Some(true), Some(true), Some(false), Some(true), None]);
        assert_eq!(failed_statuses(&classes), [(429, 429), (500, 502), (504, 599)]);
        assert_eq!(failed_codes(&classes), FAILED_CODES);
        let all_is_well = super::classes(&[class(100, 599, false)]).expect("classes");
        assert_eq!(
            (failed_statuses(&all_is_well), failed_codes(&all_is_well)),
            (vec![], vec![])
        );
    }

    fn path(regex: &str) -> RequestMatch {
        let path = PathMatch {
            regex: regex.to_owned(),
        };
        RequestMatch {
            r#match: Some(request_match::Match::Path(path)),
        }
    }

    #[test]
    fn whole_profile() {
        let route = |name: &str, regex: &str| api::Route {
            condition: Some(path(regex)),
            metrics_labels: [("route".to_owned(), name.to_owned())].into(),
            ..api::Route::default()
        };
        let profile = DestinationProfile {
            routes: vec![
                api::Route {
                    is_retryable: true,
                    timeout: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
                    response_classes: vec![class(404, 404, true)],
                    ..route("books", "/books.*")
                },
                route("broken", "(("),
            ],
            dst_overrides: vec![
                WeightedDst {
                    authority: "a.bank.svc.cluster.local.:80".to_owned(),
                    weight: 9_000,
                    backend_ref: None,
                },
                WeightedDst {
                    authority: "b.bank.svc.cluster.local:80".to_owned(),
                    weight: 1_000,
                    backend_ref: None,
                },
            ],
            retry_budget: Some(api::RetryBudget {
                retry_ratio: 0.5,
                min_retries_per_second: 3,
                ttl: None,
            }),
            ..DestinationProfile::default()
        };
        let own = Arc::new(Backend::balanced(ObjectRef::default(), "own"));
        let said = routes(&profile, &own).expect("routes");
        let found = |path: &str| {
            let headers = http::HeaderMap::new();
            let view = routes::RequestView {
                method: &http::Method::GET,
                host: None,
                path,
                query: None,
                headers: &headers,
            };
            said.http.routes.find(&view).expect("a rule").rule
        };
        let books = found("/books/1");
        assert_eq!(books.route.section, "books");
        assert_eq!(books.action.timeouts.request, Some(std::time::Duration::from_secs(2)));
        let retry = books.action.retry.as_ref().expect("retries");
        assert_eq!(retry.statuses, [(404, 404), (500, 599)]);
        assert_eq!(found("/other").route.name, "http");
        let weights: Vec<_> = match &books.action.backends {
            Backends::Weighted(backends) => backends.iter().map(|(_, weight)| *weight).collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(weights, [9_000, 1_000]);
        assert_eq!(said.budget.expect("a budget").ratio, 0.5);
        assert!(routes(&DestinationProfile::default(), &own).is_none());
    }
}
