//! Latencies in buckets that are at most 3 % wide, in constant memory.

use std::time::Duration;

/// Buckets a power of two.
const SUB: u64 = 32;
const SUB_BITS: u32 = SUB.trailing_zeros();

/// Counts of latencies.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let bucket = bucket(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(latency);
    }

    /// The latency that a share of `quantile` (0 to 1) does not exceed; zero where nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(bucket)).min(self.max);
            }
        }
        Duration::ZERO
    }

    /// The largest latency counted.
    pub fn max(&self) -> Duration {
        self.max
    }
}

fn bucket(micros: u64) -> usize {
    if micros < SUB {
        return micros as usize;
    }
    let power = micros.ilog2();
    let step = (micros >> (power - SUB_BITS)) - SUB; // 0..SUB within this power of two
    ((u64::from(power - SUB_BITS) + 1) * SUB + step) as usize
}

/// The largest value that falls into the bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (power, step) = (bucket as u64 / SUB, bucket as u64 % SUB);
    if power == 0 {
        step
    } else {
        (((SUB + step + 1) as u128) << (power - 1))
            .saturating_sub(1)
            .min(u64::MAX.into()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_the_bucket_that_bounds_it_closely() {
        for micros in (0..10_000).chain([1 << 20, (1 << 40) + 12_345, u64::MAX]) {
            let bound = upper_bound(bucket(micros));
            assert!(bound >= micros, "{micros} > {bound}");
            assert!(
                (bound - micros) as f64 <= 0.032 * micros as f64,
                "{micros} is far from {bound}"
            );
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let near = |quantile, millis: f64| {
            let found = histogram.quantile(quantile).as_secs_f64() * 1e3;
            assert!((millis..millis * 1.032).contains(&found), "{found}");
        };
        near(0.5, 50.0);
        near(0.99, 99.0);
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(100));
    }
}
