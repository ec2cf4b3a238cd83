//! Raw frames through two whole sidecars with mTLS between them: the faults of the story, limits, resets, GOAWAY and windows, where clients
//! share the one connection between the sidecars.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[expect(dead_code, reason = "shared with the tests of HTTP/1")]
#[path = "support/pair.rs"]
mod pair;
#[path = "support/run.rs"]
mod run;

use std::time::Duration;

use bytes::Bytes;
use pair::{CLIENT, Pair};
use run::run;
use sheer_testkit::h2peer::{Block, Event, Field, Frame, Message, Peer, chunk_headers, code, setting, split_headers};
use tokio::{net::TcpStream, time::timeout};

type Tcp = Peer<TcpStream>;

/// Two clients that share the connection between the sidecars, and the server's one connection.
struct Mesh {
    pair: Pair,
    client: Tcp,
    sibling: Tcp,
    server: Tcp,
}

impl Mesh {
    async fn open() -> Self {
        let pair = Pair::start(true).await;
        let mut client = Peer::client(pair.connect().await).await.unwrap();
        let sibling = Peer::client(pair.connect().await).await.unwrap();
        // The first request opens the way to the server.
        client.headers_end(1, &Block::get("svc", "/first")).await.unwrap();
        let mut server = Peer::server(pair.accept().await).await.unwrap();
        let (stream, request) = server.request().await.unwrap();
        assert_eq!(
            request.field("l5d-client-id"),
            Some(CLIENT),
            "the request came through mTLS"
        );
        server.headers_end(stream, &Block::status(200)).await.unwrap();
        assert_eq!(client.response(1).await.unwrap().status(), 200);
        Self {
            pair,
            client,
            sibling,
            server,
        }
    }

    /// A whole exchange of the other client works: nothing that happened has harmed what it shares.
    async fn sibling_lives(&mut self, stream: u32) {
        self.sibling
            .headers_end(stream, &Block::get("svc", "/sibling"))
            .await
            .unwrap();
        let (theirs, request) = self.server.request().await.unwrap();
        assert_eq!(request.field(":path"), Some("/sibling"));
        self.server.headers_end(theirs, &Block::status(204)).await.unwrap();
        assert_eq!(self.sibling.response(stream).await.unwrap().status(), 204);
    }
}

fn end_stream(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames[0] = frames[0].clone().end_stream();
    frames
}

fn metadata(n: usize) -> Vec<Field> {
    (0..n)
        .map(|i| {
            (
                Bytes::from(format!("x-meta-{i:03}")),
                Bytes::from(vec![b'a' + (i % 26) as u8; 1024]),
            )
        })
        .collect()
}

fn ours(fields: &[Field]) -> Vec<Field> {
    fields
        .iter()
        .filter(|(name, _)| name.starts_with(b"x-"))
        .cloned()
        .collect()
}

#[test]
fn continuation_resumes_in_the_middle_of_repeated_header_names() {
    run(async {
        let mut mesh = Mesh::open().await;
        let block = Block::post("svc", "/")
            .literal("x-scope", "one")
            .literal("x-scope", "two")
            .literal("x-scope", "");
        let middle = Block::post("svc", "/").literal("x-scope", "one").bytes().len() + 5;
        mesh.client
            .send_all(end_stream(split_headers(3, &block, &[middle])))
            .await
            .unwrap();
        let (theirs, request) = mesh.server.request().await.unwrap();
        assert_eq!(request.values("x-scope"), ["one", "two", ""]);
        let answer = Block::status(200).literal("x-scope", "one").literal("x-scope", "two");
        let frames = end_stream(split_headers(theirs, &answer, &[answer.bytes().len() - 8]));
        mesh.server.send_all(frames).await.unwrap();
        assert_eq!(mesh.client.response(3).await.unwrap().values("x-scope"), ["one", "two"]);
        mesh.sibling_lives(1).await;
    });
}

#[test]
fn repeated_names_after_their_table_entry_was_evicted() {
    run(async {
        let mut mesh = Mesh::open().await;
        for stream in (3..33).step_by(2) {
            // Enough new entries to evict the name from each table on the way, then the name again, twice.
            let filler = (0..9).map(|n| (format!("x-fill-{stream}-{n}"), "f".repeat(500)));
            let fields: Vec<(String, String)> = [("x-scope".to_owned(), format!("one{stream}"))]
                .into_iter()
                .chain(filler)
                .chain([
                    ("x-scope".to_owned(), "two".to_owned()),
                    ("x-scope".to_owned(), "three".to_owned()),
                ])
                .collect();
            let wanted = [Bytes::from(format!("one{stream}")), "two".into(), "three".into()];
            mesh.client
                .headers_end(stream, &Block::post("svc", "/").then(&Block::of(fields.clone())))
                .await
                .unwrap();
            let (theirs, request) = mesh.server.request().await.unwrap();
            assert_eq!(request.values("x-scope"), wanted);
            mesh.server
                .headers_end(theirs, &Block::status(200).then(&Block::of(fields)))
                .await
                .unwrap();
            assert_eq!(mesh.client.response(stream).await.unwrap().values("x-scope"), wanted);
        }
    });
}

#[test]
fn sixty_kib_of_metadata_everywhere() {
    run(async {
        let mut mesh = Mesh::open().await;
        let sent = metadata(60);
        for (stream, size) in [(3, 16_384), (5, 1000), (7, 64)] {
            let block = |head: Block| head.then(&Block::of(sent.iter().cloned()));
            mesh.client
                .send_all(chunk_headers(stream, &block(Block::post("svc", "/")), size))
                .await
                .unwrap();
            mesh.client.data(stream, "up", false).await.unwrap();
            mesh.client
                .send_all(end_stream(chunk_headers(stream, &block(Block::new()), size)))
                .await
                .unwrap();
            let (theirs, request) = mesh.server.request().await.unwrap();
            assert_eq!(ours(&request.head), sent, "request in frames of {size}");
            assert_eq!(
                ours(&request.trailers.unwrap()),
                sent,
                "request trailers in frames of {size}"
            );
            mesh.server
                .send_all(chunk_headers(theirs, &block(Block::status(200)), size))
                .await
                .unwrap();
            mesh.server.data(theirs, "down", false).await.unwrap();
            mesh.server
                .send_all(end_stream(chunk_headers(theirs, &block(Block::new()), size)))
                .await
                .unwrap();
            let response = mesh.client.response(stream).await.unwrap();
            assert_eq!(ours(&response.head), sent, "response in frames of {size}");
            assert_eq!(ours(&response.trailers.unwrap()), sent, "trailers in frames of {size}");
        }
        mesh.sibling_lives(1).await;
    });
}

#[test]
fn past_the_header_limit_the_answer_names_leg_and_size() {
    run(async {
        let mut mesh = Mesh::open().await;
        let big = Block::of(metadata(300));
        let size = (300 * (1024 + "x-meta-000".len() + 32)).to_string();
        let said = |message: &Message| message.field("l5d-proxy-error").unwrap_or_default().to_owned();
        mesh.client
            .headers_end(3, &Block::post("svc", "/").then(&big))
            .await
            .unwrap();
        let refused = mesh.client.response(3).await.unwrap();
        assert_eq!(refused.status(), 431);
        assert!(
            said(&refused).contains("request") && said(&refused).contains(&size),
            "{}",
            said(&refused)
        );

        let grpc = Block::post("svc", "/")
            .literal("content-type", "application/grpc")
            .literal("te", "trailers");
        mesh.client.headers_end(5, &grpc).await.unwrap();
        let (theirs, _) = mesh.server.request().await.unwrap();
        mesh.server
            .headers_end(theirs, &Block::status(200).then(&big))
            .await
            .unwrap();
        let refused = mesh.client.response(5).await.unwrap();
        assert_eq!(refused.field("grpc-status"), Some("8"), "{refused:?}");
        let message = refused.field("grpc-message").unwrap();
        assert!(
            message.contains("response") && message.contains("header-list-too-large"),
            "{message}"
        );
        mesh.sibling_lives(1).await;
    });
}

#[test]
fn resets_pass_both_ways_with_their_code() {
    run(async {
        let mut mesh = Mesh::open().await;
        for (n, reset) in [code::CANCEL, code::INTERNAL_ERROR, code::ENHANCE_YOUR_CALM, 0xbeef]
            .into_iter()
            .enumerate()
        {
            let stream = 3 + 4 * n as u32;
            mesh.client.headers(stream, &Block::post("svc", "/up")).await.unwrap();
            let (theirs, _, _) = mesh.server.request_head().await.unwrap();
            mesh.client.send(Frame::reset(stream, reset)).await.unwrap();
            assert_eq!(mesh.server.reset(theirs).await.unwrap(), reset, "to the server");

            mesh.client
                .headers(stream + 2, &Block::post("svc", "/down"))
                .await
                .unwrap();
            let (theirs, _, _) = mesh.server.request_head().await.unwrap();
            mesh.server.headers(theirs, &Block::status(200)).await.unwrap();
            mesh.server.send(Frame::reset(theirs, reset)).await.unwrap();
            assert_eq!(mesh.client.reset(stream + 2).await.unwrap(), reset, "to the client");
        }
        mesh.sibling_lives(1).await;
    });
}

#[test]
fn a_servers_goaway_loses_no_request() {
    run(async {
        let mut mesh = Mesh::open().await;
        mesh.client
            .headers_end(3, &Block::get("svc", "/in-flight"))
            .await
            .unwrap();
        let (theirs, _) = mesh.server.request().await.unwrap();
        mesh.server
            .send(Frame::goaway(theirs, code::NO_ERROR, "restart"))
            .await
            .unwrap();
        mesh.server.ping().await.unwrap();
        // A request after it takes another connection, while the one in flight is answered on the old one.
        mesh.client.headers_end(5, &Block::get("svc", "/after")).await.unwrap();
        let mut second = Peer::server(mesh.pair.accept().await).await.unwrap();
        let (after, request) = second.request().await.unwrap();
        assert_eq!(request.field(":path"), Some("/after"));
        second.headers_end(after, &Block::status(202)).await.unwrap();
        mesh.server.headers_end(theirs, &Block::status(201)).await.unwrap();
        assert_eq!(mesh.client.response(5).await.unwrap().status(), 202);
        assert_eq!(mesh.client.response(3).await.unwrap().status(), 201);
    });
}

#[test]
fn a_reader_that_stops_stops_the_writer_and_nobody_else() {
    run(async {
        let mut mesh = Mesh::open().await;
        mesh.client.stop_window_updates();
        mesh.client.headers_end(3, &Block::get("svc", "/big")).await.unwrap();
        let (theirs, _, _) = mesh.server.request_head().await.unwrap();
        mesh.server.headers(theirs, &Block::status(200)).await.unwrap();
        mesh.server.ping().await.unwrap();
        let mut window = i64::from(mesh.server.setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535));
        let mut sent = 0_i64;
        loop {
            while window > 0 {
                let n = window.min(16_384);
                mesh.server.data(theirs, vec![b'x'; n as usize], false).await.unwrap();
                (window, sent) = (window - n, sent + n);
            }
            assert!(sent < 16 << 20, "the sidecars take more and more: {sent} bytes");
            let update = |event: &Event| matches!(event, Event::Other(f) if f.kind == 8 && f.stream == theirs);
            let Ok(update) = timeout(Duration::from_millis(500), mesh.server.until(update)).await else {
                break;
            };
            let Event::Other(update) = update.unwrap() else {
                unreachable!("only updates fit")
            };
            window += i64::from(u32::from_be_bytes(update.payload[..4].try_into().unwrap()));
        }
        mesh.sibling_lives(1).await;
    });
}
