//! Where a body goes: one chunk at a time, and no faster than the other side takes it.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    gone::Gone,
    http1_reply::Fate,
    loan::{Loan, Writer},
};
use crate::{
    error::ResetCode,
    headers,
    http1::HeaderCase,
    record::{Leg, StreamTape},
};

/// Where a body goes.
#[derive(Debug)]
pub(crate) enum BodyOut {
    /// A stream of HTTP/2. Kept also where its head ended it: resets come and go here.
    H2 {
        stream: h2::SendStream<Bytes>,
        /// Trailers of HTTP/1 keep the case of their names on the way to another sidecar.
        mesh: bool,
        /// What records it.
        tape: StreamTape,
    },
    /// A connection of HTTP/1.
    H1 {
        writer: Loan<Writer>,
        /// Of the client's connection; a server's is closed by whoever opened it.
        fate: Option<Rc<Fate>>,
    },
}

impl BodyOut {
    /// The stream that it goes to, as the recorder counts it.
    pub(crate) fn leg(&self) -> Leg {
        match self {
            Self::H2 { tape, .. } => tape.leg(),
            Self::H1 { writer, .. } => writer.io().leg(),
        }
    }

    /// Ready once the peer reset the stream or its connection ended. HTTP/1 learns that by reading.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Self::H2 { stream, .. } => stream.poll_reset(cx).map(gone),
            Self::H1 { .. } => Poll::Pending,
        }
    }

    /// Ready once the peer has room for data; for up to how many bytes of `wanted`, at least 1. HTTP/1 finds out by writing.
    pub(crate) fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        match self {
            Self::H2 { stream, .. } => poll_capacity(stream, wanted, cx).map_ok(|room| room.min(wanted)),
            Self::H1 { .. } => Poll::Ready(Ok(wanted)),
        }
    }

    /// Sends data for which there is room.
    pub(crate) async fn data(&mut self, data: Bytes, last: bool) -> Result<(), Gone> {
        match self {
            // Of an empty frame only the END_STREAM flag matters, and it needs no window.
            Self::H2 { stream, .. } if last || !data.is_empty() => stream.send_data(data, last).map_err(Gone::of),
            Self::H1 { writer, .. } if last => Ok(writer.finish_with(data, None).await?),
            Self::H1 { writer, .. } if !data.is_empty() => Ok(writer.data(data).await?),
            Self::H2 { .. } | Self::H1 { .. } => Ok(()),
        }
    }

    /// Ends the body with trailers; `case` is known where HTTP/1 said them.
    pub(crate) async fn trailers(&mut self, mut trailers: HeaderMap, case: Option<HeaderCase>) -> Result<(), Gone> {
        match self {
            Self::H2 { stream, mesh, tape } => {
                if *mesh {
                    headers::carry_case(&mut trailers, &case.unwrap_or_default());
                }
                let given = tape.give_trailers(&trailers);
                stream.send_trailers(trailers).map_err(Gone::of)?;
                tape.given(given);
                Ok(())
            }
            Self::H1 { writer, .. } => {
                // From HTTP/2 to HTTP/1 comes only what another sidecar carried.
                let case = case
                    .or_else(|| headers::carried_case(&mut trailers))
                    .unwrap_or_default();
                if writer.is_chunked() {
                    writer.io().tape().http1_trailers(true, &trailers, &case);
                }
                Ok(writer.finish(Some((&trailers, &case))).await?)
            }
        }
    }

    /// Ends the body.
    pub(crate) async fn end(&mut self) -> Result<(), Gone> {
        match self {
            Self::H2 { stream, .. } => stream.send_data(Bytes::new(), true).map_err(Gone::of),
            Self::H1 { writer, .. } => Ok(writer.finish(None).await?),
        }
    }

    /// Ends a message that has no body.
    pub(crate) async fn no_body(&mut self) -> Result<(), Gone> {
        match self {
            // Its head has said so.
            Self::H2 { .. } => Ok(()),
            Self::H1 { writer, .. } => Ok(writer.finish(None).await?),
        }
    }

    /// Whether something waits for [`Self::flush`].
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::H2 { .. } => false,
            Self::H1 { writer, .. } => writer.has_pending(),
        }
    }

    /// Sends what is held back, as nothing more comes for now.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        match self {
            Self::H2 { .. } => Ok(()),
            Self::H1 { writer, .. } => Ok(writer.flush().await?),
        }
    }

    /// Breaks the body off.
    pub(crate) fn reset(&mut self, code: ResetCode) {
        match self {
            Self::H2 { stream, .. } => stream.send_reset(code.0),
            Self::H1 { fate: Some(fate), .. } => fate.abort.set(true),
            Self::H1 { fate: None, .. } => {}
        }
    }
}

/// Room for up to `wanted` bytes: the peer's window, and the codec's buffer. At least 1.
fn poll_capacity(stream: &mut h2::SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
    stream.reserve_capacity(wanted);
    // `poll_capacity` only tells of changes: what is there already has to be asked for.
    let room = stream.capacity();
    if room > 0 {
        return Poll::Ready(Ok(room));
    }
    match stream.poll_capacity(cx) {
        Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Gone::of(error))),
        // The stream is no longer open for sending: `poll_reset` knows why.
        Poll::Ready(None) => stream.poll_reset(cx).map(|reset| Err(gone(reset))),
        Poll::Pending => Poll::Pending,
    }
}

/// What `poll_reset` says.
pub(super) fn gone(reset: Result<h2::Reason, h2::Error>) -> Gone {
    match reset {
        Ok(code) => Gone::Reset(code),
        Err(error) => Gone::of(error),
    }
}
