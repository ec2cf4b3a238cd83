//! A scripted HTTP/2 peer: a test says frame by frame what goes over the wire, and reads frame by frame what came.
//!
//! It has its own frame and HPACK code, so that a test controls the representation exactly and a fault in a library cannot cancel
//! itself out. It does nothing by itself but acknowledge SETTINGS and PING and, unless told otherwise, open windows again. It must
//! not grow into a library: no stream states, no checks of what a test sends.
//!
//! ```ignore
//! let mut client = Peer::client(io).await?;
//! client.headers(1, &Block::post("svc", "/pkg.Svc/Call")).await?;
//! client.data(1, "hello", true).await?;
//! let response = client.response(1).await?;
//! ```

mod frame;
mod hpack;
mod huffman;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub use frame::{Frame, PREFACE, chunk_headers, code, flag, kind, setting, split_headers};
pub use hpack::{Block, Decoder, Field};

/// How long a test waits for the other side before it fails: far above anything healthy.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Something that arrived, with header blocks put together and decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole header block.
    Headers {
        /// Stream.
        stream: u32,
        /// Fields in order.
        fields: Vec<Field>,
        /// END_STREAM.
        end: bool,
    },
    /// DATA.
    Data {
        /// Stream.
        stream: u32,
        /// Content.
        data: Bytes,
        /// END_STREAM.
        end: bool,
    },
    /// RST_STREAM.
    Reset {
        /// Stream.
        stream: u32,
        /// Error code.
        code: u32,
    },
    /// GOAWAY.
    GoAway {
        /// Last stream that the sender has seen.
        last_stream: u32,
        /// Error code.
        code: u32,
        /// Debug data.
        debug: String,
    },
    /// SETTINGS or its acknowledgement, PING, WINDOW_UPDATE, PRIORITY, or a type unknown.
    Other(Frame),
    /// The connection ended.
    Closed,
}

/// A message as it arrived on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Fields of the head, pseudo fields included, in order.
    pub head: Vec<Field>,
    /// Body.
    pub body: Vec<u8>,
    /// Trailer fields, where there was a trailer block.
    pub trailers: Option<Vec<Field>>,
}

impl Message {
    /// First value of a field of the head, or of the trailers where the head has none.
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.head.iter().chain(self.trailers.iter().flatten());
        all.filter(|(n, _)| n == name)
            .find_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All values of a field of the head, in order.
    pub fn values(&self, name: &str) -> Vec<Bytes> {
        self.head
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// `:status`.
    pub fn status(&self) -> u16 {
        self.field(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }
}

/// One end of an HTTP/2 connection.
#[derive(Debug)]
pub struct Peer<IO> {
    io: IO,
    received: BytesMut,
    decoder: Decoder,
    /// Events of streams that a test did not ask for yet.
    pending: HashMap<u32, Vec<Event>>,
    /// Whether DATA is answered with WINDOW_UPDATE.
    auto_window: bool,
    /// The other side's SETTINGS, last value of each.
    settings: HashMap<u16, u32>,
    /// Number of CONTINUATION frames received.
    continuations: usize,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Peer<IO> {
    /// Opens as a client: preface and empty SETTINGS.
    pub async fn client(io: IO) -> Result<Self> {
        Self::client_with(io, &[]).await
    }

    /// Opens as a client with SETTINGS of its own.
    pub async fn client_with(io: IO, settings: &[(u16, u32)]) -> Result<Self> {
        let mut peer = Self::bare(io);
        peer.raw(PREFACE).await?;
        peer.announce(settings).await?;
        Ok(peer)
    }

    /// Opens as a server: reads the preface, sends empty SETTINGS.
    pub async fn server(io: IO) -> Result<Self> {
        Self::server_with(io, &[]).await
    }

    /// Opens as a server with SETTINGS of its own.
    pub async fn server_with(io: IO, settings: &[(u16, u32)]) -> Result<Self> {
        let mut peer = Self::bare(io);
        let mut preface = [0; PREFACE.len()];
        timeout(peer.io.read_exact(&mut preface)).await?.context("preface")?;
        ensure!(
            &preface == PREFACE,
            "not a preface: {:?}",
            preface.escape_ascii().to_string()
        );
        peer.announce(settings).await?;
        Ok(peer)
    }

    /// A peer that has said nothing yet.
    pub fn bare(io: IO) -> Self {
        Self {
            io,
            received: BytesMut::new(),
            decoder: Decoder::default(),
            pending: HashMap::new(),
            auto_window: true,
            settings: HashMap::new(),
            continuations: 0,
        }
    }

    /// From now on DATA is read but never acknowledged with WINDOW_UPDATE: a reader that has stopped.
    pub fn stop_window_updates(&mut self) {
        self.auto_window = false;
    }

    /// The other side's value of a setting, once it has arrived.
    pub fn setting(&self, id: u16) -> Option<u32> {
        self.settings.get(&id).copied()
    }

    /// How many CONTINUATION frames have arrived.
    pub fn continuations(&self) -> usize {
        self.continuations
    }

    /// Sends bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        })
        .await?
        .context("write")
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: Frame) -> Result<()> {
        self.send_all([frame]).await
    }

    /// Sends frames in one write.
    pub async fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) -> Result<()> {
        let mut out = BytesMut::new();
        for frame in frames {
            frame.encode(&mut out);
        }
        self.raw(&out).await
    }

    /// Sends a whole header block, in CONTINUATION frames where it is over 16 KiB.
    pub async fn headers(&mut self, stream: u32, block: &Block) -> Result<()> {
        self.send_all(chunk_headers(stream, block, 16_384)).await
    }

    /// Sends a whole header block that ends the stream.
    pub async fn headers_end(&mut self, stream: u32, block: &Block) -> Result<()> {
        let mut frames = chunk_headers(stream, block, 16_384);
        frames[0].flags |= flag::END_STREAM;
        self.send_all(frames).await
    }

    /// Sends one DATA frame.
    pub async fn data(&mut self, stream: u32, data: impl Into<Bytes>, end: bool) -> Result<()> {
        let frame = Frame::data(stream, data);
        self.send(if end { frame.end_stream() } else { frame }).await
    }

    /// Announces SETTINGS and holds the other side to the table size among them once it has acknowledged.
    pub async fn announce(&mut self, settings: &[(u16, u32)]) -> Result<()> {
        self.send(Frame::settings(settings)).await?;
        if let Some((_, size)) = settings.iter().find(|(id, _)| *id == setting::HEADER_TABLE_SIZE) {
            self.settings_acknowledged().await?;
            self.decoder.allow(*size as usize);
        }
        Ok(())
    }

    /// Waits until the other side has acknowledged SETTINGS.
    pub async fn settings_acknowledged(&mut self) -> Result<()> {
        self.until(|event| matches!(event, Event::Other(f) if f.kind == kind::SETTINGS && f.has(flag::ACK)))
            .await?;
        Ok(())
    }

    /// Sends a PING and waits for its answer: all that was sent before has then been read by the other side, and it is alive.
    pub async fn ping(&mut self) -> Result<()> {
        let payload = *b"are you?";
        self.send(Frame::ping(payload)).await?;
        self.until(|event| matches!(event, Event::Other(f) if f.kind == kind::PING && f.payload[..] == payload))
            .await?;
        Ok(())
    }

    /// Waits for an event that fits; keeps those of streams for later.
    pub async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Result<Event> {
        loop {
            let event = self.event().await?;
            if fits(&event) {
                return Ok(event);
            }
            match &event {
                Event::Headers { stream, .. } | Event::Data { stream, .. } | Event::Reset { stream, .. } => {
                    self.pending.entry(*stream).or_default().push(event);
                }
                Event::Closed => bail!("connection closed while waiting"),
                Event::GoAway { code, debug, .. } if *code != code::NO_ERROR => bail!("GOAWAY {code} {debug:?}"),
                Event::GoAway { .. } | Event::Other(_) => {}
            }
        }
    }

    /// Next event of one stream; those of other streams are kept for later.
    pub async fn stream_event(&mut self, stream: u32) -> Result<Event> {
        if let Some(kept) = self.pending.get_mut(&stream).filter(|kept| !kept.is_empty()) {
            return Ok(kept.remove(0));
        }
        let wanted = stream;
        self.until(|event| {
            matches!(event, Event::Headers { stream, .. } | Event::Data { stream, .. } | Event::Reset { stream, .. } if *stream == wanted)
        })
        .await
        .with_context(|| format!("stream {stream}"))
    }

    /// Next header block of any stream, as a server waits for a request.
    pub async fn request_head(&mut self) -> Result<(u32, Vec<Field>, bool)> {
        loop {
            let kept = self
                .pending
                .iter_mut()
                .find(|(_, events)| matches!(events.first(), Some(Event::Headers { .. })));
            let event = match kept {
                Some((_, events)) => events.remove(0),
                None => self.until(|event| matches!(event, Event::Headers { .. })).await?,
            };
            if let Event::Headers { stream, fields, end } = event {
                return Ok((stream, fields, end));
            }
        }
    }

    /// A whole request, as a server takes it.
    pub async fn request(&mut self) -> Result<(u32, Message)> {
        let (stream, head, end) = self.request_head().await?;
        let mut message = Message {
            head,
            ..Message::default()
        };
        if !end {
            self.rest(stream, &mut message).await?;
        }
        Ok((stream, message))
    }

    /// A whole response, interim ones skipped. A reset is an error that names its code.
    pub async fn response(&mut self, stream: u32) -> Result<Message> {
        loop {
            match self.stream_event(stream).await? {
                Event::Headers { fields, end, .. } => {
                    let mut message = Message {
                        head: fields,
                        ..Message::default()
                    };
                    if (100..200).contains(&message.status()) {
                        continue;
                    }
                    if !end {
                        self.rest(stream, &mut message).await?;
                    }
                    return Ok(message);
                }
                other => bail!("stream {stream}: expected a response, got {other:?}"),
            }
        }
    }

    /// Waits for the reset of a stream, whatever comes before it; returns its code.
    pub async fn reset(&mut self, stream: u32) -> Result<u32> {
        loop {
            match self.stream_event(stream).await? {
                Event::Reset { code, .. } => return Ok(code),
                Event::Headers { end: true, .. } | Event::Data { end: true, .. } => {
                    bail!("stream {stream} ended where a reset was expected")
                }
                _ => {}
            }
        }
    }

    async fn rest(&mut self, stream: u32, message: &mut Message) -> Result<()> {
        loop {
            match self.stream_event(stream).await? {
                Event::Data { data, end, .. } => {
                    message.body.extend_from_slice(&data);
                    if end {
                        return Ok(());
                    }
                }
                Event::Headers { fields, .. } => {
                    message.trailers = Some(fields);
                    return Ok(());
                }
                other => bail!("stream {stream}: message cut off by {other:?}"),
            }
        }
    }

    /// Next event, whatever it is. SETTINGS and PING are answered.
    pub async fn event(&mut self) -> Result<Event> {
        let Some(frame) = self.frame().await? else {
            return Ok(Event::Closed);
        };
        match frame.kind {
            kind::HEADERS => self.header_block(frame).await,
            kind::DATA => {
                if self.auto_window && !frame.payload.is_empty() {
                    let length = frame.payload.len() as u32;
                    let updates = [
                        Frame::window_update(0, length),
                        Frame::window_update(frame.stream, length),
                    ];
                    // The other side may be gone already: what it sent still counts.
                    let _ = self.send_all(updates).await;
                }
                Ok(Event::Data {
                    stream: frame.stream,
                    data: frame.content(),
                    end: frame.has(flag::END_STREAM),
                })
            }
            kind::RST_STREAM => Ok(Event::Reset {
                stream: frame.stream,
                code: frame.word(0),
            }),
            kind::GOAWAY => Ok(Event::GoAway {
                last_stream: frame.word(0),
                code: frame.word(1),
                debug: String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned(),
            }),
            kind::SETTINGS if !frame.has(flag::ACK) => {
                for pair in frame.payload.chunks_exact(6) {
                    let id = u16::from_be_bytes([pair[0], pair[1]]);
                    self.settings
                        .insert(id, u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]));
                }
                let _ = self.send(Frame::settings_ack()).await;
                Ok(Event::Other(frame))
            }
            kind::PING if !frame.has(flag::ACK) => {
                let _ = self
                    .send(Frame::new(kind::PING, flag::ACK, 0, frame.payload.clone()))
                    .await;
                Ok(Event::Other(frame))
            }
            _ => Ok(Event::Other(frame)),
        }
    }

    async fn header_block(&mut self, first: Frame) -> Result<Event> {
        let mut block = BytesMut::from(&first.content()[..]);
        let mut done = first.has(flag::END_HEADERS);
        while !done {
            let next = self.frame().await?.context("connection closed inside a header block")?;
            ensure!(
                next.kind == kind::CONTINUATION && next.stream == first.stream,
                "header block cut by {next:?}"
            );
            block.extend_from_slice(&next.payload);
            self.continuations += 1;
            done = next.has(flag::END_HEADERS);
        }
        let fields = self
            .decoder
            .decode(&block)
            .with_context(|| format!("header block of stream {}", first.stream))?;
        Ok(Event::Headers {
            stream: first.stream,
            fields,
            end: first.has(flag::END_STREAM),
        })
    }

    /// Next frame as it is; `None` where the connection ended between frames or was reset.
    pub async fn frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(Some(frame));
            }
            match timeout(self.io.read_buf(&mut self.received)).await? {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(None),
                Ok(0) => bail!("connection closed inside a frame ({} bytes left)", self.received.len()),
                Ok(_) => {}
                Err(error) => return Err(error).context("read"),
            }
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let head = self.received.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        if self.received.len() < 9 + length {
            self.received.reserve(9 + length - self.received.len());
            return None;
        }
        self.received.advance(9);
        Some(Frame {
            kind,
            flags,
            stream,
            payload: self.received.split_to(length).freeze(),
        })
    }

    /// Gives the connection back; what was received and not read is lost.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

async fn timeout<T>(work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .with_context(|| format!("nothing happened for {PATIENCE:?}"))
}

#[cfg(test)]
mod tests;
