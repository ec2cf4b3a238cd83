//! Every request is counted once as a request, and as a response once it is over, wherever it ended.

use http::StatusCode;
use sheer_proxy::discovery::{Backend, Lookup, OutboundTarget};
use tokio::net::TcpListener;

use crate::support::{Proxy, SERVICE, Server, endpoint, run, service};

const FAILED: &str = "classification=\"failure\"";

#[test]
fn fail_fast_answers_are_failures_of_the_target() {
    run(async {
        let proxy = Proxy::start();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = listener.local_addr().unwrap();
        drop(listener);
        proxy.discovery.endpoints([endpoint(dead)]);
        let client = proxy.h2().await;
        for _ in 0..3 {
            assert_eq!(
                client.call().await.expect("answered").status,
                StatusCode::SERVICE_UNAVAILABLE
            );
        }
        let target = format!("target_addr=\"{SERVICE}\"");
        assert_eq!(proxy.counted("request_total", &target), 3);
        assert_eq!(proxy.counted("response_total", &target), 3);
        assert_eq!(proxy.counted("response_total", "error=\"failfast\""), 3);
        assert_eq!(proxy.counted("response_total", FAILED), 3);
        assert_eq!(proxy.counted("response_total", "backend_name=\"web\""), 3);
        assert_eq!(proxy.counted("response_latency_ms_count", &target), 3);
        assert_eq!(proxy.counted("response_total", "tls="), 0, "nothing was sent anywhere");
        assert_eq!(proxy.counted("request_total", ""), 3);
    });
}

#[test]
fn a_target_without_backend_is_counted() {
    run(async {
        let proxy = Proxy::start();
        let target = OutboundTarget {
            backend: Backend::None { why: "gone".into() },
            ..service()
        };
        proxy
            .discovery
            .target(SERVICE.parse().unwrap(), Lookup::Known(target.into()));
        let answer = proxy.h2().await.call().await.expect("answered");
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(proxy.counted("request_total", "parent_name=\"web\""), 1);
        assert_eq!(proxy.counted("response_total", FAILED), 1);
    });
}

#[test]
fn a_request_that_was_refused_twice_is_one_request_and_one_response() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        server.switches.refuse.set(2);
        proxy.discovery.endpoints([server.endpoint()]);
        let client = proxy.h2().await;
        assert_eq!(client.call().await.expect("answered").server(), "a");
        assert_eq!(server.switches.calls.get(), 3);
        assert_eq!(proxy.counted("request_total", ""), 1);
        assert_eq!(proxy.counted("sheer_request_further_attempts_total", ""), 2);
        assert_eq!(proxy.counted("response_total", ""), 1);
        assert_eq!(proxy.counted("response_total", FAILED), 0);
    });
}

#[test]
fn a_request_whose_endpoint_dies_before_it_answers_is_a_failed_response() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        server.switches.delay.set(std::time::Duration::from_secs(30));
        proxy.discovery.endpoints([server.endpoint()]);
        let client = proxy.h2().await;
        let kill = async {
            while server.switches.calls.get() == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            server.kill();
        };
        let (answer, ()) = tokio::join!(client.call(), kill);
        assert!(!answer.is_ok_and(|answer| answer.status == 200));
        assert_eq!(proxy.counted("request_total", ""), 1);
        assert_eq!(proxy.counted("response_total", FAILED), 1);
    });
}
