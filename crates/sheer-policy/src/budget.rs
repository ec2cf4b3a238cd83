//! How much may be tried again: a share of the traffic, and a floor for quiet times, so that retries cannot become a storm.
//!
//! Pure: the clock is the caller's. One budget a destination and worker, over everything that is sent more than once (retries, hedges).
//!
//! The share counts what happened in the last `ttl`, in slices; the floor is a bucket that holds what one second allows. Together, over any
//! time T, at most `ratio × requests + min_per_second × (T + 1 s)` go out again.

use std::time::{Duration, Instant};

use crate::outbound::RetryBudget;

/// Slices of the time that counts.
const SLICES: usize = 10;

/// What was sent, and sent again.
#[derive(Clone, Debug)]
pub struct Budget {
    config: RetryBudget,
    /// Length of one slice.
    slice: Duration,
    /// Of which `now` is the current one.
    slices: [Slice; SLICES],
    current: usize,
    /// When the current slice began.
    began: Instant,
    /// Sums over the slices.
    requests: u64,
    shared: u64,
    /// Retries that the floor allows now.
    floor: f64,
    filled: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    requests: u64,
    /// Retries on account of the share.
    shared: u64,
}

impl Budget {
    /// A budget of which nothing was spent.
    pub fn new(config: RetryBudget, now: Instant) -> Self {
        Self {
            config,
            // Never zero: time would not pass.
            slice: (config.ttl / SLICES as u32).max(Duration::from_millis(1)),
            slices: [Slice::default(); SLICES],
            current: 0,
            began: now,
            requests: 0,
            shared: 0,
            floor: f64::from(config.min_per_second),
            filled: now,
        }
    }

    /// What it was made for.
    pub fn config(&self) -> &RetryBudget {
        &self.config
    }

    /// A request is sent for the first time.
    pub fn request(&mut self, now: Instant) {
        self.advance(now);
        self.slices[self.current].requests += 1;
        self.requests += 1;
    }

    /// Whether a request may be sent once more; counts it if so.
    pub fn again(&mut self, now: Instant) -> bool {
        self.advance(now);
        if (self.shared + 1) as f64 <= self.config.ratio * self.requests as f64 {
            self.slices[self.current].shared += 1;
            self.shared += 1;
            return true;
        }
        self.fill(now);
        if self.floor < 1.0 {
            return false;
        }
        self.floor -= 1.0;
        true
    }

    /// Forgets what is too old. A clock that stands still or goes back changes nothing.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < self.slice {
            return;
        }
        let slices = passed.as_nanos() / self.slice.as_nanos();
        for _ in 0..slices.min(SLICES as u128) {
            self.current = (self.current + 1) % SLICES;
            let old = std::mem::take(&mut self.slices[self.current]);
            self.requests -= old.requests;
            self.shared -= old.shared;
        }
        let rest = passed.as_nanos() % self.slice.as_nanos();
        self.began = now - Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        let most = f64::from(self.config.min_per_second);
        self.floor = (self.floor + passed * most).min(most);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(ratio: f64, min_per_second: u32) -> RetryBudget {
        RetryBudget {
            ratio,
            min_per_second,
            ttl: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_fifth_of_the_traffic_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(RetryBudget::default(), start);
        assert_eq!((0..100).filter(|_| budget.again(start)).count(), 10);
        (0..100).for_each(|_| budget.request(start));
        assert_eq!((0..100).filter(|_| budget.again(start)).count(), 20);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| budget.again(later)).count(), 5);
        // What was sent long ago does not count.
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| budget.again(much_later)).count(), 10);
    }

    #[test]
    fn nothing_is_allowed_where_the_operator_says_so() {
        let start = Instant::now();
        let mut budget = Budget::new(config(0.0, 0), start);
        budget.request(start);
        assert!(!budget.again(start + Duration::from_secs(3)));
        let mut no_time = Budget::new(
            RetryBudget {
                ttl: Duration::ZERO,
                ..config(1.0, 0)
            },
            start,
        );
        no_time.request(start);
        assert!(no_time.again(start));
    }

    proptest! {
        /// Whatever comes when: never more than the share of all requests plus what the floor allows in that time.
        #[test]
        fn retries_stay_within_the_budget(
            ratio in 0.0..2.0f64,
            floor in 0u32..20,
            steps in prop::collection::vec((0u64..700, prop::bool::weighted(0.4)), 0..400),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(config(ratio, floor), start);
            let (mut now, mut requests, mut retries) = (start, 0u32, 0u32);
            for (millis, is_request) in steps {
                now += Duration::from_millis(millis);
                if is_request {
                    requests += 1;
                    budget.request(now);
                } else if budget.again(now) {
                    retries += 1;
                }
                let allowed = ratio * f64::from(requests) + f64::from(floor) * ((now - start).as_secs_f64() + 1.0);
                prop_assert!(f64::from(retries) <= allowed + 1e-6, "{retries} of {requests}, {allowed} allowed");
            }
        }

        /// Quiet destinations are not starved: after a second without retries the whole floor is there.
        #[test]
        fn the_floor_comes_back(floor in 1u32..50, spent in 0u32..100) {
            let start = Instant::now();
            let mut budget = Budget::new(config(0.0, floor), start);
            (0..spent).for_each(|_| { budget.again(start); });
            let later = start + Duration::from_millis(1_001);
            prop_assert_eq!((0..100).filter(|_| budget.again(later)).count() as u32, floor);
        }
    }
}
