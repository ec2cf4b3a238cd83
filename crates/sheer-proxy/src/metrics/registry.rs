//! Shards and the series that they hold.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use parking_lot::Mutex;

use super::{
    cell::{Counter, Gauge, Histogram},
    family::{self, Family, Kind},
    labels::LabelSet,
};
use crate::telemetry::{Recorder, Table};

/// All shards. One a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

struct Inner {
    shards: Mutex<Vec<Shard>>,
    retain_idle: Duration,
    /// Where what is not of a worker is counted.
    control: Shard,
    /// What the control plane is told; none where it is told nothing.
    telemetry: Option<Arc<Table>>,
    /// What is read when somebody looks.
    read: Mutex<Vec<Reader>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("retain_idle", &self.retain_idle)
            .finish_non_exhaustive()
    }
}

/// What is asked when somebody looks.
type Reader = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// A gauge that is read when somebody looks, as an age.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Its family.
    pub family: &'static Family,
    /// Its labels.
    pub labels: LabelSet,
    /// Its value.
    pub value: i64,
}

/// Series of one family that one shard has at most. Some labels come from whoever asks (addresses, hosts): what is past this is counted together,
/// under `overflow="true"`, and how often that was is counted too.
pub const MOST_SERIES_OF_FAMILY: usize = 2_000;

/// The series of one thread. Cheap to clone; clones are the same shard.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    all: Arc<Mutex<All>>,
    recorder: Option<Recorder>,
}

#[derive(Debug, Default)]
struct All {
    series: AHashMap<Key, Series>,
    /// How many there are of each family.
    of_family: AHashMap<&'static str, usize>,
}

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
        Self::with_telemetry(retain_idle, None)
    }

    /// The same, whose shards also make what the control plane is told.
    pub(crate) fn with_telemetry(retain_idle: Duration, telemetry: Option<Arc<Table>>) -> Self {
        let control = Shard::default();
        Self(Arc::new(Inner {
            shards: Mutex::new(vec![control.clone()]),
            retain_idle,
            control,
            telemetry,
            read: Mutex::default(),
        }))
    }

    /// Has gauges read whenever somebody looks.
    pub fn read(&self, read: impl Fn() -> Vec<Reading> + Send + Sync + 'static) {
        self.0.read.lock().push(Box::new(read));
    }

    /// What is read now.
    pub(super) fn readings(&self) -> Vec<Reading> {
        self.0.read.lock().iter().flat_map(|read| read()).collect()
    }

    /// A new shard, for a new worker.
    pub fn shard(&self) -> Shard {
        let shard = Shard {
            all: Arc::default(),
            recorder: self.0.telemetry.as_ref().map(Table::recorder),
        };
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
            let all = shard.all.lock();
            series.extend(
                all.series
                    .iter()
                    .map(|(key, series)| (key.clone(), series.cell.clone())),
            );
        }
        series
    }
}

impl Shard {
    /// Makes what the control plane is told; none where it is told nothing.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

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
        let all = &mut *self.all.lock();
        if let Some(series) = all.series.get(&key) {
            return series.cell.clone();
        }
        let is_full = all
            .of_family
            .get(family.name)
            .is_some_and(|&count| count >= MOST_SERIES_OF_FAMILY);
        if !is_full {
            return all.insert(key);
        }
        let labels = by_family(family.name);
        let (family, overflow) = (
            &family::SHEER_METRICS_OVERFLOW_TOTAL,
            Key {
                labels: overflow_labels(),
                ..key
            },
        );
        if let Cell::Counter(counter) = all.cell(Key { family, labels }) {
            counter.inc();
        }
        all.cell(overflow)
    }

    fn sweep(&self, now: Instant, retain_idle: Duration) {
        let all = &mut *self.all.lock();
        all.series.retain(|key, series| {
            let reading = series.cell.reading();
            if series.cell.held() || reading != series.seen {
                series.seen = reading;
                series.since = now;
                return true;
            }
            let stays = now.duration_since(series.since) < retain_idle;
            if !stays && let Some(count) = all.of_family.get_mut(key.family.name) {
                *count -= 1;
            }
            stays
        });
    }
}

impl All {
    fn cell(&mut self, key: Key) -> Cell {
        match self.series.get(&key) {
            Some(series) => series.cell.clone(),
            None => self.insert(key),
        }
    }

    fn insert(&mut self, key: Key) -> Cell {
        *self.of_family.entry(key.family.name).or_default() += 1;
        let cell = Cell::new(key.family.kind);
        let series = Series {
            cell: cell.clone(),
            seen: 0,
            since: Instant::now(),
        };
        self.series.insert(key, series);
        cell
    }
}

/// Labels of the count of what overflowed.
pub(super) fn by_family(name: &str) -> LabelSet {
    LabelSet::builder().label("family", name).build()
}

fn overflow_labels() -> LabelSet {
    LabelSet::builder().label("overflow", "true").build()
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

    #[test]
    fn ten_thousand_hosts_are_a_bounded_number_of_series() {
        let registry = Registry::new(RETAIN);
        let shard = registry.shard();
        let labels = |host: usize| LabelSet::builder().label("hostname", &format!("host-{host}")).build();
        for host in 0..10_000 {
            shard.counter(&REQUEST_TOTAL, &labels(host)).inc();
        }
        let series = registry.collect();
        let of = |family: &Family| {
            series
                .iter()
                .filter(|(key, _)| key.family.name == family.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&REQUEST_TOTAL).len(), MOST_SERIES_OF_FAMILY + 1);
        let value = |family: &'static Family, labels: &LabelSet| shard.counter(family, labels).value();
        assert_eq!(value(&REQUEST_TOTAL, &overflow_labels()), 8_000);
        let of_requests = by_family("request_total");
        assert_eq!(value(&family::SHEER_METRICS_OVERFLOW_TOTAL, &of_requests), 8_000);
        // Nobody looks any more: a handle keeps its series.
        drop(series);
        // Those that were there before go on as they were, and once they are gone there is room again.
        shard.counter(&REQUEST_TOTAL, &labels(7)).inc();
        assert_eq!(value(&REQUEST_TOTAL, &labels(7)), 2);
        let start = Instant::now();
        registry.sweep(start);
        registry.sweep(start + RETAIN);
        shard.counter(&REQUEST_TOTAL, &labels(9_999)).inc();
        assert_eq!(value(&REQUEST_TOTAL, &labels(9_999)), 1);
    }
}
