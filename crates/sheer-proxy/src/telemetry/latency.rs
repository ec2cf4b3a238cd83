//! Latencies in exponential buckets: `sheer.v1.LatencyHistogram`, and Prometheus' native histograms of schema 3.
//!
//! A bucket is 9.05 % wider than the one before, so that is the most by which a quantile can be off. 185 buckets of 4 bytes hold 16 µs to 2 min.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use sheer_api::{
    names::{LATENCY_FIRST_BUCKET as FIRST, LATENCY_LAST_BUCKET as LAST},
    v1,
};

use crate::metrics;

/// How many buckets there are.
pub(super) const BUCKETS: usize = (LAST - FIRST + 1) as usize;

/// Counts of latencies, written by one thread and read by others.
#[derive(Debug)]
pub(crate) struct Latency {
    /// They may wrap: only differences are looked at.
    counts: [AtomicU32; BUCKETS],
    sum_micros: AtomicU64,
}

/// A reading of a [`Latency`].
#[derive(Clone, Debug)]
pub(super) struct Reading {
    counts: Box<[u32; BUCKETS]>,
    sum_micros: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU32::new(0) }; BUCKETS],
            sum_micros: AtomicU64::new(0),
        }
    }
}

impl Latency {
    /// Counts one. Only the one thread that writes may call this: it is no read-modify-write, which would cost several times as much.
    pub(crate) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let count = &self.counts[place(micros)];
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
        let sum = &self.sum_micros;
        sum.store(sum.load(Relaxed).wrapping_add(micros), Relaxed);
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            sum_micros: 0,
        }
    }
}

impl Reading {
    /// What was counted since the last time this was asked.
    pub(super) fn advance(&mut self, latency: &Latency, sums: &mut Sums) {
        for ((seen, now), sum) in self.counts.iter_mut().zip(&latency.counts).zip(sums.counts.iter_mut()) {
            let now = now.load(Relaxed);
            *sum += u64::from(now.wrapping_sub(*seen));
            *seen = now;
        }
        let now = latency.sum_micros.load(Relaxed);
        sums.sum_micros = sums.sum_micros.wrapping_add(now.wrapping_sub(self.sum_micros));
        self.sum_micros = now;
    }
}

/// Counts that are added up.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    counts: Box<[u64; BUCKETS]>,
    sum_micros: u64,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            sum_micros: 0,
        }
    }
}

impl Sums {
    /// Counts one.
    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[place(micros)] += 1;
        self.sum_micros = self.sum_micros.wrapping_add(micros);
    }

    /// As it goes over the wire; none where nothing was counted.
    pub(super) fn message(&self) -> Option<v1::LatencyHistogram> {
        let first = self.counts.iter().position(|&count| count > 0)?;
        let last = self.counts.iter().rposition(|&count| count > 0)?;
        Some(v1::LatencyHistogram {
            first: i32::from(FIRST) + first as i32,
            counts: self.counts[first..=last].to_vec(),
            sum_micros: self.sum_micros,
        })
    }
}

/// Where a latency is counted, from 0.
fn place(micros: u64) -> usize {
    (bucket(micros).clamp(FIRST, LAST) - FIRST) as usize
}

/// The bucket whose end is the first at or above a latency.
#[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
fn bucket(micros: u64) -> i16 {
    if micros == 0 {
        return FIRST;
    }
    metrics::bucket(micros as f64 / 1_000.0) as i16
}

#[cfg(test)]
mod tests {
    use sheer_api::names::LATENCY_BUCKETS_A_DOUBLING as PER_DOUBLING;

    use super::*;

    fn end(bucket: i16) -> f64 {
        2_f64.powf(f64::from(bucket) / f64::from(PER_DOUBLING))
    }

    #[test]
    fn every_latency_is_in_the_bucket_that_ends_at_or_above_it() {
        for micros in (17..20_000).chain([1 << 20, 119_999_999]) {
            let ms = micros as f64 / 1_000.0;
            let found = bucket(micros);
            assert!(
                ms <= end(found) * (1.0 + 1e-12),
                "{ms} is beyond bucket {found}, which ends at {}",
                end(found)
            );
            assert!(
                ms > end(found - 1) * (1.0 - 1e-12),
                "{ms} belongs into an earlier bucket than {found}"
            );
        }
    }

    #[test]
    fn powers_of_two_end_their_bucket() {
        assert_eq!([1_000, 2_000, 4_000, 500, 1_001].map(bucket), [0, 8, 16, -8, 1]);
    }

    #[test]
    fn extremes_have_a_place() {
        assert_eq!(place(0), 0);
        assert_eq!(place(16), 1);
        assert_eq!(place(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn differences_are_told_once() {
        let latency = Latency::default();
        let mut reading = Reading::default();
        latency.record(Duration::from_millis(1));
        latency.record(Duration::from_millis(4));
        let mut sums = Sums::default();
        reading.advance(&latency, &mut sums);
        let message = sums.message().expect("something was counted");
        assert_eq!((message.first, message.sum_micros), (0, 5_000));
        assert_eq!(message.counts.len(), 17);
        assert_eq!((message.counts[0], message.counts[16]), (1, 1));
        let mut sums = Sums::default();
        reading.advance(&latency, &mut sums);
        assert_eq!(sums.message(), None);
    }
}
