//! Both directions of a connection: what one side's frames change for the other.
//!
//! Bytes have to be given in the order in which an endpoint read and wrote them: settings count from their acknowledgement on, windows from their
//! updates.

use std::collections::VecDeque;

use super::{
    Block, BlockKind, Decoder, Frame, FrameHeader, Kind, MAX_STREAMS, Payload, Rule, Sender, Setting, Violation,
    Visitor, flags,
    streams::{MAX_WINDOW, Streams},
};
use crate::hpack;

/// SETTINGS frames of a side that wait for their acknowledgement. Beyond it the newest two count as one.
pub const MAX_PENDING_SETTINGS: usize = 16;
/// Window of a connection before any update (RFC 9113, 6.9.2).
const DEFAULT_WINDOW: u32 = 65_535;

/// Settings of a side (RFC 9113, 6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Table that the other side's encoder may use.
    pub header_table_size: u32,
    /// Whether the other side may push.
    pub enable_push: bool,
    /// Streams that the other side may have open; `None` for any number.
    pub max_concurrent_streams: Option<u32>,
    /// Window that the other side's streams begin with.
    pub initial_window_size: u32,
    /// Longest payload that the other side may send.
    pub max_frame_size: u32,
    /// Largest header list that the other side should send; `None` for any.
    pub max_header_list_size: Option<u32>,
    /// Whether CONNECT may carry `:protocol` (RFC 8441).
    pub enable_connect_protocol: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_table_size: hpack::DEFAULT_TABLE_SIZE,
            enable_push: true,
            max_concurrent_streams: None,
            initial_window_size: DEFAULT_WINDOW,
            max_frame_size: super::decoder::DEFAULT_MAX_FRAME_SIZE,
            max_header_list_size: None,
            enable_connect_protocol: false,
        }
    }
}

impl Settings {
    /// These settings, changed by the payload of a SETTINGS frame. Unknown ones change nothing.
    #[must_use]
    pub fn with(mut self, payload: &[u8]) -> Self {
        for Setting { id, value } in Setting::list(payload) {
            match id {
                1 => self.header_table_size = value,
                2 => self.enable_push = value != 0,
                3 => self.max_concurrent_streams = Some(value),
                4 => self.initial_window_size = value,
                5 => self.max_frame_size = value,
                6 => self.max_header_list_size = Some(value),
                8 => self.enable_connect_protocol = value != 0,
                _ => {}
            }
        }
        self
    }
}

/// What may still be sent after a frame: by the other side where it is WINDOW_UPDATE, by its own sender otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of DATA on the connection; less than zero where too much was sent.
    pub connection: i64,
    /// Bytes of DATA on the frame's stream; `None` where it is closed or not followed, and for frames of the connection.
    pub stream: Option<i64>,
}

/// Sees what a connection says, each direction in its order.
pub trait Events {
    /// See [`Visitor::frame`].
    fn frame(&mut self, _sender: Sender, _frame: &Frame<'_>, _room: Room) {}
    /// See [`Visitor::data`].
    fn data(&mut self, _sender: Sender, _header: &FrameHeader, _bytes: &[u8]) {}
    /// See [`Visitor::data_end`].
    fn data_end(&mut self, _sender: Sender, _header: &FrameHeader) {}
    /// A whole header block, and the decoder in the state before it: decode it, advance over it, or clone the state first. Not doing any of this is
    /// the same as advancing.
    ///
    /// # Errors
    /// What the decoder says, for [`Events::violation`] to be told.
    fn block(&mut self, _sender: Sender, block: &Block<'_>, hpack: &mut hpack::Decoder) -> Result<(), hpack::Error> {
        hpack.advance(block.bytes).map(drop)
    }
    /// What this side's encoder may use changed: for a [`hpack::History`] of its blocks.
    fn table_size_allowed(&mut self, _sender: Sender, _size: u32) {}
    /// See [`Visitor::block_lost`].
    fn block_lost(&mut self, _sender: Sender) {}
    /// See [`Visitor::violation`]; rules that need both directions come here too.
    fn violation(&mut self, _sender: Sender, _violation: Violation) {}
}

/// What one side sends and what it has announced.
#[derive(Clone, Debug)]
struct Side {
    hpack: hpack::Decoder,
    /// As the other side acknowledged them.
    settings: Settings,
    /// Not acknowledged yet, oldest first.
    pending: VecDeque<Settings>,
    /// What this side may still send.
    window: i64,
    /// The last stream of its latest GOAWAY.
    going_away: Option<u32>,
}

impl Side {
    fn new() -> Self {
        Self {
            hpack: hpack::Decoder::new(),
            settings: Settings::default(),
            pending: VecDeque::new(),
            window: i64::from(DEFAULT_WINDOW),
            going_away: None,
        }
    }

    fn memory(&self) -> usize {
        self.hpack.memory() + self.pending.capacity() * size_of::<Settings>()
    }
}

/// Both directions of a connection.
#[derive(Clone, Debug)]
pub struct Connection {
    frames: [Decoder; 2],
    sides: [Side; 2],
    streams: Streams,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

fn index(sender: Sender) -> usize {
    match sender {
        Sender::Client => 0,
        Sender::Server => 1,
    }
}

impl Connection {
    /// From the first byte of either direction.
    pub fn new() -> Self {
        Self::with_streams(MAX_STREAMS)
    }

    /// The same, but follows at most this many streams at once. With 0 the windows of streams and the rules of their states are left out.
    pub fn with_streams(limit: usize) -> Self {
        Self {
            frames: [Decoder::new(Sender::Client), Decoder::new(Sender::Server)],
            sides: [Side::new(), Side::new()],
            streams: Streams::new(limit),
        }
    }

    /// As it stands after the last whole frame of either direction: to go on from with whole frames, as from a recording. Streams that are open count
    /// as not followed.
    #[must_use]
    pub fn between_frames(&self, streams: usize) -> Self {
        Self {
            frames: self.frames.each_ref().map(Decoder::between_frames),
            sides: self.sides.clone(),
            streams: self.streams.afresh(streams),
        }
    }

    /// After an upgrade from HTTP/1 (RFC 7540, 3.2): stream 1 is open already, and its request was sent before.
    pub fn upgraded() -> Self {
        let mut connection = Self::new();
        connection
            .streams
            .headers(1, Sender::Client, [i64::from(DEFAULT_WINDOW); 2]);
        connection.streams.end(1, Sender::Client);
        connection
    }

    /// Takes the next bytes that `sender` wrote.
    pub fn feed(&mut self, sender: Sender, bytes: &[u8], events: &mut impl Events) {
        let [client, server] = &mut self.sides;
        let (own, peer) = match sender {
            Sender::Client => (client, server),
            Sender::Server => (server, client),
        };
        let mut follow = Follow {
            sender,
            own,
            peer,
            streams: &mut self.streams,
            events,
        };
        self.frames[index(sender)].feed(bytes, &mut follow);
    }

    /// The frames of a side.
    pub fn frames(&self, sender: Sender) -> &Decoder {
        &self.frames[index(sender)]
    }

    /// The table of a side's encoder.
    pub fn hpack(&self, sender: Sender) -> &hpack::Decoder {
        &self.sides[index(sender)].hpack
    }

    /// What a side announced and the other acknowledged.
    pub fn settings(&self, sender: Sender) -> Settings {
        self.sides[index(sender)].settings
    }

    /// Bytes of DATA that a side may still send on the connection; less than zero where it sent too much.
    pub fn window(&self, sender: Sender) -> i64 {
        self.sides[index(sender)].window
    }

    /// The same for a stream; `None` where it is closed or not followed.
    pub fn stream_window(&self, stream: u32, sender: Sender) -> Option<i64> {
        self.streams.window(stream, sender)
    }

    /// Open streams that are followed.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        let frames: usize = self.frames.iter().map(Decoder::memory).sum();
        let tables: usize = self.sides.iter().map(Side::memory).sum();
        frames + tables + self.streams.memory()
    }
}

/// One direction's frames, with both sides at hand.
struct Follow<'a, E> {
    sender: Sender,
    own: &'a mut Side,
    peer: &'a mut Side,
    streams: &'a mut Streams,
    events: &'a mut E,
}

impl<E: Events> Follow<'_, E> {
    fn room(&self, frame: &Frame<'_>) -> Room {
        let (side, sender) = match frame.header.kind {
            Kind::WindowUpdate => (&*self.peer, self.sender.peer()),
            _ => (&*self.own, self.sender),
        };
        Room {
            connection: side.window,
            stream: self.streams.window(frame.header.stream, sender),
        }
    }

    fn broken(&mut self, frame: &Frame<'_>, rule: Option<Rule>) {
        if let Some(rule) = rule {
            self.events.violation(
                self.sender,
                Violation {
                    rule,
                    stream: frame.header.stream,
                    offset: frame.offset,
                },
            );
        }
    }

    /// What streams of client and server begin with.
    fn initial_windows(&self) -> [i64; 2] {
        let [own, peer] = [self.peer, &*self.own].map(|side| i64::from(side.settings.initial_window_size));
        match self.sender {
            Sender::Client => [own, peer],
            Sender::Server => [peer, own],
        }
    }

    fn data(&mut self, frame: &Frame<'_>) {
        let header = frame.header;
        self.own.window -= i64::from(header.length);
        let exceeded = (self.own.window < 0 && header.length > 0).then_some(Rule::WindowExceeded);
        self.broken(frame, exceeded);
        let rule = self.streams.data(header.stream, self.sender, header.length);
        self.broken(frame, rule);
    }

    fn headers(&mut self, frame: &Frame<'_>) {
        let windows = self.initial_windows();
        let (is_new, rule) = self.streams.headers(frame.header.stream, self.sender, windows);
        self.broken(frame, rule);
        let allowed = self.peer.settings.max_concurrent_streams;
        if is_new && allowed.is_some_and(|allowed| self.streams.opened_by(self.sender) > allowed) {
            self.broken(frame, Some(Rule::TooManyStreams));
        }
    }

    fn settings(&mut self, frame: &Frame<'_>, payload: &[u8]) {
        if !frame.header.has(flags::ACK) {
            let settings = self.own.pending.back().unwrap_or(&self.own.settings).with(payload);
            if self.own.pending.len() == MAX_PENDING_SETTINGS {
                self.own.pending.pop_back();
            }
            self.own.pending.push_back(settings);
            return;
        }
        let Some(settings) = self.peer.pending.pop_front() else {
            return self.broken(frame, Some(Rule::SettingsAckUnasked));
        };
        let before = std::mem::replace(&mut self.peer.settings, settings);
        if settings.header_table_size != before.header_table_size {
            self.own.hpack.set_allowed(settings.header_table_size);
            self.events.table_size_allowed(self.sender, settings.header_table_size);
        }
        let difference = i64::from(settings.initial_window_size) - i64::from(before.initial_window_size);
        self.streams.shift(self.sender, difference);
    }

    fn window_update(&mut self, frame: &Frame<'_>, increment: u32) {
        let rule = if frame.header.stream == 0 {
            self.peer.window += i64::from(increment);
            (self.peer.window > MAX_WINDOW).then_some(Rule::WindowTooLarge)
        } else {
            self.streams.widen(frame.header.stream, self.sender.peer(), increment)
        };
        self.broken(frame, rule);
    }

    fn push_promise(&mut self, frame: &Frame<'_>, promised: u32) {
        if self.sender == Sender::Client {
            return self.broken(frame, Some(Rule::PushByClient));
        }
        let disabled = (!self.peer.settings.enable_push).then_some(Rule::PushDisabled);
        self.broken(frame, disabled);
        let windows = self.initial_windows();
        let rule = self.streams.promise(promised, windows);
        self.broken(frame, rule);
    }

    fn rst_stream(&mut self, frame: &Frame<'_>) {
        let stream = frame.header.stream;
        let idle = (stream != 0 && self.streams.is_idle(stream)).then_some(Rule::RstStreamIdle);
        self.broken(frame, idle);
        self.streams.close(stream);
    }

    fn go_away(&mut self, frame: &Frame<'_>, last: u32) {
        let raised = self.own.going_away.replace(last).is_some_and(|before| last > before);
        self.broken(frame, raised.then_some(Rule::GoAwayRaised));
    }
}

impl<E: Events> Visitor for Follow<'_, E> {
    fn frame(&mut self, frame: &Frame<'_>) {
        match frame.payload {
            Payload::Data { .. } => self.data(frame),
            Payload::Headers { .. } => self.headers(frame),
            Payload::Settings(payload) => self.settings(frame, payload),
            Payload::WindowUpdate { increment } => self.window_update(frame, increment),
            Payload::PushPromise { promised, .. } => self.push_promise(frame, promised),
            Payload::RstStream { .. } => self.rst_stream(frame),
            Payload::GoAway { last, .. } => self.go_away(frame, last),
            _ => {}
        }
        let room = self.room(frame);
        self.events.frame(self.sender, frame, room);
        if matches!(frame.header.kind, Kind::Data | Kind::Headers) && frame.header.has(flags::END_STREAM) {
            self.streams.end(frame.header.stream, self.sender);
        }
    }

    fn data(&mut self, header: &FrameHeader, bytes: &[u8]) {
        self.events.data(self.sender, header, bytes);
    }

    fn data_end(&mut self, header: &FrameHeader) {
        self.events.data_end(self.sender, header);
    }

    fn block(&mut self, block: &Block<'_>) {
        let before = self.own.hpack.blocks();
        let mut outcome = self.events.block(self.sender, block, &mut self.own.hpack);
        if self.own.hpack.blocks() == before {
            outcome = self.own.hpack.advance(block.bytes).map(drop);
        }
        if let Err(error) = outcome {
            let (stream, rule) = (block.stream, Rule::Compression(error));
            self.events.violation(
                self.sender,
                Violation {
                    rule,
                    stream,
                    offset: block.offset,
                },
            );
        }
    }

    fn block_lost(&mut self) {
        self.own.hpack.lose();
        self.events.block_lost(self.sender);
    }

    fn violation(&mut self, violation: Violation) {
        self.events.violation(self.sender, violation);
    }

    fn max_frame_size(&self) -> u32 {
        self.peer.settings.max_frame_size
    }
}

impl Block<'_> {
    /// Whether nothing follows this block on its direction of the stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, BlockKind::Headers { end_stream: true })
    }
}
