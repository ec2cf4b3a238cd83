//! What a policy can ask for, against simulated endpoints.

use std::cell::RefCell;

use sheer_policy::outbound::{Affinity, Backoff, Locality, Penalty, SuccessRate};

use super::*;
use crate::balance::health::Event;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn accrual(max_consecutive: Option<u32>, success_rate: Option<SuccessRate>) -> FailureAccrual {
    FailureAccrual {
        max_consecutive,
        success_rate,
        backoff: Backoff {
            min: seconds(5),
            max: seconds(60),
            jitter: 0.2,
            honour_hint: false,
        },
        min_ready: 0,
    }
}

const RATE: SuccessRate = SuccessRate {
    threshold: 0.8,
    window: Duration::from_secs(10),
    min_requests: 5,
};

fn zoned(i: u16, zone: &str) -> Arc<Endpoint> {
    let mut endpoint = Endpoint::clone(&endpoint(i, 1.0));
    endpoint.labels = Labels::new([(ZONE.to_owned(), zone.to_owned())].into());
    Arc::new(endpoint)
}

fn balancing(balancing: Balancing) -> Rules {
    Rules {
        balancing,
        ..Rules::default()
    }
}

fn affinity() -> Rules {
    balancing(Balancing {
        affinity: Some(Affinity::ClientIp),
        ..Balancing::default()
    })
}

fn keyed(key: u64) -> Pick {
    Pick {
        key: Some(key),
        avoid: None,
    }
}

/// An endpoint that fails a request in two is never five in a row for long, but its rate is low.
fn half_of_one_fails(i: usize, _: Duration, rng: &mut SmallRng) -> (Duration, Outcome) {
    let outcome = match i == 0 && rng.random_bool(0.5) {
        true => Outcome::Failure(Fault::Unavailable),
        false => Outcome::Success,
    };
    (jittered(2 * MS, rng), outcome)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn an_endpoint_that_fails_half_of_its_requests_is_found_by_its_rate(rate in 200u64..2000, seed: u64) {
        let start = Instant::now();
        let rules = Rules { accrual: Some(accrual(Some(50), Some(RATE))), ..Rules::default() };
        let taken = simulate(ruled(rules, &[1.0; 4], start, seed), rate, 20, start, &half_of_one_fails);
        let share = share(&taken[2..], 0);
        prop_assert!(share < 0.02, "{share}: {taken:?}");
    }

    /// A bound holds through any mix of failures, and where it is reached the ones that fail still take requests.
    #[test]
    fn no_more_than_the_share_sits_out(endpoints in 1usize..20, percent in 1u8..=100, min_ready in 0usize..4, failing in prop::collection::vec(any::<bool>(), 20), seed: u64) {
        let start = Instant::now();
        let rules = Rules {
            accrual: Some(FailureAccrual { min_ready, ..accrual(Some(2), None) }),
            balancing: Balancing { max_ejected_percent: Some(percent), ..Balancing::default() },
            ..Rules::default()
        };
        let mut balancer = ruled(rules, &vec![1.0; endpoints], start, seed);
        for step in 0..500u64 {
            let now = start + MS * 20 * step as u32;
            let node = balancer.pick(now, |_| true).expect("one is left");
            let fails = failing[node.value];
            node.begin(now).finish(if fails { Outcome::Failure(Fault::Lost) } else { Outcome::Success }, now);
            let out = balancer.nodes().iter().filter(|node| node.sits_out() || node.on_probation()).count();
            prop_assert!(out * 100 <= usize::from(percent) * endpoints, "{out} of {endpoints}");
            prop_assert!(out == 0 || endpoints - out >= min_ready.max(1), "{out} of {endpoints}, {min_ready} stay");
        }
    }

    /// A new endpoint has no more than its growing share, gets there in the end, and the others are not starved meanwhile.
    #[test]
    fn a_new_endpoints_share_grows(others in 1u16..6, seed: u64) {
        let start = Instant::now();
        let rules = balancing(Balancing { slow_start: Some(seconds(20)), ..Balancing::default() });
        let mut balancer = ruled(rules, &vec![1.0; usize::from(others)], start, seed);
        let all = set((0..=others).map(|i| endpoint(i, 1.0)));
        let new = usize::from(others);
        let change = balancer.update(&all, start, |_| new);
        prop_assert_eq!(change.added.len(), 1);
        balancer.set_ready(&change.added[0], start);
        let rate = 500 * (u64::from(others) + 1);
        let taken = simulate(balancer, rate, 25, start, &|_, _, rng| (jittered(5 * MS, rng), Outcome::Success));
        for (range, grown) in [(0..4, 0.2), (8..12, 0.6), (16..20, 1.0)] {
            let (share, most) = (share(&taken[range.clone()], new), grown / (f64::from(others) + grown));
            prop_assert!(share <= most * 1.1 + 0.005, "{share} in {range:?}, at most {most}");
        }
        let (early, late) = (share(&taken[0..4], new), share(&taken[21..25], new));
        let fair = 1.0 / (f64::from(others) + 1.0);
        prop_assert!(early > 0.0 && late > fair * 0.6, "{early}, then {late} of {fair}");
    }

    /// An endpoint that comes or goes moves its own keys and no others.
    #[test]
    fn few_keys_move(endpoints in 2u16..20, gone in 0u16..20, seed: u64) {
        let (now, keys, gone) = (Instant::now(), 2000u64, gone % endpoints);
        let mut balancer = ruled(affinity(), &vec![1.0; usize::from(endpoints)], now, seed);
        let place = |balancer: &mut Balancer<usize>| -> Vec<std::net::SocketAddr> {
            let keys = (0..keys).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            keys.map(|key| balancer.pick_for(keyed(key), now, |_| true).expect("ready").endpoint.addr).collect()
        };
        let before = place(&mut balancer);
        let left = balancer.nodes()[usize::from(gone)].endpoint.addr;
        balancer.update(&set((0..endpoints).filter(|i| *i != gone).map(|i| endpoint(i, 1.0))), now, |_| 0);
        let after = place(&mut balancer);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        prop_assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == left));
        let fair = keys as f64 / f64::from(endpoints);
        prop_assert!((moved as f64) < fair * 1.25 + 60.0, "{moved} moved, {fair} were its fair part");
    }
}

#[test]
fn when_all_are_new_nobody_starts_slowly() {
    let start = Instant::now();
    let rules = balancing(Balancing {
        slow_start: Some(seconds(60)),
        ..Balancing::default()
    });
    let taken = simulate(ruled(rules, &[1.0; 3], start, 1), 900, 2, start, &|_, _, rng| {
        (jittered(5 * MS, rng), Outcome::Success)
    });
    assert!((0..3).all(|i| share(&taken, i) > 0.2), "{taken:?}");
}

#[test]
fn a_slow_start_begins_with_the_connection() {
    let start = Instant::now();
    let rules = balancing(Balancing {
        slow_start: Some(seconds(10)),
        ..Balancing::default()
    });
    let mut balancer = ruled(rules, &[1.0; 2], start, 1);
    let change = balancer.update(&set((0..3).map(|i| endpoint(i, 1.0))), start, |_| 2);
    let new = Rc::clone(&change.added[0]);
    let later = start + seconds(60);
    balancer.set_ready(&new, later);
    assert!(new.warmth(later + seconds(1)) < 0.11);
    balancer.set_unready(&new);
    balancer.set_ready(&new, later + seconds(5));
    let half = new.warmth(later + seconds(5));
    assert!(
        (half - 0.5).abs() < 1e-9,
        "a lost connection does not start it anew: {half}"
    );
    assert_eq!(new.warmth(later + seconds(10)), 1.0);
}

fn in_two_zones(spill_over_at: f64, now: Instant) -> Balancer<usize> {
    let locality = Locality {
        zone: "a".into(),
        spill_over_at,
    };
    let rules = balancing(Balancing {
        locality: Some(locality),
        ..Balancing::default()
    });
    let mut balancer = Balancer::new(rules, None, SmallRng::seed_from_u64(7));
    let endpoints = (0..6).map(|i| zoned(i, if i < 3 { "a" } else { "b" }));
    let mut next = 0..;
    let change = balancer.update(&set(endpoints), now, |_| next.next().expect("endless"));
    change.added.iter().for_each(|node| balancer.set_ready(node, now));
    balancer
}

#[test]
fn the_own_zone_comes_first_and_others_join_as_it_is_loaded() {
    let now = Instant::now();
    let mut balancer = in_two_zones(4.0, now);
    let mut at = [0u32; 6];
    let mut requests = Vec::new();
    for _ in 0..12 {
        let node = balancer.pick(now, |_| true).expect("ready");
        at[node.value] += 1;
        requests.push(node.begin(now));
    }
    assert_eq!(at, [4, 4, 4, 0, 0, 0], "each local one has its fill first");
    for _ in 0..12 {
        let node = balancer.pick(now, |_| true).expect("ready");
        at[node.value] += 1;
        requests.push(node.begin(now));
    }
    assert!(at[3..].iter().sum::<u32>() >= 9, "{at:?}");
    for request in requests {
        request.finish(Outcome::Success, now + MS);
    }
    let later = now + 2 * MS;
    assert!((0..50).all(|_| balancer.pick(later, |_| true).expect("ready").value < 3));
}

#[test]
fn other_zones_take_over_where_none_of_the_own_is_well() {
    let now = Instant::now();
    let mut balancer = in_two_zones(4.0, now);
    let nodes = balancer.nodes().to_vec();
    balancer.set_unready(&nodes[0]);
    for node in &nodes[1..3] {
        (0..health::FAILURES_IN_A_ROW).for_each(|_| node.begin(now).finish(Outcome::Failure(Fault::Lost), now));
    }
    assert!((0..50).all(|_| balancer.pick(now, |_| true).expect("ready").value >= 3));
    balancer.set_ready(&nodes[0], now);
    assert!((0..50).all(|_| balancer.pick(now, |_| true).expect("ready").value == 0));
}

#[test]
fn a_key_stays_while_its_endpoint_is_well_and_comes_back() {
    let now = Instant::now();
    let mut balancer = ruled(affinity(), &[1.0; 5], now, 3);
    let mut home = |now| balancer.pick_for(keyed(42), now, |_| true).expect("ready");
    let first = home(now);
    (0..20).for_each(|_| drop(first.begin(now)));
    assert!((0..50).all(|_| Rc::ptr_eq(&home(now), &first)));

    (0..health::FAILURES_IN_A_ROW).for_each(|_| first.begin(now).finish(Outcome::Failure(Fault::Lost), now));
    let second = home(now);
    assert!(!Rc::ptr_eq(&second, &first));
    assert!((0..50).all(|_| Rc::ptr_eq(&home(now), &second)), "together elsewhere");

    let probe = home(now + seconds(2)).begin(now + seconds(2));
    assert!(Rc::ptr_eq(probe.node(), &first), "its own keys probe it");
    assert!(Rc::ptr_eq(&home(now + seconds(2)), &second), "one at a time");
    probe.finish(Outcome::Success, now + seconds(2));
    assert!(Rc::ptr_eq(&home(now + seconds(2)), &first));
}

#[test]
fn one_key_does_not_overload_an_endpoint() {
    let now = Instant::now();
    let mut balancer = ruled(affinity(), &[1.0; 4], now, 3);
    let mut at = [0u32; 4];
    let mut requests = Vec::new();
    for _ in 0..400 {
        let node = balancer.pick_for(keyed(42), now, |_| true).expect("ready");
        at[node.value] += 1;
        requests.push(node.begin(now));
    }
    at.sort_unstable();
    assert!(at[3] >= 32 && at[3] <= 202, "twice the fair part at most: {at:?}");
    let few = ruled(affinity(), &[1.0; 4], now, 3);
    let mut few = few;
    let together: Vec<_> = (0..20)
        .map(|_| few.pick_for(keyed(42), now, |_| true).expect("ready").begin(now))
        .collect();
    assert!(
        together
            .iter()
            .all(|request| Rc::ptr_eq(request.node(), together[0].node())),
        "a burst stays together"
    );
}

#[test]
fn keys_are_spread_by_weight() {
    let now = Instant::now();
    let mut balancer = ruled(affinity(), &[3.0, 1.0], now, 3);
    let heavy = (0..4000u64).filter(|key| {
        let node = balancer.pick_for(keyed(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)), now, |_| true);
        node.expect("ready").value == 0
    });
    let share = heavy.count() as f64 / 4000.0;
    assert!((share - 0.75).abs() < 0.03, "{share}");
}

#[test]
fn who_failed_a_request_is_avoided_where_there_is_another() {
    let now = Instant::now();
    let mut balancer = balancer(&[1.0; 2], now, 1);
    let addr = balancer.nodes()[0].endpoint.addr;
    let avoid = Pick {
        key: None,
        avoid: Some(addr),
    };
    assert!((0..50).all(|_| balancer.pick_for(avoid, now, |_| true).expect("ready").endpoint.addr != addr));
    let other = Rc::clone(&balancer.nodes()[1]);
    balancer.set_unready(&other);
    assert_eq!(
        balancer.pick_for(avoid, now, |_| true).expect("ready").endpoint.addr,
        addr
    );
}

fn penalty() -> Rules {
    let mut rules = Rules::default();
    rules.load.penalty = Some(Penalty {
        penalty: seconds(5),
        max_retry_after: seconds(300),
        decay: seconds(10),
    });
    rules
}

#[test]
fn an_endpoint_that_says_too_much_gets_less_and_comes_back() {
    let start = Instant::now();
    let behave = |i: usize, at: Duration, rng: &mut SmallRng| match i {
        0 if at < seconds(5) => (MS, Outcome::Failure(Fault::Overloaded)),
        _ => (jittered(3 * MS, rng), Outcome::Success),
    };
    let without = simulate(balancer(&[1.0; 3], start, 1), 500, 5, start, &behave);
    assert!(
        share(&without, 0) > 0.2,
        "a 429 is no failure where the policy does not say so"
    );
    let taken = simulate(ruled(penalty(), &[1.0; 3], start, 1), 500, 140, start, &behave);
    assert!(share(&taken[1..5], 0) < 0.01, "{taken:?}");
    assert!(
        share(&taken[120..], 0) > 0.1,
        "the penalty has sunk: {:?}",
        &taken[120..]
    );
}

#[test]
fn hints_count_up_to_the_policys_maximum() {
    let now = Instant::now();
    let mut rules = penalty();
    rules.load.penalty.as_mut().expect("set").max_retry_after = seconds(30);
    let balancer = ruled(rules, &[1.0; 1], now, 1);
    let node = &balancer.nodes()[0];
    let says = |hint| {
        node.begin(now)
            .finish_with(Outcome::Failure(Fault::Overloaded), hint, now);
        node.penalty(now)
    };
    assert_eq!(says(Some(seconds(2))), seconds(2));
    assert_eq!(says(None), seconds(5));
    assert_eq!(says(Some(seconds(20))), seconds(20));
    assert_eq!(says(Some(seconds(9000))), seconds(30));
}

/// Collects what is told of breakers.
#[derive(Default)]
struct Told(RefCell<Vec<Event>>);

impl Watch for Told {
    fn event(&self, _: &Endpoint, event: Event) {
        self.0.borrow_mut().push(event);
    }
}

#[test]
fn each_change_of_a_breaker_is_told_once() {
    let now = Instant::now();
    let told = Rc::new(Told::default());
    let rules = Rules {
        accrual: Some(accrual(Some(2), None)),
        ..Rules::default()
    };
    let mut balancer = Balancer::new(rules, Some(Rc::clone(&told) as _), SmallRng::seed_from_u64(1));
    let change = balancer.update(&set([endpoint(0, 1.0), endpoint(1, 1.0)]), now, |_| ());
    change.added.iter().for_each(|node| balancer.set_ready(node, now));
    let node = Rc::clone(&balancer.nodes()[0]);
    drop(change);
    (0..4).for_each(|_| node.begin(now).finish(Outcome::Failure(Fault::Lost), now));
    let mut later = now + seconds(10);
    for outcome in [Outcome::Failure(Fault::Lost), Outcome::Success] {
        while !node.on_probation() {
            balancer.pick(later, |()| true).expect("ready");
        }
        node.begin(later).finish(outcome, later);
        later += seconds(20);
    }
    (0..2).for_each(|_| node.begin(later).finish(Outcome::Failure(Fault::Lost), later));
    balancer.update(&set([]), later, |_| ());
    drop(node);
    let kinds: Vec<_> = told.0.borrow().iter().map(kind).collect();
    let expected = [
        "out",
        "probation",
        "again",
        "probation",
        "back from Probation",
        "out",
        "left from Open",
    ];
    assert_eq!(kinds, expected);
}

fn kind(event: &Event) -> String {
    match event {
        Event::SitsOut(..) => "out".to_owned(),
        Event::SitsOutAgain(_) => "again".to_owned(),
        Event::Stays(_) => "stays".to_owned(),
        Event::Probation => "probation".to_owned(),
        Event::Back(from) => format!("back from {from:?}"),
        Event::Left(from) => format!("left from {from:?}"),
    }
}
