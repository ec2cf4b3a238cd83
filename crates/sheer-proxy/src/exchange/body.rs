//! Bodies: where one comes from, and the start of a request's, kept in case that it must be sent again.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;

use super::{
    copy::BodyCopy,
    gone::Gone,
    loan::{Loan, Reader},
    referee::Referee,
};
use crate::{
    http1::{self, HeaderCase},
    record::StreamTape,
};

/// Most of a body that is kept for sending it again: one stream window of HTTP/2's default. Most calls fit whole.
const REPLAY_LIMIT: usize = 64 * 1024;

/// What still comes of a request that was answered before its end is taken in up to here, and for so long.
const REST_LIMIT: usize = 64 * 1024;
const REST_PATIENCE: Duration = Duration::from_secs(1);

/// Where a body comes from.
#[derive(Debug)]
pub enum BodyIn {
    /// There is none: the head ended the stream.
    Empty,
    /// A stream of HTTP/2, and what records its connection.
    H2(h2::RecvStream, StreamTape),
    /// A connection of HTTP/1.
    H1(Http1Body),
}

/// The reading half of an HTTP/1 connection, after a head.
#[derive(Debug)]
pub struct Http1Body(pub(crate) Loan<Reader>);

/// A piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Data; `last` if the same frame ended the stream.
    Data { data: Bytes, last: bool },
    /// Trailers, which end the stream, and the case of their names where HTTP/1 said them.
    Trailers(HeaderMap, Option<HeaderCase>),
    /// The stream ended after the last data.
    End,
}

impl BodyIn {
    /// A stream of HTTP/2, or nothing where its head ended it.
    pub fn h2(stream: h2::RecvStream, tape: &StreamTape) -> Self {
        if stream.is_end_stream() {
            Self::Empty
        } else {
            Self::H2(stream, tape.clone())
        }
    }

    /// What follows a head of HTTP/1.
    pub(crate) fn h1(reader: Loan<Reader>) -> Self {
        Self::H1(Http1Body(reader))
    }

    /// Whether there is nothing (more) to read.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H2(stream, _) => stream.is_end_stream(),
            Self::H1(Http1Body(reader)) => reader.is_body_done(),
        }
    }

    /// The next piece. After [`Frame::End`], [`Frame::Trailers`] or `last` there is none: do not ask.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Gone>> {
        match self {
            Self::Empty => Poll::Ready(Ok(Frame::End)),
            Self::H2(stream, tape) => match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => Poll::Ready(Ok(Frame::Data {
                    data,
                    last: stream.is_end_stream(),
                })),
                Some(Err(error)) => Poll::Ready(Err(Gone::of(error))),
                None => Poll::Ready(match ready!(stream.poll_trailers(cx)) {
                    Ok(Some(trailers)) => {
                        tape.reported_trailers(&trailers);
                        Ok(Frame::Trailers(trailers, None))
                    }
                    Ok(None) => Ok(Frame::End),
                    Err(error) => Err(Gone::of(error)),
                }),
            },
            Self::H1(Http1Body(reader)) => Poll::Ready(match ready!(reader.poll_body_frame(cx)) {
                Ok(Some(http1::Frame::Data(data))) => Ok(Frame::Data {
                    data,
                    last: reader.is_body_done(),
                }),
                Ok(Some(http1::Frame::Trailers(trailers, case))) => {
                    reader.io().tape().http1_trailers(false, &trailers, &case);
                    Ok(Frame::Trailers(trailers, Some(case)))
                }
                Ok(None) => Ok(Frame::End),
                Err(error) => Err(Gone::of_read(&error)),
            }),
        }
    }

    /// The other side took this many bytes: let as many come.
    pub(crate) fn release(&mut self, bytes: usize) {
        match self {
            // HTTP/1 reads when it is asked to.
            Self::Empty | Self::H1(_) => {}
            // Fails only for a stream that is gone, and then its window does not matter.
            Self::H2(stream, _) => drop(stream.flow_control().release_capacity(bytes)),
        }
    }
}

/// The body and the trailers of a request.
#[derive(Debug)]
pub struct Body {
    source: BodyIn,
    /// The head ended the stream.
    empty: bool,
    /// What was given so far, while that is all of it.
    kept: Vec<Frame>,
    kept_bytes: usize,
    /// Next of `kept` to give; past its end the source goes on.
    cursor: usize,
    /// What the source gave while the other side took nothing.
    ahead: Option<Box<Ahead>>,
    /// Bytes from the source that nobody took yet.
    owed: usize,
    keep: Keep,
    /// Boxed: few bodies have any.
    watched: Option<Box<Watched>>,
    /// Where a request's is left that was not read to its end.
    rest: Rest,
}

/// What is left of a request that was answered before it had come whole. None where it never had a body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest(Option<Rc<RefCell<Option<h2::RecvStream>>>>);

impl Rest {
    /// Nothing yet.
    pub(crate) fn of(source: &BodyIn) -> Self {
        Self((!matches!(source, BodyIn::Empty)).then(Rc::default))
    }

    /// Takes in what still comes, within bounds. A server may reset the stream of such a request with NO_ERROR (RFC 9113, 8.1), but clients that are
    /// still sending may miss the answer then, as curl 7 does.
    pub(crate) async fn take_in(self) {
        let Some(mut stream) = self.0.and_then(|rest| rest.take()) else {
            return;
        };
        let rest = async move {
            let mut taken = 0;
            while let Some(Ok(data)) = stream.data().await {
                // Fails only for a stream that is gone.
                let _ = stream.flow_control().release_capacity(data.len());
                taken += data.len();
                if taken > REST_LIMIT {
                    return;
                }
            }
        };
        // Boxed: few requests leave any. What comes later is not waited for.
        let _ = Box::pin(tokio::time::timeout(REST_PATIENCE, rest)).await;
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some(rest) = self.rest.0.take() else { return };
        if let BodyIn::H2(stream, _) = std::mem::replace(&mut self.source, BodyIn::Empty)
            && !stream.is_end_stream()
        {
            rest.replace(Some(stream));
        }
    }
}

/// Who else has to do with a body.
#[derive(Debug, Default)]
struct Watched {
    /// Says how much is kept, and is told once that is not all.
    referee: Option<Rc<dyn Referee>>,
    /// Get what is read.
    copies: Vec<Rc<BodyCopy>>,
}

/// Frames that were taken from the source before their turn, to learn whether it has left. Boxed: few bodies ever have any.
#[derive(Debug, Default)]
struct Ahead(VecDeque<Result<Frame, Gone>>);

/// Whether the body can still be given from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Nothing was given yet, and nobody asked to keep.
    Untouched,
    /// Everything that was given is in `kept`.
    Whole,
    /// A part is gone.
    Gone,
}

impl Body {
    /// A body from its source.
    pub fn new(source: BodyIn) -> Self {
        Self {
            empty: source.is_done(),
            source,
            kept: Vec::new(),
            kept_bytes: 0,
            cursor: 0,
            ahead: None,
            owed: 0,
            keep: Keep::Untouched,
            watched: None,
            rest: Rest::default(),
        }
    }

    /// Leaves there what was not read.
    #[must_use]
    pub(crate) fn leaving(self, rest: &Rest) -> Self {
        let mut body = self;
        body.rest = rest.clone();
        body
    }

    /// A body that is given once, as a response's.
    pub(crate) fn once(source: BodyIn) -> Self {
        let mut body = Self::new(source);
        body.keep = Keep::Gone;
        body
    }

    /// Whether the head ended the stream, so that there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// The source, to take its connection.
    pub(crate) fn into_source(mut self) -> BodyIn {
        std::mem::replace(&mut self.source, BodyIn::Empty)
    }

    /// Waits, once the body has been read, until its sender is gone. HTTP/2 tells of that on the way back.
    pub(crate) async fn sender_gone(&mut self) -> Gone {
        match &mut self.source {
            BodyIn::H1(Http1Body(reader)) => match reader.broken().await {
                Some(error) => Gone::of_read(&http1::ReadError::Io(error)),
                None => {
                    // Boxed: few clients half-close, and all would carry its timer.
                    Box::pin(reader.io().died()).await;
                    Gone::Closed {
                        why: "connection reset".to_owned(),
                    }
                }
            },
            BodyIn::Empty | BodyIn::H2(..) => std::future::pending().await,
        }
    }

    /// A body that is here whole.
    pub(crate) fn of_frames(frames: Vec<Frame>) -> Self {
        let mut body = Self::new(BodyIn::Empty);
        body.empty = frames.is_empty() || matches!(&frames[..], [Frame::End]);
        (body.kept, body.keep) = (frames, Keep::Whole);
        body
    }

    /// From here on, keeps what it gives, up to a limit: the referee's, where there is one.
    pub(crate) fn keep(&mut self, referee: Option<&Rc<dyn Referee>>) {
        if self.keep == Keep::Untouched {
            self.keep = Keep::Whole;
            if let Some(referee) = referee {
                self.watched.get_or_insert_default().referee = Some(Rc::clone(referee));
            }
        }
    }

    /// From here on, copies what it reads.
    pub(crate) fn copy_to(&mut self, copy: &Rc<BodyCopy>) {
        self.watched.get_or_insert_default().copies.push(Rc::clone(copy));
        if self.empty {
            copy.push(&Frame::End);
        }
    }

    /// The next frame, which [`Self::poll_frame`] will give once more. Of a body that is given once.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Gone>> {
        let frame = ready!(self.poll_frame(cx))?;
        self.kept = vec![frame.clone()];
        self.cursor = 0;
        Poll::Ready(Ok(frame))
    }

    /// Starts again from the beginning; `false` if a part of it is gone.
    pub(crate) fn rewind(&mut self) -> bool {
        self.cursor = 0;
        self.keep != Keep::Gone
    }

    /// Lets go of what was kept: the request will not be sent again.
    pub(crate) fn forget(&mut self) {
        if self.keep == Keep::Whole {
            self.keep = Keep::Gone;
            self.kept.drain(..self.cursor);
            self.cursor = 0;
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Gone>> {
        if let Some(frame) = self.again() {
            return Poll::Ready(Ok(frame));
        }
        let frame = match self.ahead.as_mut().and_then(|ahead| ahead.0.pop_front()) {
            Some(ahead) => ahead?,
            None => ready!(self.source.poll_frame(cx))?,
        };
        if let Frame::Data { data, .. } = &frame {
            self.owed += data.len();
        }
        if let Some(watched) = &self.watched {
            watched.copies.iter().for_each(|copy| copy.push(&frame));
        }
        match self.keep {
            Keep::Untouched => self.keep = Keep::Gone,
            Keep::Whole => self.remember(&frame),
            Keep::Gone => {}
        }
        Poll::Ready(Ok(frame))
    }

    /// While the other side takes nothing: ready once the source has reset the stream, whatever it sent before that. Only HTTP/2 can
    /// tell, as its window bounds what is looked at; how a source ends otherwise is told behind what it sent.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if !matches!(self.source, BodyIn::H2(..)) {
            return Poll::Pending;
        }
        loop {
            match self.ahead.as_ref().and_then(|ahead| ahead.0.back()) {
                None | Some(Ok(Frame::Data { last: false, .. })) => {}
                Some(Ok(Frame::Data { last: true, .. } | Frame::Trailers(..) | Frame::End) | Err(_)) => {
                    return Poll::Pending;
                }
            }
            match ready!(self.source.poll_frame(cx)) {
                Err(Gone::Reset(code)) if code != Reason::NO_ERROR => return Poll::Ready(Gone::Reset(code)),
                frame => self.ahead.get_or_insert_default().0.push_back(frame),
            }
        }
    }

    /// The other side took this many bytes: let as many come. Bytes that are given again count once.
    pub(crate) fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.owed);
        self.owed -= bytes;
        if bytes > 0 {
            self.source.release(bytes);
        }
    }

    /// A frame that was given before, where the body was rewound.
    fn again(&mut self) -> Option<Frame> {
        if self.keep == Keep::Gone {
            // Peeked at, or left over when the rest was let go: given once more and never again.
            return (!self.kept.is_empty()).then(|| self.kept.remove(0));
        }
        let frame = self.kept.get(self.cursor)?.clone();
        self.cursor += 1;
        Some(frame)
    }

    fn remember(&mut self, frame: &Frame) {
        if let Frame::Data { data, .. } = frame {
            self.kept_bytes += data.len();
        }
        let referee = self.watched.as_ref().and_then(|watched| watched.referee.as_ref());
        let limit = referee.map_or(REPLAY_LIMIT, |referee| referee.keeps());
        if self.kept_bytes > limit {
            self.keep = Keep::Gone;
            self.kept = Vec::new();
            self.cursor = 0;
            if let Some(referee) = referee {
                referee.body_lost();
            }
        } else {
            if self.kept.is_empty() {
                // Most are one message and its end.
                self.kept.reserve_exact(2);
            }
            self.kept.push(frame.clone());
            self.cursor = self.kept.len();
        }
    }
}
