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

/// Window of a peer that grants little.
const NARROW: usize = 16_384;

/// Two clients that share the connection between the sidecars, and the server's one connection.
struct Mesh {
    pair: Pair,
    client: Tcp,
    sibling: Tcp,
    server: Tcp,
}

impl Mesh {
    async fn open() -> Self {
        Self::open_with(&[]).await
    }

    async fn open_with(changes: &[(&str, &str)]) -> Self {
        Self::open_to(Pair::with(true, changes).await, &[]).await
    }

    /// As [`Self::open`], with a client and a server that grant little.
    async fn narrow() -> Self {
        let little = [(setting::INITIAL_WINDOW_SIZE, NARROW as u32)];
        Self::open_to(Pair::start(true).await, &little).await
    }

    async fn open_to(pair: Pair, settings: &[(u16, u32)]) -> Self {
        let mut client = Peer::client_with(pair.connect().await, settings).await.unwrap();
        let sibling = Peer::client(pair.connect().await).await.unwrap();
        // The first request opens the way to the server.
        client.headers_end(1, &Block::get("svc", "/first")).await.unwrap();
        let mut server = Peer::server_with(pair.accept().await, settings).await.unwrap();
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
fn a_list_within_the_limit_passes_in_the_smallest_frames_whatever_the_largest() {
    run(async {
        // 243 fields of 1 KiB are 250 KiB on the wire, and 256 KiB with what the limit counts besides.
        let sent = metadata(243);
        for largest in [None, Some("65536"), Some("16777215")] {
            let changes = ["INBOUND", "OUTBOUND"].map(|side| format!("SHEER_PROXY_{side}_SERVER_HTTP2_MAX_FRAME_SIZE"));
            let changes: Vec<_> = largest
                .into_iter()
                .flat_map(|size| changes.iter().map(move |name| (name.as_str(), size)))
                .collect();
            let mut mesh = Mesh::open_with(&changes).await;
            let block = |head: Block| head.then(&Block::of(sent.iter().cloned()));
            mesh.client
                .send_all(chunk_headers(3, &block(Block::post("svc", "/")), 64))
                .await
                .unwrap();
            mesh.client
                .send_all(end_stream(chunk_headers(3, &block(Block::new()), 64)))
                .await
                .unwrap();
            let (theirs, request) = mesh.server.request().await.unwrap();
            assert_eq!(ours(&request.head), sent, "request");
            assert_eq!(ours(&request.trailers.unwrap()), sent, "request trailers");
            mesh.server
                .send_all(chunk_headers(theirs, &block(Block::status(200)), 64))
                .await
                .unwrap();
            mesh.server
                .send_all(end_stream(chunk_headers(theirs, &block(Block::new()), 64)))
                .await
                .unwrap();
            let response = mesh.client.response(3).await.unwrap();
            assert_eq!(ours(&response.head), sent, "response");
            assert_eq!(ours(&response.trailers.unwrap()), sent, "response trailers");
            mesh.sibling_lives(1).await;
        }
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

/// Sends as much as the server may, which is more than a client takes that never opens its window. How much that was.
async fn fill(mesh: &mut Mesh, theirs: u32) -> usize {
    mesh.server.ping().await.unwrap();
    let window = mesh.server.setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535) as usize;
    assert!(window > NARROW, "{window}");
    for part in vec![b'x'; window].chunks(16_384) {
        mesh.server.data(theirs, part.to_vec(), false).await.unwrap();
    }
    mesh.server.ping().await.unwrap();
    window
}

#[test]
fn a_reset_does_not_wait_for_a_reader_that_never_opens_its_window() {
    run(async {
        // With the request sent whole, and with its body still open.
        for whole in [true, false] {
            let mut mesh = Mesh::narrow().await;
            mesh.client.stop_window_updates();
            let request = Block::post("svc", "/big");
            if whole {
                mesh.client.headers_end(3, &request).await.unwrap();
            } else {
                mesh.client.headers(3, &request).await.unwrap();
            }
            let (theirs, _, _) = mesh.server.request_head().await.unwrap();
            mesh.server.headers(theirs, &Block::status(200)).await.unwrap();
            fill(&mut mesh, theirs).await;
            mesh.server
                .send(Frame::reset(theirs, code::ENHANCE_YOUR_CALM))
                .await
                .unwrap();
            assert_eq!(mesh.client.reset(3).await.unwrap(), code::ENHANCE_YOUR_CALM);
            mesh.sibling_lives(1).await;
        }
    });
}

#[test]
fn a_cancel_does_not_wait_for_a_server_that_never_opens_its_window() {
    run(async {
        let mut mesh = Mesh::narrow().await;
        mesh.server.stop_window_updates();
        mesh.client.headers(3, &Block::post("svc", "/big")).await.unwrap();
        let (theirs, _, _) = mesh.server.request_head().await.unwrap();
        mesh.client.ping().await.unwrap();
        let mut window = i64::from(mesh.client.setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535));
        while window > 0 {
            let n = window.min(16_384);
            mesh.client.data(3, vec![b'x'; n as usize], false).await.unwrap();
            window -= n;
        }
        // The whole response is here: only the request still goes on.
        mesh.server.headers_end(theirs, &Block::status(200)).await.unwrap();
        let Event::Headers { .. } = mesh.client.stream_event(3).await.unwrap() else {
            panic!("no response");
        };
        mesh.client.send(Frame::reset(3, code::CANCEL)).await.unwrap();
        assert_eq!(mesh.server.reset(theirs).await.unwrap(), code::CANCEL);
        mesh.sibling_lives(1).await;
    });
}

#[test]
fn an_answer_that_is_followed_by_a_reset_without_error_stays_whole() {
    run(async {
        let mut mesh = Mesh::narrow().await;
        mesh.client.headers(3, &Block::post("svc", "/early")).await.unwrap();
        let (theirs, _, _) = mesh.server.request_head().await.unwrap();
        mesh.client.stop_window_updates();
        mesh.server.headers(theirs, &Block::status(200)).await.unwrap();
        let sent = fill(&mut mesh, theirs).await;
        mesh.server.data(theirs, "", true).await.unwrap();
        mesh.server.send(Frame::reset(theirs, code::NO_ERROR)).await.unwrap();
        mesh.server.ping().await.unwrap();
        let mut got = 0;
        // What the window lets through is here before it is opened.
        while got < NARROW {
            match mesh.client.stream_event(3).await.unwrap() {
                Event::Data { data, .. } => got += data.len(),
                Event::Headers { .. } => {}
                other => panic!("{other:?} after {got} bytes"),
            }
        }
        mesh.client.send(Frame::window_update(3, 1 << 20)).await.unwrap();
        mesh.client.send(Frame::window_update(0, 1 << 20)).await.unwrap();
        while got < sent {
            match mesh.client.stream_event(3).await.unwrap() {
                Event::Data { data, .. } => got += data.len(),
                other => panic!("{other:?} after {got} bytes"),
            }
        }
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
