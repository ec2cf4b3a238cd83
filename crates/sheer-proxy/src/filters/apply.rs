//! Runs a rule's filters over a request, for either path.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use sheer_policy::{
    ObjectRef,
    outbound::{Abort, AbortAnswer, Filter, HeaderModifier},
    routes::PathMatch,
};

use super::{location, modify, rewrite};
use crate::{
    error::{GrpcCode, Injected, ProxyError},
    exchange::{Head, Judgement, Referee},
};

/// Kept of every body, in case that a server does not serve the request at all, where no rule says how much.
pub(crate) const KEPT_ANYWAY: usize = 64 * 1024;

/// What filters answer, where they do not let the request go on.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The client is told to go elsewhere.
    Redirect { status: StatusCode, location: HeaderValue },
    /// It fails.
    Fail(ProxyError),
}

/// By which rule a request was taken.
#[derive(Clone, Copy)]
pub(crate) struct TakenBy<'a> {
    pub(crate) route: &'a ObjectRef,
    /// The path of the match.
    pub(crate) path: Option<&'a PathMatch>,
}

/// Applies filters in order; what they say of responses is [`of_responses`]. Delays add up in `delay`.
pub(crate) fn apply(
    filters: &[Filter],
    head: &mut Head,
    by: TakenBy<'_>,
    delay: &mut Option<Duration>,
) -> Option<Answered> {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(modifier) => modify(&mut head.headers, modifier),
            Filter::Rewrite(to) => rewrite(head, to, by.path),
            Filter::Redirect(redirect) => {
                return Some(match location(head, redirect, by.path) {
                    Some(location) => Answered::Redirect {
                        status: redirect.status,
                        location,
                    },
                    None => Answered::Fail(ProxyError::BadRequest {
                        why: "the route redirects, and the request has no host".to_owned(),
                        status: StatusCode::BAD_REQUEST,
                    }),
                });
            }
            Filter::Abort(abort) if abort.share.takes(rand::random()) => {
                return Some(Answered::Fail(injected(abort, by.route)));
            }
            Filter::Delay(injected) if injected.share.takes(rand::random()) => {
                *delay = Some(delay.unwrap_or_default().saturating_add(injected.delay));
            }
            Filter::ResponseHeaders(_) | Filter::Abort(_) | Filter::Delay(_) => {}
        }
    }
    None
}

fn injected(abort: &Abort, route: &ObjectRef) -> ProxyError {
    ProxyError::Injected {
        route: route.to_string(),
        message: abort.message.clone(),
        answer: match abort.answer {
            AbortAnswer::Http(status) => Injected::Http(status),
            AbortAnswer::Grpc(code) => Injected::Grpc(GrpcCode::of(code)),
        },
    }
}

/// What filters do to the heads of responses.
pub(crate) fn of_responses<'a>(filters: impl IntoIterator<Item = &'a Filter>) -> Vec<HeaderModifier> {
    let of_response = |filter: &Filter| match filter {
        Filter::ResponseHeaders(modifier) => Some(modifier.clone()),
        _ => None,
    };
    filters.into_iter().filter_map(of_response).collect()
}

/// Changes the heads of responses, and has no other say in an exchange.
#[derive(Debug)]
pub(crate) struct Amend(pub(crate) Vec<HeaderModifier>);

impl Referee for Amend {
    fn judge(&self, _status: StatusCode, _headers: &HeaderMap) -> Judgement {
        Judgement::Pass
    }

    fn sends_again_for(&self, _trailers: &HeaderMap) -> bool {
        false
    }

    fn amend(&self, headers: &mut HeaderMap) {
        self.0.iter().for_each(|modifier| modify(headers, modifier));
    }

    fn keeps(&self) -> usize {
        KEPT_ANYWAY
    }

    fn body_lost(&self) {}
}
