//! A request as both HTTP versions can say it.

use http::{HeaderMap, Method, Uri};

use super::body::Body;

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    /// Everything before the body.
    pub head: Head,
    /// The body and the trailers.
    pub body: Body,
}

/// Everything of a request before its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The target: `:scheme`, `:authority` and `:path` of HTTP/2, the request target of HTTP/1 in the form that it came in.
    pub uri: Uri,
    /// How the client speaks, which the far end must see again.
    pub origin: Origin,
    /// The fields, repeated ones apart and in order.
    pub headers: HeaderMap,
    /// `:protocol` of extended CONNECT (RFC 8441).
    pub protocol: Option<h2::ext::Protocol>,
}

/// The protocol in which a request was first said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// HTTP/2, end to end.
    Http2,
    /// HTTP/1, perhaps carried in HTTP/2 between sidecars.
    Http1 {
        /// `true` for HTTP/1.0.
        http10: bool,
        /// `true` if the request target had scheme and authority.
        absolute_form: bool,
    },
}

impl Head {
    /// The authority that the client asked for: `:authority`, the target's, or `Host`.
    pub fn authority(&self) -> Option<&str> {
        match self.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => self.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()),
        }
    }

    /// Whether this is a gRPC request (`application/grpc`, with any suffix).
    pub fn is_grpc(&self) -> bool {
        self.headers
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    }
}
