//! Shards and the series that they hold.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use parking_lot::Mutex;

use super::{
    cell::{Counter, Gauge, Histogram},
    family::{Family, Kind},
    labels::LabelSet,
};

/// All shards. One a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Mutex<Vec<Shard>>,
    retain_idle: Duration,
    /// Where what is not of a worker is counted.
    control: Shard,
}

/// The series of one thread. Cheap to clone; clones are the same shard.
#[derive(Clone, Debug, Default)]
pub struct Shard(Arc<Mutex<AHashMap<Key, Series>>>);

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) family: &'static Family,
    pub(super) labels: LabelSet,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.family.name == other.family.name && self.labels == other.labels
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.family.name.hash(state);
        self.labels.hash(state);
    }
}

#[derive(Debug)]
struct Series {
    cell: Cell,
    /// Reading of the cell when it was last seen to move or in use.
    seen: u64,
    since: Instant,
}

#[derive(Clone, Debug)]
pub(super) enum Cell {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Cell {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Counter::default()),
            Kind::Gauge => Self::Gauge(Gauge::default()),
            Kind::Histogram(bounds) => Self::Histogram(Histogram::new(bounds)),
        }
    }

    /// Changes whenever the cell does (but for a gauge that moved and came back).
    fn reading(&self) -> u64 {
        match self {
            Self::Counter(cell) => cell.value(),
            Self::Gauge(cell) => cell.value().cast_unsigned(),
            Self::Histogram(cell) => cell.count(),
        }
    }

    /// Whether anybody but the shard holds a handle.
    fn held(&self) -> bool {
        let handles = match self {
            Self::Counter(cell) => cell.handles(),
            Self::Gauge(cell) => cell.handles(),
            Self::Histogram(cell) => cell.handles(),
        };
        handles > 1
    }
}

impl Registry {
    /// A registry that forgets a series once nobody held a handle to it and it did not move for `retain_idle`.
    pub fn new(retain_idle: Duration) -> Self {
        let control = Shard::default();
        Self(Arc::new(Inner {
            shards: Mutex::new(vec![control.clone()]),
            retain_idle,
            control,
        }))
    }

    /// A new shard, for a new worker.
    pub fn shard(&self) -> Shard {
        let shard = Shard::default();
        self.0.shards.lock().push(shard.clone());
        shard
    }

    /// The shard of everything that is not a data-path worker.
    pub fn control(&self) -> &Shard {
        &self.0.control
    }

    /// Forgets idle series. Called at every scrape, and by the control runtime where nobody scrapes.
    pub fn sweep(&self, now: Instant) {
        for shard in self.0.shards.lock().iter() {
            shard.sweep(now, self.0.retain_idle);
        }
    }

    /// What the counters of some families come to, by their labels.
    pub fn counted(&self, families: &[&'static Family]) -> Vec<(LabelSet, u64)> {
        let series = self.collect().into_iter();
        series
            .filter_map(|(key, cell)| match cell {
                Cell::Counter(counter) if families.iter().any(|family| family.name == key.family.name) => {
                    Some((key.labels, counter.value()))
                }
                _ => None,
            })
            .collect()
    }

    /// Every series of every shard.
    pub(super) fn collect(&self) -> Vec<(Key, Cell)> {
        let shards = self.0.shards.lock().clone();
        let mut series = Vec::new();
        for shard in shards {
            series.extend(
                shard
                    .0
                    .lock()
                    .iter()
                    .map(|(key, series)| (key.clone(), series.cell.clone())),
            );
        }
        series
    }
}

impl Shard {
    /// The counter of a family and labels. A handle of the wrong kind of family counts nowhere.
    pub fn counter(&self, family: &'static Family, labels: &LabelSet) -> Counter {
        match self.cell(family, labels) {
            Cell::Counter(counter) => counter,
            cell => wrong_kind(family, &cell),
        }
    }

    /// The gauge of a family and labels.
    pub fn gauge(&self, family: &'static Family, labels: &LabelSet) -> Gauge {
        match self.cell(family, labels) {
            Cell::Gauge(gauge) => gauge,
            cell => wrong_kind(family, &cell),
        }
    }

    /// The histogram of a family and labels.
    ///
    /// # Panics
    /// Where the family is not a histogram: a mistake of the caller that its first test finds.
    pub fn histogram(&self, family: &'static Family, labels: &LabelSet) -> Histogram {
        match self.cell(family, labels) {
            Cell::Histogram(histogram) => histogram,
            Cell::Counter(_) | Cell::Gauge(_) => panic!("{} is not a histogram", family.name),
        }
    }

    fn cell(&self, family: &'static Family, labels: &LabelSet) -> Cell {
        let key = Key {
            family,
            labels: labels.clone(),
        };
        let mut series = self.0.lock();
        let series = series.entry(key).or_insert_with(|| Series {
            cell: Cell::new(family.kind),
            seen: 0,
            since: Instant::now(),
        });
        series.cell.clone()
    }

    fn sweep(&self, now: Instant, retain_idle: Duration) {
        self.0.lock().retain(|_, series| {
            let reading = series.cell.reading();
            if series.cell.held() || reading != series.seen {
                series.seen = reading;
                series.since = now;
                return true;
            }
            now.duration_since(series.since) < retain_idle
        });
    }
}

fn wrong_kind<T: Default>(family: &Family, cell: &Cell) -> T {
    debug_assert!(false, "{} is a {cell:?}", family.name);
    T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{REQUEST_TOTAL, TCP_OPEN_CONNECTIONS};

    const RETAIN: Duration = Duration::from_secs(600);

    #[test]
    fn same_labels_are_the_same_series() {
        let shard = Registry::new(RETAIN).shard();
        let labels = LabelSet::builder().label("a", "1").build();
        shard.counter(&REQUEST_TOTAL, &labels).inc();
        assert_eq!(shard.counter(&REQUEST_TOTAL, &labels).value(), 1);
        assert_eq!(shard.counter(&REQUEST_TOTAL, &LabelSet::default()).value(), 0);
    }

    #[test]
    fn idle_series_are_forgotten_and_held_ones_are_not() {
        let registry = Registry::new(RETAIN);
        let shard = registry.shard();
        let held = shard.gauge(&TCP_OPEN_CONNECTIONS, &LabelSet::default());
        shard.counter(&REQUEST_TOTAL, &LabelSet::default()).inc();
        let start = Instant::now();
        registry.sweep(start);
        registry.sweep(start + RETAIN / 2);
        assert_eq!(registry.collect().len(), 2);
        registry.sweep(start + RETAIN);
        assert_eq!(registry.collect().len(), 1);
        drop(held);
        registry.sweep(start + RETAIN * 2);
        assert_eq!(registry.collect().len(), 0);
    }
}
