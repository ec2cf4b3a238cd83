//! An endpoint that gets a connection when one is needed: opaque TCP, and HTTP/1 without a mesh peer.
//!
//! Nothing is kept open to know whether it is there. It is taken to be, until a connection fails; then it is left alone for a while that
//! doubles with every failure, and tried again by the next who needs it. Connections of HTTP/1 that served a request wait a short
//! time for the next one.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Shared, backoff,
    watch::{News, Watcher, Watchers},
};
use crate::{
    connect::{Connected, Speak},
    discovery::Endpoint,
    error::ProxyError,
    exchange::{GiveBack, Http1Connection, Http1Upstream, Upstream},
    metrics::TcpMetrics,
    record::Speaks,
};

/// How often idle connections are looked at. A server that closed one meanwhile is noticed before it is used, this only frees it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// One endpoint.
#[derive(Debug)]
pub(super) struct OnDemand {
    this: Weak<Self>,
    endpoint: Arc<Endpoint>,
    shared: Rc<Shared>,
    metrics: TcpMetrics,
    failures: Cell<u32>,
    down: RefCell<Option<Down>>,
    idle: RefCell<Vec<Idle>>,
    keep: Keep,
    /// The server closed a connection that was kept for one client.
    closed: Cell<bool>,
    watchers: Watchers,
}

/// Left alone after a failure.
#[derive(Debug)]
struct Down {
    why: ProxyError,
    /// Tells this failure from a later one.
    since: Instant,
}

/// A connection of HTTP/1 between two requests.
#[derive(Debug)]
struct Idle {
    connection: Http1Connection,
    since: Instant,
}

/// What becomes of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Whoever comes next uses it, for as long as the settings allow.
    ForAll,
    /// It belongs to one client connection and ends with it, as if there were no proxy.
    ForOne,
}

impl OnDemand {
    pub(super) fn new(endpoint: Arc<Endpoint>, shared: Rc<Shared>, metrics: TcpMetrics, keep: Keep) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            endpoint,
            shared,
            metrics,
            failures: Cell::new(0),
            down: RefCell::default(),
            idle: RefCell::default(),
            keep,
            closed: Cell::new(false),
            watchers: Watchers::default(),
        })
    }

    /// Tells `watcher` whenever this endpoint becomes usable or unusable.
    pub(super) fn watch(&self, watcher: &Watcher) {
        self.watchers.add(watcher);
    }

    /// Whether a connection may be tried.
    pub(super) fn is_up(&self) -> bool {
        self.down.borrow().is_none()
    }

    /// Why not.
    pub(super) fn why_down(&self) -> Option<ProxyError> {
        self.down.borrow().as_ref().map(|down| down.why.clone())
    }

    /// Whether the server closed a connection that was kept for one client.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Somebody needs the endpoint now: it may be tried at once.
    pub(super) fn hurry(&self) {
        if self.down.take().is_some() {
            self.watchers.tell(News::Changed);
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, speak: Speak) -> Result<Connected, ProxyError> {
        let connected = self.shared.connector.connect(&self.endpoint, speak).await;
        let Connected { stream, link } = self.judge(connected)?;
        let stream = stream.metered(self.metrics.open());
        Ok(Connected { stream, link })
    }

    /// Whether a connection could be opened says how the endpoint does.
    fn judge<T>(&self, opened: Result<T, ProxyError>) -> Result<T, ProxyError> {
        match &opened {
            Ok(_) => self.failures.set(0),
            Err(error) => self.leave_alone(error.clone()),
        }
        opened
    }

    /// A connection for one request of HTTP/1: the one that was used last, or a new one.
    pub(super) async fn http1(self: &Rc<Self>) -> Result<Upstream, ProxyError> {
        let connection = match self.idle_connection() {
            Some(connection) => connection,
            None => {
                let opened = self.shared.open(&self.endpoint, Speaks::Http1, &self.metrics).await;
                let (io, _, link) = self.judge(opened)?;
                Http1Connection::new(io, self.shared.http.header_list_limit).over(link)
            }
        };
        Ok(Upstream::H1(Http1Upstream {
            connection,
            give_back: Some(Rc::clone(self) as Rc<dyn GiveBack>),
        }))
    }

    fn idle_connection(&self) -> Option<Http1Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, .. }) = idle.pop() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    fn leave_alone(&self, why: ProxyError) {
        tracing::debug!(endpoint = %self.endpoint.addr, error = %why, "cannot connect");
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        let since = Instant::now();
        self.down.replace(Some(Down { why, since }));
        let until = since + backoff::wait_after(failures, &self.shared.backoff, &mut rand::rng());
        let this = Weak::clone(&self.this);
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(until).await;
            let Some(this) = this.upgrade() else { return };
            let unchanged = this.down.borrow().as_ref().is_some_and(|down| down.since == since);
            if unchanged {
                this.hurry();
            }
        });
        self.watchers.tell(News::Changed);
    }

    /// Closes what waited too long or was closed by the server. Whether any is left.
    fn look_at_idle(&self) -> bool {
        let (now, timeout) = (Instant::now(), self.shared.http1_idle_timeout);
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|idle| idle.connection.is_usable() && (self.keep == Keep::ForOne || now < idle.since + timeout));
        let (lost, left) = (idle.len() < before, !idle.is_empty());
        drop(idle);
        if lost && self.keep == Keep::ForOne {
            self.closed.set(true);
            self.watchers.tell(News::Changed);
        }
        left
    }
}

impl GiveBack for OnDemand {
    fn give_back(&self, connection: Http1Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.shared.max_idle {
            return;
        }
        idle.push(Idle {
            connection,
            since: Instant::now(),
        });
        if idle.len() > 1 {
            return;
        }
        let this = Weak::clone(&self.this);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                if !this.upgrade().is_some_and(|this| this.look_at_idle()) {
                    return;
                }
            }
        });
    }
}
