//! A connection to an endpoint: plaintext or mTLS, its bytes counted.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{metrics::TcpOpen, tcp::Duplex};

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Io {
    stream: Stream,
    /// Counts the bytes of the stream, and its end when dropped.
    metrics: Option<TcpOpen>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    /// Boxed, as its state is ten times that of a socket.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self { stream: Stream::Plain(tcp), metrics: None }
    }

    pub(super) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(tls)), metrics: None }
    }

    /// The same connection, counted from here on.
    #[must_use]
    pub fn metered(self, metrics: TcpOpen) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Stops counting; the caller counts instead.
    pub fn unmetered(&mut self) -> Option<TcpOpen> {
        self.metrics.take()
    }

    /// The socket beneath.
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    fn wrote(&self, result: io::Result<usize>) -> io::Result<usize> {
        if let (Some(metrics), Ok(bytes)) = (&self.metrics, &result) {
            metrics.wrote(*bytes as u64);
        }
        result
    }
}

impl Duplex for Io {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.tcp())
    }

    fn is_plain(&self) -> bool {
        matches!(self.stream, Stream::Plain(_))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        });
        if let Some(metrics) = &this.metrics {
            metrics.read((buf.filled().len() - before) as u64);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        });
        Poll::Ready(this.wrote(result))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        });
        Poll::Ready(this.wrote(result))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
