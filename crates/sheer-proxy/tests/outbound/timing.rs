//! Timeouts, and the deadlines that callers bring.

use std::{rc::Rc, time::Duration};

use sheer_policy::outbound::{Delay, Filter, HttpRule, Share, Timeouts};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    app::{App, Say, apply, ask, attempts, errors, get, grpc, policy, proxy_for, rule, to_service, with},
    inbound,
    support::{Proxy, endpoint, run},
};

fn timed(timeouts: Timeouts) -> HttpRule {
    HttpRule {
        timeouts,
        ..to_service()
    }
}

const SHORT: Option<Duration> = Some(Duration::from_millis(100));
const LONG: Duration = Duration::from_secs(20);

#[test]
fn each_timeout_says_which_it_is() {
    run(async {
        let slow = || App::start(|_| Say::ok().after(LONG));
        for (timeouts, reason) in [
            (
                Timeouts {
                    request: SHORT,
                    ..Timeouts::default()
                },
                "timeout-request",
            ),
            (
                Timeouts {
                    response: SHORT,
                    ..Timeouts::default()
                },
                "timeout-response",
            ),
            (
                Timeouts {
                    idle: SHORT,
                    ..Timeouts::default()
                },
                "timeout-idle",
            ),
        ] {
            let app = slow().await;
            let (proxy, client) = proxy_for(&app, timed(timeouts)).await;
            let began = Instant::now();
            let answer = ask(&client, get("/"), b"x").await.expect("answered");
            assert_eq!((answer.status.as_u16(), answer.reason()), (504, reason));
            assert!(began.elapsed() >= Duration::from_millis(100) && began.elapsed() < LONG);
            assert_eq!(ask(&client, grpc(), b"x").await.expect("answered").grpc_status(), "4");
            crate::support::eventually("the server is told", || app.cancelled.get() == 2).await;
            assert_eq!((attempts(&proxy), errors(&proxy, reason)), (app.calls(), 2));
        }
    });
}

/// A response that has begun can only be broken off, but for gRPC, which says it in trailers.
#[test]
fn timeouts_within_a_response() {
    run(async {
        let app = App::start(|_| Say {
            pause: LONG,
            ..Say::ok()
        })
        .await;
        let of_request = Timeouts {
            request: SHORT,
            ..Timeouts::default()
        };
        let idle = Timeouts {
            idle: SHORT,
            ..Timeouts::default()
        };
        for (timeouts, reason) in [(of_request, "timeout-request"), (idle, "timeout-idle")] {
            let (proxy, client) = proxy_for(&app, timed(timeouts)).await;
            assert!(ask(&client, get("/"), b"x").await.is_err());
            let answer = ask(&client, grpc(), b"x").await.expect("trailers");
            assert_eq!((answer.status.as_u16(), answer.grpc_status()), (200, "4"));
            assert_eq!((attempts(&proxy), errors(&proxy, reason)), (2, 2));
        }
        // The head came in time, and the rest may take as long as it likes.
        let app = App::start(|_| Say {
            pause: Duration::from_millis(300),
            ..Say::ok()
        })
        .await;
        let (_proxy, client) = proxy_for(
            &app,
            timed(Timeouts {
                response: SHORT,
                ..Timeouts::default()
            }),
        )
        .await;
        assert_eq!(ask(&client, get("/"), b"x").await.expect("answered").body, "answer");
    });
}

/// Nobody is ready: the wait for an endpoint counts.
#[test]
fn waiting_for_an_endpoint_is_time_too() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let (proxy, client) = proxy_for(
            &app,
            timed(Timeouts {
                request: SHORT,
                ..Timeouts::default()
            }),
        )
        .await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        proxy.discovery.endpoints([endpoint(nobody)]);
        let answer = ask(&client, get("/"), b"").await.expect("answered");
        assert_eq!(
            (answer.status.as_u16(), answer.reason(), app.calls()),
            (504, "timeout-request", 0)
        );
        assert_eq!((attempts(&proxy), errors(&proxy, "timeout-request")), (0, 1));
    });
}

#[test]
fn requests_may_ask_for_timeouts() {
    run(async {
        let app = App::start(|_| Say::ok().after(LONG)).await;
        let allowed = HttpRule {
            allow_request_headers: true,
            ..to_service()
        };
        let (proxy, client) = proxy_for(&app, allowed).await;
        for (name, reason) in [
            ("l5d-timeout", "timeout-request"),
            ("l5d-response-timeout", "timeout-response"),
        ] {
            let answer = ask(&client, with(get("/"), name, "50ms"), b"").await.expect("answered");
            assert_eq!((answer.reason(), errors(&proxy, reason)), (reason, 1));
        }
        assert_eq!(attempts(&proxy), app.calls());
        assert_eq!(app.header(0, "l5d-timeout"), None);
    });
}

#[test]
fn what_remains_of_a_deadline_is_passed_on() {
    run(async {
        let app = App::start(|_| Say::grpc(0)).await;
        let (proxy, client) = proxy_for(&app, delayed(Duration::from_millis(50))).await;
        let call = |timeout| ask(&client, with(grpc(), "grpc-timeout", timeout), b"");
        assert_eq!(call("10S").await.expect("answered").grpc_status(), "0");
        let passed = remaining(&app, 0);
        assert!(
            passed <= Duration::from_millis(9_950) && passed > Duration::from_secs(8),
            "{passed:?}"
        );

        // Over before it could be sent.
        let answer = call("20m").await.expect("answered");
        assert_eq!((answer.grpc_status(), answer.reason()), ("4", "deadline"));
        assert_eq!((app.calls(), attempts(&proxy), errors(&proxy, "deadline")), (1, 1, 1));
    });
}

#[test]
fn a_deadline_ends_a_request_that_is_under_way() {
    run(async {
        let app = App::start(|_| Say::grpc(0).after(LONG)).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let answer = ask(&client, with(grpc(), "grpc-timeout", "100m"), b"")
            .await
            .expect("answered");
        assert_eq!(
            (answer.grpc_status(), answer.reason(), answer.header("sheer-verdict")),
            ("4", "deadline", "application")
        );
        assert_eq!((app.calls(), attempts(&proxy), errors(&proxy, "deadline")), (1, 1, 1));
    });
}

/// Five pairs of sidecars, one behind the other: each takes its time, and the last application sees what remains.
#[test]
fn a_deadline_shrinks_over_five_hops() {
    run(async {
        const HOP: Duration = Duration::from_millis(40);
        let app = App::start(|_| Say::grpc(0)).await;
        let mut behind = app.endpoint.addr;
        let mut proxies = Vec::new();
        for _ in 0..5 {
            let inbound = inbound::Proxy::start().await;
            let outbound = Rc::new(Proxy::start());
            apply(&outbound, policy(vec![rule(delayed(HOP))]));
            outbound
                .discovery
                .endpoints([endpoint(inbound.in_front_of(behind).await)]);
            behind = outbound.listen().await;
            proxies.push((inbound, outbound));
        }
        let (_, first) = proxies.last().expect("five");
        let client = first.h2().await;
        let answer = ask(&client, with(grpc(), "grpc-timeout", "5S"), b"")
            .await
            .expect("answered");
        assert_eq!(answer.grpc_status(), "0");
        let passed = remaining(&app, 0);
        assert!(passed <= Duration::from_secs(5) - HOP * 5, "{passed:?}");
        assert!(
            passed >= Duration::from_secs(2),
            "{passed:?}: spent on a machine that is not that slow"
        );

        // Enough for three hops: the fourth never sees it.
        let answer = ask(&client, with(grpc(), "grpc-timeout", "130m"), b"")
            .await
            .expect("answered");
        assert_eq!((answer.grpc_status(), app.calls()), ("4", 1));
        let passed = |(inbound, _): &(inbound::Proxy, Rc<Proxy>)| {
            inbound::counted(&inbound.registry, "request_total", "direction=\"inbound\"")
        };
        let seen: Vec<_> = proxies.iter().rev().map(passed).collect();
        assert!(seen[0] == 2 && seen[4] == 1, "{seen:?}: what is spent goes no further");
    });
}

fn delayed(delay: Duration) -> HttpRule {
    let delay = Delay {
        delay,
        share: Share::ALL,
    };
    HttpRule {
        filters: vec![Filter::Delay(delay)],
        ..to_service()
    }
}

/// What the n-th request said of its time.
fn remaining(app: &App, n: usize) -> Duration {
    let said = app.header(n, "grpc-timeout").expect("a timeout");
    let (number, unit) = said.split_at(said.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "S" => Duration::from_secs(number),
        other => panic!("{other}"),
    }
}
