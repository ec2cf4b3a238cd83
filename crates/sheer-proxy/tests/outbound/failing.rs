//! Endpoints that come, go, refuse and die.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use sheer_policy::outbound::{Backend, BackendTarget};
use sheer_proxy::{discovery::Lookup, identity};
use tokio::{net::TcpListener, time::Instant};

use crate::support::{
    PATH, Proxy, SERVICE, Server, ask, balanced, endpoint, eventually, run, service, settings, settings_with, target,
};

/// An address where nothing listens.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[test]
fn a_refusing_endpoint_costs_no_request() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        proxy.discovery.endpoints([server.endpoint(), endpoint(nobody().await)]);
        let client = proxy.h2().await;
        for _ in 0..50 {
            assert_eq!(client.call().await.expect("answered").server(), "a");
        }
        let well = "classification=\"success\"";
        assert_eq!(
            (server.switches.calls.get(), proxy.counted("response_total", well)),
            (50, 50)
        );
        assert_eq!(proxy.counted("response_total", ""), 50);
    });
}

#[test]
fn who_waits_in_vain_is_told_which_service_and_why() {
    run(async {
        let (proxy, dead) = (Proxy::start(), nobody().await);
        proxy.discovery.endpoints([endpoint(dead)]);
        let client = proxy.h2().await;
        let began = Instant::now();
        let answer = client.call().await.expect("answered");
        assert!(began.elapsed() >= Duration::from_millis(250), "waited first");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            answer.header("l5d-proxy-error"),
            format!("service web.shop:80 has 1 endpoints and none is ready: {dead}: connection refused")
        );
        assert_eq!(
            (answer.header("sheer-verdict"), answer.header("sheer-reason")),
            ("capacity", "failfast")
        );

        let began = Instant::now();
        assert_eq!(
            client.call().await.expect("answered").header("sheer-reason"),
            "failfast"
        );
        assert!(
            began.elapsed() < Duration::from_millis(100),
            "the second is told at once"
        );

        assert_eq!(proxy.counted("sheer_errors_total", "reason=\"failfast\""), 2);
        let _back = Server::start_at("back", dead).await;
        eventually_answered_by(&client, "back").await;
        assert!(
            !client.ended(),
            "a service stays what it is: its clients keep their connection"
        );
    });
}

async fn eventually_answered_by(client: &crate::support::Client, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = client.call().await.expect("answered");
        if answer.status == StatusCode::OK && answer.server() == name {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn requests_wait_for_endpoints_that_are_not_known_yet() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        let client = proxy.h2().await;
        let call = client.call();
        let endpoints = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            proxy.discovery.endpoints([server.endpoint()]);
        };
        let (answer, ()) = tokio::join!(call, endpoints);
        assert_eq!(answer.expect("answered").server(), "a");
    });
}

#[test]
fn a_burst_waits_for_a_service_that_is_just_met() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        let client = proxy.h2().await;
        let calls = futures::future::join_all((0..2000).map(|_| client.call()));
        let endpoints = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            proxy.discovery.endpoints([server.endpoint()]);
        };
        let (answers, ()) = tokio::join!(calls, endpoints);
        let failed: Vec<_> = answers
            .iter()
            .filter(|call| !call.as_ref().is_ok_and(|answer| answer.status == 200))
            .collect();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed[0]);
        assert_eq!(server.switches.calls.get(), 2000);
    });
}

#[test]
fn one_too_many_is_told_at_once() {
    run(async {
        let settings = settings_with(&[("SHEER_PROXY_OUTBOUND_HTTP_QUEUE_CAPACITY", "5")]);
        let proxy = Proxy::start_with(identity::channel().1, settings);
        let backend = Backend {
            queue_capacity: Some(3),
            ..balanced("web", PATH)
        };
        proxy
            .discovery
            .target(SERVICE.parse().unwrap(), Lookup::Known(Arc::new(target(backend))));
        proxy.discovery.endpoints([]);
        let client = proxy.h2().await;
        let answers = futures::future::join_all((0..8).map(|_| client.call())).await;
        let reasons: Vec<String> = answers
            .into_iter()
            .map(|answer| answer.expect("answered").header("sheer-reason").to_owned())
            .collect();
        let told = |reason: &str| reasons.iter().filter(|told| *told == reason).count();
        assert_eq!((told("failfast"), told("queue-full")), (5, 3), "{reasons:?}");
    });
}

/// The proxy answers before the request has come whole. Some clients miss the answer where their stream is reset meanwhile.
#[test]
fn who_still_sends_is_answered_and_not_reset_at_once() {
    run(async {
        let proxy = Proxy::start();
        proxy.discovery.endpoints([]);
        let client = proxy.h2().await;
        let early = async || {
            let request = http::Request::post("http://web.shop/call").body(()).unwrap();
            let mut send = client.send.clone().ready().await.unwrap();
            let (response, stream) = send.send_request(request, false).unwrap();
            (response.await.expect("answered").status(), stream)
        };
        let (status, mut stream) = early().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let reset = tokio::time::timeout(
            Duration::from_millis(100),
            std::future::poll_fn(|cx| stream.poll_reset(cx)),
        );
        assert!(reset.await.is_err(), "not reset while it may still send");
        stream.send_data("question".into(), true).expect("it is taken in");
        // Who never ends is not waited for.
        let (_, mut stream) = early().await;
        let began = Instant::now();
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.expect("reset");
        assert_eq!(reset, h2::Reason::NO_ERROR);
        assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
        // Nor is whoever sends much.
        let (_, mut stream) = early().await;
        let began = Instant::now();
        loop {
            stream.reserve_capacity(16_384);
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(room)) if stream.send_data(vec![0; room].into(), false).is_ok() => {}
                _ => break,
            }
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "it is taken in without an end"
            );
            tokio::task::yield_now().await;
        }
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    });
}

#[test]
fn a_killed_endpoint_takes_only_what_it_was_serving() {
    run(async {
        let (proxy, servers) = (Proxy::start(), [Server::start("a").await, Server::start("b").await]);
        servers
            .iter()
            .for_each(|server| server.switches.delay.set(Duration::from_millis(5)));
        proxy.discovery.endpoints(servers.iter().map(Server::endpoint));
        let client = proxy.h2().await;
        let mut lost = 0;
        for round in 0..100 {
            if round == 30 {
                servers[0].kill();
            }
            let calls = futures::future::join_all((0..4).map(|_| client.call())).await;
            let failed = calls
                .iter()
                .filter(|call| !call.as_ref().is_ok_and(|answer| answer.status == 200))
                .count();
            assert!(
                failed == 0 || (30..=31).contains(&round),
                "{failed} failed in round {round}: {calls:?}"
            );
            lost += failed;
        }
        assert!(lost <= 4, "{lost} lost, more than were under way");
        let failed = "classification=\"failure\"";
        assert_eq!(proxy.counted("response_total", failed), lost as u64);
        assert_eq!(proxy.counted("response_total", ""), 400);
    });
}

#[test]
fn goaway_loses_no_request() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        server.switches.go_away_after.set(Some(10));
        server.switches.delay.set(Duration::from_millis(3));
        proxy.discovery.endpoints([server.endpoint()]);
        let client = proxy.h2().await;
        for _ in 0..60 {
            for answer in futures::future::join_all((0..5).map(|_| client.call())).await {
                assert_eq!(answer.expect("answered").server(), "a");
            }
        }
        assert!(
            server.switches.connections.get() > 5,
            "{} connections",
            server.switches.connections.get()
        );
        let failed = "classification=\"failure\"";
        assert_eq!(proxy.counted("response_total", failed), 0);
        assert_eq!(proxy.counted("response_total", ""), 300);
    });
}

#[test]
fn endpoints_that_come_and_go_lose_no_request() {
    run(async {
        let (proxy, servers) = (Proxy::start(), [Server::start("a").await, Server::start("b").await]);
        servers
            .iter()
            .for_each(|server| server.switches.delay.set(Duration::from_millis(3)));
        proxy.discovery.endpoints([servers[0].endpoint()]);
        let client = proxy.h2().await;
        for round in 0..60 {
            proxy.discovery.endpoints([servers[round / 5 % 2].endpoint()]);
            for answer in futures::future::join_all((0..5).map(|_| client.call())).await {
                assert_eq!(answer.expect("answered").status, 200);
            }
        }
        let failed = "classification=\"failure\"";
        assert_eq!(proxy.counted("response_total", failed), 0);
        let seen: usize = servers.iter().map(|server| server.switches.calls.get()).sum();
        assert_eq!((seen, proxy.counted("response_total", "")), (300, 300));
    });
}

#[test]
fn an_edit_of_the_target_loses_no_request_and_keeps_connections() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        server.switches.delay.set(Duration::from_millis(3));
        proxy.discovery.endpoints([server.endpoint()]);
        let client = proxy.h2().await;
        for round in 0..40 {
            let mut target = service();
            target.name = format!("web.shop:{round}").into();
            proxy
                .discovery
                .target(crate::support::SERVICE.parse().unwrap(), Lookup::Known(target.into()));
            for answer in futures::future::join_all((0..5).map(|_| client.call())).await {
                assert_eq!(answer.expect("answered").server(), "a");
            }
        }
        assert_eq!(server.switches.connections.get(), 1);
    });
}

#[test]
fn no_backend_is_said() {
    run(async {
        let proxy = Proxy::start();
        let why = "there is no such service".into();
        let target = target(Backend {
            target: BackendTarget::Invalid { why },
            ..balanced("web", PATH)
        });
        proxy
            .discovery
            .target(crate::support::SERVICE.parse().unwrap(), Lookup::Known(target.into()));
        let answer = proxy.h2().await.call().await.expect("answered");
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            answer.header("l5d-proxy-error"),
            "web.shop:80 cannot be reached by default http: there is no such service"
        );
    });
}

#[test]
fn informational_headers_can_be_left_out() {
    run(async {
        let mut settings = settings();
        settings.outbound.informational_headers = false;
        let proxy = Proxy::start_with(sheer_proxy::identity::channel().1, settings);
        proxy.discovery.endpoints([endpoint(nobody().await)]);
        let answer = proxy.h2().await.call().await.expect("answered");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers.len(), 1, "{:?}", answer.headers);
        let mut client = proxy.connect_to(crate::support::SERVICE.parse().unwrap()).await;
        let (refused, _) = ask(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
        let lower = refused.to_ascii_lowercase();
        assert!(!lower.contains("l5d-") && !lower.contains("sheer-"), "{refused}");
    });
}

#[test]
fn a_client_of_an_address_that_is_gone_has_to_connect_anew() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("pod").await);
        let target = target(Backend::forward(server.endpoint()));
        proxy.discovery.target(server.addr, Lookup::Known(target.into()));
        let client = proxy.h2_to(server.addr).await;
        assert_eq!(client.call().await.expect("answered").server(), "pod");
        server.kill();
        let answer = client.call().await;
        assert!(!answer.is_ok_and(|answer| answer.status == 200));
        let _ = client.call().await;
        eventually("the proxy ends the connection", || client.ended()).await;
    });
}
