//! All that the proxy of one pod told.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use sheer_api::v1;

use super::{
    histogram::Histogram,
    resolve::Place,
    row::{Row, RowKey, When},
    time::{Clock, LONG, SHORT},
};

/// Rows that one pod has at most: more than a proxy tells apart, so only one that makes things up comes here.
const MOST_ROWS: usize = 10_000;
/// Rates by path are kept for this long.
const PATHS_KEPT_MS: i64 = 60_000;
/// Paths that one pod has at most in one report.
const MOST_PATHS: usize = 2_000;

/// All that the proxy of one pod told.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    pub(super) reporter: v1::Reporter,
    /// Streams that are open; a new one may stand before the old one is found dead.
    pub(super) streams: u32,
    pub(super) last_ms: i64,
    pub(super) overflowed: u64,
    pub(super) clock: Clock,
    /// The last message that was taken in.
    acknowledged: u64,
    rows: HashMap<RowKey, Row>,
    pub(super) paths: VecDeque<PathReport>,
}

/// Rates by path, of one report.
#[derive(Clone, Debug)]
pub(super) struct PathReport {
    pub(super) at_ms: i64,
    pub(super) paths: Vec<v1::PathDelta>,
}

impl Source {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            reporter: v1::Reporter::default(),
            streams: 0,
            last_ms: 0,
            overflowed: 0,
            clock: Clock::default(),
            acknowledged: 0,
            rows: HashMap::new(),
            paths: VecDeque::new(),
        }
    }

    /// The proxy says who it is.
    pub(super) fn introduce(&mut self, reporter: v1::Reporter, at_ms: i64, now_ms: i64) {
        if reporter.instance != self.reporter.instance {
            // A new process: it counts from 0, and nothing of it is open yet.
            self.acknowledged = 0;
            self.clock = Clock::default();
            self.rows.values_mut().for_each(|row| row.open = 0);
        }
        self.clock.begin(at_ms, now_ms);
        self.reporter = reporter;
        self.last_ms = now_ms;
    }

    /// Whether a message was not taken in before. It is from now on.
    pub(super) fn is_new(&mut self, sequence: u64) -> bool {
        let is_new = sequence > self.acknowledged;
        self.acknowledged = self.acknowledged.max(sequence);
        is_new
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Takes in what happened in one series.
    pub(super) fn add(&mut self, key: &RowKey, delta: &v1::SeriesDelta, when: When) {
        if let Some(row) = self.row(key) {
            row.add(delta, when);
        }
        self.add_arrived(key, delta, when);
    }

    /// What came from proxies, together.
    fn add_arrived(&mut self, key: &RowKey, delta: &v1::SeriesDelta, when: When) {
        if key.is_told_by_its_client()
            && let Some(latency) = &delta.latency
            && let Some(arrived) = self.row(&RowKey::arrived())
        {
            arrived.add_latency(Histogram::of(latency), when);
        }
    }

    /// The same as [`Self::add`], in long windows only: a test makes up hours.
    #[cfg(test)]
    pub(super) fn add_long(&mut self, key: &RowKey, delta: &v1::SeriesDelta, when: When) {
        if let Some(row) = self.row(key) {
            row.add_long(delta, when);
        }
        self.add_arrived(key, delta, when);
    }

    /// A row, a new one where there is room.
    pub(super) fn row(&mut self, key: &RowKey) -> Option<&mut Row> {
        let has_room = self.rows.len() < MOST_ROWS;
        match self.rows.entry(key.clone()) {
            Entry::Occupied(row) => Some(row.into_mut()),
            Entry::Vacant(place) => has_room.then(|| place.insert(Row::new(key.clone()))),
        }
    }

    /// Takes in rates by path.
    pub(super) fn add_paths(&mut self, mut paths: Vec<v1::PathDelta>, at_ms: i64) {
        while self
            .paths
            .front()
            .is_some_and(|report| report.at_ms < at_ms - PATHS_KEPT_MS)
        {
            self.paths.pop_front();
        }
        if !paths.is_empty() {
            paths.truncate(MOST_PATHS);
            self.paths.push_back(PathReport { at_ms, paths });
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Forgets what is too old, and rows of which nothing is left.
    pub(super) fn sweep(&mut self, now_ms: i64, long_cutoff: u32) {
        let long = LONG.oldest(now_ms).max(long_cutoff);
        self.rows.retain(|_, row| {
            row.short.forget_before(SHORT.oldest(now_ms));
            row.long.forget_before(long);
            !row.short.is_empty() || !row.long.is_empty() || row.open > 0
        });
        self.rows.shrink_to(self.rows.len() * 2);
        while self
            .paths
            .front()
            .is_some_and(|report| report.at_ms < now_ms - PATHS_KEPT_MS)
        {
            self.paths.pop_front();
        }
    }

    /// Whether nothing is known of the pod any more.
    pub(super) fn is_over(&self) -> bool {
        self.streams == 0 && self.rows.is_empty()
    }

    /// The oldest long window of which something is known.
    pub(super) fn oldest_long(&self) -> Option<u32> {
        self.rows.values().filter_map(|row| row.long.oldest()).min()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.values().map(|row| row.bytes() + ROW_OVERHEAD);
        rows.sum::<usize>() + size_of::<Self>()
    }
}

/// A row's key in the map, its texts, and the map's own room.
const ROW_OVERHEAD: usize = size_of::<RowKey>() + 400;
