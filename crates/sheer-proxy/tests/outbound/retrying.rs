//! Retries: when, how often, with what, and when not.

use std::{cell::Cell, rc::Rc, time::Duration};

use http::StatusCode;
use sheer_policy::outbound::{Backoff, HttpRule, Retry, RetryBudget};
use tokio::time::Instant;

use crate::{
    app::{App, Say, apply, ask, attempts, get, grpc, metric, policy, proxy_for, retries, rule, to_service, with},
    support::{Proxy, run},
};

fn retry() -> Retry {
    Retry {
        limit: 2,
        max_request_bytes: 1024,
        statuses: vec![(500, 599)],
        grpc_codes: vec![14],
        timeout: None,
        backoff: None,
        max_hint: None,
    }
}

fn with_retry(retry: Retry) -> HttpRule {
    HttpRule {
        retry: Some(retry),
        ..to_service()
    }
}

#[test]
fn a_listed_status_is_tried_again_with_the_whole_body() {
    run(async {
        let app = App::start(|n| Say::status(if n < 2 { 503 } else { 200 })).await;
        let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
        let answer = ask(&client, get("/"), b"question").await.expect("answered");
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "answer"));
        assert_eq!(app.calls(), 3);
        assert!(app.seen.borrow().iter().all(|seen| seen.body == b"question"));
        let family = |name| metric(&proxy, name, &["route_name=\"route\""]);
        assert_eq!(family("outbound_http_route_retry_requests_total"), 2);
        assert_eq!(family("outbound_http_route_retry_successes_total"), 1);
        assert_eq!(metric(&proxy, "sheer_retries_total", &["reason=\"status\""]), 2);
        // For the route it was one request.
        assert_eq!(family("outbound_http_route_request_statuses_total"), 1);
    });
}

#[test]
fn the_last_answer_is_passed_on_as_it_is() {
    run(async {
        let app = App::start(|n| Say::status(500 + n as u16).with("x-n", &n.to_string())).await;
        let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
        let answer = ask(&client, get("/"), b"").await.expect("answered");
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-n"), answer.body.as_str()),
            (502, "2", "answer")
        );
        assert_eq!((answer.reason(), app.calls()), ("", 3));
        assert_eq!(metric(&proxy, "outbound_http_route_retry_limit_exceeded_total", &[]), 1);
        assert_eq!(metric(&proxy, "outbound_http_route_retry_successes_total", &[]), 0);
    });
}

#[test]
fn other_statuses_and_rules_without_retries_are_left_alone() {
    run(async {
        let app = App::start(|_| Say::status(404)).await;
        let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
        assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 404);
        assert_eq!((app.calls(), attempts(&proxy), retries(&proxy)), (1, 1, 0));
        let app = App::start(|_| Say::status(503)).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 503);
        assert_eq!((app.calls(), attempts(&proxy), retries(&proxy)), (1, 1, 0));
    });
}

#[test]
fn grpc_codes_count_in_head_and_trailers() {
    run(async {
        for failure in [Say::grpc_head(14), Say::grpc(14)] {
            let app = App::start(move |n| if n == 0 { failure.clone() } else { Say::grpc(0) }).await;
            let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
            let answer = ask(&client, grpc(), b"call").await.expect("answered");
            assert_eq!(
                (answer.grpc_status(), answer.body.as_str(), app.calls()),
                ("0", "answer", 2)
            );
            assert_eq!((attempts(&proxy), retries(&proxy)), (2, 1));
            assert_eq!(metric(&proxy, "sheer_retries_total", &["reason=\"grpc-status\""]), 1);
        }
        let app = App::start(|_| Say::grpc(5)).await;
        let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
        assert_eq!(
            ask(&client, grpc(), b"call").await.expect("answered").grpc_status(),
            "5"
        );
        assert_eq!((app.calls(), retries(&proxy)), (1, 0));
    });
}

/// A server that streams says its head long before its end: the head is not kept from the client.
#[test]
fn heads_are_held_back_briefly_only() {
    run(async {
        let app = App::start(|_| Say {
            pause: Duration::from_secs(2),
            ..Say::grpc(14)
        })
        .await;
        let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
        let mut send = client.send.clone().ready().await.unwrap();
        let began = Instant::now();
        let (response, _) = send.send_request(grpc(), true).unwrap();
        let (_, mut body) = response.await.expect("a head").into_parts();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        // Too late to be tried again: the client has the head.
        assert_eq!(
            (&trailers["grpc-status"], app.calls(), retries(&proxy)),
            (&"14".parse::<http::HeaderValue>().unwrap(), 1, 0)
        );
    });
}

#[test]
fn bodies_beyond_the_buffer_are_sent_once() {
    run(async {
        let app = App::start(|_| Say::status(503)).await;
        let small = Retry {
            max_request_bytes: 10,
            ..retry()
        };
        let (proxy, client) = proxy_for(&app, with_retry(small)).await;
        let large = vec![b'x'; 70_000];
        assert_eq!(ask(&client, get("/"), &large[..]).await.expect("answered").status, 503);
        assert_eq!((app.calls(), app.seen.borrow()[0].body.len()), (1, 70_000));
        assert_eq!((attempts(&proxy), retries(&proxy)), (1, 0));
    });
}

#[test]
fn resets_are_tried_again_by_rules_that_have_retries() {
    run(async {
        let app = App::start(|n| {
            if n == 0 {
                Say::reset(h2::Reason::INTERNAL_ERROR)
            } else {
                Say::ok()
            }
        })
        .await;
        let (proxy, client) = proxy_for(&app, with_retry(retry())).await;
        assert_eq!(ask(&client, get("/"), b"x").await.expect("answered").status, 200);
        assert_eq!((app.calls(), attempts(&proxy), retries(&proxy)), (2, 2, 1));
        assert_eq!(metric(&proxy, "sheer_retries_total", &["reason=\"reset\""]), 1);
        let app = App::start(|_| Say::reset(h2::Reason::INTERNAL_ERROR)).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let error = ask(&client, get("/"), b"x").await.expect_err("reset");
        assert_eq!((error.reason(), app.calls()), (Some(h2::Reason::INTERNAL_ERROR), 1));
        assert_eq!((attempts(&proxy), retries(&proxy)), (1, 0));
    });
}

#[test]
fn an_attempt_has_its_own_time() {
    run(async {
        let app = App::start(|n| Say::ok().after(Duration::from_secs(if n == 0 { 20 } else { 0 }))).await;
        let timed = Retry {
            timeout: Some(Duration::from_millis(100)),
            ..retry()
        };
        let (proxy, client) = proxy_for(&app, with_retry(timed.clone())).await;
        assert_eq!(ask(&client, get("/"), b"x").await.expect("answered").status, 200);
        assert_eq!(app.calls(), 2);
        assert_eq!(metric(&proxy, "sheer_retries_total", &["reason=\"timeout\""]), 1);
        crate::support::eventually("the slow attempt is cancelled", || app.cancelled.get() == 1).await;

        let app = App::start(|_| Say::ok().after(Duration::from_secs(20))).await;
        let (proxy, client) = proxy_for(&app, with_retry(timed)).await;
        let answer = ask(&client, get("/"), b"x").await.expect("answered");
        assert_eq!(
            (answer.status.as_u16(), answer.reason(), app.calls()),
            (504, "timeout-attempt", 3)
        );
        assert_eq!((attempts(&proxy), retries(&proxy)), (3, 2));
    });
}

#[test]
fn another_endpoint_is_asked_where_there_is_one() {
    run(async {
        let (bad, good) = (App::start(|_| Say::status(503)).await, App::start(|_| Say::ok()).await);
        let (proxy, client) = proxy_for(&bad, with_retry(Retry { limit: 8, ..retry() })).await;
        proxy.discovery.endpoints([bad.endpoint.clone(), good.endpoint.clone()]);
        for _ in 0..20 {
            assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 200);
        }
        assert_eq!(good.calls(), 20);
        assert_eq!((attempts(&proxy), retries(&proxy)), (20 + bad.calls(), bad.calls()));
    });
}

#[test]
fn servers_say_when_to_come_back() {
    run(async {
        let backoff = Backoff {
            min: Duration::from_millis(1),
            max: Duration::from_millis(300),
            jitter: 0.0,
            honour_hint: true,
        };
        let hinted = Retry {
            backoff: Some(backoff),
            ..retry()
        };
        let once = |code: u16, after: &'static str| {
            App::start(move |n| {
                if n == 0 {
                    Say::status(code).with("retry-after", after)
                } else {
                    Say::ok()
                }
            })
        };
        let app = once(503, "60").await;
        let (_proxy, client) = proxy_for(&app, with_retry(hinted.clone())).await;
        let began = Instant::now();
        assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 200);
        assert!(
            began.elapsed() >= Duration::from_millis(300),
            "as long as the rule allows, where hints have no bound of their own"
        );

        let bounded = Retry {
            max_hint: Some(Duration::from_secs(2)),
            ..hinted.clone()
        };
        let app = once(503, "1").await;
        let (_proxy, client) = proxy_for(&app, with_retry(bounded.clone())).await;
        let began = Instant::now();
        assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 200);
        assert!(began.elapsed() >= Duration::from_secs(1), "as long as the server says");
        let app = once(503, "60").await;
        let (proxy, client) = proxy_for(&app, with_retry(bounded)).await;
        let answer = ask(&client, get("/"), b"").await.expect("answered");
        assert_eq!(
            (answer.status.as_u16(), app.calls()),
            (503, 1),
            "the client knows better what to do for so long"
        );
        assert_eq!(answer.headers["retry-after"], "60");
        assert_eq!(metric(&proxy, "route_retryable_total", &["skipped=\"hint\""]), 1);

        let app = App::start(|_| Say::grpc_head(14).with("grpc-retry-pushback-ms", "-1")).await;
        let (_proxy, client) = proxy_for(&app, with_retry(hinted)).await;
        assert_eq!(ask(&client, grpc(), b"").await.expect("answered").grpc_status(), "14");
        assert_eq!(app.calls(), 1);
    });
}

#[test]
fn requests_may_ask_for_retries_where_the_rule_allows_it() {
    run(async {
        let app = App::start(|n| Say::status(if n % 2 == 0 { 429 } else { 200 })).await;
        let asking = || with(with(get("/"), "l5d-retry-http", "429"), "l5d-retry-limit", "3");
        let allowed = HttpRule {
            allow_request_headers: true,
            ..to_service()
        };
        let (proxy, client) = proxy_for(&app, allowed).await;
        assert_eq!(ask(&client, asking(), b"").await.expect("answered").status, 200);
        assert_eq!(
            (
                app.calls(),
                app.header(0, "l5d-retry-http"),
                app.header(1, "l5d-retry-limit")
            ),
            (2, None, None)
        );
        assert_eq!((attempts(&proxy), retries(&proxy)), (2, 1));
        let (proxy, client) = proxy_for(&app, to_service()).await;
        assert_eq!(ask(&client, asking(), b"").await.expect("answered").status, 429);
        assert_eq!(
            (app.calls(), app.header(2, "l5d-retry-http").as_deref()),
            (3, Some("429"))
        );
        assert_eq!((attempts(&proxy), retries(&proxy)), (1, 0));
    });
}

/// Every request fails and every rule wants to try five times: the backend must not see it.
#[test]
fn a_failing_backend_is_not_stormed() {
    run(async {
        const RATE: u64 = 500;
        const SECONDS: u64 = 4;
        let app = App::start(|_| Say::status(503)).await;
        let (proxy, client) = proxy_for(&app, with_retry(Retry { limit: 5, ..retry() })).await;
        let (sent, answered) = (RATE * SECONDS, Rc::new(Cell::new(0)));
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
        for _ in 0..sent {
            tick.tick().await;
            let (client, answered) = (client.clone(), Rc::clone(&answered));
            tokio::task::spawn_local(async move {
                assert_eq!(ask(&client, get("/"), b"x").await.expect("answered").status, 503);
                answered.set(answered.get() + 1);
            });
        }
        crate::support::eventually("all are answered", || answered.get() == sent).await;
        let calls = app.calls() as u64;
        assert!(calls * 100 <= sent * 125, "{calls} of {sent}");
        assert!(calls > sent, "some were tried again");
        assert_eq!(
            metric(&proxy, "outbound_http_route_retry_requests_total", &[]),
            calls - sent
        );
        assert!(metric(&proxy, "outbound_http_route_retry_overflow_total", &[]) > 0);
    });
}

/// Nobody asked for these retries, and they are bounded too.
#[test]
fn a_server_that_refuses_every_stream_is_not_stormed() {
    run(async {
        let app = App::start(|_| Say::reset(h2::Reason::REFUSED_STREAM)).await;
        let proxy = Proxy::start();
        let mut policy = policy(vec![rule(to_service())]);
        policy.budget = RetryBudget {
            ratio: 0.1,
            min_per_second: 0,
            ttl: Duration::from_secs(10),
        };
        apply(&proxy, policy);
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let client = proxy.h2().await;
        for _ in 0..100 {
            let error = ask(&client, get("/"), b"x").await.expect_err("refused");
            assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM));
        }
        assert!((100..=110).contains(&app.calls()), "{}", app.calls());
        let further = metric(&proxy, "sheer_request_further_attempts_total", &[]);
        assert_eq!(further as usize, app.calls() - 100);
    });
}

/// An edit that leaves the budget as it is must not fill it again.
#[test]
fn budgets_outlive_edits() {
    run(async {
        let app = App::start(|_| Say::status(503)).await;
        let proxy = Proxy::start();
        let edit = |n: usize| {
            let mut action = with_retry(Retry { limit: 1, ..retry() });
            action.timeouts.request = Some(Duration::from_secs(60 + n as u64));
            let mut policy = policy(vec![rule(action)]);
            policy.budget = RetryBudget {
                ratio: 0.1,
                min_per_second: 0,
                ttl: Duration::from_secs(60),
            };
            apply(&proxy, policy);
        };
        edit(0);
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let client = proxy.h2().await;
        for n in 0..50 {
            edit(n);
            ask(&client, get("/"), b"").await.expect("answered");
        }
        assert!((50..=55).contains(&app.calls()), "{}", app.calls());
        assert_eq!((attempts(&proxy), retries(&proxy)), (app.calls(), app.calls() - 50));
    });
}

/// The budget is the destination's: a second worker does not double it.
#[test]
fn workers_spend_one_budget_together() {
    run(async {
        let app = App::start(|_| Say::status(503)).await;
        let proxy = Proxy::start();
        let workers = [proxy.worker(), proxy.worker(), proxy.worker()];
        let mut policy = policy(vec![rule(with_retry(Retry { limit: 1, ..retry() }))]);
        policy.budget = RetryBudget {
            ratio: 0.2,
            min_per_second: 10,
            ttl: Duration::from_secs(60),
        };
        apply(&proxy, policy);
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let began = Instant::now();
        let mut clients = Vec::new();
        for worker in &workers {
            clients.push(proxy.h2_by(worker).await);
        }
        for n in 0..300 {
            ask(&clients[n % 3], get("/"), b"").await.expect("answered");
        }
        let floor = 10 * (2 + began.elapsed().as_secs() as usize);
        assert!((360..=360 + floor).contains(&app.calls()), "{}", app.calls());
        assert_eq!(
            metric(&proxy, "outbound_http_route_retry_requests_total", &[]) as usize,
            app.calls() - 300,
            "what the workers counted is what the application saw"
        );
    });
}
