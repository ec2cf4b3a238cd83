//! Which endpoint takes the next request: power of two choices over peak EWMA.
//!
//! Pure logic: no I/O, no timers, clock and randomness are given. `pool` owns a [`Balancer`] for each service and worker, tells it which
//! endpoints have a connection, and asks it for every request. A choice costs two random numbers and two exponentials, however
//! many endpoints there are; what a policy can ask for beyond that costs nothing where it does not ask.
//!
//! * [`load`]: what a request would cost at an endpoint. Response time is measured until the response's headers (or the first
//!   byte, for TCP the connection) arrive; so long a request counts as under way. A long answer is not load.
//! * [`health`]: failures in a row or a low success rate make an endpoint sit out; `bound` says how many may at once.
//! * [`choice`]: whom a request is sent to: by its key, zone, weight, warmth and cost.
//! * Ready endpoints are chosen first. Where every endpoint that has a connection sits out, all of them are used as if none did: an answer of
//!   the application, even a bad one, says more than one of ours.

mod bound;
pub mod choice;
pub mod health;
pub mod load;
mod node;
pub mod weights;
mod window;

use std::{rc::Rc, sync::Arc, time::Instant};

use rand::rngs::SmallRng;
use sheer_policy::outbound::{Balancing, FailureAccrual, LoadEstimate};

use self::{
    choice::Group,
    node::{Common, Place},
};
pub use self::{
    choice::Pick,
    node::{Fault, InFlight, Node, Outcome, Watch},
};
use crate::discovery::{Endpoint, EndpointSet};

/// Label of an endpoint that says in which zone it is.
const ZONE: &str = "zone";

/// What the policy says of a service's endpoints.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How load is estimated.
    pub load: LoadEstimate,
    /// How endpoints are chosen beyond load.
    pub balancing: Balancing,
    /// When an endpoint sits out; five failures in a row where the policy does not say.
    pub accrual: Option<FailureAccrual>,
}

/// Whether an endpoint is of the caller's zone. Where the policy does not ask, all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near {
    Local,
    Elsewhere,
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
    common: Rc<Common>,
    nodes: Vec<Rc<Node<T>>>,
    local: Group<T>,
    /// Of other zones.
    elsewhere: Group<T>,
    sitting_out: Vec<Rc<Node<T>>>,
    /// Earliest end of a sit-out: until then nobody looks at them.
    next_probe: Option<Instant>,
    /// Last end of a slow start: until then endpoints are drawn by their warmth.
    warm_at: Option<Instant>,
    rng: SmallRng,
}

impl<T> Balancer<T> {
    /// No endpoints yet. `watch` is told when a breaker changes.
    pub fn new(rules: Rules, watch: Option<Rc<dyn Watch>>, rng: SmallRng) -> Self {
        Self {
            common: Common::new(rules, watch),
            nodes: Vec::new(),
            local: Group::default(),
            elsewhere: Group::default(),
            sitting_out: Vec::new(),
            next_probe: None,
            warm_at: None,
            rng,
        }
    }

    /// Every endpoint, sorted by address.
    pub fn nodes(&self) -> &[Rc<Node<T>>] {
        &self.nodes
    }

    /// Endpoints that may be chosen, those that sit out included.
    pub fn ready_len(&self) -> usize {
        self.local.nodes.len() + self.elsewhere.nodes.len() + self.sitting_out.len()
    }

    /// Takes over what discovery says now. An endpoint that did not change stays with its connection and its estimate; one
    /// whose address is the same but whose identity or protocol differs is another endpoint.
    pub fn update(&mut self, set: &EndpointSet, now: Instant, mut make: impl FnMut(&Arc<Endpoint>) -> T) -> Change<T> {
        let mut change = Change {
            added: Vec::new(),
            removed: Vec::new(),
        };
        // A slow start is for those who join others: where all are new there is nobody who could take more.
        let joins = self.common.rules.balancing.slow_start.is_some() && self.ready_len() > 0;
        let mut old = std::mem::take(&mut self.nodes).into_iter().peekable();
        for endpoint in &set.endpoints {
            change.removed.extend(std::iter::from_fn(|| {
                old.next_if(|node| node.endpoint.addr < endpoint.addr)
            }));
            let same_address = old.next_if(|node| node.endpoint.addr == endpoint.addr);
            let node = match same_address {
                Some(node) if is_same_peer(&node.endpoint, endpoint) => {
                    if node.set_weight(endpoint.weight) {
                        self.local.change();
                        self.elsewhere.change();
                    }
                    node
                }
                replaced => {
                    let cold = joins && replaced.is_none();
                    change.removed.extend(replaced);
                    let value = make(endpoint);
                    let node = Rc::new(Node::new(Arc::clone(endpoint), value, &self.common, cold, now));
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
        self.common.bound.set_total(self.nodes.len());
        change
    }

    /// The endpoint has a connection, or may be connected to at any time.
    pub fn set_ready(&mut self, node: &Rc<Node<T>>, now: Instant) {
        if node.place() == Place::Out && self.contains(node) {
            self.put_in(node);
            self.warm_at = self.warm_at.max(node.warm_up(now));
        }
    }

    /// The endpoint has no connection.
    pub fn set_unready(&mut self, node: &Rc<Node<T>>) {
        self.take_out(node);
    }

    fn group(&mut self, near: Near) -> &mut Group<T> {
        match near {
            Near::Local => &mut self.local,
            Near::Elsewhere => &mut self.elsewhere,
        }
    }

    fn near(&self, endpoint: &Endpoint) -> Near {
        match &self.common.rules.balancing.locality {
            Some(locality) if endpoint.labels.get(ZONE).map(String::as_str) != Some(&*locality.zone) => Near::Elsewhere,
            Some(_) | None => Near::Local,
        }
    }

    fn put_in(&mut self, node: &Rc<Node<T>>) {
        let near = self.near(&node.endpoint);
        let group = self.group(near);
        node.set_place(Place::Ready(near, group.nodes.len()));
        group.nodes.push(Rc::clone(node));
        group.change();
    }

    /// Removes a node from the list that holds it; the last of the list takes its place.
    fn take_out(&mut self, node: &Rc<Node<T>>) {
        let place = node.place();
        self.remove(place);
        node.set_place(Place::Out);
    }

    fn remove(&mut self, place: Place) {
        match place {
            Place::Out => {}
            Place::Ready(near, i) => {
                let group = self.group(near);
                group.change();
                group.nodes.swap_remove(i);
                if let Some(moved) = group.nodes.get(i) {
                    moved.set_place(place);
                }
            }
            Place::SittingOut(i) => {
                self.sitting_out.swap_remove(i);
                if let Some(moved) = self.sitting_out.get(i) {
                    moved.set_place(place);
                }
            }
        }
    }

    fn sit_out(&mut self, node: &Rc<Node<T>>) {
        self.remove(node.place());
        self.next_probe = self.next_probe.into_iter().chain(node.sits_out_until()).min();
        node.set_place(Place::SittingOut(self.sitting_out.len()));
        self.sitting_out.push(Rc::clone(node));
    }

    /// Puts those back whose time is over. Looks at them only when the first of them is due.
    fn end_sit_outs(&mut self, now: Instant) {
        if self.next_probe.is_none_or(|due| now < due) {
            return;
        }
        self.next_probe = None;
        for i in (0..self.sitting_out.len()).rev() {
            let node = Rc::clone(&self.sitting_out[i]);
            match node.sits_out_until() {
                Some(until) if now < until => self.next_probe = self.next_probe.into_iter().chain([until]).min(),
                _ => self.end_sit_out(&node),
            }
        }
    }

    fn end_sit_out(&mut self, node: &Rc<Node<T>>) {
        node.probe();
        self.remove(node.place());
        self.put_in(node);
    }

    fn contains(&self, node: &Rc<Node<T>>) -> bool {
        let found = self
            .nodes
            .binary_search_by_key(&node.endpoint.addr, |node| node.endpoint.addr);
        found.is_ok_and(|i| Rc::ptr_eq(&self.nodes[i], node))
    }
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

#[cfg(test)]
mod tests;
