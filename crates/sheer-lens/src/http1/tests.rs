//! Messages by RFC 9112: what each says, where each ends, what each may not, and that pieces change nothing.

use proptest::prelude::*;

use super::*;
use crate::h2::Sender;

/// A trace of everything, one line an event; slices of a body are joined.
#[derive(Debug, Default, PartialEq)]
struct Trace {
    lines: Vec<String>,
    body: Vec<u8>,
    tunnel: Vec<u8>,
    rules: Vec<Rule>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fields(fields: Fields<'_>) -> String {
    fields
        .map(|field| format!("{}={}", text(field.name), text(field.value)))
        .collect::<Vec<_>>()
        .join(" ")
}

impl Visitor for Trace {
    fn head(&mut self, head: &Head<'_>) {
        let start = match head.start {
            Start::Request {
                method,
                target,
                version,
            } => format!("{} {} {}", text(method), text(target), text(version)),
            Start::Response {
                version,
                status,
                reason,
            } => format!("{} {status} {}", text(version), text(reason)),
        };
        self.lines.push(format!("{start} | {}", fields(head.fields())));
    }

    fn chunk(&mut self, size: u64) {
        self.lines.push(format!("chunk {size}"));
    }

    fn body(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    fn trailers(&mut self, trailers: Fields<'_>, _: &[u8]) {
        self.lines.push(format!("trailers {}", fields(trailers)));
    }

    fn end(&mut self) {
        let body = std::mem::take(&mut self.body);
        self.lines.push(format!("end {}", text(&body)));
    }

    fn tunnel(&mut self, bytes: &[u8]) {
        self.tunnel.extend_from_slice(bytes);
    }

    fn violation(&mut self, violation: Violation) {
        self.rules.push(violation.rule);
        self.lines.push(format!("violation {violation}"));
    }
}

impl Events for Trace {
    fn head(&mut self, _: Sender, head: &Head<'_>) {
        Visitor::head(self, head);
    }

    fn body(&mut self, _: Sender, bytes: &[u8]) {
        Visitor::body(self, bytes);
    }

    fn end(&mut self, _: Sender) {
        Visitor::end(self);
    }

    fn tunnel(&mut self, sender: Sender, bytes: &[u8]) {
        self.lines.push(format!("{sender:?} tunnels {}", text(bytes)));
    }

    fn violation(&mut self, _: Sender, violation: Violation) {
        Visitor::violation(self, violation);
    }
}

fn requests(bytes: &str) -> Trace {
    let mut trace = Trace::default();
    Scanner::requests().feed(bytes.as_bytes(), &mut trace);
    trace
}

fn responses(answering: &[Answering], bytes: &str) -> Trace {
    let (mut trace, mut scanner) = (Trace::default(), Scanner::responses());
    answering
        .iter()
        .for_each(|answering| assert!(scanner.expect(*answering)));
    scanner.feed(bytes.as_bytes(), &mut trace);
    scanner.close(&mut trace);
    trace
}

#[test]
fn pipelined_requests_end_where_they_say() {
    let seen = requests(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /b?c HTTP/1.1\r\nhOST:b\r\nX-A:  1 \r\nX-a: 2\r\n\r\n\
         POST /c HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;ext=\"x\"\r\nhello\r\n00A \r\n 0123456789\r\n",
    );
    assert_eq!(seen.rules, [Rule::ChunkEnd], "eleven bytes in a chunk of ten");
    assert_eq!(
        seen.lines[..7],
        [
            "POST /a HTTP/1.1 | Host=a Content-Length=5",
            "end hello",
            "GET /b?c HTTP/1.1 | hOST=b X-A=1 X-a=2",
            "end ",
            "POST /c HTTP/1.1 | Host=c Transfer-Encoding=gzip, Chunked",
            "chunk 5",
            "chunk 10",
        ]
    );
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    let seen = requests(&format!("{chunked}Grpc-Status: 0\r\nx: y\r\n\r\n{chunked}\r\n"));
    assert_eq!(seen.lines[1..4], ["chunk 3", "trailers Grpc-Status=0 x=y", "end abc"]);
    assert_eq!((seen.lines[6].as_str(), seen.rules.len()), ("end abc", 0));
}

#[test]
fn responses_end_by_what_they_answer() {
    use Answering::{Connect, Head, Other};
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let seen = responses(&[Head, Other], &format!("{ok}{ok}hi"));
    assert_eq!(
        seen.lines,
        [
            "HTTP/1.1 200 OK | Content-Length=2",
            "end ",
            "HTTP/1.1 200 OK | Content-Length=2",
            "end hi"
        ]
    );
    // Interim responses leave their request waiting.
    let seen = responses(
        &[Other],
        &format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n{ok}hi"),
    );
    assert_eq!((seen.lines.len(), seen.rules.len()), (6, 0));
    let seen = responses(
        &[Other, Other, Other],
        "HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\nHTTP/1.1 204 No\r\n\r\nHTTP/1.0 200 Fine by me\r\n\r\nto the end",
    );
    assert_eq!(seen.lines[4..], ["HTTP/1.0 200 Fine by me | ", "end to the end"]);
    assert_eq!(seen.rules, []);
    let seen = responses(&[Connect], "HTTP/1.1 200 OK\r\n\r\nanything");
    assert_eq!((seen.tunnel.as_slice(), seen.rules.len()), (b"anything".as_slice(), 0));
    let seen = responses(&[], ok);
    assert_eq!(seen.rules, [Rule::ResponseUnasked]);
}

#[test]
fn both_directions_know_of_each_other() {
    use Sender::{Client, Server};
    let run = |steps: &[(Sender, &str)]| {
        let (mut connection, mut trace) = (Connection::new(), Trace::default());
        steps
            .iter()
            .for_each(|(sender, bytes)| connection.feed(*sender, bytes.as_bytes(), &mut trace));
        (trace, connection)
    };
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let (seen, _) = run(&[
        (Client, upgrade),
        (
            Server,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nfrom",
        ),
        (Client, "GET is no request"),
    ]);
    assert_eq!(
        seen.lines[4..],
        ["Server tunnels from", "Client tunnels GET is no request"]
    );
    let connect = "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let get = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let refusal = "HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\nno";
    let (seen, connection) = run(&[
        (Client, connect),
        (Server, refusal),
        (Client, get),
        (Server, refusal.trim_end_matches("no")),
    ]);
    assert_eq!((seen.rules.len(), seen.lines.len()), (0, 8), "{:?}", seen.lines);
    assert!(connection.scanner(Client).may_end() && connection.scanner(Server).messages() == 2);
    let (seen, connection) = run(&[(Client, &get.repeat(MAX_WAITING + 1))]);
    assert_eq!(
        (seen.rules, connection.scanner(Server).waiting()),
        (vec![Rule::TooManyWaiting], MAX_WAITING)
    );
}

#[test]
fn broken_rules_are_facts() {
    let get = |lines: &str| requests(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).rules;
    for (lines, rules) in [
        ("A : b\r\n", vec![Rule::SpaceBeforeColon]),
        ("A: b\r\n c\r\n", vec![Rule::Folded]),
        ("A: b\n", vec![Rule::BareLineFeed]),
        ("A: b\rc\r\n", vec![Rule::BareCarriageReturn]),
        ("A b\r\n", vec![Rule::NoColon]),
        ("A b: c\r\n", vec![Rule::FieldName]),
        (": c\r\n", vec![Rule::FieldName]),
        ("A: \u{1}\r\n", vec![Rule::FieldValue]),
        ("Host: b\r\n", vec![Rule::HostRepeated]),
        ("Content-Length: x\r\n", vec![Rule::ContentLength]),
        ("Content-Length: 99999999999999999999\r\n", vec![Rule::ContentLength]),
        ("Content-Length: +1\r\n", vec![Rule::ContentLength]),
        (
            "Content-Length: 0\r\nContent-Length: 1\r\n",
            vec![Rule::ContentLengthsDiffer],
        ),
        ("Content-Length: 0, 0\r\n", vec![Rule::ContentLengthRepeated]),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            vec![Rule::TwoLengths],
        ),
        ("Transfer-Encoding: gzip\r\n", vec![Rule::NotChunkedLast]),
        ("Transfer-Encoding: chunked, chunked\r\n", vec![Rule::ChunkedTwice]),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n", vec![Rule::ChunkSize]),
        (
            "Transfer-Encoding: chunked\r\n\r\n0123456789abcdef\r\n",
            vec![Rule::ChunkSize],
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1\nab",
            vec![Rule::ChunkLineFeed, Rule::ChunkEnd],
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: a\r\n",
            vec![Rule::TrailerForbidden],
        ),
    ] {
        assert_eq!(get(lines), rules, "{lines:?}");
    }
    for (message, rules) in [
        ("GET / HTTP/1.1\r\n\r\n", vec![Rule::HostMissing]),
        ("GET / HTTP/1.0\r\n\r\n", vec![]),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", vec![Rule::StartSpaces]),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", vec![Rule::Version]),
        (
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            vec![Rule::LeadingSpace, Rule::HostMissing],
        ),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", vec![Rule::EmptyLine]),
        ("GET /\r\n\r\n", vec![Rule::RequestLine]),
        ("G@T / HTTP/1.1\r\n\r\n", vec![Rule::RequestLine]),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            vec![Rule::CodingInOldVersion],
        ),
    ] {
        assert_eq!(requests(message).rules, rules, "{message:?}");
    }
    let response = |head: &str| responses(&[Answering::Other], &format!("{head}\r\n\r\n")).rules;
    assert_eq!(response("HTTP/1.1 20 OK"), [Rule::StatusLine]);
    assert_eq!(
        response("HTTP/1.1 204 No\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"),
        [Rule::TwoLengths, Rule::LengthForbidden, Rule::CodingForbidden]
    );
    assert_eq!(
        Rule::Folded.to_string(),
        "a field goes on in the next line (RFC 9112, 5.2)"
    );
    // What smuggles is not followed further.
    let smuggled =
        requests("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxGET / HTTP/1.1\r\n\r\n");
    assert_eq!(smuggled.lines.len(), 2);
}

#[test]
fn memory_is_bounded() {
    let mut scanner = Scanner::requests();
    let mut trace = Trace::default();
    scanner.feed(b"GET / HTTP/1.1\r\n", &mut trace);
    for _ in 0..10_000 {
        scanner.feed(b"A: bcdefghijklmnop\r\n", &mut trace);
        assert!(scanner.memory() <= 2 * MAX_HEAD);
    }
    assert_eq!((trace.rules, scanner.is_lost()), (vec![Rule::HeadTooLarge], true));
    let mut trace = Trace::default();
    let mut scanner = Scanner::requests();
    scanner.feed(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        &mut trace,
    );
    scanner.feed(&[b'x'; 2 * MAX_CHUNK_LINE], &mut trace);
    assert_eq!(trace.rules, [Rule::ChunkLineTooLong]);
}

/// Messages that are nearly right.
fn messages() -> impl Strategy<Value = String> {
    let start = prop_oneof![
        4 => Just("POST / HTTP/1.1\r\nHost: a\r\n"),
        1 => Just("HEAD /x HTTP/1.0\r\n"),
        2 => Just("HTTP/1.1 200 OK\r\n"),
        1 => Just("HTTP/1.1 100 Continue\r\n"),
        1 => Just("CONNECT a:1 HTTP/1.1\r\n"),
        1 => Just("\r\n"),
    ];
    let line = prop_oneof![
        Just("A: b\r\n"),
        Just("A: b\n"),
        Just(" fold\r\n"),
        Just("Content-Length: 4\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("b\rc: d\r\r\n"),
    ];
    let body = prop_oneof![
        Just(""),
        Just("wxyz"),
        Just("4\r\nwxyz\r\n0\r\n\r\n"),
        Just("2;a\nwx\r\n0\r\nT: u\r\n\r\n"),
        Just("\n\n"),
        Just("garbage")
    ];
    let message = (
        start,
        proptest::collection::vec(line, 0..4),
        prop_oneof![5 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r\r\n")],
        body,
    )
        .prop_map(|(start, lines, end, body)| format!("{start}{}{end}{body}", lines.concat()));
    proptest::collection::vec(message, 1..6).prop_map(|messages| messages.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any bytes, in any pieces: the same facts as in one piece.
    #[test]
    fn pieces_change_nothing(bytes in messages(), noise in proptest::collection::vec(any::<u8>(), 0..20), cuts in proptest::collection::vec(1usize..20, 1..30), is_request: bool) {
        let bytes = [bytes.as_bytes(), &noise].concat();
        let new = || {
            let mut scanner = if is_request { Scanner::requests() } else { Scanner::responses() };
            scanner.expect(Answering::Other);
            scanner
        };
        let (mut whole, mut pieces) = (Trace::default(), Trace::default());
        let (mut one, mut many) = (new(), new());
        one.feed(&bytes, &mut whole);
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            many.feed(now, &mut pieces);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!((one.offset(), one.messages(), one.may_end()), (many.offset(), many.messages(), many.may_end()));
    }
}
