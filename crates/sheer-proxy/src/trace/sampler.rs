//! Which requests are recorded: a share of those that begin a trace, so many a second at the most.

use std::{cell::Cell, time::Instant};

/// So many a second, and as many at once.
pub(super) struct Bucket {
    per_second: f64,
    left: Cell<f64>,
    filled: Cell<Option<Instant>>,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(per_second: f64) -> Self {
        Self {
            per_second,
            // Less than one a second would never be a whole one.
            left: Cell::new(Self::size(per_second)),
            filled: Cell::new(None),
        }
    }

    fn size(per_second: f64) -> f64 {
        if per_second > 0.0 { per_second.max(1.0) } else { 0.0 }
    }

    /// Takes one, where there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let before = self.filled.replace(Some(now));
        let since = before.map_or(0.0, |before| now.saturating_duration_since(before).as_secs_f64());
        let left = (self.left.get() + since * self.per_second).min(Self::size(self.per_second));
        let taken = left >= 1.0;
        self.left.set(if taken { left - 1.0 } else { left });
        taken
    }
}

/// Draws a share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(u64);

impl Share {
    /// Of `rate` in `0..=1`.
    pub(super) fn new(rate: f64) -> Self {
        Self((rate.clamp(0.0, 1.0) * u64::MAX as f64) as u64)
    }

    /// Whether a number that is uniform over all values is drawn.
    pub(super) fn takes(self, random: u64) -> bool {
        self.0 == u64::MAX || random < self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_so_many_a_second() {
        let (bucket, start) = (Bucket::new(10.0), Instant::now());
        let taken = |at: u64| {
            let now = start + Duration::from_millis(at);
            (0..100).filter(|_| bucket.take(now)).count()
        };
        assert_eq!([0, 0, 100, 350, 351, 60_000].map(taken), [10, 0, 1, 2, 0, 10]);
        let (rare, none) = (Bucket::new(0.5), Bucket::new(0.0));
        let takes = |bucket: &Bucket, at: u64| bucket.take(start + Duration::from_secs(at));
        assert_eq!([0, 1, 2, 3].map(|at| takes(&rare, at)), [true, false, true, false]);
        assert!(![0, 1_000].map(|at| takes(&none, at)).contains(&true));
    }

    #[test]
    fn a_share_draws_so_many() {
        let (all, none, some) = (Share::new(1.0), Share::new(0.0), Share::new(0.25));
        assert!(all.takes(u64::MAX) && all.takes(0));
        assert!(!none.takes(0) && !none.takes(u64::MAX));
        assert!(some.takes(u64::MAX / 5) && !some.takes(u64::MAX / 3));
    }
}
