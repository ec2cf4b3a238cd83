//! HTTP/1 as the data path needs it: a codec of two halves that keeps what was sent.
//!
//! [`Reader`] and [`Writer`] each own one half of a connection and serve either role: the reader of a server reads requests, that
//! of a client reads responses. Both are sequential, so pipelined requests fall out by themselves: read a head, read its body to
//! the end, read the next head. The path moves them through an exchange and takes them back for the next one.
//!
//! Kept as sent: method, target in its form, version, reason phrase, every value byte for byte, repeated fields apart and in order,
//! the case of names ([`HeaderCase`]), trailers whether announced or not, every 1xx.
//!
//! Never answered or hidden here: `Expect: 100-continue`, missing `Host`, time limits, `Upgrade`. The codec reports, the path
//! decides. Hop-by-hop fields stay in the map until the path drops them with [`strip_hop_by_hop`].
//!
//! Strict where laxity lets a request be smuggled (RFC 9112 11.2): see [`ParseError`] for the list. Lenient where the RFC allows it:
//! a bare LF ends a line of a head (never of a chunk), empty lines before a request, HTTP/1.0.

mod case;
mod chunked;
mod error;
mod framing;
mod head;
mod hop;
mod parse;
mod reader;
mod unread;
mod writer;

pub use case::HeaderCase;
pub use error::{ParseError, ReadError, WriteError};
pub use framing::BodyLength;
pub use head::{Host, RequestHead, ResponseHead, Target, TargetForm};
pub use hop::{HopByHop, is_hop_by_hop, strip_hop_by_hop};
pub use reader::{Frame, IdleEnd, Reader};
pub use unread::Unread;
pub(crate) use writer::last_chunk;
pub use writer::{RequestLine, StatusLine, Writer};

/// What a reader takes before it refuses. Every limit is the path's to set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a whole head: start line and fields.
    pub head: usize,
    /// Number of fields in a head or a trailer section.
    pub fields: usize,
    /// Bytes of chunk extensions in one chunk; they are read and dropped (RFC 9112 7.1.1).
    pub chunk_extension: usize,
    /// Bytes of a whole trailer section.
    pub trailers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 256 * 1024,
            fields: 1000,
            chunk_extension: 4096,
            trailers: 256 * 1024,
        }
    }
}
