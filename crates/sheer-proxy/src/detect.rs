//! Finds out what a connection speaks, by reading its first bytes.
//!
//! The bytes are read, not peeked: they collect in a buffer of the caller, who hands it to the next stage or replays it with
//! [`Rewind`]. TLS and HTTP are separate stages because a port's plan may leave one out. Called by the accept stages of both
//! directions; knows nothing of policies.

mod rewind;

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::io::AsyncRead;

pub use rewind::Rewind;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// For the first byte. After it the caller opens the server side and asks [`first_speaker`].
    pub silent: Duration,
    /// For a prefix that has begun to become a whole.
    pub partial: Duration,
}

/// What the TLS stage found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// A whole ClientHello is in the buffer.
    ClientHello {
        /// Server name, lower case.
        sni: Option<String>,
        /// ALPN protocols offered.
        alpn: Vec<Vec<u8>>,
    },
    /// Other bytes are in the buffer.
    Plain,
    /// The beginning of a ClientHello is in the buffer, and the wait is over or the client closed.
    Partial,
    /// Not a byte came within the wait.
    Silent,
    /// The client closed without a byte. Its other half may be open: it may wait for the server to speak.
    Closed,
}

/// What the HTTP stage found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1 is in the buffer.
    Http1,
    /// The preface of HTTP/2 is in the buffer.
    Http2,
    /// Other bytes are in the buffer.
    Opaque,
    /// What could have become HTTP is in the buffer, and the wait is over or the client closed: treat as opaque.
    Partial,
    /// Not a byte came within the wait.
    Silent,
    /// The client closed without a byte. Its other half may be open: it may wait for the server to speak.
    Closed,
}

/// Tells TLS from everything else. Looks at what is in `buf` first.
pub async fn tls<R: AsyncRead + Unpin>(_io: &mut R, _buf: &mut BytesMut, _wait: Wait) -> io::Result<Tls> {
    unimplemented!()
}

/// Tells HTTP/1, HTTP/2 and everything else apart. Looks at what is in `buf` first.
pub async fn http<R: AsyncRead + Unpin>(_io: &mut R, _buf: &mut BytesMut, _wait: Wait) -> io::Result<Http> {
    unimplemented!()
}

/// Who spoke first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSpeaker {
    /// The client; its bytes are in its buffer: go on with detection.
    Client,
    /// The server; its bytes are in its buffer: the connection is opaque.
    Server,
    /// The client closed its half without a word: relay, the server may still speak.
    ClientClosed,
    /// The server closed its half without a word: relay, so that the client learns of it.
    ServerClosed,
}

/// Waits, without limit, for whoever speaks first. Where both have, the client wins: its bytes say more.
pub async fn first_speaker<C, S>(
    _client: &mut C,
    _client_buf: &mut BytesMut,
    _server: &mut S,
    _server_buf: &mut BytesMut,
) -> io::Result<FirstSpeaker>
where
    C: AsyncRead + Unpin,
    S: AsyncRead + Unpin,
{
    unimplemented!()
}
