//! What changed since the last report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use sheer_api::v1;

use super::{
    Table,
    cells::{Cells, Change, Seen},
    key::Key,
};

/// A series that nobody counts in and that did not move for this long is forgotten.
const RETAIN: Duration = Duration::from_secs(60);

/// Reads all cells and remembers what it has told.
#[derive(Debug)]
pub(super) struct Collector {
    table: Arc<Table>,
    series: AHashMap<Arc<Key>, Tracked>,
    by_id: AHashMap<u32, Arc<Key>>,
    last_id: u32,
}

/// One series, over all workers.
#[derive(Debug)]
struct Tracked {
    id: u32,
    cells: Vec<(Arc<Cells>, Seen)>,
    moved: Instant,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) series: Vec<v1::SeriesDelta>,
    pub(super) paths: Vec<v1::PathDelta>,
}

impl Collected {
    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.paths.is_empty()
    }
}

impl Collector {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Self {
            table,
            series: AHashMap::new(),
            by_id: AHashMap::new(),
            last_id: 0,
        }
    }

    /// What happened since this was last asked.
    pub(super) fn collect(&mut self, now: Instant) -> Collected {
        self.take_in(now);
        let mut changed = Vec::new();
        for tracked in self.series.values_mut() {
            let mut change = Change::default();
            for (cells, seen) in &mut tracked.cells {
                seen.advance(cells, &mut change);
            }
            if let Some(delta) = change.message(tracked.id) {
                tracked.moved = now;
                changed.push(delta);
            }
        }
        self.forget(now, RETAIN);
        let paths = self.table.take_paths().into_iter();
        Collected {
            series: changed,
            paths: paths.flat_map(super::paths::Paths::messages).collect(),
        }
    }

    /// Where nobody takes reports: forgets what ended long ago, though it was not told. Nothing may grow while the control plane is away.
    pub(super) fn give_up(&mut self, now: Instant, after: Duration) {
        self.take_in(now);
        for tracked in self.series.values_mut() {
            if tracked.cells.iter().any(|(cells, _)| Arc::strong_count(cells) > 2) {
                tracked.moved = now;
            }
        }
        self.forget(now, after);
        drop(self.table.take_paths());
    }

    /// The key of a series that was told of, as it goes over the wire.
    pub(super) fn key(&self, id: u32) -> Option<v1::SeriesKey> {
        let key = self.by_id.get(&id)?;
        let host = self.host(key);
        Some(key.message(id, host))
    }

    /// Whether a series has got a name for its peer.
    pub(super) fn is_named(&self, id: u32) -> bool {
        self.by_id.get(&id).is_some_and(|key| !self.host(key).is_empty())
    }

    fn host(&self, key: &Arc<Key>) -> &str {
        let cells = self.series.get(key).map_or(&[][..], |tracked| &tracked.cells);
        let hosts = cells.iter().map(|(cells, _)| cells.host());
        hosts.into_iter().find(|host| !host.is_empty()).unwrap_or_default()
    }

    fn take_in(&mut self, now: Instant) {
        for cells in self.table.take_new() {
            let tracked = self.series.entry(Arc::clone(cells.key())).or_insert_with(|| {
                self.last_id += 1;
                self.by_id.insert(self.last_id, Arc::clone(cells.key()));
                Tracked {
                    id: self.last_id,
                    cells: Vec::new(),
                    moved: now,
                }
            });
            tracked.cells.push((cells, Seen::default()));
        }
    }

    fn forget(&mut self, now: Instant, after: Duration) {
        self.series.retain(|_, tracked| {
            if now.duration_since(tracked.moved) < after {
                return true;
            }
            tracked.cells.retain(|(cells, _)| !self.table.forget(cells));
            if tracked.cells.is_empty() {
                self.by_id.remove(&tracked.id);
            }
            !tracked.cells.is_empty()
        });
    }
}
