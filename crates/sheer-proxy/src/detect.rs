//! Finds out what a connection speaks, by reading its first bytes.
//!
//! The bytes are read, not peeked: they collect in a buffer of the caller, who hands it to the next stage or replays it with
//! [`Rewind`]. TLS and HTTP are separate stages because a port's plan may leave one out. Called by the accept stages of both
//! directions; knows nothing of policies.

mod rewind;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use sheer_lens::{
    client_hello::{ClientHello, client_hello},
    protocol::{Protocol, is_http2_server_preface, protocol},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, timeout, timeout_at},
};

pub use rewind::Rewind;

/// How much is read at once: a ClientHello with post-quantum key shares, or a usual request head.
const READ_SIZE: usize = 4 * 1024;

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
pub async fn tls<R: AsyncRead + Unpin>(io: &mut R, buf: &mut BytesMut, wait: Wait) -> io::Result<Tls> {
    let look = |bytes: &[u8]| match client_hello(bytes) {
        ClientHello::Incomplete => None,
        ClientHello::NotTls => Some(Tls::Plain),
        ClientHello::Complete { sni, alpn } => Some(Tls::ClientHello { sni, alpn }),
    };
    Ok(match collect(io, buf, wait, look).await? {
        Collected::Known(tls) => tls,
        Collected::Partial => Tls::Partial,
        Collected::Silent => Tls::Silent,
        Collected::Closed => Tls::Closed,
    })
}

/// Tells HTTP/1, HTTP/2 and everything else apart. Looks at what is in `buf` first.
pub async fn http<R: AsyncRead + Unpin>(io: &mut R, buf: &mut BytesMut, wait: Wait) -> io::Result<Http> {
    let look = |bytes: &[u8]| match protocol(bytes) {
        Protocol::Incomplete => None,
        Protocol::Http1 => Some(Http::Http1),
        Protocol::Http2 => Some(Http::Http2),
        Protocol::Opaque => Some(Http::Opaque),
    };
    Ok(match collect(io, buf, wait, look).await? {
        Collected::Known(http) => http,
        Collected::Partial => Http::Partial,
        Collected::Silent => Http::Silent,
        Collected::Closed => Http::Closed,
    })
}

/// What came of collecting bytes.
enum Collected<T> {
    /// Enough bytes to know.
    Known(T),
    /// Some bytes, but no more of them in time.
    Partial,
    /// No byte in time.
    Silent,
    /// The end, before any byte.
    Closed,
}

/// Reads until `look` knows.
async fn collect<R: AsyncRead + Unpin, T>(
    io: &mut R,
    buf: &mut BytesMut,
    wait: Wait,
    look: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Collected<T>> {
    if buf.is_empty() {
        match timeout(wait.silent, poll_fn(|cx| poll_read(io, buf, cx))).await {
            Err(_) => return Ok(Collected::Silent),
            Ok(Ok(0)) => return Ok(Collected::Closed),
            Ok(read) => read?,
        };
    }
    let deadline = Instant::now() + wait.partial;
    loop {
        if let Some(known) = look(buf) {
            return Ok(Collected::Known(known));
        }
        match timeout_at(deadline, poll_fn(|cx| poll_read(io, buf, cx))).await {
            Err(_) | Ok(Ok(0)) => return Ok(Collected::Partial),
            Ok(read) => read?,
        };
    }
}

/// Reads once, by way of the stack: while nothing comes, nothing is held.
fn poll_read<R: AsyncRead + Unpin>(io: &mut R, buf: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut space = [const { MaybeUninit::uninit() }; READ_SIZE];
    let mut space = ReadBuf::uninit(&mut space);
    ready!(Pin::new(io).poll_read(cx, &mut space))?;
    buf.extend_from_slice(space.filled());
    Poll::Ready(Ok(space.filled().len()))
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

/// Which side failed before anybody spoke, and how: the other one has yet to learn of it.
#[derive(Debug)]
pub enum Failed {
    /// The client.
    Client(io::Error),
    /// The server.
    Server(io::Error),
}

/// What a server of HTTP/2 may say before its client has spoken: its SETTINGS and a WINDOW_UPDATE or two.
const MAX_SERVER_PREFACE: usize = 1024;

/// Waits, without limit, for whoever speaks first. Where both have, the client wins: its bytes say more. A server that sends the
/// preface of HTTP/2 has not decided anything: its client is late (a starved machine, a lost packet) and may yet show a ClientHello.
pub async fn first_speaker<C, S>(
    client: &mut C,
    client_buf: &mut BytesMut,
    server: &mut S,
    server_buf: &mut BytesMut,
) -> Result<FirstSpeaker, Failed>
where
    C: AsyncRead + Unpin,
    S: AsyncRead + Unpin,
{
    poll_fn(|cx| {
        if let Poll::Ready(read) = poll_read(client, client_buf, cx) {
            let spoke = read.map(|read| {
                if read > 0 {
                    FirstSpeaker::Client
                } else {
                    FirstSpeaker::ClientClosed
                }
            });
            return Poll::Ready(spoke.map_err(Failed::Client));
        }
        loop {
            if ready!(poll_read(server, server_buf, cx)).map_err(Failed::Server)? == 0 {
                return Poll::Ready(Ok(FirstSpeaker::ServerClosed));
            }
            if !is_http2_server_preface(server_buf) || server_buf.len() > MAX_SERVER_PREFACE {
                return Poll::Ready(Ok(FirstSpeaker::Server));
            }
        }
    })
    .await
}
