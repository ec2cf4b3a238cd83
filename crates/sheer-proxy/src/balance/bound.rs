//! How many endpoints of a service may sit out at once.
//!
//! Where the policy sets no bound, all may: then all are used as if none did (`balance`). With a bound, one that would have to sit out
//! beyond it stays, and only costs more.

use std::cell::Cell;

/// Counts of one service's endpoints, kept by its balancer and its endpoints as they change.
#[derive(Debug, Default)]
pub(super) struct Bound {
    max_percent: Option<u8>,
    min_ready: usize,
    total: Cell<usize>,
    connected: Cell<usize>,
    /// Of the connected ones, those that sit out or are on probation.
    out: Cell<usize>,
}

impl Bound {
    pub(super) fn new(max_percent: Option<u8>, min_ready: usize) -> Self {
        Self {
            max_percent,
            min_ready,
            ..Self::default()
        }
    }

    /// Whether one more may sit out.
    pub(super) fn allows_one_more(&self) -> bool {
        if self.max_percent.is_none() && self.min_ready == 0 {
            return true;
        }
        let out = self.out.get() + 1;
        let share = |percent: u8| out * 100 <= usize::from(percent) * self.total.get();
        self.max_percent.is_none_or(share) && self.connected.get() >= out + self.min_ready.max(1)
    }

    /// Endpoints of the service, connected or not.
    pub(super) fn set_total(&self, total: usize) {
        self.total.set(total);
    }

    /// An endpoint connected, or lost its connection; `out` where it sits out or is on probation.
    pub(super) fn connected(&self, connected: bool, out: bool) {
        step(&self.connected, connected);
        if out {
            step(&self.out, connected);
        }
    }

    /// A connected endpoint begins, or ceases, to be out.
    pub(super) fn out(&self, out: bool) {
        step(&self.out, out);
    }
}

fn step(count: &Cell<usize>, up: bool) {
    let now = count.get();
    debug_assert!(up || now > 0, "what goes down went up");
    count.set(if up { now + 1 } else { now.saturating_sub(1) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bound: Bound, total: usize, out: usize) -> Bound {
        bound.set_total(total);
        (0..total).for_each(|_| bound.connected(true, false));
        (0..out).for_each(|_| bound.out(true));
        bound
    }

    #[test]
    fn a_share_is_never_exceeded_and_one_always_stays() {
        assert!(with(Bound::new(None, 0), 1, 1).allows_one_more(), "no bound");
        let allowed = |percent, total| {
            (0..=total)
                .find(|&out| !with(Bound::new(Some(percent), 0), total, out).allows_one_more())
                .expect("bounded")
        };
        assert_eq!(allowed(50, 4), 2);
        assert_eq!(allowed(50, 5), 2);
        assert_eq!(allowed(10, 5), 0);
        assert_eq!(allowed(100, 5), 4);
    }

    #[test]
    fn so_many_stay_ready() {
        assert!(with(Bound::new(None, 2), 4, 1).allows_one_more());
        assert!(!with(Bound::new(None, 2), 4, 2).allows_one_more());
    }
}
