//! The HTTP/2 connections to one endpoint: one as a rule, more while the peer's limit of streams is reached.
//!
//! ```text
//!   Connecting ──SETTINGS──► Up ──last connection ends or says GOAWAY──► Connecting
//!       │  ▲
//!  fails│  │wait is over, or somebody needs it now
//!       ▼  │
//!     Waiting
//! ```
//!
//! A connection counts once the peer's SETTINGS are there: whoever accepts TCP but does not speak HTTP/2 never does, and no stream is
//! opened that the peer would have to refuse. A peer that exists keeps itself connected: whoever holds it wants to send to it. GOAWAY takes a connection out at once, in the same
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
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    Shared, backoff,
    watch::{News, Watcher, Watchers},
};
use crate::{
    connect::Link,
    discovery::Endpoint,
    error::{Direction, ProxyError},
    exchange::{Http1Connection, Http1Upstream, Upstream},
    http2,
    metrics::{Peer as Side, TcpMetrics},
    record::{Speaks, Tape},
};

/// Most connections to one endpoint: enough for a peer that allows the customary 100 streams, and no flood for one that allows 1.
const MAX_CONNECTIONS: usize = 8;
/// A further connection that carried nothing for this long is closed.
const SPARE_IDLE: Duration = Duration::from_secs(10);
/// A connection that lived this long, or carried an answer, was a good one: the next attempt is made at once, as if there had
/// been no failure before.
const GOOD_LIFE: Duration = Duration::from_secs(1);

/// One endpoint and its connections.
#[derive(Debug)]
pub(super) struct H2Peer {
    endpoint: Arc<Endpoint>,
    shared: Rc<Shared>,
    metrics: TcpMetrics,
    /// Counts the frames of its connections.
    frames: Rc<http2::FrameMetrics>,
    /// Connections that take new streams; the first that has room is used.
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
    tape: Tape,
    streams: Cell<usize>,
    /// Streams that the peer takes, as it said last.
    limit: Cell<usize>,
    /// Since spare connections were looked at.
    used: Cell<bool>,
    life: Rc<ConnectionLife>,
    link: Arc<Link>,
}

/// How a connection does, for who has to decide when to open the next.
#[derive(Debug)]
struct ConnectionLife {
    opened: Instant,
    answered: Cell<bool>,
}

impl ConnectionLife {
    fn was_good(&self) -> bool {
        self.answered.get() || self.opened.elapsed() >= GOOD_LIFE
    }
}

impl Connection {
    fn is_full(&self) -> bool {
        self.streams.get() >= self.limit.get()
    }

    /// Asks the codec what the peer takes now. Whether it takes more than before.
    fn update_limit(&self) -> bool {
        let limit = self.send.borrow().current_max_send_streams();
        limit > self.limit.replace(limit)
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

impl StreamSlot {
    /// What records the connection.
    pub fn tape(&self) -> &Tape {
        &self.connection.tape
    }

    /// The connection that carries the stream.
    pub fn link(&self) -> &Arc<Link> {
        &self.connection.link
    }

    /// The peer answered on this stream.
    pub fn answered(&self) {
        self.connection.life.answered.set(true);
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let was_full = self.connection.is_full();
        self.connection.streams.set(self.connection.streams.get() - 1);
        if let Some(peer) = self.peer.upgrade().filter(|_| was_full) {
            peer.watchers.tell(News::Freed);
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
            frames: http2::FrameMetrics::new(metrics.shard(), Direction::Outbound, Side::Dst),
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

    /// How many streams can be opened now.
    pub(super) fn room(&self) -> usize {
        let connections = self.connections.borrow();
        let rooms = connections
            .iter()
            .map(|connection| connection.limit.get().saturating_sub(connection.streams.get()));
        rooms.fold(0, usize::saturating_add)
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
        let (io, _, link) = self.shared.open(&self.endpoint, Speaks::Http1, &self.metrics).await?;
        let connection = Http1Connection::new(io, self.shared.http.header_list_limit).over(link);
        Ok(Upstream::H1(Http1Upstream {
            connection,
            give_back: None,
        }))
    }

    /// Takes a stream.
    pub(super) fn reserve(self: &Rc<Self>) -> Option<(SendRequest<Bytes>, StreamSlot)> {
        loop {
            let free = self
                .connections
                .borrow()
                .iter()
                .find(|connection| !connection.is_full())
                .cloned()?;
            if !free.is_open() {
                self.take_out(&free, None);
                continue;
            }
            free.streams.set(free.streams.get() + 1);
            free.used.set(true);
            let send = free.send.borrow().clone();
            self.widen();
            return Some((
                send,
                StreamSlot {
                    connection: free,
                    peer: Rc::downgrade(self),
                },
            ));
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
            let opened = peer.open().await;
            peer.widening.set(false);
            match opened {
                Ok(_) => close_spare(Rc::downgrade(&peer)).await,
                // It needs no attention: the connections that are there go on, and the next request tries again.
                Err(error) => tracing::debug!(endpoint = %peer.endpoint.addr, %error, "no further connection"),
            }
        });
    }

    /// Opens a new connection in the place of those that are there, which end with their last stream; how many those are. New streams go to
    /// them until the new one stands; where it cannot be had they stay.
    pub(super) fn renew(self: &Rc<Self>) -> usize {
        let old = self.connections.borrow().clone();
        let count = old.len();
        if count > 0 {
            let peer = Rc::clone(self);
            tokio::task::spawn_local(async move {
                match peer.open().await {
                    Ok(_) => old.iter().for_each(|connection| peer.take_out(connection, None)),
                    Err(error) => {
                        tracing::warn!(endpoint = %peer.endpoint.addr, %error, "connections stay: no new one can be had");
                    }
                }
            });
        }
        count
    }

    /// Opens a connection and has it driven.
    async fn open(self: &Rc<Self>) -> Result<Rc<ConnectionLife>, ProxyError> {
        let addr = self.endpoint.addr;
        let (io, tape, link) = self.shared.open(&self.endpoint, Speaks::Http2, &self.metrics).await?;
        let config = self.shared.http2_config(self.endpoint.identity.is_some());
        let lost = |why: String| ProxyError::UpstreamClosed {
            addr,
            sidecar: self.endpoint.identity.is_some(),
            why,
            unprocessed: true,
        };
        let (send, drive) = http2::connect(io, config, Some(Rc::clone(&self.frames)))
            .await
            .map_err(|error| lost(error.to_string()))?;
        let life = Rc::new(ConnectionLife {
            opened: Instant::now(),
            answered: Cell::new(false),
        });
        let connection = Rc::new(Connection {
            send: RefCell::new(send),
            tape,
            streams: Cell::new(0),
            limit: Cell::new(0),
            used: Cell::new(true),
            life: Rc::clone(&life),
            link,
        });
        let (settled, settings) = oneshot::channel();
        let running = run(Rc::downgrade(self), Rc::downgrade(&connection), settled, drive);
        tokio::task::spawn_local(running);
        match tokio::time::timeout(self.shared.connector.timeout, settings).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(why))) => return Err(lost(why)),
            Ok(Err(_)) => return Err(lost("connection closed".to_owned())),
            Err(_) => {
                return Err(lost(format!(
                    "no HTTP/2 SETTINGS within {:?}",
                    self.shared.connector.timeout
                )));
            }
        }
        self.connections.borrow_mut().push(connection);
        self.down.replace(None);
        self.watchers.tell(News::Changed);
        Ok(life)
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
            self.watchers.tell(News::Changed);
        }
    }
}

impl Drop for H2Peer {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Drives a connection to its end. Tells `settled` once the peer's SETTINGS are there, and the peer as soon as the connection takes
/// more streams, or no more.
async fn run(
    peer: Weak<H2Peer>,
    connection: Weak<Connection>,
    settled: oneshot::Sender<Result<(), String>>,
    drive: impl Future<Output = Result<(), http2::ServeError>>,
) {
    let mut drive = pin!(drive);
    let mut settled = Some(settled);
    let mut open = true;
    let ended = poll_fn(|cx| {
        let ended = drive.as_mut().poll(cx);
        if let (true, true, Some(connection)) = (open, ended.is_pending(), connection.upgrade()) {
            // What was read in this turn may have been SETTINGS, or a GOAWAY.
            let more = connection.update_limit();
            match settled.take_if(|_| more) {
                Some(settled) => drop(settled.send(Ok(()))),
                None if more => peer
                    .upgrade()
                    .into_iter()
                    .for_each(|peer| peer.watchers.tell(News::Changed)),
                None => {}
            }
            if !connection.is_open() {
                open = false;
                peer.upgrade()
                    .into_iter()
                    .for_each(|peer| peer.take_out(&connection, None));
            }
        }
        ended
    })
    .await;
    let why = ended
        .err()
        .map_or_else(|| "connection closed".to_owned(), |error| error.to_string());
    if let Some(settled) = settled {
        // Nobody listens where the wait was over already.
        drop(settled.send(Err(why)));
        return;
    }
    let (Some(peer), Some(connection)) = (peer.upgrade(), connection.upgrade()) else {
        return;
    };
    let addr = peer.endpoint.addr;
    tracing::debug!(endpoint = %addr, %why, "connection ended");
    peer.take_out(
        &connection,
        Some(ProxyError::UpstreamClosed {
            addr,
            sidecar: peer.endpoint.identity.is_some(),
            why,
            unprocessed: true,
        }),
    );
}

/// Closes a connection beyond the first that was not needed for a while; ends where there is none to close later. Streams are
/// taken on the first connection that has room, so that the last ones fall idle.
async fn close_spare(peer: Weak<H2Peer>) {
    loop {
        tokio::time::sleep(SPARE_IDLE).await;
        let Some(peer) = peer.upgrade() else { return };
        let mut connections = peer.connections.borrow_mut();
        if connections.len() < 2 {
            return;
        }
        let idle = |connection: &Rc<Connection>| connection.streams.get() == 0 && !connection.used.replace(false);
        if connections.last().is_some_and(idle) {
            connections.pop();
            return;
        }
    }
}

/// Connects, waits until the peer has no connection, connects again; ends with the peer.
async fn keep_connected(peer: Weak<H2Peer>, wake: Rc<Notify>) {
    let mut failures = 0;
    loop {
        let Some(strong) = peer.upgrade() else { return };
        let opened = strong.open().await;
        if let Err(error) = &opened {
            tracing::debug!(endpoint = %strong.endpoint.addr, %error, "cannot connect");
            strong.down.replace(Some(error.clone()));
            strong.watchers.tell(News::Changed);
        }
        let backoff = strong.shared.backoff;
        drop(strong);
        while peer.upgrade().is_some_and(|peer| peer.is_up()) {
            wake.notified().await;
        }
        if opened.is_ok_and(|life| life.was_good()) {
            failures = 0;
            continue;
        }
        failures += 1;
        let wait = backoff::wait_after(failures, &backoff, &mut rand::rng());
        // Woken early by `hurry`, or because nobody needs the peer any more.
        let _ = tokio::time::timeout(wait, wake.notified()).await;
    }
}
