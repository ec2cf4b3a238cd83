//! Both directions of a relay, and what the end of one means for the other.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    Counters, Direction, Duplex, End, Outcome, Side,
    half::{Ends, Failure, Half},
    handshake::Follower,
    hello::Looker,
};
use crate::sys;

/// How long the end of a relay that is closed may take to reach both sides.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A running relay; see [`super::relay`]. Closes both connections when it ends or is dropped.
#[derive(Debug)]
#[must_use = "a relay moves bytes only while it is polled"]
pub struct Relay<'a, C, S> {
    client: C,
    server: S,
    counters: &'a Counters,
    to_server: Half,
    to_client: Half,
    looker: Looker,
    /// Of what the client says, and of what the server does.
    followers: [Follower; 2],
    ends: Ended,
}

/// How the directions ended so far.
#[derive(Debug, Default)]
struct Ended {
    to_server: Option<End>,
    to_client: Option<End>,
    first: Option<Side>,
}

impl<'a, C: Duplex, S: Duplex> Relay<'a, C, S> {
    pub(super) fn new(mut client: C, mut server: S, counters: &'a Counters) -> Self {
        let splice = client.is_plain() && server.is_plain();
        let to_server = Half::new(client.take_prefix(), splice);
        let mut looker = Looker::default();
        looker.look(to_server.prefix(), &counters.hello);
        let to_client = Half::new(server.take_prefix(), splice);
        let mut followers = [Follower::default(), Follower::default()];
        followers[0].follow(to_server.prefix(), Side::Client, &counters.handshake);
        followers[1].follow(to_client.prefix(), Side::Server, &counters.handshake);
        Self {
            client,
            server,
            counters,
            to_server,
            to_client,
            looker,
            followers,
            ends: Ended::default(),
        }
    }

    /// Ends a relay whose directions have nothing to say: both sides are told that it is over, in an orderly way.
    pub async fn close(mut self) {
        // Fails only where one is gone already; and a side that takes not even its end is dropped soon.
        let both = async { tokio::join!(self.client.shutdown(), self.server.shutdown()) };
        drop(tokio::time::timeout(CLOSE_WAIT, both).await);
    }

    fn poll_to_server(&mut self, cx: &mut Context<'_>) {
        if self.ends.to_server.is_some() {
            return;
        }
        let counter = &self.counters.to_server;
        let mut ends = Ends {
            from: &mut self.client,
            to: &mut self.server,
            counter,
            look: Some((&mut self.looker, &self.counters.hello)),
            follow: (&mut self.followers[0], Side::Client, &self.counters.handshake),
        };
        let Poll::Ready(result) = self.to_server.poll(&mut ends, cx) else {
            return;
        };
        let end = end(result, Side::Client, Side::Server, &mut self.ends.first);
        // The kernel tells of a reset once. Whoever asks again is told of an orderly end.
        self.to_client.cut_off = matches!(end, End::ReceiverReset);
        self.ends.to_server = Some(end);
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) {
        if self.ends.to_client.is_some() {
            return;
        }
        let counter = &self.counters.to_client;
        let mut ends = Ends {
            from: &mut self.server,
            to: &mut self.client,
            counter,
            look: None,
            follow: (&mut self.followers[1], Side::Server, &self.counters.handshake),
        };
        let Poll::Ready(result) = self.to_client.poll(&mut ends, cx) else {
            return;
        };
        let end = end(result, Side::Server, Side::Client, &mut self.ends.first);
        self.to_server.cut_off = matches!(end, End::ReceiverReset);
        self.ends.to_client = Some(end);
    }

    /// The sockets of client and server.
    pub(super) fn sockets(&self) -> (Option<&TcpStream>, Option<&TcpStream>) {
        (self.client.socket(), self.server.socket())
    }

    /// Stops at once; both sides see a reset.
    pub fn reset(self) {
        self.reset_on_close();
    }

    fn reset_on_close(&self) {
        for socket in [self.client.socket(), self.server.socket()].into_iter().flatten() {
            // Fails only on a socket that is gone already.
            let _ = sys::reset_on_close(socket);
        }
    }

    /// Whether nothing more can come of this relay. A side that failed as a sender fails both directions; one that failed as a
    /// receiver may have sent something before that which the other side should still get.
    fn is_over(&self) -> bool {
        match (&self.ends.to_server, &self.ends.to_client) {
            (Some(_), Some(_)) => true,
            (Some(end), None) | (None, Some(end)) => matches!(end, End::SenderReset | End::Failed(..)),
            (None, None) => false,
        }
    }

    /// Passes a failure on: a side that is still well must not take the other's reset for an orderly end.
    fn outcome(&mut self) -> Outcome {
        let ends = std::mem::take(&mut self.ends);
        let to_server = ends.to_server.unwrap_or(End::Abandoned);
        let to_client = ends.to_client.unwrap_or(End::Abandoned);
        if !matches!((&to_server, &to_client), (End::Closed, End::Closed)) {
            self.reset_on_close();
        }
        Outcome {
            to_server: Direction {
                bytes: self.to_server.moved,
                end: to_server,
            },
            to_client: Direction {
                bytes: self.to_client.moved,
                end: to_client,
            },
            first: ends.first.unwrap_or(Side::Client),
        }
    }
}

/// What a direction's result means, and which side ended first.
fn end(result: Result<(), Failure>, sender: Side, receiver: Side, first: &mut Option<Side>) -> End {
    let (end, side) = match result {
        Ok(()) => (End::Closed, sender),
        Err(Failure::Sender(error)) if is_reset(&error) => (End::SenderReset, sender),
        Err(Failure::Sender(error)) => (End::Failed(sender, error), sender),
        Err(Failure::Receiver(error)) if is_reset(&error) => (End::ReceiverReset, receiver),
        Err(Failure::Receiver(error)) => (End::Failed(receiver, error), receiver),
    };
    first.get_or_insert(side);
    end
}

/// Whether the peer cut the connection off. TLS that ends without its close_notify was cut off too (`UnexpectedEof`).
fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof, WriteZero};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof | WriteZero
    )
}

impl<C: Duplex, S: Duplex> Future for Relay<'_, C, S> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        this.poll_to_server(cx);
        this.poll_to_client(cx);
        if this.to_server.cut_off {
            this.poll_to_server(cx); // it may have looked before it knew
        }
        if this.is_over() {
            Poll::Ready(this.outcome())
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
impl<C, S> Relay<'_, C, S> {
    pub(super) fn holds_nothing(&self) -> bool {
        self.to_server.holds_nothing()
            && self.to_client.holds_nothing()
            && self.looker.holds_nothing()
            && self.followers.iter().all(Follower::holds_nothing)
    }
}
