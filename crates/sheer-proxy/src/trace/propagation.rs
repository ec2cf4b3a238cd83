//! Whether the application passes on the contexts that it is given. A proxy cannot know which outbound request belongs to which inbound one;
//! but while every request that the workload serves carries a context, an outbound request without one has lost it (or is none of theirs, as
//! work in the background is, which is why a few are not held against anybody).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// How long an application that passed a context on is known to do so: its traces may be rare.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Inbound requests under way on each worker: the application may answer on any.
#[derive(Clone, Debug)]
pub(super) struct Serving(Arc<[Slot]>);

/// Of one worker. In a cache line of its own: no other worker writes to it.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Slot {
    all: AtomicU32,
    with_context: AtomicU32,
}

/// One inbound request under way, until dropped.
#[derive(Debug)]
pub(super) struct Served {
    serving: Serving,
    worker: usize,
    with_context: bool,
}

impl Serving {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Slot::default()).collect())
    }

    fn slot(&self, worker: usize) -> &Slot {
        &self.0[worker % self.0.len()]
    }

    /// The application is about to get a request, with a context or without.
    pub(super) fn begin(&self, worker: usize, with_context: bool) -> Served {
        let slot = self.slot(worker);
        slot.all.fetch_add(1, Ordering::Relaxed);
        if with_context {
            slot.with_context.fetch_add(1, Ordering::Relaxed);
        }
        Served {
            serving: self.clone(),
            worker,
            with_context,
        }
    }

    /// Whether any request is under way.
    pub(super) fn is_serving(&self) -> bool {
        self.0.iter().any(|slot| slot.all.load(Ordering::Relaxed) > 0)
    }

    /// Whether requests are under way and every one carries a context.
    pub(super) fn all_with_context(&self) -> bool {
        let sum = |of: fn(&Slot) -> &AtomicU32| self.0.iter().map(|slot| of(slot).load(Ordering::Relaxed)).sum::<u32>();
        let with_context = sum(|slot| &slot.with_context);
        with_context > 0 && with_context == sum(|slot| &slot.all)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let slot = self.serving.slot(self.worker);
        slot.all.fetch_sub(1, Ordering::Relaxed);
        if self.with_context {
            slot.with_context.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Outbound requests to one target, while every inbound one carried a context.
#[derive(Debug)]
pub(crate) struct Passed {
    target: Arc<str>,
    /// When a request with a context was seen last.
    passed_on: Cell<Option<Instant>>,
    with_context: Cell<u64>,
    without_context: Cell<u64>,
}

/// The same, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassedCount {
    pub(crate) target: Arc<str>,
    pub(crate) with_context: u64,
    pub(crate) without_context: u64,
}

impl Passed {
    /// A request with a context goes out.
    pub(super) fn saw(&self, now: Instant) {
        self.passed_on.set(Some(now));
    }

    /// Whether the application was seen to pass contexts on, lately.
    pub(super) fn passes_on(&self, now: Instant) -> bool {
        let last = self.passed_on.get();
        last.is_some_and(|last| now.saturating_duration_since(last) < REMEMBERED)
    }

    pub(super) fn note(&self, with_context: bool) {
        let count = if with_context {
            &self.with_context
        } else {
            &self.without_context
        };
        count.set(count.get() + 1);
    }
}

/// The targets of one worker.
#[derive(Debug, Default)]
pub(super) struct Targets(RefCell<Vec<Rc<Passed>>>);

impl Targets {
    /// A target, for as long as somebody holds it.
    pub(super) fn add(&self, target: Arc<str>) -> Rc<Passed> {
        let passed = Rc::new(Passed {
            target,
            passed_on: Cell::new(None),
            with_context: Cell::new(0),
            without_context: Cell::new(0),
        });
        self.0.borrow_mut().push(Rc::clone(&passed));
        passed
    }

    /// What came to pass since the last call.
    pub(super) fn take(&self) -> Vec<PassedCount> {
        let mut targets = self.0.borrow_mut();
        let taken = targets.iter().filter_map(|passed| {
            let count = PassedCount {
                target: Arc::clone(&passed.target),
                with_context: passed.with_context.take(),
                without_context: passed.without_context.take(),
            };
            (count.with_context + count.without_context > 0).then_some(count)
        });
        let taken = taken.collect();
        targets.retain(|passed| Rc::strong_count(passed) > 1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_only_while_every_request_carries_a_context() {
        let serving = Serving::new(2);
        assert!(
            !serving.all_with_context() && !serving.is_serving(),
            "nothing is under way"
        );
        let one = serving.begin(0, true);
        assert!(serving.all_with_context());
        let other = serving.begin(1, false);
        assert!(!serving.all_with_context(), "whose request goes out?");
        drop(other);
        assert!(serving.all_with_context());
        drop(one);
        assert!(!serving.all_with_context());
    }

    #[test]
    fn an_application_that_passed_a_context_on_is_remembered_for_a_while() {
        let (ledger, start) = (Targets::default().add("ledger".into()), Instant::now());
        assert!(!ledger.passes_on(start));
        ledger.saw(start);
        assert!(ledger.passes_on(start + REMEMBERED / 2));
        assert!(!ledger.passes_on(start + REMEMBERED));
    }

    #[test]
    fn counts_are_taken_once_and_a_target_that_is_gone_is_forgotten() {
        let targets = Targets::default();
        let ledger = targets.add("ledger".into());
        ledger.note(true);
        ledger.note(false);
        ledger.note(false);
        let expected = PassedCount {
            target: "ledger".into(),
            with_context: 1,
            without_context: 2,
        };
        assert_eq!(targets.take(), [expected]);
        assert_eq!(targets.take(), []);
        ledger.note(true);
        drop(ledger);
        assert_eq!(targets.take().len(), 1, "the last of it is told");
        assert!(targets.0.borrow().is_empty());
    }
}
