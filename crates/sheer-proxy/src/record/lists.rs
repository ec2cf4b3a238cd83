//! Header lists as a library reports them or is given them, field by field.

use h2::ext::Protocol;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// A pseudo field (RFC 9113, 8.3; RFC 8441).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pseudo {
    Method,
    Authority,
    Scheme,
    Path,
    Protocol,
    Status,
}

impl Pseudo {
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::Method => b":method",
            Self::Authority => b":authority",
            Self::Scheme => b":scheme",
            Self::Path => b":path",
            Self::Protocol => b":protocol",
            Self::Status => b":status",
        }
    }
}

/// Sees the fields of a list, one call each.
pub(super) trait See {
    fn pseudo(&mut self, name: Pseudo, value: &[u8]);
    fn field(&mut self, name: &HeaderName, value: &HeaderValue);
}

/// Sees them as texts.
pub(super) struct Texts<F>(pub(super) F);

impl<F: FnMut(&[u8], &[u8])> See for Texts<F> {
    fn pseudo(&mut self, name: Pseudo, value: &[u8]) {
        self.0(name.name(), value);
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.0(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// A header list.
pub(super) trait Listed {
    /// Whether it is of fields behind a body.
    const IS_TRAILERS: bool;

    /// Shows every field.
    fn show(&self, see: &mut impl See);
}

/// A request's head.
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) protocol: Option<&'a Protocol>,
    pub(super) headers: &'a HeaderMap,
    /// The library writes it: a path that is empty it fills in (RFC 9113, 8.3.1).
    pub(super) written: bool,
}

/// A response's head.
pub(super) struct ResponseHead<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
}

/// Trailers.
pub(super) struct Trailers<'a>(pub(super) &'a HeaderMap);

impl Listed for RequestHead<'_> {
    const IS_TRAILERS: bool = false;

    #[inline]
    fn show(&self, see: &mut impl See) {
        see.pseudo(Pseudo::Method, self.method.as_str().as_bytes());
        let plain_connect = *self.method == Method::CONNECT && self.protocol.is_none();
        if let Some(authority) = self.uri.authority() {
            see.pseudo(Pseudo::Authority, authority.as_str().as_bytes());
        }
        if !plain_connect {
            if let Some(scheme) = self.uri.scheme_str() {
                see.pseudo(Pseudo::Scheme, scheme.as_bytes());
            }
            match self.uri.path_and_query().map_or("", |path| path.as_str()) {
                "" if !self.written => {}
                "" if *self.method == Method::OPTIONS => see.pseudo(Pseudo::Path, b"*"),
                "" => see.pseudo(Pseudo::Path, b"/"),
                path => see.pseudo(Pseudo::Path, path.as_bytes()),
            }
        }
        if let Some(protocol) = self.protocol {
            see.pseudo(Pseudo::Protocol, protocol.as_str().as_bytes());
        }
        fields(self.headers, see);
    }
}

impl Listed for ResponseHead<'_> {
    const IS_TRAILERS: bool = false;

    #[inline]
    fn show(&self, see: &mut impl See) {
        see.pseudo(Pseudo::Status, self.status.as_str().as_bytes());
        fields(self.headers, see);
    }
}

impl Listed for Trailers<'_> {
    const IS_TRAILERS: bool = true;

    #[inline]
    fn show(&self, see: &mut impl See) {
        fields(self.0, see);
    }
}

#[inline]
fn fields(headers: &HeaderMap, see: &mut impl See) {
    for (name, value) in headers {
        see.field(name, value);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sheer_lens::hpack::{Digest, Digester};

    use super::*;

    /// A list of names and values.
    #[derive(Debug)]
    pub(in crate::record) struct Pairs<'a>(pub(in crate::record) &'a [(&'a str, &'a str)]);

    impl Listed for Pairs<'_> {
        const IS_TRAILERS: bool = false;

        fn show(&self, see: &mut impl See) {
            let all = [
                Pseudo::Method,
                Pseudo::Authority,
                Pseudo::Scheme,
                Pseudo::Path,
                Pseudo::Protocol,
                Pseudo::Status,
            ];
            for (name, value) in self.0 {
                match all.iter().find(|pseudo| pseudo.name() == name.as_bytes()) {
                    Some(pseudo) => see.pseudo(*pseudo, value.as_bytes()),
                    None => see.field(
                        &HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                        &HeaderValue::from_str(value).expect("a value"),
                    ),
                }
            }
        }
    }

    /// Of a list, from nothing.
    pub(in crate::record) fn digest(list: &impl Listed) -> Digest {
        let mut digester = Digester::new();
        list.show(&mut Texts(|name: &[u8], value: &[u8]| digester.field(name, value)));
        digester.digest()
    }
}
