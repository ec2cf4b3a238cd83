//! Connections made of pieces.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use http::{HeaderMap, Method};
use sheer_proxy::http1::{Frame, HeaderCase, Limits, ReadError, Reader, RequestHead, ResponseHead};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives bytes piece by piece, and is not ready before each of them: whoever reads is polled again and again.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    ready: bool,
}

impl Pieces {
    /// Cuts `bytes` at each of `cuts`, modulo their number.
    pub(crate) fn cut(bytes: &[u8], cuts: &[usize]) -> Self {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut start = 0;
        let pieces = cuts
            .into_iter()
            .map(|cut| bytes[std::mem::replace(&mut start, cut)..cut].to_vec());
        Self {
            pieces: pieces.filter(|piece| !piece.is_empty()).collect(),
            ready: false,
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ready = !self.ready;
        if self.ready {
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.pop_front() {
            let taken = piece.len().min(out.remaining());
            out.put_slice(&piece[..taken]);
            piece.drain(..taken);
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes a few bytes at a time and counts the calls.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) bytes: Vec<u8>,
    pub(crate) writes: usize,
    pub(crate) most: usize,
    pub(crate) vectored: bool,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            writes: 0,
            most: usize::MAX,
            vectored: true,
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let taken = data.len().min(self.most);
        self.bytes.extend_from_slice(&data[..taken]);
        self.writes += 1;
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let data: Vec<u8> = data.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &data)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls until it is done. Nothing here waits for anything else.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// A message that was read whole.
#[derive(Debug)]
pub(crate) struct Message<H> {
    pub(crate) head: H,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<(HeaderMap, HeaderCase)>,
}

/// Reads a body to its end.
pub(crate) fn body<H>(reader: &mut Reader<Pieces>, head: H) -> Result<Message<H>, ReadError> {
    let mut message = Message {
        head,
        body: Vec::new(),
        trailers: None,
    };
    while let Some(frame) = run(reader.body_frame())? {
        assert!(message.trailers.is_none(), "trailers are last");
        match frame {
            Frame::Data(data) => {
                assert!(!data.is_empty(), "data is never empty");
                message.body.extend_from_slice(&data);
            }
            Frame::Trailers(fields, case) => message.trailers = Some((fields, case)),
        }
    }
    assert!(reader.is_body_done());
    Ok(message)
}

pub(crate) fn reader(bytes: &[u8], cuts: &[usize]) -> Reader<Pieces> {
    Reader::new(Pieces::cut(bytes, cuts), Limits::default())
}

/// Every request on a connection.
pub(crate) fn requests(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Message<RequestHead>>, ReadError> {
    let mut reader = reader(bytes, cuts);
    let mut requests = Vec::new();
    while let Some(head) = run(reader.request_head())? {
        requests.push(body(&mut reader, head)?);
    }
    Ok(requests)
}

/// The only request on a connection.
pub(crate) fn request(bytes: &[u8]) -> Result<Message<RequestHead>, ReadError> {
    let mut requests = requests(bytes, &[])?;
    assert_eq!(requests.len(), 1, "one request in {:?}", String::from_utf8_lossy(bytes));
    Ok(requests.remove(0))
}

/// The only response on a connection, and what is left behind it.
pub(crate) fn response(bytes: &[u8], method: &Method) -> Result<(Message<ResponseHead>, BytesMut), ReadError> {
    let mut reader = reader(bytes, &[]);
    let head = run(reader.response_head(method))?;
    let message = body(&mut reader, head)?;
    Ok((message, reader.into_parts().1))
}
