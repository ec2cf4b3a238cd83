//! CONNECT, extended CONNECT, and requests whose target or host is said in an unusual way.

use super::{EACH, pair::Pair, rest, run::run, say, until};
use sheer_testkit::h2peer::{Block, Event, Peer, setting};
use tokio::io::AsyncWriteExt as _;

#[test]
fn connect_becomes_a_tunnel() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = pair.connect().await;
            say(
                &mut client,
                "CONNECT db.bank:5432 HTTP/1.1\r\nHost: db.bank:5432\r\n\r\n",
            )
            .await;
            let mut app = pair.accept().await;
            let request = until(&mut app, "\r\n\r\n").await;
            assert!(
                request.starts_with("CONNECT db.bank:5432 HTTP/1.1\r\nHost: db.bank:5432\r\n"),
                "{request}"
            );
            say(&mut app, "HTTP/1.1 200 Connection established\r\n\r\nfirst").await;
            let answer = until(&mut client, "first").await;
            assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nfirst");
            say(&mut client, "up").await;
            client.shutdown().await.unwrap();
            assert_eq!(rest(&mut app).await, ("up".to_owned(), true));
            say(&mut app, "down").await;
            drop(app);
            assert_eq!(rest(&mut client).await, ("down".to_owned(), true));
        }
    });
}

#[test]
fn a_refused_connect_stays_http() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = pair.connect().await;
            say(
                &mut client,
                "CONNECT db.bank:5432 HTTP/1.1\r\nHost: db.bank:5432\r\n\r\n",
            )
            .await;
            let mut app = pair.accept().await;
            until(&mut app, "\r\n\r\n").await;
            say(&mut app, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            let answer = until(&mut client, "no").await;
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        }
    });
}

/// What arrives of a request head, without what a sidecar adds.
async fn arrives(pair: &Pair, head: &str) -> String {
    let mut client = pair.connect().await;
    say(&mut client, head).await;
    let mut app = pair.accept().await;
    let arrived = until(&mut app, "\r\n\r\n").await;
    say(&mut app, "HTTP/1.1 204 No Content\r\n\r\n").await;
    let answer = until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let lines = arrived.split_inclusive("\r\n");
    lines
        .filter(|line| !line.to_ascii_lowercase().starts_with("l5d-client-id:"))
        .collect()
}

#[test]
fn unusual_targets_and_hosts_arrive_as_they_were_sent() {
    run(async {
        for meshed in EACH {
            for head in [
                "GET http://other.bank:8080/a?b=c HTTP/1.1\r\nHost: other.bank:8080\r\n\r\n",
                "GET http://other.bank/ HTTP/1.1\r\nHost: this.bank\r\n\r\n",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /a HTTP/1.1\r\n\r\n",
                "GET /a HTTP/1.1\r\nHost:\r\n\r\n",
                "GET /a HTTP/1.0\r\n\r\n",
                "GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
            ] {
                let pair = Pair::start(meshed).await;
                let arrived = arrives(&pair, head).await;
                // A field without a value may be written with a space before it.
                assert_eq!(arrived.replace("Host: \r\n", "Host:\r\n"), head, "meshed: {meshed}");
            }
        }
    });
}

fn extended_connect() -> Block {
    Block::of([
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "svc"),
        (":path", "/chat"),
        ("x-key", "value"),
    ])
}

#[test]
fn extended_connect_passes_to_an_application_that_takes_it() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = Peer::client(pair.connect().await).await.unwrap();
            client.headers(1, &extended_connect()).await.unwrap();
            let settings = [(setting::ENABLE_CONNECT_PROTOCOL, 1)];
            let mut server = Peer::server_with(pair.accept().await, &settings).await.unwrap();
            let (stream, head, end) = server.request_head().await.unwrap();
            assert!(!end);
            for (name, value) in [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":path", "/chat"),
                ("x-key", "value"),
            ] {
                assert!(
                    head.iter().any(|field| field.0 == name && field.1 == value),
                    "{name}: {head:?}"
                );
            }
            server.headers(stream, &Block::status(200)).await.unwrap();
            let Event::Headers { .. } = client.stream_event(1).await.unwrap() else {
                panic!("no response")
            };
            assert_eq!(
                client.setting(setting::ENABLE_CONNECT_PROTOCOL),
                Some(1),
                "the client may ask for it"
            );
            client.data(1, "ping", false).await.unwrap();
            let Event::Data { data, .. } = server.stream_event(stream).await.unwrap() else {
                panic!("no data")
            };
            assert_eq!(data, "ping");
            server.data(stream, "pong", true).await.unwrap();
            let Event::Data { data, .. } = client.stream_event(1).await.unwrap() else {
                panic!("no data")
            };
            assert_eq!(data, "pong");
        }
    });
}

#[test]
fn extended_connect_to_an_application_that_does_not_take_it_is_refused_with_a_reason() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = Peer::client(pair.connect().await).await.unwrap();
            client.headers(1, &extended_connect()).await.unwrap();
            let mut server = Peer::server(pair.accept().await).await.unwrap();
            let refused = async {
                let refused = client.response(1).await.unwrap();
                assert_eq!(refused.status(), 501, "{refused:?}");
                assert_eq!(refused.field("sheer-reason"), Some("bad-request"));
                let said = refused.field("l5d-proxy-error").unwrap();
                assert!(said.contains("does not take extended CONNECT"), "{said}");
            };
            let server = async {
                while let Ok(event) = server.event().await {
                    assert!(!matches!(event, Event::Headers { .. }), "{event:?}");
                    if matches!(event, Event::Closed) {
                        return std::future::pending().await;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                () = refused => {}
                () = server => {}
            }
        }
    });
}
