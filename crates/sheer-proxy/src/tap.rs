//! The tap: requests and relayed connections as they pass, for who watches now.
//!
//! ```text
//!   worker:  Taps ── filter ── rate ── Tapped (a request that somebody watches) ── try_send ──► sight: redacted, put into words ──► reader
//! ```
//!
//! One [`Taps`] a worker and half. While nobody watches, a request costs it one load. What a watcher wants is decided here, by filters and a rate; its
//! channel is bounded and never waited for: a reader that is slow loses events, which are counted, and no request notices.

mod connection;
mod event;
mod filter;
mod fold;
mod request;
mod said;

use std::{
    cell::{Cell, LazyCell, RefCell},
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use sheer_policy::limit::Throttle;
use tokio::sync::{Notify, mpsc};

pub(crate) use connection::TappedConnection;
#[cfg(test)]
pub(crate) use event::{Answer, Head as TapHead};
pub(crate) use event::{BodyEvent, ConnectionEvent, Event, LegFacts, RequestEvent, Stage, Stream};
pub(crate) use filter::{Filter, names_trace};
pub(crate) use fold::{Untold, fold};
pub(crate) use request::{Subject, Tapped};
pub(crate) use said::Said;

use crate::{error::ProxyError, exchange, record::Clock};

/// What a watcher lost.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Events, as its channel was full.
    pub(crate) slow: AtomicU64,
    /// Of what its filter takes, as its rate was reached.
    pub(crate) rate: AtomicU64,
}

/// Bytes of bodies that may wait for one watcher: what is beyond is lost to it, and counted.
const BODIES_WAITING: usize = 1024 * 1024;

/// Somebody who watches.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) filter: Arc<Filter>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Wakes who takes them, where they become many.
    pub(crate) crowd: Arc<Notify>,
    pub(crate) losses: Arc<Losses>,
    /// Requests a second, of all workers together.
    pub(crate) rate: Arc<Throttle>,
    /// It wants to know how things end, and nothing of before.
    pub(crate) only_ends: bool,
    /// Bytes of each body that it wants; 0: none.
    pub(crate) bodies: usize,
    /// Bytes of bodies that wait for it.
    pub(crate) waiting: Arc<AtomicUsize>,
}

impl Watcher {
    /// Whether it is told of things as they happen.
    fn is_told_at_once(&self) -> bool {
        !self.only_ends && !self.filter.waits_for_end()
    }

    /// Whether the rate allows one more of those that the filter takes.
    fn takes(&self) -> bool {
        let takes = self.rate.takes(Instant::now());
        if !takes {
            self.losses.rate.fetch_add(1, Relaxed);
        }
        takes
    }

    /// Hands a piece of a body over, if there is room for it.
    fn send_body(&self, event: &BodyEvent) {
        let size = event.data.len();
        if self.waiting.load(Relaxed) + size > BODIES_WAITING {
            self.losses.slow.fetch_add(1, Relaxed);
            return;
        }
        self.waiting.fetch_add(size, Relaxed);
        if self.events.try_send(Event::Body(Box::new(event.clone()))).is_err() {
            self.waiting.fetch_sub(size, Relaxed);
            self.losses.slow.fetch_add(1, Relaxed);
        }
    }

    /// Hands an event over, if there is room for it. Says whether that was so.
    fn send(&self, event: Event) -> bool {
        let sent = self.events.try_send(event);
        if let Err(mpsc::error::TrySendError::Full(_)) = sent {
            self.losses.slow.fetch_add(1, Relaxed);
        }
        if self.events.capacity() < self.events.max_capacity() / 2 {
            self.crowd.notify_one();
        }
        sent.is_ok()
    }
}

/// The watchers of one half of one worker.
pub(crate) struct Taps {
    is_watched: Cell<bool>,
    is_outbound: bool,
    clock: Clock,
    watching: RefCell<Vec<Rc<Watcher>>>,
    /// Bytes of bodies that wait for the ends of their requests.
    held: Cell<usize>,
}

impl Taps {
    /// Watched by nobody.
    pub(crate) fn new(is_outbound: bool) -> Rc<Self> {
        Rc::new(Self {
            is_watched: Cell::new(false),
            is_outbound,
            clock: Clock::new(),
            watching: RefCell::default(),
            held: Cell::new(0),
        })
    }

    /// Somebody watches from now on, until they go away.
    pub(crate) fn watch(&self, watcher: Watcher) {
        self.sweep();
        if watcher.filter.wants_half(self.is_outbound) {
            self.watching.borrow_mut().push(Rc::new(watcher));
            self.is_watched.set(true);
        }
    }

    /// Forgets who has gone away.
    fn sweep(&self) {
        let mut watching = self.watching.borrow_mut();
        watching.retain(|one| !one.events.is_closed());
        self.is_watched.set(!watching.is_empty());
    }

    /// A request comes: what tells of it, where somebody wants to know. What its path knows is put together only for that.
    #[inline]
    pub(crate) fn request(
        self: &Rc<Self>,
        subject: impl FnOnce() -> Subject,
        head: &exchange::Head,
    ) -> Option<Box<Tapped>> {
        if self.is_watched.get() {
            self.tapped(&LazyCell::new(subject), &Said::of(head))
        } else {
            None
        }
    }

    /// Something comes that is refused before it is a request.
    pub(crate) fn refused(self: &Rc<Self>, subject: impl FnOnce() -> Subject, said: &Said<'_>) -> Option<Box<Tapped>> {
        if self.is_watched.get() {
            self.tapped(&LazyCell::new(subject), said)
        } else {
            None
        }
    }

    #[cold]
    fn tapped(self: &Rc<Self>, subject: &dyn Deref<Target = Subject>, said: &Said<'_>) -> Option<Box<Tapped>> {
        let watching = self.watchers(|filter| filter.takes_head(subject, said), Filter::waits_for_end);
        (!watching.is_empty()).then(|| Tapped::new(self, watching, subject.deref().clone(), said))
    }

    /// A connection that is relayed as bytes comes.
    #[inline]
    pub(crate) fn connection(self: &Rc<Self>, stream: impl FnOnce() -> Stream) -> Option<Box<TappedConnection>> {
        if self.is_watched.get() {
            self.tapped_connection(stream())
        } else {
            None
        }
    }

    /// A connection was given up before it was known what for: it came from there, and was going there.
    pub(crate) fn given_up(
        self: &Rc<Self>,
        client: LegFacts,
        destination: impl FnOnce() -> String,
        error: &ProxyError,
    ) {
        let tapped = self.connection(|| Stream {
            is_tls: false,
            server_name: String::new(),
            destination: destination(),
            address: client.original,
            identity: None,
            client,
        });
        if let Some(tapped) = tapped {
            tapped.refused(error);
        }
    }

    #[cold]
    fn tapped_connection(self: &Rc<Self>, stream: Stream) -> Option<Box<TappedConnection>> {
        let waits = |filter: &Filter| filter.waits_for_end_of(stream.is_tls);
        let watching = self.watchers(|filter| filter.takes_connection(&stream), waits);
        (!watching.is_empty()).then(|| TappedConnection::new(self, watching, stream))
    }

    /// Those whose filter takes it, as far as can be told now, and whose rate allows it. Where only the end can tell, the rate is asked then: it is of what is shown.
    fn watchers(&self, takes: impl Fn(&Filter) -> bool, waits: impl Fn(&Filter) -> bool) -> Vec<Rc<Watcher>> {
        let mut gone = false;
        let mut watching = Vec::new();
        for one in &*self.watching.borrow() {
            if one.events.is_closed() {
                gone = true;
            } else if takes(&one.filter) && (waits(&one.filter) || one.takes()) {
                watching.push(Rc::clone(one));
            }
        }
        if gone {
            self.sweep();
        }
        watching
    }
}

#[cfg(test)]
mod tests;
