//! A connection that is relayed as bytes, and that somebody watches.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Taps, Watcher,
    event::{ConnectionEvent, Event, LegFacts, Stream},
};
use crate::{
    error::ProxyError,
    record::{self, Tape},
    tcp::{Counters, End, Ended, Fault, Side},
};

/// A connection that somebody watches; dropped without a word it ended with the proxy.
#[derive(Debug)]
pub(crate) struct TappedConnection {
    taps: Rc<Taps>,
    watching: Vec<Rc<Watcher>>,
    event: ConnectionEvent,
    began: Instant,
    counters: Option<Rc<Counters>>,
    /// It was known to be TLS from the beginning, and for which name.
    was_tls: bool,
    is_told: bool,
}

impl std::fmt::Debug for Taps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taps")
    }
}

impl TappedConnection {
    pub(super) fn new(taps: &Rc<Taps>, watching: Vec<Rc<Watcher>>, stream: Stream) -> Box<Self> {
        let started = taps.clock.now();
        Box::new(Self {
            was_tls: stream.is_tls,
            event: ConnectionEvent {
                id: record::next_request(),
                is_end: false,
                is_outbound: taps.is_outbound,
                clock: taps.clock,
                started,
                at: started,
                stream: Arc::new(stream),
                upstream: LegFacts::default(),
                connected: 0,
                first_byte: 0,
                to_server: 0,
                to_client: 0,
                closed_by: "proxy",
                how: "ended with the proxy".to_owned(),
                verdict: None,
                reason: "",
                message: String::new(),
                failed: true,
            },
            taps: Rc::clone(taps),
            watching,
            began: Instant::now(),
            counters: None,
            is_told: false,
        })
    }

    /// Both sides are connected.
    pub(crate) fn opened(&mut self, upstream: &Tape, counters: &Rc<Counters>) {
        let id = record::LegId {
            connection: upstream.id(),
            stream: 0,
        };
        self.event.upstream = LegFacts::new(id, upstream);
        // Never 0: it has happened.
        self.event.connected = micros(self.began.elapsed()).max(1);
        self.counters = Some(Rc::clone(counters));
        let wants = |one: &&Rc<Watcher>| one.is_told_at_once() && !one.filter.waits_for_end_of(self.was_tls);
        for watching in self.watching.iter().filter(wants) {
            watching.send(Event::Connection(Box::new(self.event.clone())));
        }
    }

    /// The relay has ended.
    pub(crate) fn ended(mut self: Box<Self>, ended: &Ended) {
        let tls = self.counters.as_ref().and_then(|counters| counters.passed_tls());
        let fault = Fault::of(ended, tls.as_ref());
        let (closed_by, how) = match ended {
            Ended::Drained => ("proxy", "closed, as the proxy ends".to_owned()),
            Ended::Revoked => ("proxy", "reset, as policy lets it in no longer".to_owned()),
            Ended::Relayed(outcome) => {
                // Of an orderly end, who began it.
                let by = match fault.as_ref().and_then(|fault| fault.side).unwrap_or(outcome.first) {
                    Side::Client => "client",
                    Side::Server => "server",
                };
                let ends = [&outcome.to_server.end, &outcome.to_client.end];
                let bad = ends.into_iter().find_map(how);
                (by, bad.unwrap_or_else(|| "closed".to_owned()))
            }
        };
        self.event.closed_by = closed_by;
        self.event.how = how;
        self.event.failed = fault.is_some();
        self.blame(fault);
        self.tell();
    }

    /// The proxy refused it.
    pub(crate) fn refused(mut self: Box<Self>, error: &ProxyError) {
        self.event.how = error.in_full();
        self.blame(Some(error.into()));
        self.tell();
    }

    fn blame(&mut self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            (self.event.verdict, self.event.reason) = (Some(fault.verdict), fault.reason);
            self.event.message = fault.message;
        }
    }

    fn tell(&mut self) {
        self.is_told = true;
        self.event.is_end = true;
        self.event.at = self.taps.clock.now();
        if let Some(counters) = &self.counters {
            (self.event.to_server, self.event.to_client) = (counters.to_server(), counters.to_client());
            let answered = counters.answered();
            if let (false, Some(name)) = (self.event.stream.is_tls, counters.hello()) {
                let stream = Arc::make_mut(&mut self.event.stream);
                (stream.is_tls, stream.server_name) = (true, name.to_owned());
            }
            self.event.first_byte = answered.map_or(0, |at| micros(at.saturating_duration_since(self.began)).max(1));
        }
        for watching in &self.watching {
            let filter = &watching.filter;
            if filter.takes_connection_end(&self.event) && (!filter.waits_for_end_of(self.was_tls) || watching.takes())
            {
                watching.send(Event::Connection(Box::new(self.event.clone())));
            }
        }
    }
}

impl Drop for TappedConnection {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell();
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is bad about an end; none for an orderly one.
fn how(end: &End) -> Option<String> {
    match end {
        End::Closed | End::Abandoned => None,
        End::SenderReset | End::ReceiverReset => Some("reset (RST)".to_owned()),
        End::Failed(_, error) => Some(error.to_string()),
    }
}
