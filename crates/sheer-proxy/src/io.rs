//! The connections of the data path, as one type: TCP with or without TLS, and bytes that detection has read already.
//!
//! One type keeps one copy of the HTTP codecs in the binary, and a `match` is cheaper than a virtual call for every read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

use crate::{detect::Rewind, metrics::TcpOpen, tcp::Duplex};

/// A connection with what was read of it already.
pub type Io = Rewind<Stream>;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS that a peer opened.
    TlsAccepted(Box<server::TlsStream<Rewind<TcpStream>>>),
    /// TLS that this proxy opened.
    TlsOpened(Box<client::TlsStream<TcpStream>>),
    /// Any of these, its bytes counted.
    Metered(Box<Metered>),
}

/// A connection whose bytes, and whose end, are counted.
#[derive(Debug)]
pub struct Metered {
    stream: Stream,
    metrics: TcpOpen,
}

impl Stream {
    /// As a connection of which nothing was read.
    pub fn io(self) -> Io {
        Rewind::new(self, Bytes::new())
    }

    /// The same connection, counted until it is dropped.
    #[must_use]
    pub fn metered(self, metrics: TcpOpen) -> Self {
        Self::Metered(Box::new(Metered { stream: self, metrics }))
    }

    /// The connection and its counter apart, for a relay, which moves bytes past the counter and counts them itself.
    pub fn unmetered(self) -> (Self, Option<TcpOpen>) {
        match self {
            Self::Metered(metered) => (metered.stream, Some(metered.metrics)),
            stream => (stream, None),
        }
    }

    /// The socket beneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::TlsAccepted(tls) => tls.get_ref().0.io(),
            Self::TlsOpened(tls) => tls.get_ref().0,
            Self::Metered(metered) => metered.stream.tcp(),
        }
    }
}

impl Metered {
    fn wrote(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.metrics.wrote(*bytes as u64);
        }
        wrote
    }
}

impl Duplex for Stream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.tcp())
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
            Self::Metered(metered) => {
                let before = buf.filled().len();
                let read = Pin::new(&mut metered.stream).poll_read(cx, buf);
                metered.metrics.read((buf.filled().len() - before) as u64);
                read
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, data),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_write(cx, data),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_write(cx, data),
            Self::Metered(metered) => {
                let wrote = Pin::new(&mut metered.stream).poll_write(cx, data);
                metered.wrote(wrote)
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, data),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, data),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, data),
            Self::Metered(metered) => {
                let wrote = Pin::new(&mut metered.stream).poll_write_vectored(cx, data);
                metered.wrote(wrote)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::TlsAccepted(tls) => tls.is_write_vectored(),
            Self::TlsOpened(tls) => tls.is_write_vectored(),
            Self::Metered(metered) => metered.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_flush(cx),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_flush(cx),
            Self::Metered(metered) => Pin::new(&mut metered.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::Metered(metered) => Pin::new(&mut metered.stream).poll_shutdown(cx),
        }
    }
}
