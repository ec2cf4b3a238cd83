//! The reading half of a connection.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{
    BodyLength, HeaderCase, Limits, ParseError, ReadError, RequestHead, ResponseHead, Unread,
    chunked::{Chunked, Step},
    parse::{self, Scan},
};

/// What an idle reader reads with, on the stack: it holds no memory while nothing comes, and most heads fit.
const FIRST_READ: usize = 4 * 1024;
/// What it reads with once that proved too small, and as far as it grows.
const READ_SIZES: std::ops::RangeInclusive<usize> = 16 * 1024..=64 * 1024;
/// How much of pipelined requests is kept while the answer to an earlier one is awaited.
const MAX_PIPELINED: usize = 64 * 1024;

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
    Broken(io::Error),
}

/// Where a reader stands within a message.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// Before a head.
    Done,
    /// This many bytes are to come.
    Exact(u64),
    /// Chunks are to come.
    Chunked(Chunked),
    /// Everything up to the end of the connection is to come.
    UntilClose,
    /// The body was refused: nobody knows where it ends.
    Refused(ParseError),
}

/// Reads messages one after the other. Every `async` method may be dropped and called again without losing a byte.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    buf: BytesMut,
    limits: Limits,
    body: Body,
    /// How much of `buf` holds no end of a head.
    scanned: usize,
    /// How much to ask for at once; below [`READ_SIZES`] the stack is enough.
    read_size: usize,
    /// The peer has closed its half.
    eof: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader of a fresh connection.
    pub fn new(io: R, limits: Limits) -> Self {
        Self::with_buffer(io, BytesMut::new(), limits)
    }

    /// A reader of a connection of which some bytes were read already.
    pub fn with_buffer(io: R, buf: BytesMut, limits: Limits) -> Self {
        Self {
            io,
            buf,
            limits,
            body: Body::Done,
            scanned: 0,
            read_size: FIRST_READ,
            eof: false,
        }
    }

    /// The next request; `None` where the client closed between two requests. Holds no buffer while none of it has come.
    pub async fn request_head(&mut self) -> Result<Option<RequestHead>, ReadError> {
        let Some(head) = poll_fn(|cx| self.poll_head(cx)).await? else {
            return Ok(None);
        };
        match parse::request(&head, &self.limits) {
            Ok(head) => {
                self.begin(head.body);
                Ok(Some(head))
            }
            Err(error) => {
                self.put_back(head);
                Err(error.into())
            }
        }
    }

    /// What can be told of the request head that was refused last.
    pub fn unread(&self) -> Unread {
        Unread::of(&self.buf)
    }

    /// The next response to a request of this method. After an interim one (1xx but 101) call again.
    pub async fn response_head(&mut self, method: &Method) -> Result<ResponseHead, ReadError> {
        let head = poll_fn(|cx| self.poll_head(cx)).await?.ok_or(ReadError::NoResponse)?;
        let head = parse::response(&head, method, &self.limits)?;
        self.begin(head.body);
        Ok(head)
    }

    /// The next piece of the body of the last head; `None` at its end.
    pub async fn body_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        poll_fn(|cx| self.poll_body_frame(cx)).await
    }

    /// As [`Self::body_frame`].
    pub fn poll_body_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, ReadError>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.is_body_done() {
                return Poll::Ready(Ok(None));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(match self.body {
                    Body::UntilClose => {
                        self.body = Body::Done;
                        Ok(None)
                    }
                    _ => Err(ReadError::BodyTruncated),
                });
            }
        }
    }

    /// Whether the body of the last head was read to its end, so that the next head may be read. Often true together with the
    /// last [`Frame::Data`], so that the end can be passed on with it.
    pub fn is_body_done(&self) -> bool {
        matches!(self.body, Body::Done)
    }

    /// For a pooled client connection: waits until it can no longer be used. Holds no buffer.
    pub async fn idle_end(&mut self) -> IdleEnd {
        poll_fn(|cx| self.poll_idle_end(cx)).await
    }

    /// For a pooled client connection: whether it still looks usable, at once. Whoever waits in [`Self::idle_end`] must poll it again.
    pub fn is_usable(&mut self) -> bool {
        self.is_body_done() && self.poll_idle_end(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// For a server that waits for the application: resolves when the connection breaks (a reset). `None` once reading can no longer
    /// tell: the client has half-closed, which is legal after a request, or sent 64 KiB of pipelined requests. These are kept for
    /// the next head, and beyond them nothing is read, so that the client slows down.
    pub async fn broken(&mut self) -> Option<io::Error> {
        poll_fn(|cx| {
            while !self.eof && self.buf.len() < MAX_PIPELINED {
                if let Err(error) = ready!(self.poll_fill(cx)) {
                    return Poll::Ready(Some(error));
                }
            }
            Poll::Ready(None)
        })
        .await
    }

    /// Whether the peer has closed its half.
    pub fn is_half_closed(&self) -> bool {
        self.eof
    }

    /// The connection, to look at.
    pub fn io(&self) -> &R {
        &self.io
    }

    /// The half of the connection and what was read beyond the last message, for Upgrade and CONNECT.
    pub fn into_parts(self) -> (R, BytesMut) {
        (self.io, self.buf)
    }

    fn begin(&mut self, body: BodyLength) {
        self.body = match body {
            BodyLength::None | BodyLength::Exact(0) => Body::Done,
            BodyLength::Exact(length) => Body::Exact(length),
            BodyLength::Chunked => Body::Chunked(Chunked::Size),
            BodyLength::UntilClose => Body::UntilClose,
        };
    }

    /// The bytes of the next head, whole; `None` where the connection ends before it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if !self.is_body_done() {
            return Poll::Ready(Err(ReadError::BodyUnread));
        }
        loop {
            if self.scanned == 0 {
                let empty = parse::leading_empty_lines(&self.buf);
                let _ = self.buf.split_to(empty);
            }
            let end = match parse::scan(&self.buf, self.scanned) {
                Scan::Ends(end) => Some(end),
                Scan::From(scanned) => {
                    // A lone CR may be half of an empty line before the head: look at it again.
                    self.scanned = if *self.buf == b"\r"[..] { 0 } else { scanned };
                    None
                }
            };
            if end.unwrap_or(self.buf.len()) > self.limits.head {
                return Poll::Ready(Err(self.too_large().into()));
            }
            if let Some(end) = end {
                self.scanned = 0;
                return Poll::Ready(Ok(Some(self.buf.split_to(end).freeze())));
            }
            if self.buf.is_empty() {
                self.buf = BytesMut::new();
                self.read_size = FIRST_READ;
            }
            if ready!(self.poll_fill(cx))? == 0 {
                let nothing = self.buf.is_empty();
                return Poll::Ready(if nothing {
                    Ok(None)
                } else {
                    Err(ReadError::HeadTruncated)
                });
            }
        }
    }

    /// A head that was refused stays unread.
    #[cold]
    fn put_back(&mut self, head: Bytes) {
        let behind = std::mem::replace(&mut self.buf, head.into());
        self.buf.unsplit(behind);
    }

    fn too_large(&self) -> ParseError {
        let limit = self.limits.head;
        match memchr::memchr(b'\n', &self.buf[..limit]) {
            Some(_) => ParseError::HeadTooLarge { limit },
            None => ParseError::TargetTooLong { limit },
        }
    }

    /// What the buffer holds of the body.
    fn take_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        match &mut self.body {
            Body::Done => Ok(None),
            Body::Refused(error) => Err((*error).into()),
            _ if self.buf.is_empty() => Ok(None),
            Body::Exact(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buf.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.body = Body::Done;
                }
                Ok(Some(Frame::Data(self.buf.split_to(taken).freeze())))
            }
            Body::UntilClose => Ok(Some(Frame::Data(self.buf.split().freeze()))),
            Body::Chunked(chunked) => {
                let frame = take_chunk(chunked, &mut self.buf, &self.limits);
                match frame {
                    Err(error) => self.body = Body::Refused(error),
                    Ok(_) if *chunked == Chunked::Done => self.body = Body::Done,
                    Ok(_) => {}
                }
                Ok(frame?)
            }
        }
    }

    fn poll_idle_end(&mut self, cx: &mut Context<'_>) -> Poll<IdleEnd> {
        if !self.buf.is_empty() {
            return Poll::Ready(IdleEnd::Unexpected);
        }
        self.buf = BytesMut::new();
        self.read_size = FIRST_READ;
        Poll::Ready(match ready!(self.poll_fill(cx)) {
            Ok(0) => IdleEnd::Closed,
            Ok(_) => IdleEnd::Unexpected,
            Err(error) => IdleEnd::Broken(error),
        })
    }

    /// Reads once, at the end of the buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        let (read, room) = if self.buf.is_empty() && self.read_size < *READ_SIZES.start() {
            (ready!(self.poll_first(cx))?, FIRST_READ)
        } else {
            if self.buf.capacity() - self.buf.len() < FIRST_READ {
                self.buf.reserve(self.read_size.max(*READ_SIZES.start()));
            }
            let room = self.buf.capacity() - self.buf.len();
            let read = pin!(self.io.read_buf(&mut self.buf)).poll(cx);
            if read.is_pending() && self.buf.is_empty() {
                self.buf = BytesMut::new(); // nothing is held while nothing comes
            }
            (ready!(read)?, room)
        };
        self.eof = read == 0;
        // Grow while reads fill what they are given, start over when they no longer do.
        if read == room {
            self.read_size = (room * 2).clamp(*READ_SIZES.start(), *READ_SIZES.end());
        } else if read < FIRST_READ {
            self.read_size = FIRST_READ;
        }
        Poll::Ready(Ok(read))
    }

    /// Reads to the stack, and keeps what came.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; FIRST_READ];
        let mut space = ReadBuf::uninit(&mut space);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut space);
        if read.is_pending() {
            self.buf = BytesMut::new(); // an empty buffer may share the memory of what was read last
        }
        ready!(read)?;
        self.buf.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }
}

/// The next piece of a chunked body; `None` where it needs more bytes or is over.
fn take_chunk(chunked: &mut Chunked, buf: &mut BytesMut, limits: &Limits) -> Result<Option<Frame>, ParseError> {
    match chunked.step(buf, limits)? {
        Step::Data(data) => {
            chunked.try_end(buf);
            Ok(Some(Frame::Data(data)))
        }
        Step::Trailers(section) => {
            let (fields, case) = parse::trailers(&section, limits)?;
            Ok(Some(Frame::Trailers(fields, case)))
        }
        Step::Done | Step::More => Ok(None),
    }
}

impl ResponseHead {
    /// Whether another head answers the same request.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}
