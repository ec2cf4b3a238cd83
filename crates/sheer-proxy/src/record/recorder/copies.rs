//! What sight asks a recorder for: copies of connections, of requests that passed, and of what is kept of them.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    rc::Rc,
};

use super::{
    super::{
        copy::{Copied, FailureCopy, Query, RecorderCopy, RecordingCopy},
        exchange::{Exchange, LegId},
        failure::{Failure, FailureKind, has_any},
        log::Shared,
        recording::Recording,
    },
    Inner, Wanted,
};
use crate::{error::Direction, metrics::Counter};

impl Inner {
    pub(super) fn summary(&self) -> RecorderCopy {
        let failures = self.failures.borrow();
        RecorderCopy {
            is_outbound: self.direction == Direction::Outbound,
            clock: self.clock,
            recordings: Vec::new(),
            failures: Vec::new(),
            exchanges: Vec::new(),
            memory: self.taken() + self.exchanges.borrow().memory(),
            limit: self.limit,
            live: self.live.borrow().len(),
            failures_total: failures.total,
            failures_kept: failures.len(),
            compared: self.compared.get(),
            disagreements: self.disagreements.iter().map(Counter::value).sum(),
        }
    }

    pub(super) fn recordings(&self, query: &Query) -> Vec<RecordingCopy> {
        let (live, ended) = (self.live.borrow(), self.ended.borrow());
        let ended = ended.iter().filter(|_| query.ended);
        let wanted = ended.chain(live.iter()).filter(|recording| {
            (query.connection == 0 || recording.id() == query.connection)
                && query.peer.is_none_or(|peer| peer == recording.about().peer)
        });
        let mut copies: Vec<_> = wanted
            .map(|recording| recording.copy(query.after(recording.id())))
            .collect();
        copies.sort_by_key(|copy| copy.id);
        copies
    }

    pub(super) fn copies_of<'a>(&self, kept: impl Iterator<Item = &'a Failure>) -> Vec<FailureCopy> {
        let failures = self.failures.borrow();
        // Many hold the same.
        let mut copied = Copied::default();
        let mut recording = |failure: &Failure, recording: &Recording| {
            let is_of_it = |other: &Rc<Recording>| other.id() == recording.id();
            let held = failure.held.iter().filter(|(of, _)| is_of_it(of));
            let mut segments: Vec<Shared> = held.flat_map(|(_, segments)| segments.iter().cloned()).collect();
            if matches!(failure.facts.kind, FailureKind::Request) {
                // What ends a request may have been written after it was held.
                let streams = failure.facts.streams(recording.id());
                let is_new = |one: &Shared| !segments.iter().any(|known| Rc::ptr_eq(known, one));
                let logged = recording.segments().into_iter();
                let more: Vec<_> = logged.filter(|one| is_new(one) && has_any(one, &streams)).collect();
                segments.extend(more);
                segments.sort_by_key(|segment| segment.borrow().first);
            }
            let left = failure.excerpts.iter().filter(|(of, _)| is_of_it(of));
            recording.copy_of_failure(
                copied.segments(&segments, 0),
                left.map(|(_, excerpt)| failures.excerpts().copy(excerpt)).collect(),
            )
        };
        let copy = |failure: &Failure| FailureCopy {
            facts: failure.facts.clone(),
            recordings: failure
                .recordings()
                .into_iter()
                .map(|one| recording(failure, one))
                .collect(),
        };
        kept.map(copy).collect()
    }

    /// Adds to the copy of its connection what is kept of a stream since somebody was shown its request.
    pub(super) fn add_shown(&self, copies: &mut Vec<RecordingCopy>, query: &Query, leg: LegId) {
        let failures = self.failures.borrow();
        let is_of_it = |request: &&Failure| request.facts.streams(leg.connection).contains(&leg.stream);
        let kept = self.copies_of(failures.shown().find(is_of_it).into_iter());
        let recordings = kept.into_iter().flat_map(|request| request.recordings);
        let is_wanted = |recording: &RecordingCopy| {
            recording.id == leg.connection && query.peer.is_none_or(|peer| peer == recording.about.peer)
        };
        for kept in recordings.filter(is_wanted) {
            match copies.iter_mut().find(|copy| copy.id == leg.connection) {
                Some(copy) => copy.add(kept),
                None => copies.push(kept),
            }
        }
    }

    /// Connections of failures of which nothing else is kept, without what passed: whose they were.
    pub(super) fn bare_legs(&self, copy: &RecorderCopy) -> Vec<RecordingCopy> {
        let of_failure = |failure: &FailureCopy| {
            let kept: Vec<u64> = failure.recordings.iter().map(|recording| recording.id).collect();
            failure
                .facts
                .connections()
                .filter(move |id| !kept.contains(id))
                .collect::<Vec<_>>()
        };
        let mut ids: Vec<u64> = copy.failures.iter().flat_map(of_failure).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| copy.find(*id).is_none());
        ids.into_iter()
            .filter_map(|id| self.find(id))
            .map(|recording| recording.copy(None))
            .collect()
    }

    pub(super) fn wanted(&self, wanted: &Wanted) -> Vec<Exchange> {
        let [clients, upstreams] = [&wanted.clients, &wanted.upstreams].map(|legs| self.streams_of(legs));
        let is_by_leg = clients.is_some() || upstreams.is_some();
        if [&clients, &upstreams].into_iter().flatten().any(HashSet::is_empty) {
            return Vec::new();
        }
        if is_by_leg && wanted.in_short {
            self.exchanges.borrow_mut().keep_more(self.clock.now());
        }
        let exchanges = self.exchanges.borrow();
        let on = |leg: LegId, any: &Option<HashSet<LegId>>| any.as_ref().is_none_or(|any| any.contains(&leg));
        let is_wanted = |exchange: &&Exchange| {
            (wanted.id == 0 || exchange.id == wanted.id)
                && (!wanted.failed || exchange.failed)
                && on(exchange.client, &clients)
                && on(exchange.upstream, &upstreams)
        };
        let limit = wanted.limit.max(1);
        let mut found: Vec<_> = exchanges.latest().filter(is_wanted).take(limit).cloned().collect();
        drop(exchanges);
        if is_by_leg && wanted.in_short {
            // Whoever asks shows them as the other half of what a tap shows.
            for exchange in &found {
                let legs = [exchange.client, exchange.upstream];
                self.shown(exchange, legs.into_iter().filter_map(|leg| self.find(leg.connection)));
            }
        }
        if wanted.with_kept || found.is_empty() || (is_by_leg && found.len() < limit) {
            // What failed, and what was shown, is remembered for longer.
            let failures = self.failures.borrow();
            let kept = failures.all().rev().chain(failures.shown());
            let kept = kept.filter_map(|failure| failure.facts.exchange.as_ref());
            let is_new = |exchange: &&Exchange| found.iter().all(|known| known.id != exchange.id);
            let mut kept: Vec<_> = kept.filter(is_wanted).filter(is_new).cloned().collect();
            if !wanted.with_kept {
                kept.truncate(limit - found.len());
            }
            found.extend(kept);
        }
        found
    }

    /// The streams of these legs by numbers: of connections that are open, or have ended, or are gone while what failed on them is kept. None where no
    /// leg is named.
    ///
    /// Redirection hides where an accepted connection was going: the other end knows that address.
    fn streams_of(&self, legs: &[(SocketAddr, SocketAddr, u32)]) -> Option<HashSet<LegId>> {
        if legs.is_empty() {
            return None;
        }
        let mut by_remote: HashMap<_, Vec<_>> = HashMap::new();
        for (local, remote, stream) in legs {
            by_remote.entry(*remote).or_default().push((*local, *stream));
        }
        let mut streams = HashSet::new();
        let mut add = |recording: &Recording| {
            let about = recording.about();
            let named = about.remote.and_then(|remote| by_remote.get(&remote));
            for (local, stream) in named.into_iter().flatten() {
                if [about.local, about.original].contains(&Some(*local)) {
                    streams.insert(LegId {
                        connection: recording.id(),
                        stream: *stream,
                    });
                }
            }
        };
        self.live.borrow().iter().for_each(|one| add(one));
        self.ended.borrow().iter().for_each(|one| add(one));
        self.failures.borrow().connections().for_each(add);
        Some(streams)
    }
}
