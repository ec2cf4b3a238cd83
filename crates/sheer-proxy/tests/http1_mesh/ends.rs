//! Clients that leave, servers that fail, and what the other side learns of it.

use std::time::Duration;

use socket2::SockRef;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use super::{EACH, eventually, pair::Pair, rest, run::run, say, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Has the connection reset when it is dropped.
fn reset(io: TcpStream) {
    SockRef::from(&io).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A whole exchange on a connection of its own: what could be read before it has been read.
async fn exchange(pair: &Pair) {
    let mut client = pair.connect().await;
    say(
        &mut client,
        "GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    let mut app = pair.accept().await;
    until(&mut app, "\r\n\r\n").await;
    say(&mut app, "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(rest(&mut client).await.0.starts_with("HTTP/1.1 204"));
}

#[test]
fn a_client_that_half_closed_still_gets_its_response() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = pair.connect().await;
            say(&mut client, GET).await;
            client.shutdown().await.unwrap();
            let mut app = pair.accept().await;
            until(&mut app, "\r\n\r\n").await;
            exchange(&pair).await;
            say(&mut app, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            assert!(rest(&mut client).await.0.ends_with("\r\n\r\nok"));
        }
    });
}

#[test]
fn a_client_that_half_closed_and_then_left_is_noticed() {
    run(async {
        for meshed in EACH {
            let pair = Pair::with(meshed, &[("SHEER_PROXY_OUTBOUND_MAX_IN_FLIGHT", "2")]).await;
            let mut client = pair.connect().await;
            say(&mut client, GET).await;
            let mut app = pair.accept().await;
            until(&mut app, "\r\n\r\n").await;
            client.shutdown().await.unwrap();
            exchange(&pair).await;
            reset(client);
            // The application hangs, and learns that nobody waits any more.
            assert_eq!(rest(&mut app).await.0, "");
            // Its place among the requests in flight is free again: two others fit.
            let mut others = [pair.connect().await, pair.connect().await];
            for client in &mut others {
                say(client, GET).await;
                let mut app = pair.accept().await;
                until(&mut app, "\r\n\r\n").await;
                say(&mut app, "HTTP/1.1 200 OK\r\n\r\n").await;
                assert!(until(client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
            }
        }
    });
}

#[test]
fn a_server_that_fails_before_anybody_spoke_is_no_orderly_end() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let mut client = pair.connect().await;
            // The client is silent, so that the server's side is opened.
            let app = pair.accept().await;
            exchange(&pair).await;
            reset(app);
            let (said, orderly) = rest(&mut client).await;
            assert!(
                said.is_empty() && !orderly,
                "the client must not take it for an end: {said:?}"
            );
            let proxies = if meshed { 2 } else { 1 };
            eventually("each proxy names the server", || {
                pair.errors("upstream-closed") == proxies
            })
            .await;
            assert_eq!(pair.errors("client-gone"), 0);
        }
    });
}

#[test]
fn a_client_that_fails_before_anybody_spoke_is_reset_to_the_server() {
    run(async {
        for meshed in EACH {
            let pair = Pair::start(meshed).await;
            let client = pair.connect().await;
            let mut app = pair.accept().await;
            exchange(&pair).await;
            reset(client);
            let (said, orderly) = rest(&mut app).await;
            assert!(
                said.is_empty() && !orderly,
                "the server must not take it for an end: {said:?}"
            );
            let proxies = if meshed { 2 } else { 1 };
            eventually("each proxy names the client", || pair.errors("client-gone") == proxies).await;
            assert_eq!(pair.errors("upstream-closed"), 0);
        }
    });
}

#[test]
fn a_drain_does_not_wait_for_silent_connections() {
    run(async {
        tokio::join!(drain(false), drain(true));
    });
}

async fn drain(meshed: bool) {
    let pair = Pair::start(meshed).await;
    // One on which nobody has spoken, one that was found to be opaque and is idle, one that is busy.
    let mut silent = pair.connect().await;
    let _app = pair.accept().await;
    let mut idle = pair.connect().await;
    say(&mut idle, "\0 opaque").await;
    let mut idle_app = pair.accept().await;
    until(&mut idle_app, "opaque").await;
    let mut busy = pair.connect().await;
    say(&mut busy, "\0 opaque").await;
    let mut busy_app = pair.accept().await;
    until(&mut busy_app, "opaque").await;

    let began = Instant::now();
    let in_flight = pair.life.life().track();
    let talk = async {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            say(&mut busy, "x").await;
            until(&mut busy_app, "x").await;
        }
        drop(in_flight);
    };
    let ends = async {
        let ended = tokio::join!(rest(&mut silent), rest(&mut idle), rest(&mut idle_app));
        assert!(
            ended.1.1 && ended.2.1,
            "an idle connection ends in an orderly way: {ended:?}"
        );
        began.elapsed()
    };
    let (_, (), quiet) = tokio::join!(pair.life.drain(Duration::from_secs(30)), talk, ends);
    assert!(quiet < Duration::from_secs(6), "{quiet:?}");
}
