//! How many streams of a connection are open, and whether one of them may have said something in an older segment of its log.

use std::cell::{Cell, Ref, RefCell};

/// Counts open streams.
#[derive(Debug, Default)]
pub(super) struct Open {
    all: Cell<u32>,
    /// Those beyond the boundary.
    fresh: Cell<u32>,
    newest: Cell<u32>,
    /// Newer ones began in the current segment.
    boundary: Cell<u32>,
    /// Not beyond the boundary, and over since. What ends them may be written later.
    told: RefCell<Vec<u32>>,
}

impl Open {
    pub(super) fn count(&self) -> u32 {
        self.all.get()
    }

    #[inline]
    pub(super) fn began(&self, stream: u32) {
        self.all.set(self.all.get() + 1);
        self.newest.set(self.newest.get().max(stream));
        if stream > self.boundary.get() {
            self.fresh.set(self.fresh.get() + 1);
        }
    }

    #[inline]
    pub(super) fn ended(&self, stream: u32) {
        self.all.set(self.all.get().saturating_sub(1));
        if stream > self.boundary.get() {
            self.fresh.set(self.fresh.get().saturating_sub(1));
        } else if stream > 0 {
            self.told.borrow_mut().push(stream);
        }
    }

    /// Whether one may have said something in an older segment.
    pub(super) fn has_old(&self) -> bool {
        self.all.get() > self.fresh.get()
    }

    /// Those that said something in an older segment, and are over since the current one began.
    pub(super) fn told(&self) -> Ref<'_, [u32]> {
        Ref::map(self.told.borrow(), Vec::as_slice)
    }

    /// A new segment begins; this is the newest stream of the one before, which may not be counted yet.
    pub(super) fn rolled(&self, newest: u32) {
        self.boundary.set(newest.max(self.newest.get()));
        self.fresh.set(0);
        self.told.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_old_once_a_segment_ended_after_they_began() {
        let open = Open::default();
        open.began(1);
        open.began(3);
        assert!(!open.has_old());
        open.rolled(5);
        assert!(open.has_old());
        open.ended(1);
        open.ended(3);
        assert_eq!(*open.told(), [1, 3]);
        assert!(!open.has_old());
        // Its head was in the segment before.
        open.began(5);
        assert!(open.has_old());
        open.began(7);
        open.ended(5);
        assert!(!open.has_old());
        open.ended(7);
        assert_eq!((open.count(), open.has_old()), (0, false));
        assert_eq!(*open.told(), [1, 3, 5]);
        open.rolled(7);
        assert!(open.told().is_empty());
    }
}
