//! All windows, and the bound on their memory.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    resolve::Place,
    source::Source,
    time::{LONG, SHORT, Span, now_ms},
};
use crate::store::Snapshot;

/// Bytes that all windows together may hold. Past it the oldest windows of 10 s go.
pub(crate) const LIMIT: u64 = 432 * 1024 * 1024;
/// How often old windows are forgotten.
const SWEEP: Duration = Duration::from_secs(10);
/// Windows of 10 s that go at once where memory does not suffice: ten minutes.
const STEP: u32 = 60;

/// By namespace and name of the pod.
type Sources = HashMap<(String, String), Arc<Mutex<Source>>>;

/// All windows. Each pod's have a lock of their own, held for microseconds: a question over all of them holds up no report.
#[derive(Debug)]
pub(crate) struct Windows {
    sources: RwLock<Sources>,
    limit: u64,
    bytes: AtomicU64,
    started_ms: AtomicI64,
    /// Long windows before this were given up for lack of memory.
    long_cutoff: AtomicU32,
    /// How many look at rates by path.
    path_watchers: watch::Sender<usize>,
    /// Since when somebody does.
    watched_since_ms: AtomicI64,
    /// What is taken for the time of day, where a test says so.
    #[cfg(test)]
    pub(super) stopped_ms: AtomicI64,
}

/// Somebody looks at rates by path, until this is dropped.
pub(super) struct PathWatcher(Arc<Windows>);

impl Windows {
    /// Empty windows, and the task that keeps them so small.
    pub(crate) fn start() -> Arc<Self> {
        let windows = Self::new(LIMIT, now_ms());
        let weak = Arc::downgrade(&windows);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            loop {
                ticks.tick().await;
                let Some(windows) = weak.upgrade() else { return };
                windows.sweep(now_ms());
            }
        });
        windows
    }

    pub(super) fn new(limit: u64, started_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            sources: RwLock::default(),
            limit,
            bytes: AtomicU64::new(0),
            started_ms: AtomicI64::new(started_ms),
            long_cutoff: AtomicU32::new(0),
            path_watchers: watch::Sender::new(0),
            watched_since_ms: AtomicI64::new(0),
            #[cfg(test)]
            stopped_ms: AtomicI64::new(0),
        })
    }

    /// All of a pod, where nothing is known of it yet from its beginning.
    pub(super) fn source(&self, snapshot: &Snapshot, namespace: &str, pod: &str) -> Arc<Mutex<Source>> {
        let key = (namespace.to_owned(), pod.to_owned());
        if let Some(source) = self.sources.read().get(&key) {
            return Arc::clone(source);
        }
        let place = Place::of(snapshot, namespace, pod);
        let mut sources = self.sources.write();
        let source = sources
            .entry(key)
            .or_insert_with(|| Arc::new(Mutex::new(Source::new(place))));
        Arc::clone(source)
    }

    /// Every pod's.
    pub(super) fn sources(&self) -> Vec<Arc<Mutex<Source>>> {
        self.sources.read().values().cloned().collect()
    }

    /// From when on something is known: in short windows, and in long ones.
    pub(super) fn known_from_ms(&self) -> [i64; 2] {
        let started = self.started_ms.load(Relaxed);
        let cutoff = i64::from(self.long_cutoff.load(Relaxed)) * LONG.ms;
        [started, started.max(cutoff)]
    }

    /// The windows of the last `window_ms`, or of `default_ms` where it is 0.
    pub(super) fn span(&self, window_ms: u64, default_ms: i64) -> Span {
        let now = now_ms();
        #[cfg(test)]
        let now = match self.stopped_ms.load(Relaxed) {
            0 => now,
            stopped => stopped,
        };
        Span::until(now, window_ms, default_ms, self.known_from_ms())
    }

    /// Bytes of memory, by the last sweep.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Says whether anybody looks at rates by path.
    pub(super) fn path_watchers(&self) -> watch::Receiver<usize> {
        self.path_watchers.subscribe()
    }

    /// Since when somebody looks at rates by path.
    pub(super) fn watched_since_ms(&self) -> i64 {
        self.watched_since_ms.load(Relaxed)
    }

    #[cfg(test)]
    pub(super) fn watch_since_ms(&self, at_ms: i64) {
        self.watched_since_ms.store(at_ms, Relaxed);
    }

    /// Somebody looks.
    pub(super) fn watch_paths(self: &Arc<Self>) -> PathWatcher {
        self.path_watchers.send_modify(|count| {
            if *count == 0 {
                self.watched_since_ms.store(now_ms(), Relaxed);
            }
            *count += 1;
        });
        PathWatcher(Arc::clone(self))
    }

    /// Forgets what is too old, pods that are over, and as much more as the bound asks for.
    pub(super) fn sweep(&self, now_ms: i64) {
        const { assert!(SHORT.kept < LONG.kept * 10, "long windows reach further back") };
        loop {
            let cutoff = self.long_cutoff.load(Relaxed);
            let (mut bytes, mut oldest) = (0, None::<u32>);
            for source in self.sources() {
                let mut source = source.lock();
                source.sweep(now_ms, cutoff);
                bytes += source.bytes() as u64;
                oldest = oldest.into_iter().chain(source.oldest_long()).min();
            }
            self.bytes.store(bytes, Relaxed);
            match oldest {
                Some(oldest) if bytes > self.limit => self.long_cutoff.store(oldest.max(cutoff) + STEP, Relaxed),
                _ => break,
            }
        }
        // Under the map's lock nobody can take hold of one that is about to go.
        self.sources
            .write()
            .retain(|_, source| Arc::strong_count(source) > 1 || !source.lock().is_over());
    }
}

impl Drop for PathWatcher {
    fn drop(&mut self) {
        self.0.path_watchers.send_modify(|count| *count -= 1);
    }
}
