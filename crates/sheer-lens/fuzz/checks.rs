//! What holds for any bytes, one function a fuzz target. `tests/corpus.rs` runs the same functions over the corpus in every test run.
//!
//! Each panics where a decoder says something else when bytes come in pieces, breaks a limit, or contradicts itself.

use prost_reflect::DescriptorPool;
use sheer_lens::{
    client_hello, grpc,
    h2::{self, Sender},
    hpack, http1,
    protobuf::{self, Limits, Place},
    protocol, tls,
};

/// JSON may exceed its limit by what has to be closed and by one value of the longest kind.
const JSON_SLACK: usize = 4096;

/// Bytes in pieces whose lengths the first byte decides.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let length = bytes.first().map_or(1, |first| usize::from(first % 13) + 1);
    bytes.chunks(length)
}

/// Every event as a line.
#[derive(Debug, Default, PartialEq)]
struct Trace {
    lines: Vec<String>,
    body: Vec<u8>,
}

impl Trace {
    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Slices of a body may be cut anywhere.
    fn end_of_body(&mut self) {
        let body = std::mem::take(&mut self.body);
        self.lines.push(format!("body {body:?}"));
    }
}

impl tls::Visitor for Trace {
    fn record(&mut self, record: &tls::Record) {
        self.line(format!("{record:?}"));
    }
    fn handshake(&mut self, kind: u8, length: u32) {
        self.line(format!("handshake {kind} {length}"));
    }
    fn client_hello(&mut self, hello: &tls::ClientHello) {
        self.line(format!("{hello:?}"));
    }
    fn server_hello(&mut self, hello: &tls::ServerHello) {
        self.line(format!("{hello:?}"));
    }
    fn alert(&mut self, alert: tls::Alert) {
        self.line(format!("{alert:?}"));
    }
    fn violation(&mut self, violation: tls::Violation) {
        self.line(format!("{violation:?}"));
    }
}

/// The quick look and the thorough one.
pub fn client_hello(bytes: &[u8]) {
    let mut said = client_hello::client_hello(&[]);
    for end in 0..=bytes.len().min(300) {
        let now = client_hello::client_hello(&bytes[..end]);
        // More bytes never take back what was said.
        assert!(said == client_hello::ClientHello::Incomplete || said == now);
        said = now;
    }
    let (mut whole, mut cut) = (Trace::default(), Trace::default());
    tls::Records::new().feed(bytes, &mut whole);
    let mut records = tls::Records::new();
    for piece in pieces(bytes) {
        records.feed(piece, &mut cut);
        assert!(records.memory() <= 2 * tls::MAX_HANDSHAKE);
    }
    assert_eq!(whole, cut);
    let _ = (
        tls::client_hello(bytes),
        tls::server_hello(bytes),
        protocol::protocol(bytes),
    );
}

impl http1::Visitor for Trace {
    fn head(&mut self, head: &http1::Head<'_>) {
        let fields = head
            .fields()
            .map(|field| (field.name.len(), field.value.len(), field.raw.len()))
            .collect::<Vec<_>>();
        self.line(format!("{:?} {fields:?}", head.start));
    }
    fn chunk(&mut self, size: u64) {
        self.line(format!("chunk {size}"));
    }
    fn body(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }
    fn trailers(&mut self, fields: http1::Fields<'_>, raw: &[u8]) {
        self.line(format!("trailers {} {raw:?}", fields.count()));
    }
    fn end(&mut self) {
        self.end_of_body();
    }
    fn tunnel(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }
    fn violation(&mut self, violation: http1::Violation) {
        self.line(format!("{violation}"));
    }
}

/// Requests and responses.
pub fn http1(bytes: &[u8]) {
    for new in [http1::Scanner::requests, http1::Scanner::responses] {
        let (mut whole, mut cut) = (Trace::default(), Trace::default());
        let (mut one, mut many) = (new(), new());
        for scanner in [&mut one, &mut many] {
            scanner.expect(http1::Answering::Other);
            scanner.expect(http1::Answering::Head);
        }
        one.feed(bytes, &mut whole);
        for piece in pieces(bytes) {
            many.feed(piece, &mut cut);
            assert!(many.memory() <= 3 * http1::MAX_HEAD);
        }
        one.close(&mut whole);
        many.close(&mut cut);
        assert_eq!(
            (whole, one.messages(), one.offset()),
            (cut, many.messages(), many.offset())
        );
    }
}

impl h2::Visitor for Trace {
    fn frame(&mut self, frame: &h2::Frame<'_>) {
        self.line(format!("{frame:?} {:?}", frame.header.flag_names().collect::<Vec<_>>()));
    }
    fn data(&mut self, _: &h2::FrameHeader, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }
    fn data_end(&mut self, _: &h2::FrameHeader) {
        self.end_of_body();
    }
    fn block(&mut self, block: &h2::Block<'_>) {
        self.line(format!("{block:?}"));
    }
    fn block_lost(&mut self) {
        self.line("lost".to_owned());
    }
    fn violation(&mut self, violation: h2::Violation) {
        self.line(format!("{violation}"));
    }
}

impl h2::Events for Trace {
    fn frame(&mut self, sender: Sender, frame: &h2::Frame<'_>, room: h2::Room) {
        self.line(format!("{sender:?} {:?} {room:?}", frame.header));
    }
    fn violation(&mut self, sender: Sender, violation: h2::Violation) {
        self.line(format!("{sender:?} {violation}"));
    }
}

/// One direction in pieces, and both directions.
pub fn frames(bytes: &[u8]) {
    for sender in [Sender::Client, Sender::Server] {
        let (mut whole, mut cut) = (Trace::default(), Trace::default());
        h2::Decoder::after_preface(sender).feed(bytes, &mut whole);
        let mut decoder = h2::Decoder::after_preface(sender);
        for piece in pieces(bytes) {
            decoder.feed(piece, &mut cut);
            assert!(decoder.memory() <= 2 * (h2::MAX_BLOCK + h2::MAX_PAYLOAD));
        }
        assert_eq!(whole, cut);
    }
    let mut connection = h2::Connection::with_streams(8);
    let mut trace = Trace::default();
    connection.feed(Sender::Client, protocol::HTTP2_PREFACE, &mut trace);
    // The first half is the client's, the rest the server's.
    let (client, server) = bytes.split_at(bytes.len() / 2);
    connection.feed(Sender::Client, client, &mut trace);
    connection.feed(Sender::Server, server, &mut trace);
    assert!(connection.open_streams() <= 8);
}

/// Blocks of a connection: two speeds, a history, and a restored table.
pub fn hpack(bytes: &[u8]) {
    let mut decoder = hpack::Decoder::new();
    let mut advancing = decoder.clone();
    let mut history = hpack::History::new(decoder.clone(), 3, 100);
    for block in bytes.split(|byte| *byte == 0xf5) {
        // A block that begins with 0xf4 is a new size that settings allow.
        if let [0xf4, size, ..] = block {
            decoder.set_allowed(u32::from(*size) * 32);
            advancing.set_allowed(u32::from(*size) * 32);
            continue;
        }
        let mut restored = hpack::Decoder::restore(&decoder.snapshot());
        let (mut list, mut again) = (Vec::new(), Vec::new());
        let show = |list: &mut Vec<_>, field: &hpack::Field<'_>| {
            assert!(field.after.size <= field.after.maximum);
            list.push((field.name.to_vec(), field.value.to_vec(), field.representation));
        };
        let done = decoder.decode(block, &mut |field: &hpack::Field<'_>| show(&mut list, field));
        let same = restored.decode(block, &mut |field: &hpack::Field<'_>| show(&mut again, field));
        assert_eq!((done, list), (same, again));
        let advanced = advancing.advance(block);
        history.push((), block);
        if done.is_err() {
            // What is skipped may be broken unseen, so the other speed may go on; it may not fail on its own.
            break;
        }
        assert!(advanced.is_ok());
        assert_eq!(decoder.snapshot(), advancing.snapshot());
        assert!(decoder.memory() <= 64 * 1024 + 4 * bytes.len());
    }
    let mut shown = 0;
    history.replay(|entry, decoder| {
        shown += 1;
        let _ = decoder.decode(entry.block, &mut |_: &hpack::Field<'_>| {});
    });
    assert_eq!(shown, history.len());
}

/// A body in pieces, and what its messages decompress to.
pub fn grpc(bytes: &[u8]) {
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut messages, mut seen) = (grpc::Messages::new(64), Vec::new());
        for piece in pieces {
            messages.feed(piece, &mut |message: &grpc::Message<'_>| {
                seen.push((message.flag, message.length, message.bytes.to_vec()))
            });
            assert!(messages.memory() <= 256);
        }
        (seen, messages.count(), messages.is_between_messages())
    };
    assert_eq!(run(&mut pieces(bytes)), run(&mut std::iter::once(bytes)));
    for encoding in [
        grpc::Encoding::Identity,
        grpc::Encoding::Gzip,
        grpc::Encoding::Deflate,
        grpc::Encoding::Zstd,
    ] {
        assert!(grpc::decompress(encoding, bytes, 1000).bytes.len() <= 1000);
    }
    let text = grpc::metadata::message(bytes);
    assert!(text.len() <= bytes.len() * 3);
    let _ = (
        grpc::metadata::status(bytes),
        grpc::metadata::timeout(bytes),
        grpc::metadata::binary(bytes),
    );
}

/// By structure, and by descriptors that every pool has: one with everything that proto2 can say, and the well-known types.
pub fn protobuf(bytes: &[u8]) {
    let limits = Limits { size: 2000, depth: 8 };
    let check = |json: protobuf::Json| {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&json.text);
        assert!(parsed.is_ok(), "{:?}: {}", parsed, json.text);
        assert!(json.text.len() <= limits.size + JSON_SLACK);
    };
    check(protobuf::by_structure(bytes, limits, &mut |_: &Place<'_>| None));
    let pool = DescriptorPool::global();
    for name in [
        "FileDescriptorProto",
        "Struct",
        "Any",
        "Timestamp",
        "Duration",
        "FieldMask",
        "DoubleValue",
    ] {
        let descriptor = pool
            .get_message_by_name(&format!("google.protobuf.{name}"))
            .expect("a well-known type");
        check(protobuf::by_descriptor(&descriptor, bytes, limits, &mut |_: &Place<
            '_,
        >| {
            None
        }));
        // Where everything is hidden, nothing is seen.
        let hidden = protobuf::by_descriptor(&descriptor, bytes, limits, &mut |_: &Place<'_>| Some(String::new()));
        check(hidden);
    }
}
