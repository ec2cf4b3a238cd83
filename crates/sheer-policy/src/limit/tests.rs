//! Buckets under any clock, and whose bucket a client takes from.

use proptest::prelude::*;

use super::*;
use crate::{ObjectRef, inbound::RateOverride};

fn limiter(total: Option<u32>, identity: Option<u32>, overrides: &[(u32, &[&str])]) -> Arc<Limiter> {
    let over = |(requests_per_second, names): &(u32, &[&str])| RateOverride {
        requests_per_second: *requests_per_second,
        identities: names.iter().map(ToString::to_string).collect(),
    };
    Arc::new(Limiter::new(RateLimit {
        policy: ObjectRef::default(),
        total,
        identity,
        overrides: overrides.iter().map(over).collect(),
    }))
}

fn client(limiter: &Arc<Limiter>, name: &str, now: Instant) -> ClientLimit {
    let name: Option<Arc<str>> = (!name.is_empty()).then(|| name.into());
    limiter.client(name.as_ref(), |other| name.as_deref() == Some(other), now)
}

/// How many of `tries` are let in at one moment, and why the first that is not.
fn burst(client: &ClientLimit, tries: u32, now: Instant) -> (u32, Option<Refused>) {
    let taken: Vec<_> = (0..tries).map(|_| client.take(now)).collect();
    let let_in = taken.iter().filter(|taken| taken.is_ok()).count();
    (u32::try_from(let_in).unwrap(), taken.into_iter().find_map(Result::err))
}

proptest! {
    /// In no stretch of time is more let in than a burst and what came back meanwhile.
    #[test]
    fn never_more_than_the_rate(per_second in 1_u32..5_000, gaps in prop::collection::vec(0_u64..3_000_000, 1..400)) {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(per_second));
        let mut now = 0;
        let mut taken = Vec::new();
        for gap in gaps {
            now += gap;
            if bucket.take(rate, now).is_ok() {
                taken.push(now);
            }
        }
        for (first, from) in taken.iter().enumerate() {
            for (last, to) in taken.iter().enumerate().skip(first) {
                let came_back = (to - from) / rate.interval;
                prop_assert!((last - first + 1) as u64 <= u64::from(per_second) + came_back);
            }
        }
    }

    /// Who keeps to the rate is never refused, wherever the clock stands.
    #[test]
    fn a_steady_client_is_let_in(per_second in 1_u32..100_000, start in 0_u64..1 << 60) {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(per_second));
        for n in 0..500 {
            prop_assert!(bucket.take(rate, start + n * rate.interval).is_ok());
        }
    }

    /// The wait that is told is exact: a nanosecond less is too early.
    #[test]
    fn the_wait_is_exact(per_second in 1_u32..2_000, at in 0_u64..1 << 40) {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(per_second));
        for _ in 0..per_second {
            prop_assert!(bucket.take(rate, at).is_ok(), "a second's worth may come at once");
        }
        let wait = u64::try_from(bucket.take(rate, at).unwrap_err().as_nanos()).unwrap();
        prop_assert!(bucket.take(rate, at + wait - 1).is_err());
        prop_assert!(bucket.take(rate, at + wait).is_ok());
    }
}

/// Several workers take from one bucket: together no more than one of them could.
#[test]
fn workers_share_a_bucket() {
    let limiter = limiter(Some(1_000), None, &[]);
    let now = Instant::now();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let client = client(&limiter, "web", now);
            std::thread::spawn(move || burst(&client, 1_000, now).0)
        })
        .collect();
    let taken: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(taken, 1_000);
}

#[test]
fn each_identity_has_its_own_and_strangers_share_one() {
    let limiter = limiter(None, Some(5), &[]);
    let now = Instant::now();
    for name in ["web", "fx", ""] {
        assert_eq!(burst(&client(&limiter, name, now), 20, now).0, 5, "{name}");
        assert_eq!(
            burst(&client(&limiter, name, now), 20, now).0,
            0,
            "another connection of {name}"
        );
    }
    let later = now + Duration::from_secs(1);
    assert_eq!(burst(&client(&limiter, "web", later), 20, later).0, 5);
}

#[test]
fn an_override_takes_the_place_of_the_identity_limit_for_all_its_clients_together() {
    let limiter = limiter(None, Some(5), &[(8, &["fx", "web"]), (0, &["bad"])]);
    let now = Instant::now();
    assert_eq!(burst(&client(&limiter, "web", now), 6, now).0, 6);
    let (taken, why) = burst(&client(&limiter, "fx", now), 6, now);
    assert_eq!(
        (taken, why.map(|why| (why.scope, why.per_second))),
        (2, Some((Scope::Override, 8)))
    );
    assert_eq!(burst(&client(&limiter, "bad", now), 3, now).0, 0, "0 lets nobody in");
    assert_eq!(burst(&client(&limiter, "ops", now), 9, now).0, 5);
}

/// A client past its own limit must not use up what is for all.
#[test]
fn who_is_past_its_own_limit_takes_nothing_from_the_others() {
    let limiter = limiter(Some(10), Some(5), &[]);
    let now = Instant::now();
    assert_eq!(burst(&client(&limiter, "noisy", now), 100, now).0, 5);
    let (taken, why) = burst(&client(&limiter, "web", now), 5, now);
    assert_eq!((taken, why), (5, None));
    let (taken, why) = burst(&client(&limiter, "fx", now), 5, now);
    assert_eq!((taken, why.map(|why| why.scope)), (0, Some(Scope::Total)));
    assert_eq!(why.unwrap().retry_after, Duration::from_millis(100));
}

/// However many identities come by, memory is bounded, and forgetting one gives nobody a fresh start.
#[test]
fn identities_are_bounded() {
    let limiter = limiter(None, Some(1), &[]);
    let now = Instant::now();
    for n in 0..MOST_IDENTITIES {
        assert!(client(&limiter, &n.to_string(), now).take(now).is_ok());
    }
    // All have spent theirs a moment ago: nobody is forgotten, and the late ones share one.
    assert!(client(&limiter, "late", now).take(now).is_ok());
    assert!(client(&limiter, "later", now).take(now).is_err());
    assert!(client(&limiter, "0", now).take(now).is_err());
    let later = now + Duration::from_secs(2);
    let held = client(&limiter, "7", later);
    assert!(client(&limiter, "late", later).take(later).is_ok());
    assert!(
        client(&limiter, "later", later).take(later).is_ok(),
        "it has its own now"
    );
    let count = limiter.identities.lock().unwrap().len();
    assert_eq!(count, 3, "the two, and the one that a connection holds");
    drop(held);
}
