//! Handles to one series each: shared atomics. Cheap to clone, never locked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use super::{
    family::Bounds,
    native::{self, Native},
};

/// A count that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// A number that goes up and down. The shards' values are summed, so only one shard should [`set`](Self::set) a series.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }

    pub(super) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// Counts of durations by upper bound.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Cells>);

#[derive(Debug)]
struct Cells {
    bounds: &'static Bounds,
    /// One more than there are bounds: the last has none. Not cumulative.
    buckets: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
    /// Of each bucket the last that had a trace. Locked only for those, and to show them.
    exemplars: Mutex<Option<Box<[Option<Exemplar>]>>>,
    native: Native,
}

/// One that was counted, and the trace that tells about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// W3C trace id.
    pub trace: TraceId,
    /// What was counted, in microseconds.
    pub micros: u64,
    /// When, in seconds since the Unix epoch.
    pub at: f64,
}

/// Id of a trace (W3C Trace Context).
pub type TraceId = [u8; 16];

impl Histogram {
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        let buckets = (0..=bounds.micros.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Cells {
            bounds,
            buckets,
            sum_micros: AtomicU64::new(0),
            exemplars: Mutex::default(),
            native: Native::default(),
        }))
    }

    /// Counts one duration, and keeps the trace that tells about it, where there is one.
    pub fn record_traced(&self, duration: Duration, trace: Option<TraceId>) {
        self.record(duration);
        if let Some(trace) = trace {
            self.keep(duration, trace);
        }
    }

    fn keep(&self, duration: Duration, trace: TraceId) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.0.bounds.micros.partition_point(|&bound| bound < micros);
        let mut exemplars = self.0.exemplars.lock();
        let exemplars = exemplars.get_or_insert_with(|| vec![None; self.0.buckets.len()].into());
        exemplars[bucket] = Some(Exemplar {
            trace,
            micros,
            at: now(),
        });
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        self.record_units(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one that is no time, as a size.
    pub fn record_units(&self, units: u64) {
        let bucket = self.0.bounds.micros.partition_point(|&bound| bound < units);
        self.0.buckets[bucket].fetch_add(1, Relaxed);
        self.0.sum_micros.fetch_add(units, Relaxed);
        self.0.native.record(units, self.0.bounds.unit_micros);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    pub(super) fn bounds(&self) -> &'static Bounds {
        self.0.bounds
    }

    pub(super) fn add_to(&self, buckets: &mut [u64], sum_micros: &mut u64) {
        for (into, from) in buckets.iter_mut().zip(&self.0.buckets) {
            *into += from.load(Relaxed);
        }
        *sum_micros = sum_micros.wrapping_add(self.0.sum_micros.load(Relaxed));
    }

    /// Adds what is in exponential buckets. From the first time on they are counted too.
    pub(super) fn add_native_to(&self, reading: &mut native::Reading) {
        let bounds = self.0.bounds;
        self.0.native.add_to(reading, bounds.unit_micros, || {
            let (mut counts, mut sum) = (vec![0; self.0.buckets.len()], 0);
            self.add_to(&mut counts, &mut sum);
            let last = bounds.micros.last().copied().unwrap_or(0);
            let ends = bounds.micros.iter().copied().chain([last]);
            (ends.zip(counts).collect(), sum)
        });
    }

    /// The last of each bucket that had a trace; the newer one stays where there are several histograms.
    pub(super) fn add_exemplars_to(&self, all: &mut Vec<Option<Exemplar>>) {
        let exemplars = self.0.exemplars.lock();
        let Some(exemplars) = &*exemplars else { return };
        all.resize(self.0.buckets.len(), None);
        for (into, from) in all.iter_mut().zip(exemplars) {
            let newer = from.is_some_and(|from| into.is_none_or(|into| from.at > into.at));
            if newer {
                *into = *from;
            }
        }
    }

    pub(super) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

#[expect(clippy::disallowed_methods, reason = "exemplars are found by the wall clock")]
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::LATENCY_MS;

    /// A bound belongs to its own bucket ("le" is less or equal), also at its first microsecond beyond.
    #[test]
    fn histogram_bounds_are_inclusive() {
        let histogram = Histogram::new(&LATENCY_MS);
        histogram.record(Duration::from_millis(1));
        histogram.record(Duration::from_micros(1_001));
        histogram.record(Duration::from_secs(3_600));
        let mut buckets = vec![0; LATENCY_MS.micros.len() + 1];
        let mut sum = 0;
        histogram.add_to(&mut buckets, &mut sum);
        assert_eq!((buckets[0], buckets[1], buckets[LATENCY_MS.micros.len()]), (1, 1, 1));
        assert_eq!(histogram.count(), 3);
        assert_eq!(sum, 1_000 + 1_001 + 3_600_000_000);
    }
}
