//! HTTP/1 on its way through HTTP/2 between two sidecars, as Linkerd carries it (`l5d-orig-proto`), and what Linkerd's way loses: the
//! case of names and unusual reason phrases, in fields of Sheer's own that a Linkerd proxy passes over.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use sheer_api::names;

use super::{carried_case, carry, carry_case};
use crate::{
    error::ProxyError,
    exchange::{Head, Http1Line, Origin, Reply},
    http1::{HeaderCase, TargetForm},
};

const ORIG_PROTO: HeaderName = HeaderName::from_static(names::ORIG_PROTO);
/// Reason phrase of a response, where it is not the usual one of its status.
const REASON_PHRASE: HeaderName = HeaderName::from_static("sheer-h1-reason");

/// Outbound: takes our marks off a request that is HTTP/2 end to end. The peer would take it for HTTP/1.
pub(super) fn strip_marks(headers: &mut HeaderMap) {
    headers.remove(ORIG_PROTO);
    headers.remove(HeaderCase::FIELD);
}

/// Outbound: a request of HTTP/1 becomes one of HTTP/2.
pub(super) fn carry_request(head: &mut Head) -> Result<(), ProxyError> {
    let Origin::Http1 { http10, absolute_form } = head.origin else {
        return Ok(());
    };
    if let Some(target) = &head.target {
        head.uri = target.uri().ok_or_else(|| ProxyError::BadRequest {
            why: "the request target has characters that cannot be carried between the proxies".to_owned(),
            status: StatusCode::BAD_REQUEST,
        })?;
        let asterisk = target.form() == TargetForm::Asterisk;
        if asterisk || target.form() == TargetForm::Origin {
            head.uri = with_host(head, asterisk);
        }
    }
    head.headers.insert(
        ORIG_PROTO,
        HeaderValue::from_static(match (http10, absolute_form) {
            (false, false) => "HTTP/1.1",
            (false, true) => "HTTP/1.1; absolute-form",
            (true, false) => "HTTP/1.0",
            (true, true) => "HTTP/1.0; absolute-form",
        }),
    );
    let Head { headers, case, .. } = head;
    carry_case(headers, case);
    Ok(())
}

/// The URI with the authority of `Host`, which leaves the fields; where it is none, both stay as they are.
fn with_host(head: &mut Head, asterisk: bool) -> Uri {
    let uri = std::mem::take(&mut head.uri);
    let Some(authority) = head
        .headers
        .get(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
    else {
        return uri;
    };
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    if asterisk {
        parts.path_and_query = Some(PathAndQuery::from_static("*"));
    }
    match Uri::from_parts(parts) {
        Ok(uri) => {
            head.headers.remove(HOST);
            uri
        }
        Err(_) => Uri::default(),
    }
}

/// Inbound: what a peer carried as HTTP/2 is HTTP/1 again. Nothing happens to a request without the mark, nor to one that came as
/// HTTP/1, as those that leave HTTP do.
pub(crate) fn restore_request(head: &mut Head) {
    if head.origin != Origin::Http2 {
        return;
    }
    let Some(mark) = head.headers.remove(ORIG_PROTO) else {
        return;
    };
    let mark = mark.to_str().unwrap_or_default();
    let http10 = mark.starts_with("HTTP/1.0");
    let absolute_form = mark.ends_with("; absolute-form");
    head.origin = Origin::Http1 { http10, absolute_form };
    head.case = carried_case(&mut head.headers).unwrap_or_default();
    if !absolute_form
        && !head.headers.contains_key(HOST)
        && let Some(host) = head
            .uri
            .authority()
            .and_then(|host| HeaderValue::from_str(host.as_str()).ok())
    {
        head.headers.insert(HOST, host);
    }
}

/// Inbound: a response of HTTP/1 becomes one of HTTP/2.
pub(crate) fn carry_reply(reply: &mut Reply) {
    let Some(line) = reply.http1.take() else { return };
    let version = if line.version == Version::HTTP_10 {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    reply.headers.insert(ORIG_PROTO, HeaderValue::from_static(version));
    carry_case(&mut reply.headers, &line.case);
    let reason = line
        .reason
        .and_then(|reason| HeaderValue::from_maybe_shared(reason).ok());
    carry(&mut reply.headers, REASON_PHRASE, reason);
}

/// Outbound: a response that a peer carried as HTTP/2 is HTTP/1 again. Only for responses to requests that were carried likewise.
pub(crate) fn restore_reply(reply: &mut Reply) {
    let Some(mark) = reply.headers.remove(ORIG_PROTO) else {
        return;
    };
    let case = carried_case(&mut reply.headers).unwrap_or_default();
    let reason = reply
        .headers
        .remove(REASON_PHRASE)
        .map(|reason| Bytes::copy_from_slice(reason.as_bytes()));
    let version = if mark == "HTTP/1.0" {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    reply.http1 = Some(Box::new(Http1Line {
        version,
        reason,
        case,
        body: None,
    }));
}
