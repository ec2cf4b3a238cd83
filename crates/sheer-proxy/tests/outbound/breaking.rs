//! What a policy says about the endpoints of a service: who sits out, who is spared, and what belongs together.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use futures::future::join_all;
use sheer_policy::outbound::{
    Affinity, BackendTarget, Backends, Backoff, Balancing, FailureAccrual, HttpRule, OutboundPolicy, Penalty,
    ResponseClasses, Retry, SuccessRate,
};

use crate::{
    app::{App, Say, apply, ask, get, metric, policy, rule, to_service, with},
    support::{Client, PATH, Proxy, balanced, run},
};

const ACCRUAL: FailureAccrual = FailureAccrual {
    max_consecutive: Some(3),
    success_rate: None,
    backoff: Backoff {
        min: Duration::from_secs(1),
        max: Duration::from_secs(2),
        jitter: 0.0,
        honour_hint: false,
    },
    min_ready: 0,
};

/// A service of two: one that is well, and one that answers as told.
struct Two {
    proxy: Proxy,
    client: Client,
    well: App,
    other: App,
}

impl Two {
    async fn start(policy: OutboundPolicy, other: impl Fn(usize) -> Say + 'static) -> Self {
        let (well, other) = (App::start(|_| Say::ok()).await, App::start(other).await);
        let proxy = Proxy::start();
        apply(&proxy, policy);
        proxy
            .discovery
            .endpoints([well.endpoint.clone(), other.endpoint.clone()]);
        let client = proxy.h2().await;
        Self {
            proxy,
            client,
            well,
            other,
        }
    }

    /// Some requests at once; the statuses of their answers.
    async fn burst(&self) -> Vec<u16> {
        let asked = (0..10).map(|_| ask(&self.client, get("/"), b""));
        let heard = join_all(asked).await.into_iter();
        heard.map(|heard| heard.expect("answered").status.as_u16()).collect()
    }

    fn count(&self, family: &str) -> u64 {
        metric(&self.proxy, family, &["backend_name=\"web\""])
    }

    fn standing(&self, state: &str) -> u64 {
        metric(&self.proxy, "sheer_breaker_endpoints", &[&format!("state=\"{state}\"")])
    }

    /// Sends bursts until a count is what is wanted.
    async fn until(&self, family: &str, wanted: u64) {
        for _ in 0..1000 {
            self.burst().await;
            if self.count(family) >= wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{family} stays {}", self.count(family));
    }

    /// Every request is answered well, and by the endpoint that is.
    async fn other_is_left_alone(&self) {
        let calls = self.other.calls();
        assert_eq!(self.burst().await, [200; 10]);
        assert_eq!(self.other.calls(), calls, "it sits out");
    }
}

fn with_accrual(accrual: FailureAccrual, action: HttpRule) -> OutboundPolicy {
    let mut policy = policy(vec![rule(action)]);
    policy.http2.accrual = Some(accrual);
    policy
}

#[test]
fn a_breaker_opens_probes_and_closes() {
    run(async {
        let failing = Rc::new(Cell::new(true));
        let script = Rc::clone(&failing);
        let say = move |_| Say::status(if script.get() { 503 } else { 200 });
        let two = Two::start(with_accrual(ACCRUAL, to_service()), say).await;
        two.until("sheer_breaker_trips_total", 1).await;
        assert_eq!((two.standing("open"), two.standing("probation")), (1, 0));
        let at_trip = two.other.calls();
        assert!(at_trip >= 3, "three in a row");
        two.other_is_left_alone().await;

        two.until("sheer_breaker_reopenings_total", 2).await;
        let probes = two.count("sheer_breaker_reopenings_total") as usize;
        assert_eq!(two.other.calls(), at_trip + probes, "one request a probe");

        failing.set(false);
        two.until("sheer_breaker_closings_total", 1).await;
        assert_eq!((two.standing("open"), two.standing("probation")), (0, 0));
        assert_eq!(two.count("sheer_breaker_trips_total"), 1);
        let calls = two.other.calls();
        for _ in 0..10 {
            assert_eq!(two.burst().await, [200; 10]);
        }
        assert!(two.other.calls() > calls, "it takes requests again");
    });
}

/// A profile may call a 404 a failure and a 503 none: breakers and the success rate of metrics go by that.
#[test]
fn classes_of_a_route_say_what_opens_a_breaker() {
    run(async {
        let classified = |failures, successes| HttpRule {
            classes: Some(Arc::new(ResponseClasses { failures, successes })),
            ..to_service()
        };
        let not_found = classified(vec![(404, 404)], vec![]);
        let two = Two::start(with_accrual(ACCRUAL, not_found), |_| Say::status(404)).await;
        two.until("sheer_breaker_trips_total", 1).await;
        two.other_is_left_alone().await;
        assert!(
            metric(
                &two.proxy,
                "response_total",
                &["classification=\"failure\"", "status_code=\"404\""]
            ) >= 3
        );

        let unavailable = classified(vec![], vec![(503, 503)]);
        let two = Two::start(with_accrual(ACCRUAL, unavailable), |_| Say::status(503)).await;
        for _ in 0..10 {
            two.burst().await;
        }
        assert!(two.other.calls() > 10);
        assert_eq!(two.count("sheer_breaker_trips_total"), 0);
        assert_eq!(metric(&two.proxy, "response_total", &["classification=\"failure\""]), 0);
    });
}

#[test]
fn a_low_success_rate_opens_a_breaker_without_failures_in_a_row() {
    run(async {
        let rate = SuccessRate {
            threshold: 0.8,
            window: Duration::from_secs(10),
            min_requests: 5,
        };
        let accrual = FailureAccrual {
            max_consecutive: None,
            success_rate: Some(rate),
            ..ACCRUAL
        };
        let every_other = |n| Say::status(if n % 2 == 0 { 200 } else { 429 });
        let two = Two::start(with_accrual(accrual, to_service()), every_other).await;
        two.until("sheer_breaker_trips_total", 1).await;
        assert!(two.other.calls() >= 5);
        two.other_is_left_alone().await;
    });
}

#[test]
fn too_few_would_be_left() {
    run(async {
        let accrual = FailureAccrual {
            min_ready: 2,
            ..ACCRUAL
        };
        let two = Two::start(with_accrual(accrual, to_service()), |_| Say::status(503)).await;
        for _ in 0..10 {
            two.burst().await;
        }
        assert!(two.other.calls() > 3, "{} calls", two.other.calls());
        assert_eq!((two.count("sheer_breaker_trips_total"), two.standing("open")), (0, 0));
    });
}

#[test]
fn answers_that_nobody_sees_speak_against_their_endpoint() {
    run(async {
        let retry = Retry {
            limit: 3,
            max_request_bytes: 1024,
            statuses: vec![(500, 599)],
            grpc_codes: vec![],
            timeout: None,
            backoff: None,
            max_hint: None,
        };
        let action = HttpRule {
            retry: Some(retry),
            ..to_service()
        };
        let two = Two::start(with_accrual(ACCRUAL, action), |_| Say::status(503)).await;
        while two.count("sheer_breaker_trips_total") == 0 {
            assert_eq!(two.burst().await, [200; 10]);
        }
        two.other_is_left_alone().await;
        assert!(two.well.calls() >= 10);
    });
}

#[test]
fn an_endpoint_that_says_too_much_is_spared_for_as_long_as_it_asks() {
    run(async {
        let mut backend = balanced("web", PATH);
        let BackendTarget::Balance { load, .. } = &mut backend.target else {
            panic!("balanced")
        };
        load.penalty = Some(Penalty {
            penalty: Duration::from_millis(1),
            max_retry_after: Duration::from_secs(300),
            decay: Duration::from_secs(10),
        });
        let action = HttpRule {
            backends: Backends::only(&Arc::new(backend)),
            ..HttpRule::default()
        };
        let busy = |_| Say::status(429).with("retry-after", "120");
        let two = Two::start(policy(vec![rule(action)]), busy).await;
        while two.other.calls() == 0 {
            two.burst().await;
        }
        let calls = two.other.calls();
        for _ in 0..10 {
            assert_eq!(ask(&two.client, get("/"), b"").await.expect("answered").status, 200);
        }
        assert_eq!(two.other.calls(), calls);
        assert_eq!(two.count("sheer_breaker_trips_total"), 0);
    });
}

#[test]
fn requests_with_the_same_header_stay_at_one_endpoint() {
    run(async {
        let apps = [
            App::start(|_| Say::ok().with("x-app", "0")).await,
            App::start(|_| Say::ok().with("x-app", "1")).await,
            App::start(|_| Say::ok().with("x-app", "2")).await,
        ];
        let mut backend = balanced("web", PATH);
        backend.balancing = Balancing {
            affinity: Some(Affinity::Header("x-user".parse().expect("a name"))),
            ..Balancing::default()
        };
        let action = HttpRule {
            backends: Backends::only(&Arc::new(backend)),
            ..HttpRule::default()
        };
        let proxy = Proxy::start();
        apply(&proxy, policy(vec![rule(action)]));
        proxy.discovery.endpoints(apps.iter().map(|app| app.endpoint.clone()));
        let client = proxy.h2().await;
        // Keys are spread over those that are ready: all of them, before it counts.
        let all_ready = &["endpoint_state=\"ready\""];
        while metric(&proxy, "outbound_http_balancer_endpoints", all_ready) < 3 {
            ask(&client, get("/"), b"").await.expect("answered");
        }
        let homes = async || {
            let mut homes = BTreeMap::new();
            for user in (0..40).map(|user| user.to_string()) {
                let asked = (0..5).map(|_| ask(&client, with(get("/"), "x-user", &user), b""));
                let heard = join_all(asked).await.into_iter();
                let found: Vec<String> = heard
                    .map(|heard| heard.expect("answered").header("x-app").to_owned())
                    .collect();
                assert!(found.iter().all(|app| *app == found[0]), "{user} at {found:?}");
                homes.insert(user, found[0].clone());
            }
            homes
        };
        let before = homes().await;
        for app in ["0", "1", "2"] {
            assert!(before.values().any(|home| home == app), "{before:?}");
        }
        proxy
            .discovery
            .endpoints(apps[..2].iter().map(|app| app.endpoint.clone()));
        while metric(&proxy, "outbound_http_balancer_endpoints", all_ready) > 2 {
            tokio::task::yield_now().await;
        }
        let after = homes().await;
        let moved = before.iter().filter(|(user, home)| after[*user] != **home);
        assert!(
            moved.map(|(_, home)| home).all(|home| home == "2"),
            "{before:?} {after:?}"
        );
        assert!(after.values().all(|home| home != "2"));
    });
}
