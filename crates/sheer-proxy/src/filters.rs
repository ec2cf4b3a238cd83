//! What a route's filters do to a request or its response ([`apply`]). Pure but for the dice of faults: the paths decide which filters apply,
//! and do what comes of them.
//!
//! Nothing here touches what frames a message or belongs to one connection, whatever an operator writes: see [`is_protected`].

mod apply;
#[cfg(test)]
mod tests;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{CONTENT_LENGTH, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use sheer_policy::{
    change::{self, replaced},
    outbound::{HeaderModifier, Redirect, Rewrite},
    routes::PathMatch,
};

pub(crate) use self::apply::{Amend, Answered, KEPT_ANYWAY, TakenBy, apply, of_responses};
use crate::{
    exchange::{Head, Origin},
    http1::{TargetForm, is_hop_by_hop},
};

/// Fields that no filter changes: they frame the message, belong to one connection, or are the proxies' own. `Host` is changed by
/// rewriting the host, so that HTTP/1 and HTTP/2 say the same.
fn is_protected(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || *name == CONTENT_LENGTH || *name == HOST || name.as_str() == sheer_api::names::ORIG_PROTO
}

/// Changes a header list, but for protected fields.
pub(crate) fn modify(headers: &mut HeaderMap, modifier: &HeaderModifier) {
    change::modify(headers, modifier, |name| !is_protected(name));
}

/// The value of `Location`. `matched` is the path by which the rule took the request.
pub(crate) fn location(head: &Head, redirect: &Redirect, matched: Option<&PathMatch>) -> Option<HeaderValue> {
    let authority = head
        .authority()
        .and_then(|authority| authority.parse::<Authority>().ok());
    let scheme = redirect.scheme.as_ref().or(head.uri.scheme()).unwrap_or(&Scheme::HTTP);
    let host = match &redirect.host {
        Some(host) => host,
        None => authority.as_ref()?.host(),
    };
    let own_port = authority.as_ref().and_then(Authority::port_u16);
    // A scheme brings its own port; without one the location is on the port that was asked for.
    let port = redirect.port.or(match redirect.scheme {
        Some(_) => None,
        None => own_port,
    });
    let port = port.filter(|port| Some(*port) != well_known(scheme));
    let path = match &redirect.path {
        Some(modifier) => replaced(head.uri.path(), modifier, matched),
        None => head.uri.path().to_owned(),
    };
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = port {
        location.push_str(&format!(":{port}"));
    }
    location.push_str(&path);
    if let Some(query) = head.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    HeaderValue::try_from(location).ok()
}

fn well_known(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Changes host and path of a request; the query stays. What would be no URI leaves the request as it is.
pub(crate) fn rewrite(head: &mut Head, rewrite: &Rewrite, matched: Option<&PathMatch>) {
    if let Some(modifier) = &rewrite.path {
        let path = replaced(head.uri.path(), modifier, matched);
        let whole = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        if let Ok(path) = PathAndQuery::try_from(whole) {
            change_uri(head, |parts| parts.path_and_query = Some(path));
        }
    }
    if let Some(host) = &rewrite.host {
        rewrite_host(head, host);
    }
}

/// The authority where there is one, and the `Host` field where there is one.
fn rewrite_host(head: &mut Head, host: &str) {
    let Ok(authority) = Authority::try_from(host) else {
        return;
    };
    let is_http1 = matches!(head.origin, Origin::Http1 { .. });
    if head.uri.authority().is_some() {
        change_uri(head, |parts| parts.authority = Some(authority));
    }
    if (is_http1 || head.headers.contains_key(HOST))
        && let Ok(host) = HeaderValue::from_str(host)
    {
        head.headers.insert(HOST, host);
    }
}

/// Changes the URI; the bytes of an HTTP/1 target go, and it is written anew.
fn change_uri(head: &mut Head, change: impl FnOnce(&mut http::uri::Parts)) {
    let mut parts = head.uri.clone().into_parts();
    change(&mut parts);
    // A path alone is origin form; HTTP/1's authority and asterisk forms have no path to change.
    let form = head.target.as_ref().map(crate::http1::Target::form);
    if matches!(form, Some(TargetForm::Authority | TargetForm::Asterisk)) {
        return;
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        head.uri = uri;
        head.retarget();
    }
}
