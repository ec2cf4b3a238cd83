//! Latencies in the buckets of `sheer.v1.LatencyHistogram`: added up, and asked for quantiles.

use sheer_api::{
    names::{LATENCY_BUCKETS_A_DOUBLING as PER_DOUBLING, LATENCY_FIRST_BUCKET as FIRST, LATENCY_LAST_BUCKET as LAST},
    v1,
};

/// Counts by bucket, without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    /// Bucket of the first count, from [`FIRST`] on.
    pub(super) first: i16,
    pub(super) counts: Vec<u64>,
}

impl Histogram {
    /// As a proxy sent it. What lies beyond the buckets counts in the last ones.
    pub(super) fn of(message: &v1::LatencyHistogram) -> Self {
        let mut histogram = Self::default();
        let first = message.first.clamp(i32::from(FIRST), i32::from(LAST)) as i16;
        histogram.add_counts(first, &message.counts);
        histogram
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.first = 0;
        self.counts.clear();
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.add_counts(other.first, &other.counts);
    }

    /// Adds counts from bucket `first` on.
    pub(super) fn add_counts(&mut self, first: i16, counts: &[u64]) {
        if counts.is_empty() {
            return;
        }
        let last = (i32::from(first) + counts.len() as i32 - 1).min(i32::from(LAST)) as i16;
        self.reach(first, last);
        let offset = (first - self.first) as usize;
        let room = (last - self.first) as usize;
        for (at, count) in counts.iter().enumerate() {
            self.counts[(offset + at).min(room)] += count;
        }
    }

    /// The same with two buckets as one: bucket `j` ends where `2 j` does here. First and counts.
    pub(super) fn in_pairs(&self) -> (i16, Vec<u64>) {
        let pair = |bucket: i16| (bucket + 1).div_euclid(2);
        let first = pair(self.first);
        let mut counts = Vec::with_capacity(self.counts.len() / 2 + 1);
        for (at, count) in self.counts.iter().enumerate() {
            let at = (pair(self.first + at as i16) - first) as usize;
            counts.resize(counts.len().max(at + 1), 0);
            counts[at] += count;
        }
        (first, counts)
    }

    /// Takes what this has for pairs, and gives each of the two half.
    pub(super) fn out_of_pairs(&mut self) {
        let pairs = std::mem::take(&mut self.counts);
        self.first = self.first * 2 - 1;
        self.counts = pairs.iter().flat_map(|count| [count - count / 2, count / 2]).collect();
        if self.first < FIRST {
            // The first bucket has no other half.
            self.first = FIRST;
            let below = self.counts.remove(0);
            if let Some(first) = self.counts.first_mut() {
                *first += below;
            }
        }
    }

    /// Makes room for buckets from `first` to `last`.
    fn reach(&mut self, first: i16, last: i16) {
        if self.counts.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let more = (self.first - first) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = first;
        }
        let len = (last - self.first) as usize + 1;
        if self.counts.len() < len {
            self.counts.resize(len, 0);
        }
    }

    /// The latency in ms that a share of `quantile` does not exceed; within a bucket counts are taken for evenly spread.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = quantile * total as f64;
        let mut below = 0.0;
        for (at, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                let bucket = self.first + at as i16;
                let start = if bucket == FIRST { 0.0 } else { end_ms(bucket - 1) };
                let share = ((rank - below) / count).clamp(0.0, 1.0);
                return Some(start + (end_ms(bucket) - start) * share);
            }
            below += count;
        }
        None
    }

    /// As it goes over the wire. The sum is that of the middles of the buckets: windows do not keep it.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn message(&self) -> v1::LatencyHistogram {
        let middles = self.counts.iter().enumerate().map(|(at, &count)| {
            let bucket = self.first + at as i16;
            (end_ms(bucket - 1) + end_ms(bucket)) * 500.0 * count as f64
        });
        v1::LatencyHistogram {
            first: self.first.into(),
            counts: self.counts.clone(),
            sum_micros: middles.sum::<f64>() as u64,
        }
    }
}

/// Where a bucket ends.
fn end_ms(bucket: i16) -> f64 {
    2_f64.powf(f64::from(bucket) / f64::from(PER_DOUBLING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_their_bucket() {
        let mut histogram = Histogram::default();
        // A thousand requests of 10 ms (bucket 27 ends at 10.37), ten of a second (80 ends at 1024).
        histogram.add_counts(27, &[1_000]);
        histogram.add_counts(80, &[10]);
        let near = |quantile, ms: f64| {
            let found = histogram.quantile(quantile).unwrap();
            assert!((found / ms - 1.0).abs() < 0.0905, "{quantile}: {found}");
        };
        near(0.5, 10.0);
        near(0.99, 10.0);
        near(0.999, 1_000.0);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn counts_add_up_whichever_comes_first() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.add_counts(3, &[1, 2]);
        one.add_counts(-2, &[5]);
        other.add_counts(-2, &[5]);
        other.add_counts(3, &[1, 2]);
        assert_eq!(one, other);
        assert_eq!((one.first, one.counts.len(), one.count()), (-2, 7, 8));
    }

    #[test]
    fn what_a_proxy_makes_up_finds_room() {
        let message = v1::LatencyHistogram {
            first: i32::MAX,
            counts: vec![1; 1_000],
            sum_micros: 0,
        };
        let histogram = Histogram::of(&message);
        assert_eq!((histogram.first, histogram.counts.as_slice()), (LAST, &[1_000][..]));
    }
}
