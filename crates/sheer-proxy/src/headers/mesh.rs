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
    http1::{HeaderCase, Target, TargetForm},
};

const ORIG_PROTO: HeaderName = HeaderName::from_static(names::ORIG_PROTO);
/// Reason phrase of a response, where it is not the usual one of its status.
const REASON_PHRASE: HeaderName = HeaderName::from_static("sheer-h1-reason");
/// Request target as it was sent, where `:path` says less: a fragment has no place there, nor have bytes that no URI may hold.
const TARGET: HeaderName = HeaderName::from_static("sheer-h1-target");
/// The longest target that the codec of HTTP/2 takes, in bytes.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;

/// Outbound: takes our marks off a request that is HTTP/2 end to end. The peer would take it for HTTP/1.
pub(super) fn strip_marks(headers: &mut HeaderMap) {
    headers.remove(ORIG_PROTO);
    headers.remove(HeaderCase::FIELD);
    headers.remove(TARGET);
}

/// Outbound: a request of HTTP/1 becomes one of HTTP/2.
pub(super) fn carry_request(head: &mut Head) -> Result<(), ProxyError> {
    let Origin::Http1 { http10, absolute_form } = head.origin else {
        return Ok(());
    };
    let mut exact = None;
    if let Some(target) = &head.target {
        head.uri = carried_target(target)?;
        exact = (!says_all(&head.uri, target))
            .then(|| HeaderValue::from_bytes(target.as_bytes()).ok())
            .flatten();
        let asterisk = target.form() == TargetForm::Asterisk;
        if asterisk || target.form() == TargetForm::Origin {
            head.uri = with_host(head, asterisk);
        }
    }
    carry(&mut head.headers, TARGET, exact);
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

/// The target for `:path`: with what no URI may hold percent-encoded, as another vendor's proxy and what looks at paths on the way will have it.
fn carried_target(target: &Target) -> Result<Uri, ProxyError> {
    let refused = |why: String, status| ProxyError::BadRequest { why, status };
    if let Some(uri) = target.uri() {
        return Ok(uri);
    }
    let encoded = encoded(target.as_bytes());
    if encoded.len() > LONGEST_TARGET {
        let length = target.as_bytes().len();
        return Err(refused(
            format!("the request target has {length} bytes, and {LONGEST_TARGET} can be carried between the proxies"),
            StatusCode::URI_TOO_LONG,
        ));
    }
    Uri::from_maybe_shared(encoded).map_err(|error| {
        refused(
            format!("the request target cannot be carried between the proxies: {error}"),
            StatusCode::BAD_REQUEST,
        )
    })
}

/// Percent-encodes what RFC 3986 has no place for.
fn encoded(target: &[u8]) -> Bytes {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = Vec::with_capacity(target.len() + 16);
    for &byte in target {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            text.push(byte);
        } else {
            text.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    text.into()
}

/// Whether the far side will write the target again as it was sent.
fn says_all(uri: &Uri, target: &Target) -> bool {
    match target.form() {
        TargetForm::Origin => uri
            .path_and_query()
            .is_some_and(|path| path.as_str().as_bytes() == target.as_bytes()),
        TargetForm::Absolute => uri.to_string().as_bytes() == target.as_bytes(),
        TargetForm::Asterisk | TargetForm::Authority => true,
    }
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
    if let Some(target) = head.headers.remove(TARGET) {
        let text = Bytes::copy_from_slice(target.as_bytes());
        head.target = Target::parse(text, &head.method).ok();
    }
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
