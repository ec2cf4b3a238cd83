//! A connection above TLS whose bytes are recorded as they pass.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{recording::How, tape::Tape};
use crate::{io::Stream, sys};

/// A recorded connection.
#[derive(Debug)]
pub struct Recorded {
    stream: Stream,
    tape: Tape,
}

impl Recorded {
    pub(super) fn new(stream: Stream, tape: Tape) -> Self {
        Self { stream, tape }
    }

    /// What is recorded.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Its recording.
    pub(crate) fn tape(&self) -> &Tape {
        &self.tape
    }

    #[inline]
    fn wrote<'a>(&self, wrote: &Poll<io::Result<usize>>, slices: impl IntoIterator<Item = &'a [u8]>) {
        let Some(recording) = self.tape.recording() else { return };
        match wrote {
            Poll::Ready(Ok(length)) => recording.wrote(*length, slices),
            Poll::Ready(Err(error)) => recording.sign(How::PeerBroke(error.kind())),
            Poll::Pending => {}
        }
    }
}

impl AsyncRead for Recorded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(recording) = this.tape.recording() else {
            return read;
        };
        match &read {
            Poll::Ready(Ok(())) => match &buf.filled()[before..] {
                [] if buf.remaining() > 0 => recording.sign(How::PeerClosed),
                [] => {}
                bytes => recording.read(bytes),
            },
            Poll::Ready(Err(error)) => recording.sign(How::PeerBroke(error.kind())),
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, data);
        this.wrote(&wrote, [data]);
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, data);
        this.wrote(&wrote, data.iter().map(|slice| &**slice));
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(recording) = this.tape.recording() {
            recording.sign(How::Closed);
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(recording) = self.tape.recording() {
            recording.ended(sys::tcp_info(self.stream.tcp()).ok());
        }
    }
}
