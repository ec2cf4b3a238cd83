//! One target's endpoints on one worker: who takes the next request, who waits, and what those who waited in vain are told.
//!
//! A request gets a [`Lease`] of what it is sent on. Where no endpoint is ready it waits in a bounded queue; once none was ready for the
//! whole fail-fast time, everybody who waits and who comes is told at once, with the reasons, until an endpoint is ready again. Each
//! of those who come still makes the endpoints be tried again, at most once a second.

mod breaker;
mod member;
mod view;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rand::{SeedableRng as _, rngs::SmallRng};
use sheer_policy::outbound::{Balancing, FailureAccrual, LoadEstimate};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use self::breaker::Breakers;
pub use self::member::{Carrier, Member};
pub(super) use self::view::Services;
pub(crate) use self::view::{EndpointView, ServiceView};
use super::{Pool, StreamSlot, watch::News};
pub use crate::balance::Pick;
use crate::{
    balance::{Balancer, InFlight, Node, Rules, Watch},
    connect::{Connected, Link, Speak},
    discovery::{Endpoint, EndpointSet, Lookup},
    error::ProxyError,
    exchange::Upstream,
    metrics::{BalancerMetrics, LabelSet, Shard},
    telemetry::Key,
};

/// Requests that wait and are woken together at most.
const WOKEN_AT_ONCE: usize = 32;
/// Endpoints whose trouble is told in a fail-fast answer.
const REASONS_TOLD: usize = 3;
/// How often those who are told that nothing is ready make the endpoints be tried again.
const HURRY_INTERVAL: Duration = Duration::from_secs(1);

/// How many may wait, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Requests that may wait.
    pub capacity: usize,
    /// How long no endpoint may be ready before those who wait are told.
    pub failfast: Duration,
    /// Told as soon as an attempt to connect failed: for a destination that the mesh does not know, where a client without a proxy
    /// would learn it at once.
    pub at_once: bool,
}

/// What an endpoint is called where it is counted.
pub type EndpointSeries = Box<dyn Fn(&Endpoint) -> (LabelSet, Key)>;

/// How a service is set up.
pub struct ServiceOptions {
    /// The service, for messages.
    pub name: Arc<str>,
    /// What carries the requests.
    pub carrier: Carrier,
    /// How load is estimated.
    pub load: LoadEstimate,
    /// How endpoints are chosen beyond load.
    pub balancing: Balancing,
    /// When an endpoint sits out; the balancer's own rule where the policy does not say.
    pub accrual: Option<FailureAccrual>,
    /// Who may wait.
    pub queue: Queue,
    /// Where series are made.
    pub shard: Shard,
    /// Labels of what goes to an endpoint, and as what the control plane is told of it.
    pub series: EndpointSeries,
    /// Counts endpoints by state.
    pub metrics: BalancerMetrics,
}

/// One target's endpoints.
pub struct Service {
    inner: Rc<Inner>,
    /// Follows discovery; none where the endpoints are fixed.
    follow: Option<AbortHandle>,
}

struct Inner {
    options: ServiceOptions,
    /// One endpoint that discovery does not change.
    is_fixed: bool,
    pool: Rc<Pool>,
    balancer: RefCell<Balancer<Member>>,
    known: Cell<Known>,
    /// Since when no endpoint is ready.
    unready_since: Cell<Option<Instant>>,
    /// Requests that wait, in the order in which they came.
    waiting: RefCell<BTreeMap<u64, Rc<Notify>>>,
    /// How many have waited so far.
    waited: Cell<u64>,
    hurried: Cell<Option<Instant>>,
    /// Something changed that a waiting request may have waited for.
    changed: Notify,
    /// What the gauges show of this service: ready, and not.
    shown: Cell<(i64, i64)>,
}

/// What discovery said of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    NoSuchService,
    Endpoints,
}

/// What a request is sent on.
#[derive(Debug)]
pub struct Lease {
    /// Ready for one request.
    pub upstream: Upstream,
    /// Counts the stream, where it is one; to be held until the request is over.
    pub slot: Option<StreamSlot>,
    /// Tells the balancer how it went.
    pub request: InFlight<Member>,
}

impl Lease {
    /// The connection that carries it, and how it came to be.
    pub fn link(&self) -> Option<&Arc<Link>> {
        match (&self.slot, &self.upstream) {
            (Some(slot), _) => Some(slot.link()),
            (None, Upstream::H1(http1)) => http1.connection.link(),
            (None, Upstream::H2 { .. }) => None,
        }
    }
}

/// A connection of the caller's own.
#[derive(Debug)]
pub struct TcpLease {
    /// The connection.
    pub connected: Connected,
    /// Tells the balancer how it went.
    pub request: InFlight<Member>,
}

impl Service {
    /// A service whose endpoints discovery tells.
    pub fn balanced(
        options: ServiceOptions,
        pool: &Rc<Pool>,
        mut endpoints: watch::Receiver<Lookup<EndpointSet>>,
    ) -> Self {
        let inner = Inner::new(options, pool, false);
        inner.apply(&endpoints.borrow_and_update().clone());
        let weak = Rc::downgrade(&inner);
        let follow = tokio::task::spawn_local(async move {
            while endpoints.changed().await.is_ok() {
                let lookup = endpoints.borrow_and_update().clone();
                let Some(inner) = weak.upgrade() else { return };
                inner.apply(&lookup);
            }
        });
        Self {
            inner,
            follow: Some(follow.abort_handle()),
        }
    }

    /// A service of one endpoint.
    pub fn fixed(options: ServiceOptions, pool: &Rc<Pool>, endpoint: &Arc<Endpoint>) -> Self {
        let inner = Inner::new(options, pool, true);
        let endpoints = vec![Arc::clone(endpoint)];
        inner.apply(&Lookup::Known(Arc::new(EndpointSet {
            endpoints,
            exists: true,
        })));
        Self { inner, follow: None }
    }

    /// The best endpoint for a request, once there is one.
    pub async fn upstream(&self, pick: Pick) -> Result<Lease, ProxyError> {
        self.inner
            .acquire(pick, async |node, at| {
                let mut request = node.begin(at);
                let upstream = node.value.upstream().await?;
                if let Some((_, None)) = &upstream {
                    // Of a connection that may just have been opened; a stream is there at once.
                    request.sent(now());
                }
                Ok(upstream.map(|(upstream, slot)| Lease {
                    upstream,
                    slot,
                    request,
                }))
            })
            .await
    }

    /// A connection of HTTP/1 to the best endpoint that takes one, for one request that leaves HTTP (Upgrade, CONNECT). Endpoints that do
    /// not are passed over, as nothing was sent yet; the error is that of the last.
    pub async fn tunnel(&self, pick: Pick) -> Result<Lease, ProxyError> {
        let first = async |node: &Rc<Node<Member>>, _: std::time::Instant| Ok(tunnel_to(node).await.transpose());
        let mut outcome = self.inner.acquire(pick, first).await?;
        let mut failed = Vec::new();
        loop {
            let Failed { node, error } = match outcome {
                Ok(lease) => return Ok(lease),
                Err(this) => this,
            };
            failed.push(node);
            outcome = loop {
                let Some(next) = self.inner.pick_other(&failed) else {
                    return Err(error);
                };
                match tunnel_to(&next).await.transpose() {
                    Some(outcome) => break outcome,
                    None => failed.push(next),
                }
            };
        }
    }

    /// A connection to the best endpoint that takes one. Endpoints that do not are passed over, as nothing was sent yet.
    pub async fn connect(&self, pick: Pick, speak: Speak) -> Result<TcpLease, ProxyError> {
        self.inner
            .acquire(pick, async |node, at| {
                let request = node.begin(at);
                let connected = node.value.connect(speak).await?;
                Ok(connected.map(|connected| TcpLease { connected, request }))
            })
            .await
    }

    /// Whether an endpoint would take a request now.
    pub fn is_ready(&self) -> bool {
        self.inner.balancer.borrow().ready_len() > 0
    }

    /// Returns once the server closed a connection that this service keeps for one client.
    pub async fn closed(&self) {
        loop {
            let changed = self.inner.changed.notified();
            if self
                .inner
                .balancer
                .borrow()
                .nodes()
                .iter()
                .any(|node| node.value.is_closed())
            {
                return;
            }
            changed.await;
        }
    }
}

/// An endpoint to which a connection could not be opened, while it is well otherwise.
struct Failed {
    node: Rc<Node<Member>>,
    error: ProxyError,
}

async fn tunnel_to(node: &Rc<Node<Member>>) -> Result<Option<Lease>, Failed> {
    let mut request = node.begin(now());
    let opened = node.value.tunnel().await.map_err(|error| Failed {
        node: Rc::clone(node),
        error,
    })?;
    request.sent(now());
    Ok(opened.map(|upstream| Lease {
        upstream,
        slot: None,
        request,
    }))
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(follow) = &self.follow {
            follow.abort();
        }
    }
}

impl Inner {
    fn new(options: ServiceOptions, pool: &Rc<Pool>, is_fixed: bool) -> Rc<Self> {
        let rules = Rules {
            load: options.load,
            balancing: options.balancing.clone(),
            accrual: options.accrual,
        };
        // Where there is nobody else, sitting out changes nothing.
        let watch = (!is_fixed).then(|| {
            Rc::new(Breakers {
                service: Arc::clone(&options.name),
                metrics: options.metrics.breaker.clone(),
            }) as Rc<dyn Watch>
        });
        let inner = Rc::new(Self {
            balancer: RefCell::new(Balancer::new(rules, watch, SmallRng::from_rng(&mut rand::rng()))),
            options,
            is_fixed,
            pool: Rc::clone(pool),
            known: Cell::new(Known::Nothing),
            unready_since: Cell::new(Some(Instant::now())),
            waiting: RefCell::default(),
            waited: Cell::new(0),
            hurried: Cell::new(None),
            changed: Notify::new(),
            shown: Cell::new((0, 0)),
        });
        pool.services.add(&inner);
        inner
    }

    /// Takes over what discovery says now.
    fn apply(self: &Rc<Self>, lookup: &Lookup<EndpointSet>) {
        let nothing = Arc::new(EndpointSet::default());
        let set = match lookup {
            Lookup::Pending => return,
            Lookup::Unknown => &nothing,
            Lookup::Known(set) => set,
        };
        self.known.set(if set.exists {
            Known::Endpoints
        } else {
            Known::NoSuchService
        });
        let options = &self.options;
        let change = self.balancer.borrow_mut().update(set, now(), |endpoint| {
            Member::new(
                endpoint,
                options.carrier,
                &self.pool,
                &options.shard,
                (options.series)(endpoint),
            )
        });
        options.metrics.added.add(change.added.len() as u64);
        options.metrics.removed.add(change.removed.len() as u64);
        if !change.added.is_empty() && self.unready_since.get().is_some() {
            // New ones need time to connect before anybody is told that none is ready.
            self.unready_since.set(Some(Instant::now()));
        }
        for node in &change.added {
            let (service, weak) = (Rc::downgrade(self), Rc::downgrade(node));
            node.value.watch(Rc::new(move |news| hear(news, &service, &weak)));
            if node.value.is_up() {
                self.balancer.borrow_mut().set_ready(node, now());
            }
        }
        self.note_change();
    }

    /// Something about the endpoints changed: keeps count, and lets those who wait look again.
    fn note_change(&self) {
        let balancer = self.balancer.borrow();
        let ready = balancer.ready_len();
        let shown = (ready as i64, balancer.nodes().len() as i64 - ready as i64);
        drop(balancer);
        let before = self.shown.replace(shown);
        let metrics = &self.options.metrics;
        metrics.changed(shown.0 - before.0, shown.1 - before.1);
        match (before.0 > 0, ready > 0) {
            (false, true) => metrics.queue.open.inc(),
            (true, false) => metrics.queue.shut.inc(),
            (true, true) | (false, false) => {}
        }
        let since = self.unready_since.get();
        self.unready_since.set(if ready > 0 {
            None
        } else {
            since.or_else(|| Some(Instant::now()))
        });
        self.changed.notify_waiters();
    }

    /// What `take` makes of the best endpoint. `None` of it means that the endpoint was not ready after all, and another is asked.
    ///
    /// Requests that wait go first, in the order in which they came. A stream that falls free wakes the first of them, and one that leaves
    /// the queue wakes those for which there is room: thousands that wait are not all woken for one stream. They are when an endpoint comes or goes.
    async fn acquire<R>(
        &self,
        pick: Pick,
        take: impl AsyncFn(&Rc<Node<Member>>, std::time::Instant) -> Result<Option<R>, ProxyError>,
    ) -> Result<R, ProxyError> {
        let mut began = None;
        let ticket = OnceCell::new();
        let mut place: Option<Place<'_, '_>> = None;
        loop {
            let is_next = place
                .as_ref()
                .map_or_else(|| self.waiting.borrow().is_empty(), Place::is_first);
            let at = now();
            if is_next && let Some(node) = self.pick(pick, at) {
                let mut taking = pin!(take(&node, at));
                let taken = match futures::poll!(&mut taking) {
                    Poll::Ready(taken) => taken,
                    Poll::Pending => {
                        // It connects, and holds nobody up meanwhile.
                        place = None;
                        taking.await
                    }
                };
                if let Some(taken) = taken? {
                    return Ok(taken);
                }
            }
            if !is_next && place.is_none() && self.pick(Pick::default(), at).is_some() {
                // An endpoint that sat out takes requests again without anybody's word.
                self.wake_first();
            }
            let began = *began.get_or_insert_with(Instant::now);
            let place = match &place {
                Some(place) => place,
                None => place.insert(self.queue(&ticket)?),
            };
            self.wait(place, pick, began).await?;
        }
    }

    /// Lets those that wait longest look again, as many as there is room for: what they send goes out together.
    fn wake_first(&self) {
        let waiting = self.waiting.borrow();
        if waiting.is_empty() {
            return;
        }
        let mut room = 0;
        for node in self.balancer.borrow().nodes() {
            room = node.value.room().saturating_add(room);
            if room >= WOKEN_AT_ONCE {
                break;
            }
        }
        for turn in waiting.values().take(room.clamp(1, WOKEN_AT_ONCE)) {
            turn.notify_one();
        }
    }

    /// The best endpoint but these.
    fn pick_other(&self, but: &[Rc<Node<Member>>]) -> Option<Rc<Node<Member>>> {
        let is_other = |member: &Member| !but.iter().any(|node| std::ptr::eq(&node.value, member));
        self.balancer.borrow_mut().pick(now(), is_other)
    }

    fn pick(&self, pick: Pick, at: std::time::Instant) -> Option<Rc<Node<Member>>> {
        self.balancer.borrow_mut().pick_for(pick, at, Member::has_room)
    }

    /// A place at the end, or with a ticket again the one that was had, which nobody has been given since.
    fn queue<'p, 's>(&'s self, ticket: &'p OnceCell<Ticket<'s>>) -> Result<Place<'p, 's>, ProxyError> {
        let mut queue = self.waiting.borrow_mut();
        let waiting = queue.len();
        if waiting >= self.options.queue.capacity && ticket.get().is_none() {
            return Err(ProxyError::QueueFull {
                service: self.options.name.to_string(),
                waiting,
            });
        }
        let metrics = &self.options.metrics.queue;
        let ticket = ticket.get_or_init(|| {
            metrics.requests.inc();
            Ticket {
                service: self,
                number: self.waited.replace(self.waited.get() + 1),
                waited: Cell::default(),
            }
        });
        let turn = Rc::new(Notify::new());
        queue.insert(ticket.number, Rc::clone(&turn));
        metrics.length.inc();
        Ok(Place {
            ticket,
            turn,
            began: Instant::now(),
        })
    }

    /// Waits for a change, until the fail-fast time is over: counted from when no endpoint was ready, or from `began` where
    /// endpoints are ready and every one has as many streams as it allows.
    async fn wait(&self, place: &Place<'_, '_>, pick: Pick, began: Instant) -> Result<(), ProxyError> {
        // Listens before it looks, so that no change falls in between.
        let (changed, turn) = (self.changed.notified(), place.turn.notified());
        if place.is_first() && self.pick(pick, now()).is_some() {
            return Ok(());
        }
        if self.known.get() == Known::NoSuchService {
            let why = "the control plane says that it does not exist".into();
            return Err(ProxyError::NoBackend {
                service: self.options.name.to_string(),
                why,
            });
        }
        let deadline = self.unready_since.get().unwrap_or(began) + self.options.queue.failfast;
        let failed = self.options.queue.at_once && self.has_failed();
        let woken = async {
            tokio::select! {
                () = changed => {}
                () = turn => {}
            }
        };
        if !failed && Instant::now() < deadline && tokio::time::timeout_at(deadline, woken).await.is_ok() {
            return Ok(());
        }
        // The reasons first: who hurries forgets why it waited.
        let error = self.fail_fast();
        self.hurry();
        Err(error)
    }

    /// Whether every endpoint has failed to connect since it was last up.
    fn has_failed(&self) -> bool {
        self.balancer
            .borrow()
            .nodes()
            .iter()
            .all(|node| node.value.why_down().is_some())
    }

    fn hurry(&self) {
        let now = Instant::now();
        if self.hurried.get().is_some_and(|hurried| now < hurried + HURRY_INTERVAL) {
            return;
        }
        self.hurried.set(Some(now));
        let nodes = self.balancer.borrow().nodes().to_vec();
        nodes.iter().for_each(|node| node.value.hurry());
    }

    fn fail_fast(&self) -> ProxyError {
        let balancer = self.balancer.borrow();
        let nodes = balancer.nodes();
        if let (true, [node]) = (self.is_fixed, nodes)
            && let Some(why) = node.value.why_down()
        {
            // An address that the client chose is no service: what happened there says it all.
            return why;
        }
        let mut why = match (self.known.get(), nodes.len()) {
            (Known::Nothing, _) => "the control plane has not told its endpoints yet".to_owned(),
            (_, 0) => "no ready pod stands behind it".to_owned(),
            _ => {
                let reasons: Vec<_> = nodes.iter().take(REASONS_TOLD).map(|node| why_not(node)).collect();
                reasons.join("; ")
            }
        };
        if nodes.len() > REASONS_TOLD {
            why.push_str(&format!("; and {} more", nodes.len() - REASONS_TOLD));
        }
        ProxyError::FailFast {
            service: self.options.name.to_string(),
            endpoints: nodes.len(),
            why,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let (ready, pending) = self.shown.get();
        self.options.metrics.changed(-ready, -pending);
    }
}

/// The number that a request drew when it first had to wait. It keeps it until it is served or given up.
struct Ticket<'a> {
    service: &'a Inner,
    number: u64,
    /// In all places that it had.
    waited: Cell<Duration>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.service.options.metrics.queue.latency.record(self.waited.get());
    }
}

/// A place in the queue.
struct Place<'p, 's> {
    ticket: &'p Ticket<'s>,
    turn: Rc<Notify>,
    began: Instant,
}

impl Place<'_, '_> {
    fn is_first(&self) -> bool {
        let waiting = self.ticket.service.waiting.borrow();
        waiting.keys().next() == Some(&self.ticket.number)
    }
}

impl Drop for Place<'_, '_> {
    fn drop(&mut self) {
        let Ticket {
            service,
            number,
            waited,
        } = self.ticket;
        let makes_way = self.is_first() && service.waiting.borrow().len() > 1;
        service.waiting.borrow_mut().remove(number);
        service.options.metrics.queue.length.dec();
        waited.set(waited.get() + self.began.elapsed());
        if makes_way && service.pick(Pick::default(), now()).is_some() {
            service.wake_first();
        }
    }
}

/// There is news of an endpoint.
fn hear(news: News, service: &Weak<Inner>, node: &Weak<Node<Member>>) {
    match news {
        News::Changed => refresh(service, node),
        News::Freed => service.upgrade().into_iter().for_each(|service| service.wake_first()),
    }
}

/// An endpoint's connection came or went, or it takes more streams.
fn refresh(service: &Weak<Inner>, node: &Weak<Node<Member>>) {
    let (Some(service), Some(node)) = (service.upgrade(), node.upgrade()) else {
        return;
    };
    let mut balancer = service.balancer.borrow_mut();
    if node.value.is_up() {
        balancer.set_ready(&node, now());
    } else {
        balancer.set_unready(&node);
    }
    drop(balancer);
    service.note_change();
}

/// Why an endpoint is not ready, as `10.3.0.7:8080: connection refused`.
fn why_not(node: &Node<Member>) -> String {
    let addr = node.endpoint.addr;
    match node.value.why_down() {
        Some(ProxyError::Connect { addr, cause }) => format!("{addr}: {cause}"),
        Some(error @ ProxyError::IdentityMismatch { .. }) => error.to_string(),
        Some(error) => format!("{addr}: {error}"),
        None if node.value.is_up() => format!("{addr}: has as many streams open as it allows"),
        None => format!("{addr}: connecting"),
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
