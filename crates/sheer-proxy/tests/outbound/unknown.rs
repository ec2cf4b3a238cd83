//! Destinations that the mesh does not know: forwarded as they are.

use std::sync::Arc;

use sheer_policy::outbound::{Backend, OutboundPolicy};
use sheer_proxy::discovery::{Lookup, ObjectRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Client, DETECT, Proxy, Server, ask, endpoint, eventually, http1_echo, read_head, run, script, with_policy,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

#[test]
fn bytes_pass_with_both_half_closes() {
    run(async {
        let proxy = Proxy::start();
        let (addr, _) = script(|mut tcp| async move {
            let mut said = Vec::new();
            tcp.read_to_end(&mut said).await.unwrap();
            tcp.write_all(&said).await.unwrap();
        })
        .await;
        let mut client = proxy.connect_to(addr).await;
        client.write_all(b"\x00\x01 not HTTP").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"\x00\x01 not HTTP");
    });
}

#[test]
fn a_client_connection_of_http1_has_a_server_connection_of_its_own() {
    run(async {
        let proxy = Proxy::start();
        let (addr, connections) = script(|tcp| http1_echo(tcp, "a")).await;
        let mut first = proxy.connect_to(addr).await;
        for _ in 0..3 {
            assert_eq!(ask(&mut first, GET).await.1, GET);
        }
        assert_eq!(connections.get(), 1);
        let mut second = proxy.connect_to(addr).await;
        ask(&mut second, GET).await;
        assert_eq!(connections.get(), 2);
    });
}

/// A control plane says of every address that nobody writes about that it is forwarded as it is: that changes nothing.
#[test]
fn told_to_forward_as_it_is_a_client_connection_keeps_its_own_too() {
    run(async {
        let proxy = Proxy::start();
        let fallback = |addr| {
            let object = ObjectRef::default_of("egress-fallback");
            let backend = Backend {
                object: object.clone(),
                ..Backend::forward(endpoint(addr))
            };
            Lookup::Known(Arc::new(with_policy(OutboundPolicy::plain(object, DETECT, backend))))
        };
        let (addr, connections) = script(|tcp| http1_echo(tcp, "a")).await;
        proxy.discovery.target(addr, fallback(addr));
        let (mut first, mut second) = (proxy.connect_to(addr).await, proxy.connect_to(addr).await);
        for _ in 0..3 {
            assert_eq!(ask(&mut first, GET).await.1, GET);
            assert_eq!(ask(&mut second, GET).await.1, GET);
        }
        assert_eq!(connections.get(), 2);

        let server = Server::start("a").await;
        proxy.discovery.target(server.addr, fallback(server.addr));
        let clients = [proxy.h2_to(server.addr).await, proxy.h2_to(server.addr).await];
        for client in &clients {
            for _ in 0..3 {
                assert_eq!(client.call().await.expect("answered").server(), "a");
            }
        }
        assert_eq!(server.switches.connections.get(), 2);
        server.kill();
        eventually("the clients' connections end", || clients.iter().all(Client::ended)).await;
    });
}

#[test]
fn a_server_that_closes_ends_the_clients_connection() {
    run(async {
        let proxy = Proxy::start();
        let (addr, _) = script(|mut tcp| async move {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
        })
        .await;
        let mut client = proxy.connect_to(addr).await;
        ask(&mut client, GET).await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn http2_passes_and_ends_with_its_server() {
    run(async {
        let (proxy, server) = (Proxy::start(), Server::start("a").await);
        let client = proxy.h2_to(server.addr).await;
        for _ in 0..5 {
            assert_eq!(client.call().await.expect("answered").server(), "a");
        }
        assert_eq!(server.switches.connections.get(), 1);
        server.kill();
        eventually("the client's connection ends", || client.ended()).await;
    });
}

#[test]
fn who_refuses_is_named() {
    run(async {
        let proxy = Proxy::start();
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let mut client = proxy.connect_to(dead).await;
        let began = std::time::Instant::now();
        let (head, _) = ask(&mut client, GET).await;
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        assert!(
            head.contains(&format!("cannot connect to {dead}: connection refused")),
            "{head}"
        );
        assert!(head.contains("Connection: close"), "{head}");
        assert!(began.elapsed() < std::time::Duration::from_millis(250), "told at once");
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn bytes_to_who_refuses_are_reset_at_once() {
    run(async {
        let proxy = Proxy::start();
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let mut client = proxy.connect_to(dead).await;
        client.write_all(b"\x00\x01 not HTTP").await.unwrap();
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}
