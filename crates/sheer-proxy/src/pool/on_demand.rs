//! An endpoint that gets a connection when one is needed: opaque TCP, and HTTP/1 without a mesh peer.
//!
//! Nothing is kept open to know whether it is there. It is taken to be, until a connection fails; then it is left alone for a while that
//! doubles with every failure, and tried again by the next who needs it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    Shared, backoff,
    watch::{Watcher, Watchers},
};
use crate::{
    connect::{Io, Speak},
    discovery::Endpoint,
    error::ProxyError,
    metrics::TcpMetrics,
};

/// One endpoint.
#[derive(Debug)]
pub(super) struct OnDemand {
    endpoint: Arc<Endpoint>,
    shared: Rc<Shared>,
    metrics: TcpMetrics,
    failures: Cell<u32>,
    down: RefCell<Option<Down>>,
    watchers: Watchers,
}

/// Left alone after a failure.
#[derive(Debug)]
struct Down {
    why: ProxyError,
    /// Tells this failure from a later one.
    since: Instant,
}

impl OnDemand {
    pub(super) fn new(endpoint: Arc<Endpoint>, shared: Rc<Shared>, metrics: TcpMetrics) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            shared,
            metrics,
            failures: Cell::new(0),
            down: RefCell::default(),
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

    /// Somebody needs the endpoint now: it may be tried at once.
    pub(super) fn hurry(&self) {
        if self.down.take().is_some() {
            self.watchers.tell();
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(self: &Rc<Self>, speak: Speak) -> Result<Io, ProxyError> {
        match self.shared.connector.connect(&self.endpoint, speak).await {
            Ok(io) => {
                self.failures.set(0);
                Ok(io.metered(self.metrics.open()))
            }
            Err(error) => {
                self.leave_alone(error.clone());
                Err(error)
            }
        }
    }

    fn leave_alone(self: &Rc<Self>, why: ProxyError) {
        tracing::debug!(endpoint = %self.endpoint.addr, error = %why, "cannot connect");
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        let since = Instant::now();
        self.down.replace(Some(Down { why, since }));
        let until = since + backoff::wait_after(failures, &self.shared.backoff, &mut rand::rng());
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(until).await;
            let Some(this) = this.upgrade() else { return };
            let unchanged = this.down.borrow().as_ref().is_some_and(|down| down.since == since);
            if unchanged {
                this.hurry();
            }
        });
        self.watchers.tell();
    }
}
