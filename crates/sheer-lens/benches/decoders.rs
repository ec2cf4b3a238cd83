//! What it costs to follow traffic: `cargo bench -p sheer-lens`. Nanoseconds, the best of many rounds, beside other decoders of HPACK in the same run.

use std::{hint::black_box, time::Instant};

use httlib_hpack::Encoder;
use sheer_lens::{
    grpc,
    h2::{Block, Connection, Decoder as Frames, Events, Sender, Visitor},
    hpack::{Decoder, Field},
    http1, protobuf,
};

const ROUNDS: usize = 200;
const TIMES: usize = 500;

fn main() {
    println!(
        "{:<44} {:>10} {:>10} {:>14}",
        "header block, ns", "decode", "advance", "httlib-hpack"
    );
    for (name, list) in [
        ("gRPC request, 13 fields", grpc_request()),
        ("the same with a 6 KiB token", with_token()),
    ] {
        row(&format!("{name}: all literal, Huffman"), &[], &block(&list, HUFFMAN));
        let mut encoder = Encoder::default();
        let first = encode(
            &mut encoder,
            &list,
            HUFFMAN | Encoder::WITH_INDEXING | Encoder::BEST_FORMAT,
        );
        let later = encode(&mut encoder, &list, HUFFMAN | Encoder::BEST_FORMAT);
        row(&format!("{name}: indexed ({} B)", later.len()), &first, &later);
    }
    let (first, later) = mixed();
    row(
        &format!("13 indexed, 4 new ids each time ({} B)", later.len()),
        &first,
        &later,
    );
    println!("\n{:<44} {:>10}", "frames, ns a frame", "ns");
    frames();
    println!("\n{:<44} {:>10}", "others", "ns");
    others();
}

fn best(mut run: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..TIMES {
            run();
        }
        best = best.min(began.elapsed().as_nanos() as f64 / TIMES as f64);
    }
    best
}

/// One block after another that filled the table.
fn row(name: &str, first: &[u8], block: &[u8]) {
    let mut decoder = Decoder::new();
    decoder.decode(first, &mut |_: &Field<'_>| {}).expect("a valid block");
    let mut advancing = decoder.clone();
    let decode = best(|| {
        let mut bytes = 0;
        let done = decoder.decode(black_box(block), &mut |field: &Field<'_>| {
            bytes += field.name.len() + field.value.len()
        });
        black_box((bytes, done.expect("a valid block").fields));
    });
    let advance = best(|| {
        black_box(advancing.advance(black_box(block)).expect("a valid block").fields);
    });
    let mut peer = httlib_hpack::Decoder::default();
    let mut list = Vec::new();
    peer.decode(&mut first.to_vec(), &mut list).expect("a valid block");
    let httlib = best(|| {
        list.clear();
        peer.decode(&mut black_box(block).to_vec(), &mut list)
            .expect("a valid block");
    });
    println!("{name:<44} {decode:>10.1} {advance:>10.1} {httlib:>14.1}");
}

type List = Vec<(&'static [u8], Vec<u8>)>;

fn grpc_request() -> List {
    let fields: [(&str, &str); 13] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/bank.v1.Ledger/Transfer"),
        (":authority", "ledger.bank.svc.cluster.local:8080"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "tonic/0.14.2"),
        ("grpc-timeout", "1S"),
        ("grpc-accept-encoding", "identity,gzip"),
        ("accept-encoding", "identity"),
        (
            "l5d-client-id",
            "payments.bank.serviceaccount.identity.sheer.cluster.local",
        ),
        ("x-tenant", "tenant-17"),
        ("x-environment", "production"),
    ];
    fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes().to_vec()))
        .collect()
}

fn with_token() -> List {
    let mut list = grpc_request();
    let token = (0..6 * 1024)
        .map(|i: usize| b"eyJhbGciOiJSUzI1NiIsImtpZCI6"[i * 7 % 28])
        .collect();
    list.push((b"authorization", token));
    list
}

/// Strings in Huffman code, in literals that leave the table alone, so that each round sees the same.
const HUFFMAN: u8 = Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE;

fn encode(encoder: &mut Encoder<'_>, list: &List, flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        encoder
            .encode((name.to_vec(), value.clone(), flags), &mut block)
            .expect("a field");
    }
    block
}

fn block(list: &List, flags: u8) -> Vec<u8> {
    encode(&mut Encoder::default(), list, flags)
}

/// As a busy client sends it: most fields indexed, ids of the request and the trace as new entries, which move the others on by four each time. So
/// the block names no entry but the static ones and, from a table that the first block filled, those that stay.
fn mixed() -> (Vec<u8>, Vec<u8>) {
    let ids = [
        ("x-request-id", "4f0c9a52-8a9e-4dd0-9b33-51ac3c6a0f17"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-b3-spanid", "00f067aa0ba902b7"),
        ("x-account", "DE89370400440532013000"),
    ];
    let ids: List = ids
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes().to_vec()))
        .collect();
    let new = block(&ids, HUFFMAN | Encoder::WITH_INDEXING);
    let indexed = [
        0x83, 0x86, 0x84, 0x88, 0x90, 0xbe, 0xbf, 0xc0, 0xc1, 0xbe, 0xbf, 0xc0, 0xc1,
    ];
    (new.clone(), [&indexed[..], &new].concat())
}

/// A request of HTTP/1 with nine fields; a gRPC message and its JSON.
fn others() {
    let head = b"POST /v1/accounts/17/transfers HTTP/1.1\r\nHost: ledger.bank.svc.cluster.local:8080\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\
        Content-Type: application/json\r\nContent-Length: 10\r\nX-Request-Id: 4f0c9a52-8a9e-4dd0-9b33-51ac3c6a0f17\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
        X-Tenant: tenant-17\r\n\r\n0123456789";
    let mut scanner = http1::Scanner::requests();
    let request = best(|| scanner.feed(black_box(head), &mut Nothing));
    println!(
        "{:<44} {request:>10.1}",
        format!("HTTP/1 request, 9 fields ({} B)", head.len())
    );
    assert_eq!(scanner.messages(), (ROUNDS * TIMES) as u64);
    let message = [
        &[0x0a, 0x08][..],
        b"DE893704",
        &[0x12, 0x08],
        b"FR763000",
        &[0x18, 0xb9, 0x60, 0x22, 0x03],
        b"EUR",
        &[0x2a, 0x04, 0x08, 0x01, 0x10, 0x02],
    ]
    .concat();
    let framed = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
    let mut messages = grpc::Messages::new(1024);
    let scan = best(|| {
        messages.feed(black_box(&framed), &mut |message: &grpc::Message<'_>| {
            black_box(message.length);
        })
    });
    println!("{:<44} {scan:>10.1}", "gRPC message, its frame only");
    let json = best(|| {
        black_box(
            protobuf::by_structure(
                black_box(&message),
                protobuf::Limits::default(),
                &mut |_: &protobuf::Place<'_>| None,
            )
            .text
            .len(),
        );
    });
    println!("{:<44} {json:>10.1}", "the same to JSON by structure");
}

struct Nothing;
impl http1::Visitor for Nothing {}
impl Visitor for Nothing {
    fn block(&mut self, block: &Block<'_>) {
        black_box(block.bytes.len());
    }
}
impl Events for Nothing {}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A unary call: head, body, window updates, and what answers them.
fn frames() {
    let head: Vec<u8> = vec![
        0x83, 0x86, 0xc0, 0xc1, 0xbf, 0xc2, 0xc3, 0xbe, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8,
    ];
    let exchange = |id: u32| {
        let client = [
            frame(1, 4, id, &head),
            frame(0, 1, id, &[0; 200]),
            frame(8, 0, 0, &[0, 0, 0, 200]),
        ]
        .concat();
        let server = [
            frame(1, 4, id, &[0x88, 0xbf]),
            frame(0, 0, id, &[0; 200]),
            frame(1, 5, id, &[0xbe]),
            frame(8, 0, 0, &[0, 0, 0, 200]),
        ]
        .concat();
        (client, server)
    };
    let exchanges: Vec<_> = (0..1000).map(|i| exchange(i * 2 + 1)).collect();
    let per_frame = |total: f64| total / 7000.0;
    let time = |run: &mut dyn FnMut()| {
        (0..20).fold(f64::MAX, |best, _| {
            let began = Instant::now();
            run();
            best.min(began.elapsed().as_nanos() as f64)
        })
    };
    let alone = time(&mut || {
        let (mut client, mut server) = (
            Frames::after_preface(Sender::Client),
            Frames::after_preface(Sender::Server),
        );
        for (request, response) in &exchanges {
            client.feed(request, &mut Nothing);
            server.feed(response, &mut Nothing);
        }
        black_box((client.frames(), server.frames()));
    });
    println!("{:<44} {:>10.1}", "one direction (h2::Decoder)", per_frame(alone));
    let list = grpc_request();
    let first = block(&list, HUFFMAN | Encoder::WITH_INDEXING);
    for (name, streams) in [
        ("both, tables, connection windows", 0),
        ("both, tables, windows of all streams", 4096),
    ] {
        let both = time(&mut || {
            let mut connection = Connection::with_streams(streams);
            connection.feed(Sender::Client, sheer_lens::protocol::HTTP2_PREFACE, &mut Nothing);
            connection.feed(
                Sender::Client,
                &[frame(4, 0, 0, &[]), frame(1, 5, 1, &first)].concat(),
                &mut Nothing,
            );
            connection.feed(
                Sender::Server,
                &[frame(4, 0, 0, &[]), frame(1, 5, 1, &first)].concat(),
                &mut Nothing,
            );
            for (request, response) in &exchanges {
                connection.feed(Sender::Client, request, &mut Nothing);
                connection.feed(Sender::Server, response, &mut Nothing);
            }
            black_box(connection.open_streams());
        });
        println!("{name:<44} {:>10.1}", per_frame(both));
    }
}
