//! Counts the frames of a connection as they pass: by type, and resets and GOAWAYs by their code and by who sent them. The codec knows of
//! frames only what it makes of them; here they are counted as they are on the wire.
//!
//! A frame costs nine bytes looked at; payloads are skipped, but for the code of a RST_STREAM or GOAWAY.

use std::{
    cell::OnceCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    error::Direction,
    metrics::{Counter, Family, LabelSet, Peer, Shard, family},
};

/// Names of frame types (RFC 9113, 6; RFC 7838; RFC 8441 has none of its own). Others are counted together.
const TYPES: [&str; 11] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
    "other",
];
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// What a client's side begins with, before its first frame (RFC 9113, 3.4).
const PREFACE: u32 = 24;
const HEAD: usize = 9;

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Proxy,
    Peer,
}

impl Sender {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Peer => "peer",
        }
    }
}

/// Counts the frames of one kind of connections on one worker.
#[derive(Debug)]
pub struct FrameMetrics {
    shard: Shard,
    labels: LabelSet,
    /// By sender and type, made when first needed.
    frames: [[OnceCell<Counter>; TYPES.len()]; 2],
}

impl FrameMetrics {
    /// Of connections on one side of one half.
    pub fn new(shard: &Shard, direction: Direction, peer: Peer) -> Rc<Self> {
        let labels = LabelSet::builder()
            .label("direction", direction.as_str())
            .label("peer", peer.as_str())
            .build();
        Rc::new(Self {
            shard: shard.clone(),
            labels,
            frames: Default::default(),
        })
    }

    fn frame(&self, sender: Sender, kind: u8) {
        let place = usize::from(kind).min(TYPES.len() - 1);
        self.frames[sender as usize][place]
            .get_or_init(|| {
                let labels = self.labels.to_builder().label("sent_by", sender.as_str());
                let labels = labels.label("type", TYPES[place]).build();
                self.shard.counter(&family::SHEER_HTTP2_FRAMES_TOTAL, &labels)
            })
            .inc();
    }

    /// Rare: a look-up each.
    fn code(&self, family: &'static Family, sender: Sender, code: u32) {
        let reason = reason(code);
        let labels = self.labels.to_builder().label("sent_by", sender.as_str());
        self.shard
            .counter(family, &labels.label("reason", reason).build())
            .inc();
    }
}

/// Names of codes (RFC 9113, 7).
fn reason(code: u32) -> &'static str {
    const REASONS: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    REASONS.get(code as usize).copied().unwrap_or("unknown")
}

/// Finds frames in one direction of a connection.
#[derive(Debug)]
struct Scanner {
    head: [u8; HEAD],
    have: usize,
    /// Of the payload, and of a preface.
    skip: u32,
    /// The first bytes of the payload of a frame with a code.
    payload: [u8; 8],
    payload_have: usize,
    /// What is collected of it: 4 bytes of a RST_STREAM, 8 of a GOAWAY; 0 for others.
    payload_want: usize,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Frame(u8),
    Code(u8, u32),
}

impl Scanner {
    fn new(skip: u32) -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            skip,
            payload: [0; 8],
            payload_have: 0,
            payload_want: 0,
        }
    }

    fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Found)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = bytes.len().min(self.skip as usize);
                self.collect(&bytes[..step], &mut tell);
                self.skip -= step as u32;
                bytes = &bytes[step..];
                continue;
            }
            let step = bytes.len().min(HEAD - self.have);
            self.head[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if self.have == HEAD {
                self.have = 0;
                let [a, b, c, kind, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]);
                self.payload_have = 0;
                self.payload_want = match kind {
                    RST_STREAM => 4,
                    GOAWAY => 8,
                    _ => 0,
                };
                tell(Found::Frame(kind));
            }
        }
    }

    fn collect(&mut self, bytes: &[u8], tell: &mut impl FnMut(Found)) {
        if self.payload_have >= self.payload_want {
            return;
        }
        let step = bytes.len().min(self.payload_want - self.payload_have);
        self.payload[self.payload_have..self.payload_have + step].copy_from_slice(&bytes[..step]);
        self.payload_have += step;
        if self.payload_have == self.payload_want {
            let [a, b, c, d, e, f, g, h] = self.payload;
            match self.payload_want {
                4 => tell(Found::Code(RST_STREAM, u32::from_be_bytes([a, b, c, d]))),
                _ => tell(Found::Code(GOAWAY, u32::from_be_bytes([e, f, g, h]))),
            }
        }
    }
}

/// A connection whose frames are counted, where somebody counts them.
#[derive(Debug)]
pub(super) struct Counted<T> {
    io: T,
    metrics: Option<Rc<FrameMetrics>>,
    read: Scanner,
    written: Scanner,
}

impl<T> Counted<T> {
    /// A connection that the peer opened.
    pub(super) fn server(io: T, metrics: Option<Rc<FrameMetrics>>) -> Self {
        Self {
            io,
            metrics,
            read: Scanner::new(PREFACE),
            written: Scanner::new(0),
        }
    }

    /// A connection that this side opened.
    pub(super) fn client(io: T, metrics: Option<Rc<FrameMetrics>>) -> Self {
        Self {
            io,
            metrics,
            read: Scanner::new(0),
            written: Scanner::new(PREFACE),
        }
    }
}

fn count(metrics: Option<&Rc<FrameMetrics>>, scanner: &mut Scanner, sender: Sender, bytes: &[u8]) {
    let Some(metrics) = metrics else { return };
    scanner.feed(bytes, |found| match found {
        Found::Frame(kind) => metrics.frame(sender, kind),
        Found::Code(RST_STREAM, code) => metrics.code(&family::SHEER_HTTP2_RESETS_TOTAL, sender, code),
        Found::Code(_, code) => metrics.code(&family::SHEER_HTTP2_GOAWAYS_TOTAL, sender, code),
    });
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        count(
            this.metrics.as_ref(),
            &mut this.read,
            Sender::Peer,
            &buf.filled()[before..],
        );
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.io).poll_write(cx, data);
        if let Poll::Ready(Ok(n)) = &wrote {
            count(this.metrics.as_ref(), &mut this.written, Sender::Proxy, &data[..*n]);
        }
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.io).poll_write_vectored(cx, data);
        if let Poll::Ready(Ok(n)) = &wrote {
            let mut left = *n;
            for slice in data {
                let step = left.min(slice.len());
                count(this.metrics.as_ref(), &mut this.written, Sender::Proxy, &slice[..step]);
                left -= step;
            }
        }
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        [&[a, b, c, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    fn found(scanner: &mut Scanner, pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<Found> {
        let mut all = Vec::new();
        pieces.for_each(|piece| scanner.feed(piece.as_ref(), |found| all.push(found)));
        all
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let wire = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, &[0; 12]),
            frame(1, &[7; 300]),
            frame(0, &[]),
            frame(RST_STREAM, &8_u32.to_be_bytes()),
            frame(
                GOAWAY,
                &[&[0, 0, 0, 9], &11_u32.to_be_bytes()[..], b"too_many_pings"].concat(),
            ),
            frame(200, &[1]),
        ]
        .concat();
        let expected = [
            Found::Frame(4),
            Found::Frame(1),
            Found::Frame(0),
            Found::Frame(RST_STREAM),
            Found::Code(RST_STREAM, 8),
            Found::Frame(GOAWAY),
            Found::Code(GOAWAY, 11),
            Found::Frame(200),
        ];
        for size in [1, 2, 5, 9, 10, 64, wire.len()] {
            assert_eq!(
                found(&mut Scanner::new(PREFACE), wire.chunks(size)),
                expected,
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn codes_have_their_names() {
        assert_eq!(
            [0, 8, 11, 13, 14].map(reason),
            [
                "NO_ERROR",
                "CANCEL",
                "ENHANCE_YOUR_CALM",
                "HTTP_1_1_REQUIRED",
                "unknown"
            ]
        );
    }
}
