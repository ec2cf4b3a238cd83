//! Message heads as they were sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, uri::Authority};

use super::{BodyLength, HeaderCase};

/// The four forms of a request target (RFC 9112 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, for CONNECT.
    Authority,
    /// `*`, for OPTIONS.
    Asterisk,
}

/// A request target, byte for byte as sent: printable, no spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: Bytes,
    form: TargetForm,
}

impl Target {
    /// The target as sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Its form.
    pub fn form(&self) -> TargetForm {
        self.form
    }
}

/// What a request says about its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// No `Host` field. Legal in HTTP/1.0; RFC 9112 3.2 has 400 for it in HTTP/1.1, the path decides.
    Missing,
    /// The field is there and empty (legal where the target has no authority).
    Empty,
    /// Its value.
    Value(&'a HeaderValue),
}

/// Head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method, its case as sent.
    pub method: Method,
    /// Target as sent.
    pub target: Target,
    /// `HTTP_10` or `HTTP_11`.
    pub version: Version,
    /// Every field, hop-by-hop ones too. A repeated `Content-Length` is made one (RFC 9112 6.3).
    pub headers: HeaderMap,
    /// The case of their names.
    pub case: HeaderCase,
    /// How long the body is.
    pub body: BodyLength,
    /// Whether the client will read another response on this connection.
    pub keep_alive: bool,
}

impl RequestHead {
    /// What the `Host` field says.
    pub fn host(&self) -> Host<'_> {
        match self.headers.get(http::header::HOST) {
            None => Host::Missing,
            Some(value) if value.is_empty() => Host::Empty,
            Some(value) => Host::Value(value),
        }
    }

    /// The protocol that the client asks to switch to: `Upgrade`, where `Connection` nominates it.
    pub fn upgrade(&self) -> Option<&HeaderValue> {
        None
    }

    /// Whether the client waits for a 100 before it sends the body (RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        false
    }

    /// The authority that the request is for: that of an absolute or authority target, else `Host` (RFC 9112 3.3).
    pub fn authority(&self) -> Option<Authority> {
        None
    }
}

/// Head of a response, final or interim.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// `HTTP_10` or `HTTP_11`.
    pub version: Version,
    /// Status.
    pub status: StatusCode,
    /// Reason phrase as sent; `None` where it is the usual one for the status.
    pub reason: Option<Bytes>,
    /// Every field, hop-by-hop ones too.
    pub headers: HeaderMap,
    /// The case of their names.
    pub case: HeaderCase,
    /// How long the body is. [`BodyLength::None`] for every 1xx, of which others may follow.
    pub body: BodyLength,
    /// Whether the server will answer another request on this connection.
    pub keep_alive: bool,
}
