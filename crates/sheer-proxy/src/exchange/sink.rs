//! Where a body goes: one chunk at a time, and no faster than the other side takes it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;

use super::gone::Gone;
use crate::error::ResetCode;

/// Where a body goes.
#[derive(Debug)]
pub(crate) enum BodyOut {
    /// A stream of HTTP/2. Kept also where its head ended it: resets come and go here.
    H2(h2::SendStream<Bytes>),
}

impl BodyOut {
    /// Ready once the peer reset the stream or its connection ended.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Self::H2(stream) => stream.poll_reset(cx).map(gone),
        }
    }

    /// Sends data, as the peer has room for it; `took` is told of every part that the codec accepted.
    pub(crate) async fn data(&mut self, mut data: Bytes, last: bool, mut took: impl FnMut(usize)) -> Result<(), Gone> {
        match self {
            Self::H2(stream) => {
                if data.is_empty() {
                    // Only the END_STREAM flag matters, and it needs no window.
                    return if last {
                        stream.send_data(data, true).map_err(Gone::of)
                    } else {
                        Ok(())
                    };
                }
                while !data.is_empty() {
                    let room = capacity(stream, data.len()).await?.min(data.len());
                    let part = data.split_to(room);
                    stream.send_data(part, last && data.is_empty()).map_err(Gone::of)?;
                    took(room);
                }
                Ok(())
            }
        }
    }

    /// Ends the body with trailers.
    pub(crate) async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        match self {
            Self::H2(stream) => stream.send_trailers(trailers).map_err(Gone::of),
        }
    }

    /// Ends the body.
    pub(crate) async fn end(&mut self) -> Result<(), Gone> {
        match self {
            Self::H2(stream) => stream.send_data(Bytes::new(), true).map_err(Gone::of),
        }
    }

    /// Breaks the body off.
    pub(crate) fn reset(&mut self, code: ResetCode) {
        match self {
            Self::H2(stream) => stream.send_reset(code.0),
        }
    }
}

/// Waits for room for up to `wanted` bytes: the peer's window, and the codec's buffer. At least 1.
async fn capacity(stream: &mut h2::SendStream<Bytes>, wanted: usize) -> Result<usize, Gone> {
    stream.reserve_capacity(wanted);
    // `poll_capacity` only tells of changes: what is there already has to be asked for.
    let room = stream.capacity();
    if room > 0 {
        return Ok(room);
    }
    poll_fn(|cx| match stream.poll_capacity(cx) {
        Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Gone::of(error))),
        // The stream is no longer open for sending: `poll_reset` knows why.
        Poll::Ready(None) => stream.poll_reset(cx).map(|reset| Err(gone(reset))),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// What `poll_reset` says.
pub(super) fn gone(reset: Result<h2::Reason, h2::Error>) -> Gone {
    match reset {
        Ok(code) => Gone::Reset(code),
        Err(error) => Gone::of(error),
    }
}
