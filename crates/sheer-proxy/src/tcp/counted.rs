//! A relay on the metrics page: what it moved so far, while it runs, and how each side ended.
//!
//! The relay itself moves bytes past every other counter, in part within the kernel. Both paths count through this.

use std::{cell::Cell, rc::Rc, time::Duration};

use super::{Counters, Direction, Duplex, End, Fault, Outcome, Relay, Side, relay};
use crate::{
    life::Life,
    metrics::TcpOpen,
    record::{How, RelayTape, Tape},
};

/// How often a relay that runs is counted.
const INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of both sides of a relay, which end with it.
#[derive(Debug)]
pub struct Meters {
    /// Of the connection that the client opened.
    pub client: TcpOpen,
    /// Of the connection to the server, where somebody counts it.
    pub server: Option<TcpOpen>,
    /// What records both connections.
    pub tapes: Tapes,
}

/// What records both connections of a relay.
#[derive(Debug)]
pub struct Tapes {
    counters: Rc<Counters>,
    client: RelayTape,
    server: RelayTape,
    upstream: Tape,
}

impl Tapes {
    /// Of the connection that the client opened, and of the one to the server.
    pub(crate) fn new(client: Tape, server: Tape) -> Self {
        let counters = Rc::default();
        Self {
            upstream: server.clone(),
            client: client.relayed(&counters, false),
            server: server.relayed(&counters, true),
            counters,
        }
    }

    /// What the relay counts with, and what records its server's side: for who watches.
    pub(crate) fn watched(&self) -> (&Tape, &Rc<Counters>) {
        (&self.upstream, &self.counters)
    }

    /// The relay ends, and its sockets are still open.
    fn end<C: Duplex, S: Duplex>(&self, relay: &Relay<'_, C, S>, ended: &Ended) {
        let [client, server] = match ended {
            Ended::Relayed(outcome) => ends(outcome),
            Ended::Drained => [How::Closed; 2],
            Ended::Revoked => [How::Reset; 2],
        };
        let (client_socket, server_socket) = relay.sockets();
        let tls = self.counters.passed_tls();
        self.client.judged(Some(&self.server), Fault::of(ended, tls.as_ref()));
        self.client.end(client, client_socket);
        self.server.end(server, server_socket);
    }
}

/// How each side ended: what it did, where it was first, and else what the proxy did to it.
fn ends(outcome: &Outcome) -> [How; 2] {
    let broke = |sends: &Direction, receives: &Direction, own: Side| match (&sends.end, &receives.end) {
        (End::SenderReset, _) | (_, End::ReceiverReset) => Some(How::PeerBroke(std::io::ErrorKind::ConnectionReset)),
        (End::Failed(side, error), _) | (_, End::Failed(side, error)) if *side == own => {
            Some(How::PeerBroke(error.kind()))
        }
        _ => None,
    };
    let Outcome {
        to_server,
        to_client,
        first,
    } = outcome;
    let orderly = matches!((&to_server.end, &to_client.end), (End::Closed, End::Closed));
    let how = |sends, receives, side| match broke(sends, receives, side) {
        Some(how) => how,
        None if *first == side => How::PeerClosed,
        None if orderly => How::Closed,
        None => How::Reset,
    };
    [
        how(to_server, to_client, Side::Client),
        how(to_client, to_server, Side::Server),
    ]
}

/// How a counted relay ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Relayed(Outcome),
    /// The proxy goes away and nothing was said for a while: both sides were told that it is over.
    Drained,
    /// It must not go on: both sides were reset.
    Revoked,
}

/// As [`relay`], counted, until it ends or `revoked` is done. What was moved until then counts also where this is dropped.
pub async fn relay_counted<C: Duplex, S: Duplex>(
    (client, server): (C, S),
    meters: Meters,
    life: &Life,
    revoked: impl Future<Output = ()>,
) -> Ended {
    let counters = Rc::clone(&meters.tapes.counters);
    let mut counted = Counted {
        counters: &counters,
        meters,
        seen: Cell::new((0, 0)),
    };
    let mut relay = relay(client, server, &counters);
    let outcome = tokio::select! {
        biased; // what is done counts as done, and the end is worth more than another count
        outcome = &mut relay => outcome,
        () = revoked => {
            counted.meters.tapes.end(&relay, &Ended::Revoked);
            relay.reset();
            counted.meters.client.failed("ECONNRESET");
            return Ended::Revoked;
        }
        never = counted.count_regularly() => match never {},
        () = life.quiet_in_drain(|| counters.moved()) => {
            counted.meters.tapes.end(&relay, &Ended::Drained);
            relay.close().await;
            return Ended::Drained;
        }
    };
    let ended = Ended::Relayed(outcome);
    counted.meters.tapes.end(&relay, &ended);
    if let Ended::Relayed(outcome) = &ended {
        counted.finish(outcome);
    }
    ended
}

struct Counted<'a> {
    counters: &'a Counters,
    meters: Meters,
    /// Counted already: to the server, to the client.
    seen: Cell<(u64, u64)>,
}

impl Counted<'_> {
    async fn count_regularly(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.count();
        }
    }

    fn count(&self) {
        let now = (self.counters.to_server(), self.counters.to_client());
        let seen = self.seen.replace(now);
        let (up, down) = (now.0 - seen.0, now.1 - seen.1);
        self.meters.client.read(up);
        self.meters.client.wrote(down);
        if let Some(server) = &self.meters.server {
            server.wrote(up);
            server.read(down);
        }
    }

    fn finish(mut self, outcome: &Outcome) {
        let Outcome {
            to_server, to_client, ..
        } = outcome;
        if is_reset(to_server, to_client) {
            self.meters.client.failed("ECONNRESET");
        }
        if let Some(server) = self.meters.server.as_mut().filter(|_| is_reset(to_client, to_server)) {
            server.failed("ECONNRESET");
        }
    }
}

/// Whether the side was reset that sends one direction and receives the other.
fn is_reset(sends: &Direction, receives: &Direction) -> bool {
    matches!(sends.end, End::SenderReset) || matches!(receives.end, End::ReceiverReset)
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count();
    }
}
