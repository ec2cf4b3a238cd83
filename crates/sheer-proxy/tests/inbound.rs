//! The inbound half as one process: clients with and without a sidecar on one side, an application on the other, all on loopback.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[expect(dead_code, reason = "shared with the tests of the outbound half")]
#[path = "support/inbound.rs"]
mod inbound;
#[path = "support/run.rs"]
mod run;

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderValue, Request, Response, StatusCode};
use inbound::{CLIENT, DETECT, Proxy, counted, policy};
use run::run;
use sheer_proxy::{
    discovery::ProtocolPlan,
    identity::MeshAlpn,
    transport_header::{SessionProtocol, TransportHeader},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// An application that talks bytes: `script` gets its connections one after the other.
async fn app<F>(script: impl Fn(TcpStream) -> F + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::task::spawn_local(async move {
        loop {
            script(listener.accept().await.unwrap().0).await;
        }
    });
    (addr, task)
}

/// An application that speaks HTTP/2 and answers what it was told.
async fn h2_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut server = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, mut respond))) = server.accept().await {
                    let mut response = Response::builder();
                    for (name, value) in request.headers() {
                        response = response.header(format!("got-{name}"), value);
                    }
                    let target = request.uri().to_string();
                    let mut out = respond
                        .send_response(response.header("uri", target).body(()).unwrap(), false)
                        .unwrap();
                    out.send_data(Bytes::from_static(b"answer"), true).unwrap();
                }
            });
        }
    });
    addr
}

async fn h2_client<T: AsyncRead + AsyncWrite + Unpin + 'static>(io: T) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::task::spawn_local(connection);
    client.ready().await.unwrap()
}

/// A sidecar's connection to the proxy's own port, with a transport header for `addr`.
async fn mesh(proxy: &Proxy, addr: SocketAddr, protocol: Option<SessionProtocol>) -> sheer_proxy::io::Stream {
    let mut io = proxy.mesh(MeshAlpn::TransportHeader).await;
    let header = TransportHeader {
        port: addr.port(),
        name: None,
        protocol,
    };
    io.write_all(&header.encode()).await.unwrap();
    io
}

/// Reads until `end` has come.
async fn read_until(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = BytesMut::new();
    while !read.ends_with(end.as_bytes()) {
        let got = io.read_buf(&mut read).await.unwrap();
        assert!(got > 0, "closed after {read:?}, before {end:?}");
    }
    String::from_utf8(read.to_vec()).unwrap()
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

#[test]
fn the_application_learns_the_verified_client_and_nothing_else() {
    run(async {
        let proxy = Proxy::start().await;
        let app = h2_app().await;
        let mut client = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let mut request = get("http://ledger.bank:80/x?y=z");
        request
            .headers_mut()
            .insert("l5d-client-id", HeaderValue::from_static("forged"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        let mut got: Vec<_> = response
            .headers()
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        got.sort();
        assert_eq!(
            got,
            [
                &format!("got-l5d-client-id: {CLIENT}"),
                "got-te: trailers",
                "uri: http://ledger.bank:80/x?y=z"
            ]
        );

        let mut client = h2_client(proxy.plain(app).await).await;
        let mut request = get("http://ledger.bank/");
        request
            .headers_mut()
            .insert("l5d-client-id", HeaderValue::from_static("forged"));
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.headers().len(), 1, "{:?}", response.headers());
    });
}

#[test]
fn http1_passes_byte_for_byte() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            for _ in 0..2 {
                let request = read_until(&mut tcp, "\r\n\r\nbody").await;
                assert_eq!(
                    request,
                    "POST /a%20b?c HTTP/1.1\r\nHost: X\r\nX-oDD: 1\r\ncontent-length: 4\r\nX-Two: a\r\nX-Two: b\r\n\r\nbody"
                );
                tcp.write_all(b"HTTP/1.1 299 Fine By Me\r\nDate: then\r\nETag: x\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        })
        .await;
        let mut client = proxy.plain(app).await;
        // Two requests in one segment; the second answer comes on the same connections.
        let request = "POST /a%20b?c HTTP/1.1\r\nHost: X\r\nX-oDD: 1\r\ncontent-length: 4\r\nConnection: keep-alive\r\n\
                       X-Two: a\r\nX-Two: b\r\n\r\nbody";
        client.write_all(request.repeat(2).as_bytes()).await.unwrap();
        let answer = "HTTP/1.1 299 Fine By Me\r\nDate: then\r\nETag: x\r\nContent-Length: 2\r\n\r\nok";
        let both = read_until(&mut client, &answer.repeat(2)).await;
        assert_eq!(both, answer.repeat(2));
    });
}

#[test]
fn http1_of_a_sidecar_is_restored() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            let request = read_until(&mut tcp, "\r\n\r\n").await;
            let mut lines: Vec<_> = request.trim_end().split("\r\n").collect();
            lines[1..].sort_unstable();
            assert_eq!(
                lines,
                ["GET /p?q HTTP/1.1", "Accept: */*", "Host: ledger:8080", &format!("L5d-Client-Id: {CLIENT}"), "X-ODD: 1"]
            );
            tcp.write_all(
                b"HTTP/1.1 200 Splendid\r\nETag: y\r\nConnection: x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n",
            )
            .await
            .unwrap();
        })
        .await;
        let mut client = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let mut request = get("http://ledger:8080/p?q");
        for (name, value) in [
            ("l5d-orig-proto", "HTTP/1.1"),
            ("sheer-h1-case", "t,X-ODD"),
            ("accept", "*/*"),
            ("x-odd", "1"),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        let mut got: Vec<_> = response
            .headers()
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        got.sort();
        assert_eq!(
            got,
            [
                "etag: y",
                "l5d-orig-proto: HTTP/1.1",
                "sheer-h1-case: t,ETag",
                "sheer-h1-reason: Splendid"
            ]
        );
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap().as_ref(), b"abc");
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(
            (trailers["x-sum"].as_bytes(), trailers["sheer-h1-case"].as_bytes()),
            (&b"9"[..], &b"t"[..])
        );
    });
}

#[test]
fn expect_continue_waits_for_the_application() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            read_until(&mut tcp, "\r\n\r\n").await;
            tcp.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            read_until(&mut tcp, "later").await;
            tcp.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            // Stays open until the proxy closes.
            assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
        })
        .await;
        let mut client = proxy.plain(app).await;
        client
            .write_all(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(
            read_until(&mut client, "\r\n\r\n").await,
            "HTTP/1.1 100 Continue\r\n\r\n"
        );
        client.write_all(b"later").await.unwrap();
        assert_eq!(
            read_until(&mut client, "\r\n\r\n").await,
            "HTTP/1.1 204 No Content\r\n\r\n"
        );
    });
}

#[test]
fn upgrade_becomes_a_tunnel_with_and_without_a_sidecar() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            let request = read_until(&mut tcp, "\r\n\r\n").await.to_lowercase();
            assert!(
                request.contains("upgrade: websocket\r\n") && request.contains("connection: upgrade\r\n"),
                "{request}"
            );
            tcp.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst",
            )
            .await
            .unwrap();
            read_until(&mut tcp, "ping").await;
            tcp.write_all(b"pong").await.unwrap();
        })
        .await;
        let request = b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let mut plain = proxy.plain(app).await;
        plain.write_all(request).await.unwrap();
        let answer = read_until(&mut plain, "first").await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        plain.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut plain, "pong").await, "pong");

        let mut meshed = proxy.mesh_to(app, MeshAlpn::Http1).await;
        meshed.write_all(request).await.unwrap();
        read_until(&mut meshed, "first").await;
        meshed.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut meshed, "pong").await, "pong");
    });
}

#[test]
fn smuggling_is_refused_with_a_reason() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|_tcp| async { panic!("nothing may reach the application") }).await;
        let mut client = proxy.plain(app).await;
        client
            .write_all(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            )
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(
            answer,
            "HTTP/1.1 400 Bad Request\r\nL5d-Proxy-Error: bad request: Content-Length and Transfer-Encoding are both present\r\n\
             Sheer-Verdict: client-config\r\nSheer-Reason: bad-request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    });
}

#[test]
fn policy_decides_and_says_so_for_each_request() {
    run(async {
        let proxy = Proxy::start().await;
        let app = h2_app().await;
        proxy.policies.set(app.port(), policy(DETECT, Some(&[CLIENT])));
        let mut meshed = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let response = meshed.send_request(get("http://x/"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);

        let mut plain = h2_client(proxy.plain(app).await).await;
        let response = plain.send_request(get("http://x/"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["sheer-verdict"], "policy");
        let text = response.headers()["l5d-proxy-error"].to_str().unwrap();
        assert!(
            text.ends_with(&format!("(no identity) is not allowed on port {}", app.port())),
            "{text}"
        );

        // The policy changes under an open connection.
        proxy.policies.set(app.port(), policy(DETECT, Some(&["nobody"])));
        let mut request = get("http://x/");
        request
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        let response = meshed.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(
            (response.status(), response.headers()["grpc-status"].as_bytes()),
            (StatusCode::OK, &b"7"[..])
        );
    });
}

#[test]
fn an_application_that_does_not_listen_is_named() {
    run(async {
        let proxy = Proxy::start().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut client = h2_client(mesh(&proxy, closed, Some(SessionProtocol::Http2)).await).await;
        let response = client.send_request(get("http://x/"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(
            response.headers()["l5d-proxy-error"],
            format!("cannot connect to {closed}: connection refused")
        );
        assert_eq!(response.headers()["sheer-reason"], "connect-refused");
        assert_eq!(response.headers()["sheer-verdict"], "application");
    });
}

#[test]
fn who_waits_for_an_application_that_hangs_shares_the_wait() {
    run(async {
        let proxy = Proxy::start().await;
        // Once its queue is full, a listener that accepts nothing leaves further SYNs unanswered.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let app = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(tcp) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(app)).await {
            queued.push(tcp.unwrap());
        }
        let client = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let began = std::time::Instant::now();
        let asked = (0..10).map(|_| {
            let mut client = client.clone();
            async move {
                client
                    .send_request(get("http://ledger.bank/"), true)
                    .unwrap()
                    .0
                    .await
                    .unwrap()
            }
        });
        for response in futures::future::join_all(asked).await {
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
            assert_eq!(response.headers()["sheer-reason"], "connect-timeout");
        }
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(1),
            "ten waits of 300 ms one after the other: {took:?}"
        );
        // A failure is not kept for who comes later.
        let began = std::time::Instant::now();
        let mut later = client.clone();
        let response = later
            .send_request(get("http://ledger.bank/"), true)
            .unwrap()
            .0
            .await
            .unwrap();
        assert_eq!(response.headers()["sheer-reason"], "connect-timeout");
        assert!(began.elapsed() >= Duration::from_millis(250), "it was tried again");
    });
}

#[test]
fn a_server_that_speaks_first_is_not_kept_waiting() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            tcp.write_all(b"220 ready\r\n").await.unwrap();
            read_until(&mut tcp, "HELO\r\n").await;
            tcp.write_all(b"250 hello\r\n").await.unwrap();
            // The client closes its half; what comes after still arrives.
            assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
            tcp.write_all(b"bye").await.unwrap();
        })
        .await;
        for opaque in [false, true] {
            if opaque {
                proxy.policies.set(app.port(), policy(ProtocolPlan::Opaque, None));
            }
            let mut client = proxy.plain(app).await;
            assert_eq!(read_until(&mut client, "\r\n").await, "220 ready\r\n");
            client.write_all(b"HELO\r\n").await.unwrap();
            assert_eq!(read_until(&mut client, "\r\n").await, "250 hello\r\n");
            client.shutdown().await.unwrap();
            assert_eq!(read_until(&mut client, "bye").await, "bye");
        }
        let mut client = mesh(&proxy, app, None).await;
        assert_eq!(read_until(&mut client, "\r\n").await, "220 ready\r\n");
    });
}

#[test]
fn an_opaque_connection_ends_when_policy_no_longer_allows_it() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            tcp.write_all(b"hello").await.unwrap();
            let _ = tcp.read(&mut [0]).await;
        })
        .await;
        proxy
            .policies
            .set(app.port(), policy(ProtocolPlan::Opaque, Some(&[CLIENT])));
        let mut client = mesh(&proxy, app, None).await;
        assert_eq!(read_until(&mut client, "hello").await, "hello");
        proxy
            .policies
            .set(app.port(), policy(ProtocolPlan::Opaque, Some(&["nobody"])));
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        let mut client = proxy.plain(app).await;
        client.write_all(b"x").await.unwrap();
        assert!(client.read(&mut [0; 8]).await.is_err(), "refused with a reset");
    });
}

#[test]
fn opaque_bytes_are_counted_on_both_sides_while_the_connection_is_open() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            read_until(&mut tcp, "ping").await;
            tcp.write_all(b"pong!!").await.unwrap();
            drop(read_until(&mut tcp, "end").await);
        })
        .await;
        proxy.policies.set(app.port(), policy(ProtocolPlan::Opaque, None));
        let mut client = mesh(&proxy, app, None).await;
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut client, "pong!!").await, "pong!!");

        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(6)).await;
        tokio::time::resume();
        let bytes = |peer: &str| {
            let peer = format!("direction=\"inbound\",peer=\"{peer}\"");
            ["tcp_open_connections", "tcp_read_bytes_total", "tcp_write_bytes_total"]
                .map(|family| counted(&proxy.registry, family, &peer))
        };
        let both = || (bytes("src"), bytes("dst"));
        for _ in 0..100 {
            if both() == ([1, 4, 6], [1, 6, 4]) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{:?}", both());
    });
}

#[test]
fn the_side_that_reset_an_opaque_connection_is_counted_so() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            read_until(&mut tcp, "ping").await;
            let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        })
        .await;
        proxy.policies.set(app.port(), policy(ProtocolPlan::Opaque, None));
        let mut client = mesh(&proxy, app, None).await;
        client.write_all(b"ping").await.unwrap();
        assert!(client.read(&mut [0; 8]).await.is_err(), "the reset is passed on");
        let reset = |peer: &str| {
            let page = proxy.registry.render(sheer_proxy::metrics::Format::Prometheus);
            let mut closes = page.lines().filter(|line| line.starts_with("tcp_close_total"));
            closes.any(|line| {
                line.contains(&format!("peer=\"{peer}\""))
                    && line.contains("errno=\"ECONNRESET\"")
                    && line.ends_with(" 1")
            })
        };
        assert!(reset("dst"));
        assert!(!reset("src"));
    });
}

#[test]
fn what_comes_straight_to_the_proxys_port_does_not_loop() {
    run(async {
        let proxy = Proxy::start().await;
        let mut tcp = proxy.direct().await;
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        assert_eq!(proxy.errors("loop"), 1);
    });
}

#[test]
fn a_drain_lets_requests_finish() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            read_until(&mut tcp, "\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                .await
                .unwrap();
        })
        .await;
        let mut client = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let mut request = get("http://x/");
        request
            .headers_mut()
            .insert("l5d-orig-proto", HeaderValue::from_static("HTTP/1.1"));
        let slow = client.send_request(request, true).unwrap().0;
        let mut keep_alive = proxy.plain(app).await;
        keep_alive.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let drain = proxy.life.drain(Duration::from_secs(10));
        let finish = async {
            let response = slow.await.unwrap();
            assert_eq!(response.into_body().data().await.unwrap().unwrap().as_ref(), b"done");
            // The connection takes nothing more.
            while client.clone().ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let (_, ()) = tokio::join!(drain, finish);
    });
}

#[test]
fn an_application_that_says_goaway_loses_no_request() {
    run(async {
        let proxy = Proxy::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut server = h2::server::handshake(tcp).await.unwrap();
                    let mut served = 0;
                    while let Some(Ok((_request, mut respond))) = server.accept().await {
                        respond.send_response(Response::new(()), true).unwrap();
                        served += 1;
                        // Every connection goes away after a few requests, with others on their way.
                        if served == 3 {
                            server.graceful_shutdown();
                        }
                    }
                });
            }
        });
        let client = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let calls = (0..200).map(|n| {
            let mut client = client.clone();
            async move {
                tokio::time::sleep(Duration::from_micros(50 * (n % 40))).await;
                let response = client.send_request(get("http://x/"), true).unwrap().0.await.unwrap();
                assert_eq!(response.status(), StatusCode::OK, "{:?}", response.headers());
            }
        });
        futures::future::join_all(calls).await;
    });
}

#[test]
fn an_idle_connection_that_the_application_closed_is_no_error() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            read_until(&mut tcp, "\r\n\r\n").await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            // Closed without a word, as servers do whose keep-alive time is over.
        })
        .await;
        let mut client = proxy.plain(app).await;
        for _ in 0..20 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            assert_eq!(
                read_until(&mut client, "ok").await,
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            );
        }
    });
}

#[test]
fn an_application_that_allows_few_streams_gets_more_connections() {
    run(async {
        let proxy = Proxy::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        let all_here = std::rc::Rc::new(tokio::sync::Barrier::new(4));
        tokio::task::spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let all_here = all_here.clone();
                tokio::task::spawn_local(async move {
                    let mut server = h2::server::Builder::new();
                    let mut server = server
                        .max_concurrent_streams(1)
                        .handshake::<_, Bytes>(tcp)
                        .await
                        .unwrap();
                    while let Some(Ok((_request, mut respond))) = server.accept().await {
                        let all_here = all_here.clone();
                        tokio::task::spawn_local(async move {
                            all_here.wait().await;
                            respond.send_response(Response::new(()), true).unwrap();
                        });
                    }
                });
            }
        });
        // The first request teaches the proxy the application's limit.
        let client = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let calls = (0..4).map(|n| {
            let mut client = client.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(20 * n)).await;
                let response = client.send_request(get("http://x/"), true).unwrap().0.await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
            }
        });
        futures::future::join_all(calls).await;
    });
}

#[test]
fn a_response_that_breaks_off_is_not_taken_for_whole() {
    run(async {
        let proxy = Proxy::start().await;
        let (app, _task) = app(|mut tcp| async move {
            read_until(&mut tcp, "\r\n\r\n").await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                .await
                .unwrap();
        })
        .await;
        let mut client = proxy.plain(app).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let end = client.read_to_end(&mut rest).await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
        assert!(end.is_err(), "a reset, not an end");

        let mut meshed = h2_client(mesh(&proxy, app, Some(SessionProtocol::Http2)).await).await;
        let mut request = get("http://x/");
        request
            .headers_mut()
            .insert("l5d-orig-proto", HeaderValue::from_static("HTTP/1.1"));
        let mut body = meshed.send_request(request, true).unwrap().0.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap().as_ref(), b"hello");
        assert_eq!(
            body.data().await.unwrap().unwrap_err().reason(),
            Some(h2::Reason::INTERNAL_ERROR)
        );
    });
}
