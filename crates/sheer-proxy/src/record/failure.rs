//! What failed lately, with the recording of what came before: segments of the log are held on to, nothing is copied. Where they take too much, those of
//! the oldest failures are let go, and an [`excerpt`] of them is kept.
//!
//! Requests that a tap has shown are kept likewise, as whoever saw them may look closer, and go before any failure does.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
};

use sheer_api::Verdict;
use sheer_lens::hpack::ListKind;

use super::{
    ahead::Ahead,
    credit::Credit,
    excerpt::{self, Excerpt, Excerpts, Segments, Want, Work},
    exchange::{Exchange, LegId},
    log::{Leaving, Shared},
    opinion::List,
    recording::Recording,
};

/// Failures that are kept.
pub(super) const KEPT: usize = 200;
/// Requests that were shown and are kept.
const SHOWN: usize = 200;
/// Failures are replayed at a record's worth in so many microseconds, and after a calm so much at once: a storm takes a few per cent of a worker at most. What
/// has to go while there is no credit goes without an excerpt.
const REPLAYED: (u64, i64) = (4, 20_000);
/// The same of requests that were shown.
const SHOWN_REPLAYED: (u64, i64) = (20, 20_000);
/// Requests that were shown are kept, one in so many microseconds and after a calm so many at once: more than anybody reads.
const SHOWN_EVERY: (u64, i64) = (10_000, 100);
/// The same where more pass than can be replayed in a share of the time that nobody notices.
const SHOWN_OF_MANY: (u64, i64) = (1_000_000, 1);
/// Once a request is known to be over, its last frames are written within this time, in microseconds.
const WRITTEN_WITHIN: u64 = 20_000;
/// Where the newest failure holds much, excerpts of the others still have this share of what all may hold, in quarters.
const OF_EXCERPTS: usize = 3;
/// One excerpt takes one in this many parts of what all may hold at most, without its texts: a list of thousands of fields must not drive out all others.
const OF_ONE: usize = 8;
/// Excerpts of streams that are open and may yet fail take one in this many parts.
const OF_AHEAD: usize = 4;
/// Excerpts take no more than this, whatever the settings: their texts are found by 32 bits.
const MOST_OF_EXCERPTS: usize = 1 << 30;

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
    /// Both sides of a relayed connection; number 0 where the server's was not opened.
    pub(crate) relay: Option<(LegId, LegId)>,
    /// Where it was noticed.
    pub(crate) place: LegId,
}

impl Facts {
    /// The streams of a connection that it is about; none: the connection as a whole.
    pub(crate) fn streams(&self, connection: u64) -> Vec<u32> {
        let legs = self
            .exchange
            .iter()
            .flat_map(|exchange| [exchange.client, exchange.upstream]);
        let own = legs.chain([self.place]).filter(|leg| leg.connection == connection);
        let mut streams: Vec<u32> = own.map(|leg| leg.stream).filter(|stream| *stream != 0).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    /// The connections that it is about.
    pub(super) fn connections(&self) -> impl Iterator<Item = u64> {
        let legs = self
            .exchange
            .iter()
            .map(|exchange| (exchange.client, exchange.upstream));
        let legs = legs.chain(self.relay).flat_map(|(client, server)| [client, server]);
        let known = legs.chain([self.place]).filter(|leg| leg.is_known());
        known.map(|leg| leg.connection)
    }

    /// What to keep of a connection, from this frame on.
    fn want(&self, connection: u64, from: u64) -> Want {
        let is_request = matches!(self.kind, FailureKind::Request);
        Want {
            streams: self.streams(connection),
            before: (!is_request).then_some(self.at),
            only_heads: false,
            from,
        }
    }
}

/// What is held of a connection.
pub(super) type Held = (Rc<Recording>, Vec<Shared>);

/// A failure and what is held for it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) facts: Facts,
    pub(super) held: Vec<Held>,
    /// What is left of it once that is let go, and what its request said before that; oldest first.
    pub(super) excerpts: Vec<(Rc<Recording>, Excerpt)>,
    /// Something of it may not be written yet.
    is_open: bool,
}

impl Failure {
    pub(super) fn new(facts: Facts, held: Vec<Held>) -> Self {
        Self {
            facts,
            held,
            excerpts: Vec::new(),
            is_open: false,
        }
    }

    /// The connections that something is kept of, each once.
    pub(super) fn recordings(&self) -> Vec<&Recording> {
        let held = self.held.iter().map(|(recording, _)| &**recording);
        let left = self.excerpts.iter().map(|(recording, _)| &**recording);
        let mut all: Vec<&Recording> = Vec::new();
        for recording in held.chain(left) {
            if all.iter().all(|known| known.id() != recording.id()) {
                all.push(recording);
            }
        }
        all
    }

    /// Number of the first frame of a connection that no excerpt has yet.
    fn kept_until(&self, connection: u64) -> u64 {
        let left = self
            .excerpts
            .iter()
            .filter(|(recording, _)| recording.id() == connection);
        left.map(|(_, excerpt)| excerpt.next()).max().unwrap_or(0)
    }

    fn segments(&self) -> impl Iterator<Item = &Shared> {
        self.held.iter().flat_map(|(_, segments)| segments)
    }
}

/// The last failures.
#[derive(Debug)]
pub(super) struct Failures {
    all: VecDeque<Failure>,
    pub(super) total: u64,
    /// Segments that are held, and by how many failures.
    held: HashMap<*const (), (usize, Shared)>,
    excerpts: Excerpts,
    ahead: Ahead,
    credit: Credit,
    /// Requests that were shown, oldest first.
    shown: VecDeque<Failure>,
    /// How many more are kept: of few that pass, and of many.
    shown_credit: [Credit; 2],
    /// How much is replayed for them.
    shown_replayed: Credit,
    limit: usize,
}

/// Whether the log of its connection has a segment as well, which these many failures hold: to let go of it would free nothing.
fn is_logged(segment: &Shared, holders: usize) -> bool {
    // Each failure has it, and the list of what is held.
    Rc::strong_count(segment) > holders + 1
}

/// Whether something in a segment is of one of these streams.
pub(super) fn has_any(segment: &Shared, streams: &[u32]) -> bool {
    let segment = segment.borrow();
    let mut records = segment.records.iter().rev();
    records.any(|record| streams.contains(&record.stream))
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
            excerpts: Excerpts::default(),
            ahead: Ahead::default(),
            credit: Credit::new(REPLAYED.0, REPLAYED.1),
            shown: VecDeque::new(),
            shown_credit: [SHOWN_EVERY, SHOWN_OF_MANY].map(|(every, saved)| Credit::new(every, saved)),
            shown_replayed: Credit::new(SHOWN_REPLAYED.0, SHOWN_REPLAYED.1),
            limit,
        }
    }

    /// Failures, oldest first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Failure> {
        self.all.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Requests that were shown, the latest first.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Failure> {
        self.shown.iter().rev()
    }

    /// Everything that is kept, what goes first first.
    fn kept(&self) -> impl Iterator<Item = &Failure> {
        self.shown.iter().chain(&self.all)
    }

    fn at(&self, at: usize) -> &Failure {
        let among_failures = at.checked_sub(self.shown.len());
        among_failures.map_or_else(|| &self.shown[at], |at| &self.all[at])
    }

    fn at_mut(&mut self, at: usize) -> &mut Failure {
        match at.checked_sub(self.shown.len()) {
            Some(at) => &mut self.all[at],
            None => &mut self.shown[at],
        }
    }

    /// Connections of which something is kept; one comes as often as it is.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Recording> {
        let held = self.kept().flat_map(|failure| &failure.held);
        let left = self.kept().flat_map(|failure| &failure.excerpts);
        let held = held.map(|(recording, _)| &**recording);
        held.chain(left.map(|(recording, _)| &**recording))
    }

    /// A connection of which something is kept.
    pub(super) fn find(&self, connection: u64) -> Option<&Recording> {
        self.connections().find(|recording| recording.id() == connection)
    }

    #[cfg(test)]
    pub(super) fn credit(&self) -> i64 {
        self.credit.left()
    }

    pub(super) fn excerpts(&self) -> &Excerpts {
        &self.excerpts
    }

    /// Bytes that are held on their account alone: what the logs of connections have as well is counted there.
    pub(super) fn bytes(&self) -> usize {
        self.raw() + self.excerpts.bytes()
    }

    fn raw(&self) -> usize {
        let own = self
            .held
            .values()
            .filter(|(holders, segment)| !is_logged(segment, *holders));
        own.map(|(_, segment)| segment.borrow().memory()).sum()
    }

    /// A segment leaves its log while these streams are open: what their heads said is kept, in case they fail. Says whether anything is.
    pub(super) fn keep_ahead(&mut self, recording: &Rc<Recording>, (segment, streams): &Leaving, now: u64) -> bool {
        // What has failed comes first.
        if !self.credit.exceeds(REPLAYED.1 / 2, now) {
            return self.ahead.is_of(recording.id());
        }
        let want = |stream: &u32| Want {
            streams: vec![*stream],
            before: None,
            only_heads: true,
            from: 0,
        };
        let wants: Vec<Want> = streams.iter().map(want).collect();
        let before = self.excerpts.bytes();
        let segments = Segments::from([(excerpt::order(segment), Rc::clone(segment))]);
        let (made, work) = self.excerpts.distil(recording, &segments, &wants);
        self.credit.spend(work);
        let bytes = self.excerpts.bytes().saturating_sub(before) / streams.len().max(1);
        for (stream, excerpt) in streams.iter().zip(made) {
            let Some(excerpt) = excerpt else { continue };
            if excerpt.memory() > self.limit / OF_ONE {
                self.excerpts.drop(&excerpt);
                continue;
            }
            let leg = LegId {
                connection: recording.id(),
                stream: *stream,
            };
            let bytes = bytes.max(excerpt.memory());
            self.ahead.push(leg, excerpt, bytes);
        }
        self.ahead.shed(self.limit / OF_AHEAD, &mut self.excerpts);
        self.ahead.is_of(recording.id())
    }

    /// A stream is over, and has not failed. Says whether something is kept of others of its connection.
    pub(super) fn forget_ahead(&mut self, leg: LegId) -> bool {
        for excerpt in self.ahead.take(leg) {
            self.excerpts.drop(&excerpt);
        }
        self.ahead.is_of(leg.connection)
    }

    /// A connection is over, with all of its requests.
    pub(super) fn forget_ahead_of(&mut self, connection: u64) {
        while let Some(leg) = self.ahead.any_of(connection) {
            self.forget_ahead(leg);
        }
    }

    /// Keeps a failure.
    pub(super) fn push(&mut self, mut failure: Failure) {
        self.total += 1;
        self.hold(&mut failure);
        let now = failure.facts.at;
        self.all.push_back(failure);
        if self.all.len() > KEPT {
            self.drop_one();
        }
        self.let_go(now);
    }

    /// Whether a request that was shown is to be kept: it is not yet, and not too many are. Where `of_many` pass, few are.
    pub(super) fn takes_shown(&mut self, id: u64, now: u64, of_many: bool) -> bool {
        let is_of_it = |kept: &Failure| kept.facts.exchange.as_ref().is_some_and(|exchange| exchange.id == id);
        let credit = usize::from(of_many);
        let takes = self.shown_credit[credit].exceeds(0, now) && !self.shown().any(is_of_it);
        if takes {
            self.shown_credit[credit].spend(1);
        }
        takes
    }

    /// Keeps a request that was shown.
    pub(super) fn push_shown(&mut self, mut request: Failure) {
        let now = request.facts.at;
        self.hold(&mut request);
        request.is_open = true;
        self.shown.push_back(request);
        if self.shown.len() > SHOWN
            && let Some(oldest) = self.shown.pop_front()
        {
            self.release(&oldest.held);
            self.excerpts.forget(&oldest.excerpts);
        }
        self.let_go(now);
    }

    /// Holds on to what was said before this, and to what the logs have of it.
    fn hold(&mut self, failure: &mut Failure) {
        let failed = match failure.facts.kind {
            FailureKind::Request => &failure.held[..],
            // Its streams are open.
            FailureKind::Connection | FailureKind::Disagreement(_) => &[],
        };
        for (recording, _) in failed {
            for stream in failure.facts.streams(recording.id()) {
                let connection = recording.id();
                for excerpt in self.ahead.take(LegId { connection, stream }) {
                    self.excerpts.adopt(recording);
                    failure.excerpts.push((Rc::clone(recording), excerpt));
                }
            }
        }
        for segment in failure.segments() {
            let held = self.held.entry(address(segment));
            held.or_insert_with(|| (0, Rc::clone(segment))).0 += 1;
        }
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
            self.excerpts.forget(&failure.excerpts);
        }
    }

    /// What ends a request that was shown is written soon after it is known, maybe in a segment that began in between.
    fn catch_up(&mut self, now: u64) {
        for request in self.shown.iter_mut().rev().take_while(|request| request.is_open) {
            for (recording, held) in &mut request.held {
                let streams = request.facts.streams(recording.id());
                let is_new = |one: &Shared| !held.iter().any(|known| Rc::ptr_eq(known, one)) && has_any(one, &streams);
                let more: Vec<Shared> = recording.segments().into_iter().filter(is_new).collect();
                for segment in &more {
                    let all = self.held.entry(address(segment));
                    all.or_insert_with(|| (0, Rc::clone(segment))).0 += 1;
                }
                held.extend(more);
            }
            request.is_open = now < request.facts.at + WRITTEN_WITHIN;
        }
    }

    /// Where too much is held, the oldest requests that were shown and then the oldest failures let go of their segments, and keep excerpts of them. Where those are too much, the oldest lose theirs.
    pub(super) fn let_go(&mut self, now: u64) {
        self.catch_up(now);
        loop {
            let excess = self.bytes().saturating_sub(self.limit);
            let going = self.going(excess);
            if going.is_empty() {
                break;
            }
            let (shown, failed) = going.split_at(going.partition_point(|at| *at < self.shown.len()));
            if !shown.is_empty() && self.shown_replayed.exceeds(0, now) {
                let work = self.distil(shown);
                self.shown_replayed.spend(work);
            }
            if !failed.is_empty() {
                if self.credit.exceeds(0, now) {
                    let work = self.distil(failed);
                    self.credit.spend(work);
                } else if self.forget_shown(excess) {
                    continue;
                }
            }
            for at in going {
                let held = std::mem::take(&mut self.at_mut(at).held);
                self.release(&held);
            }
        }
        self.shed();
    }

    /// So much of what was shown is forgotten, the oldest first, that this much less is kept. Says whether there was any.
    fn forget_shown(&mut self, excess: usize) -> bool {
        let before = self.excerpts.bytes();
        let mut has_any = false;
        for request in &mut self.shown {
            if before.saturating_sub(self.excerpts.bytes()) >= excess {
                break;
            }
            has_any |= !request.excerpts.is_empty();
            self.excerpts.forget(&std::mem::take(&mut request.excerpts));
        }
        has_any
    }

    /// The first of what is kept without which this much less is held. The newest failure stays, and so does what frees nothing because newer ones hold it as well.
    fn going(&self, excess: usize) -> Vec<usize> {
        let mut holders: HashMap<*const (), usize> = HashMap::new();
        let (mut freed, mut until) = (0, 0);
        while freed < excess && until < self.shown.len() + self.all.len().saturating_sub(1) {
            for segment in self.at(until).segments() {
                let address = address(segment);
                let all = || self.held.get(&address).map_or(0, |(holders, _)| *holders);
                let left = holders.entry(address).or_insert_with(all);
                *left = left.saturating_sub(1);
                if *left == 0 && !self.is_logged(segment) {
                    freed += segment.borrow().memory();
                }
            }
            until += 1;
        }
        let is_freed = |segment: &Shared| holders[&address(segment)] == 0 && !self.is_logged(segment);
        let frees = |at: &usize| self.at(*at).segments().any(is_freed);
        let is_void = |at: &usize| !self.at(*at).held.is_empty() && self.at(*at).segments().next().is_none();
        (0..until).filter(|at| frees(at) || is_void(at)).collect()
    }

    fn is_logged(&self, segment: &Shared) -> bool {
        self.held
            .get(&address(segment))
            .is_some_and(|(holders, _)| is_logged(segment, *holders))
    }

    /// Makes excerpts of what these hold, connection by connection. Gives what that took.
    fn distil(&mut self, going: &[usize]) -> Work {
        let mut connections: BTreeMap<u64, (Rc<Recording>, Segments, Vec<usize>)> = BTreeMap::new();
        let ordered = |segment: &Shared| (excerpt::order(segment), Rc::clone(segment));
        for &at in going {
            for (recording, segments) in &self.at(at).held {
                let fresh = || (Rc::clone(recording), Segments::new(), Vec::new());
                let (_, all, holders) = connections.entry(recording.id()).or_insert_with(fresh);
                all.extend(segments.iter().map(ordered));
                holders.push(at);
            }
        }
        let mut work = 0;
        for (id, (recording, mut segments, holders)) in connections {
            // The end of a request may have been written after its failure was noticed.
            segments.extend(recording.segments().iter().map(ordered));
            let want = |at: &usize| self.at(*at).facts.want(id, self.at(*at).kept_until(id));
            let wants: Vec<Want> = holders.iter().map(want).collect();
            // Either all of these failed, or all were shown.
            if holders.iter().all(|at| *at < self.shown.len()) {
                segments.retain(|_, segment| wants.iter().any(|want| has_any(segment, &want.streams)));
            }
            let (excerpts, more) = self.excerpts.distil(&recording, &segments, &wants);
            work += more;
            for (at, excerpt) in holders.into_iter().zip(excerpts) {
                let Some(excerpt) = excerpt else { continue };
                if excerpt.memory() > self.limit / OF_ONE {
                    self.excerpts.drop(&excerpt);
                } else {
                    self.excerpts.adopt(&recording);
                    self.at_mut(at).excerpts.push((Rc::clone(&recording), excerpt));
                }
            }
        }
        for &at in going {
            let Failure { held, excerpts, .. } = self.at_mut(at);
            excerpts.sort_by_key(|(recording, _)| held.iter().position(|(held, _)| held.id() == recording.id()));
            excerpts.shrink_to_fit();
        }
        work
    }

    /// The oldest lose their excerpts where all excerpts are too much.
    fn shed(&mut self) {
        let share = self.limit / 4 * OF_EXCERPTS;
        let room = self.limit.saturating_sub(self.raw()).max(share).min(MOST_OF_EXCERPTS);
        for failure in self.shown.iter_mut().chain(&mut self.all) {
            if self.excerpts.bytes() <= room {
                break;
            }
            self.excerpts.forget(&std::mem::take(&mut failure.excerpts));
        }
    }

    /// Holds on no longer.
    fn release(&mut self, held: &[Held]) {
        for segment in held.iter().flat_map(|(_, segments)| segments) {
            let address = address(segment);
            let Some((holders, _)) = self.held.get_mut(&address) else {
                continue;
            };
            *holders -= 1;
            if *holders == 0 {
                self.held.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::record::log::Segment;

    fn failure(reason: &'static str, number: u64) -> Failure {
        let facts = Facts {
            number,
            at: number,
            kind: FailureKind::Request,
            verdict: None,
            reason: reason.into(),
            message: String::new(),
            exchange: None,
            relay: None,
            place: LegId::default(),
        };
        Failure::new(facts, Vec::new())
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
        // Of the last ten: a log has the shared one as well.
        let holders = |failures: &Failures| failures.all().filter(|failure| !failure.held.is_empty()).count();
        assert_eq!(holders(&failures), 10);
        // Here, in their list, and by those ten.
        assert_eq!(Rc::strong_count(&shared), 12);
        // One that is still written costs them what it has grown to, once it is theirs alone.
        shared.borrow_mut().bytes.reserve_exact(5_000);
        failures.let_go(1_000);
        assert_eq!(holders(&failures), 10);
        drop(shared);
        failures.let_go(1_000);
        assert!(failures.bytes() <= 10_000, "{}", failures.bytes());
        assert_eq!(holders(&failures), 5);
    }
}
