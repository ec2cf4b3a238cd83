//! Requests that passed, in short: which streams they were, and how they ended.

use std::collections::VecDeque;

use super::tape::Tape;
use crate::exchange::{End, Outcome, PassedOver};

/// Requests that are remembered: a second's worth of most proxies, and less than the frames that are kept.
const KEPT: usize = 512;
/// The same while somebody asks for what has just passed: of a proxy that has 40,000 requests a second this is a tenth of a second, in half a MiB.
const KEPT_WHILE_ASKED: usize = 4_096;
/// Where the last of those that are always remembered took less than this, in microseconds, it is many a second.
const FAST: u64 = 500_000;
/// How long it counts that somebody asked, in microseconds: longer than most pauses of traffic, after which as much as a second's rate of a tap comes at
/// once.
const ASKED: u64 = 10_000_000;

/// A stream of a connection, by numbers. No connection has number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LegId {
    pub(crate) connection: u64,
    pub(crate) stream: u32,
}

/// A request's stream on a connection, counted as open until dropped.
#[derive(Debug, Default)]
pub(crate) struct Leg {
    tape: Tape,
    stream: u32,
    is_over: bool,
}

impl Leg {
    pub(super) fn new(tape: &Tape, stream: u32) -> Self {
        if let Some(recording) = tape.recording() {
            recording.stream_began(stream);
        }
        Self {
            tape: tape.clone(),
            stream,
            is_over: false,
        }
    }

    /// Nothing more comes of it: a connection that closes from here on is not cut off.
    pub(crate) fn over(&mut self) {
        if let Some(recording) = self.tape.recording().filter(|_| !self.is_over) {
            recording.stream_ended(self.stream);
        }
        self.is_over = true;
    }

    /// By numbers.
    pub(crate) fn id(&self) -> LegId {
        LegId {
            connection: self.tape.id(),
            stream: self.stream,
        }
    }

    pub(crate) fn tape(&self) -> &Tape {
        &self.tape
    }

    /// It is for a request that came in there.
    pub(crate) fn sent_for(&self, client: &Leg) {
        if let (Some(recording), Some(client)) = (self.tape.recording(), client.tape.recording()) {
            recording.called_by(self.stream, client.about());
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.over();
        if let Some(recording) = self.tape.recording() {
            recording.stream_told(self.stream);
        }
    }
}

/// A request inside this proxy.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) id: u64,
    pub(crate) client: LegId,
    /// The last, where it was sent more than once; number 0 where it was not sent.
    pub(crate) upstream: LegId,
    /// On the recorder's clock; the rest in microseconds from there.
    pub(crate) started: u64,
    pub(crate) duration: u64,
    pub(crate) first_byte: Option<u64>,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// Times that it went out.
    pub(crate) attempts: u32,
    /// Attempts that were followed by another.
    pub(crate) passed_over: Vec<PassedOver>,
    pub(crate) end: End,
    pub(crate) failed: bool,
}

impl Exchange {
    pub(super) fn new(
        id: u64,
        started: u64,
        duration: u64,
        (client, upstream): (LegId, LegId),
        outcome: &Outcome,
    ) -> Self {
        Self {
            id,
            client,
            upstream,
            started,
            duration,
            first_byte: outcome.first_byte.map(|after| after.as_micros() as u64),
            status: outcome.status.map_or(0, |status| status.as_u16()),
            grpc_status: outcome.grpc_status,
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            attempts: outcome.attempts,
            passed_over: outcome.passed_over.clone(),
            end: outcome.end,
            failed: false,
        }
    }
}

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Ring {
    exchanges: VecDeque<Exchange>,
    /// When that many are enough again, on the recorder's clock.
    more_until: u64,
}

impl Ring {
    pub(super) fn push(&mut self, exchange: Exchange) {
        if self.exchanges.len() >= KEPT {
            self.make_room(exchange.started + exchange.duration);
        }
        self.exchanges.push_back(exchange);
    }

    #[inline]
    fn make_room(&mut self, now: u64) {
        if self.more_until == 0 {
            self.exchanges.pop_front();
        } else if now < self.more_until {
            let surplus = (self.exchanges.len() + 1).saturating_sub(KEPT_WHILE_ASKED);
            self.exchanges.drain(..surplus);
        } else {
            self.more_until = 0;
            self.exchanges.drain(..=self.exchanges.len() - KEPT);
            self.exchanges.shrink_to(KEPT);
        }
    }

    /// Somebody asks for what has just passed, and will again: more is remembered for a while.
    pub(super) fn keep_more(&mut self, now: u64) {
        self.more_until = now + ASKED;
    }

    /// The latest first.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().rev()
    }

    /// Whether so many pass that logs move on faster than they are replayed: more than a thousand a second.
    pub(super) fn is_fast(&self, now: u64) -> bool {
        let recent = self.exchanges.len().checked_sub(KEPT);
        recent.is_some_and(|at| now.saturating_sub(self.exchanges[at].started) < FAST)
    }

    pub(super) fn memory(&self) -> usize {
        self.exchanges.capacity() * size_of::<Exchange>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, count: u64, now: u64) {
        for id in 1..=count {
            ring.push(Exchange::new(
                id,
                now,
                0,
                (LegId::default(), LegId::default()),
                &Outcome::for_tests(),
            ));
        }
    }

    #[test]
    fn who_asks_for_what_has_just_passed_finds_more_of_it_for_a_while() {
        let mut ring = Ring::default();
        push(&mut ring, 600, 0);
        assert_eq!(ring.latest().count(), KEPT);
        let memory = ring.memory();
        ring.keep_more(0);
        push(&mut ring, 3_000, 1);
        assert_eq!(ring.latest().count(), KEPT + 3_000);
        push(&mut ring, 3_000, ASKED - 1);
        assert_eq!(ring.latest().count(), KEPT_WHILE_ASKED);
        let (first, last) = (ring.latest().last(), ring.latest().next());
        assert_eq!(
            (first.map(|one| one.id), last.map(|one| one.id)),
            (Some(3_000 - (KEPT_WHILE_ASKED as u64 - 3_000) + 1), Some(3_000))
        );
        push(&mut ring, 1, ASKED);
        assert_eq!(ring.latest().count(), KEPT);
        assert!(ring.memory() <= memory, "the room is given back");
        push(&mut ring, 3, ASKED);
        assert_eq!(ring.latest().count(), KEPT);
        assert_eq!(ring.latest().next().map(|one| one.id), Some(3));
    }
}
