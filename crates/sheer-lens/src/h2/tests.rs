//! Frames by RFC 9113: what each says, what each may not, and that pieces change nothing.

use proptest::prelude::*;

use super::{fields::*, *};
use crate::{hpack, protocol::HTTP2_PREFACE};

/// A frame, written out.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = list
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(4, 0, 0, &payload)
}

const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
/// `:method: GET`, `:scheme: http`, `:path: /`, as indices.
const GET: &[u8] = &[0x82, 0x86, 0x84];

/// A trace of everything, one line an event; slices of a body are joined.
#[derive(Debug, Default, PartialEq)]
struct Trace {
    lines: Vec<String>,
    data: Vec<u8>,
    rules: Vec<Rule>,
}

impl Trace {
    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    fn show(&mut self, frame: &Frame<'_>) {
        let header = frame.header;
        let flags: Vec<_> = header.flag_names().collect();
        let padding = frame.padding.map_or(String::new(), |padding| format!(" +{padding}"));
        self.line(format!(
            "{} {} {}{padding} {:?}",
            header.kind,
            header.stream,
            flags.join("|"),
            frame.payload
        ));
    }
}

impl Visitor for Trace {
    fn preface(&mut self) {
        self.line("preface".to_owned());
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        self.show(frame);
    }

    fn data(&mut self, _: &FrameHeader, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    fn data_end(&mut self, _: &FrameHeader) {
        let data = std::mem::take(&mut self.data);
        self.line(format!("data {}", String::from_utf8_lossy(&data)));
    }

    fn block(&mut self, block: &Block<'_>) {
        self.line(format!(
            "block {} {:?} at {} of {}: {:02x?}",
            block.stream, block.kind, block.offset, block.frames, block.bytes
        ));
    }

    fn block_lost(&mut self) {
        self.line("block lost".to_owned());
    }

    fn violation(&mut self, violation: Violation) {
        self.rules.push(violation.rule);
        self.line(format!("violation {violation}"));
    }
}

impl Events for Trace {
    fn frame(&mut self, _: Sender, frame: &Frame<'_>, room: Room) {
        self.show(frame);
        if matches!(frame.header.kind, Kind::Data | Kind::WindowUpdate) {
            self.line(format!("room {} {:?}", room.connection, room.stream));
        }
    }

    fn block(&mut self, _: Sender, block: &Block<'_>, hpack: &mut hpack::Decoder) -> Result<(), hpack::Error> {
        let mut lines = Vec::new();
        let done = hpack.decode(block.bytes, &mut |field: &hpack::Field<'_>| {
            lines.push(format!(
                "{}: {}",
                String::from_utf8_lossy(field.name),
                String::from_utf8_lossy(field.value)
            ));
        });
        self.line(format!("list {} {}", block.stream, lines.join(", ")));
        done.map(drop)
    }

    fn violation(&mut self, _: Sender, violation: Violation) {
        Visitor::violation(self, violation);
    }
}

fn trace(decoder: &mut Decoder, bytes: &[u8]) -> Trace {
    let mut trace = Trace::default();
    decoder.feed(bytes, &mut trace);
    trace
}

/// The rules that these frames of a client break, after an honest beginning.
fn broken(frames: &[Vec<u8>]) -> Vec<Rule> {
    let mut decoder = Decoder::new(Sender::Client);
    assert_eq!(
        trace(&mut decoder, &[HTTP2_PREFACE.as_slice(), &settings(&[])].concat()).rules,
        []
    );
    trace(&mut decoder, &frames.concat()).rules
}

#[test]
fn every_type_is_read() {
    let bytes = [
        HTTP2_PREFACE.to_vec(),
        settings(&[(3, 100), (0x99, 7)]),
        frame(
            1,
            flags::END_HEADERS | flags::PADDED | flags::PRIORITY,
            1,
            &[2, 0x80, 0, 0, 3, 15, 0x82, 0, 0],
        ),
        frame(0, flags::PADDED, 1, b"\x03hi...."),
        frame(0, flags::END_STREAM, 1, b"bye"),
        frame(2, 0, 3, &[0, 0, 0, 1, 200]),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(5, flags::END_HEADERS, 1, &[0, 0, 0, 2, 0x84]),
        frame(6, flags::ACK, 0, b"12345678"),
        frame(8, 0, 0, &[0x80, 0, 1, 0]),
        frame(0xa, 0, 0, b"\x00\x01ah3"),
        frame(0xc, 0, 0, b"\x00\x01a"),
        frame(0x10, 0, 0, b"\x00\x00\x00\x05u=1"),
        frame(0xfa, 0xff, 9, b"?"),
        frame(7, 0, 0, b"\x00\x00\x00\x01\x00\x00\x00\x0bcalm"),
    ]
    .concat();
    let mut decoder = Decoder::new(Sender::Client);
    insta::assert_snapshot!(trace(&mut decoder, &bytes).lines.join("\n"));
    assert!(decoder.is_between_frames() && decoder.open_block().is_none());
    assert_eq!((decoder.offset(), decoder.frames()), (bytes.len() as u64, 14));
}

#[test]
fn fragments_are_joined() {
    let bytes = [
        frame(1, flags::END_STREAM, 1, &GET[..1]),
        frame(9, 0, 1, &[]),
        frame(9, flags::END_HEADERS, 1, &GET[1..]),
    ]
    .concat();
    let mut decoder = Decoder::after_preface(Sender::Client);
    decoder.feed(&settings(&[]), &mut Trace::default());
    let seen = trace(&mut decoder, &bytes[..14]);
    assert_eq!((decoder.open_block(), seen.rules.len()), (Some(1), 0));
    let seen = trace(&mut decoder, &bytes[14..]);
    assert_eq!(
        seen.lines.last().unwrap(),
        "block 1 Headers { end_stream: true } at 9 of 3: [82, 86, 84]"
    );
}

/// Each rule that one side's frames alone can break. What can be read is read on.
#[test]
fn rules_of_frames() {
    for (frames, rules) in [
        (vec![frame(0, 0, 0, b"x")], vec![Rule::StreamZero]),
        (vec![frame(4, 0, 1, &[])], vec![Rule::StreamNotZero]),
        (vec![frame(0, flags::PADDED, 1, &[9, 0])], vec![Rule::PaddingTooLong]),
        (vec![frame(0, flags::PADDED, 1, &[])], vec![Rule::PayloadTooShort]),
        (
            vec![frame(1, flags::PADDED | flags::END_HEADERS, 1, &[9, 0])],
            vec![Rule::PaddingTooLong, Rule::BlockLost],
        ),
        (
            vec![frame(1, flags::PRIORITY | flags::END_HEADERS, 1, &[0; 4])],
            vec![Rule::PayloadTooShort, Rule::BlockLost],
        ),
        (vec![frame(2, 0, 1, &[0; 4])], vec![Rule::PriorityLength]),
        (vec![frame(3, 0, 1, &[0; 5])], vec![Rule::RstStreamLength]),
        (vec![frame(4, 0, 0, &[0; 5])], vec![Rule::SettingsLength]),
        (vec![frame(4, flags::ACK, 0, &[0; 6])], vec![Rule::SettingsAckPayload]),
        (vec![settings(&[(2, 2)])], vec![Rule::EnablePush]),
        (vec![settings(&[(4, 1 << 31)])], vec![Rule::InitialWindowSize]),
        (vec![settings(&[(5, 100)])], vec![Rule::MaxFrameSize]),
        (vec![frame(6, 0, 0, &[0; 7])], vec![Rule::PingLength]),
        (vec![frame(7, 0, 0, &[0; 7])], vec![Rule::PayloadTooShort]),
        (vec![frame(8, 0, 0, &[0; 3])], vec![Rule::WindowUpdateLength]),
        (vec![frame(8, 0, 0, &[0x80, 0, 0, 0])], vec![Rule::WindowUpdateZero]),
        (
            vec![frame(9, flags::END_HEADERS, 1, GET)],
            vec![Rule::ContinuationUnexpected],
        ),
        (
            vec![frame(1, 0, 1, GET), frame(6, 0, 0, &[0; 8])],
            vec![Rule::ContinuationExpected],
        ),
        (
            vec![frame(1, 0, 1, GET), frame(9, 0, 3, &[])],
            vec![Rule::ContinuationExpected],
        ),
        (
            vec![frame(1, 0, 1, GET), frame(1, 0, 3, GET)],
            vec![Rule::ContinuationExpected, Rule::BlockLost],
        ),
        (vec![frame(0, 0, 1, &[0; 16_385])], vec![Rule::FrameTooLarge]),
        (vec![frame(0x77, 0, 1, &[0; 16_385])], vec![Rule::FrameTooLarge]),
    ] {
        assert_eq!(
            broken(&frames),
            rules,
            "{:02x?}",
            &frames.concat()[..20.min(frames.concat().len())]
        );
    }
    assert_eq!(
        trace(&mut Decoder::new(Sender::Server), &frame(6, 0, 0, &[0; 8])).rules,
        [Rule::FirstFrame]
    );
    assert_eq!(
        trace(&mut Decoder::new(Sender::Server), SETTINGS_ACK).rules,
        [Rule::FirstFrame]
    );
    assert_eq!(
        trace(&mut Decoder::new(Sender::Server), &settings(&[(2, 1)])).rules,
        [Rule::EnablePush]
    );
    let mut lost = Decoder::new(Sender::Client);
    assert_eq!(
        trace(&mut lost, b"PRI * HTTP/1.1").lines,
        ["violation a client's first bytes are not the connection preface (RFC 9113, 3.4), on stream 0 at byte 0"]
    );
    assert!(lost.is_lost() && trace(&mut lost, &settings(&[])).lines.is_empty());
}

#[test]
fn memory_is_bounded() {
    // A block that never ends, and a payload of 16 MiB.
    let mut decoder = Decoder::new(Sender::Server);
    let mut seen = Trace::default();
    decoder.feed(&[settings(&[]), frame(1, 0, 1, &[0; 16_000])].concat(), &mut seen);
    for _ in 0..40 {
        decoder.feed(&frame(9, 0, 1, &[0; 16_000]), &mut Trace::default());
        assert!(decoder.memory() <= 2 * MAX_BLOCK);
    }
    decoder.feed(&frame(9, flags::END_HEADERS, 1, &[]), &mut seen);
    assert!(
        !seen.lines.iter().any(|line| line.starts_with("block")),
        "{:?}",
        seen.lines
    );
    let mut dropped = 0;
    let mut dropping = Decoder::after_preface(Sender::Server);
    struct Dropped<'a>(&'a mut u32);
    impl Visitor for Dropped<'_> {
        fn frame(&mut self, frame: &Frame<'_>) {
            *self.0 += frame.dropped;
        }
    }
    dropping.feed(&[0xff, 0xff, 0xff, 0x77, 0, 0, 0, 0, 0], &mut Dropped(&mut dropped));
    for _ in 0..=(1 << 24) / 10_000 {
        dropping.feed(&[0; 10_000], &mut Dropped(&mut dropped));
        assert!(dropping.memory() <= 2 * MAX_PAYLOAD);
    }
    assert!(
        dropped as usize >= (1 << 24) - 1 - MAX_PAYLOAD && dropping.memory() <= 4096,
        "{dropped}"
    );
}

/// A client and a server, in the order in which one of them reads and writes.
fn exchange(connection: &mut Connection, steps: &[(Sender, Vec<u8>)]) -> Trace {
    let mut trace = Trace::default();
    for (sender, bytes) in steps {
        connection.feed(*sender, bytes, &mut trace);
    }
    trace
}

fn hello(client: &[(u16, u32)], server: &[(u16, u32)]) -> Vec<(Sender, Vec<u8>)> {
    vec![
        (Sender::Client, [HTTP2_PREFACE.as_slice(), &settings(client)].concat()),
        (Sender::Server, [settings(server), SETTINGS_ACK.to_vec()].concat()),
        (Sender::Client, SETTINGS_ACK.to_vec()),
    ]
}

#[test]
fn settings_count_from_their_acknowledgement() {
    use Sender::{Client, Server};
    let mut connection = Connection::new();
    let mut steps = hello(&[(4, 10)], &[(1, 100), (3, 1)]);
    let ack = steps.pop().unwrap();
    exchange(&mut connection, &steps);
    assert_eq!(
        (
            connection.hpack(Client).snapshot().allowed,
            connection.settings(Client).initial_window_size
        ),
        (4096, 10)
    );
    // The client may still use the whole table; from its acknowledgement on its next block has to begin with the smaller size.
    let get = |id| (Client, frame(1, flags::END_HEADERS | flags::END_STREAM, id, GET));
    assert_eq!(exchange(&mut connection, &[get(1)]).rules, []);
    let seen = exchange(&mut connection, &[ack, get(3)]);
    assert_eq!(seen.rules, [Rule::TooManyStreams]);
    assert_eq!(connection.hpack(Client).snapshot().allowed, 100);
    assert_eq!(connection.settings(Server).max_concurrent_streams, Some(1));
    let unasked = exchange(&mut connection, &[(Server, SETTINGS_ACK.to_vec())]);
    assert_eq!(unasked.rules, [Rule::SettingsAckUnasked]);
    // Settings that nobody acknowledges take no memory.
    let flood: Vec<_> = (0..1000).map(|i| (Server, settings(&[(4, i)]))).collect();
    exchange(&mut connection, &flood);
    assert!(
        connection.memory() < MAX_PENDING_SETTINGS * 100 + 1000,
        "{}",
        connection.memory()
    );
}

#[test]
fn windows_of_connection_and_streams() {
    use Sender::{Client, Server};
    let mut connection = Connection::new();
    exchange(&mut connection, &hello(&[], &[(4, 10)]));
    let head = (Client, frame(1, flags::END_HEADERS, 1, GET));
    let data = |length: usize| (Client, frame(0, 0, 1, &vec![b'x'; length]));
    let seen = exchange(&mut connection, &[head, data(7), data(4)]);
    assert_eq!(seen.rules, [Rule::StreamWindowExceeded]);
    assert_eq!(connection.stream_window(1, Client), Some(-1));
    let update = |stream, by: u32| (Server, frame(8, 0, stream, &by.to_be_bytes()));
    let seen = exchange(&mut connection, &[update(1, 100_000), update(0, 5), update(7, 1)]);
    assert_eq!(
        seen.lines[1..=3],
        [
            "room 65524 Some(99999)",
            "WINDOW_UPDATE 0  WindowUpdate { increment: 5 }",
            "room 65529 None"
        ]
    );
    assert_eq!(seen.rules, [Rule::StreamIdle]);
    assert_eq!((connection.window(Client), connection.window(Server)), (65_529, 65_535));
    let seen = exchange(
        &mut connection,
        &[data(16_000), data(16_000), data(16_000), data(16_000), data(1530)],
    );
    assert_eq!(seen.rules, [Rule::WindowExceeded]);
    let seen = exchange(&mut connection, &[update(0, 0x7fff_ffff), update(0, 2)]);
    assert_eq!(seen.rules, [Rule::WindowTooLarge]);
    // A changed initial window moves open streams (RFC 9113, 6.9.2).
    let before = connection.stream_window(1, Client).unwrap();
    exchange(
        &mut connection,
        &[(Server, settings(&[(4, 4)])), (Client, SETTINGS_ACK.to_vec())],
    );
    assert_eq!(connection.stream_window(1, Client), Some(before - 6));
}

#[test]
fn rules_of_streams() {
    use Sender::{Client, Server};
    let head = |sender, id, flags| (sender, frame(1, flags::END_HEADERS | flags, id, GET));
    let reset = |sender, id| (sender, frame(3, 0, id, &[0, 0, 0, 8]));
    let promise = |id: u32| {
        (
            Server,
            frame(5, flags::END_HEADERS, 1, &[&id.to_be_bytes()[..], GET].concat()),
        )
    };
    for (steps, rules) in [
        (vec![head(Client, 2, 0)], vec![Rule::StreamParity]),
        (vec![head(Server, 1, 0)], vec![Rule::StreamIdle]),
        (vec![(Client, frame(0, 0, 1, b"x"))], vec![Rule::StreamIdle]),
        (vec![reset(Client, 1)], vec![Rule::RstStreamIdle]),
        (
            vec![head(Client, 1, flags::END_STREAM), head(Client, 1, 0)],
            vec![Rule::StreamEnded],
        ),
        (
            vec![head(Client, 1, flags::END_STREAM), (Client, frame(0, 0, 1, b"x"))],
            vec![Rule::StreamEnded],
        ),
        // What was on its way when the other side reset the stream is no fault.
        (
            vec![head(Client, 1, 0), reset(Server, 1), (Client, frame(0, 0, 1, b"x"))],
            vec![],
        ),
        (
            vec![
                head(Client, 1, 0),
                head(Client, 1, flags::END_STREAM),
                head(Server, 1, flags::END_STREAM),
            ],
            vec![],
        ),
        (
            vec![head(Client, 1, 0), promise(2), head(Server, 2, flags::END_STREAM)],
            vec![],
        ),
        (vec![head(Client, 1, 0), promise(3)], vec![Rule::PromisedStream]),
        (
            vec![
                head(Client, 1, 0),
                (Client, frame(5, flags::END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
            ],
            vec![Rule::PushByClient],
        ),
        (
            vec![
                (Server, frame(7, 0, 0, &[0; 8])),
                (Server, frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])),
            ],
            vec![Rule::GoAwayRaised],
        ),
    ] {
        let mut connection = Connection::new();
        exchange(&mut connection, &hello(&[], &[]));
        assert_eq!(exchange(&mut connection, &steps).rules, rules);
    }
    let mut connection = Connection::new();
    exchange(&mut connection, &hello(&[(2, 0)], &[]));
    assert_eq!(
        exchange(&mut connection, &[head(Client, 1, 0), promise(2)]).rules,
        [Rule::PushDisabled]
    );
    assert_eq!(connection.open_streams(), 2);
    // The answer to a request that came before the upgrade.
    let mut connection = Connection::upgraded();
    exchange(&mut connection, &hello(&[], &[]));
    assert_eq!(
        exchange(&mut connection, &[head(Server, 1, flags::END_STREAM)]).rules,
        []
    );
    assert_eq!(connection.open_streams(), 0);
}

#[test]
fn a_block_that_cannot_be_decoded_is_told_and_so_are_those_after_it() {
    let mut connection = Connection::new();
    let mut steps = hello(&[], &[]);
    steps.push((Sender::Client, frame(1, flags::END_HEADERS, 1, &[0x82, 0xbe])));
    steps.push((Sender::Client, frame(1, flags::END_HEADERS, 3, GET)));
    let seen = exchange(&mut connection, &steps);
    let [Rule::Compression(first), Rule::Compression(second)] = seen.rules[..] else {
        panic!("{:?}", seen.rules)
    };
    assert_eq!(
        first.kind,
        hpack::ErrorKind::IndexBeyondTable { index: 62, entries: 61 }
    );
    assert_eq!(
        (second.kind, seen.rules[1].scope()),
        (hpack::ErrorKind::TableUnknown, Scope::Lens)
    );
}

#[test]
fn rules_of_lists() {
    let check = |list, fields: &[(&str, &str)]| {
        let mut checker = Checker::new(list);
        let mut rules: Vec<_> = fields
            .iter()
            .filter_map(|(name, value)| checker.field(name.as_bytes(), value.as_bytes()))
            .collect();
        rules.extend(checker.finish());
        rules
    };
    let get = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    let with = |field| check(List::Request, &[&get[..], &[field]].concat());
    assert_eq!(check(List::Request, &get), []);
    for (field, rule) in [
        (("Accept", "*/*"), FieldRule::Uppercase),
        (("a b", ""), FieldRule::Name),
        (("", ""), FieldRule::Name),
        (("a", "b\nc"), FieldRule::Value),
        (("a", " b"), FieldRule::Value),
        (("transfer-encoding", "chunked"), FieldRule::ConnectionSpecific),
        (("te", "gzip"), FieldRule::Te),
        ((":status", "200"), FieldRule::PseudoUnknown),
        ((":host", "a"), FieldRule::PseudoUnknown),
        ((":path", "/"), FieldRule::PseudoRepeated),
    ] {
        assert_eq!(with(field), [rule], "{field:?}");
    }
    assert_eq!(with(("te", "trailers")), []);
    assert_eq!(
        check(List::Request, &[(":method", "GET"), (":path", "")]),
        [FieldRule::PathEmpty, FieldRule::PseudoMissing(":scheme")]
    );
    assert_eq!(
        check(List::Request, &[(":method", "CONNECT"), (":authority", "a:1")]),
        []
    );
    assert_eq!(
        check(List::Request, &[(":method", "CONNECT"), (":path", "/")]),
        [FieldRule::Connect]
    );
    assert_eq!(
        check(List::Response, &[("a", "b"), (":status", "200")]),
        [FieldRule::PseudoLate]
    );
    assert_eq!(check(List::Response, &[(":status", "2xx")]), [FieldRule::Status]);
    assert_eq!(check(List::Response, &[]), [FieldRule::PseudoMissing(":status")]);
    assert_eq!(
        check(List::Trailers, &[(":status", "200")]),
        [FieldRule::PseudoInTrailers]
    );
    let lengths = [(":status", "200"), ("content-length", "1"), ("content-length", "2")];
    assert_eq!(check(List::Response, &lengths), [FieldRule::ContentLength]);
}

/// Frames that look real often enough to get deep, and bytes that do not.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let payload = || proptest::collection::vec(any::<u8>(), 0..40);
    let real = (
        0u8..14,
        prop_oneof![Just(0u8), Just(0x4), Just(0x5), any::<u8>()],
        0u32..6,
        payload(),
    )
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    let huge = (1u8..14, 0u32..3).prop_map(|(kind, stream)| frame(kind, 0, stream, &vec![b'x'; MAX_PAYLOAD + 3]));
    let piece = prop_oneof![20 => real, 1 => huge, 2 => payload(), 2 => Just(settings(&[(1, 50), (5, 20_000)])), 2 => Just(SETTINGS_ACK.to_vec())];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any bytes, in any pieces: the same facts as in one piece.
    #[test]
    fn pieces_change_nothing(bytes in traffic(), cuts in proptest::collection::vec(1usize..60, 1..50), is_client: bool) {
        let bytes = if is_client { [HTTP2_PREFACE.as_slice(), &bytes].concat() } else { bytes };
        let sender = if is_client { Sender::Client } else { Sender::Server };
        let whole = trace(&mut Decoder::new(sender), &bytes);
        let mut pieces = Trace::default();
        let mut decoder = Decoder::new(sender);
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            decoder.feed(now, &mut pieces);
            prop_assert!(decoder.memory() <= 2 * (MAX_BLOCK + MAX_PAYLOAD));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&whole.lines, &pieces.lines);
        prop_assert_eq!(decoder.offset(), bytes.len() as u64);
    }

    /// Both directions of anything: no panic, and memory keeps its bounds.
    #[test]
    fn any_connection_is_followed(steps in proptest::collection::vec((any::<bool>(), traffic()), 1..8)) {
        let mut connection = Connection::with_streams(16);
        let mut seen = Trace::default();
        connection.feed(Sender::Client, HTTP2_PREFACE, &mut seen);
        for (is_client, bytes) in steps {
            connection.feed(if is_client { Sender::Client } else { Sender::Server }, &bytes, &mut seen);
            prop_assert!(connection.open_streams() <= 16 && connection.memory() < 2 * (2 * MAX_BLOCK + 2 * MAX_PAYLOAD));
        }
    }
}
