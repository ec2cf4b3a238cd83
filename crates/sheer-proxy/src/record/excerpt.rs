//! What is kept of a connection for a failure once its segments are let go: the frames that concern it, decoded, in a few bytes each.
//!
//! [`ExcerptCopy::shown`] gives what [`replay`] gave, but for long secrets ([`packed`]). Segments are replayed on the worker for this, so [`Failures`](super::failure::Failures) sees to it that it happens seldom.

mod packed;

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use self::packed::Packer;
use super::{
    log::{Record, Segment, Shared},
    recording::Recording,
    replay::{self, Shown},
    texts::{Interner, Texts},
};

/// Frames of the connection as a whole that an excerpt has at most.
const OF_CONNECTION: usize = 32;
/// Frames of any stream before a connection's death, and before a disagreement.
const OF_ANY: usize = 32;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;

/// What a failure wants of a connection.
#[derive(Debug)]
pub(super) struct Want {
    /// None where it is about the connection as a whole.
    pub(super) streams: Vec<u32>,
    /// Also the last frames before this moment, whatever their stream.
    pub(super) before: Option<u64>,
    /// Only header blocks of the streams, and nothing of the connection as a whole.
    pub(super) only_heads: bool,
    /// Frames before this one are kept already.
    pub(super) from: u64,
}

/// What a replay takes: as much as so many records of a few bytes.
pub(super) type Work = u64;

/// To decode a segment up to this record, and to keep what is wanted of it. So many bytes of payload take as long as a record does.
fn work_until(segment: &Segment, last: u64) -> Work {
    const BYTES: usize = 32;
    let records = (last + 1).saturating_sub(segment.first) as usize;
    let bytes = segment.bytes.len() * records / segment.records.len().max(1);
    (records + bytes / BYTES) as Work
}

/// Segments of one connection in their order.
pub(super) type Segments = BTreeMap<(u64, u64), Shared>;

/// By what segments are ordered: one that stayed empty has the first number of the next one too.
pub(super) fn order(segment: &Shared) -> (u64, u64) {
    let segment = segment.borrow();
    (segment.first, segment.base)
}

/// Frames of one connection.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    /// Numbers of texts in the order in which frames name them.
    texts: Box<[u8]>,
    frames: Box<[u8]>,
    /// Numbers of the first record and of the one behind the last.
    first: u64,
    next: u64,
}

/// An excerpt with the texts that it names.
#[derive(Clone, Debug)]
pub(crate) struct ExcerptCopy {
    excerpt: Excerpt,
    texts: Arc<Texts>,
}

/// All excerpts of a recorder.
#[derive(Debug, Default)]
pub(super) struct Excerpts {
    interner: Interner,
    /// What excerpts take without their texts.
    packed: usize,
    /// Connections that excerpts are of: by how many of them, and what each takes.
    connections: HashMap<u64, (usize, usize)>,
}

impl Excerpts {
    /// Everything that is kept on their account.
    pub(super) fn bytes(&self) -> usize {
        let connections: usize = self.connections.values().map(|(_, memory)| memory).sum();
        let known = self.connections.capacity() * size_of::<(u64, (usize, usize))>();
        self.interner.memory() + self.packed + connections + known
    }

    /// Copies an excerpt for whoever shows it.
    pub(super) fn copy(&self, excerpt: &Excerpt) -> ExcerptCopy {
        ExcerptCopy {
            excerpt: excerpt.clone(),
            texts: self.interner.texts(),
        }
    }

    /// Makes an excerpt of a connection for each that wants one, and says what that took. A segment is replayed once for all of them, and only as far as
    /// somebody wants something of it.
    pub(super) fn distil(
        &mut self,
        recording: &Rc<Recording>,
        segments: &Segments,
        wants: &[Want],
    ) -> (Vec<Option<Excerpt>>, Work) {
        let mut wanted = Vec::new();
        for (at, numbers) in select(segments, wants).into_iter().enumerate() {
            wanted.extend(numbers.into_iter().map(|number| (number, at)));
        }
        wanted.sort_unstable();
        let mut packers: Vec<Packer> = wants.iter().map(|_| Packer::default()).collect();
        let (mut left, mut work) = (&wanted[..], 0);
        for segment in segments.values() {
            let segment = segment.borrow();
            let end = segment.first + segment.records.len() as u64;
            let (own, later) = left.split_at(left.partition_point(|(number, _)| *number < end));
            left = later;
            work += own.last().map_or(0, |(last, _)| work_until(&segment, *last));
            self.replay(&segment, recording.about().accepted, own, &mut packers);
        }
        let excerpts: Vec<Option<Excerpt>> = packers.into_iter().map(Excerpt::of).collect();
        self.packed += excerpts.iter().flatten().map(Excerpt::memory).sum::<usize>();
        (excerpts, work)
    }

    /// Packs what is wanted of a segment: numbers of records, and who wants them.
    fn replay(&mut self, segment: &Segment, accepted: bool, wanted: &[(u64, usize)], packers: &mut [Packer]) {
        if wanted.is_empty() {
            return;
        }
        let mut ahead = wanted;
        let is_wanted = |number| {
            let passed = ahead.partition_point(|(wanted, _)| *wanted < number);
            ahead = &ahead[passed..];
            ahead.first().map(|(wanted, _)| *wanted == number)
        };
        let mut left = wanted;
        replay::some(segment, accepted, is_wanted, |shown| {
            let takers = left.partition_point(|(number, _)| *number <= shown.number);
            for (_, at) in &left[..takers] {
                packers[*at].frame(&shown, &mut self.interner);
            }
            left = &left[takers..];
        });
    }

    /// A failure has an excerpt of this connection, which is kept for it.
    pub(super) fn adopt(&mut self, recording: &Rc<Recording>) {
        let known = self.connections.entry(recording.id());
        known.or_insert_with(|| (0, recording.memory())).0 += 1;
    }

    fn release(&mut self, excerpt: &Excerpt) {
        self.packed -= excerpt.memory();
        for number in packed::numbers(&excerpt.texts) {
            self.interner.release(number as u32);
        }
    }

    /// Forgets an excerpt that no failure has.
    pub(super) fn drop(&mut self, excerpt: &Excerpt) {
        self.release(excerpt);
        self.interner.tidy();
    }

    /// Forgets excerpts of a failure.
    pub(super) fn forget(&mut self, excerpts: &[(Rc<Recording>, Excerpt)]) {
        for (recording, excerpt) in excerpts {
            self.release(excerpt);
            if let Some((holders, _)) = self.connections.get_mut(&recording.id()) {
                *holders -= 1;
                if *holders == 0 {
                    self.connections.remove(&recording.id());
                }
            }
        }
        self.interner.tidy();
        if self.connections.is_empty() {
            self.connections = HashMap::new();
        }
    }
}

/// The numbers of the records that are wanted.
fn select(segments: &Segments, wants: &[Want]) -> Vec<Vec<u64>> {
    let mut of_streams: HashMap<u32, Vec<(u64, u8)>> = HashMap::new();
    for stream in wants.iter().flat_map(|want| &want.streams) {
        of_streams.entry(*stream).or_default();
    }
    let mut of_connection: Vec<(u64, u8)> = Vec::new();
    for segment in segments.values() {
        let segment = segment.borrow();
        for (number, record) in (segment.first..).zip(&segment.records) {
            if record.stream == 0 {
                of_connection.push((number, record.kind));
            } else if let Some(of_stream) = of_streams.get_mut(&record.stream) {
                of_stream.push((number, record.kind));
            }
        }
    }
    let of_want = |want: &Want| {
        let streams = want.streams.iter().filter_map(|stream| of_streams.get(stream));
        let wanted = streams
            .flatten()
            .filter(|(_, kind)| !want.only_heads || matches!(*kind, HEADERS | PUSH_PROMISE | CONTINUATION));
        let mut numbers: Vec<u64> = wanted.map(|(number, _)| *number).collect();
        if !want.only_heads {
            numbers.extend(meanwhile(&of_connection, &numbers));
        }
        numbers.extend(want.before.into_iter().flat_map(|moment| last(segments, moment)));
        numbers.retain(|number| *number >= want.from);
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    wants.iter().map(of_want).collect()
}

/// Of the frames of the whole connection: what set it up, what passed between the first and the last of the streams, and what ended it.
fn meanwhile(of_connection: &[(u64, u8)], streams: &[u64]) -> Vec<u64> {
    let first = streams.iter().min().copied().unwrap_or(0);
    let goaway = of_connection.iter().rfind(|(_, kind)| *kind == GOAWAY);
    let last = streams.iter().max().copied().unwrap_or(u64::MAX);
    let last = goaway.map_or(last, |(number, _)| last.max(*number));
    let is_setup = |kind: u8| matches!(kind, SETTINGS | GOAWAY);
    let concerns = |&(number, kind): &(u64, u8)| number <= last && (number >= first || is_setup(kind));
    let latest = of_connection.iter().copied().rev().filter(concerns);
    latest.take(OF_CONNECTION).map(|(number, _)| number).collect()
}

/// The last records until a moment.
fn last(segments: &Segments, moment: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for segment in segments.values().rev() {
        let segment = segment.borrow();
        let until = |record: &Record| segment.base + u64::from(record.at) <= moment;
        let count = segment.records.partition_point(until) as u64;
        let left = OF_ANY - numbers.len();
        numbers.extend((segment.first..segment.first + count).rev().take(left));
    }
    numbers
}

impl Excerpt {
    /// What was packed; none where that is nothing.
    fn of(packer: Packer) -> Option<Self> {
        Some(Self {
            first: packer.first()?,
            next: packer.next(),
            texts: packer.texts.into_boxed_slice(),
            frames: packer.frames.into_boxed_slice(),
        })
    }

    /// Number of the record behind its last.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Itself included.
    pub(super) fn memory(&self) -> usize {
        size_of::<(Rc<Recording>, Self)>() + self.texts.len() + self.frames.len()
    }
}

impl ExcerptCopy {
    /// Number of its first record.
    pub(super) fn first(&self) -> u64 {
        self.excerpt.first
    }

    /// Number of the record behind its last.
    pub(super) fn next(&self) -> u64 {
        self.excerpt.next
    }

    /// Its frames, as [`replay`] shows them.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        packed::frames(&self.excerpt.frames, &self.excerpt.texts, &self.texts)
    }
}

#[cfg(test)]
mod tests;
