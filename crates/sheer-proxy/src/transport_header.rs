//! Linkerd's transport header: what an outbound proxy says to the peer's inbound proxy before opaque bytes.
//!
//! `transport.l5d.io/v1` CR LF CR LF, a big-endian u32 length, a protobuf message. The outbound path writes it first on a connection with
//! the ALPN of the same name; the inbound path reads it. Bytes after it belong to the stream and stay in the buffer.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;

/// Longest message that is read. Linkerd's is some 20 bytes and a name of at most 253.
pub const MAX_MESSAGE: usize = 1024;

/// The header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportHeader {
    /// Port of the workload that the bytes are for.
    pub port: u16,
    /// Authority that the connection is for, where it goes through a gateway.
    pub name: Option<String>,
    /// Protocol of what follows; `None` for opaque bytes.
    pub protocol: Option<SessionProtocol>,
}

/// Protocol that follows a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TransportHeaderError {
    /// Other bytes stand where the header should.
    #[error("the connection does not start with a transport header")]
    Missing,
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("the transport header has {0} bytes, more than 1024")]
    TooLong(u32),
    /// Not the protobuf message, or no port in it.
    #[error("the transport header is malformed: {0}")]
    Malformed(&'static str),
    /// Closed before the header was whole.
    #[error("the connection was closed within the transport header")]
    Truncated,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl TransportHeader {
    /// Preface, length and message.
    pub fn encode(&self) -> Bytes {
        unimplemented!()
    }

    /// Takes a header off the front of `buf`; `None` where more bytes are needed.
    pub fn decode(_buf: &mut BytesMut) -> Result<Option<Self>, TransportHeaderError> {
        unimplemented!()
    }

    /// Reads until the header is whole. What follows it stays in `buf`.
    pub async fn read<R: AsyncRead + Unpin>(_io: &mut R, _buf: &mut BytesMut) -> Result<Self, TransportHeaderError> {
        unimplemented!()
    }
}
