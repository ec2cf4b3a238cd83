//! Frames of one direction, from bytes in any pieces.
//!
//! A payload that lies whole in the bytes given is read where it lies; otherwise it is collected, up to [`MAX_PAYLOAD`]. A header block that one
//! frame holds is passed on where it lies, too.

use super::{
    Frame, FrameHeader, HEADER_LENGTH, Kind, Payload, Rule, Sender, Violation, flags,
    payload::{self, Read},
};
use crate::protocol::HTTP2_PREFACE;

/// Largest payload that is kept, DATA aside, which is not kept at all. More is dropped, and [`Frame::dropped`] says how much. SETTINGS_MAX_FRAME_SIZE
/// starts at 16 KiB and is rarely raised.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Largest header block that is joined from fragments. Servers refuse lists of more than 16 KiB unless told otherwise.
pub const MAX_BLOCK: usize = 256 * 1024;
/// `SETTINGS_MAX_FRAME_SIZE` before any setting (RFC 9113, 6.5.2).
pub(super) const DEFAULT_MAX_FRAME_SIZE: u32 = 16 * 1024;
/// What is kept of a buffer that a large frame needed.
const KEPT_CAPACITY: usize = 4 * 1024;

/// Sees what a direction says, in its order.
pub trait Visitor {
    /// The client's connection preface is complete.
    fn preface(&mut self) {}
    /// A whole frame; of DATA, its header, before its bytes.
    fn frame(&mut self, _frame: &Frame<'_>) {}
    /// Bytes of a DATA frame, without padding.
    fn data(&mut self, _header: &FrameHeader, _bytes: &[u8]) {}
    /// A DATA frame is at its end, padding included.
    fn data_end(&mut self, _header: &FrameHeader) {}
    /// A whole header block, after its last frame.
    fn block(&mut self, _block: &Block<'_>) {}
    /// A header block will never be whole, so the table is unknown from here on.
    fn block_lost(&mut self) {}
    /// A broken rule, before the frame that breaks it.
    fn violation(&mut self, _violation: Violation) {}
    /// The receiver's `SETTINGS_MAX_FRAME_SIZE` as acknowledged at this point of the direction.
    fn max_frame_size(&self) -> u32 {
        DEFAULT_MAX_FRAME_SIZE
    }
}

/// A header block, its fragments joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The stream that it came on.
    pub stream: u32,
    /// What it is for.
    pub kind: BlockKind,
    /// Where its first frame begins, counted from the direction's first byte.
    pub offset: u64,
    /// How many frames it took.
    pub frames: u32,
    /// For a [`crate::hpack::Decoder`].
    pub bytes: &'a [u8],
}

/// What a header block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Head or trailers.
    Headers {
        /// Nothing follows it on this direction of the stream.
        end_stream: bool,
    },
    /// The request of a promised response.
    PushPromise {
        /// The stream that it will use.
        promised: u32,
    },
}

/// A block that waits for CONTINUATION.
#[derive(Clone, Debug)]
struct Open {
    stream: u32,
    kind: BlockKind,
    offset: u64,
    frames: u32,
    bytes: Vec<u8>,
    is_too_large: bool,
}

///```text
/// Preface ──► Header ──► Payload ──► Header …        (every type but DATA)
///    │           └─────► PadLength ─► Data ─► Header … (DATA)
///    └──► Lost                                        (no HTTP/2)
///```
#[derive(Clone, Copy, Debug)]
enum State {
    /// How many bytes of the preface have been seen.
    Preface(usize),
    /// How many bytes of the next header have been seen.
    Header(usize),
    /// Collecting.
    Payload {
        header: FrameHeader,
        left: u32,
    },
    /// A padded DATA frame, before its first byte.
    PadLength {
        header: FrameHeader,
    },
    Data {
        header: FrameHeader,
        left: u32,
        padding: u32,
    },
    Lost,
}

/// Frames of one direction.
#[derive(Clone, Debug)]
pub struct Decoder {
    sender: Sender,
    state: State,
    /// The header so far.
    partial: [u8; HEADER_LENGTH],
    payload: Vec<u8>,
    open: Option<Open>,
    /// Bytes before the ones being read.
    offset: u64,
    /// Where the frame being read begins.
    began: u64,
    frames: u64,
}

impl Decoder {
    /// From a connection's first byte: a client begins with the preface.
    pub fn new(sender: Sender) -> Self {
        let state = if sender == Sender::Client {
            State::Preface(0)
        } else {
            State::Header(0)
        };
        Self {
            state,
            ..Self::after_preface(sender)
        }
    }

    /// From the first frame on.
    pub fn after_preface(sender: Sender) -> Self {
        Self {
            sender,
            state: State::Header(0),
            partial: [0; HEADER_LENGTH],
            payload: Vec::new(),
            open: None,
            offset: 0,
            began: 0,
            frames: 0,
        }
    }

    /// As it stands between two frames: one that has begun is not part of it, nor a block that waits for its end.
    pub(super) fn between_frames(&self) -> Self {
        Self {
            offset: self.offset,
            began: self.offset,
            frames: self.frames.max(1),
            ..Self::after_preface(self.sender)
        }
    }

    /// Who writes this direction.
    pub fn sender(&self) -> Sender {
        self.sender
    }

    /// Whether this is no HTTP/2: nothing more will be reported.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Frames so far, by their headers.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a header block waits for CONTINUATION, and on which stream: where a connection that ends here was cut off.
    pub fn open_block(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.stream)
    }

    /// Whether the bytes so far end between two frames.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header(0))
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        self.payload.capacity() + self.open.as_ref().map_or(0, |open| open.bytes.capacity())
    }

    /// Takes the next bytes of the direction.
    pub fn feed(&mut self, mut bytes: &[u8], visitor: &mut impl Visitor) {
        while !bytes.is_empty() {
            let length = bytes.len();
            bytes = match self.state {
                State::Header(seen) => self.header(seen, bytes, visitor),
                State::Payload { header, left } => self.collect(header, left, bytes, visitor),
                State::PadLength { header } => self.pad_length(header, bytes, visitor),
                State::Data { header, left, padding } => self.data((header, left, padding), bytes, visitor),
                State::Preface(seen) => self.preface(seen, bytes, visitor),
                State::Lost => &[],
            };
            self.offset += (length - bytes.len()) as u64;
        }
    }

    fn preface<'a>(&mut self, seen: usize, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        let expected = &HTTP2_PREFACE[seen..];
        let (now, rest) = bytes.split_at(expected.len().min(bytes.len()));
        if now != &expected[..now.len()] {
            visitor.violation(Violation {
                rule: Rule::Preface,
                stream: 0,
                offset: 0,
            });
            self.state = State::Lost;
            return bytes;
        }
        self.state = if now.len() == expected.len() {
            visitor.preface();
            State::Header(0)
        } else {
            State::Preface(seen + now.len())
        };
        rest
    }

    #[inline]
    fn header<'a>(&mut self, seen: usize, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        if let (0, Some((header, rest))) = (seen, bytes.split_first_chunk::<HEADER_LENGTH>()) {
            self.began = self.offset;
            return self.begin(FrameHeader::parse(header), rest, visitor);
        }
        if seen == 0 {
            self.began = self.offset;
        }
        let (now, rest) = bytes.split_at((HEADER_LENGTH - seen).min(bytes.len()));
        self.partial[seen..seen + now.len()].copy_from_slice(now);
        if seen + now.len() < HEADER_LENGTH {
            self.state = State::Header(seen + now.len());
            return rest;
        }
        self.begin(FrameHeader::parse(&self.partial), rest, visitor)
    }

    /// A header is complete. Takes the payload along where it is there in one piece.
    #[inline]
    fn begin<'a>(&mut self, header: FrameHeader, rest: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        self.frames += 1;
        self.check(&header, visitor);
        if header.kind == Kind::Data {
            if header.has(flags::PADDED) {
                if header.length > 0 {
                    self.state = State::PadLength { header };
                } else {
                    self.begin_data(header, None, visitor);
                }
                return rest;
            }
            return self.plain_data(header, rest, visitor);
        }
        if let Some((payload, rest)) = rest.split_at_checked(header.length as usize)
            && payload.len() <= MAX_PAYLOAD
        {
            self.state = State::Header(0);
            self.frame(&header, payload, visitor);
            return rest;
        }
        self.payload.clear();
        self.state = State::Payload {
            header,
            left: header.length,
        };
        rest
    }

    /// What a header alone can break.
    fn check(&self, header: &FrameHeader, visitor: &mut impl Visitor) {
        let max_frame_size = visitor.max_frame_size();
        let mut broken = |rule| visitor.violation(self.violation(header, rule));
        if self.frames == 1 && (header.kind != Kind::Settings || header.has(flags::ACK)) {
            broken(Rule::FirstFrame);
        }
        if header.length > max_frame_size {
            broken(Rule::FrameTooLarge);
        }
        match header.kind {
            Kind::Settings | Kind::Ping | Kind::GoAway | Kind::PriorityUpdate if header.stream != 0 => {
                broken(Rule::StreamNotZero)
            }
            Kind::Data | Kind::Headers | Kind::Priority | Kind::RstStream | Kind::PushPromise | Kind::Continuation
                if header.stream == 0 =>
            {
                broken(Rule::StreamZero);
            }
            _ => {}
        }
        match &self.open {
            Some(open) if header.kind != Kind::Continuation || header.stream != open.stream => {
                broken(Rule::ContinuationExpected)
            }
            None if header.kind == Kind::Continuation => broken(Rule::ContinuationUnexpected),
            _ => {}
        }
    }

    fn violation(&self, header: &FrameHeader, rule: Rule) -> Violation {
        Violation {
            rule,
            stream: header.stream,
            offset: self.began,
        }
    }

    /// DATA without padding. What is there is passed on at once: nearly all of it comes in one piece.
    #[inline]
    fn plain_data<'a>(&mut self, header: FrameHeader, rest: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        visitor.frame(&Frame {
            header,
            offset: self.began,
            payload: Payload::Data { length: header.length },
            bytes: &[],
            padding: None,
            dropped: 0,
        });
        let Some((data, rest)) = rest.split_at_checked(header.length as usize) else {
            self.state = State::Data {
                header,
                left: header.length,
                padding: 0,
            };
            return rest;
        };
        if !data.is_empty() {
            visitor.data(&header, data);
        }
        visitor.data_end(&header);
        self.state = State::Header(0);
        rest
    }

    fn begin_data(&mut self, header: FrameHeader, padding: Option<u8>, visitor: &mut impl Visitor) {
        let unpadded = header.length - u32::from(padding.is_some());
        let mut taken = u32::from(padding.unwrap_or(0));
        if taken > unpadded || (header.has(flags::PADDED) && padding.is_none()) {
            let rule = if padding.is_none() {
                Rule::PayloadTooShort
            } else {
                Rule::PaddingTooLong
            };
            visitor.violation(self.violation(&header, rule));
            taken = taken.min(unpadded);
        }
        let length = unpadded - taken;
        let payload = Payload::Data { length };
        visitor.frame(&Frame {
            header,
            offset: self.began,
            payload,
            bytes: &[],
            padding,
            dropped: 0,
        });
        self.state = State::Data {
            header,
            left: length,
            padding: taken,
        };
        self.end_data(visitor);
    }

    fn pad_length<'a>(&mut self, header: FrameHeader, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        self.begin_data(header, Some(bytes[0]), visitor);
        &bytes[1..]
    }

    fn data<'a>(&mut self, state: (FrameHeader, u32, u32), bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        let (header, left, padding) = state;
        let (now, rest) = bytes.split_at((left as usize).min(bytes.len()));
        if !now.is_empty() {
            visitor.data(&header, now);
        }
        let skipped = (padding as usize).min(rest.len());
        self.state = State::Data {
            header,
            left: left - now.len() as u32,
            padding: padding - skipped as u32,
        };
        self.end_data(visitor);
        &rest[skipped..]
    }

    fn end_data(&mut self, visitor: &mut impl Visitor) {
        if let State::Data {
            header,
            left: 0,
            padding: 0,
        } = self.state
        {
            visitor.data_end(&header);
            self.state = State::Header(0);
        }
    }

    fn collect<'a>(&mut self, header: FrameHeader, left: u32, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        let (now, rest) = bytes.split_at((left as usize).min(bytes.len()));
        let room = MAX_PAYLOAD - self.payload.len();
        self.payload.extend_from_slice(&now[..room.min(now.len())]);
        let left = left - now.len() as u32;
        self.state = State::Payload { header, left };
        if left == 0 {
            self.state = State::Header(0);
            let mut payload = std::mem::take(&mut self.payload);
            self.frame(&header, &payload, visitor);
            payload.clear();
            payload.shrink_to(KEPT_CAPACITY);
            self.payload = payload;
        }
        rest
    }

    /// A frame other than DATA is complete.
    fn frame(&mut self, header: &FrameHeader, bytes: &[u8], visitor: &mut impl Visitor) {
        if header.kind == Kind::Headers && !header.has(flags::PADDED | flags::PRIORITY) {
            // As nearly every head is: what is known is not written down to be read again.
            let payload = Payload::Headers {
                priority: None,
                fragment: bytes,
            };
            return self.show(header, bytes, payload.into(), visitor);
        }
        let read = payload::read(header, bytes, self.sender);
        self.show(header, bytes, read, visitor);
    }

    #[inline]
    fn show(&mut self, header: &FrameHeader, bytes: &[u8], read: Read<'_>, visitor: &mut impl Visitor) {
        if let Some(rule) = read.broken {
            visitor.violation(self.violation(header, rule));
        }
        let dropped = header.length - bytes.len() as u32;
        let frame = Frame {
            header: *header,
            offset: self.began,
            payload: read.payload,
            bytes,
            padding: read.padding,
            dropped,
        };
        visitor.frame(&frame);
        match frame.payload {
            Payload::Headers { fragment, .. } => {
                let kind = BlockKind::Headers {
                    end_stream: header.has(flags::END_STREAM),
                };
                self.begin_block(&frame, kind, fragment, visitor);
            }
            Payload::PushPromise { promised, fragment } => {
                self.begin_block(&frame, BlockKind::PushPromise { promised }, fragment, visitor);
            }
            Payload::Continuation { fragment } => self.continue_block(&frame, fragment, visitor),
            // A block whose first frame cannot be read is lost with it.
            Payload::Raw(_) if matches!(header.kind, Kind::Headers | Kind::PushPromise) => {
                self.lose(header, Rule::BlockLost, visitor)
            }
            _ => {}
        }
    }

    fn begin_block(&mut self, frame: &Frame<'_>, kind: BlockKind, fragment: &[u8], visitor: &mut impl Visitor) {
        let header = &frame.header;
        if self.open.take().is_some() {
            self.lose(header, Rule::BlockLost, visitor);
        }
        let (stream, offset) = (header.stream, frame.offset);
        if header.has(flags::END_HEADERS) && frame.dropped == 0 {
            visitor.block(&Block {
                stream,
                kind,
                offset,
                frames: 1,
                bytes: fragment,
            });
            return;
        }
        self.open = Some(Open {
            stream,
            kind,
            offset,
            frames: 0,
            bytes: Vec::new(),
            is_too_large: false,
        });
        self.extend_block(frame, fragment, visitor);
    }

    fn continue_block(&mut self, frame: &Frame<'_>, fragment: &[u8], visitor: &mut impl Visitor) {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.stream == frame.header.stream)
        {
            self.extend_block(frame, fragment, visitor);
        }
    }

    fn extend_block(&mut self, frame: &Frame<'_>, fragment: &[u8], visitor: &mut impl Visitor) {
        let Some(open) = &mut self.open else { return };
        open.frames = open.frames.saturating_add(1);
        if frame.dropped > 0 || open.bytes.len() + fragment.len() > MAX_BLOCK {
            if !open.is_too_large {
                (open.is_too_large, open.bytes) = (true, Vec::new());
                self.lose(&frame.header, Rule::BlockTooLarge, visitor);
            }
        } else if !open.is_too_large {
            open.bytes.extend_from_slice(fragment);
        }
        if frame.header.has(flags::END_HEADERS)
            && let Some(open) = self.open.take()
            && !open.is_too_large
        {
            let Open {
                stream,
                kind,
                offset,
                frames,
                ref bytes,
                ..
            } = open;
            visitor.block(&Block {
                stream,
                kind,
                offset,
                frames,
                bytes,
            });
        }
    }

    fn lose(&mut self, header: &FrameHeader, rule: Rule, visitor: &mut impl Visitor) {
        visitor.violation(self.violation(header, rule));
        visitor.block_lost();
    }
}
