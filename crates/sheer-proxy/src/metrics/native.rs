//! Exponential buckets beside those of a histogram's family: Prometheus' native histograms of schema 3.
//!
//! They are made when the first scraper asks for them, and cost everybody else a load. What was counted before is put where its bucket of the
//! family ends, so that counts go on.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Eight buckets a doubling.
pub(super) const SCHEMA: i32 = 3;
const PER_DOUBLING: i32 = 1 << SCHEMA;
/// 23 doublings: 16 µs to 2 min, or 16 bytes to 128 MiB.
const BUCKETS: usize = 185;
/// The smallest that is told apart, in the unit in which durations and sizes are counted.
const SMALLEST: f64 = 16.0;

/// 2^(k/8) for k from 1 to 7: where the buckets between a power of two and the next end.
const STEPS: [f64; 7] = [
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// The buckets, once somebody asked for them.
#[derive(Debug, Default)]
pub(super) struct Native(OnceLock<Box<Cells>>);

#[derive(Debug)]
struct Cells {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// Counts of one histogram, or of the same one of several workers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// The first is of everything that is smaller than what is told apart.
    counts: Vec<u64>,
    /// In microseconds, or in the unit itself where that is no time.
    pub(super) sum: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            sum: 0,
        }
    }
}

impl Native {
    /// Counts one, where somebody asked for it.
    pub(super) fn record(&self, units: u64, unit: u64) {
        if let Some(cells) = self.0.get() {
            cells.counts[place(units, unit)].fetch_add(1, Relaxed);
            cells.sum.fetch_add(units, Relaxed);
        }
    }

    /// Adds what was counted. The first to ask gives what was counted before: bounds with their counts, and the sum.
    pub(super) fn add_to(&self, sums: &mut Reading, unit: u64, before: impl FnOnce() -> (Vec<(u64, u64)>, u64)) {
        let cells = self.0.get_or_init(|| {
            let (counts, sum) = before();
            let cells = Cells {
                counts: [const { AtomicU64::new(0) }; BUCKETS],
                sum: AtomicU64::new(sum),
            };
            for (bound, count) in counts {
                cells.counts[place(bound, unit)].fetch_add(count, Relaxed);
            }
            Box::new(cells)
        });
        for (sum, count) in sums.counts.iter_mut().zip(&cells.counts) {
            *sum += count.load(Relaxed);
        }
        sums.sum = sums.sum.wrapping_add(cells.sum.load(Relaxed));
    }
}

impl Reading {
    /// How many were counted.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many were smaller than what is told apart.
    pub(super) fn zeros(&self) -> u64 {
        self.counts.first().copied().unwrap_or(0)
    }

    /// Indexes of buckets with what is in them, where anything is.
    pub(super) fn buckets(&self, unit: u64) -> impl Iterator<Item = (i32, u64)> {
        let first = first(unit);
        let counts = self.counts.iter().enumerate().skip(1);
        counts
            .filter(|(_, count)| **count > 0)
            .map(move |(at, count)| (first + at as i32, *count))
    }
}

/// Up to where nothing is told apart, in the unit that is shown.
pub(super) fn zero_threshold(unit: u64) -> f64 {
    2_f64.powi(first(unit) / PER_DOUBLING)
}

/// Index of the bucket of everything that is smaller than what is told apart.
#[expect(clippy::cast_precision_loss, reason = "a unit is at most a million")]
fn first(unit: u64) -> i32 {
    let smallest = (SMALLEST / unit as f64).to_bits();
    ((smallest >> 52) as i32 - 1_023) * PER_DOUBLING
}

#[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
fn place(units: u64, unit: u64) -> usize {
    if units == 0 {
        return 0;
    }
    let at = bucket(units as f64 / unit as f64) - first(unit);
    at.clamp(0, BUCKETS as i32 - 1) as usize
}

/// The bucket whose end is the first at or above a number beyond zero: bucket `i` ends at 2^(i/8).
pub(crate) fn bucket(value: f64) -> i32 {
    let bits = value.to_bits();
    // A positive, normal number: 1.mantissa × 2^exponent.
    let exponent = (bits >> 52) as i32 - 1_023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1_023 << 52));
    let step = if mantissa == 1.0 {
        0
    } else {
        1 + STEPS.partition_point(|&end| end < mantissa) as i32
    };
    exponent * PER_DOUBLING + step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_before_anybody_asked_is_there() {
        let native = Native::default();
        native.record(5_000, 1_000);
        let mut reading = Reading::default();
        native.add_to(&mut reading, 1_000, || (vec![(5_000, 1), (50_000_000, 2)], 105_000));
        native.record(1_500, 1_000);
        let mut reading = Reading::default();
        native.add_to(&mut reading, 1_000, || unreachable!("somebody asked before"));
        assert_eq!((reading.count(), reading.sum, reading.zeros()), (4, 106_500, 0));
        // 1.5 ms, 5 ms and 50 s, in ms.
        let buckets: Vec<_> = reading.buckets(1_000).collect();
        assert_eq!(buckets, [(bucket(1.5), 1), (bucket(5.0), 1), (bucket(50_000.0), 2)]);
    }

    #[test]
    fn every_unit_has_its_range() {
        for (unit, threshold) in [(1_000, 1.0 / 64.0), (1_000_000, 1.0 / 65_536.0), (1, 16.0)] {
            assert_eq!(zero_threshold(unit).to_bits(), f64::to_bits(threshold), "{unit}");
            assert_eq!(
                (place(0, unit), place(15, unit), place(u64::MAX, unit)),
                (0, 0, BUCKETS - 1)
            );
            assert_eq!(place(32, unit) - place(16, unit), 8, "a doubling");
        }
    }
}
