//! The balancer against simulated endpoints: a virtual clock, Poisson-like arrivals, answers in the order of their time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use proptest::prelude::*;
use rand::{Rng, SeedableRng};

use super::*;
use crate::discovery::{Hint, Labels};

mod policies;

const MS: Duration = Duration::from_millis(1);

fn endpoint(i: u16, weight: f64) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        addr: ([10, 0, (i >> 8) as u8, i as u8], 8080).into(),
        weight,
        identity: None,
        hint: Hint::Unknown,
        transport_port: None,
        authority_override: None,
        labels: Labels::default(),
    })
}

fn set(endpoints: impl IntoIterator<Item = Arc<Endpoint>>) -> EndpointSet {
    EndpointSet {
        endpoints: endpoints.into_iter().collect(),
        exists: true,
    }
}

fn balancer(weights: &[f64], now: Instant, seed: u64) -> Balancer<usize> {
    ruled(Rules::default(), weights, now, seed)
}

fn ruled(rules: Rules, weights: &[f64], now: Instant, seed: u64) -> Balancer<usize> {
    let mut balancer = Balancer::new(rules, None, SmallRng::seed_from_u64(seed));
    let endpoints = weights
        .iter()
        .enumerate()
        .map(|(i, &weight)| endpoint(i as u16, weight));
    let mut next = 0..;
    let change = balancer.update(&set(endpoints), now, |_| next.next().expect("endless"));
    change.added.iter().for_each(|node| balancer.set_ready(node, now));
    balancer
}

/// What an endpoint does with a request that arrives at a time: how long it takes, and how that ends.
type Behaviour = dyn Fn(usize, Duration, &mut SmallRng) -> (Duration, Outcome);

/// Requests that each endpoint took in each second of `seconds`, at `rate` requests a second.
fn simulate(
    mut balancer: Balancer<usize>,
    rate: u64,
    seconds: u64,
    start: Instant,
    behave: &Behaviour,
) -> Vec<Vec<u32>> {
    let mut rng = SmallRng::seed_from_u64(rate ^ seconds);
    let mut taken = vec![vec![0u32; balancer.nodes().len()]; seconds as usize];
    let mut under_way: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut guards: Vec<Option<(InFlight<usize>, Outcome)>> = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_nanos((1e9 / rate as f64 * -rng.random_range(1e-9..1.0f64).ln()) as u64);
        while let Some(Reverse((end, request))) = under_way.pop_if_before(at) {
            let (guard, outcome) = guards[request].take().expect("each request ends once");
            guard.finish(outcome, start + end);
        }
        let second = at.as_secs() as usize;
        if second >= taken.len() {
            return taken;
        }
        let node = balancer.pick(start + at, |_| true).expect("an endpoint is ready");
        let (takes, outcome) = behave(node.value, at, &mut rng);
        taken[second][node.value] += 1;
        under_way.push(Reverse((at + takes, guards.len())));
        guards.push(Some((node.begin(start + at), outcome)));
    }
}

trait PopIfBefore {
    fn pop_if_before(&mut self, at: Duration) -> Option<Reverse<(Duration, usize)>>;
}

impl PopIfBefore for BinaryHeap<Reverse<(Duration, usize)>> {
    fn pop_if_before(&mut self, at: Duration) -> Option<Reverse<(Duration, usize)>> {
        self.peek()
            .is_some_and(|Reverse((end, _))| *end <= at)
            .then(|| self.pop())
            .flatten()
    }
}

fn share(taken: &[Vec<u32>], endpoint: usize) -> f64 {
    let of = |second: &Vec<u32>| (f64::from(second[endpoint]), f64::from(second.iter().sum::<u32>()));
    let (mine, all) = taken
        .iter()
        .map(of)
        .fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1));
    mine / all
}

fn jittered(base: Duration, rng: &mut SmallRng) -> Duration {
    base.mul_f64(rng.random_range(0.7..1.6))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The promise of the balancer: a replica that is 100 ms slower has under a tenth of the requests within five seconds.
    #[test]
    fn one_slow_replica_of_three_loses_its_traffic(rate in 20u64..3000, base_us in 300u64..8000, seed: u64) {
        let start = Instant::now();
        let taken = simulate(balancer(&[1.0; 3], start, seed), rate, 8, start, &move |i, _, rng| {
            let slow = if i == 0 { 100 * MS } else { Duration::ZERO };
            (jittered(Duration::from_micros(base_us), rng) + slow, Outcome::Success)
        });
        prop_assert!(share(&taken[5..], 0) < 0.02, "{taken:?}");
        prop_assert!(share(&taken[1..5], 0) < 0.10, "{taken:?}");
    }

    /// It also loses it where it turns slow after it was measured as fast.
    #[test]
    fn a_replica_that_turns_slow_loses_its_traffic(rate in 50u64..3000, seed: u64) {
        let start = Instant::now();
        let taken = simulate(balancer(&[1.0; 3], start, seed), rate, 10, start, &|i, at, rng| {
            let slow = if i == 1 && at.as_secs() >= 3 { 100 * MS } else { Duration::ZERO };
            (jittered(2 * MS, rng) + slow, Outcome::Success)
        });
        prop_assert!(share(&taken[4..], 1) < 0.05, "{taken:?}");
    }

    /// Fast failures do not attract traffic: within two seconds a failing endpoint has under one request in twenty.
    #[test]
    fn a_fast_failing_endpoint_loses_its_traffic(rate in 50u64..3000, endpoints in 2usize..12, seed: u64) {
        let start = Instant::now();
        let taken = simulate(balancer(&vec![1.0; endpoints], start, seed), rate, 8, start, &|i, _, rng| match i {
            0 => (Duration::from_micros(50), Outcome::Failure(Fault::Unavailable)),
            _ => (jittered(3 * MS, rng), Outcome::Success),
        });
        prop_assert!(share(&taken[2..], 0) < 0.05, "{taken:?}");
    }

    /// And it has its part again within seconds after it recovered.
    #[test]
    fn a_recovered_endpoint_has_its_traffic_again(rate in 300u64..2000, seed: u64) {
        let start = Instant::now();
        let taken = simulate(balancer(&[1.0; 3], start, seed), rate, 20, start, &|i, at, rng| {
            let failing = i == 0 && at.as_secs() < 3;
            (jittered(3 * MS, rng), if failing { Outcome::Failure(Fault::Unavailable) } else { Outcome::Success })
        });
        prop_assert!(share(&taken[12..], 0) > 0.15, "{taken:?}");
    }

    /// Equal endpoints under load share it equally.
    #[test]
    fn equal_endpoints_share_equally(endpoints in 2usize..9, seed: u64) {
        let start = Instant::now();
        let rate = 400 * endpoints as u64;
        let taken = simulate(balancer(&vec![1.0; endpoints], start, seed), rate, 5, start, &|_, _, rng| {
            (jittered(5 * MS, rng), Outcome::Success)
        });
        let fair = 1.0 / endpoints as f64;
        for i in 0..endpoints {
            let share = share(&taken, i);
            prop_assert!((share - fair).abs() < fair * 0.35, "{i} has {share}, fair is {fair}: {taken:?}");
        }
    }

    /// An endpoint of three times the weight takes about three times the requests.
    #[test]
    fn weights_are_respected_under_load(seed: u64) {
        let start = Instant::now();
        let taken = simulate(balancer(&[3.0, 1.0, 1.0], start, seed), 3000, 5, start, &|_, _, rng| {
            (jittered(5 * MS, rng), Outcome::Success)
        });
        let share = share(&taken, 0);
        prop_assert!((0.5..0.75).contains(&share), "{share}: {taken:?}");
    }

    /// Lists and places agree through any sequence of updates, losses of connection and requests.
    #[test]
    fn any_sequence_of_changes_keeps_the_lists_whole(steps in prop::collection::vec((0u8..5, 0u16..12), 1..200), seed: u64) {
        let mut now = Instant::now();
        let mut balancer = balancer(&[1.0; 4], now, seed);
        for (step, i) in steps {
            now += 200 * MS;
            let node = balancer.nodes().get(i as usize).cloned();
            match (step, node) {
                (0, _) => {
                    let endpoints = (0..12).filter(|n| (i + n) % 3 != 0).map(|n| endpoint(n, f64::from(1 + (i ^ n) % 3)));
                    let change = balancer.update(&set(endpoints), now, |_| 0);
                    change.added.iter().for_each(|node| balancer.set_ready(node, now));
                }
                (1, Some(node)) => balancer.set_unready(&node),
                (2, Some(node)) => balancer.set_ready(&node, now),
                (3, Some(node)) => (0..health::FAILURES_IN_A_ROW).for_each(|_| node.begin(now).finish(Outcome::Failure(Fault::Unavailable), now)),
                _ => {}
            }
            let picked = balancer.pick(now, |_| true);
            prop_assert_eq!(picked.is_some(), balancer.ready_len() > 0);
            for (i, node) in balancer.local.nodes.iter().enumerate() {
                prop_assert_eq!(node.place(), Place::Ready(Near::Local, i));
            }
            for (i, node) in balancer.sitting_out.iter().enumerate() {
                prop_assert_eq!(node.place(), Place::SittingOut(i));
            }
            prop_assert!(balancer.local.nodes.iter().chain(&balancer.sitting_out).all(|node| balancer.contains(node)));
        }
    }
}

#[test]
fn an_update_keeps_what_did_not_change() {
    let now = Instant::now();
    let mut balancer = balancer(&[1.0; 3], now, 1);
    let kept = Rc::clone(&balancer.nodes()[1]);
    let mut in_flight = Rc::clone(&balancer.nodes()[0]).begin(now);

    let mut meshed = Endpoint::clone(&endpoint(2, 1.0));
    meshed.hint = Hint::H2;
    let change = balancer.update(&set([endpoint(1, 2.0), Arc::new(meshed), endpoint(7, 1.0)]), now, |_| 9);

    let addresses = |nodes: &[Rc<Node<usize>>]| nodes.iter().map(|node| node.value).collect::<Vec<_>>();
    assert_eq!(
        addresses(&change.removed),
        [0, 2],
        "0 left, 2 speaks another protocol now"
    );
    assert_eq!(change.added.len(), 2);
    assert!(
        Rc::ptr_eq(&kept, &balancer.nodes()[0]),
        "a new weight keeps connection and estimate"
    );
    assert_eq!(balancer.ready_len(), 1);

    in_flight.answered(now + MS);
    in_flight.finish(Outcome::Success, now + MS);
    balancer.set_ready(&change.removed[0], now);
    assert_eq!(balancer.ready_len(), 1, "who left does not come back");
}

#[test]
fn only_ready_endpoints_are_chosen() {
    let now = Instant::now();
    let mut balancer = balancer(&[1.0; 3], now, 1);
    let nodes = balancer.nodes().to_vec();
    balancer.set_unready(&nodes[0]);
    balancer.set_unready(&nodes[2]);
    assert!((0..50).all(|_| balancer.pick(now, |_| true).is_some_and(|node| node.value == 1)));
    balancer.set_unready(&nodes[1]);
    assert!(balancer.pick(now, |_| true).is_none());
    balancer.set_ready(&nodes[2], now);
    assert!(balancer.pick(now, |_| true).is_some_and(|node| node.value == 2));
}

#[test]
fn a_full_endpoint_is_passed_over() {
    let now = Instant::now();
    let mut balancer = balancer(&[1.0; 5], now, 1);
    assert!((0..50).all(|_| {
        balancer
            .pick(now, |&value| value == 3)
            .is_some_and(|node| node.value == 3)
    }));
    assert!(balancer.pick(now, |_| false).is_none());
}

#[test]
fn where_all_fail_all_are_used_and_one_success_frees_all() {
    let now = Instant::now();
    let mut balancer = balancer(&[1.0; 3], now, 1);
    for node in balancer.nodes().to_vec() {
        (0..health::FAILURES_IN_A_ROW).for_each(|_| node.begin(now).finish(Outcome::Failure(Fault::Unavailable), now));
    }
    let mut used = [false; 3];
    for _ in 0..60 {
        used[balancer.pick(now, |_| true).expect("used all the same").value] = true;
    }
    assert_eq!(used, [true; 3]);
    assert_eq!(balancer.local.nodes.len(), 0);

    balancer
        .pick(now, |_| true)
        .expect("one")
        .begin(now)
        .finish(Outcome::Success, now + MS);
    let mut used = [0; 3];
    for _ in 0..300 {
        let node = balancer.pick(now + MS, |_| true).expect("ready");
        used[node.value] += 1;
        node.begin(now + MS).finish(Outcome::Success, now + 2 * MS);
    }
    assert_eq!(balancer.local.nodes.len(), 3);
    assert!(used.iter().all(|&n| n > 20), "{used:?}");
}

#[test]
fn a_hung_endpoint_loses_its_traffic_before_anything_times_out() {
    let start = Instant::now();
    let taken = simulate(balancer(&[1.0; 3], start, 5), 200, 10, start, &|i, at, rng| match i {
        2 if at.as_secs() >= 2 => (Duration::from_secs(600), Outcome::Success),
        _ => (jittered(4 * MS, rng), Outcome::Success),
    });
    let hung: u32 = taken[2..].iter().map(|second| second[2]).sum();
    assert!(hung <= 5, "{hung} requests went to an endpoint that answers nothing");
}
