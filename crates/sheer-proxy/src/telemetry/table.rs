//! All series of a proxy, and the bound on them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use ahash::AHashMap;
use parking_lot::Mutex;

use super::{
    cells::{Cells, Series},
    key::Key,
    paths::{PathNote, PathPeer, Paths},
};

/// Series that one worker has at most, with addresses of peers. At 1.5 KiB each that is 3 MiB.
pub(super) const MOST_SERIES: usize = 2_000;
/// Beyond those: series of peers without their addresses. What does not fit even there is counted in one series a direction and scope.
pub(super) const MOST_WITHOUT_ADDRESS: usize = 200;

/// All series of a proxy.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Mutex<Entries>,
    paths: Mutex<Vec<Arc<Mutex<Paths>>>>,
    paths_wanted: AtomicBool,
    overflowed: AtomicU64,
}

#[derive(Debug, Default)]
struct Entries {
    /// By worker.
    workers: Vec<AHashMap<Arc<Key>, Arc<Cells>>>,
    /// Not yet known to the collector.
    new: Vec<Arc<Cells>>,
}

/// Makes the series of one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    table: Arc<Table>,
    worker: usize,
    paths: Arc<Mutex<Paths>>,
}

impl Table {
    /// For a new worker.
    pub(crate) fn recorder(self: &Arc<Self>) -> Recorder {
        let paths = Arc::<Mutex<Paths>>::default();
        self.paths.lock().push(Arc::clone(&paths));
        let mut entries = self.entries.lock();
        entries.workers.push(AHashMap::new());
        Recorder {
            table: Arc::clone(self),
            worker: entries.workers.len() - 1,
            paths,
        }
    }

    /// Cells made since this was last asked.
    pub(super) fn take_new(&self) -> Vec<Arc<Cells>> {
        std::mem::take(&mut self.entries.lock().new)
    }

    /// Forgets cells that nobody counts in. `false` where somebody began to again.
    pub(super) fn forget(&self, cells: &Arc<Cells>) -> bool {
        let mut entries = self.entries.lock();
        // Held by this table and by the collector. Nobody can take another handle meanwhile.
        if Arc::strong_count(cells) > 2 {
            return false;
        }
        for worker in &mut entries.workers {
            worker.retain(|_, known| !Arc::ptr_eq(known, cells));
        }
        true
    }

    /// Times that a series found no place of its own.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// Whether somebody looks at rates by path.
    pub(super) fn want_paths(&self, wanted: bool) {
        self.paths_wanted.store(wanted, Relaxed);
    }

    /// What was counted by path since this was last asked.
    pub(super) fn take_paths(&self) -> Vec<Paths> {
        let workers = self.paths.lock().clone();
        workers.iter().map(|paths| std::mem::take(&mut *paths.lock())).collect()
    }

    fn cells(&self, worker: usize, key: Key) -> Arc<Cells> {
        let mut entries = self.entries.lock();
        let entries = &mut *entries;
        let known = &mut entries.workers[worker];
        if let Some(cells) = known.get(&key) {
            return Arc::clone(cells);
        }
        let mut key = key;
        if !key.overflow && known.len() >= MOST_SERIES {
            self.overflowed.fetch_add(1, Relaxed);
            key = key.without_address();
            if !known.contains_key(&key) && known.len() >= MOST_SERIES + MOST_WITHOUT_ADDRESS {
                key = key.overflowing();
            }
            if let Some(cells) = known.get(&key) {
                return Arc::clone(cells);
            }
        }
        let key = Arc::new(key);
        let cells = Arc::new(Cells::new(Arc::clone(&key)));
        known.insert(key, Arc::clone(&cells));
        entries.new.push(Arc::clone(&cells));
        cells
    }
}

impl Recorder {
    /// The series of a key. Costs a look-up under a lock: to be held, not to be asked for with every request.
    pub fn series(&self, key: Key) -> Series {
        Series::new(self.cells(key))
    }

    /// The same, where only connections count.
    pub fn cells(&self, key: Key) -> Arc<Cells> {
        self.table.cells(self.worker, key)
    }

    /// What notes the path of a request, while somebody looks at paths. One atomic load while nobody does.
    pub(crate) fn path(&self, about: impl FnOnce() -> PathPeer, method: &str, path: &str) -> Option<Box<PathNote>> {
        let wanted = self.table.paths_wanted.load(Relaxed);
        wanted.then(|| Box::new(PathNote::new(Arc::clone(&self.paths), about(), method, path)))
    }
}
