//! Through both sidecars: the outbound path of one, the inbound path of the other, mutual TLS between them.

use std::{net::SocketAddr, time::Duration};

use rustls_pki_types::ServerName;
use sheer_proxy::{
    discovery::{Endpoint, Hint, Lookup, OutboundPolicy, PeerIdentity, ProtocolPlan},
    metrics::Format,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    inbound::{self, CLIENT, SERVER},
    support::{Proxy, SERVICE, Server, ask, endpoint, http1_echo, read_head, run, script, service, with_policy},
};

/// Both sidecars; what the client asks of [`SERVICE`] arrives at `app`.
pub(crate) async fn both(app: SocketAddr) -> (Proxy, inbound::Proxy) {
    let peer = inbound::Proxy::start().await;
    let proxy = Proxy::start_as(peer.client_identity());
    proxy.discovery.endpoints([meshed(peer.in_front_of(app).await, SERVER)]);
    (proxy, peer)
}

pub(crate) fn meshed(addr: SocketAddr, name: &'static str) -> Endpoint {
    let identity = PeerIdentity {
        id: name.into(),
        server_name: ServerName::try_from(name).unwrap(),
    };
    Endpoint {
        identity: Some(identity),
        hint: Hint::H2,
        ..endpoint(addr)
    }
}

#[test]
fn http2_passes_over_one_connection_and_counts_as_mutual_tls() {
    run(async {
        let server = Server::start("app").await;
        let (proxy, _peer) = both(server.addr).await;
        for _ in 0..3 {
            let client = proxy.h2().await;
            for _ in 0..5 {
                assert_eq!(client.call().await.expect("answered").server(), "app");
            }
        }
        let page = proxy.registry.render(Format::Prometheus);
        let mine = |name: &str| {
            let found = page
                .lines()
                .find(|line| line.starts_with(name) && line.contains(&format!("server_id=\"{SERVER}\"")));
            found.unwrap_or_else(|| panic!("no {name} in {page}")).to_owned()
        };
        assert!(mine("request_total").ends_with(" 15"));
        let responses = mine("response_total");
        assert!(
            responses.ends_with(" 15") && responses.contains("classification=\"success\""),
            "{responses}"
        );
        assert!(mine("tcp_open_total").ends_with(" 1"));
        assert!(!mine("tcp_read_bytes_total").ends_with(" 0"));
    });
}

#[test]
fn http1_is_carried_in_http2_and_restored() {
    run(async {
        let (app, connections) = script(|tcp| http1_echo(tcp, "app")).await;
        let (proxy, _peer) = both(app).await;
        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let get =
            "GET /a?b=c HTTP/1.1\r\nHost: web.shop\r\nX-CamelCase: One\r\nx-lower: two\r\nX-CamelCase: Three\r\n\r\n";
        for _ in 0..3 {
            let (head, echo) = ask(&mut client, get).await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\nServer: app\r\n"), "{head}");
            // The order of different fields carries no meaning, and is not kept by HTTP/2 codecs.
            let sorted = |head: &str| {
                // What a sidecar adds is spelt as the rest of the head is.
                let restored = head.replace("L5d-Client-Id", "l5d-client-id");
                let mut lines: Vec<_> = restored.lines().map(str::to_owned).collect();
                lines[1..].sort();
                lines
            };
            let expected = get.replacen("\r\n\r\n", &format!("\r\nl5d-client-id: {CLIENT}\r\n\r\n"), 1);
            assert_eq!(sorted(&echo), sorted(&expected));
            assert!(
                echo.find("One") < echo.find("Three"),
                "values of a repeated field keep their order: {echo}"
            );
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn an_upgrade_passes_as_http1() {
    run(async {
        let (app, _) = script(|mut tcp| async move {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                .await
                .unwrap();
            let mut bytes = [0; 4];
            tcp.read_exact(&mut bytes).await.unwrap();
            tcp.write_all(&bytes).await.unwrap();
        })
        .await;
        let (proxy, _peer) = both(app).await;
        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let upgrade = "GET /ws HTTP/1.1\r\nHost: web.shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        client.write_all(upgrade.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        client.write_all(b"ping").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"ping");
    });
}

#[test]
fn an_upgrade_passes_over_an_endpoint_that_takes_no_connection() {
    run(async {
        let app = || {
            script(|mut tcp| async move {
                read_head(&mut tcp).await;
                tcp.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                    .await
                    .unwrap();
            })
        };
        let peer = inbound::Proxy::start().await;
        let proxy = Proxy::start_as(peer.client_identity());
        // The streams of one are well, and it takes no second connection: a pass-through that closes its listener after the first.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let once = listener.local_addr().unwrap();
        let behind = peer.in_front_of(app().await.0).await;
        let taken = tokio::task::spawn_local(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        let other = peer.in_front_of(app().await.0).await;
        proxy.discovery.endpoints([meshed(once, SERVER), meshed(other, SERVER)]);
        for n in 0..20 {
            let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
            let upgrade = "GET /ws HTTP/1.1\r\nHost: web.shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
            client.write_all(upgrade.as_bytes()).await.unwrap();
            let head = read_head(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 101"), "{n}: {head}");
        }
        assert!(!taken.is_finished(), "its streams were well all the time");
    });
}

#[test]
fn another_identity_than_promised_is_refused_and_said() {
    run(async {
        let server = Server::start("app").await;
        let peer = inbound::Proxy::start().await;
        let proxy = Proxy::start_as(peer.client_identity());
        let addr = peer.in_front_of(server.addr).await;
        let other = "audit.bank.serviceaccount.identity.sheer.cluster.local";
        let mut wrong = meshed(addr, SERVER);
        wrong.identity.as_mut().unwrap().id = other.into();
        proxy.discovery.endpoints([wrong]);
        let answer = proxy.h2().await.call().await.expect("answered");
        assert_eq!(answer.status, 503);
        let said = answer.header("l5d-proxy-error");
        assert!(
            said.contains(&format!("{addr} should be {other} but its certificate is for {SERVER}")),
            "{said}"
        );
        assert_eq!(server.switches.calls.get(), 0);
    });
}

#[test]
fn opaque_bytes_pass_with_both_half_closes() {
    run(async {
        let (app, _) = script(|mut tcp| async move {
            let mut said = Vec::new();
            tcp.read_to_end(&mut said).await.unwrap();
            tcp.write_all(&said).await.unwrap();
        })
        .await;
        let peer = inbound::Proxy::start().await;
        let proxy = Proxy::start_as(peer.client_identity());
        let mut policy = OutboundPolicy::clone(&service().policy);
        policy.protocol = ProtocolPlan::Opaque;
        let target = with_policy(policy);
        proxy
            .discovery
            .target(SERVICE.parse().unwrap(), Lookup::Known(target.into()));
        proxy.discovery.endpoints([Endpoint {
            transport_port: Some(peer.addr().port()),
            ..meshed(app, SERVER)
        }]);

        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        let said: Vec<u8> = (0..1_000_000u32).map(|n| (n ^ n >> 7) as u8).collect();
        let (mut read, mut write) = client.split();
        let send = async {
            write.write_all(&said).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let receive = async { read.read_to_end(&mut heard).await.unwrap() };
        tokio::join!(send, receive);
        assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
    });
}

#[test]
fn a_silent_client_hears_a_server_that_speaks_first() {
    run(async {
        let (app, _) = script(|mut tcp| async move {
            tcp.write_all(b"220 ready\r\n").await.unwrap();
            drop(read_head(&mut tcp).await);
        })
        .await;
        for transport_port in [true, false] {
            let (proxy, peer) = both(app).await;
            if transport_port {
                let endpoint = Endpoint {
                    transport_port: Some(peer.addr().port()),
                    ..meshed(app, SERVER)
                };
                proxy.discovery.endpoints([endpoint]);
            }
            let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
            let mut banner = [0; 11];
            let read = tokio::time::timeout(Duration::from_secs(3), client.read_exact(&mut banner));
            read.await.expect("at once").unwrap();
            assert_eq!(&banner, b"220 ready\r\n");
        }
    });
}

#[test]
fn an_application_that_is_not_there_costs_no_request_while_another_is() {
    run(async {
        let server = Server::start("app").await;
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let peer = inbound::Proxy::start().await;
        let proxy = Proxy::start_as(peer.client_identity());
        let both = [
            meshed(peer.in_front_of(server.addr).await, SERVER),
            meshed(peer.in_front_of(nobody).await, SERVER),
        ];
        proxy.discovery.endpoints(both);
        // Slow enough that the other seems better.
        server.switches.delay.set(Duration::from_millis(50));
        let client = proxy.h2().await;
        for _ in 0..5 {
            for answer in futures::future::join_all((0..10).map(|_| client.call())).await {
                let answer = answer.expect("answered");
                assert_eq!((answer.status.as_u16(), answer.server()), (200, "app"));
                assert!(!answer.headers.contains_key("sheer-unserved"), "{answer:?}");
            }
        }
        assert!(peer.errors("connect-refused") > 0, "it was asked, too");
    });
}

#[test]
fn an_application_that_is_not_there_is_named_where_there_is_no_other() {
    run(async {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let (proxy, _peer) = both(nobody).await;
        let answer = proxy.h2().await.call().await.expect("answered");
        assert_eq!(answer.status.as_u16(), 502);
        assert_eq!(
            (answer.header("sheer-verdict"), answer.header("sheer-reason")),
            ("application", "connect-refused")
        );
        assert!(!answer.headers.contains_key("sheer-unserved"), "{answer:?}");
    });
}

#[test]
fn what_an_application_says_in_a_sidecars_name_is_not_believed() {
    run(async {
        let (app, connections) = script(|mut tcp| async move {
            read_head(&mut tcp).await;
            let answer = b"HTTP/1.1 502 Bad Gateway\r\nsheer-unserved: connect-refused\r\ncontent-length: 0\r\n\r\n";
            tcp.write_all(answer).await.unwrap();
        })
        .await;
        let (proxy, _peer) = both(app).await;
        let mut client = proxy.connect_to(SERVICE.parse().unwrap()).await;
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: web.shop\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        assert!(!head.contains("sheer-"), "{head}");
        assert_eq!(connections.get(), 1, "it was asked once");
    });
}

#[test]
fn a_sidecar_that_dies_is_named_and_not_its_application() {
    run(async {
        let server = Server::start("app").await;
        server.switches.delay.set(Duration::from_secs(60));
        let peer = inbound::Proxy::start().await;
        let proxy = Proxy::start_as(peer.client_identity());
        // What stands for the sidecar's sockets: they are gone when the task is.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap();
        let behind = peer.in_front_of(server.addr).await;
        let sidecar = tokio::task::spawn_local(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
            tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
        });
        proxy.discovery.endpoints([meshed(front, SERVER)]);
        let client = proxy.h2().await;
        let dies = async {
            while server.switches.calls.get() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            sidecar.abort();
        };
        let (answer, ()) = tokio::join!(client.call(), dies);
        let answer = answer.expect("answered");
        assert_eq!(answer.status.as_u16(), 502);
        assert_eq!(
            (answer.header("sheer-verdict"), answer.header("sheer-reason")),
            ("proxy", "upstream-closed")
        );
        let said = answer.header("l5d-proxy-error");
        assert!(
            said.starts_with(&format!("the sidecar of {front} closed the connection")),
            "{said}"
        );
    });
}
