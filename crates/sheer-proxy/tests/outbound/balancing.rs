//! Requests are spread over endpoints, by what each can take.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use http::StatusCode;

use crate::support::{Client, Proxy, Server, run};

/// How often each server answered `requests` requests, `at_once` under way at a time.
async fn spread(client: &Client, requests: usize, at_once: usize) -> BTreeMap<String, usize> {
    let calls = stream::iter(0..requests)
        .map(|_| client.call())
        .buffer_unordered(at_once);
    let mut spread = BTreeMap::new();
    let mut calls = std::pin::pin!(calls);
    while let Some(answer) = calls.next().await {
        let answer = answer.expect("answered");
        let server = if answer.status.is_success() {
            answer.server().to_owned()
        } else {
            answer.status.to_string()
        };
        *spread.entry(server).or_default() += 1;
    }
    spread
}

/// What the proxy counted of requests to a server is what the server counted.
fn counted_as_seen(proxy: &Proxy, servers: &[Server]) {
    for server in servers {
        let counted = proxy.counted("request_total", &format!("target_addr=\"{}\"", server.addr));
        assert_eq!(counted, server.switches.calls.get() as u64, "{}", server.addr);
    }
}

async fn three() -> [Server; 3] {
    [
        Server::start("a").await,
        Server::start("b").await,
        Server::start("c").await,
    ]
}

#[test]
fn every_request_of_a_connection_is_balanced_over_one_connection_an_endpoint() {
    run(async {
        let (proxy, servers) = (Proxy::start(), three().await);
        proxy.discovery.endpoints(servers.iter().map(Server::endpoint));
        let client = proxy.h2().await;
        let spread = spread(&client, 300, 20).await;
        assert_eq!(spread.len(), 3, "{spread:?}");
        assert!(spread.values().all(|&n| n > 30), "{spread:?}");
        let _second = proxy.h2().await.call().await.expect("answered");
        for server in &servers {
            assert_eq!(server.switches.connections.get(), 1);
        }
        counted_as_seen(&proxy, &servers);
    });
}

#[test]
fn a_slow_endpoint_has_under_a_tenth_of_the_requests() {
    run(async {
        let (proxy, servers) = (Proxy::start(), three().await);
        servers
            .iter()
            .for_each(|server| server.switches.delay.set(Duration::from_millis(2)));
        servers[1].switches.delay.set(Duration::from_millis(102));
        proxy.discovery.endpoints(servers.iter().map(Server::endpoint));
        let client = proxy.h2().await;
        let spread = spread(&client, 600, 6).await;
        assert!(spread["a"] + spread["c"] > 540, "{spread:?}");
        counted_as_seen(&proxy, &servers);
    });
}

#[test]
fn an_endpoint_that_fails_fast_loses_its_traffic() {
    run(async {
        let (proxy, servers) = (Proxy::start(), three().await);
        servers[0].switches.status.set(StatusCode::SERVICE_UNAVAILABLE);
        proxy.discovery.endpoints(servers.iter().map(Server::endpoint));
        let client = proxy.h2().await;
        let spread = spread(&client, 400, 6).await;
        assert!(
            spread.get("503 Service Unavailable").is_none_or(|&n| n < 20),
            "{spread:?}"
        );
        counted_as_seen(&proxy, &servers);
    });
}

#[test]
fn more_connections_are_opened_where_streams_are_limited() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        server.switches.max_streams.set(Some(3));
        server.switches.delay.set(Duration::from_millis(50));
        proxy.discovery.endpoints([server.endpoint()]);
        let client = proxy.h2().await;
        client.call().await.expect("answered");
        let spread = spread(&client, 60, 30).await;
        assert_eq!(
            spread["a"],
            60,
            "{spread:?}, {} connections",
            server.switches.connections.get()
        );
        let connections = server.switches.connections.get();
        assert!((2..=8).contains(&connections), "{connections} connections");
        counted_as_seen(&proxy, &[server]);
    });
}

#[test]
fn who_waits_longest_has_the_next_free_stream() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        server.switches.max_streams.set(Some(1));
        server.switches.delay.set(Duration::from_millis(1));
        proxy.discovery.endpoints([server.endpoint()]);
        let client = proxy.h2().await;
        client.call().await.expect("answered");
        let ended = RefCell::new(Vec::new());
        let calls = (0..300_usize).map(async |n| {
            let answer = client.call().await.expect("answered");
            assert_eq!(answer.status, 200, "{answer:?}");
            ended.borrow_mut().push(n);
        });
        futures::future::join_all(calls).await;
        let ended = ended.into_inner();
        // As many overtake each other as are served at once, over as many connections as there may be.
        let overtaken = ended.iter().enumerate().filter(|(at, n)| at.abs_diff(**n) > 16).count();
        assert_eq!((ended.len(), overtaken), (300, 0), "{ended:?}");
        counted_as_seen(&proxy, &[server]);
    });
}
