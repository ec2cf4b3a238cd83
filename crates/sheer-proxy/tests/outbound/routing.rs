//! Which rule takes a request, what its filters do, and where it goes.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use sheer_policy::{
    outbound::{
        Abort, AbortAnswer, Backends, Delay, Filter, HeaderModifier, HttpRule, PathModifier, Redirect, RetryBudget,
        Rewrite, Share,
    },
    routes::{HeaderMatch, PathMatch, RequestMatch, ValueMatch},
};
use tokio::time::Instant;

use crate::{
    app::{
        App, Say, apply, ask, attempts, errors, forward, get, grpc, metric, policy, proxy_for, rule, rule_for,
        to_service, weighted, with,
    },
    support::{Proxy, SERVICE, http1_echo, run, script},
};

fn prefix(prefix: &str) -> RequestMatch {
    RequestMatch {
        path: Some(PathMatch::Prefix(prefix.trim_end_matches('/').to_owned())),
        ..RequestMatch::default()
    }
}

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

#[test]
fn each_request_goes_where_its_rule_says() {
    run(async {
        let (proxy, blue, green) = (
            Proxy::start(),
            App::start(|_| Say::ok()).await,
            App::start(|_| Say::ok()).await,
        );
        let to = |app| HttpRule {
            backends: forward(app),
            ..HttpRule::default()
        };
        let beta = RequestMatch {
            headers: vec![HeaderMatch {
                name: "x-beta".parse().unwrap(),
                value: ValueMatch::Exact(b"yes".to_vec()),
            }],
            ..RequestMatch::default()
        };
        apply(
            &proxy,
            policy(vec![
                rule_for(prefix("/"), to(&blue)),
                rule_for(beta, to(&green)),
                rule_for(prefix("/green"), to(&green)),
            ]),
        );
        let client = proxy.h2().await;
        for (request, app) in [(get("/"), &blue), (get("/green/1"), &green), (get("/greener"), &blue)] {
            let before = app.calls();
            assert_eq!(ask(&client, request, b"").await.expect("answered").status, 200);
            assert_eq!(app.calls(), before + 1);
        }
        assert_eq!((blue.calls(), green.calls()), (2, 1));
        assert_eq!(attempts(&proxy), 3);
        let well = ["http_status=\"200\"", "route_name=\"route\""];
        assert_eq!(metric(&proxy, "outbound_http_route_request_statuses_total", &well), 3);
    });
}

#[test]
fn what_no_rule_takes_is_not_found() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let proxy = Proxy::start();
        apply(&proxy, policy(vec![rule_for(prefix("/only"), to_service())]));
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let client = proxy.h2().await;
        let answer = ask(&client, get("/other"), b"").await.expect("answered");
        assert_eq!((answer.status, answer.reason()), (StatusCode::NOT_FOUND, "no-route"));
        assert_eq!(answer.header("sheer-verdict"), "policy");
        let answer = ask(&client, grpc(), b"").await.expect("answered");
        assert_eq!((answer.status, answer.grpc_status()), (StatusCode::OK, "5"));
        assert_eq!((app.calls(), attempts(&proxy), errors(&proxy, "no-route")), (0, 0, 2));
    });
}

#[test]
fn a_rule_without_backends_says_so() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        for backends in [Backends::None, weighted(&[("a", 0), ("b", 0)])] {
            let action = HttpRule {
                backends,
                ..HttpRule::default()
            };
            let (proxy, client) = proxy_for(&app, action).await;
            let answer = ask(&client, get("/"), b"").await.expect("answered");
            assert_eq!(
                (answer.status, answer.reason()),
                (StatusCode::INTERNAL_SERVER_ERROR, "invalid-backend")
            );
            let status = ["error=\"invalid-backend\"", "route_name=\"route\""];
            assert_eq!(metric(&proxy, "outbound_http_route_request_statuses_total", &status), 1);
        }
    });
}

#[test]
fn weights_are_shares_and_nothing_is_nothing() {
    run(async {
        let proxy = Proxy::start();
        let (light, heavy, none) = (
            App::start(|_| Say::ok()).await,
            App::start(|_| Say::ok()).await,
            App::start(|_| Say::ok()).await,
        );
        let action = HttpRule {
            backends: weighted(&[("light", 1), ("none", 0), ("heavy", 4)]),
            ..HttpRule::default()
        };
        apply(&proxy, policy(vec![rule(action)]));
        for (name, app) in [("light", &light), ("heavy", &heavy), ("none", &none)] {
            proxy.discovery.endpoints_of(name, [app.endpoint.clone()]);
        }
        let client = proxy.h2().await;
        for _ in 0..500 {
            assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 200);
        }
        assert_eq!(light.calls() + heavy.calls(), 500);
        // 100 expected; 60 is more than four standard deviations away.
        assert!((60..=140).contains(&light.calls()), "{}", light.calls());
        assert_eq!(none.calls(), 0);
        let at_heavy = metric(
            &proxy,
            "outbound_http_route_backend_requests_total",
            &["backend_name=\"heavy\""],
        );
        assert_eq!(at_heavy, heavy.calls() as u64);
    });
}

/// Of backends in order, the first that is ready.
#[test]
fn the_next_takes_over_while_the_first_is_away() {
    run(async {
        let (proxy, spare) = (Proxy::start(), App::start(|_| Say::ok()).await);
        let Backends::Weighted(backends) = weighted(&[("first", 1), ("spare", 1)]) else {
            unreachable!()
        };
        let action = HttpRule {
            backends: Backends::First(backends.into_iter().map(|(backend, _)| backend).collect()),
            ..HttpRule::default()
        };
        apply(&proxy, policy(vec![rule(action)]));
        proxy.discovery.endpoints_of("first", []);
        proxy.discovery.endpoints_of("spare", [spare.endpoint.clone()]);
        let client = proxy.h2().await;
        // The first finds nobody ready anywhere and waits for the first in vain.
        let _ = ask(&client, get("/"), b"").await;
        assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 200);
        let first = App::start(|_| Say::ok()).await;
        proxy.discovery.endpoints_of("first", [first.endpoint.clone()]);
        crate::support::eventually("the first is used", || {
            first.calls() > 0 || {
                let client = client.clone();
                tokio::task::spawn_local(async move { drop(ask(&client, get("/"), b"").await) });
                false
            }
        })
        .await;
        let at_spare = ["backend_name=\"spare\"", "http_status=\"200\""];
        let answered = || metric(&proxy, "outbound_http_route_backend_response_statuses_total", &at_spare);
        crate::support::eventually("what the spare one answered is counted", || {
            answered() == spare.calls() as u64
        })
        .await;
    });
}

#[test]
fn an_edit_of_one_rule_keeps_the_connections_of_the_others() {
    run(async {
        let (proxy, stays, goes) = (
            Proxy::start(),
            crate::support::Server::start("stays").await,
            crate::support::Server::start("goes").await,
        );
        let to = |name: &str| HttpRule {
            backends: weighted(&[(name, 1)]),
            ..HttpRule::default()
        };
        let rules = |other: &str| vec![rule(to("stays")), rule_for(prefix("/other"), to(other))];
        apply(&proxy, policy(rules("goes")));
        proxy.discovery.endpoints_of("stays", [stays.endpoint()]);
        proxy.discovery.endpoints_of("goes", [goes.endpoint()]);
        let client = proxy.h2().await;
        for round in 0..20 {
            apply(&proxy, policy(rules(if round % 2 == 0 { "goes" } else { "stays" })));
            let answers = (0..5).map(|_| client.call());
            for answer in futures::future::join_all(answers).await {
                assert_eq!(answer.expect("answered").server(), "stays");
            }
        }
        assert_eq!(stays.switches.connections.get(), 1);
    });
}

#[test]
fn headers_are_changed_both_ways() {
    run(async {
        let app = App::start(|_| Say::ok().with("x-old", "1").with("x-gone", "1")).await;
        let modifier = HeaderModifier {
            add: fields(&[("x-added", "2")]),
            set: fields(&[("x-old", "3")]),
            remove: vec!["x-gone".parse().unwrap()],
        };
        let action = HttpRule {
            filters: vec![
                Filter::RequestHeaders(modifier.clone()),
                Filter::ResponseHeaders(modifier),
            ],
            ..to_service()
        };
        let (_proxy, client) = proxy_for(&app, action).await;
        let request = with(with(with(get("/"), "x-old", "1"), "x-gone", "1"), "x-added", "1");
        let answer = ask(&client, request, b"").await.expect("answered");
        assert_eq!(app.header(0, "x-old").as_deref(), Some("3"));
        assert_eq!(app.header(0, "x-gone"), None);
        let added: Vec<_> = app.seen.borrow()[0]
            .head
            .headers
            .get_all("x-added")
            .iter()
            .cloned()
            .collect();
        assert_eq!(added, ["1", "2"]);
        assert_eq!(
            (
                answer.header("x-old"),
                answer.header("x-gone"),
                answer.header("x-added")
            ),
            ("3", "", "2")
        );
        assert_eq!(answer.body, "answer");
    });
}

#[test]
fn urls_are_rewritten_in_both_protocols() {
    run(async {
        let (addr, _) = script(|tcp| http1_echo(tcp, "app")).await;
        let app = App::start(|_| Say::ok()).await;
        let rewrite = Filter::Rewrite(Rewrite {
            host: Some("inside:81".into()),
            path: Some(PathModifier::Prefix("/v2".into())),
        });
        let action = HttpRule {
            filters: vec![rewrite],
            ..to_service()
        };
        let proxy = Proxy::start();
        apply(&proxy, policy(vec![rule_for(prefix("/v1"), action)]));
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let client = proxy.h2().await;
        ask(&client, get("/v1/a?q=/v1"), b"").await.expect("answered");
        assert_eq!(app.seen.borrow()[0].head.uri, "http://inside:81/v2/a?q=/v1");

        proxy.discovery.endpoints([crate::support::endpoint(addr)]);
        let mut tcp = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let (_, seen) = crate::support::ask(&mut tcp, "GET /v1/a?q HTTP/1.1\r\nHost: web.shop\r\n\r\n").await;
        assert!(seen.starts_with("GET /v2/a?q HTTP/1.1\r\n"), "{seen}");
        assert!(seen.to_ascii_lowercase().contains("host: inside:81\r\n"), "{seen}");
    });
}

#[test]
fn redirects_are_answered_here() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let redirect = Filter::Redirect(Redirect {
            scheme: Some(http::uri::Scheme::HTTPS),
            host: None,
            port: None,
            path: Some(PathModifier::Full("/new".into())),
            status: StatusCode::PERMANENT_REDIRECT,
        });
        let action = HttpRule {
            filters: vec![redirect],
            ..HttpRule::default()
        };
        let (proxy, client) = proxy_for(&app, action).await;
        let answer = ask(&client, get("/old?q"), b"").await.expect("answered");
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (308, "https://web.shop/new?q")
        );
        let mut tcp = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let (head, body) = crate::support::ask(&mut tcp, "GET /x HTTP/1.1\r\nHost: web.shop\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 308 "), "{head}");
        assert!(body.is_empty() && app.calls() == 0);
        let status = ["http_status=\"308\"", "error=\"\""];
        assert_eq!(metric(&proxy, "outbound_http_route_request_statuses_total", &status), 2);
    });
}

#[test]
fn faults_are_injected_and_say_that_they_are() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let abort = |answer, share| {
            Filter::Abort(Abort {
                answer,
                message: "for a test".into(),
                share,
            })
        };
        let delay = Filter::Delay(Delay {
            delay: Duration::from_millis(80),
            share: Share::ALL,
        });
        let with = |filters| HttpRule {
            filters,
            ..to_service()
        };
        let http = abort(AbortAnswer::Http(StatusCode::IM_A_TEAPOT), Share::ALL);
        let (proxy, client) = proxy_for(&app, with(vec![http])).await;
        for request in [get("/"), grpc()] {
            let answer = ask(&client, request, b"").await.expect("answered");
            assert_eq!((answer.status.as_u16(), answer.reason()), (418, "fault-injected"));
            assert!(answer.header("l5d-proxy-error").contains("for a test"));
        }
        assert_eq!((attempts(&proxy), errors(&proxy, "fault-injected")), (0, 2));
        let code = abort(AbortAnswer::Grpc(8), Share::ALL);
        let (_proxy, client) = proxy_for(&app, with(vec![code])).await;
        assert_eq!(ask(&client, grpc(), b"").await.expect("answered").grpc_status(), "8");
        assert_eq!(app.calls(), 0);

        let half = Share {
            numerator: 1,
            denominator: 2,
        };
        let sometimes = abort(AbortAnswer::Http(StatusCode::SERVICE_UNAVAILABLE), half);
        let (proxy, client) = proxy_for(&app, with(vec![sometimes])).await;
        for _ in 0..200 {
            ask(&client, get("/"), b"").await.expect("answered");
        }
        assert!((60..=140).contains(&app.calls()), "{}", app.calls());
        assert_eq!(attempts(&proxy), app.calls());
        assert_eq!(errors(&proxy, "fault-injected") as usize, 200 - app.calls());

        let (proxy, client) = proxy_for(&app, with(vec![delay])).await;
        let began = Instant::now();
        assert_eq!(ask(&client, get("/"), b"").await.expect("answered").status, 200);
        assert!(began.elapsed() >= Duration::from_millis(80));
        assert_eq!((attempts(&proxy), errors(&proxy, "fault-injected")), (1, 0));
    });
}

/// What the proxy needs for a request must not grow without anybody seeing it.
#[test]
fn egress_is_counted_by_a_bounded_number_of_hosts() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let proxy = Proxy::start();
        let mut egress = policy(vec![rule(to_service())]);
        egress.parent.kind = "EgressNetwork".into();
        egress.budget = RetryBudget::default();
        apply(&proxy, egress);
        proxy.discovery.endpoints([app.endpoint.clone()]);
        let client = proxy.h2().await;
        for n in 0..300 {
            let request = http::Request::get(format!("http://Host{n}.example:80/"))
                .body(())
                .unwrap();
            ask(&client, request, b"").await.expect("answered");
        }
        let family = "sheer_egress_requests_total";
        assert_eq!(metric(&proxy, family, &["hostname=\"host7.example\""]), 1);
        assert_eq!(metric(&proxy, family, &["hostname=\"other\""]), 100);
        assert_eq!(metric(&proxy, family, &[]), 300);
    });
}

/// `Rc`s of plans and services must not keep each other alive: an old policy goes.
#[test]
fn old_policies_are_let_go() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        ask(&client, get("/"), b"").await.expect("answered");
        let watched = Arc::new(crate::support::balanced("old", "old"));
        let weak = Arc::downgrade(&watched);
        let action = HttpRule {
            backends: Backends::only(&watched),
            ..HttpRule::default()
        };
        drop(watched);
        proxy.discovery.endpoints_of("old", [app.endpoint.clone()]);
        apply(&proxy, policy(vec![rule(action)]));
        ask(&client, get("/"), b"").await.expect("answered");
        apply(&proxy, policy(vec![rule(to_service())]));
        ask(&client, get("/"), b"").await.expect("answered");
        crate::support::eventually("the old policy is gone", || weak.strong_count() == 0).await;
    });
}
