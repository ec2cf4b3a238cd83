//! The last frames of one connection, in two segments: one is written, and once it is full the older one is forgotten.
//!
//! A segment begins with the state of the lens at its first frame (HPACK tables, windows, settings), so that what it holds can be decoded on its own
//! whenever somebody asks. A push is two appends; forgetting frees nothing a frame. Failures keep segments by holding on to them.

use std::{cell::RefCell, collections::HashSet, rc::Rc};

use sheer_lens::{
    h2::{Block, Connection, Frame, FrameHeader, Kind},
    hpack::{REMEMBERED, Repeated},
};

/// Of payloads that nobody decodes later, this much is kept.
const KEPT_OF_UNKNOWN: usize = 64;
/// A segment covers at most this time, which its records can count (in microseconds).
const LONGEST: u64 = 60 * 60 * 1_000_000;

/// In the length of a record within its segment, which takes 24 bits (RFC 9113, 4.1): its payload is that of the earlier record that stands in
/// [`Record::kept`]. Only [`Segment::all`] knows of it.
const REPEATED: u32 = 1 << 31;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const END_STREAM: u8 = 0x1;
/// Open streams of which something is kept when their segment is forgotten: the newest.
const MOST_LEAVING: usize = 256;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A frame of HTTP/2. Its payload is kept, but not that of DATA.
    Frame,
    /// The head of a request of HTTP/1, as it was on the wire.
    RequestHead,
    /// The head of a response of HTTP/1.
    ResponseHead,
    /// The trailer section of a chunked body, behind the line of its last chunk (RFC 9112 7.1.2).
    Trailers,
}

/// One frame, or one head or trailer section of HTTP/1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Microseconds since the segment began.
    pub(crate) at: u32,
    /// Of the payload on the wire.
    pub(crate) length: u32,
    /// The stream; of HTTP/1, the how-manieth request.
    pub(crate) stream: u32,
    /// How much of the payload is kept, in the segment's bytes behind those of the records before.
    pub(crate) kept: u32,
    pub(crate) form: Form,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// This proxy wrote it.
    pub(crate) written: bool,
}

impl Record {
    /// Whether nothing follows it on its stream, of HTTP/2 and in its direction: DATA or HEADERS (RFC 9113, 6.1 and 6.2).
    pub(crate) fn ends_stream(&self) -> bool {
        self.kind <= HEADERS && self.flags & END_STREAM != 0
    }
}

/// Some records in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    /// When it began, on the recorder's clock.
    pub(crate) base: u64,
    /// Number of its first record on the connection.
    pub(crate) first: u64,
    /// The lens before the first record; none for HTTP/1.
    pub(crate) start: Option<Box<Connection>>,
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: Vec<u8>,
}

impl Segment {
    pub(crate) fn memory(&self) -> usize {
        let start = self
            .start
            .as_ref()
            .map_or(0, |start| start.memory() + size_of::<Connection>());
        self.records.capacity() * size_of::<Record>() + self.bytes.capacity() + start
    }

    /// Records with what is kept of their payloads, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Record, &[u8])> {
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(self.records.len());
        let mut rest = &self.bytes[..];
        self.records.iter().map(move |record| {
            let mut record = *record;
            let payload = if record.length & REPEATED == 0 {
                let (payload, behind) = rest.split_at_checked(record.kept as usize).unwrap_or_default();
                rest = behind;
                payload
            } else {
                let payload = payloads.get(record.kept as usize).copied().unwrap_or_default();
                (record.length, record.kept) = (record.length & !REPEATED, payload.len() as u32);
                payload
            };
            payloads.push(payload);
            (record, payload)
        })
    }

    fn filled(&self) -> usize {
        self.records.len() * size_of::<Record>() + self.bytes.len()
    }
}

/// A segment that others may hold on to.
pub(super) type Shared = Rc<RefCell<Segment>>;

/// A segment that is about to be forgotten, and streams that began in it, or were answered in it, and are not over.
pub(super) type Leaving = (Shared, Vec<u32>);

/// The last records of a connection.
#[derive(Debug)]
pub(super) struct Log {
    current: Shared,
    previous: Option<Shared>,
    /// Number of the next record.
    next: u64,
    /// How much a segment takes.
    room: usize,
    /// A record could not be kept in full, so that nothing behind it in its segment can be decoded.
    is_torn: bool,
    /// Which records of the current segment are header blocks that may come again, of what is read and of what is written.
    blocks: [[Option<u32>; REMEMBERED]; 2],
}

impl Log {
    pub(super) fn new(base: u64, start: Option<Box<Connection>>, room: usize) -> Self {
        let segment = Segment {
            base,
            start,
            ..Segment::default()
        };
        Self {
            current: Rc::new(RefCell::new(segment)),
            previous: None,
            next: 0,
            room,
            is_torn: false,
            blocks: Default::default(),
        }
    }

    /// Records so far, forgotten ones included.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// What is kept, oldest first.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Shared> {
        self.previous.iter().chain([&self.current])
    }

    pub(super) fn memory(&self) -> usize {
        self.segments().map(|segment| segment.borrow().memory()).sum()
    }

    /// Keeps a frame.
    #[inline]
    pub(super) fn frame(&mut self, now: u64, written: bool, frame: &Frame<'_>) {
        let FrameHeader {
            length,
            kind,
            flags,
            stream,
            ..
        } = frame.header;
        let payload = match kind {
            Kind::Unknown(_) | Kind::AltSvc | Kind::Origin => &frame.bytes[..frame.bytes.len().min(KEPT_OF_UNKNOWN)],
            _ => frame.bytes,
        };
        self.push(now, payload, |at, kept| Record {
            at,
            length,
            stream,
            kept,
            form: Form::Frame,
            kind: code(kind),
            flags,
            written,
        });
    }

    /// Keeps what is no frame: these bytes of so many.
    pub(super) fn other(
        &mut self,
        now: u64,
        (written, form, stream): (bool, Form, u32),
        (bytes, length): (&[u8], usize),
    ) {
        self.push(now, bytes, |at, kept| Record {
            at,
            length: length as u32,
            stream,
            kept,
            form,
            kind: 0,
            flags: 0,
            written,
        });
    }

    #[inline]
    fn push(&mut self, now: u64, payload: &[u8], record: impl FnOnce(u32, u32) -> Record) {
        let mut segment = self.current.borrow_mut();
        let kept = if payload.len() > self.room {
            self.is_torn = true;
            &payload[..KEPT_OF_UNKNOWN.min(payload.len())]
        } else {
            payload
        };
        let at = now.saturating_sub(segment.base) as u32;
        grow(&mut segment.bytes, kept.len(), self.room);
        segment.bytes.extend_from_slice(kept);
        segment.records.push(record(at, kept.len() as u32));
        self.next += 1;
    }

    /// The last frame was this block. One that came before, and is the whole payload of its frame, is kept once for both.
    #[inline]
    pub(super) fn block(&mut self, written: bool, block: &Block<'_>, repeated: &Repeated) {
        let Some(place) = repeated.place else { return };
        let before = &mut self.blocks[usize::from(written)][place];
        let mut segment = self.current.borrow_mut();
        let Segment { records, bytes, .. } = &mut *segment;
        let number = records.len().saturating_sub(1) as u32;
        let Some(last) = records.last_mut() else { return };
        if block.frames != 1 || last.kept as usize != block.bytes.len() {
            // It is remembered as that place's, wherever its bytes are.
            *before = before.filter(|_| repeated.again);
            return;
        }
        match *before {
            Some(record) if repeated.again => {
                bytes.truncate(bytes.len() - block.bytes.len());
                (last.length, last.kept) = (last.length | REPEATED, record);
            }
            _ => *before = Some(number),
        }
    }

    /// Whether the current segment has enough.
    #[inline]
    pub(super) fn is_full(&self, now: u64) -> bool {
        let segment = self.current.borrow();
        self.is_torn || segment.filled() >= self.room || now.saturating_sub(segment.base) > LONGEST
    }

    /// The newest stream of the older segment.
    pub(super) fn newest_stream(&self) -> u32 {
        let newest = |segment: &Shared| segment.borrow().records.iter().map(|record| record.stream).max();
        self.previous.as_ref().and_then(newest).unwrap_or(0)
    }

    /// What is lost with the older segment of streams that are open still, of a connection of HTTP/2. `responses_written`: this proxy writes what ends
    /// them. `told`: of these the end may not have been written yet.
    pub(super) fn leaving(&self, responses_written: bool, told: &[u32]) -> Option<Leaving> {
        let previous = self.previous.as_ref()?;
        let (older, newer) = (previous.borrow(), self.current.borrow());
        let ends = |record: &&Record| match record.kind {
            RST_STREAM => true,
            _ if record.ends_stream() => record.written == responses_written,
            _ => false,
        };
        let ended = older.records.iter().chain(&newer.records).filter(ends);
        let over: HashSet<u32> = ended.map(|record| record.stream).chain(told.iter().copied()).collect();
        let heads = older.records.iter().filter(|record| record.kind == HEADERS);
        let mut open: Vec<u32> = heads.map(|record| record.stream).collect();
        open.retain(|stream| !over.contains(stream));
        open.sort_unstable();
        open.dedup();
        open.drain(..open.len().saturating_sub(MOST_LEAVING));
        (!open.is_empty()).then(|| (Rc::clone(previous), open))
    }

    /// Begins a new segment, of this size, and forgets the one before the last. Its memory is used again unless somebody holds it.
    pub(super) fn roll(&mut self, now: u64, start: Option<Box<Connection>>, room: usize) {
        let mut fresh = self
            .previous
            .take()
            .and_then(|old| Rc::try_unwrap(old).ok())
            .map(RefCell::into_inner)
            .filter(|old| old.bytes.capacity() + old.records.capacity() * size_of::<Record>() <= room * 3)
            .unwrap_or_default();
        fresh.records.clear();
        fresh.bytes.clear();
        (fresh.base, fresh.first, fresh.start) = (now, self.next, start);
        let fresh = Rc::new(RefCell::new(fresh));
        self.previous = Some(std::mem::replace(&mut self.current, fresh));
        (self.room, self.is_torn, self.blocks) = (room, false, Default::default());
    }

    /// Forgets the older segment.
    pub(super) fn shorten(&mut self) {
        self.previous = None;
    }
}

/// Makes room for more bytes: as any vector does, but no more than a segment takes.
#[inline]
fn grow(bytes: &mut Vec<u8>, more: usize, room: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let wanted = (bytes.capacity() * 2).max(512).min(room).max(needed);
        bytes.reserve_exact(wanted - bytes.len());
    }
}

/// The number of a type.
pub(crate) fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Data => 0x0,
        Kind::Headers => 0x1,
        Kind::Priority => 0x2,
        Kind::RstStream => 0x3,
        Kind::Settings => 0x4,
        Kind::PushPromise => 0x5,
        Kind::Ping => 0x6,
        Kind::GoAway => 0x7,
        Kind::WindowUpdate => 0x8,
        Kind::Continuation => 0x9,
        Kind::AltSvc => 0xa,
        Kind::Origin => 0xc,
        Kind::PriorityUpdate => 0x10,
        Kind::Unknown(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> (&[u8], usize) {
        (bytes, bytes.len())
    }

    fn numbers(log: &Log) -> Vec<u64> {
        let of = |segment: &Shared| {
            let segment = segment.borrow();
            segment.first..segment.first + segment.records.len() as u64
        };
        log.segments().flat_map(of).collect()
    }

    #[test]
    fn between_one_and_two_segments_are_kept_and_memory_stays() {
        let mut log = Log::new(0, None, 400);
        let mut most = 0;
        for number in 0..1_000 {
            log.other(number, (false, Form::RequestHead, 1), whole(b"GET / HTTP/1.1\r\n\r\n"));
            if log.is_full(number) {
                log.roll(number, None, 400);
            }
            most = most.max(log.memory());
        }
        let kept = numbers(&log);
        assert_eq!(log.next(), 1_000);
        assert_eq!(kept.last(), Some(&999));
        assert!((10..=22).contains(&kept.len()), "{}", kept.len());
        assert!(most <= 4 * 400, "{most}");
    }

    #[test]
    fn a_smaller_segment_takes_less() {
        let mut log = Log::new(0, None, 64 * 1024);
        let mut fill = |room| {
            for _ in 0..2 {
                while !log.is_full(0) {
                    log.other(0, (false, Form::RequestHead, 1), whole(b""));
                }
                log.roll(0, None, room);
            }
            log.memory()
        };
        let before = fill(64 * 1024);
        fill(4 * 1024);
        let after = fill(4 * 1024);
        assert!(before > 64 * 1024 && after <= 4 * 4 * 1024, "{before} {after}");
    }

    #[test]
    fn what_a_failure_holds_is_not_used_again() {
        let mut log = Log::new(0, None, 100);
        log.other(0, (false, Form::RequestHead, 7), whole(b"GET /kept HTTP/1.1\r\n\r\n"));
        let held: Vec<Shared> = log.segments().cloned().collect();
        for number in 1..50 {
            log.other(number, (false, Form::RequestHead, 8), whole(b"GET / HTTP/1.1\r\n\r\n"));
            log.roll(number, None, 100);
        }
        assert_eq!(held[0].borrow().records[0].stream, 7);
        assert!(held[0].borrow().bytes.starts_with(b"GET /kept"));
        assert!(!numbers(&log).contains(&0));
    }

    #[test]
    fn what_is_too_large_is_cut_and_ends_its_segment() {
        let mut log = Log::new(0, None, 256);
        log.other(0, (true, Form::ResponseHead, 1), whole(&[b'x'; 1_000]));
        assert!(log.is_full(0));
        let first = log.segments().next().expect("a segment").borrow().records[0];
        assert_eq!((first.length, first.kept), (1_000, 64));
    }

    #[test]
    fn what_leaves_is_of_streams_that_are_open() {
        let record = |stream, kind, flags, written| Record {
            at: 0,
            length: 0,
            stream,
            kept: 0,
            form: Form::Frame,
            kind,
            flags,
            written,
        };
        let mut log = Log::new(0, None, 100);
        let head = |stream| record(stream, HEADERS, END_STREAM, false);
        let streams = [1, 3, 5, 7, 9, 400_001];
        log.current.borrow_mut().records.extend(streams.map(head));
        log.roll(0, None, 100);
        log.current.borrow_mut().records.extend([
            // Its answer begins, one ends, one is reset.
            record(1, HEADERS, 0, true),
            record(3, 0x0, END_STREAM, true),
            record(5, RST_STREAM, 0, false),
        ]);
        let open = |told: &[u32]| log.leaving(true, told).map(|(_, open)| open);
        assert_eq!(open(&[7]), Some(vec![1, 9, 400_001]));
        assert_eq!(open(&[1, 7, 9, 400_001]), None);
        // Where this proxy is the client, what it wrote ends nothing.
        assert!(log.leaving(false, &[]).is_none());
    }
}
