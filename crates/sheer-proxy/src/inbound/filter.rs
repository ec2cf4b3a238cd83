//! What the filters of a route do to a request before it goes to the application.
//!
//! Linkerd's API knows three for what comes in: changed headers, a redirect, a failure on purpose.

use http::{HeaderMap, StatusCode, header::LOCATION};
use sheer_policy::{
    inbound::InboundRule,
    outbound::{Abort, AbortAnswer, Filter},
    routes::{RequestMatch, Rule},
};

use crate::{
    error::{GrpcCode, Injected, ProxyError},
    exchange::Head,
    filters,
};

/// What comes of the filters.
#[derive(Debug)]
pub(super) enum Filtered {
    /// The request goes on.
    Go,
    /// It is answered: status and fields.
    Answer((StatusCode, HeaderMap)),
    /// It fails, as somebody wants to see what follows from that.
    Fail(ProxyError),
}

/// Applies the filters of the rule that took a request, in order. `matched` is what it took it by.
pub(super) fn apply(rule: &Rule<InboundRule>, matched: Option<&RequestMatch>, head: &mut Head) -> Filtered {
    for filter in &rule.action.filters {
        match filter {
            Filter::RequestHeaders(modifier) => filters::modify(&mut head.headers, modifier),
            Filter::Redirect(redirect) => {
                let path = matched.and_then(|matched| matched.path.as_ref());
                return match filters::location(head, redirect, path) {
                    Some(location) => Filtered::Answer((redirect.status, HeaderMap::from_iter([(LOCATION, location)]))),
                    None => Filtered::Fail(no_host()),
                };
            }
            Filter::Rewrite(rewrite) => {
                let path = matched.and_then(|matched| matched.path.as_ref());
                filters::rewrite(head, rewrite, path);
            }
            Filter::Abort(abort) if abort.share.takes(rand::random()) => return Filtered::Fail(fault(rule, abort)),
            Filter::Abort(_) | Filter::ResponseHeaders(_) | Filter::Delay(_) => {}
        }
    }
    Filtered::Go
}

fn no_host() -> ProxyError {
    ProxyError::BadRequest {
        why: "a route redirects it, and it does not say for which host it is".to_owned(),
        status: StatusCode::BAD_REQUEST,
    }
}

fn fault(rule: &Rule<InboundRule>, abort: &Abort) -> ProxyError {
    ProxyError::Injected {
        route: rule.route.to_string(),
        message: abort.message.clone(),
        answer: match abort.answer {
            AbortAnswer::Http(status) => Injected::Http(status),
            AbortAnswer::Grpc(code) => Injected::Grpc(GrpcCode::of(code)),
        },
    }
}
