//! What is kept, and how much of it.

use h2::server;
use http::{Request, Response};
use sheer_testkit::h2peer::{Block, Peer as Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    io::Io,
    record::{RecordingCopy, Wanted},
};

#[test]
fn what_is_left_of_a_long_connection_decodes_as_it_was() {
    run(async {
        let recorder = Recorder::for_tests();
        let (client, server, _life) = proxy(&recorder, Lies::default()).await;
        tokio::task::spawn_local(async move {
            let mut connection = server::handshake(server).await.expect("a handshake");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let mut response = Response::new(());
                let nth = request.headers()["x-nth"].clone();
                response.headers_mut().insert("x-echo", nth);
                let _ = respond.send_response(response, true);
            }
        });
        let (mut send, connection) = client::handshake(client).await.expect("a handshake");
        tokio::task::spawn_local(connection);
        for nth in 0..6_000 {
            let mut request = Request::get("http://a.bank/").body(()).expect("a request");
            request.headers_mut().insert("x-nth", nth.into());
            send = send.ready().await.expect("open");
            let (response, _) = send.send_request(request, true).expect("sent");
            response.await.expect("a response");
        }
        let all = everything(&recorder);
        for recording in &all.recordings {
            let shown = recording.shown();
            assert!(recording.forgotten() > 0, "all of it is kept: the test proves nothing");
            let blocks: Vec<_> = shown
                .iter()
                .filter_map(|shown| Some((shown, shown.block.as_ref()?)))
                .collect();
            assert!(blocks.len() > 100, "{}", blocks.len());
            for (shown, block) in blocks {
                assert_eq!(block.error, None);
                let nth = (shown.record.stream - 1) / 2;
                let echo = block
                    .fields
                    .iter()
                    .find(|field| field.name.starts_with(b"x-"))
                    .expect("the field");
                assert_eq!(echo.value, nth.to_string().into_bytes());
            }
            assert!(
                shown.iter().all(|shown| shown.violations.is_empty()),
                "{:?}",
                shown.iter().find(|shown| !shown.violations.is_empty())
            );
        }
    });
}

#[test]
fn a_request_that_fails_keeps_what_came_before_on_both_legs() {
    run(async {
        let recorder = Recorder::for_tests();
        let (client, server, _life) = proxy(&recorder, Lies::default()).await;
        let (client, server) = tokio::join!(Script::client(client), Script::server(server));
        let (mut client, mut server) = (client.expect("a client"), server.expect("a server"));
        client
            .headers_end(1, &Block::get("a.bank", "/well"))
            .await
            .expect("sent");
        let (stream, _) = server.request().await.expect("a request");
        server.headers_end(stream, &Block::status(200)).await.expect("sent");
        client.response(1).await.expect("a response");
        client
            .headers_end(3, &Block::get("a.bank", "/ill"))
            .await
            .expect("sent");
        let (stream, _) = server.request().await.expect("a request");
        server
            .headers_end(stream, &Block::status(503).literal("retry-after", "7"))
            .await
            .expect("sent");
        client.response(3).await.expect("a response");
        tokio::task::yield_now().await;
        let all = everything(&recorder);
        let [failure] = &all.failures[..] else {
            panic!("{} failures", all.failures.len())
        };
        assert_eq!(&*failure.facts.reason, "status-503");
        let exchange = failure.facts.exchange.as_ref().expect("a request");
        assert_eq!(
            (exchange.client.stream, exchange.upstream.stream, exchange.status),
            (3, 3, 503)
        );
        assert_eq!(failure.recordings.len(), 2);
        for recording in &failure.recordings {
            let paths: Vec<_> = recording
                .shown()
                .iter()
                .filter_map(|shown| shown.block.clone())
                .flat_map(|block| block.fields)
                .filter(|field| field.name == b":path")
                .map(|field| String::from_utf8(field.value).expect("text"))
                .collect();
            assert_eq!(paths, ["/well", "/ill"]);
        }
        let exchanges = recorder
            .exchanges(&Wanted {
                limit: 9,
                ..Wanted::default()
            })
            .expect("on");
        assert_eq!(
            exchanges.exchanges.iter().map(|one| one.status).collect::<Vec<_>>(),
            [503, 200]
        );
    });
}

#[test]
fn more_connections_than_memory_holds_forget_the_silent_ones() {
    run(async {
        let recorder = Recorder::for_tests();
        let mut open = Vec::new();
        for _ in 0..600 {
            let (one, other) = sockets().await;
            let about = About::new(Peer::App, true, Speaks::Http2);
            open.push((recorder.http(about, Stream::Tcp(one).io()), other));
            assert!(recorder.inner().used() <= 1024 * 1024, "{}", recorder.inner().used());
        }
        let all = everything(&recorder).recordings;
        let recorded = all.iter().filter(|recording| recording.unrecorded.is_empty()).count();
        assert!((20..600).contains(&recorded), "{recorded}");
        assert!(
            all.last().is_some_and(|newest| newest.unrecorded.is_empty()),
            "the newest is recorded"
        );
        drop(open);
        assert_eq!(everything(&recorder).live, 0);
    });
}

/// What a log has of a PING: its record and its payload.
const PING_KEPT: usize = 20 + 8;

/// A client says PING many times.
async fn says_much(io: &mut Io, client: &mut TcpStream) {
    const PING: [u8; 17] = *b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    let mut read = [0; 17 * 100];
    for _ in 0..100 {
        client.write_all(&PING.repeat(100)).await.expect("written");
        io.read_exact(&mut read).await.expect("read");
    }
}

#[test]
fn who_says_much_has_what_silent_connections_leave_free() {
    const CONNECTIONS: usize = 16;
    run(async {
        let recorder = Recorder::for_tests();
        let share = 1024 * 1024 / 2 / CONNECTIONS;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let (one, mut client) = sockets().await;
            let about = About::new(Peer::App, true, Speaks::Http2);
            let (mut io, tape) = recorder.http(about, Stream::Tcp(one).io());
            client
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .expect("written");
            io.read_exact(&mut [0; 24 + 9]).await.expect("read");
            open.push((io, tape, client));
        }
        let kept = |recorder: &Recorder| -> Vec<usize> {
            let of = |recording: &RecordingCopy| {
                recording
                    .segments
                    .iter()
                    .map(|segment| segment.records.len() * PING_KEPT)
                    .sum()
            };
            everything(recorder).recordings.iter().map(of).collect()
        };
        let (io, _, client) = &mut open[0];
        says_much(io, client).await;
        let most = kept(&recorder).into_iter().max().expect("some");
        // Two segments of four times a quarter of it.
        assert!((share..share * 5 / 2).contains(&most), "{most} of {share}");
        // Once all speak, each has its share, and none is forgotten.
        for round in 0..4 {
            for (io, _, client) in &mut open {
                says_much(io, client).await;
                let used = recorder.inner().used();
                assert!(used <= 1024 * 1024, "{used} in round {round}");
            }
        }
        let kept = kept(&recorder);
        assert_eq!(kept.len(), CONNECTIONS);
        assert!(
            kept.iter().all(|kept| (share / 4..share).contains(kept)),
            "{kept:?} of {share}"
        );
    });
}

#[test]
fn connections_that_ended_take_no_more_for_being_many() {
    let recorder = Recorder::for_tests();
    for _ in 0..1_000 {
        let recording = recorder.recording_for_tests();
        recording.account(8 * 1024);
        recording.ended(None);
    }
    let used = recorder.inner().used();
    assert!((8 * 1024..=1024 * 1024 / 8).contains(&used), "{used}");
}
