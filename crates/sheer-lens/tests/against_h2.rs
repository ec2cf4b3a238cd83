//! The lens beside the `h2` crate: a client and a server of it talk over a pipe, the lens reads the bytes, and both have to have seen the same.
//!
//! Lists are random, with repeated names, repeated fields, secrets, values that need CONTINUATION, and tables of every size. Honest traffic breaks no
//! rule, so the lens may not report one.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use sheer_lens::{
    h2::{Block, Connection, Events, FrameHeader, Sender, Violation, fields::Checker, fields::List},
    hpack,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

const CONNECTIONS: u64 = 60;
const REQUESTS: u64 = 30;
/// Requests that are on their way at once.
const AT_ONCE: u64 = 5;

/// What the client's side of the pipe read and wrote, in that order.
type Tape = Arc<Mutex<Vec<(Sender, Vec<u8>)>>>;

struct Tee {
    pipe: DuplexStream,
    tape: Tape,
}

impl Tee {
    fn note(&self, sender: Sender, bytes: &[u8]) {
        self.tape
            .lock()
            .expect("nobody panicked")
            .push((sender, bytes.to_vec()));
    }
}

impl AsyncRead for Tee {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.pipe).poll_read(cx, buf);
        self.note(Sender::Server, &buf.filled()[before..]);
        outcome
    }
}

impl AsyncWrite for Tee {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.pipe).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = outcome {
            self.note(Sender::Client, &bytes[..written]);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Numbers without end, the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn text(&mut self, length: u64, alphabet: &[u8]) -> Vec<u8> {
        (0..length)
            .map(|_| alphabet[self.below(alphabet.len() as u64) as usize])
            .collect()
    }

    fn value(&mut self) -> HeaderValue {
        let printable: Vec<u8> = (0x21..0x7f).chain(0x80..=0xff).collect();
        let bytes = match self.below(20) {
            0..8 => {
                return HeaderValue::from_static(
                    ["", "0", "application/grpc", "trailers", "gzip"][self.below(5) as usize],
                );
            }
            8..15 => {
                let length = self.below(50);
                self.text(length, b"abcdefghijklmnop0123456789-_=/+")
            }
            15..19 => {
                let length = self.below(200);
                self.text(length, &printable)
            }
            _ => {
                let length = self.below(40_000);
                self.text(length, b"abcdefgh!~")
            }
        };
        let mut value = HeaderValue::from_bytes(&bytes).expect("a value");
        value.set_sensitive(self.below(10) == 0);
        value
    }

    fn headers(&mut self, earlier: &mut Vec<(HeaderName, HeaderValue)>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.below(12) {
            let (name, value) = if !earlier.is_empty() && self.below(3) > 0 {
                earlier[self.below(earlier.len() as u64) as usize].clone()
            } else {
                let name = [
                    "x-a",
                    "x-b",
                    "set-cookie",
                    "cookie",
                    "user-agent",
                    "grpc-status",
                    "accept",
                    "x-request-id",
                ][self.below(8) as usize];
                (HeaderName::from_static(name), self.value())
            };
            let times = if value.len() < 1000 {
                [1, 1, 1, 2, 5][self.below(5) as usize]
            } else {
                1
            };
            for _ in 0..times {
                headers.append(name.clone(), value.clone());
            }
            if value.len() < 1000 {
                earlier.push((name, value));
            }
        }
        headers
    }
}

/// A list by name, values in order: all that a `HeaderMap` still knows.
type ByName = BTreeMap<String, Vec<Vec<u8>>>;

fn by_name<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> ByName {
    let mut names = ByName::new();
    for (name, value) in fields {
        names.entry(name.to_owned()).or_default().push(value.to_vec());
    }
    names
}

fn of_map(map: &HeaderMap, pseudo: &[(&str, &str)]) -> ByName {
    let pseudo = pseudo.iter().map(|(name, value)| (*name, value.as_bytes()));
    by_name(pseudo.chain(map.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))))
}

/// What came with a stream in one direction: its lists in order, and its body.
type Exchanges = HashMap<(bool, u32), (Vec<ByName>, Vec<u8>)>;

/// What the lens saw.
#[derive(Default)]
struct Lens {
    seen: Exchanges,
    frames_of_longest: u32,
    violations: Vec<Violation>,
}

impl Events for Lens {
    fn data(&mut self, sender: Sender, header: &FrameHeader, bytes: &[u8]) {
        self.seen
            .entry((sender == Sender::Client, header.stream))
            .or_default()
            .1
            .extend_from_slice(bytes);
    }

    fn block(&mut self, sender: Sender, block: &Block<'_>, hpack: &mut hpack::Decoder) -> Result<(), hpack::Error> {
        let entry = self.seen.entry((sender == Sender::Client, block.stream)).or_default();
        let list = match (sender, entry.0.len()) {
            (Sender::Client, 0) => List::Request,
            (Sender::Server, 0) => List::Response,
            _ => List::Trailers,
        };
        let (mut fields, mut checker) = (Vec::new(), Checker::new(list));
        hpack.decode(block.bytes, &mut |field: &hpack::Field<'_>| {
            assert_eq!(checker.field(field.name, field.value), None);
            fields.push((
                String::from_utf8(field.name.to_vec()).expect("a name"),
                field.value.to_vec(),
            ));
        })?;
        assert_eq!(checker.finish(), None);
        entry.0.push(by_name(
            fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
        ));
        self.frames_of_longest = self.frames_of_longest.max(block.frames);
        Ok(())
    }

    fn violation(&mut self, _: Sender, violation: Violation) {
        self.violations.push(violation);
    }
}

/// What an endpoint of `h2` received.
type Received = Arc<Mutex<Exchanges>>;

async fn receive(is_request: bool, stream: u32, head: ByName, mut body: RecvStream, received: Received) {
    let (mut lists, mut bytes) = (vec![head], Vec::new());
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("a body");
        body.flow_control()
            .release_capacity(chunk.len())
            .expect("what was received");
        bytes.extend_from_slice(&chunk);
    }
    lists.extend(
        body.trailers()
            .await
            .expect("trailers")
            .map(|trailers| of_map(&trailers, &[])),
    );
    received
        .lock()
        .expect("nobody panicked")
        .insert((is_request, stream), (lists, bytes));
}

fn send(stream: &mut SendStream<Bytes>, random: &mut Random, earlier: &mut Vec<(HeaderName, HeaderValue)>) {
    for _ in 0..random.below(3) {
        let length = random.below(9_000);
        stream
            .send_data(random.text(length, b"body").into(), false)
            .expect("an open stream");
    }
    match random.below(2) {
        0 => stream.send_data(Bytes::new(), true).expect("an open stream"),
        _ => stream.send_trailers(random.headers(earlier)).expect("an open stream"),
    }
}

async fn serve(pipe: DuplexStream, seed: u64, received: Received) {
    let mut random = Random(seed * 31 + 7);
    let mut earlier = Vec::new();
    let mut connection = server::Builder::new()
        .max_header_list_size(1 << 24)
        .header_table_size([0, 100, 4096, 4096, 60_000][random.below(5) as usize])
        .handshake::<_, Bytes>(pipe)
        .await
        .expect("a handshake");
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.expect("a request");
        let (head, body) = request.into_parts();
        let uri = &head.uri;
        let pseudo = [
            (":method", head.method.as_str()),
            (":scheme", uri.scheme_str().expect("a scheme")),
            (":authority", uri.authority().expect("an authority").as_str()),
            (":path", uri.path_and_query().expect("a path").as_str()),
        ];
        tasks.spawn(receive(
            true,
            body.stream_id().as_u32(),
            of_map(&head.headers, &pseudo),
            body,
            received.clone(),
        ));
        let mut response = Response::builder()
            .status([200, 204, 404, 503][random.below(4) as usize])
            .body(())
            .expect("a response");
        *response.headers_mut() = random.headers(&mut earlier);
        let mut stream = respond.send_response(response, false).expect("an open stream");
        send(&mut stream, &mut random, &mut earlier);
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
}

async fn call(pipe: Tee, seed: u64, received: Received) {
    let mut random = Random(seed * 17 + 3);
    let mut earlier = Vec::new();
    let (mut requests, connection) = client::Builder::new()
        .max_header_list_size(1 << 24)
        .header_table_size([0, 64, 4096, 4096, 60_000][random.below(5) as usize])
        .handshake::<_, Bytes>(pipe)
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..REQUESTS {
        requests = requests.ready().await.expect("a connection");
        let path = format!("http://ledger.bank/v1/accounts/{}?n={i}", random.below(5));
        let mut request = Request::builder()
            .method(["GET", "POST", "PUT"][random.below(3) as usize])
            .uri(path)
            .body(())
            .expect("a request");
        *request.headers_mut() = random.headers(&mut earlier);
        let (response, mut stream) = requests.send_request(request, false).expect("an open connection");
        send(&mut stream, &mut random, &mut earlier);
        let received = received.clone();
        tasks.spawn(async move {
            let (head, body) = response.await.expect("a response").into_parts();
            let list = of_map(&head.headers, &[(":status", head.status.as_str())]);
            receive(false, body.stream_id().as_u32(), list, body, received).await;
        });
        if i % AT_ONCE == 0 {
            while let Some(task) = tasks.join_next().await {
                task.expect("no panic");
            }
        }
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
    drop(requests);
    connection.await.expect("no panic").expect("an honest connection");
}

#[tokio::test]
async fn lens_and_library_see_the_same() {
    let (mut lists, mut longest) = (0, 0);
    for seed in 1..=CONNECTIONS {
        let (client, server) = tokio::io::duplex(8 * 1024);
        let (tape, received) = (Tape::default(), Received::default());
        let server = tokio::spawn(serve(server, seed, received.clone()));
        call(
            Tee {
                pipe: client,
                tape: tape.clone(),
            },
            seed,
            received.clone(),
        )
        .await;
        server.await.expect("no panic");

        let (mut connection, mut lens) = (Connection::new(), Lens::default());
        for (sender, bytes) in tape.lock().expect("nobody panicked").iter() {
            connection.feed(*sender, bytes, &mut lens);
        }
        assert_eq!(lens.violations, [], "connection {seed}");
        assert_eq!(connection.open_streams(), 0, "connection {seed}");
        let received = received.lock().expect("nobody panicked");
        assert_eq!(received.len() as u64, REQUESTS * 2);
        assert_eq!(lens.seen.len(), received.len());
        for (stream, (heads, body)) in received.iter() {
            let seen = &lens.seen[stream];
            assert_eq!(&seen.0, heads, "connection {seed}, stream {stream:?}");
            assert!(&seen.1 == body, "connection {seed}, stream {stream:?}: another body");
            lists += heads.len();
        }
        longest = longest.max(lens.frames_of_longest);
    }
    println!("{lists} lists, up to {longest} frames each");
    assert!(
        lists > 5000 && longest > 2,
        "{lists} lists, up to {longest} frames each"
    );
}
