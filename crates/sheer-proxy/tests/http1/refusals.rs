//! What is refused, with which status: above all everything that two readers could take apart differently (request smuggling).

use http::Method;
use proptest::prelude::*;
use sheer_proxy::http1::{Limits, ParseError, ReadError, Reader};

use crate::support::{Pieces, body, request, requests, response, run};

fn refused(bytes: &[u8]) -> ParseError {
    match requests(bytes, &[]) {
        Err(ReadError::Parse(error)) => error,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn malformed_request_lines() {
    for (line, error, status) in [
        ("GET", ParseError::RequestLine, 400),
        ("GET /", ParseError::RequestLine, 400),
        ("GET  / HTTP/1.1", ParseError::Version, 400),
        ("GET / HTTP/1.1 ", ParseError::Version, 400),
        (" GET / HTTP/1.1", ParseError::Method, 400),
        ("GE(T / HTTP/1.1", ParseError::Method, 400),
        ("GET\t/ HTTP/1.1", ParseError::RequestLine, 400),
        ("GET path HTTP/1.1", ParseError::Target, 400),
        ("GET http:///path HTTP/1.1", ParseError::Target, 400),
        ("GET /\u{1} HTTP/1.1", ParseError::Target, 400),
        ("GET /\u{7f} HTTP/1.1", ParseError::Target, 400),
        ("CONNECT / HTTP/1.1", ParseError::Target, 400),
        ("CONNECT host HTTP/1.1", ParseError::Target, 400),
        ("GET / http/1.1", ParseError::Version, 400),
        ("GET / HTTP/1.10", ParseError::Version, 400),
        ("GET / HTTP/1", ParseError::Version, 400),
        ("GET / HTTP/01.1", ParseError::Version, 400),
        ("GET / HTTP/2.0", ParseError::VersionNotSupported(2), 505),
        ("GET / HTTP/0.9", ParseError::VersionNotSupported(0), 505),
        ("GET /\rX: HTTP/1.1", ParseError::BareCr, 400),
    ] {
        let found = refused(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!((found, found.status().as_u16()), (error, status), "{line:?}");
    }
}

#[test]
fn malformed_fields() {
    for (field, error) in [
        (&b"no colon"[..], ParseError::FieldLine),
        (b": no name", ParseError::FieldLine),
        (b"Name : x", ParseError::SpaceBeforeColon),
        (b"Name\t: x", ParseError::SpaceBeforeColon),
        (b"Na me: x", ParseError::FieldName),
        (b"N\xe4me: x", ParseError::FieldName),
        (b"N\0: x", ParseError::FieldName),
        (b"A: x\r\n folded", ParseError::ObsFold),
        (b"A: x\r\n\tfolded", ParseError::ObsFold),
        (b" Leading: x", ParseError::ObsFold),
        (b"A: x\0y", ParseError::FieldValue),
        (b"A: x\x0by", ParseError::FieldValue),
        (b"A: x\x7fy", ParseError::FieldValue),
        (b"A: x\ry", ParseError::BareCr),
        (b"A: x\r\r", ParseError::BareCr),
        (b"Host: a\r\nHost: a", ParseError::Host),
        (b"Host: a, b", ParseError::Host),
        (b"Host: user@a", ParseError::Host),
        (b"Host: a/b", ParseError::Host),
    ] {
        let bytes = [b"GET / HTTP/1.1\r\n", field, b"\r\n\r\n"].concat();
        let found = refused(&bytes);
        assert_eq!(found, error, "{:?}", String::from_utf8_lossy(field));
        assert_eq!(found.status().as_u16(), 400);
    }
}

#[test]
fn framing_that_two_readers_could_take_apart() {
    for (fields, error, status) in [
        (
            "Content-Length: 5\r\nContent-Length: 6",
            ParseError::ContentLengthConflict,
            400,
        ),
        ("Content-Length: 5, 6", ParseError::ContentLengthConflict, 400),
        ("Content-Length: +5", ParseError::ContentLength, 400),
        ("Content-Length: -0", ParseError::ContentLength, 400),
        ("Content-Length: 0x5", ParseError::ContentLength, 400),
        ("Content-Length: 5 5", ParseError::ContentLength, 400),
        ("Content-Length: 5,", ParseError::ContentLength, 400),
        ("Content-Length:", ParseError::ContentLength, 400),
        ("Content-Length: 18446744073709551616", ParseError::ContentLength, 400),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            ParseError::LengthAndEncoding,
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            ParseError::LengthAndEncoding,
            400,
        ),
        (
            "Transfer-Encoding: x\r\nContent-Length: 0",
            ParseError::LengthAndEncoding,
            400,
        ),
        ("Transfer-Encoding: chunked, chunked", ParseError::TransferEncoding, 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            ParseError::TransferEncoding,
            400,
        ),
        ("Transfer-Encoding: chunked, gzip", ParseError::TransferEncoding, 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            ParseError::TransferEncoding,
            400,
        ),
        ("Transfer-Encoding: identity", ParseError::TransferEncoding, 400),
        ("Transfer-Encoding: xchunked", ParseError::TransferEncoding, 400),
        ("Transfer-Encoding: \"chunked\"", ParseError::TransferEncoding, 400),
        ("Transfer-Encoding: chunked;q=1", ParseError::TransferEncoding, 400),
        ("Transfer-Encoding:", ParseError::TransferEncoding, 400),
        ("Transfer-Encoding: \x0bchunked", ParseError::FieldValue, 400),
        ("Transfer-Encoding : chunked", ParseError::SpaceBeforeColon, 400),
        ("Transfer-Encoding:\r\n chunked", ParseError::ObsFold, 400),
        ("Transfer-Encoding: gzip, chunked", ParseError::TransferCoding, 501),
    ] {
        // What would be smuggled stands behind it.
        let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n");
        let found = refused(bytes.as_bytes());
        assert_eq!((found, found.status().as_u16()), (error, status), "{fields:?}");
    }
    assert_eq!(
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ParseError::EncodingInHttp10
    );
}

#[test]
fn malformed_chunks() {
    let extension = ParseError::ChunkExtension {
        limit: Limits::default().chunk_extension,
    };
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    for (chunks, error) in [
        (&b"\r\n"[..], ParseError::ChunkSize),
        (b"+1\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"-1\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"0x1\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b" 1\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"1 \r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"1 ;x\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"1_0\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"g\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"10000000000000000\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"00000000000000001\r\na\r\n0\r\n\r\n", ParseError::ChunkSize),
        (b"1\na\r\n0\r\n\r\n", ParseError::BareLf),
        (b"1;x\na\r\n0\r\n\r\n", ParseError::BareLf),
        (b"1\ra\r\n0\r\n\r\n", extension),
        (b"1;a\rb\r\na\r\n0\r\n\r\n", extension),
        (b"1;a\0b\r\na\r\n0\r\n\r\n", extension),
        (long.as_bytes(), extension),
        (b"1\r\nab\r\n0\r\n\r\n", ParseError::ChunkEnd),
        (b"1\r\na\n0\r\n\r\n", ParseError::ChunkEnd),
        (b"1\r\na0\r\n\r\n", ParseError::ChunkEnd),
        (b"0\n\r\n", ParseError::BareLf),
        (b"0\r\n\n", ParseError::BareLf),
        (b"0\r\nA: x\n\r\n", ParseError::BareLf),
        (b"0\r\nA: x\r\n\n", ParseError::BareLf),
        (b"0\r\nA : x\r\n\r\n", ParseError::SpaceBeforeColon),
        (b"0\r\nA: x\r\n y\r\n\r\n", ParseError::ObsFold),
    ] {
        let bytes = [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat();
        for cuts in [&[][..], &(0..bytes.len()).collect::<Vec<_>>()] {
            match requests(&bytes, cuts) {
                Err(ReadError::Parse(found)) => assert_eq!(found, error, "{:?}", String::from_utf8_lossy(chunks)),
                other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(chunks)),
            }
        }
    }
}

#[test]
fn a_refused_body_stays_refused() {
    let mut reader = Reader::new(
        Pieces::cut(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\nGET / HTTP/1.1\r\n\r\n",
            &[],
        ),
        Limits::default(),
    );
    run(reader.request_head()).expect("the head is legal");
    for _ in 0..2 {
        assert!(matches!(
            run(reader.body_frame()),
            Err(ReadError::Parse(ParseError::ChunkSize))
        ));
    }
    assert!(matches!(run(reader.request_head()), Err(ReadError::BodyUnread)));
}

#[test]
fn a_refused_head_stays_refused_and_says_what_it_can() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /behind HTTP/1.1\r\n\r\n";
    for cuts in [&[][..], &(0..bytes.len()).collect::<Vec<_>>()] {
        let mut reader = Reader::new(Pieces::cut(bytes, cuts), Limits::default());
        for _ in 0..2 {
            assert!(matches!(
                run(reader.request_head()),
                Err(ReadError::Parse(ParseError::Host))
            ));
            let unread = reader.unread();
            assert_eq!((unread.method, &*unread.path), (Some(Method::GET), "/a"));
            assert_eq!(unread.length, bytes.len() - "GET /behind HTTP/1.1\r\n\r\n".len());
        }
    }
}

#[test]
fn malformed_responses() {
    for (head, error) in [
        ("HTTP/1.1", ParseError::StatusLine),
        ("HTTP/1.1 20", ParseError::StatusLine),
        ("HTTP/1.1 2000 OK", ParseError::StatusLine),
        ("HTTP/1.1 099 OK", ParseError::StatusLine),
        ("HTTP/1.1  200 OK", ParseError::StatusLine),
        ("HTTP/1.1 200 O\0K", ParseError::StatusLine),
        ("HTTP/2 200", ParseError::Version),
        ("ICY 200 OK", ParseError::Version),
        ("HTTP/3.0 200 OK", ParseError::VersionNotSupported(3)),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            ParseError::LengthAndEncoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
            ParseError::TransferEncoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
            ParseError::ContentLengthConflict,
        ),
        ("HTTP/1.1 200 OK\r\nA: x\r\n y", ParseError::ObsFold),
    ] {
        match response(format!("{head}\r\n\r\n").as_bytes(), &Method::GET) {
            Err(ReadError::Parse(found)) => assert_eq!(found, error, "{head:?}"),
            other => panic!("{head:?} gave {other:?}"),
        }
    }
}

#[test]
fn limits_hold_and_say_so() {
    let limits = Limits {
        head: 300,
        fields: 3,
        trailers: 40,
        ..Limits::default()
    };
    let read = |bytes: &[u8]| {
        let mut reader = Reader::new(Pieces::cut(bytes, &[7, 100, 299, 300, 301]), limits);
        let head = run(reader.request_head())?.expect("a request");
        body(&mut reader, head)
    };
    let parse_error = |bytes: &[u8]| match read(bytes) {
        Err(ReadError::Parse(error)) => (error, error.status().as_u16()),
        other => panic!("{other:?}"),
    };
    let request = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n");
    let sized = |size: usize| request(&format!("A: {}\r\n", "x".repeat(size - request("A: \r\n").len())));
    assert_eq!(sized(300).len(), 300);
    read(sized(300).as_bytes()).expect("just as large as allowed");
    assert_eq!(
        parse_error(sized(301).as_bytes()),
        (ParseError::HeadTooLarge { limit: 300 }, 431)
    );
    assert_eq!(
        parse_error(&sized(400).as_bytes()[..350]),
        (ParseError::HeadTooLarge { limit: 300 }, 431)
    );
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(300));
    assert_eq!(
        parse_error(long.as_bytes()),
        (ParseError::TargetTooLong { limit: 300 }, 414)
    );
    read(request("A: 1\r\nB: 2\r\nC: 3\r\n").as_bytes()).expect("just as many as allowed");
    let four = request("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n");
    assert_eq!(
        parse_error(four.as_bytes()),
        (ParseError::TooManyFields { limit: 3 }, 431)
    );
    let trailers =
        |size: usize| request("Transfer-Encoding: chunked\r\n") + "0\r\nA: " + &"x".repeat(size - 7) + "\r\n\r\n";
    read(trailers(40).as_bytes()).expect("just as large as allowed");
    assert_eq!(
        parse_error(trailers(41).as_bytes()),
        (ParseError::TrailersTooLarge { limit: 40 }, 431)
    );
}

#[test]
fn a_thousand_fields_and_a_large_head_pass_by_default() {
    let fields: String = (0..999)
        .map(|n| format!("X-Field-{n}: {}\r\n", "v".repeat(200)))
        .collect();
    let message = request(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).expect("legal");
    assert_eq!(message.head.headers.len(), 1000);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        start in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        let bytes = [start.as_bytes(), &bytes].concat();
        let _ = requests(&bytes, &cuts);
        let _ = response(&bytes, &Method::GET);
    }

    #[test]
    fn splits_never_change_the_answer(
        text in "(GET|POST) /[a ]{0,2} HTTP/1\\.[01]\r?\n((Content-Length|Transfer-Encoding|A|Host) ?:[ ,chunked0-9]{0,12}\r?\n){0,4}\r?\n[0-9a-f;\r\n ]{0,12}(\r\n){0,2}",
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let whole = format!("{:?}", requests(text.as_bytes(), &[]));
        let split = format!("{:?}", requests(text.as_bytes(), &cuts));
        prop_assert_eq!(whole, split);
    }
}
