//! The reading half of a connection.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use tokio::io::AsyncRead;

use super::{HeaderCase, Limits, ReadError, RequestHead, ResponseHead};

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes, never empty. Chunk borders are not kept: they mean nothing.
    Data(Bytes),
    /// The trailer section, never empty, always the last frame.
    Trailers(HeaderMap, HeaderCase),
}

/// Why an idle connection can no longer be used.
#[derive(Debug)]
pub enum IdleEnd {
    /// The peer closed.
    Closed,
    /// The peer sent something that nobody asked for.
    Unexpected,
    /// The connection broke.
    Broken(std::io::Error),
}

/// Reads messages one after the other. Every `async` method may be dropped and called again without losing a byte.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    buf: BytesMut,
    limits: Limits,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader of a fresh connection.
    pub fn new(io: R, limits: Limits) -> Self {
        Self::with_buffer(io, BytesMut::new(), limits)
    }

    /// A reader of a connection of which some bytes were read already.
    pub fn with_buffer(io: R, buf: BytesMut, limits: Limits) -> Self {
        Self { io, buf, limits }
    }

    /// The next request; `None` where the client closed between two requests. Holds no buffer while none of it has come.
    pub async fn request_head(&mut self) -> Result<Option<RequestHead>, ReadError> {
        let _ = self.limits;
        unimplemented!()
    }

    /// The next response to a request of this method. After an interim one (1xx but 101) call again.
    pub async fn response_head(&mut self, _method: &Method) -> Result<ResponseHead, ReadError> {
        unimplemented!()
    }

    /// The next piece of the body of the last head; `None` at its end.
    pub async fn body_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        std::future::poll_fn(|cx| self.poll_body_frame(cx)).await
    }

    /// As [`Self::body_frame`].
    pub fn poll_body_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, ReadError>> {
        unimplemented!()
    }

    /// Whether the body of the last head was read to its end, so that the next head may be read.
    pub fn is_body_done(&self) -> bool {
        unimplemented!()
    }

    /// For a pooled client connection: waits until it can no longer be used. Holds no buffer.
    pub async fn idle_end(&mut self) -> IdleEnd {
        unimplemented!()
    }

    /// For a pooled client connection: whether it still looks usable, at once.
    pub fn is_usable(&mut self) -> bool {
        unimplemented!()
    }

    /// For a server that waits for the application: resolves only when the connection breaks (a reset). The end of what the client
    /// sends is not one: half-closing after a request is legal. Pipelined bytes are kept for the next head, bounded.
    pub async fn broken(&mut self) -> std::io::Error {
        unimplemented!()
    }

    /// The half of the connection and what was read beyond the last message, for Upgrade and CONNECT.
    pub fn into_parts(self) -> (R, BytesMut) {
        (self.io, self.buf)
    }
}
