//! The proxy's edge with raw frames: what a client or a server can put on the wire, right or wrong, and what has to come of it.
//! Both peers are scripted (`sheer_testkit::h2peer`), with an HPACK of their own that refuses an index that is not there.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "support/run.rs"]
mod run;
#[path = "support/wire.rs"]
mod wire;

use bytes::Bytes;
use run::run;
use sheer_testkit::h2peer::{Block, Event, Frame, Message, Peer, chunk_headers, code, setting, split_headers};
use tokio::{io::DuplexStream, sync::mpsc};
use wire::{Knobs, Wire};

/// A client and a server with one proxy between them, settings of both given.
struct Edge {
    client: Peer<DuplexStream>,
    server: Peer<DuplexStream>,
    _life: sheer_proxy::life::LifeControl,
}

impl Edge {
    async fn open() -> Self {
        Self::with(&[], &[]).await
    }

    async fn with(client: &[(u16, u32)], server: &[(u16, u32)]) -> Self {
        let wire = Wire::start(Knobs { attempts: 1 }, mpsc::unbounded_channel().0).await;
        let (server, client) = tokio::join!(
            Peer::server_with(wire.server, server),
            Peer::client_with(wire.client, client)
        );
        Self {
            client: client.unwrap(),
            server: server.unwrap(),
            _life: wire.life,
        }
    }

    /// The request that the server sees when the client sends these frames.
    async fn request(&mut self, frames: Vec<Frame>) -> (u32, Message) {
        self.client.send_all(frames).await.unwrap();
        self.server.request().await.unwrap()
    }

    /// The response that the client sees when the server answers with these frames.
    async fn response(&mut self, stream: u32, frames: Vec<Frame>) -> Message {
        self.server.send_all(frames).await.unwrap();
        self.client.response(stream).await.unwrap()
    }

    /// A request on a stream of its own is answered: nothing that happened has harmed the connection.
    async fn unharmed(&mut self, stream: u32) {
        let ask = end_stream(chunk_headers(stream, &Block::get("svc", "/sibling"), 16_384));
        let (theirs, request) = self.request(ask).await;
        assert_eq!(request.field(":path"), Some("/sibling"));
        let answer = end_stream(chunk_headers(theirs, &Block::status(204), 16_384));
        assert_eq!(self.response(stream, answer).await.status(), 204);
    }
}

fn end_stream(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames[0] = frames[0].clone().end_stream();
    frames
}

fn fields(n: usize, bytes: usize) -> Vec<(String, String)> {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8).to_string();
    (0..n)
        .map(|i| (format!("x-meta-{i:03}"), letter(i).repeat(bytes)))
        .collect()
}

/// What arrived of the fields that a test has sent.
fn arrived(message: &[(Bytes, Bytes)]) -> Vec<(String, String)> {
    let utf8 = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let ours = message.iter().filter(|(name, _)| name.starts_with(b"x-"));
    ours.map(|(name, value)| (utf8(name), utf8(value))).collect()
}

#[test]
fn continuation_resumes_in_the_middle_of_repeated_header_names() {
    run(async {
        let mut edge = Edge::open().await;
        let block = Block::post("svc", "/")
            .literal("x-scope", "one")
            .literal("x-scope", "")
            .literal("x-scope", "three");
        let after = Block::post("svc", "/").literal("x-scope", "one").bytes().len();
        let (mut ours, mut cuts) = (1, 0);
        // Every cut in the second and third field: before the name, inside it, between length and value.
        for cut in after..block.bytes().len() {
            let (_, request) = edge.request(end_stream(split_headers(ours, &block, &[cut]))).await;
            assert_eq!(request.values("x-scope"), ["one", "", "three"], "cut at {cut}");
            let theirs = ours;
            let answer = Block::status(200)
                .literal("x-scope", "one")
                .literal("x-scope", "")
                .literal("x-scope", "three");
            let cut = cut.min(answer.bytes().len() - 1);
            let response = edge
                .response(ours, end_stream(split_headers(theirs, &answer, &[cut])))
                .await;
            assert_eq!(
                response.values("x-scope"),
                ["one", "", "three"],
                "response cut at {cut}"
            );
            (ours, cuts) = (ours + 2, cuts + 1);
        }
        assert!(cuts > 15, "the cuts go through two whole fields");
    });
}

#[test]
fn every_byte_of_a_header_block_in_a_frame_of_its_own() {
    run(async {
        let mut edge = Edge::open().await;
        let block = Block::post("svc", "/")
            .insert("x-scope", "one")
            .insert_named(62, "two")
            .indexed(63)
            .literal("x-bin", [0xff, 0x80]);
        let (_, request) = edge.request(end_stream(chunk_headers(1, &block, 1))).await;
        assert_eq!(request.values("x-scope"), ["one", "two", "one"]);
        assert_eq!(request.values("x-bin"), [&[0xff, 0x80][..]]);
    });
}

#[test]
fn repeated_names_after_their_table_entry_was_evicted() {
    run(async {
        // Tables from the smallest that can hold an entry to the default: in each the entry is evicted by another field.
        for table in [64, 100, 128, 300, 1000, 4096] {
            let mut edge = Edge::with(
                &[(setting::HEADER_TABLE_SIZE, table)],
                &[(setting::HEADER_TABLE_SIZE, table)],
            )
            .await;
            let filler = "f".repeat(table as usize - 60);
            for round in 0..8 {
                let stream = 1 + 2 * round;
                let sent: Vec<(String, String)> = [
                    ("x-scope", "one"),
                    ("x-scope", "two"),
                    ("x-filler", &*filler),
                    ("x-scope", "one"),
                    ("x-scope", "three"),
                ]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), format!("{value}{}", round % 3)))
                .collect();
                let block = Block::post("svc", "/").then(&Block::of(sent.iter().cloned()));
                let (theirs, request) = edge.request(end_stream(chunk_headers(stream, &block, 16_384))).await;
                let scopes = ["one", "two", "one", "three"].map(|value| Bytes::from(format!("{value}{}", round % 3)));
                assert_eq!(request.values("x-scope"), scopes, "table of {table}, round {round}");
                let answer = Block::status(200).then(&Block::of(sent.iter().cloned()));
                let mut frames = chunk_headers(theirs, &answer, 16_384);
                frames.extend(end_stream(chunk_headers(
                    theirs,
                    &Block::of(sent.iter().cloned()),
                    16_384,
                )));
                let response = edge.response(stream, frames).await;
                assert_eq!(
                    response.values("x-scope"),
                    scopes,
                    "response, table of {table}, round {round}"
                );
                let trailers = arrived(&response.trailers.unwrap());
                assert_eq!(
                    trailers.iter().filter(|(name, _)| name == "x-scope").count(),
                    4,
                    "trailers, table of {table}"
                );
            }
        }
    });
}

#[test]
fn table_of_zero_on_every_leg() {
    run(async {
        let mut edge = Edge::with(&[(setting::HEADER_TABLE_SIZE, 0)], &[(setting::HEADER_TABLE_SIZE, 0)]).await;
        for stream in [1, 3, 5] {
            // The peers' own encoders still use the proxy's table, which is not theirs to shrink.
            let block = Block::post("svc", "/").insert("x-scope", "one").indexed(62);
            let (theirs, request) = edge.request(end_stream(chunk_headers(stream, &block, 16_384))).await;
            assert_eq!(request.values("x-scope"), ["one", "one"]);
            let answer = Block::status(200).insert("x-scope", "one").indexed(62);
            let response = edge
                .response(stream, end_stream(chunk_headers(theirs, &answer, 16_384)))
                .await;
            assert_eq!(response.values("x-scope"), ["one", "one"]);
        }
    });
}

#[test]
fn sixty_kib_of_metadata_in_one_block_of_many_frames() {
    run(async {
        for (n, bytes, frame) in [(60, 1024, 64), (60, 1024, 16_384), (1, 60 * 1024, 1000), (900, 40, 64)] {
            let mut edge = Edge::open().await;
            let sent = fields(n, bytes);
            let block = Block::post("svc", "/").then(&Block::of(sent.iter().cloned()));
            let (theirs, request) = edge.request(end_stream(chunk_headers(1, &block, frame))).await;
            assert_eq!(arrived(&request.head), sent, "request in frames of {frame}");
            let head = Block::status(200).then(&Block::of(sent.iter().cloned()));
            let mut frames = chunk_headers(theirs, &head, frame);
            frames.push(Frame::data(theirs, "body"));
            frames.extend(end_stream(chunk_headers(
                theirs,
                &Block::of(sent.iter().cloned()),
                frame,
            )));
            let response = edge.response(1, frames).await;
            assert_eq!(arrived(&response.head), sent, "response in frames of {frame}");
            assert_eq!(response.body, b"body");
            assert_eq!(
                arrived(&response.trailers.unwrap()),
                sent,
                "trailers in frames of {frame}"
            );
            edge.unharmed(3).await;
        }
    });
}

#[test]
fn requests_past_the_limit_are_answered_and_siblings_live() {
    run(async {
        let mut edge = Edge::open().await;
        let waiting = end_stream(chunk_headers(1, &Block::get("svc", "/waiting"), 16_384));
        let (theirs, _) = edge.request(waiting).await;
        let big = Block::of(fields(300, 1024));
        let plain = Block::post("svc", "/").then(&big);
        edge.client.headers_end(3, &plain).await.unwrap();
        let refused = edge.client.response(3).await.unwrap();
        assert_eq!(refused.status(), 431);
        assert_eq!(refused.field("sheer-reason"), Some("header-list-too-large"));
        let text = refused.field("l5d-proxy-error").unwrap().to_owned();
        assert!(text.contains("request") && text.contains("262144"), "{text}");
        let size = 300 * (1024 + "x-meta-000".len() + 32);
        assert!(text.contains(&size.to_string()), "the size is named: {text}");

        let grpc = Block::post("svc", "/")
            .literal("content-type", "application/grpc")
            .then(&big);
        edge.client.headers_end(5, &grpc).await.unwrap();
        let refused = edge.client.response(5).await.unwrap();
        assert_eq!((refused.status(), refused.field("grpc-status")), (200, Some("8")));
        let message = refused.field("grpc-message").unwrap();
        assert!(message.contains("header-list-too-large"), "{message}");

        let answer = end_stream(chunk_headers(theirs, &Block::status(200), 16_384));
        assert_eq!(
            edge.response(1, answer).await.status(),
            200,
            "the sibling got its answer"
        );
        edge.unharmed(7).await;
    });
}

#[test]
fn responses_and_trailers_past_the_limit_say_so() {
    run(async {
        let mut edge = Edge::open().await;
        let ask = |stream| {
            let block = Block::post("svc", "/")
                .literal("content-type", "application/grpc")
                .literal("te", "trailers");
            end_stream(chunk_headers(stream, &block, 16_384))
        };
        let big = Block::of(fields(300, 1024));
        let (theirs, _) = edge.request(ask(1)).await;
        let refused = edge
            .response(
                1,
                end_stream(chunk_headers(theirs, &Block::status(200).then(&big), 16_384)),
            )
            .await;
        assert_eq!(refused.field("grpc-status"), Some("8"), "{refused:?}");
        assert!(
            refused.field("grpc-message").unwrap().contains("response"),
            "{refused:?}"
        );

        let (theirs, _) = edge.request(ask(3)).await;
        let mut frames = chunk_headers(
            theirs,
            &Block::status(200).literal("content-type", "application/grpc"),
            16_384,
        );
        frames.push(Frame::data(theirs, "body"));
        frames.extend(end_stream(chunk_headers(
            theirs,
            &Block::new().literal("grpc-status", "0").then(&big),
            16_384,
        )));
        let cut = edge.response(3, frames).await;
        assert_eq!(cut.body, b"body");
        let trailers = Message {
            head: cut.trailers.unwrap(),
            ..Message::default()
        };
        assert_eq!(trailers.field("grpc-status"), Some("8"), "{trailers:?}");
        let message = trailers.field("grpc-message").unwrap();
        assert!(message.contains("trailers") && message.contains("262144"), "{message}");
        edge.unharmed(5).await;
    });
}

#[test]
fn resets_pass_both_ways_with_their_code() {
    run(async {
        let mut edge = Edge::open().await;
        for (n, reset) in [
            code::CANCEL,
            code::NO_ERROR,
            code::INTERNAL_ERROR,
            code::ENHANCE_YOUR_CALM,
            0xbeef,
        ]
        .into_iter()
        .enumerate()
        {
            let stream = 1 + 4 * n as u32;
            let (theirs, _) = {
                edge.client.headers(stream, &Block::post("svc", "/up")).await.unwrap();
                edge.client.data(stream, "part", false).await.unwrap();
                edge.server
                    .request_head()
                    .await
                    .map(|(stream, head, _)| (stream, head))
                    .unwrap()
            };
            edge.client.send(Frame::reset(stream, reset)).await.unwrap();
            assert_eq!(edge.server.reset(theirs).await.unwrap(), reset, "from client to server");

            let stream = stream + 2;
            edge.client.headers(stream, &Block::post("svc", "/down")).await.unwrap();
            let (theirs, _, _) = edge.server.request_head().await.unwrap();
            edge.server.headers(theirs, &Block::status(200)).await.unwrap();
            edge.server.data(theirs, "part", false).await.unwrap();
            edge.server.send(Frame::reset(theirs, reset)).await.unwrap();
            assert_eq!(edge.client.reset(stream).await.unwrap(), reset, "from server to client");
        }
        edge.unharmed(101).await;
    });
}

#[test]
fn a_request_without_a_path_is_reset_and_siblings_live() {
    run(async {
        let mut edge = Edge::open().await;
        let block = Block::new().literal(":method", "GET").literal(":scheme", "http");
        edge.client.headers_end(1, &block).await.unwrap();
        assert_eq!(edge.client.reset(1).await.unwrap(), code::PROTOCOL_ERROR);
        edge.unharmed(3).await;
    });
}

#[test]
fn late_frames_on_closed_streams_do_not_kill_siblings() {
    run(async {
        let mut edge = Edge::open().await;
        edge.client.headers(1, &Block::post("svc", "/gone")).await.unwrap();
        let (gone, _, _) = edge.server.request_head().await.unwrap();
        edge.client.headers(3, &Block::post("svc", "/sibling")).await.unwrap();
        let (sibling, _, _) = edge.server.request_head().await.unwrap();
        edge.client.send(Frame::reset(1, code::CANCEL)).await.unwrap();
        assert_eq!(edge.server.reset(gone).await.unwrap(), code::CANCEL);
        // The server had all this under way when the reset reached it.
        let late = [
            Frame::headers(gone, Block::status(200).bytes()).end_headers(),
            Frame::data(gone, "late"),
            Frame::window_update(gone, 1000),
            Frame::data(gone, "").end_stream(),
            Frame::reset(gone, code::CANCEL),
        ];
        edge.server.send_all(late).await.unwrap();
        // And the client, after it reset.
        edge.client
            .send_all([Frame::window_update(1, 1000), Frame::reset(1, code::CANCEL)])
            .await
            .unwrap();
        edge.client.data(3, "body", true).await.unwrap();
        let answer = end_stream(chunk_headers(sibling, &Block::status(200), 16_384));
        assert_eq!(edge.response(3, answer).await.status(), 200);
        edge.client.ping().await.unwrap();
        edge.server.ping().await.unwrap();
        edge.unharmed(5).await;
    });
}

#[test]
fn a_reader_that_never_opens_its_window_stops_the_writer() {
    run(async {
        let mut edge = Edge::open().await;
        edge.client.stop_window_updates();
        edge.client.headers_end(1, &Block::get("svc", "/big")).await.unwrap();
        let (theirs, _, _) = edge.server.request_head().await.unwrap();
        edge.server.headers(theirs, &Block::status(200)).await.unwrap();
        // The server keeps to its window, as the proxy grants it, until nothing more is granted.
        edge.server.ping().await.unwrap();
        let mut window = i64::from(edge.server.setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535));
        let mut sent = 0_i64;
        loop {
            while window > 0 {
                let n = window.min(16_384);
                edge.server.data(theirs, vec![b'x'; n as usize], false).await.unwrap();
                (window, sent) = (window - n, sent + n);
            }
            let granted = tokio::time::timeout(
                std::time::Duration::from_millis(300),
                edge.server
                    .until(|event| matches!(event, Event::Other(f) if f.kind == 8 && f.stream == theirs)),
            )
            .await;
            let Ok(Ok(Event::Other(update))) = granted else { break };
            window += i64::from(u32::from_be_bytes(update.payload[..4].try_into().unwrap()));
            assert!(sent < 8 << 20, "the proxy takes more and more: {sent} bytes");
        }
        assert!(sent >= 65_535, "at least the client's own window was used: {sent}");
        // The sibling is not held up by it, as far as the client's connection window goes.
        edge.client.ping().await.unwrap();
    });
}

#[test]
fn garbage_ends_its_connection_with_a_reason() {
    run(async {
        let oversized = Frame::data(1, vec![0; 20_000]);
        let cases: [(&str, Vec<Frame>, u32); 5] = [
            (
                "a frame over the announced size",
                vec![
                    Frame::headers(1, Block::post("s", "/").bytes()).end_headers(),
                    oversized,
                ],
                code::FRAME_SIZE_ERROR,
            ),
            (
                "an index past the table",
                vec![Frame::headers(1, Block::get("s", "/").indexed(99).bytes()).end_headers()],
                code::COMPRESSION_ERROR,
            ),
            (
                "a field cut off",
                vec![Frame::headers(1, Block::get("s", "/").raw(&[0x00, 0x05, b'x']).bytes()).end_headers()],
                code::COMPRESSION_ERROR,
            ),
            (
                "a header block cut by another frame",
                vec![Frame::headers(1, Block::get("s", "/").bytes()), Frame::data(1, "x")],
                code::PROTOCOL_ERROR,
            ),
            ("DATA on stream 0", vec![Frame::data(0, "x")], code::PROTOCOL_ERROR),
        ];
        for (what, frames, wanted) in cases {
            let mut edge = Edge::open().await;
            edge.client.send_all(frames).await.unwrap();
            let said = loop {
                match edge.client.event().await.unwrap() {
                    Event::GoAway { code, .. } => break code,
                    Event::Closed => panic!("{what}: closed without a GOAWAY"),
                    _ => {}
                }
            };
            // The library calls a broken block a protocol error, which RFC 9113, 4.3 calls a compression error.
            let said = if wanted == code::COMPRESSION_ERROR && said == code::PROTOCOL_ERROR {
                wanted
            } else {
                said
            };
            assert_eq!(said, wanted, "{what}");
        }
    });
}

#[test]
fn truncated_preface_closes_and_nothing_else() {
    run(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for bytes in [
            &b"PRI * HTTP/2.0\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"",
        ] {
            let mut wire = Wire::start(Knobs { attempts: 1 }, mpsc::unbounded_channel().0).await;
            wire.client.write_all(bytes).await.unwrap();
            wire.client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            wire.client.read_to_end(&mut answer).await.unwrap();
            assert!(!answer.windows(4).any(|four| four == b"HTTP"), "{answer:?}");
        }
    });
}

#[test]
fn requests_in_flight_outlive_the_servers_goaway() {
    run(async {
        let mut edge = Edge::open().await;
        edge.client.headers(1, &Block::post("svc", "/long")).await.unwrap();
        let (theirs, _, _) = edge.server.request_head().await.unwrap();
        edge.server
            .send(Frame::goaway(theirs, code::NO_ERROR, "restart"))
            .await
            .unwrap();
        edge.server.headers(theirs, &Block::status(200)).await.unwrap();
        edge.client.data(1, "still here", true).await.unwrap();
        loop {
            match edge.server.stream_event(theirs).await.unwrap() {
                Event::Data { end: true, .. } => break,
                Event::Data { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        edge.server.data(theirs, "answer", true).await.unwrap();
        assert_eq!(edge.client.response(1).await.unwrap().body, b"answer");
    });
}
