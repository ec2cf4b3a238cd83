//! Copies of recordings, which may leave the worker: sight decodes and shows them.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use super::{
    callers::Callers,
    clock::Clock,
    excerpt::ExcerptCopy,
    exchange::{Exchange, LegId},
    failure::Facts,
    flow::Standing,
    log::{Segment, Shared},
    opinion::List,
    recording::{About, Ending, Peer},
    replay::{self, Shown},
};
use crate::{sys::TcpInfo, tcp::PassedTls};

/// Some records in a row, with the state of the lens before them.
pub(crate) type SegmentCopy = Arc<Segment>;

/// What sight wants to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Of the other end; any where none.
    pub(crate) peer: Option<Peer>,
    /// One connection; all where 0.
    pub(crate) connection: u64,
    /// Also those that have ended.
    pub(crate) ended: bool,
    /// With records: of each connection those from this number on, of those that are not named all.
    pub(crate) records: Option<Vec<(u64, u64)>>,
    /// With what is kept of this stream beside, where its request was shown.
    pub(crate) leg: Option<LegId>,
}

impl Query {
    /// From which record on, if at all.
    pub(super) fn after(&self, connection: u64) -> Option<u64> {
        let named = self.records.as_ref()?.iter().find(|(id, _)| *id == connection);
        Some(named.map_or(0, |(_, next)| *next))
    }
}

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct RecordingCopy {
    pub(crate) id: u64,
    pub(crate) about: About,
    /// On the recorder's clock.
    pub(crate) opened: u64,
    pub(crate) active: u64,
    /// Read and written.
    pub(crate) bytes: [u64; 2],
    pub(crate) frames: [u64; 2],
    /// Number of the next record.
    pub(crate) next: u64,
    pub(crate) streams: u32,
    pub(crate) streams_total: u64,
    pub(crate) standing: Option<Box<Standing>>,
    pub(crate) tcp: Option<TcpInfo>,
    pub(crate) ending: Option<Ending>,
    /// The server name of TLS that passes through, empty where it has none; `None` where no ClientHello has passed.
    pub(crate) hello: Option<Box<str>>,
    /// What its handshake said in the clear.
    pub(crate) passed_tls: Option<Box<PassedTls>>,
    /// Of a connection to the application.
    pub(crate) callers: Callers,
    pub(crate) unrecorded: &'static str,
    pub(crate) segments: Vec<SegmentCopy>,
    /// Of a failure, and of a request that was shown: what is left of what passed before those segments, oldest first.
    pub(crate) excerpts: Vec<ExcerptCopy>,
}

/// A failure with what was recorded, or a request that was shown.
#[derive(Clone, Debug)]
pub(crate) struct FailureCopy {
    pub(crate) facts: Facts,
    pub(crate) recordings: Vec<RecordingCopy>,
}

/// What one half of a worker has recorded.
#[derive(Clone, Debug)]
pub(crate) struct RecorderCopy {
    pub(crate) is_outbound: bool,
    pub(crate) clock: Clock,
    pub(crate) recordings: Vec<RecordingCopy>,
    pub(crate) failures: Vec<FailureCopy>,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) memory: usize,
    pub(crate) limit: usize,
    pub(crate) live: usize,
    pub(crate) failures_total: u64,
    pub(crate) failures_kept: usize,
    pub(crate) compared: u64,
    pub(crate) disagreements: u64,
}

impl RecorderCopy {
    /// A connection by its number.
    pub(crate) fn find(&self, connection: u64) -> Option<&RecordingCopy> {
        self.recordings.iter().find(|recording| recording.id == connection)
    }
}

impl RecordingCopy {
    /// Everything that is kept, decoded.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let accepted = self.about.accepted;
        let first = self.segments.first().map_or(u64::MAX, |segment| segment.first);
        let excerpts = self.excerpts.iter().flat_map(ExcerptCopy::shown);
        let excerpts = excerpts.filter(|shown| shown.number < first);
        let segments = self
            .segments
            .iter()
            .flat_map(|segment| replay::segment(segment, accepted));
        excerpts.chain(segments).collect()
    }

    /// Takes in what else is kept of the connection.
    pub(super) fn add(&mut self, kept: Self) {
        self.excerpts = kept.excerpts;
        let is_new = |segment: &SegmentCopy| self.segments.iter().all(|known| known.first != segment.first);
        let more: Vec<_> = kept.segments.into_iter().filter(is_new).collect();
        self.segments.extend(more);
        self.segments.sort_by_key(|segment| segment.first);
        self.unrecorded = kept.unrecorded;
    }

    /// Records that are forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        match self.excerpts.first() {
            Some(excerpt) => excerpt.first(),
            None => self.segments.first().map_or(self.next, |segment| segment.first),
        }
    }

    /// What is kept of one stream, and of the connection as a whole.
    pub(crate) fn stream(&self, stream: u32) -> Vec<Shown> {
        self.shown()
            .into_iter()
            .filter(|shown| shown.record.stream == stream)
            .collect()
    }
}

impl LegId {
    /// Whether there is such a leg.
    pub(crate) fn is_known(self) -> bool {
        self.connection != 0
    }
}

/// Segments that have been copied: what many hold is copied once.
#[derive(Default)]
pub(super) struct Copied(HashMap<*const (), SegmentCopy>);

impl Copied {
    /// Those that have a record with this number or a later one.
    pub(super) fn segments(&mut self, all: &[Shared], after: u64) -> Vec<SegmentCopy> {
        let is_wanted = |segment: &&Shared| {
            let segment = segment.borrow();
            !segment.records.is_empty() && segment.first + segment.records.len() as u64 > after
        };
        let copy = |segment: &Shared| {
            let copied = self.0.entry(Rc::as_ptr(segment).cast());
            Arc::clone(copied.or_insert_with(|| Arc::new(segment.borrow().clone())))
        };
        all.iter().filter(is_wanted).map(copy).collect()
    }
}

/// The fields of the block whose last frame has this number.
pub(super) fn list_of(all: &[Shared], accepted: bool, number: u64) -> Option<List> {
    let holds = |segment: &Segment| (segment.first..segment.first + segment.records.len() as u64).contains(&number);
    let segment = all
        .iter()
        .map(|segment| segment.borrow())
        .find(|segment| holds(segment))?;
    let mut shown = replay::segment(&segment, accepted).into_iter();
    let block = shown.find(|shown| shown.number == number)?.block?;
    if block.error.is_some() {
        return None;
    }
    Some(
        block
            .fields
            .into_iter()
            .map(|field| (field.name, field.value))
            .collect(),
    )
}
