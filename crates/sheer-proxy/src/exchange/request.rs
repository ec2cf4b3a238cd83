//! A request as both HTTP versions can say it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::body::Body;
use crate::http1::{HeaderCase, RequestHead, Target, TargetForm, strip_hop_by_hop};

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    /// Everything before the body. Boxed: a request moves often, and its head is large.
    pub head: Box<Head>,
    /// The body and the trailers.
    pub body: Body,
}

/// Everything of a request before its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// `:scheme`, `:authority` and `:path` of HTTP/2, or the request target of HTTP/1 as far as a URI can say it.
    pub uri: Uri,
    /// How the client speaks, which the far end must see again.
    pub origin: Origin,
    /// The fields, repeated ones apart and in order; of HTTP/1 without those of its connection.
    pub headers: HeaderMap,
    /// `:protocol` of extended CONNECT (RFC 8441).
    pub protocol: Option<h2::ext::Protocol>,
    /// The request target of HTTP/1 byte for byte, where this proxy read it.
    pub target: Option<Target>,
    /// The case of the names of HTTP/1.
    pub case: HeaderCase,
    /// The protocol that a client of HTTP/1 wants to switch to.
    pub upgrade: Option<HeaderValue>,
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
    pub(crate) fn of_h2(mut parts: http::request::Parts) -> Self {
        Self {
            method: parts.method,
            uri: parts.uri,
            origin: Origin::Http2,
            headers: parts.headers,
            protocol: parts.extensions.remove(),
            target: None,
            case: HeaderCase::default(),
            upgrade: None,
        }
    }

    pub(crate) fn of_http1(mut head: RequestHead) -> Self {
        let hop = strip_hop_by_hop(&mut head.headers);
        Self {
            uri: head.target.uri().unwrap_or_default(),
            origin: Origin::Http1 {
                http10: head.version == Version::HTTP_10,
                absolute_form: head.target.form() == TargetForm::Absolute,
            },
            method: head.method,
            headers: head.headers,
            protocol: None,
            target: Some(head.target),
            case: head.case,
            upgrade: hop.upgrade,
        }
    }

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

    /// Whether HTTP/1 wants the connection for itself (`Upgrade`, CONNECT): it then needs one of HTTP/1 all the way.
    pub fn wants_tunnel(&self) -> bool {
        matches!(self.origin, Origin::Http1 { .. }) && (self.upgrade.is_some() || self.method == Method::CONNECT)
    }

    /// The URI was changed: a target of HTTP/1 is written anew, in the form that it had.
    pub(crate) fn retarget(&mut self) {
        if self.target.take().is_some() {
            let text = self.http1_target();
            self.target = Target::parse(text, &self.method).ok();
        }
    }

    /// The request target for a server of HTTP/1.
    pub(crate) fn http1_target(&self) -> Bytes {
        if let Some(target) = &self.target {
            return Bytes::copy_from_slice(target.as_bytes());
        }
        let absolute = matches!(
            self.origin,
            Origin::Http1 {
                absolute_form: true,
                ..
            }
        );
        match self.uri.path_and_query() {
            Some(path) if !absolute => Bytes::copy_from_slice(path.as_str().as_bytes()),
            _ if absolute => Bytes::from(self.uri.to_string()),
            _ => Bytes::from_static(b"/"),
        }
    }
}
