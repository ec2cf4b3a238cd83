//! Tells HTTP/1, HTTP/2 with prior knowledge and everything else apart from the first bytes of a connection.

/// What the first bytes of a plaintext connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Could still become HTTP: read more.
    Incomplete,
    /// A request line of HTTP/1.0 or HTTP/1.1.
    Http1,
    /// The connection preface of HTTP/2 (RFC 9113 3.4).
    Http2,
    /// Anything else.
    Opaque,
}
