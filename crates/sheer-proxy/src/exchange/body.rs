//! The body of a request: where it comes from, and its start, kept in case that it must be sent again.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

/// Most of a body that is kept for sending it again: one stream window of HTTP/2's default. Most calls fit whole.
const REPLAY_LIMIT: usize = 64 * 1024;

/// Where a body comes from.
#[derive(Debug)]
pub enum BodyIn {
    /// There is none: the head ended the stream.
    Empty,
    /// A stream of HTTP/2.
    H2(h2::RecvStream),
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Data; `last` if it ended the stream.
    Data { data: Bytes, last: bool },
    /// Trailers, which end the stream.
    Trailers(HeaderMap),
    /// The stream ended with nothing more.
    End,
}

/// Why a body did not come to its end.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// HTTP/2: a reset, or the end of its connection.
    H2(h2::Error),
}

/// The body and the trailers of a request.
#[derive(Debug)]
pub struct Body {
    source: BodyIn,
    kept: Vec<Frame>,
    /// Next of `kept` to give again.
    cursor: usize,
    kept_bytes: usize,
    keep: Keep,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Everything so far is in `kept`.
    Whole,
    /// Not asked for, or too much: the body cannot be sent again once a piece of it was given.
    No,
}

impl Body {
    /// A body from its source.
    pub fn new(source: BodyIn) -> Self {
        Self { ended: matches!(source, BodyIn::Empty), source, kept: Vec::new(), cursor: 0, kept_bytes: 0, keep: Keep::No }
    }

    /// Whether the head ended the stream, so that there is nothing to read.
    pub fn is_empty(&self) -> bool {
        matches!(self.source, BodyIn::Empty)
    }

    /// From here on, keeps what it gives, up to a limit.
    pub(crate) fn keep(&mut self) {
        if self.kept.is_empty() && !self.ended {
            self.keep = Keep::Whole;
        }
    }

    /// Drops what was kept: the request will not be sent again.
    pub(crate) fn forget(&mut self) {
        self.keep = Keep::No;
        self.kept.truncate(0);
        self.cursor = 0;
    }
}

impl BodyIn {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        let _ = cx;
        match self {
            Self::Empty => Poll::Ready(Ok(Frame::End)),
            Self::H2(_) => Poll::Pending,
        }
    }
}
