//! Which endpoint takes the next request: power of two choices over peak EWMA.
//!
//! Pure logic: no I/O, no timers, clock and randomness are given. `pool` owns a [`Balancer`] for each service and worker, tells it which
//! endpoints have a connection, and asks it for every request. A choice costs two random numbers and two exponentials, however
//! many endpoints there are.
//!
//! * [`load`]: what a request would cost at an endpoint. Response time is measured until the response's headers (or the first
//!   byte, for TCP the connection) arrive; so long a request counts as under way. A long answer is not load.
//! * [`health`]: failures in a row (5xx, gRPC `UNAVAILABLE`, a connection that died) make an endpoint sit out.
//! * Ready endpoints are chosen first. Where every endpoint that has a connection sits out, all of them are used as if none did: an answer of
//!   the application, even a bad one, says more than one of ours.

pub mod health;
pub mod load;
pub mod weights;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, rngs::SmallRng};

use self::{health::Health, load::Load, weights::AliasTable};
use crate::discovery::{Endpoint, EndpointSet};

/// Smallest weight that is told apart from none: an endpoint of weight 0 takes traffic only where there is nearly no other.
const MIN_WEIGHT: f64 = 1e-4;
/// Longest penalty that failures in a row add to the estimate. An endpoint sits out soon after, this only bridges the time until then.
const MAX_PENALTY: Duration = Duration::from_secs(5);

/// What the estimates of a service's endpoints start from and how fast they sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ewma {
    /// Load estimate of an endpoint that was never measured.
    pub default_rtt: Duration,
    /// Time in which an estimate sinks to 1/e.
    pub decay: Duration,
}

/// One endpoint as the balancer sees it, with what the pool keeps for it (`T`).
#[derive(Debug)]
pub struct Node<T> {
    /// What discovery says.
    pub endpoint: Arc<Endpoint>,
    /// The pool's part.
    pub value: T,
    ewma: Ewma,
    weight: Cell<f64>,
    load: RefCell<Load>,
    health: Cell<Health>,
    place: Cell<Place>,
}

/// Which list of the balancer holds a node, and where, so that it is removed without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not ready, or no longer of this service.
    Out,
    Ready(usize),
    SittingOut(usize),
}

/// What an update changed. Nodes that are neither added nor removed keep their connection and their estimate.
#[derive(Debug)]
pub struct Change<T> {
    /// New endpoints, not ready until told otherwise.
    pub added: Vec<Rc<Node<T>>>,
    /// Endpoints that left; their requests under way finish.
    pub removed: Vec<Rc<Node<T>>>,
}

/// The endpoints of one service on one worker.
#[derive(Debug)]
pub struct Balancer<T> {
    ewma: Ewma,
    nodes: Vec<Rc<Node<T>>>,
    ready: Vec<Rc<Node<T>>>,
    sitting_out: Vec<Rc<Node<T>>>,
    /// Earliest end of a sit-out: until then nobody looks at them.
    next_probe: Option<Instant>,
    table: Option<AliasTable>,
    table_is_stale: bool,
    rng: SmallRng,
}

impl<T> Balancer<T> {
    /// No endpoints yet.
    pub fn new(ewma: Ewma, rng: SmallRng) -> Self {
        Self {
            ewma,
            nodes: Vec::new(),
            ready: Vec::new(),
            sitting_out: Vec::new(),
            next_probe: None,
            table: None,
            table_is_stale: false,
            rng,
        }
    }

    /// Every endpoint, sorted by address.
    pub fn nodes(&self) -> &[Rc<Node<T>>] {
        &self.nodes
    }

    /// Endpoints that may be chosen, those that sit out included.
    pub fn ready_len(&self) -> usize {
        self.ready.len() + self.sitting_out.len()
    }

    /// Takes over what discovery says now. An endpoint that did not change stays with its connection and its estimate; one
    /// whose address is the same but whose identity or protocol differs is another endpoint.
    pub fn update(&mut self, set: &EndpointSet, now: Instant, mut make: impl FnMut(&Arc<Endpoint>) -> T) -> Change<T> {
        let mut change = Change {
            added: Vec::new(),
            removed: Vec::new(),
        };
        let mut old = std::mem::take(&mut self.nodes).into_iter().peekable();
        for endpoint in &set.endpoints {
            change.removed.extend(std::iter::from_fn(|| {
                old.next_if(|node| node.endpoint.addr < endpoint.addr)
            }));
            let same_address = old.next_if(|node| node.endpoint.addr == endpoint.addr);
            let node = match same_address {
                Some(node) if is_same_peer(&node.endpoint, endpoint) => {
                    self.table_is_stale |= node.set_weight(endpoint.weight);
                    node
                }
                replaced => {
                    change.removed.extend(replaced);
                    let node = Rc::new(Node::new(Arc::clone(endpoint), make(endpoint), self.ewma, now));
                    change.added.push(Rc::clone(&node));
                    node
                }
            };
            self.nodes.push(node);
        }
        change.removed.extend(old);
        for node in &change.removed {
            self.take_out(node);
        }
        change
    }

    /// The endpoint has a connection, or may be connected to at any time.
    pub fn set_ready(&mut self, node: &Rc<Node<T>>) {
        if node.place.get() == Place::Out && self.contains(node) {
            node.place.set(Place::Ready(self.ready.len()));
            self.ready.push(Rc::clone(node));
            self.table_is_stale = true;
        }
    }

    /// The endpoint has no connection.
    pub fn set_unready(&mut self, node: &Rc<Node<T>>) {
        self.take_out(node);
    }

    /// The better of two random endpoints among those that are ready, and `usable` right now. `None` where there is none.
    pub fn pick(&mut self, now: Instant, usable: impl Fn(&T) -> bool) -> Option<Rc<Node<T>>> {
        self.end_sit_outs(now);
        while !self.ready.is_empty() {
            let (first, second) = self.two_of_ready();
            // Requests note their failure on the node as they end, without the balancer: who has to sit out is found here.
            let failed = [first, second]
                .into_iter()
                .find(|&i| self.ready[i].health.get().sits_out_until().is_some());
            match failed {
                Some(i) => self.sit_out(i),
                None => return better_of(&self.ready, (first, second), now, &usable),
            }
        }
        self.pick_while_all_sit_out(now, &usable)
    }

    /// Everything that has a connection fails. One answer that is well ends the sit-outs of all: what they had in common is over,
    /// and the first to recover must not carry everything alone.
    fn pick_while_all_sit_out(&mut self, now: Instant, usable: &impl Fn(&T) -> bool) -> Option<Rc<Node<T>>> {
        if self.sitting_out.is_empty() {
            return None;
        }
        let candidates = two_different(self.sitting_out.len(), &mut self.rng);
        let picked = better_of(&self.sitting_out, candidates, now, usable)?;
        if picked.health.get().sits_out_until().is_none() {
            while let Some(node) = self.sitting_out.last().cloned() {
                self.end_sit_out(&node);
            }
            self.next_probe = None;
        }
        Some(picked)
    }

    /// Two indices into `ready`, which is not empty.
    fn two_of_ready(&mut self) -> (usize, usize) {
        if std::mem::take(&mut self.table_is_stale) {
            let weights: Vec<f64> = self.ready.iter().map(|node| node.weight.get()).collect();
            self.table = AliasTable::new(&weights);
        }
        match &self.table {
            // With repetition: an endpoint that has most of the weight must be able to meet only itself.
            Some(table) => (table.sample(&mut self.rng), table.sample(&mut self.rng)),
            None => two_different(self.ready.len(), &mut self.rng),
        }
    }

    fn sit_out(&mut self, i: usize) {
        let node = Rc::clone(&self.ready[i]);
        self.take_out(&node);
        let until = node.health.get().sits_out_until();
        self.next_probe = self.next_probe.into_iter().chain(until).min();
        node.place.set(Place::SittingOut(self.sitting_out.len()));
        self.sitting_out.push(node);
    }

    /// Puts those back whose time is over. Looks at them only when the first of them is due.
    fn end_sit_outs(&mut self, now: Instant) {
        if self.next_probe.is_none_or(|due| now < due) {
            return;
        }
        self.next_probe = None;
        for i in (0..self.sitting_out.len()).rev() {
            let node = Rc::clone(&self.sitting_out[i]);
            match node.health.get().sits_out_until() {
                Some(until) if now < until => self.next_probe = self.next_probe.into_iter().chain([until]).min(),
                _ => self.end_sit_out(&node),
            }
        }
    }

    fn end_sit_out(&mut self, node: &Rc<Node<T>>) {
        let mut health = node.health.get();
        health.probe();
        node.health.set(health);
        self.take_out(node);
        self.set_ready(node);
    }

    /// Removes a node from the list that holds it; the last of the list takes its place.
    fn take_out(&mut self, node: &Rc<Node<T>>) {
        match node.place.replace(Place::Out) {
            Place::Out => {}
            Place::Ready(i) => {
                self.table_is_stale = true;
                self.ready.swap_remove(i);
                if let Some(moved) = self.ready.get(i) {
                    moved.place.set(Place::Ready(i));
                }
            }
            Place::SittingOut(i) => {
                self.sitting_out.swap_remove(i);
                if let Some(moved) = self.sitting_out.get(i) {
                    moved.place.set(Place::SittingOut(i));
                }
            }
        }
    }

    fn contains(&self, node: &Rc<Node<T>>) -> bool {
        let found = self
            .nodes
            .binary_search_by_key(&node.endpoint.addr, |node| node.endpoint.addr);
        found.is_ok_and(|i| Rc::ptr_eq(&self.nodes[i], node))
    }
}

impl<T> Node<T> {
    fn new(endpoint: Arc<Endpoint>, value: T, ewma: Ewma, now: Instant) -> Self {
        Self {
            weight: Cell::new(endpoint.weight.max(MIN_WEIGHT)),
            load: RefCell::new(Load::new(ewma.default_rtt, ewma.decay, now)),
            health: Cell::default(),
            place: Cell::new(Place::Out),
            endpoint,
            value,
            ewma,
        }
    }

    /// A request goes to this endpoint.
    pub fn begin(self: &Rc<Self>, now: Instant) -> InFlight<T> {
        self.load.borrow_mut().begin(now);
        InFlight {
            node: Rc::clone(self),
            began: now,
            waiting: true,
        }
    }

    /// Requests that wait for the beginning of their answer.
    pub fn pending(&self) -> u32 {
        self.load.borrow().pending()
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.health.get().failures()
    }

    /// Whether failures in a row keep it from being chosen.
    pub fn sits_out(&self) -> bool {
        self.health.get().sits_out_until().is_some()
    }

    /// Whether one request at a time decides whether it is well again.
    pub fn on_probation(&self) -> bool {
        self.health.get().on_probation()
    }

    /// What its response time is taken for now; none where it was never measured.
    pub fn rtt(&self, now: Instant) -> Option<Duration> {
        self.load.borrow().estimate(now)
    }

    /// Sets the weight; whether it changed.
    fn set_weight(&self, weight: f64) -> bool {
        let weight = weight.max(MIN_WEIGHT);
        self.weight.replace(weight).total_cmp(&weight).is_ne()
    }

    /// A trial takes one request at once; on probation no second one goes before that is answered.
    fn cost(&self, now: Instant) -> f64 {
        let (load, health) = (self.load.borrow(), self.health.get());
        if load.pending() == 0 && health.wants_trial(now) {
            0.0
        } else if health.on_probation() {
            f64::INFINITY
        } else {
            load.cost(self.weight.get(), now)
        }
    }
}

/// Two different indices below `len` (the same twice where there is only one).
fn two_different(len: usize, rng: &mut SmallRng) -> (usize, usize) {
    if len == 1 {
        return (0, 0);
    }
    let first = rng.random_range(0..len);
    let second = rng.random_range(0..len - 1);
    (first, second + usize::from(second >= first))
}

/// The cheaper of two; the first wins a tie, as it was drawn by weight. Where neither is usable (full), the cheapest of all that are.
fn better_of<T>(
    nodes: &[Rc<Node<T>>],
    (first, second): (usize, usize),
    now: Instant,
    usable: &impl Fn(&T) -> bool,
) -> Option<Rc<Node<T>>> {
    let (a, b) = (&nodes[first], &nodes[second]);
    let better = match (usable(&a.value), usable(&b.value)) {
        (true, true) if b.cost(now) < a.cost(now) => Some(b),
        (true, _) => Some(a),
        (false, true) => Some(b),
        (false, false) => {
            let usable = nodes.iter().filter(|node| usable(&node.value));
            usable.min_by(|a, b| a.cost(now).total_cmp(&b.cost(now)))
        }
    };
    better.cloned()
}

/// Whether two descriptions mean the same peer, reached in the same way. The weight may differ.
fn is_same_peer(a: &Arc<Endpoint>, b: &Arc<Endpoint>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.addr == b.addr
            && a.identity == b.identity
            && a.hint == b.hint
            && a.transport_port == b.transport_port
            && a.authority_override == b.authority_override
            && a.labels == b.labels)
}

/// How a request ended, as its endpoint is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Success,
    /// Answered with a 5xx or gRPC `UNAVAILABLE`, or not answered because the connection failed.
    Failure,
    /// Nothing that says anything about the endpoint: the client gave up or broke the rules.
    Neutral,
}

/// One request at an endpoint. Dropped without an outcome it counts as given up: the endpoint is at least as slow as
/// the request was old.
#[derive(Debug)]
pub struct InFlight<T> {
    node: Rc<Node<T>>,
    began: Instant,
    /// Nothing of the answer arrived yet.
    waiting: bool,
}

impl<T> InFlight<T> {
    /// The endpoint.
    pub fn node(&self) -> &Rc<Node<T>> {
        &self.node
    }

    /// Only now the request goes out: what came before, as opening a connection, is not the endpoint's time to answer.
    pub fn sent(&mut self, now: Instant) {
        self.began = now;
    }

    /// The answer began: its headers are here and are no failure.
    pub fn answered(&mut self, now: Instant) {
        if std::mem::take(&mut self.waiting) {
            let mut load = self.node.load.borrow_mut();
            load.end(now);
            load.observe(now.saturating_duration_since(self.began), now);
        }
    }

    /// The request is over. Call it with a failure as soon as that is known, so that a fast failure never passes for a fast answer.
    pub fn finish(mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Success => self.succeeded(now),
            Outcome::Failure => self.failed(now),
            Outcome::Neutral => self.gave_up(now),
        }
    }

    fn succeeded(&mut self, now: Instant) {
        self.answered(now);
        let mut health = self.node.health.get();
        if health.succeeded() {
            // What was measured while it failed says nothing about how it is now.
            self.node.load.borrow_mut().reset(self.node.ewma.default_rtt, now);
        }
        self.node.health.set(health);
    }

    fn failed(&mut self, now: Instant) {
        self.gave_up(now);
        let mut health = self.node.health.get();
        health.failed(now, &mut rand::rng());
        self.node.health.set(health);
        // A single failure only never counts as fast. From the second in a row on it costs, each time twice as much.
        if let Some(doublings) = health.failures().checked_sub(1).filter(|&doublings| doublings > 0) {
            let penalty = self
                .node
                .ewma
                .default_rtt
                .saturating_mul(1 << doublings.min(16))
                .min(MAX_PENALTY);
            self.node.load.borrow_mut().at_least(penalty, now);
        }
    }

    fn gave_up(&mut self, now: Instant) {
        if std::mem::take(&mut self.waiting) {
            let mut load = self.node.load.borrow_mut();
            load.end(now);
            load.at_least(now.saturating_duration_since(self.began), now);
        }
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        if self.waiting {
            self.gave_up(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
