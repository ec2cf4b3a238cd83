//! What the proxy does to headers: everything that may differ between what was sent and what arrives is in this module, and in
//! `docs/headers.md` for users. Nothing else changes a field.

use http::{HeaderMap, Request, Version};

use crate::{
    error::{Part, ProxyError},
    exchange::{Context, Head, Origin},
};

/// Size of a header list as HTTP/2 counts it (RFC 9113 6.5.2): name + value + 32 bytes a field, pseudo fields left out.
pub fn list_size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

/// Refuses a request whose headers are past the limit. Every path does this first.
pub fn check_limit(head: &Head, cx: &Context) -> Result<(), ProxyError> {
    let size = list_size(&head.headers);
    if size > cx.header_limit {
        Err(cx.too_large(Part::RequestHeaders, size))
    } else {
        Ok(())
    }
}

/// The head for a stream of HTTP/2.
pub(crate) fn h2_request(head: Head, mesh: bool) -> Result<Request<()>, ProxyError> {
    let _ = mesh;
    let mut request = Request::new(());
    *request.method_mut() = head.method;
    // The codec refuses HTTP/2 without scheme and authority, but clients may leave the authority out, and HTTP/1.0 has none: told
    // HTTP/1.1, it sends `:scheme: http` and no `:authority`.
    *request.version_mut() = match (head.origin, head.uri.scheme()) {
        (Origin::Http2, Some(_)) => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    *request.uri_mut() = head.uri;
    *request.headers_mut() = head.headers;
    if let Some(protocol) = head.protocol {
        request.extensions_mut().insert(protocol);
    }
    Ok(request)
}
