//! The HTTP/2 connections to one endpoint: one as a rule, more while the peer's limit of streams is reached.
//!
//! ```text
//!   Connecting ──handshake──► Up ──last connection ends or says GOAWAY──► Connecting
//!       │  ▲
//!  fails│  │wait is over, or somebody needs it now
//!       ▼  │
//!     Waiting
//! ```
//!
//! A peer that exists keeps itself connected: whoever holds it wants to send to it. GOAWAY takes a connection out at once, in the same
//! turn in which the frame was read; its streams finish on it while new requests go to a new one. A stream is reserved
//! without waiting: where none is free the caller asks another endpoint, or queues.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{sync::Notify, time::Instant};

use super::{
    Shared, backoff,
    watch::{Watcher, Watchers},
};
use crate::{
    connect::Speak,
    discovery::Endpoint,
    error::ProxyError,
    exchange::{Http1Connection, Http1Upstream, Upstream},
    http2,
    metrics::TcpMetrics,
};

/// Most connections to one endpoint: enough for a peer that allows the customary 100 streams, and no flood for one that allows 1.
const MAX_CONNECTIONS: usize = 8;
/// A connection that lived this long was a good one: the next attempt is made at once, as if there had been no failure before.
const GOOD_LIFE: Duration = Duration::from_secs(1);

/// One endpoint and its connections.
#[derive(Debug)]
pub(super) struct H2Peer {
    endpoint: Arc<Endpoint>,
    shared: Rc<Shared>,
    metrics: TcpMetrics,
    /// Connections that take new streams, the fullest first.
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Why there is none; the last failure while a new attempt is under way.
    down: RefCell<Option<ProxyError>>,
    widening: Cell<bool>,
    /// A connection that was there has ended.
    lost_one: Cell<bool>,
    watchers: Watchers,
    /// Wakes the task that keeps the peer connected.
    wake: Rc<Notify>,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    send: RefCell<SendRequest<Bytes>>,
    streams: Cell<usize>,
    opened: Instant,
}

impl Connection {
    fn is_full(&self) -> bool {
        self.streams.get() >= self.send.borrow().current_max_send_streams()
    }

    /// Whether streams may still be opened; not after a GOAWAY or once the connection failed.
    fn is_open(&self) -> bool {
        // Nothing is pending on this handle, so that the answer is there at once and the waker is never kept.
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.send.borrow_mut().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

/// A stream that may be opened, counted until dropped. The connection stays open as long.
#[derive(Debug)]
pub struct StreamSlot {
    connection: Rc<Connection>,
    peer: Weak<H2Peer>,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let was_full = self.connection.is_full();
        self.connection.streams.set(self.connection.streams.get() - 1);
        if let Some(peer) = self.peer.upgrade() {
            peer.stream_ended(&self.connection, was_full);
        }
    }
}

impl H2Peer {
    /// A peer, which begins to connect.
    pub(super) fn new(endpoint: Arc<Endpoint>, shared: Rc<Shared>, metrics: TcpMetrics) -> Rc<Self> {
        let wake = Rc::new(Notify::new());
        let peer = Rc::new(Self {
            endpoint,
            shared,
            metrics,
            connections: RefCell::default(),
            down: RefCell::default(),
            widening: Cell::new(false),
            lost_one: Cell::new(false),
            watchers: Watchers::default(),
            wake: Rc::clone(&wake),
        });
        tokio::task::spawn_local(keep_connected(Rc::downgrade(&peer), wake));
        peer
    }

    /// Tells `watcher` whenever this peer becomes usable or unusable.
    pub(super) fn watch(&self, watcher: &Watcher) {
        self.watchers.add(watcher);
    }

    /// Whether the peer is a proxy of the mesh.
    pub(super) fn is_meshed(&self) -> bool {
        self.endpoint.identity.is_some()
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        !self.connections.borrow().is_empty()
    }

    /// Whether a connection that was there has ended.
    pub(super) fn lost_one(&self) -> bool {
        self.lost_one.get()
    }

    /// Whether a stream can be opened now.
    pub(super) fn has_room(&self) -> bool {
        self.connections.borrow().iter().any(|connection| !connection.is_full())
    }

    /// Why there is no connection, for people.
    pub(super) fn why_down(&self) -> Option<ProxyError> {
        self.down.borrow().clone()
    }

    /// Somebody needs the endpoint now: ends a wait between two attempts.
    pub(super) fn hurry(&self) {
        self.wake.notify_one();
    }

    /// A connection of HTTP/1 for one request that cannot be a stream, as one that leaves HTTP.
    pub(super) async fn http1(&self) -> Result<Upstream, ProxyError> {
        let stream = self.shared.connector.connect(&self.endpoint, Speak::Http1).await?;
        let io = stream.metered(self.metrics.open()).io();
        let connection = Http1Connection::new(io, self.shared.http.header_list_limit);
        Ok(Upstream::H1(Http1Upstream { connection, give_back: None }))
    }

    /// Takes a stream.
    pub(super) fn reserve(self: &Rc<Self>) -> Option<(SendRequest<Bytes>, StreamSlot)> {
        loop {
            let free = self.connections.borrow().iter().find(|connection| !connection.is_full()).cloned()?;
            if !free.is_open() {
                self.take_out(&free, None);
                continue;
            }
            free.streams.set(free.streams.get() + 1);
            let send = free.send.borrow().clone();
            self.widen();
            return Some((send, StreamSlot { connection: free, peer: Rc::downgrade(self) }));
        }
    }

    /// Opens one more connection where all are full.
    fn widen(self: &Rc<Self>) {
        let full = !self.has_room();
        let connections = self.connections.borrow().len();
        if !full || connections == 0 || connections >= MAX_CONNECTIONS || self.widening.replace(true) {
            return;
        }
        let peer = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // A failure needs no attention: the connections that are there go on, and the next request tries again.
            if let Err(error) = peer.open().await {
                tracing::debug!(endpoint = %peer.endpoint.addr, %error, "no further connection");
            }
            peer.widening.set(false);
        });
    }

    /// Opens a connection and has it driven.
    async fn open(self: &Rc<Self>) -> Result<(), ProxyError> {
        let addr = self.endpoint.addr;
        let stream = self.shared.connector.connect(&self.endpoint, Speak::Http2).await?;
        let config = self.shared.http2_config(self.endpoint.identity.is_some());
        let io = stream.metered(self.metrics.open()).io();
        let lost = |error: h2::Error| ProxyError::UpstreamClosed { addr, why: error.to_string(), unprocessed: true };
        let (send, drive) = http2::connect(io, config).await.map_err(lost)?;
        let connection =
            Rc::new(Connection { send: RefCell::new(send), streams: Cell::new(0), opened: Instant::now() });
        tokio::task::spawn_local(run(Rc::downgrade(self), Rc::downgrade(&connection), drive));
        self.connections.borrow_mut().push(connection);
        self.down.replace(None);
        self.watchers.tell();
        Ok(())
    }

    fn stream_ended(&self, connection: &Rc<Connection>, was_full: bool) {
        let spare = connection.streams.get() == 0 && self.connections.borrow().len() > 1;
        if spare {
            self.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, connection));
        } else if was_full {
            self.watchers.tell();
        }
    }

    /// A connection takes no more streams.
    fn take_out(&self, connection: &Rc<Connection>, why: Option<ProxyError>) {
        let mut connections = self.connections.borrow_mut();
        let before = connections.len();
        connections.retain(|other| !Rc::ptr_eq(other, connection));
        let (gone, last) = (connections.len() < before, connections.is_empty());
        drop(connections);
        if gone && last {
            self.lost_one.set(true);
            self.down.replace(why);
            self.wake.notify_one();
            self.watchers.tell();
        }
    }
}

impl Drop for H2Peer {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Drives a connection to its end, and takes it out of its peer as soon as it takes no more streams.
async fn run(
    peer: Weak<H2Peer>,
    connection: Weak<Connection>,
    drive: impl Future<Output = Result<(), http2::ServeError>>,
) {
    let mut drive = pin!(drive);
    let take_out = |why: Option<ProxyError>| {
        if let (Some(peer), Some(connection)) = (peer.upgrade(), connection.upgrade()) {
            peer.take_out(&connection, why);
        }
    };
    let mut open = true;
    let ended = poll_fn(|cx| {
        let ended = drive.as_mut().poll(cx);
        // What was read in this turn may have been a GOAWAY.
        if open && ended.is_pending() && connection.upgrade().is_some_and(|connection| !connection.is_open()) {
            open = false;
            take_out(None);
        }
        ended
    })
    .await;
    let Some(addr) = peer.upgrade().map(|peer| peer.endpoint.addr) else { return };
    let why = ended.err().map_or_else(|| "connection closed".to_owned(), |error| error.to_string());
    tracing::debug!(endpoint = %addr, %why, "connection ended");
    take_out(Some(ProxyError::UpstreamClosed { addr, why, unprocessed: true }));
}

/// Connects, waits until the peer has no connection, connects again; ends with the peer.
async fn keep_connected(peer: Weak<H2Peer>, wake: Rc<Notify>) {
    let mut failures = 0;
    loop {
        let Some(strong) = peer.upgrade() else { return };
        let attempt = strong.open().await;
        let opened = strong.connections.borrow().last().map(|connection| connection.opened);
        if let Err(error) = attempt {
            tracing::debug!(endpoint = %strong.endpoint.addr, %error, "cannot connect");
            strong.down.replace(Some(error));
            strong.watchers.tell();
        }
        let backoff = strong.shared.backoff;
        drop(strong);
        while peer.upgrade().is_some_and(|peer| peer.is_up()) {
            wake.notified().await;
        }
        match opened {
            Some(opened) if opened.elapsed() >= GOOD_LIFE => {
                failures = 0;
                continue;
            }
            _ => failures += 1,
        }
        let wait = backoff::wait_after(failures, &backoff, &mut rand::rng());
        // Woken early by `hurry`, or because nobody needs the peer any more.
        let _ = tokio::time::timeout(wait, wake.notified()).await;
    }
}
