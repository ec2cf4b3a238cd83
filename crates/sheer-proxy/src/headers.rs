//! What the proxy does to headers: everything that may differ between what was sent and what arrives is in this module (and, for
//! responses that the proxy makes up, in `exchange::synthesize`), and in `docs/headers.md` for users. Nothing else changes a field.

mod mesh;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use sheer_api::names;

use crate::{
    error::{ConnectCause, Direction, ListSize, Part, ProxyError},
    exchange::{Context, Head, Origin},
    http1::HeaderCase,
};

pub(crate) use mesh::{carry_reply, restore_reply, restore_request};

const UNSERVED: HeaderName = HeaderName::from_static(names::UNSERVED);
const CLIENT_ID: HeaderName = HeaderName::from_static(names::CLIENT_ID);

/// Size of a header list as HTTP/2 counts it (RFC 9113 6.5.2): name + value + 32 bytes a field, pseudo fields left out.
pub fn list_size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

/// Refuses a request whose headers are past the limit; says how large they are. Every path does this first.
pub fn check_limit(head: &Head, cx: &Context) -> Result<usize, ProxyError> {
    let size = list_size(&head.headers);
    if size > cx.header_limit {
        Err(cx.too_large(Part::RequestHeaders, ListSize::Bytes(size)))
    } else {
        Ok(size)
    }
}

/// Tells the application who its client is: the verified identity, or nothing. What a client says of itself is dropped.
pub(crate) fn set_client_id(headers: &mut HeaderMap, identity: Option<&str>) {
    match identity.and_then(|identity| HeaderValue::from_str(identity).ok()) {
        Some(identity) => drop(headers.insert(CLIENT_ID, identity)),
        None => drop(headers.remove(CLIENT_ID)),
    }
}

/// Takes from a response what only sidecars say to each other: that no application has seen the request, and why. What a server says under that
/// name, for which no sidecar vouches, is dropped where a sidecar would believe it.
pub(crate) fn take_unserved(headers: &mut HeaderMap, direction: Direction, from_sidecar: bool) -> Option<ConnectCause> {
    match direction {
        Direction::Outbound if !from_sidecar => None,
        Direction::Inbound => {
            headers.remove(UNSERVED);
            None
        }
        Direction::Outbound => headers
            .remove(UNSERVED)
            .and_then(|reason| ConnectCause::of_reason(reason.as_bytes())),
    }
}

/// Keeps the case of HTTP/1 names with them. What an application sends under the name of our field is dropped.
pub(crate) fn carry_case(headers: &mut HeaderMap, case: &HeaderCase) {
    carry(headers, HeaderCase::FIELD, case.encode());
}

/// Sets a field that only the proxies may set, or drops what an application sends under its name.
fn carry(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

/// Takes out what [`carry_case`] put in.
pub(crate) fn carried_case(headers: &mut HeaderMap) -> Option<HeaderCase> {
    headers
        .remove(HeaderCase::FIELD)
        .map(|value| HeaderCase::decode(&value))
}

/// The head for a stream of HTTP/2.
pub(crate) fn h2_request(mut head: Head, mesh: bool) -> Result<Request<()>, ProxyError> {
    match head.origin {
        Origin::Http2 if mesh => mesh::strip_marks(&mut head.headers),
        Origin::Http2 => {}
        Origin::Http1 { .. } if mesh => mesh::carry_request(&mut head)?,
        Origin::Http1 { .. } => {
            return Err(ProxyError::Internal {
                what: "HTTP/1 for a server of HTTP/2 only",
            });
        }
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method;
    // The codec refuses HTTP/2 without scheme and authority, but clients may leave the authority out, and HTTP/1.0 has none: told
    // HTTP/1.1, it sends `:scheme: http` and no `:authority`.
    *request.version_mut() = if head.uri.scheme().is_some() {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    *request.uri_mut() = head.uri;
    *request.headers_mut() = head.headers;
    if let Some(protocol) = head.protocol {
        request.extensions_mut().insert(protocol);
    }
    Ok(request)
}
