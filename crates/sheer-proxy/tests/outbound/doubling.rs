//! What is sent twice: hedges and mirrors.

use std::{sync::Arc, time::Duration};

use sheer_policy::outbound::{Hedge, HttpRule, Mirror, RetryBudget, Share};
use tokio::time::Instant;

use crate::{
    app::{App, Say, apply, ask, get, grpc, metric, policy, proxy_for, rule, to_service},
    support::{Proxy, balanced, eventually, run},
};

const LONG: Duration = Duration::from_secs(20);

fn hedged() -> HttpRule {
    HttpRule {
        hedge: Some(Hedge {
            delay: Duration::from_millis(50),
            max_attempts: 2,
        }),
        ..to_service()
    }
}

#[test]
fn the_first_answer_wins_and_the_other_attempt_is_cancelled() {
    run(async {
        let app = App::start(|n| Say::grpc(0).after(if n == 0 { LONG } else { Duration::ZERO })).await;
        let (proxy, client) = proxy_for(&app, hedged()).await;
        let began = Instant::now();
        let answer = ask(&client, grpc(), b"call").await.expect("answered");
        assert_eq!((answer.grpc_status(), answer.body.as_str()), ("0", "answer"));
        assert!(began.elapsed() >= Duration::from_millis(50) && began.elapsed() < LONG);
        assert_eq!(app.calls(), 2);
        assert!(app.seen.borrow().iter().all(|seen| seen.body == b"call"));
        eventually("the slow attempt is cancelled", || app.cancelled.get() == 1).await;
        assert_eq!(hedges(&proxy, "sent"), 1);
        assert_eq!(hedges(&proxy, "won"), 1);
        counted_once(&proxy, 2);
    });
}

fn hedges(proxy: &Proxy, result: &str) -> u64 {
    metric(proxy, "sheer_hedges_total", &[&format!("result=\"{result}\"")])
}

/// However many attempts there were, it was one request with one answer; every attempt is one.
fn counted_once(proxy: &Proxy, attempts: u64) {
    for family in [
        "request_total",
        "response_total",
        "outbound_http_route_request_statuses_total",
        "route_request_total",
        "route_response_total",
    ] {
        assert_eq!(metric(proxy, family, &[]), 1, "{family}");
    }
    for family in ["route_actual_request_total", "route_actual_response_latency_ms_count"] {
        assert_eq!(metric(proxy, family, &[]), attempts, "{family}");
    }
    assert_eq!(metric(proxy, "sheer_request_further_attempts_total", &[]), attempts - 1);
}

/// The first attempt wins: the one beside it is cancelled, and none of its endpoint's business.
#[test]
fn the_attempt_beside_the_first_may_lose() {
    run(async {
        let app = App::start(|n| Say::grpc(0).after(if n == 0 { Duration::from_millis(300) } else { LONG })).await;
        let (proxy, client) = proxy_for(&app, hedged()).await;
        let answer = ask(&client, grpc(), b"call").await.expect("answered");
        assert_eq!(answer.grpc_status(), "0");
        eventually("the second attempt is cancelled", || app.cancelled.get() == 1).await;
        let results = ["sent", "lost", "won"].map(|result| hedges(&proxy, result));
        assert_eq!(results, [1, 1, 0]);
        counted_once(&proxy, 2);
        let successes = ["classification=\"success\""];
        assert_eq!(
            metric(&proxy, "route_actual_response_total", &successes),
            2,
            "given up is no failure"
        );
    });
}

/// Nobody wins: the client gives up, and the request is counted where its first attempt went.
#[test]
fn a_request_that_its_client_gives_up_is_counted_once() {
    run(async {
        let app = App::start(|_| Say::grpc(0).after(LONG)).await;
        let (proxy, client) = proxy_for(&app, hedged()).await;
        let given_up = tokio::time::timeout(Duration::from_millis(200), ask(&client, grpc(), b"call")).await;
        assert!(given_up.is_err());
        eventually("both attempts are cancelled", || app.cancelled.get() == 2).await;
        let attempts = || metric(&proxy, "route_actual_request_total", &[]);
        eventually("both attempts are counted", || attempts() == 2).await;
        // Nobody answered, so that there is no response; the request went to one endpoint first and is one request.
        let counted = [
            "request_total",
            "sheer_request_further_attempts_total",
            "response_total",
        ];
        assert_eq!(counted.map(|family| metric(&proxy, family, &[])), [1, 1, 0]);
    });
}

#[test]
fn a_fast_answer_needs_no_other() {
    run(async {
        let app = App::start(|_| Say::grpc(0)).await;
        let (_proxy, client) = proxy_for(&app, hedged()).await;
        for _ in 0..5 {
            assert_eq!(
                ask(&client, grpc(), b"call").await.expect("answered").grpc_status(),
                "0"
            );
        }
        assert_eq!(app.calls(), 5);
        // Rules are for gRPC: other requests may be sent once only.
        let app = App::start(|_| Say::ok().after(Duration::from_millis(150))).await;
        let (_proxy, client) = proxy_for(&app, hedged()).await;
        assert_eq!(ask(&client, get("/"), b"x").await.expect("answered").status, 200);
        assert_eq!(app.calls(), 1);
    });
}

/// A failure does not win against an attempt that is still under way; of failures alone the last is the answer.
#[test]
fn failures_lose() {
    run(async {
        let app = App::start(|n| match n {
            0 => Say::grpc(0).after(Duration::from_millis(200)),
            _ => Say::grpc_head(14),
        })
        .await;
        let (_proxy, client) = proxy_for(&app, hedged()).await;
        let answer = ask(&client, grpc(), b"call").await.expect("answered");
        assert_eq!((answer.grpc_status(), app.calls()), ("0", 2));
        let app = App::start(|n| Say::grpc_head(14).after(Duration::from_millis(100 * (1 - n.min(1) as u64)))).await;
        let (proxy, client) = proxy_for(&app, hedged()).await;
        assert_eq!(
            ask(&client, grpc(), b"call").await.expect("answered").grpc_status(),
            "14"
        );
        counted_once(&proxy, 2);
        let failures = ["classification=\"failure\""];
        assert_eq!(metric(&proxy, "route_actual_response_total", &failures), 2);
        assert_eq!(metric(&proxy, "response_total", &failures), 1);
    });
}

/// A server that failed says whether, and when, there may be another attempt.
#[test]
fn servers_say_whether_to_hedge_on() {
    run(async {
        for (pushback, calls) in [("-1", 2), ("60000", 2), ("100", 3)] {
            // The first takes its time, the second fails at once, the third would answer.
            let app = App::start(move |n| match n {
                0 => Say::grpc(0).after(Duration::from_millis(600)),
                1 => Say::grpc_head(14).with("grpc-retry-pushback-ms", pushback),
                _ => Say::grpc(0),
            })
            .await;
            let mut rule = hedged();
            rule.hedge = Some(Hedge {
                delay: Duration::from_millis(50),
                max_attempts: 3,
            });
            let (proxy, client) = proxy_for(&app, rule).await;
            let began = Instant::now();
            assert_eq!(
                ask(&client, grpc(), b"call").await.expect("answered").grpc_status(),
                "0"
            );
            assert_eq!(app.calls(), calls, "{pushback}");
            assert!(
                began.elapsed() >= Duration::from_millis(150),
                "the third waits as long as it was told"
            );
            counted_once(&proxy, calls as u64);
        }
    });
}

#[test]
fn hedges_are_on_account_of_the_budget() {
    run(async {
        let app = App::start(|_| Say::grpc(0).after(Duration::from_millis(100))).await;
        let proxy = Proxy::start();
        let mut policy = policy(vec![rule(hedged())]);
        policy.budget = RetryBudget {
            ratio: 0.2,
            min_per_second: 0,
            ttl: Duration::from_secs(30),
        };
        apply(&proxy, policy);
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let client = proxy.h2().await;
        let calls = (0..50).map(|_| ask(&client, grpc(), b"call"));
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.expect("answered").grpc_status(), "0");
        }
        assert_eq!(app.calls(), 60);
        assert_eq!(hedges(&proxy, "no-budget"), 40);
    });
}

fn mirrored(share: Share) -> HttpRule {
    HttpRule {
        mirrors: vec![Mirror {
            backend: Arc::new(balanced("shadow", "shadow")),
            share,
        }],
        ..to_service()
    }
}

#[test]
fn a_mirror_gets_the_same_request() {
    run(async {
        let (app, shadow) = (App::start(|_| Say::ok()).await, App::start(|_| Say::status(500)).await);
        let (proxy, client) = proxy_for(&app, mirrored(Share::ALL)).await;
        proxy.discovery.endpoints_of("shadow", [shadow.endpoint.clone()]);
        for _ in 0..10 {
            let answer = ask(&client, get("/path?q"), b"question").await.expect("answered");
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "answer"));
        }
        eventually("all copies arrive", || shadow.calls() == 10).await;
        for (copy, original) in shadow.seen.borrow().iter().zip(&*app.seen.borrow()) {
            assert_eq!(
                (&copy.head.uri, &copy.head.headers, &copy.body),
                (&original.head.uri, &original.head.headers, &original.body)
            );
        }
        eventually("they are counted", || {
            metric(&proxy, "sheer_mirrored_requests_total", &["result=\"sent\""]) == 10
        })
        .await;
        // Whoever counts requests at the service counts the original alone.
        assert_eq!(metric(&proxy, "request_total", &[]), 10);
    });
}

/// A mirror that takes nothing: no original waits for it, and what does not fit is dropped and counted.
#[test]
fn a_slow_mirror_slows_nobody() {
    run(async {
        let (app, shadow) = (
            App::start(|_| Say::ok()).await,
            App::start(|_| Say::ok().after(LONG)).await,
        );
        let (proxy, client) = proxy_for(&app, mirrored(Share::ALL)).await;
        proxy.discovery.endpoints_of("shadow", [shadow.endpoint.clone()]);
        let began = Instant::now();
        for _ in 0..400 {
            assert_eq!(ask(&client, get("/"), b"question").await.expect("answered").status, 200);
        }
        assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
        assert!(
            metric(
                &proxy,
                "sheer_mirrored_requests_total",
                &["result=\"dropped-queue-full\""]
            ) >= 100
        );
        let large = vec![b'x'; 100_000];
        assert_eq!(ask(&client, get("/"), &large[..]).await.expect("answered").status, 200);
    });
}

#[test]
fn a_mirror_may_get_a_share_and_nothing_that_is_too_large() {
    run(async {
        let (app, shadow) = (App::start(|_| Say::ok()).await, App::start(|_| Say::ok()).await);
        let share = Share {
            numerator: 1,
            denominator: 4,
        };
        let (proxy, client) = proxy_for(&app, mirrored(share)).await;
        proxy.discovery.endpoints_of("shadow", [shadow.endpoint.clone()]);
        for _ in 0..400 {
            ask(&client, get("/"), b"").await.expect("answered");
        }
        let sent = || metric(&proxy, "sheer_mirrored_requests_total", &["result=\"sent\""]);
        eventually("copies are sent", || sent() as usize == shadow.calls() && sent() >= 50).await;
        assert!(shadow.calls() <= 150, "{}", shadow.calls());

        let (proxy, client) = proxy_for(&app, mirrored(Share::ALL)).await;
        proxy.discovery.endpoints_of("shadow", [shadow.endpoint.clone()]);
        let large = vec![b'x'; 100_000];
        assert_eq!(ask(&client, get("/"), &large[..]).await.expect("answered").status, 200);
        let dropped = ["result=\"dropped-too-large\""];
        assert_eq!(metric(&proxy, "sheer_mirrored_requests_total", &dropped), 1);
    });
}
