//! `ServiceProfile`s as `Destination.GetProfile` tells them: what a linkerd2-proxy goes by.

use sheer_api::linkerd::{
    destination::{
        DestinationProfile, HttpStatusRange, PathMatch, RequestMatch, ResponseClass, ResponseMatch, RetryBudget, Route,
        WeightedDst, request_match, response_match,
    },
    http_types::{HttpMethod, http_method},
    meta::{Metadata, Resource, metadata},
};

use super::profile::retry_budget;
use crate::objects::{Interval, ProfileRoute, RequestCondition, ResponseCondition, ServiceProfile};

/// What a profile says.
pub(super) fn to_message(profile: &ServiceProfile) -> DestinationProfile {
    let budget = profile.spec.retry_budget.as_ref().map(|said| RetryBudget {
        retry_ratio: said.retry_ratio,
        min_retries_per_second: said.min_retries_per_second,
        ttl: said.ttl.bound().and_then(|ttl| ttl.try_into().ok()),
    });
    DestinationProfile {
        routes: profile.spec.routes.iter().map(route).collect(),
        retry_budget: budget.or_else(retry_budget),
        dst_overrides: profile
            .spec
            .dst_overrides
            .iter()
            .map(|over| WeightedDst {
                authority: over.authority.clone(),
                weight: over.weight.milli,
                backend_ref: None,
            })
            .collect(),
        profile_ref: Some(Metadata {
            kind: Some(metadata::Kind::Resource(Resource {
                group: "linkerd.io".to_owned(),
                kind: "ServiceProfile".to_owned(),
                name: profile.metadata.name.clone(),
                namespace: profile.metadata.namespace.clone(),
                ..Resource::default()
            })),
        }),
        ..DestinationProfile::default()
    }
}

/// One route of a profile.
pub(crate) fn route(said: &ProfileRoute) -> Route {
    Route {
        condition: Some(request(&said.condition)),
        response_classes: said
            .response_classes
            .iter()
            .map(|class| ResponseClass {
                condition: Some(response(&class.condition)),
                is_failure: class.is_failure,
            })
            .collect(),
        metrics_labels: [("route".to_owned(), said.name.clone())].into(),
        is_retryable: said.is_retryable,
        timeout: said
            .timeout
            .and_then(Interval::bound)
            .and_then(|timeout| timeout.try_into().ok()),
    }
}

/// Everything that is said must hold: several things are `all` of them.
fn request(said: &RequestCondition) -> RequestMatch {
    use request_match::{Match, Seq};
    let several = |conditions: &[RequestCondition]| Seq {
        matches: conditions.iter().map(request).collect(),
    };
    let mut parts = Vec::new();
    parts.extend(said.all.iter().map(|all| Match::All(several(all))));
    parts.extend(said.any.iter().map(|any| Match::Any(several(any))));
    parts.extend(said.not.iter().map(|not| Match::Not(Box::new(request(not)))));
    parts.extend(
        said.path_regex
            .iter()
            .map(|regex| Match::Path(PathMatch { regex: regex.clone() })),
    );
    parts.extend(said.method.iter().map(|name| Match::Method(method(name))));
    if parts.len() == 1 {
        return RequestMatch { r#match: parts.pop() };
    }
    let matches = parts.into_iter().map(|part| RequestMatch { r#match: Some(part) });
    RequestMatch {
        r#match: Some(Match::All(Seq {
            matches: matches.collect(),
        })),
    }
}

fn method(name: &str) -> HttpMethod {
    use http_method::{Registered, Type};
    HttpMethod {
        r#type: Some(match Registered::from_str_name(name) {
            Some(registered) => Type::Registered(registered.into()),
            None => Type::Unregistered(name.to_owned()),
        }),
    }
}

fn response(said: &ResponseCondition) -> ResponseMatch {
    use response_match::{Match, Seq};
    let several = |conditions: &[ResponseCondition]| Seq {
        matches: conditions.iter().map(response).collect(),
    };
    let mut parts = Vec::new();
    parts.extend(said.all.iter().map(|all| Match::All(several(all))));
    parts.extend(said.any.iter().map(|any| Match::Any(several(any))));
    parts.extend(said.not.iter().map(|not| Match::Not(Box::new(response(not)))));
    parts.extend(said.status.iter().map(|range| {
        // One bound alone is that status.
        Match::Status(HttpStatusRange {
            min: range.min.or(range.max).unwrap_or(0),
            max: range.max.or(range.min).unwrap_or(0),
        })
    }));
    if parts.len() == 1 {
        return ResponseMatch { r#match: parts.pop() };
    }
    let matches = parts.into_iter().map(|part| ResponseMatch { r#match: Some(part) });
    ResponseMatch {
        r#match: Some(Match::All(Seq {
            matches: matches.collect(),
        })),
    }
}
