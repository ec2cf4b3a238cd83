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

use crate::{
    detect::Rewind,
    metrics::TcpOpen,
    record::{Recorded, Tape, TlsFacts},
    tcp::Duplex,
};

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
    /// Any of these, its bytes recorded.
    Recorded(Box<Recorded>),
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
            Self::Recorded(recorded) => recorded.stream().tcp(),
        }
    }

    /// Its recording, where there is one.
    pub(crate) fn tape(&self) -> Tape {
        match self {
            Self::Recorded(recorded) => recorded.tape().clone(),
            Self::Tcp(_) | Self::TlsAccepted(_) | Self::TlsOpened(_) | Self::Metered(_) => Tape::default(),
        }
    }

    /// What its TLS agreed on, where it has one.
    pub(crate) fn tls_facts(&self) -> Option<Box<TlsFacts>> {
        match self {
            Self::Tcp(_) => None,
            Self::TlsAccepted(tls) => {
                let session = tls.get_ref().1;
                Some(facts(session, session.server_name().unwrap_or_default()))
            }
            Self::TlsOpened(tls) => Some(facts(tls.get_ref().1, "")),
            Self::Metered(metered) => metered.stream.tls_facts(),
            Self::Recorded(recorded) => recorded.stream().tls_facts(),
        }
    }
}

fn facts<D>(session: &rustls::ConnectionCommon<D>, server_name: &str) -> Box<TlsFacts> {
    let version = session.protocol_version().map(|version| match version {
        rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
        rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    });
    let named = |name: Option<String>| name.unwrap_or_default();
    Box::new(TlsFacts {
        version: named(version),
        cipher: named(
            session
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite())),
        ),
        group: named(
            session
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name())),
        ),
        alpn: String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into_owned(),
        server_name: server_name.to_owned(),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    })
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
            Self::Recorded(recorded) => Pin::new(&mut **recorded).poll_read(cx, buf),
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
            Self::Recorded(recorded) => Pin::new(&mut **recorded).poll_write(cx, data),
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
            Self::Recorded(recorded) => Pin::new(&mut **recorded).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::TlsAccepted(tls) => tls.is_write_vectored(),
            Self::TlsOpened(tls) => tls.is_write_vectored(),
            Self::Metered(metered) => metered.stream.is_write_vectored(),
            Self::Recorded(recorded) => recorded.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_flush(cx),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_flush(cx),
            Self::Metered(metered) => Pin::new(&mut metered.stream).poll_flush(cx),
            Self::Recorded(recorded) => Pin::new(&mut **recorded).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::TlsAccepted(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::TlsOpened(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::Metered(metered) => Pin::new(&mut metered.stream).poll_shutdown(cx),
            Self::Recorded(recorded) => Pin::new(&mut **recorded).poll_shutdown(cx),
        }
    }
}
