//! Requests that passed, in short: which streams they were, and how they ended.

use std::collections::VecDeque;

use super::tape::Tape;
use crate::exchange::{End, Outcome};

/// Requests that are remembered: a few seconds' worth of a busy proxy, and less than the frames that are kept.
const KEPT: usize = 512;

/// A stream of a connection, by numbers. No connection has number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
            recording.stream_began();
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
            recording.stream_ended();
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
            end: outcome.end,
            failed: false,
        }
    }
}

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<Exchange>);

impl Ring {
    pub(super) fn push(&mut self, exchange: Exchange) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(exchange);
    }

    /// The latest first.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Exchange> {
        self.0.iter().rev()
    }

    pub(super) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<Exchange>()
    }
}
