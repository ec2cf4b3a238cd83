//! The writing half of a connection.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::io::AsyncWrite;

use super::{BodyLength, HeaderCase, WriteError};

/// Writes messages one after the other.
///
/// A head is held back until the first bytes of its body, [`Self::finish`] or [`Self::flush`], so that both leave in one packet: a path
/// whose body is not ready calls `flush`. Framing fields are the writer's: it writes `Content-Length` or `Transfer-Encoding` as the
/// [`BodyLength`] says, in the place and case of the field in the map where there is one, and drops what contradicts it.
/// With [`BodyLength::None`] a response keeps the `Content-Length` of its map (HEAD, 304); a request, a 1xx and a 204 lose it.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// A writer of a connection on which nothing was written.
    pub fn new(io: W) -> Self {
        Self { io }
    }

    /// Queues the head of a request.
    pub fn request_head(
        &mut self,
        _line: RequestLine<'_>,
        _headers: &HeaderMap,
        _case: &HeaderCase,
        _body: BodyLength,
    ) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Queues the head of a response.
    pub fn response_head(
        &mut self,
        _line: StatusLine<'_>,
        _headers: &HeaderMap,
        _case: &HeaderCase,
        _body: BodyLength,
    ) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Writes a 1xx at once; the final head follows. For 101 use [`Self::response_head`] with [`BodyLength::None`].
    pub async fn informational(
        &mut self,
        _line: StatusLine<'_>,
        _headers: &HeaderMap,
        _case: &HeaderCase,
    ) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Writes a piece of the body, and with it the head if that is still held back. Returns when the connection took all of it.
    pub async fn data(&mut self, _data: Bytes) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Ends the body, with trailers where it is chunked (announced or not); elsewhere HTTP/1 has no place for them and they are dropped.
    pub async fn finish(&mut self, _trailers: Option<(&HeaderMap, &HeaderCase)>) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Writes what is held back.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Closes this half (FIN, or TLS close_notify).
    pub async fn shutdown(&mut self) -> std::io::Result<()> {
        unimplemented!()
    }

    /// The half of the connection, after everything was flushed.
    pub fn into_inner(self) -> W {
        self.io
    }
}

/// First line of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target in the form in which it shall be sent.
    pub target: &'a [u8],
    /// `HTTP_10` or `HTTP_11`.
    pub version: Version,
}

/// First line of a response.
#[derive(Clone, Copy, Debug)]
pub struct StatusLine<'a> {
    /// `HTTP_10` or `HTTP_11`.
    pub version: Version,
    /// Status.
    pub status: StatusCode,
    /// Reason phrase; `None` for the usual one.
    pub reason: Option<&'a [u8]>,
}
