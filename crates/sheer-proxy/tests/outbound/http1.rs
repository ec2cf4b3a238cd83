//! HTTP/1 to endpoints that speak HTTP/1.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Proxy, SERVICE, ask, endpoint, eventually, http1_echo, http1_echo_after, read_head, run, script};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: web.shop\r\nX-CamelCase: One\r\nx-lower: two\r\n\r\n";

async fn client(proxy: &Proxy) -> TcpStream {
    proxy.connect_to(SERVICE.parse().unwrap()).await
}

#[test]
fn requests_arrive_as_they_were_sent_on_connections_that_are_used_again() {
    run(async {
        let proxy = Proxy::start();
        let (addr, connections) = script(|tcp| http1_echo(tcp, "a")).await;
        proxy.discovery.endpoints([endpoint(addr)]);
        for _ in 0..3 {
            let mut client = client(&proxy).await;
            for _ in 0..5 {
                let (head, echo) = ask(&mut client, GET).await;
                assert_eq!(echo, GET);
                assert_eq!(
                    head,
                    format!("HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: {}\r\n\r\n", GET.len())
                );
            }
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn each_request_of_a_connection_is_balanced() {
    run(async {
        let proxy = Proxy::start();
        // Long against what a busy machine adds to an answer: an endpoint that seems many times slower is left alone, as it should be.
        let takes = Duration::from_millis(20);
        let (a, _) = script(move |tcp| http1_echo_after(tcp, "a", takes)).await;
        let (b, _) = script(move |tcp| http1_echo_after(tcp, "b", takes)).await;
        proxy.discovery.endpoints([endpoint(a), endpoint(b)]);
        let asked = |mut client: TcpStream| async move {
            let mut by_a = 0;
            for _ in 0..10 {
                let (head, _) = ask(&mut client, GET).await;
                by_a += usize::from(head.contains("Server: a"));
            }
            by_a
        };
        // Several at a time: where nothing else is under way, the endpoint that was faster last may well take every request.
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(asked(client(&proxy).await));
        }
        let by_a: usize = futures::future::join_all(clients).await.iter().sum();
        assert!((5..=55).contains(&by_a), "{by_a} of 60 by one of two");
    });
}

#[test]
fn a_server_that_closed_an_idle_connection_costs_no_request() {
    run(async {
        let proxy = Proxy::start();
        // One request a connection, and no word that it will close.
        let (addr, connections) = script(|mut tcp| async move {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
        })
        .await;
        proxy.discovery.endpoints([endpoint(addr)]);
        let mut client = client(&proxy).await;
        for n in 1..=20 {
            let (head, _) = ask(&mut client, GET).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{n}: {head}");
        }
        assert_eq!(connections.get(), 20);
    });
}

#[test]
fn idle_connections_are_closed_after_a_while() {
    run(async {
        let proxy = Proxy::start();
        let (closed, watch) = tokio::sync::watch::channel(false);
        let closed = std::rc::Rc::new(closed);
        let (addr, _) = script(move |tcp| {
            let closed = std::rc::Rc::clone(&closed);
            async move {
                http1_echo(tcp, "a").await;
                closed.send_replace(true);
            }
        })
        .await;
        proxy.discovery.endpoints([endpoint(addr)]);
        let mut client = client(&proxy).await;
        ask(&mut client, GET).await;
        assert!(!*watch.borrow());
        eventually("the idle connection is closed", || *watch.borrow()).await;
        let (head, _) = ask(&mut client, GET).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    });
}

#[test]
fn who_waits_in_vain_keeps_the_connection() {
    run(async {
        let proxy = Proxy::start();
        proxy.discovery.endpoints([]);
        let mut client = client(&proxy).await;
        for _ in 0..2 {
            let (head, _) = ask(&mut client, GET).await;
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
            assert!(
                head.contains("has 0 endpoints and none is ready: no ready pod stands behind it"),
                "{head}"
            );
        }
    });
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    run(async {
        let proxy = Proxy::start();
        let (addr, _) = script(|mut tcp| async move {
            let head = read_head(&mut tcp).await;
            assert!(
                head.contains("Upgrade: echo") || head.contains("upgrade: echo"),
                "{head}"
            );
            tcp.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                .await
                .unwrap();
            let mut bytes = [0; 4];
            tcp.read_exact(&mut bytes).await.unwrap();
            tcp.write_all(&bytes).await.unwrap();
        })
        .await;
        proxy.discovery.endpoints([endpoint(addr)]);
        let mut client = client(&proxy).await;
        let upgrade = "GET /ws HTTP/1.1\r\nHost: web.shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        client.write_all(upgrade.as_bytes()).await.unwrap();
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101"));
        client.write_all(b"ping").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"ping");
    });
}

#[test]
fn a_silent_client_hears_a_server_that_speaks_first() {
    run(async {
        let proxy = Proxy::start();
        let (addr, _) = script(|mut tcp| async move {
            tcp.write_all(b"220 ready\r\n").await.unwrap();
            let mut line = [0; 6];
            tcp.read_exact(&mut line).await.unwrap();
            tcp.write_all(&line).await.unwrap();
        })
        .await;
        proxy.discovery.endpoints([endpoint(addr)]);
        let mut client = client(&proxy).await;
        let mut banner = [0; 11];
        let read = tokio::time::timeout(Duration::from_secs(2), client.read_exact(&mut banner));
        read.await.expect("at once").unwrap();
        assert_eq!(&banner, b"220 ready\r\n");
        client.write_all(b"EHLO\r\n").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"EHLO\r\n");
    });
}

#[test]
fn a_client_that_thinks_for_a_while_still_speaks_http() {
    run(async {
        let proxy = Proxy::start();
        let (addr, _) = script(|tcp| http1_echo(tcp, "a")).await;
        proxy.discovery.endpoints([endpoint(addr)]);
        let mut client = client(&proxy).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let (head, _) = ask(&mut client, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 400"), "read as HTTP, so refused: {head}");
    });
}

#[test]
fn a_client_that_thinks_while_nothing_is_ready_is_served_when_something_is() {
    run(async {
        let proxy = Proxy::start();
        let (addr, _) = script(|tcp| http1_echo(tcp, "a")).await;
        let mut client = client(&proxy).await;
        // Past the wait for a silent client, within the fail-fast time.
        tokio::time::sleep(Duration::from_millis(270)).await;
        let endpoints = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            proxy.discovery.endpoints([endpoint(addr)]);
        };
        let ((head, _), ()) = tokio::join!(ask(&mut client, GET), endpoints);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    });
}
