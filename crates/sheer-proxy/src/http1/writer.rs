//! The writing half of a connection.

use std::io::{self, IoSlice, Write as _};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{BodyLength, HeaderCase, WriteError, head::is_printable};

/// Bodies up to this are copied behind their head: one buffer is cheaper than three.
const COPY_LIMIT: usize = 4 * 1024;

/// What a writer keeps between two pieces of a body.
const KEPT_CAPACITY: usize = 64;

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

/// Writes messages one after the other.
///
/// A head is held back until the first bytes of its body, [`Self::finish`] or [`Self::flush`], so that both leave in one packet: a path
/// whose body is not ready calls `flush`. Framing fields are the writer's: it writes `Content-Length` or `Transfer-Encoding` as the
/// [`BodyLength`] says, in the place and case of the field in the map where there is one, and drops what contradicts it.
/// With [`BodyLength::None`] a response keeps the `Content-Length` of its map (HEAD, 304); a request, a 1xx and a 204 lose it.
/// `Connection` is the path's: [`BodyLength::UntilClose`] needs `close` there.
///
/// A method that was dropped before it returned has written a part: close the connection then.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    /// What is held back. Its memory is given back at the end of a message.
    pending: Vec<u8>,
    body: BodyLength,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// A writer of a connection on which nothing was written.
    pub fn new(io: W) -> Self {
        Self {
            io,
            pending: Vec::new(),
            body: BodyLength::None,
        }
    }

    /// What is held back.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Queues the head of a request.
    pub fn request_head(
        &mut self,
        line: RequestLine<'_>,
        headers: &HeaderMap,
        case: &HeaderCase,
        body: BodyLength,
    ) -> Result<(), WriteError> {
        if !is_printable(line.target) {
            return Err(WriteError::Target);
        }
        self.reserve(headers);
        for part in [
            line.method.as_str().as_bytes(),
            b" ",
            line.target,
            b" ",
            version(line.version),
            b"\r\n",
        ] {
            self.pending.extend_from_slice(part);
        }
        let framing = Framing {
            body,
            keep_length: false,
        };
        framing.write_fields(headers, case, &mut self.pending);
        self.body = body;
        Ok(())
    }

    /// Queues the head of a response.
    pub fn response_head(&mut self, line: StatusLine<'_>, headers: &HeaderMap, case: &HeaderCase, body: BodyLength) {
        self.reserve(headers);
        write_status_line(line, &mut self.pending);
        let bodiless = line.status.is_informational() || line.status == StatusCode::NO_CONTENT;
        let framing = Framing {
            body,
            keep_length: !bodiless,
        };
        framing.write_fields(headers, case, &mut self.pending);
        self.body = body;
    }

    /// Writes a 1xx at once; the final head follows. For 101 use [`Self::response_head`] with [`BodyLength::None`].
    pub async fn informational(
        &mut self,
        line: StatusLine<'_>,
        headers: &HeaderMap,
        case: &HeaderCase,
    ) -> Result<(), WriteError> {
        self.response_head(line, headers, case, BodyLength::None);
        self.flush().await
    }

    /// Writes a piece of the body, and with it the head if that is still held back. Returns when the connection took all of it.
    pub async fn data(&mut self, data: Bytes) -> Result<(), WriteError> {
        if data.is_empty() {
            return Ok(());
        }
        let end = self.begin_piece(&data)?;
        self.write(&data, end).await?;
        Ok(self.io.flush().await?)
    }

    /// Ends the body, with trailers where it is chunked (announced or not); elsewhere HTTP/1 has no place for them and they are dropped.
    pub async fn finish(&mut self, trailers: Option<(&HeaderMap, &HeaderCase)>) -> Result<(), WriteError> {
        self.queue_end(trailers)?;
        self.flush().await?;
        self.pending = Vec::new();
        Ok(())
    }

    /// [`Self::data`] and [`Self::finish`] in one, for the last piece: they leave together.
    pub async fn finish_with(
        &mut self,
        data: Bytes,
        trailers: Option<(&HeaderMap, &HeaderCase)>,
    ) -> Result<(), WriteError> {
        if !data.is_empty() {
            let end = self.begin_piece(&data)?;
            if self.pending.len() + data.len() <= COPY_LIMIT {
                self.pending.extend_from_slice(&data);
                self.pending.extend_from_slice(end);
            } else {
                self.write(&data, end).await?;
            }
        }
        self.finish(trailers).await
    }

    /// Writes what is held back.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        self.io.write_all(&self.pending).await?;
        self.release();
        Ok(self.io.flush().await?)
    }

    /// Whether the body is sent in chunks, and so may have trailers.
    pub fn is_chunked(&self) -> bool {
        matches!(self.body, BodyLength::Chunked)
    }

    /// Whether bytes are held back that [`Self::flush`] would write.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Closes this half (FIN, or TLS close_notify).
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    /// The connection, to look at.
    pub fn io(&self) -> &W {
        &self.io
    }

    /// The half of the connection, after everything was flushed.
    pub fn into_inner(self) -> W {
        self.io
    }

    /// Empties the buffer. Its memory goes with a head; the size line of a chunk is small enough to keep room for.
    fn release(&mut self) {
        self.pending.clear();
        if self.pending.capacity() > KEPT_CAPACITY {
            self.pending = Vec::new();
        }
    }

    /// Room for a usual head, so that the buffer does not grow step by step.
    fn reserve(&mut self, headers: &HeaderMap) {
        self.pending.reserve(128 + headers.len() * 40);
    }

    /// Counts a piece of the body and queues what stands before it; gives what stands after it.
    fn begin_piece(&mut self, data: &[u8]) -> Result<&'static [u8], WriteError> {
        match &mut self.body {
            BodyLength::None => Err(WriteError::BodyTooLong),
            BodyLength::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WriteError::BodyTooLong)?;
                Ok(b"")
            }
            BodyLength::Chunked => {
                write!(self.pending, "{:x}\r\n", data.len())?;
                Ok(b"\r\n")
            }
            BodyLength::UntilClose => Ok(b""),
        }
    }

    /// Queues the end of the body.
    fn queue_end(&mut self, trailers: Option<(&HeaderMap, &HeaderCase)>) -> Result<(), WriteError> {
        match std::mem::replace(&mut self.body, BodyLength::None) {
            BodyLength::None | BodyLength::UntilClose | BodyLength::Exact(0) => {}
            BodyLength::Exact(missing) => return Err(WriteError::BodyTooShort { missing }),
            BodyLength::Chunked => {
                write_last_chunk(trailers, &mut self.pending);
            }
        }
        Ok(())
    }

    /// Writes what is held back, then a piece of the body, then its end, in as few system calls as the connection allows.
    async fn write(&mut self, data: &[u8], end: &'static [u8]) -> io::Result<()> {
        let small = self.pending.len() + data.len() <= COPY_LIMIT;
        if small || !self.io.is_write_vectored() {
            if small || data.len() <= COPY_LIMIT {
                self.pending.extend_from_slice(data);
                self.pending.extend_from_slice(end);
                self.io.write_all(&self.pending).await?;
            } else {
                self.io.write_all(&self.pending).await?;
                self.io.write_all(data).await?;
                self.io.write_all(end).await?;
            }
        } else {
            let mut slices = [IoSlice::new(&self.pending), IoSlice::new(data), IoSlice::new(end)];
            let mut slices = &mut slices[..];
            IoSlice::advance_slices(&mut slices, 0); // drops empty slices in front
            while !slices.is_empty() {
                let written = self.io.write_vectored(slices).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut slices, written);
            }
        }
        self.release();
        Ok(())
    }
}

/// How the framing fields of a head are written.
#[derive(Clone, Copy)]
struct Framing {
    body: BodyLength,
    /// Without a body, keep the `Content-Length` of the map.
    keep_length: bool,
}

impl Framing {
    /// Every field, the framing ones as the body needs them, then the empty line.
    fn write_fields(self, headers: &HeaderMap, case: &HeaderCase, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let length = match self.body {
            BodyLength::Exact(length) => Some(digits.format(length).as_bytes()),
            BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        let mut told = false;
        write_lines(headers, case, out, |name, value| match *name {
            CONTENT_LENGTH if self.body == BodyLength::None => self.keep_length,
            CONTENT_LENGTH => {
                let first = !told && length == Some(value.as_bytes());
                told |= first;
                first
            }
            TRANSFER_ENCODING => false,
            _ => true,
        });
        if let Some(length) = length.filter(|_| !told) {
            write_line(&CONTENT_LENGTH, 0, length, case, out);
        } else if self.body == BodyLength::Chunked {
            write_line(&TRANSFER_ENCODING, 0, b"chunked", case, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The last chunk of a body with its trailers, as it is written.
pub(crate) fn last_chunk(trailers: &HeaderMap, case: &HeaderCase) -> Vec<u8> {
    let mut out = Vec::new();
    write_last_chunk(Some((trailers, case)), &mut out);
    out
}

fn write_last_chunk(trailers: Option<(&HeaderMap, &HeaderCase)>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some((trailers, case)) = trailers {
        let allowed = |name: &HeaderName| ![CONTENT_LENGTH, TRANSFER_ENCODING, HOST].contains(name);
        write_lines(trailers, case, out, |name, _| allowed(name));
    }
    out.extend_from_slice(b"\r\n");
}

/// The lines of those fields that `keep` wants.
fn write_lines(
    headers: &HeaderMap,
    case: &HeaderCase,
    out: &mut Vec<u8>,
    mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) {
    let mut last: Option<&HeaderName> = None;
    let mut nth = 0;
    for (name, value) in headers {
        // Fields of one name follow each other in a map.
        nth = if last == Some(name) { nth + 1 } else { 0 };
        last = Some(name);
        if keep(name, value) {
            write_line(name, nth, value.as_bytes(), case, out);
        }
    }
}

fn write_line(name: &HeaderName, nth: usize, value: &[u8], case: &HeaderCase, out: &mut Vec<u8>) {
    case.write(name, nth, out);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn version(version: Version) -> &'static [u8] {
    if version == Version::HTTP_10 {
        b"HTTP/1.0"
    } else {
        b"HTTP/1.1"
    }
}

fn write_status_line(line: StatusLine<'_>, out: &mut Vec<u8>) {
    // A reason that came over HTTP/2 could hold anything; one that would end the line is not written.
    let clean = |reason: &&[u8]| {
        reason
            .iter()
            .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t')
    };
    let reason = line.reason.filter(clean);
    let usual = line.status.canonical_reason().unwrap_or_default().as_bytes();
    for part in [
        version(line.version),
        b" ",
        line.status.as_str().as_bytes(),
        b" ",
        reason.unwrap_or(usual),
        b"\r\n",
    ] {
        out.extend_from_slice(part);
    }
}
