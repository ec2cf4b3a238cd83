//! What the library reports, and is given, as lists of fields.

use h2::ext::Protocol;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri};
use sheer_lens::hpack::{Digester, Name};

/// A list, field by field.
pub(super) trait Fields {
    /// Shows each field, in order.
    fn each(&self, see: &mut impl See);
}

/// Sees fields.
pub(super) trait See {
    /// A field.
    fn field(&mut self, name: &[u8], value: &[u8]);
    /// A field whose name is known beforehand.
    #[inline]
    fn named(&mut self, name: Name, value: &[u8]) {
        self.field(name.text(), value);
    }
}

impl See for Digester {
    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        Digester::field(self, name, value);
    }

    #[inline]
    fn named(&mut self, name: Name, value: &[u8]) {
        Digester::named(self, name, value);
    }
}

impl Fields for HeaderMap {
    #[inline]
    fn each(&self, see: &mut impl See) {
        for (name, value) in self {
            see.field(name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

/// The head of a response.
pub(super) struct ResponseHead<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
}

impl Fields for ResponseHead<'_> {
    #[inline]
    fn each(&self, see: &mut impl See) {
        see.named(Name::STATUS, self.status.as_str().as_bytes());
        self.headers.each(see);
    }
}

/// The head of a request: the pseudo fields that it stands for, then the others.
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) extensions: &'a Extensions,
    pub(super) headers: &'a HeaderMap,
    /// The library writes it: it fills in a path that is empty (RFC 9113, 8.3.1).
    pub(super) written: bool,
}

impl Fields for RequestHead<'_> {
    #[inline]
    fn each(&self, see: &mut impl See) {
        let protocol = self.extensions.get::<Protocol>();
        let plain_connect = *self.method == Method::CONNECT && protocol.is_none();
        see.named(Name::METHOD, self.method.as_str().as_bytes());
        if let Some(authority) = self.uri.authority() {
            see.named(Name::AUTHORITY, authority.as_str().as_bytes());
        }
        if !plain_connect {
            if let Some(scheme) = self.uri.scheme_str() {
                see.named(Name::SCHEME, scheme.as_bytes());
            }
            match self.uri.path_and_query().map_or("", |path| path.as_str()) {
                "" if !self.written => {}
                "" if *self.method == Method::OPTIONS => see.named(Name::PATH, b"*"),
                "" => see.named(Name::PATH, b"/"),
                path => see.named(Name::PATH, path.as_bytes()),
            }
        }
        if let Some(protocol) = protocol {
            see.named(Name::PROTOCOL, protocol.as_str().as_bytes());
        }
        self.headers.each(see);
    }
}
