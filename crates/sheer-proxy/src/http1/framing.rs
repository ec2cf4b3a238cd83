//! How long a body is (RFC 9112 6.3), and whether the connection lives on after it.

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body at all. In a response to HEAD and in a 304 a `Content-Length` may still stand in the head.
    None,
    /// This many bytes.
    Exact(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Until the peer closes (responses only). The connection ends with it.
    UntilClose,
}
