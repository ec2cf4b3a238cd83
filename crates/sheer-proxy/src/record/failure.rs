//! What failed lately, with the recording of what came before: segments of the log are held on to, nothing is copied.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use sheer_api::Verdict;
use sheer_lens::hpack::ListKind;

use super::{
    exchange::{Exchange, LegId},
    log::Shared,
    opinion::List,
    recording::Recording,
};

/// Failures that are kept.
pub(super) const KEPT: usize = 200;

/// What kind of failure it is.
#[derive(Clone, Debug)]
pub(crate) enum FailureKind {
    /// A request failed.
    Request,
    /// A connection died.
    Connection,
    /// Lens and library differ.
    Disagreement(Box<Difference>),
}

/// A header block as the lens reads it, and as the library does.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) written: bool,
    pub(crate) kind: ListKind,
    /// None where the bytes are no longer kept, or cannot be decoded.
    pub(crate) wire: Option<List>,
    pub(crate) library: Option<List>,
}

/// What failed.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) kind: FailureKind,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) exchange: Option<Exchange>,
    /// Where it was noticed.
    pub(crate) place: LegId,
}

/// A failure and what is held for it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) facts: Facts,
    pub(super) held: Vec<(Rc<Recording>, Vec<Shared>)>,
}

/// The last failures.
#[derive(Debug)]
pub(super) struct Failures {
    all: VecDeque<Failure>,
    pub(super) total: u64,
    /// Segments that are held, and by how many failures.
    held: HashMap<*const (), (usize, Shared)>,
    limit: usize,
}

fn address(segment: &Shared) -> *const () {
    Rc::as_ptr(segment).cast()
}

impl Failures {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            all: VecDeque::new(),
            total: 0,
            held: HashMap::new(),
            limit,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Failure> {
        self.all.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes that are held on their account, as they stand: a segment that is still written grows.
    pub(super) fn bytes(&self) -> usize {
        self.held.values().map(|(_, segment)| segment.borrow().memory()).sum()
    }

    /// Keeps a failure.
    pub(super) fn push(&mut self, failure: Failure) {
        self.total += 1;
        for segment in failure.held.iter().flat_map(|(_, segments)| segments) {
            let held = self.held.entry(address(segment));
            held.or_insert_with(|| (0, Rc::clone(segment))).0 += 1;
        }
        self.all.push_back(failure);
        if self.all.len() > KEPT {
            self.drop_one();
        }
        self.let_go();
    }

    /// A storm of one reason must not drive out the one failure that has another: the oldest of the most frequent reason goes.
    fn drop_one(&mut self) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for failure in &self.all {
            *counts.entry(&failure.facts.reason).or_default() += 1;
        }
        let most = counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(reason, _)| reason);
        let oldest = most.and_then(|most| self.all.iter().position(|failure| failure.facts.reason == most));
        if let Some(failure) = self.all.remove(oldest.unwrap_or(0)) {
            self.release(&failure.held);
        }
    }

    /// Where too much is held, the oldest failures lose their recording.
    pub(super) fn let_go(&mut self) {
        let (mut bytes, mut at) = (self.bytes(), 0);
        while bytes > self.limit && at + 1 < self.all.len() {
            let held = std::mem::take(&mut self.all[at].held);
            bytes -= self.release(&held);
            at += 1;
        }
    }

    /// Gives the bytes that nobody holds any more.
    fn release(&mut self, held: &[(Rc<Recording>, Vec<Shared>)]) -> usize {
        let mut freed = 0;
        for segment in held.iter().flat_map(|(_, segments)| segments) {
            let address = address(segment);
            let Some((holders, _)) = self.held.get_mut(&address) else {
                continue;
            };
            *holders -= 1;
            if *holders == 0 {
                freed += segment.borrow().memory();
                self.held.remove(&address);
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::record::log::Segment;

    fn failure(reason: &'static str, number: u64) -> Failure {
        Failure {
            facts: Facts {
                number,
                at: number,
                kind: FailureKind::Request,
                verdict: None,
                reason: reason.into(),
                message: String::new(),
                exchange: None,
                place: LegId::default(),
            },
            held: Vec::new(),
        }
    }

    #[test]
    fn a_storm_does_not_drive_out_the_rare_failure() {
        let mut failures = Failures::new(0);
        failures.push(failure("protocol", 0));
        for number in 1..1_000 {
            failures.push(failure("failfast", number));
        }
        assert_eq!((failures.len(), failures.total), (KEPT, 1_000));
        let reasons: Vec<_> = failures.all().map(|failure| &*failure.facts.reason).collect();
        assert_eq!(reasons.iter().filter(|reason| **reason == "protocol").count(), 1);
        assert_eq!(failures.all().last().expect("some").facts.number, 999);
    }

    #[test]
    fn what_is_held_is_bounded_and_shared_segments_count_once() {
        let recorder = crate::record::Recorder::for_tests();
        let mut failures = Failures::new(10_000);
        let segment = || {
            Rc::new(RefCell::new(Segment {
                bytes: Vec::with_capacity(1_000),
                ..Segment::default()
            }))
        };
        let shared = segment();
        for number in 0..30 {
            let (recording, own) = (recorder.recording_for_tests(), segment());
            let held = vec![(recording, vec![Rc::clone(&shared), own])];
            failures.push(Failure {
                held,
                ..failure("reset", number)
            });
        }
        assert!(failures.bytes() <= 10_000, "{}", failures.bytes());
        assert_eq!(failures.len(), 30);
        // The shared one, and those of the last nine.
        assert_eq!(failures.all().filter(|failure| !failure.held.is_empty()).count(), 9);
        // Here, in their list, and by those nine.
        assert_eq!(Rc::strong_count(&shared), 11);
        // One that is still written may grow past what all may hold.
        shared.borrow_mut().bytes.reserve_exact(5_000);
        failures.let_go();
        assert!(failures.bytes() <= 10_000, "{}", failures.bytes());
    }
}
