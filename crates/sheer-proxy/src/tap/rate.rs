//! How many requests a second a watcher is shown, over all workers together.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How much may come at once.
const BURST: Duration = Duration::from_secs(1);

/// A rate, which workers share: a request of any of them takes from the same.
///
/// Kept as the generic cell rate algorithm does (ITU-T I.371, annex A): one number, the time at which all that was let through is paid for.
#[derive(Debug)]
pub(crate) struct Rate {
    began: Instant,
    /// Between two requests.
    interval: Duration,
    /// When it is as if nothing had come, in nanoseconds since `began`.
    free: AtomicU64,
}

impl Rate {
    /// So many requests a second, at least one.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            began: Instant::now(),
            interval: BURST / per_second.max(1),
            free: AtomicU64::new(0),
        }
    }

    /// Whether one more may be shown now.
    pub(super) fn takes(&self) -> bool {
        self.takes_at(Instant::now())
    }

    fn takes_at(&self, now: Instant) -> bool {
        let now = now.duration_since(self.began).as_nanos() as u64;
        let (interval, burst) = (self.interval.as_nanos() as u64, BURST.as_nanos() as u64);
        let paid = |free: u64| {
            let next = free.max(now) + interval;
            (next <= now + burst).then_some(next)
        };
        self.free.fetch_update(Relaxed, Relaxed, paid).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of requests that come evenly, how many are taken.
    fn taken(rate: &Rate, from: Duration, until: Duration, requests: u32) -> u32 {
        let step = (until - from) / requests;
        (0..requests)
            .filter(|n| rate.takes_at(rate.began + from + step * *n))
            .count() as u32
    }

    #[test]
    fn a_second_of_it_at_once_and_then_as_many_as_the_rate_allows() {
        const SECOND: Duration = Duration::from_secs(1);
        let rate = Rate::new(50);
        assert_eq!(taken(&rate, Duration::ZERO, Duration::from_nanos(100), 100), 50);
        let shown = taken(&rate, SECOND, 11 * SECOND, 10_000);
        assert!((549..=551).contains(&shown), "{shown}");
        // What was not used is not saved for longer than a second.
        assert_eq!(
            taken(&rate, 60 * SECOND, 60 * SECOND + Duration::from_nanos(100), 100),
            50
        );
        assert_eq!(taken(&Rate::new(0), Duration::ZERO, SECOND / 2, 100), 1);
        let many = Rate::new(u32::MAX);
        assert_eq!(taken(&many, Duration::ZERO, SECOND, 100_000), 100_000);
    }

    #[test]
    fn workers_share_it_whoever_of_them_has_the_requests() {
        let rate = Rate::new(1_000);
        let now = rate.began;
        let took = |requests: u32| (0..requests).filter(|_| rate.takes_at(now)).count();
        let shown: usize = std::thread::scope(|scope| {
            let busy = scope.spawn(|| took(100_000));
            let quiet = scope.spawn(|| took(10));
            busy.join().expect("no panic") + quiet.join().expect("no panic")
        });
        assert_eq!(shown, 1_000);
    }
}
