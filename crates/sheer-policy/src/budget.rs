//! How much may be tried again: a share of the traffic, and a floor for quiet times, so that retries cannot become a storm.
//!
//! Pure: the clock is the caller's. One budget a destination, for all workers together, over everything that is sent more than once (retries,
//! hedges).
//!
//! ```text
//! worker 0: a request ──► its own counters ──┐
//! worker 1: a request ──► its own counters ──┴─► summed where somebody asks to send again
//! ```
//!
//! A request writes nothing that another worker writes: each has an [`Account`] of its own. Only who is about to send something again looks at
//! all of them, under a lock.
//!
//! The share counts what happened in the last `ttl`, in slices; the floor is a bucket that holds what one second allows. Together, over any
//! time T, at most `ratio × requests + min_per_second × (T + 1 s)` go out again.

use std::{
    cell::Cell,
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::outbound::RetryBudget;

/// Slices of the time that counts.
const SLICES: usize = 10;

/// What a destination allows to be sent again.
#[derive(Debug)]
pub struct Budget {
    config: RetryBudget,
    /// Slices are numbered from here.
    epoch: Instant,
    /// Length of one, nanoseconds.
    slice: u64,
    spent: Mutex<Spent>,
}

/// What was sent again, and who counts what was sent at all.
#[derive(Debug)]
struct Spent {
    accounts: Vec<Arc<Slices>>,
    /// Retries on account of the share.
    shared: Slices,
    /// Retries that the floor allows now.
    floor: f64,
    filled: Instant,
}

/// Counts of the last slices: each a number of a slice (upper half) and what was counted in it (lower half). One thread writes, others read.
#[derive(Debug, Default)]
struct Slices([AtomicU64; SLICES]);

impl Slices {
    /// Counts one in a slice. Its place may still hold what a slice long ago counted.
    fn count(&self, slice: u32) {
        let cell = &self.0[slice as usize % SLICES];
        let (number, count) = unpack(cell.load(Ordering::Relaxed));
        // A clock that went back counts in the newest slice of that place.
        let (number, count) = if is_after(slice, number) {
            (slice, 1)
        } else {
            (number, count.saturating_add(1))
        };
        cell.store(pack(number, count), Ordering::Relaxed);
    }

    /// What the slices counted that are still of interest in this one.
    fn sum(&self, slice: u32) -> u64 {
        let cells = self.0.iter().map(|cell| unpack(cell.load(Ordering::Relaxed)));
        let recent = cells.filter(|(number, _)| !is_after(slice, number.wrapping_add(SLICES as u32 - 1)));
        recent.map(|(_, count)| u64::from(count)).sum()
    }
}

fn pack(number: u32, count: u32) -> u64 {
    u64::from(number) << 32 | u64::from(count)
}

fn unpack(cell: u64) -> (u32, u32) {
    ((cell >> 32) as u32, cell as u32)
}

/// Whether a slice is later than another. Their numbers wrap.
fn is_after(slice: u32, other: u32) -> bool {
    slice != other && slice.wrapping_sub(other) < u32::MAX / 2
}

impl Budget {
    /// A budget of which nothing was spent.
    pub fn new(config: RetryBudget, now: Instant) -> Self {
        // Never zero: time would not pass.
        let slice = (config.ttl / SLICES as u32).max(Duration::from_millis(1));
        Self {
            config,
            epoch: now,
            slice: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
            spent: Mutex::new(Spent {
                accounts: Vec::new(),
                shared: Slices::default(),
                floor: f64::from(config.min_per_second),
                filled: now,
            }),
        }
    }

    /// What it was made for.
    pub fn config(&self) -> &RetryBudget {
        &self.config
    }

    /// An account for one worker. What an earlier one counted that nobody holds any more still counts, for as long as requests do.
    pub fn open(self: &Arc<Self>, now: Instant) -> Account {
        let requests = Arc::new(Slices::default());
        let slice = self.slice(now);
        let accounts = &mut self.spent().accounts;
        accounts.retain(|account| Arc::strong_count(account) > 1 || account.sum(slice) > 0);
        accounts.push(Arc::clone(&requests));
        Account {
            budget: Arc::clone(self),
            requests,
            one_writer: PhantomData,
        }
    }

    fn slice(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        (since / u128::from(self.slice)) as u32
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's part of a budget. Not `Sync`: it alone writes its counters.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    requests: Arc<Slices>,
    one_writer: PhantomData<Cell<()>>,
}

impl Account {
    /// What is counted against.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A request is sent for the first time.
    pub fn request(&self, now: Instant) {
        self.requests.count(self.budget.slice(now));
    }

    /// Whether a request may be sent once more, in view of what all workers sent; counts it if so.
    pub fn again(&self, now: Instant) -> bool {
        let Budget { config, .. } = &*self.budget;
        let slice = self.budget.slice(now);
        let spent = &mut *self.budget.spent();
        let requests: u64 = spent.accounts.iter().map(|account| account.sum(slice)).sum();
        if (spent.shared.sum(slice) + 1) as f64 <= config.ratio * requests as f64 {
            spent.shared.count(slice);
            return true;
        }
        spent.fill(f64::from(config.min_per_second), now);
        if spent.floor < 1.0 {
            return false;
        }
        spent.floor -= 1.0;
        true
    }
}

impl Spent {
    fn fill(&mut self, most: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
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

    fn account(config: RetryBudget, now: Instant) -> Account {
        Arc::new(Budget::new(config, now)).open(now)
    }

    #[test]
    fn a_fifth_of_the_traffic_and_ten_a_second() {
        let start = Instant::now();
        let budget = account(RetryBudget::default(), start);
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
        let budget = account(config(0.0, 0), start);
        budget.request(start);
        assert!(!budget.again(start + Duration::from_secs(3)));
        let no_time = RetryBudget {
            ttl: Duration::ZERO,
            ..config(1.0, 0)
        };
        let no_time = account(no_time, start);
        no_time.request(start);
        assert!(no_time.again(start));
    }

    /// However many workers there are, and on whichever the requests came: the share and the floor are those of one destination.
    #[test]
    fn workers_have_one_budget_together() {
        let start = Instant::now();
        let budget = Arc::new(Budget::new(config(0.2, 10), start));
        let (busy, quiet) = (budget.open(start), budget.open(start));
        (0..100).for_each(|_| busy.request(start));
        assert_eq!(
            (0..100).filter(|_| quiet.again(start)).count(),
            30,
            "of what the other worker sent"
        );
        assert!(!busy.again(start), "and nothing is left for that one");
        // A worker that is gone has sent what it has sent, for as long as that counts.
        drop(busy);
        let later = start + Duration::from_secs(5);
        let new = budget.open(later);
        (0..50).for_each(|_| new.request(later));
        assert_eq!((0..100).filter(|_| new.again(later)).count(), 10 + 10);
        let much_later = start + Duration::from_secs(12);
        assert_eq!(budget.open(much_later).requests.sum(0), 0);
        assert_eq!(
            budget.spent().accounts.len(),
            3,
            "of the one that is gone nothing counts any more"
        );
    }

    #[test]
    fn threads_spend_no_more_than_one_would() {
        let start = Instant::now();
        let budget = Arc::new(Budget::new(config(0.2, 0), start));
        let spent: usize = std::thread::scope(|scope| {
            let worker = |_| {
                let account = budget.open(start);
                scope.spawn(move || {
                    (0..10_000).for_each(|_| account.request(start));
                    (0..10_000).filter(|_| account.again(start)).count()
                })
            };
            let workers: Vec<_> = (0..4).map(worker).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(spent, 8_000);
    }

    proptest! {
        /// Whatever comes when: never more than the share of all requests plus what the floor allows in that time.
        #[test]
        fn retries_stay_within_the_budget(
            ratio in 0.0..2.0f64,
            floor in 0u32..20,
            steps in prop::collection::vec((0u64..700, prop::bool::weighted(0.4), 0usize..3), 0..400),
        ) {
            let start = Instant::now();
            let budget = Arc::new(Budget::new(config(ratio, floor), start));
            let workers = [(); 3].map(|()| budget.open(start));
            let (mut now, mut requests, mut retries) = (start, 0u32, 0u32);
            for (millis, is_request, worker) in steps {
                let budget = &workers[worker];
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
            let budget = account(config(0.0, floor), start);
            (0..spent).for_each(|_| { budget.again(start); });
            let later = start + Duration::from_millis(1_001);
            prop_assert_eq!((0..100).filter(|_| budget.again(later)).count() as u32, floor);
        }
    }
}
