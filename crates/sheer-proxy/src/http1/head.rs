//! Message heads as they were sent.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, EXPECT, HOST, UPGRADE},
    uri::Authority,
};

use super::{BodyLength, HeaderCase, ParseError, framing};

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
    /// Takes the target of a request of this method. Raw UTF-8 passes, as sloppy clients send it; spaces and controls do not.
    pub fn parse(text: Bytes, method: &Method) -> Result<Self, ParseError> {
        let form = match *text {
            _ if *method == Method::CONNECT => TargetForm::Authority,
            [b'/', ..] => TargetForm::Origin,
            [b'*'] => TargetForm::Asterisk,
            _ => TargetForm::Absolute,
        };
        let whole = match form {
            TargetForm::Origin | TargetForm::Asterisk => true,
            TargetForm::Absolute => is_absolute(&text),
            TargetForm::Authority => Authority::try_from(&*text).is_ok_and(|authority| authority.port_u16().is_some()),
        };
        if !whole || !is_printable(&text) {
            return Err(ParseError::Target);
        }
        Ok(Self { text, form })
    }

    /// As a URI, for HTTP/2; `None` where it holds bytes that a URI may not (HTTP/1 peers may still understand it). A fragment
    /// is lost: it has no place in a request.
    pub fn uri(&self) -> Option<Uri> {
        Uri::from_maybe_shared(self.text.clone()).ok()
    }

    /// The target as sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Its form.
    pub fn form(&self) -> TargetForm {
        self.form
    }
}

/// Whether a target may stand in a request line: nothing that ends it, nothing that cannot be seen.
pub(super) fn is_printable(target: &[u8]) -> bool {
    !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// `scheme://something`.
fn is_absolute(target: &[u8]) -> bool {
    let scheme = target
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        .count();
    let authority = target[scheme..].strip_prefix(b"://");
    target[0].is_ascii_alphabetic() && authority.is_some_and(|authority| !authority.is_empty() && authority[0] != b'/')
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
    /// The head as it was sent, its empty line included.
    pub raw: Bytes,
}

impl RequestHead {
    /// What the `Host` field says.
    pub fn host(&self) -> Host<'_> {
        match self.headers.get(HOST) {
            None => Host::Missing,
            Some(value) if value.is_empty() => Host::Empty,
            Some(value) => Host::Value(value),
        }
    }

    /// The protocol that the client asks to switch to: `Upgrade`, where `Connection` nominates it.
    pub fn upgrade(&self) -> Option<&HeaderValue> {
        let upgrade = self.headers.get(UPGRADE)?;
        framing::names(&self.headers, CONNECTION, b"upgrade").then_some(upgrade)
    }

    /// Whether the client waits for a 100 before it sends the body (RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.version == Version::HTTP_11 && framing::names(&self.headers, EXPECT, b"100-continue")
    }

    /// The authority that the request is for: that of an absolute or authority target, else `Host` (RFC 9112 3.3).
    pub fn authority(&self) -> Option<Authority> {
        match self.target.form() {
            TargetForm::Authority => Authority::try_from(self.target.as_bytes()).ok(),
            TargetForm::Absolute => self.target.uri()?.into_parts().authority,
            TargetForm::Origin | TargetForm::Asterisk => match self.host() {
                Host::Value(host) => Authority::try_from(host.as_bytes()).ok(),
                Host::Missing | Host::Empty => None,
            },
        }
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
    /// The head as it was sent, its empty line included.
    pub raw: Bytes,
}
