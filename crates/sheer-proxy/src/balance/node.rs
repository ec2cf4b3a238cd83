//! One endpoint as the balancer sees it, and the requests that are at it.

use std::{
    cell::{Cell, RefCell},
    fmt,
    hash::{Hash as _, Hasher as _},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use sheer_policy::outbound::Penalty;

use super::{
    Rules,
    bound::Bound,
    health::{Ended, Event, Health, Rule, Stage, Why},
    load::Load,
};
use crate::discovery::Endpoint;

/// Smallest weight that is told apart from none: an endpoint of weight 0 takes traffic only where there is nearly no other.
const MIN_WEIGHT: f64 = 1e-4;
/// Longest penalty that failures in a row add to the estimate. An endpoint sits out soon after, this only bridges the time until then.
const MAX_PENALTY: Duration = Duration::from_secs(5);
/// Share of its weight with which a new endpoint begins: with none it would never get the first request.
const FIRST_SHARE: f64 = 0.1;

/// Who is told that a breaker changed.
pub trait Watch {
    /// The event, at this endpoint.
    fn event(&self, endpoint: &Endpoint, event: Event);
}

/// What the endpoints of a service have in common.
pub(super) struct Common {
    pub(super) rules: Rules,
    pub(super) breaker: Rule,
    pub(super) bound: Bound,
    pub(super) watch: Option<Rc<dyn Watch>>,
}

impl Common {
    pub(super) fn new(rules: Rules, watch: Option<Rc<dyn Watch>>) -> Rc<Self> {
        let breaker = Rule::new(rules.accrual);
        Rc::new(Self {
            bound: Bound::new(rules.balancing.max_ejected_percent, breaker.min_ready()),
            rules,
            breaker,
            watch,
        })
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common")
            .field("rules", &self.rules)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

/// One endpoint as the balancer sees it, with what the pool keeps for it (`T`).
#[derive(Debug)]
pub struct Node<T> {
    /// What discovery says.
    pub endpoint: Arc<Endpoint>,
    /// The pool's part.
    pub value: T,
    pub(super) common: Rc<Common>,
    pub(super) weight: Cell<f64>,
    /// The same in every process, so that all callers of a service keep a session at the same endpoint.
    pub(super) seed: u64,
    load: RefCell<Load>,
    health: RefCell<Health>,
    place: Cell<Place>,
    warmth: Cell<Warmth>,
}

/// Which list of the balancer holds a node, and where, so that it is removed without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not ready, or no longer of this service.
    Out,
    Ready(super::Near, usize),
    SittingOut(usize),
}

/// How far a new endpoint is in its slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warmth {
    /// Takes its whole share.
    Warm,
    /// Was never ready.
    Cold,
    /// Was first ready then.
    Since(Instant),
}

impl<T> Node<T> {
    /// `cold`: it joins endpoints that are in use.
    pub(super) fn new(endpoint: Arc<Endpoint>, value: T, common: &Rc<Common>, cold: bool, now: Instant) -> Self {
        let load = &common.rules.load;
        Self {
            weight: Cell::new(endpoint.weight.max(MIN_WEIGHT)),
            seed: seed(&endpoint),
            load: RefCell::new(Load::new(load.default_rtt, load.decay, now)),
            health: RefCell::default(),
            place: Cell::new(Place::Out),
            warmth: Cell::new(if cold { Warmth::Cold } else { Warmth::Warm }),
            common: Rc::clone(common),
            endpoint,
            value,
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
        self.health.borrow().failures()
    }

    /// Whether its failures keep it from being chosen.
    pub fn sits_out(&self) -> bool {
        self.sits_out_until().is_some()
    }

    /// Whether one request at a time decides whether it is well again.
    pub fn on_probation(&self) -> bool {
        self.health.borrow().on_probation()
    }

    /// Why it sits out, or is on probation.
    pub fn why_out(&self) -> Option<Why> {
        self.health.borrow().why_out()
    }

    /// What its response time is taken for now; none where it was never measured.
    pub fn rtt(&self, now: Instant) -> Option<Duration> {
        self.load.borrow().estimate(now)
    }

    /// What is left of the penalty for having said that it has too much to do.
    pub fn penalty(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.load.borrow().penalty_left(now))
    }

    pub(super) fn sits_out_until(&self) -> Option<Instant> {
        self.health.borrow().sits_out_until()
    }

    /// The sit-out is over: the next request decides.
    pub(super) fn probe(&self) {
        let event = self.health.borrow_mut().probe();
        self.tell(event);
    }

    /// Whether it takes a request now, as far as its health goes: on probation only one at once. One whose time is over goes on probation.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        match self.sits_out_until() {
            Some(until) if now < until => return false,
            Some(_) => self.probe(),
            None => {}
        }
        !self.on_probation() || self.pending() == 0
    }

    pub(super) fn place(&self) -> Place {
        self.place.get()
    }

    pub(super) fn set_place(&self, place: Place) {
        let connected = |place| place != Place::Out;
        let before = self.place.replace(place);
        if connected(before) != connected(place) {
            self.common.bound.connected(connected(place), self.is_out());
        }
    }

    /// Sets the weight; whether it changed.
    pub(super) fn set_weight(&self, weight: f64) -> bool {
        let weight = weight.max(MIN_WEIGHT);
        self.weight.replace(weight).total_cmp(&weight).is_ne()
    }

    /// It is ready: where it is new, its slow start begins. Says when that ends.
    pub(super) fn warm_up(&self, now: Instant) -> Option<Instant> {
        if self.warmth.get() == Warmth::Cold {
            self.warmth.set(Warmth::Since(now));
        }
        match self.warmth.get() {
            Warmth::Since(since) => self.common.rules.balancing.slow_start.map(|over| since + over),
            Warmth::Warm | Warmth::Cold => None,
        }
    }

    /// Share of its weight that it takes already.
    pub(super) fn warmth(&self, now: Instant) -> f64 {
        let (Warmth::Since(since), Some(over)) = (self.warmth.get(), self.common.rules.balancing.slow_start) else {
            return 1.0;
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= over {
            self.warmth.set(Warmth::Warm);
            return 1.0;
        }
        (elapsed.as_secs_f64() / over.as_secs_f64()).max(FIRST_SHARE)
    }

    /// A trial takes one request at once; on probation no second one goes before that is answered.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let (load, health) = (self.load.borrow(), self.health.borrow());
        if load.pending() == 0 && health.wants_trial(now) {
            0.0
        } else if health.on_probation() {
            f64::INFINITY
        } else {
            load.cost(self.weight.get(), now)
        }
    }

    fn is_out(&self) -> bool {
        self.health.borrow().stage() != Stage::Closed
    }

    fn tell(&self, event: Option<Event>) {
        let Some(event) = event else { return };
        let connected = self.place.get() != Place::Out;
        match event {
            Event::SitsOut(..) if connected => self.common.bound.out(true),
            Event::Back(_) if connected => self.common.bound.out(false),
            Event::SitsOut(..)
            | Event::Back(_)
            | Event::SitsOutAgain(_)
            | Event::Stays(_)
            | Event::Probation
            | Event::Left(_) => {}
        }
        if let Some(watch) = &self.common.watch {
            watch.event(&self.endpoint, event);
        }
    }

    fn penalize(&self, penalty: &Penalty, hint: Option<Duration>, now: Instant) {
        let asked = hint
            .filter(|_| !penalty.max_retry_after.is_zero())
            .map(|hint| hint.min(penalty.max_retry_after));
        let by = asked.unwrap_or(penalty.penalty);
        self.load.borrow_mut().penalize(by, penalty.decay, now);
        self.health.borrow_mut().no_trial_before(now + by);
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        let stage = self.health.borrow().stage();
        if stage != Stage::Closed {
            self.tell(Some(Event::Left(stage)));
        }
    }
}

fn seed(endpoint: &Endpoint) -> u64 {
    // Unkeyed, unlike a map's.
    let mut hasher = std::hash::DefaultHasher::new();
    endpoint.addr.hash(&mut hasher);
    hasher.finish()
}

/// How a request ended, as its endpoint is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Success,
    /// Answered with a failure, or not answered because the connection failed.
    Failure(Fault),
    /// Nothing that says anything about the endpoint: the client gave up or broke the rules.
    Neutral,
}

/// What speaks against an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not answered: the connection failed, or the stream was reset.
    Lost,
    /// 5xx, gRPC `UNAVAILABLE`.
    Unavailable,
    /// gRPC `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `DATA_LOSS`: perhaps no more than the application's answer.
    Failed,
    /// 429, gRPC `RESOURCE_EXHAUSTED`.
    Overloaded,
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

    /// When the request went out.
    pub fn began(&self) -> Instant {
        self.began
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
    pub fn finish(self, outcome: Outcome, now: Instant) {
        self.finish_with(outcome, None, now);
    }

    /// The request is over, and its answer said how long the endpoint wants to be left alone.
    pub fn finish_with(mut self, outcome: Outcome, hint: Option<Duration>, now: Instant) {
        match outcome {
            Outcome::Success => self.succeeded(now),
            Outcome::Failure(fault) => {
                if self.node.common.breaker.counts(fault) {
                    self.failed(hint, now);
                } else {
                    self.succeeded(now);
                }
                if let Some(penalty) = &self.node.common.rules.load.penalty {
                    self.node.penalize(penalty, hint, now);
                }
            }
            Outcome::Neutral => self.gave_up(now),
        }
    }

    fn ended(&self, now: Instant) -> Ended {
        Ended { began: self.began, now }
    }

    fn succeeded(&mut self, now: Instant) {
        self.answered(now);
        let node = &self.node;
        let (forgiven, event) = node
            .health
            .borrow_mut()
            .succeeded(self.ended(now), &node.common.breaker);
        if forgiven {
            // What was measured while it failed says nothing about how it is now.
            node.load.borrow_mut().reset(node.common.rules.load.default_rtt, now);
        }
        node.tell(event);
    }

    fn failed(&mut self, hint: Option<Duration>, now: Instant) {
        self.gave_up(now);
        let node = &self.node;
        let may_sit_out = || node.common.bound.allows_one_more();
        let event = node.health.borrow_mut().failed(
            (self.ended(now), hint),
            &node.common.breaker,
            may_sit_out,
            &mut rand::rng(),
        );
        node.tell(event);
        // A single failure only never counts as fast. From the second in a row on it costs, each time twice as much.
        if let Some(doublings) = node.failures().checked_sub(1).filter(|&doublings| doublings > 0) {
            let default_rtt = node.common.rules.load.default_rtt;
            let penalty = default_rtt.saturating_mul(1 << doublings.min(16)).min(MAX_PENALTY);
            node.load.borrow_mut().at_least(penalty, now);
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
