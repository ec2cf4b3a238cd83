//! Decodes a segment of a log again, frame by frame, into everything that there is to show. Not for the path of a request.

use sheer_lens::{
    h2::{
        Block, BlockKind, Connection, Events, Frame, FrameHeader, HEADER_LENGTH, Kind, Payload, Priority, Room, Sender,
        Setting, Violation, fields,
    },
    hpack::{self, Digester, Field, Indexing, ListKind, NameSource, Representation, TableState},
};

use super::log::{Form, Record, Segment};
use crate::redact::Digest;

/// Streams whose windows are followed while a segment is decoded.
const STREAMS: usize = 1_024;
/// How HPACK may carry a field.
pub(super) const REPRESENTATIONS: [&str; 4] = ["indexed", "literal, indexed", "literal", "never indexed"];
/// Of a list, fields are shown up to this size (RFC 9113, 6.5.2): a block of indices alone can stand for a thousand times its own.
const LIST: usize = 1024 * 1024;
/// Bodies are not kept; where the lens wants their bytes it gets zeroes, in pieces of this size.
const ZEROES: [u8; 4_096] = [0; 4_096];

/// A record with all that it says.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// On the connection.
    pub(crate) number: u64,
    /// On the recorder's clock.
    pub(crate) at: u64,
    pub(crate) record: Record,
    pub(crate) detail: Detail,
    /// What may still be sent in the direction that it is about.
    pub(crate) room: Option<Room>,
    /// Of the last frame of a header block.
    pub(crate) block: Option<ShownBlock>,
    /// Rules that it breaks, in words.
    pub(crate) violations: Vec<String>,
}

/// What a frame says besides its header.
#[derive(Clone, Debug, Default)]
pub(crate) enum Detail {
    /// Nothing more.
    #[default]
    Nothing,
    Settings(Vec<Setting>),
    Reset(u32),
    GoAway {
        last: u32,
        code: u32,
        debug: Vec<u8>,
    },
    WindowUpdate(u32),
    Priority(Priority),
    Promise(u32),
    /// PING, unknown types: the payload, or its beginning.
    Bytes(Vec<u8>),
    /// HTTP/1.
    Head(Head),
}

/// A head of HTTP/1, or its beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    /// Of an excerpt: fields whose values are not in the bytes.
    pub(crate) left_out: Vec<LeftOut>,
}

/// A field of HTTP/1 of whose value only this is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Its line in the head, from 0.
    pub(crate) line: usize,
    /// What the line took, in bytes.
    pub(crate) length: u32,
    pub(crate) digest: Digest,
}

/// A header block.
#[derive(Clone, Debug)]
pub(crate) struct ShownBlock {
    pub(crate) kind: ListKind,
    pub(crate) is_promise: bool,
    pub(crate) fields: Vec<BlockField>,
    pub(crate) bytes: u32,
    pub(crate) frames: u32,
    pub(crate) list_size: u64,
    pub(crate) before: TableState,
    pub(crate) after: TableState,
    pub(crate) size_updates: Vec<u32>,
    /// Why it cannot be decoded further.
    pub(crate) error: Option<String>,
}

/// A field, and how it came.
#[derive(Clone, Debug)]
pub(crate) struct BlockField {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Of an excerpt: what is kept of a value that is nobody's business.
    pub(crate) digest: Option<Digest>,
    pub(crate) representation: &'static str,
    /// Of the entry, or of the one that the name is from; 0 where it is spelled out.
    pub(crate) index: u32,
    pub(crate) huffman: (bool, bool),
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) evicted: u32,
    pub(crate) tables: (u32, u32),
}

/// Decodes a segment. `accepted`: the other side opened the connection.
pub(crate) fn segment(segment: &Segment, accepted: bool) -> Vec<Shown> {
    let mut all = Vec::with_capacity(segment.records.len());
    some(segment, accepted, |_| Some(true), |shown| all.push(shown));
    all
}

/// Shows those records of a segment that are wanted, by their number; none: neither this one nor any that follows.
pub(super) fn some(
    segment: &Segment,
    accepted: bool,
    mut wanted: impl FnMut(u64) -> Option<bool>,
    mut show: impl FnMut(Shown),
) {
    let reads = if accepted { Sender::Client } else { Sender::Server };
    let mut lens = segment.start.as_ref().map(|start| start.between_frames(STREAMS));
    let mut torn = [false; 2];
    for (number, (record, payload)) in (segment.first..).zip(segment.all()) {
        let Some(is_wanted) = wanted(number) else { return };
        let mut shown = Shown {
            number,
            at: segment.base + u64::from(record.at),
            record,
            detail: Detail::Nothing,
            room: None,
            block: None,
            violations: Vec::new(),
        };
        match (&mut lens, record.form) {
            (Some(lens), Form::Frame) => {
                let torn = &mut torn[usize::from(record.written)];
                let is_block = matches!(record.kind, 0x1 | 0x5 | 0x9);
                *torn |= is_block && record.kept < record.length;
                if *torn {
                    shown.violations.push(format!(
                        "not decoded: of a payload of {} bytes {} are kept",
                        record.length, record.kept
                    ));
                } else {
                    let sender = if record.written { reads.peer() } else { reads };
                    feed(lens, sender, (&record, payload), (&mut shown, is_wanted));
                }
            }
            _ if is_wanted => {
                let bytes = payload.to_vec();
                if record.kept < record.length {
                    let (length, kept) = (record.length, record.kept);
                    shown.violations.push(format!(
                        "not shown in full: of a head of {length} bytes {kept} are kept"
                    ));
                }
                shown.detail = Detail::Head(Head {
                    bytes,
                    left_out: Vec::new(),
                });
            }
            _ => {}
        }
        if is_wanted {
            show(shown);
        }
    }
}

/// Gives the lens a frame as it was on the wire, but for bodies.
fn feed(
    lens: &mut Connection,
    sender: Sender,
    (record, payload): (&Record, &[u8]),
    (shown, is_wanted): (&mut Shown, bool),
) {
    let mut header = [0; HEADER_LENGTH];
    header[..3].copy_from_slice(&record.length.to_be_bytes()[1..]);
    header[3] = record.kind;
    header[4] = record.flags;
    header[5..].copy_from_slice(&record.stream.to_be_bytes());
    let mut eye = Eye {
        shown,
        is_wanted,
        checker: None,
    };
    lens.feed(sender, &header, &mut eye);
    lens.feed(sender, payload, &mut eye);
    let mut left = record.length.saturating_sub(record.kept) as usize;
    while left > 0 {
        let now = left.min(ZEROES.len());
        lens.feed(sender, &ZEROES[..now], &mut eye);
        left -= now;
    }
}

struct Eye<'a> {
    shown: &'a mut Shown,
    /// It only matters to what follows where not.
    is_wanted: bool,
    checker: Option<fields::Checker>,
}

impl Events for Eye<'_> {
    fn frame(&mut self, _sender: Sender, frame: &Frame<'_>, room: Room) {
        if !self.is_wanted {
            return;
        }
        self.shown.room = matches!(frame.header.kind, Kind::Data | Kind::WindowUpdate).then_some(room);
        self.shown.detail = detail(frame);
    }

    fn block(&mut self, _sender: Sender, block: &Block<'_>, hpack: &mut hpack::Decoder) -> Result<(), hpack::Error> {
        if !self.is_wanted {
            return hpack.digest(block.bytes, &mut Digester::new()).map(drop);
        }
        let mut reading = Reading {
            fields: Vec::new(),
            size: 0,
            digester: Digester::new(),
            size_updates: Vec::new(),
            violations: Vec::new(),
        };
        let before = hpack.state();
        let outcome = hpack.decode(block.bytes, &mut reading);
        let done = outcome.unwrap_or_default();
        let kind = reading.digester.digest().kind();
        self.shown.violations.extend(reading.violations);
        self.shown.violations.extend(rules(
            kind,
            &reading.fields,
            outcome.is_ok() && reading.size <= LIST,
            &mut self.checker,
        ));
        if reading.size > LIST {
            let shown = reading.fields.len();
            let more = format!(
                "a list of {} bytes, of which the first {shown} fields are shown",
                reading.size
            );
            self.shown.violations.push(more);
        }
        self.shown.block = Some(ShownBlock {
            kind,
            is_promise: matches!(block.kind, BlockKind::PushPromise { .. }),
            fields: reading.fields,
            bytes: block.bytes.len() as u32,
            frames: block.frames,
            list_size: done.list_size,
            before,
            after: hpack.state(),
            size_updates: reading.size_updates,
            error: outcome.err().map(|error| error.to_string()),
        });
        outcome.map(drop)
    }

    fn violation(&mut self, _sender: Sender, violation: Violation) {
        self.shown.violations.push(violation.rule.to_string());
    }
}

/// What the list as such breaks (RFC 9113, 8.2 and 8.3).
fn rules(kind: ListKind, list: &[BlockField], whole: bool, checker: &mut Option<fields::Checker>) -> Vec<String> {
    let list_of = match kind {
        ListKind::Request => fields::List::Request,
        ListKind::Informational | ListKind::Response => fields::List::Response,
        ListKind::Trailers => fields::List::Trailers,
    };
    let checker = checker.insert(fields::Checker::new(list_of));
    let mut broken = Vec::new();
    for field in list {
        if let Some(rule) = checker.field(&field.name, &field.value) {
            broken.push(format!("{}: {rule}", String::from_utf8_lossy(&field.name)));
        }
    }
    let missing = checker.finish().filter(|_| whole);
    broken.extend(missing.map(|rule| rule.to_string()));
    broken
}

fn detail(frame: &Frame<'_>) -> Detail {
    match frame.payload {
        Payload::Settings(payload) => Detail::Settings(Setting::list(payload).collect()),
        Payload::RstStream { code } => Detail::Reset(code),
        Payload::GoAway { last, code, debug } => Detail::GoAway {
            last,
            code,
            debug: debug.to_vec(),
        },
        Payload::WindowUpdate { increment } => Detail::WindowUpdate(increment),
        Payload::Priority(priority) => Detail::Priority(priority),
        Payload::Headers { priority, .. } => priority.map_or(Detail::Nothing, Detail::Priority),
        Payload::PushPromise { promised, .. } => Detail::Promise(promised),
        Payload::Ping(opaque) => Detail::Bytes(opaque.to_vec()),
        Payload::Data { .. } | Payload::Continuation { .. } => Detail::Nothing,
        Payload::AltSvc { value, .. } | Payload::PriorityUpdate { value, .. } => Detail::Bytes(value.to_vec()),
        Payload::Raw(bytes) => Detail::Bytes(bytes[..bytes.len().min(64)].to_vec()),
    }
}

struct Reading {
    fields: Vec<BlockField>,
    /// Of the list so far.
    size: usize,
    digester: Digester,
    size_updates: Vec<u32>,
    violations: Vec<String>,
}

impl hpack::Visitor for Reading {
    fn field(&mut self, field: &Field<'_>) {
        self.digester.field(field.name, field.value);
        self.size += field.name.len() + field.value.len() + hpack::ENTRY_OVERHEAD as usize;
        if self.size > LIST {
            return;
        }
        let [indexed, entering, literal, never] = REPRESENTATIONS;
        let (representation, index, huffman) = match field.representation {
            Representation::Indexed { index } => (indexed, index, (false, false)),
            Representation::Literal {
                indexing,
                name,
                huffman,
            } => {
                let representation = match indexing {
                    Indexing::Incremental => entering,
                    Indexing::Without => literal,
                    Indexing::Never => never,
                };
                match name {
                    NameSource::Index(index) => (representation, index, (false, huffman)),
                    NameSource::Literal { huffman: name } => (representation, 0, (name, huffman)),
                }
            }
        };
        self.fields.push(BlockField {
            name: field.name.to_vec(),
            value: field.value.to_vec(),
            digest: None,
            representation,
            index,
            huffman,
            offset: field.wire.start,
            length: field.wire.end - field.wire.start,
            evicted: field.evicted,
            tables: (field.before.size, field.after.size),
        });
    }

    fn size_update(&mut self, update: hpack::SizeUpdate) {
        self.size_updates.push(update.after.maximum);
    }

    fn violation(&mut self, violation: hpack::Violation) {
        self.violations.push(violation.to_string());
    }
}

impl Shown {
    /// The frame's header; none for what is no frame.
    pub(crate) fn header(&self) -> Option<FrameHeader> {
        (self.record.form == Form::Frame).then(|| FrameHeader {
            length: self.record.length,
            kind: self.record.kind.into(),
            flags: self.record.flags,
            stream: self.record.stream,
            reserved: false,
        })
    }
}
