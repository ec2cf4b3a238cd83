//! Carries one body from its source to its end, chunk by chunk.

use std::{future::poll_fn, task::Poll};

use super::{
    body::{Body, Frame},
    gone::Gone,
    outcome::{Observation, Way},
    sink::BodyOut,
};
use crate::headers;

/// Why a body did not go through.
#[derive(Debug)]
pub(super) enum Stop {
    /// Who sends it left.
    Source(Gone),
    /// Who takes it left.
    Sink(Gone),
    /// Its trailers are this large.
    Trailers(usize),
}

/// Carries a body to its end. Returns as soon as either side leaves, also while the other is silent. Not to be inlined ([`crate::worker::boxed`]): most of
/// the time that a request takes it waits without a body, and should not carry this along.
#[inline(never)]
pub(super) async fn pump(
    way: Way,
    body: &mut Body,
    out: &mut BodyOut,
    trailer_limit: usize,
    observation: &Observation,
) -> Result<(), Stop> {
    loop {
        let frame = if out.holds_back() {
            // A head waits for its body, to leave in one packet with it; but not if there is none yet.
            match poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await {
                Poll::Ready(frame) => frame.map_err(Stop::Source)?,
                Poll::Pending => {
                    out.flush().await.map_err(Stop::Sink)?;
                    continue;
                }
            }
        } else {
            next(body, out).await?
        };
        match frame {
            Frame::Data { mut data, last } => {
                loop {
                    let room = match data.len() {
                        0 => 0,
                        wanted => room(body, out, wanted, || observation.stalled(way)).await?,
                    };
                    let part = data.split_to(room);
                    observation.body(way, &part);
                    out.data(part, last && data.is_empty()).await.map_err(Stop::Sink)?;
                    body.release(room);
                    observation.bytes(way, room);
                    if data.is_empty() {
                        break;
                    }
                }
                if last {
                    return Ok(());
                }
            }
            Frame::Trailers(trailers, case) => {
                let size = headers::list_size(&trailers);
                if size > trailer_limit {
                    return Err(Stop::Trailers(size));
                }
                match way {
                    Way::Response => observation.trailers(&trailers),
                    Way::Request => observation.request_trailers(&trailers),
                }
                return out.trailers(trailers, case).await.map_err(Stop::Sink);
            }
            Frame::End => return out.end().await.map_err(Stop::Sink),
        }
    }
}

/// Waits until the sink takes some of what is next; or until the source is reset, which must not wait for a sink that takes nothing.
async fn room(body: &mut Body, out: &mut BodyOut, wanted: usize, stalled: impl FnOnce()) -> Result<usize, Stop> {
    let mut stalled = Some(stalled);
    poll_fn(|cx| match out.poll_room(wanted, cx) {
        Poll::Ready(room) => Poll::Ready(room.map_err(Stop::Sink)),
        Poll::Pending => {
            if let Some(stalled) = stalled.take() {
                stalled();
            }
            body.poll_reset(cx).map(|gone| Err(Stop::Source(gone)))
        }
    })
    .await
}

/// Waits for the next frame, or until the sink is gone.
async fn next(body: &mut Body, out: &mut BodyOut) -> Result<Frame, Stop> {
    poll_fn(|cx| {
        // What the source has comes first: a reset of the sink may follow on it.
        match body.poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map_err(Stop::Source)),
            Poll::Pending => out.poll_gone(cx).map(|gone| Err(Stop::Sink(gone))),
        }
    })
    .await
}
