//! How much may be done for what is looked at later, so that a storm of it takes a small share of a worker.

use super::excerpt::Work;

/// Work that is saved up while nothing is done.
#[derive(Debug)]
pub(super) struct Credit {
    work: i64,
    /// Until when time has been counted, in microseconds.
    at: u64,
    /// One more comes in so many microseconds.
    every: u64,
    /// And no more than this at once, after a calm.
    saved: i64,
}

impl Credit {
    pub(super) fn new(every: u64, saved: i64) -> Self {
        Self {
            work: saved,
            at: 0,
            every,
            saved,
        }
    }

    /// Whether there is more than this, at this moment.
    pub(super) fn exceeds(&mut self, least: i64, now: u64) -> bool {
        let more = now.saturating_sub(self.at) / self.every;
        self.at += more * self.every;
        self.work = self.work.saturating_add_unsigned(more).min(self.saved);
        self.work > least
    }

    /// What was done may have been more than there was.
    pub(super) fn spend(&mut self, work: Work) {
        self.work = self.work.saturating_sub_unsigned(work);
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> i64 {
        self.work
    }
}
