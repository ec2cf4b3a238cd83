//! Relays bytes between two connections: opaque TCP, upgraded HTTP/1, CONNECT.
//!
//! Half-closes pass on both ways, a reset of one side becomes a reset of the other, a slow reader slows its writer. An idle relay
//! holds no buffer. Called by the paths once a connection is known to be opaque; knows nothing of why.

mod counted;
mod fault;
mod half;
mod handshake;
mod hello;
mod run;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::detect::Rewind;

pub use counted::{Ended, Meters, Tapes, relay_counted};
pub(crate) use fault::Fault;
pub(crate) use handshake::PassedTls;
pub use run::Relay;

/// A connection that can be relayed.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// The socket beneath, to pass on a reset; `None` where there is none (in tests).
    fn socket(&self) -> Option<&TcpStream>;

    /// Whether the socket carries the very bytes of the stream, so that the kernel may move them.
    fn is_plain(&self) -> bool {
        false
    }

    /// Bytes that were read already and come first.
    fn take_prefix(&mut self) -> Bytes {
        Bytes::new()
    }
}

impl Duplex for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn is_plain(&self) -> bool {
        true
    }
}

impl<T: Duplex> Duplex for Rewind<T> {
    fn socket(&self) -> Option<&TcpStream> {
        self.io().socket()
    }

    fn is_plain(&self) -> bool {
        self.io().is_plain()
    }

    fn take_prefix(&mut self) -> Bytes {
        // A rewound connection may have been rewound before.
        let (first, then) = (Rewind::take_prefix(self), self.io_mut().take_prefix());
        if then.is_empty() {
            first
        } else {
            [first, then].concat().into()
        }
    }
}

impl<T: Duplex> Duplex for tokio_rustls::client::TlsStream<T> {
    fn socket(&self) -> Option<&TcpStream> {
        self.get_ref().0.socket()
    }
}

impl<T: Duplex> Duplex for tokio_rustls::server::TlsStream<T> {
    fn socket(&self) -> Option<&TcpStream> {
        self.get_ref().0.socket()
    }
}

impl<T: Duplex + ?Sized> Duplex for Box<T> {
    fn socket(&self) -> Option<&TcpStream> {
        (**self).socket()
    }

    fn is_plain(&self) -> bool {
        (**self).is_plain()
    }

    fn take_prefix(&mut self) -> Bytes {
        (**self).take_prefix()
    }
}

/// Bytes that a relay moved so far, and what they began with; may be read from another thread while it runs.
#[derive(Debug, Default)]
pub struct Counters {
    to_server: Moved,
    to_client: Moved,
    hello: OnceLock<Box<str>>,
    handshake: handshake::Handshake,
}

/// Bytes that went one way, and when the first did.
#[derive(Debug, Default)]
struct Moved {
    bytes: AtomicU64,
    first: OnceLock<Instant>,
}

impl Moved {
    fn add(&self, bytes: usize) {
        if self.bytes.fetch_add(bytes as u64, Ordering::Relaxed) == 0 {
            let _ = self.first.set(Instant::now());
        }
    }
}

impl Counters {
    /// Bytes from client to server.
    pub fn to_server(&self) -> u64 {
        self.to_server.bytes.load(Ordering::Relaxed)
    }

    /// Bytes from server to client.
    pub fn to_client(&self) -> u64 {
        self.to_client.bytes.load(Ordering::Relaxed)
    }

    /// When the first byte of the server went to the client.
    pub fn answered(&self) -> Option<Instant> {
        self.to_client.first.get().copied()
    }

    /// The server name of a ClientHello that the client began with, empty where it has none; `None` where no whole one has passed.
    pub fn hello(&self) -> Option<&str> {
        self.hello.get().map(|name| &**name)
    }

    /// What was said in the clear of the applications' own TLS; `None` where it is none.
    pub(crate) fn passed_tls(&self) -> Option<PassedTls> {
        self.handshake.in_names()
    }

    /// Bytes both ways.
    pub fn moved(&self) -> u64 {
        self.to_server() + self.to_client()
    }
}

/// How one direction ended.
#[derive(Debug)]
pub enum End {
    /// The sender closed and the receiver was told (FIN to FIN).
    Closed,
    /// The sender's connection was reset, or a TLS stream was cut off without its end.
    SenderReset,
    /// The receiver's connection was reset: it took no more.
    ReceiverReset,
    /// The other direction failed first.
    Abandoned,
    /// Reading from this side, or writing to it, failed otherwise, as by a time-out.
    Failed(Side, io::Error),
}

/// One direction of a relay.
#[derive(Debug)]
pub struct Direction {
    /// Bytes that the receiver's socket took.
    pub bytes: u64,
    /// How it ended.
    pub end: End,
}

/// One of two ends of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened the connection.
    Client,
    /// Whom the proxy connected to.
    Server,
}

/// How a relay went.
#[derive(Debug)]
pub struct Outcome {
    /// From client to server.
    pub to_server: Direction,
    /// From server to client.
    pub to_client: Direction,
    /// Which side ended first, by closing, reset or failure.
    pub first: Side,
}

/// Relays until both directions have ended or one side has failed. Drop it to stop at once: both connections close.
///
/// Where both connections are plain TCP and bytes flow fast, the kernel moves them (`splice`).
pub fn relay<C: Duplex, S: Duplex>(client: C, server: S, counters: &Counters) -> Relay<'_, C, S> {
    Relay::new(client, server, counters)
}
