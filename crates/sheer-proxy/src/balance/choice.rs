//! Whom a request is sent to.
//!
//! 1. By its key, where the policy keeps such requests together: rendezvous hashing among the endpoints that are well, so that few keys move
//!    when endpoints come and go. A pass over all endpoints; only where it is asked for.
//! 2. Two are drawn by weight, the cheaper is taken. An endpoint in its slow start is drawn as if it had less weight.
//! 3. Endpoints of other zones are drawn where those of the caller's own are loaded, or there are none.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use rand::{Rng, rngs::SmallRng};
use sheer_policy::outbound::Locality;

use super::{Balancer, Near, Node, weights::AliasTable};

/// Requests under way at one endpoint up to which a key is never sent elsewhere: a browser's burst belongs together.
const ALWAYS_TOGETHER: f64 = 32.0;
/// Times its fair part of what is under way up to which an endpoint takes further requests of its keys.
const TOGETHER_UP_TO: f64 = 2.0;
/// Draws after which a request goes to a new endpoint all the same: where all have just begun, one of them has to take it.
const DRAWS: usize = 16;

/// What a request asks of the choice of its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Requests with the same key go to the same endpoint while it is well
    /// ([`Balancing::affinity`](sheer_policy::outbound::Balancing::affinity)).
    pub key: Option<u64>,
    /// An endpoint that just failed this request: another one, where there is one.
    pub avoid: Option<SocketAddr>,
}

/// Endpoints that are drawn from together.
#[derive(Debug)]
pub(super) struct Group<T> {
    pub(super) nodes: Vec<Rc<Node<T>>>,
    table: Option<AliasTable>,
    table_is_stale: bool,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            table: None,
            table_is_stale: false,
        }
    }
}

impl<T> Group<T> {
    /// Its endpoints or their weights change.
    pub(super) fn change(&mut self) {
        self.table_is_stale = true;
    }

    /// Two indices into a group that is not empty.
    fn draw_two(&mut self, warming: Option<Instant>, rng: &mut SmallRng) -> (usize, usize) {
        if std::mem::take(&mut self.table_is_stale) {
            let weights: Vec<f64> = self.nodes.iter().map(|node| node.weight.get()).collect();
            self.table = AliasTable::new(&weights);
        }
        if let Some(now) = warming {
            return self.draw_two_by_warmth(now, rng);
        }
        match &self.table {
            // With repetition: an endpoint that has most of the weight must be able to meet only itself.
            Some(table) => (table.sample(rng), table.sample(rng)),
            None => two_different(self.nodes.len(), rng),
        }
    }

    /// The first as its warmth allows; the second is one that is warm, or the first again. So a new endpoint has its share at most: it takes
    /// a request only where it was drawn first.
    fn draw_two_by_warmth(&self, now: Instant, rng: &mut SmallRng) -> (usize, usize) {
        let mut first = self.draw(rng);
        for _ in 1..DRAWS {
            if rng.random::<f64>() < self.nodes[first].warmth(now) {
                break;
            }
            first = self.draw(rng);
        }
        let mut others = (0..DRAWS).map(|_| self.draw(rng));
        let second = others.find(|&other| other != first && self.nodes[other].warmth(now) >= 1.0);
        (first, second.unwrap_or(first))
    }

    fn draw(&self, rng: &mut SmallRng) -> usize {
        match &self.table {
            Some(table) => table.sample(rng),
            None => rng.random_range(0..self.nodes.len()),
        }
    }
}

impl<T> Balancer<T> {
    /// The better of two random endpoints among those that are ready, and `usable` right now. `None` where there is none.
    pub fn pick(&mut self, now: Instant, usable: impl Fn(&T) -> bool) -> Option<Rc<Node<T>>> {
        self.pick_for(Pick::default(), now, usable)
    }

    /// The endpoint for a request that belongs to others, or just failed elsewhere.
    pub fn pick_for(&mut self, pick: Pick, now: Instant, usable: impl Fn(&T) -> bool) -> Option<Rc<Node<T>>> {
        self.end_sit_outs(now);
        if let Some(avoid) = pick.avoid {
            let elsewhere = |node: &Node<T>| node.endpoint.addr != avoid && usable(&node.value);
            let found = self.choose(pick.key, now, &elsewhere);
            if found.is_some() {
                return found;
            }
        }
        self.choose(pick.key, now, &|node: &Node<T>| usable(&node.value))
    }

    fn choose(&mut self, key: Option<u64>, now: Instant, usable: &impl Fn(&Node<T>) -> bool) -> Option<Rc<Node<T>>> {
        if let Some(key) = key
            && let Some(node) = self.by_key(key, now, usable)
        {
            return Some(node);
        }
        let local = self.best_of(Near::Local, now, usable);
        if self.elsewhere.nodes.is_empty() {
            // Without localities, always.
            if local.is_some() || !self.local.nodes.is_empty() {
                return local;
            }
            return self.pick_while_all_sit_out(now, usable);
        }
        match local {
            Some(local) => Some(self.spill_over(local, now, usable)),
            None => self.best_of(Near::Elsewhere, now, usable).or_else(|| {
                let all_sit_out = self.local.nodes.is_empty() && self.elsewhere.nodes.is_empty();
                all_sit_out.then(|| self.pick_while_all_sit_out(now, usable)).flatten()
            }),
        }
    }

    /// The local endpoint, or a better one elsewhere once every local one has as many requests under way as the policy says.
    fn spill_over(&mut self, local: Rc<Node<T>>, now: Instant, usable: &impl Fn(&Node<T>) -> bool) -> Rc<Node<T>> {
        let Some(Locality { spill_over_at, .. }) = &self.common.rules.balancing.locality else {
            return local;
        };
        let at = *spill_over_at;
        let has_room = |node: &Node<T>| f64::from(node.pending()) < at;
        if has_room(&local) {
            return local;
        }
        // Two that are loaded do not mean that all are: only under load is it worth to look at each.
        let candidates = self.local.nodes.iter();
        let roomy = candidates.filter(|node| has_room(node) && usable(node) && node.is_well(now));
        if let Some(roomy) = roomy.min_by(|a, b| a.cost(now).total_cmp(&b.cost(now))) {
            return Rc::clone(roomy);
        }
        match self.best_of(Near::Elsewhere, now, usable) {
            Some(other) if other.cost(now) < local.cost(now) => other,
            Some(_) | None => local,
        }
    }

    /// The better of two of a group. Those who have to sit out are moved away as they are met.
    fn best_of(&mut self, near: Near, now: Instant, usable: &impl Fn(&Node<T>) -> bool) -> Option<Rc<Node<T>>> {
        let warming = self.warm_at.filter(|at| now < *at).map(|_| now);
        loop {
            let group = match near {
                Near::Local => &mut self.local,
                Near::Elsewhere => &mut self.elsewhere,
            };
            if group.nodes.is_empty() {
                return None;
            }
            let (first, second) = group.draw_two(warming, &mut self.rng);
            // Requests note their failure on the node as they end, without the balancer: who has to sit out is found here.
            let failed = [first, second]
                .into_iter()
                .map(|i| &group.nodes[i])
                .find(|node| node.sits_out());
            match failed.cloned() {
                Some(node) => self.sit_out(&node),
                None => return better_of(&group.nodes, (first, second), now, usable),
            }
        }
    }

    /// Everything that has a connection fails. One answer that is well ends the sit-outs of all: what they had in common is over,
    /// and the first to recover must not carry everything alone.
    fn pick_while_all_sit_out(&mut self, now: Instant, usable: &impl Fn(&Node<T>) -> bool) -> Option<Rc<Node<T>>> {
        if self.sitting_out.is_empty() {
            return None;
        }
        let candidates = two_different(self.sitting_out.len(), &mut self.rng);
        let picked = better_of(&self.sitting_out, candidates, now, usable)?;
        if !picked.sits_out() {
            while let Some(node) = self.sitting_out.last().cloned() {
                self.end_sit_out(&node);
            }
            self.next_probe = None;
        }
        Some(picked)
    }

    /// The endpoint that a key belongs to: of those that are well and not overloaded, the first in an order that is the key's own.
    fn by_key(&self, key: u64, now: Instant, usable: &impl Fn(&Node<T>) -> bool) -> Option<Rc<Node<T>>> {
        self.common.rules.balancing.affinity.as_ref()?;
        let of = |group: &Group<T>| {
            let nodes = group.nodes.iter();
            let sums = nodes.fold((0.0, 0.0), |(pending, weight), node| {
                (pending + f64::from(node.pending()), weight + node.weight.get())
            });
            let takes_more = |node: &Node<T>| {
                let fair = (sums.0 + 1.0) * node.weight.get() / sums.1;
                f64::from(node.pending()) < (fair * TOGETHER_UP_TO).max(ALWAYS_TOGETHER)
            };
            let candidates = group.nodes.iter();
            let candidates = candidates.filter(|node| takes_more(node) && usable(node) && node.is_well(now));
            let first = candidates.min_by(|a, b| rank(key, a).total_cmp(&rank(key, b)));
            first.cloned()
        };
        of(&self.local).or_else(|| of(&self.elsewhere))
    }
}

/// Where an endpoint stands in a key's order: exponentially distributed with its weight as the rate, so that each is first for a share of
/// the keys in proportion to its weight, and an endpoint that goes leaves the order of the others as it was.
fn rank<T>(key: u64, node: &Node<T>) -> f64 {
    let random = mixed(key ^ node.seed);
    // 53 bits, never 0 nor 1.
    let uniform = ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln() / node.weight.get()
}

/// The finalizer of SplitMix64: every bit of the input changes half of the output's.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
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
    usable: &impl Fn(&Node<T>) -> bool,
) -> Option<Rc<Node<T>>> {
    let (a, b) = (&nodes[first], &nodes[second]);
    let better = match (usable(a), usable(b)) {
        (true, true) if b.cost(now) < a.cost(now) => Some(b),
        (true, _) => Some(a),
        (false, true) => Some(b),
        (false, false) => {
            let usable = nodes.iter().filter(|node| usable(node));
            usable.min_by(|a, b| a.cost(now).total_cmp(&b.cost(now)))
        }
    };
    better.cloned()
}
