//! How long bodies are, and how they are written.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use sheer_proxy::http1::{
    BodyLength, Frame, HeaderCase, Limits, ReadError, Reader, RequestLine, StatusLine, WriteError, Writer,
};

use crate::support::{Pieces, Sink, body, reader, request, response, run};

#[test]
fn response_bodies_end_as_their_head_says() {
    const GET: Method = Method::GET;
    for (method, head, length, keep) in [
        (GET, "200 OK\r\nContent-Length: 3\r\n", BodyLength::Exact(3), true),
        (
            GET,
            "200 OK\r\nContent-Length: 3\r\nConnection: close\r\n",
            BodyLength::Exact(3),
            false,
        ),
        (
            GET,
            "200 OK\r\nTransfer-Encoding: Chunked\r\n",
            BodyLength::Chunked,
            true,
        ),
        (GET, "200 OK\r\n", BodyLength::UntilClose, false),
        (GET, "204 No Content\r\n", BodyLength::None, true),
        (GET, "204 No Content\r\nContent-Length: 0\r\n", BodyLength::None, true),
        (
            GET,
            "204 No Content\r\nTransfer-Encoding: chunked\r\n",
            BodyLength::None,
            false,
        ),
        (GET, "204 No Content\r\nContent-Length: 5\r\n", BodyLength::None, false),
        (GET, "304 Not Modified\r\nContent-Length: 9\r\n", BodyLength::None, true),
        (Method::HEAD, "200 OK\r\nContent-Length: 9\r\n", BodyLength::None, true),
        (
            Method::HEAD,
            "200 OK\r\nTransfer-Encoding: chunked\r\n",
            BodyLength::None,
            true,
        ),
        (
            Method::CONNECT,
            "200 OK\r\nTransfer-Encoding: chunked\r\n",
            BodyLength::None,
            false,
        ),
        (
            Method::CONNECT,
            "403 Forbidden\r\nContent-Length: 2\r\n",
            BodyLength::Exact(2),
            true,
        ),
    ] {
        let bytes = format!("HTTP/1.1 {head}\r\n");
        let found = run(reader(bytes.as_bytes(), &[]).response_head(&method)).expect(head);
        assert_eq!((found.body, found.keep_alive), (length, keep), "{method} {head}");
    }
}

#[test]
fn a_chunked_response_of_http10_is_read_and_not_trusted_further() {
    let bytes = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let (message, _) = response(bytes, &Method::GET).expect("sloppy");
    assert_eq!((message.head.keep_alive, &message.body[..]), (false, &b"a"[..]));
}

#[test]
fn a_length_said_twice_alike_is_one() {
    for fields in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2, 2 ,02\r\n",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\nab");
        let message = request(bytes.as_bytes()).expect("legal");
        assert_eq!(message.body, b"ab");
        let lengths: Vec<_> = message.head.headers.get_all("content-length").iter().collect();
        assert_eq!(lengths, ["2"]);
    }
}

#[test]
fn chunks_extensions_and_trailers_are_read() {
    let bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b;c\"\r\nabc\r\n000A;x\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nx-sum:\t2\r\nETag: x\r\n\r\n";
    for cuts in [&[][..], &(0..bytes.len()).collect::<Vec<_>>()] {
        let mut reader = reader(bytes, cuts);
        let head = run(reader.request_head()).expect("legal").expect("a request");
        let message = body(&mut reader, head).expect("legal");
        assert_eq!(message.body, b"abc0123456789");
        let (trailers, case) = message.trailers.expect("trailers");
        let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
        assert_eq!(sums, ["1", "2"]);
        assert_eq!(case.encode().expect("has case"), "t,ETag,X-Sum,x-sum");
    }
}

#[test]
fn the_end_comes_with_the_last_data() {
    for bytes in [
        &b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"[..],
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        let mut reader = reader(bytes, &[]);
        run(reader.request_head()).expect("legal");
        assert_eq!(
            run(reader.body_frame()).expect("legal"),
            Some(Frame::Data(Bytes::from_static(b"ab")))
        );
        assert!(reader.is_body_done(), "nobody has to ask again");
    }
}

#[test]
fn a_body_cut_short_is_an_error() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        assert!(matches!(response(bytes, &Method::GET), Err(ReadError::BodyTruncated)));
    }
    let (whole, _) = response(b"HTTP/1.0 200 OK\r\n\r\nto the end", &Method::GET).expect("the end is its end");
    assert_eq!(whole.body, b"to the end");
}

#[test]
fn large_bodies_arrive_in_growing_pieces() {
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let mut bytes = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", content.len()).into_bytes();
    bytes.extend_from_slice(&content);
    let mut reader = reader(&bytes, &[]);
    let (mut read, mut largest, mut frames) = (Vec::new(), 0, 0);
    run(reader.request_head()).expect("legal");
    while let Some(Frame::Data(data)) = run(reader.body_frame()).expect("legal") {
        largest = largest.max(data.len());
        frames += 1;
        read.extend_from_slice(&data);
    }
    assert!(read == content, "every byte in order");
    assert!(
        largest >= 64 * 1024 && frames < 40,
        "{frames} frames, the largest of {largest} bytes"
    );
}

fn write(head: impl FnOnce(&mut Writer<Sink>), pieces: &[&'static [u8]]) -> Result<Sink, WriteError> {
    let mut writer = Writer::new(Sink::default());
    head(&mut writer);
    for piece in pieces {
        run(writer.data(Bytes::from_static(piece)))?;
    }
    run(writer.finish(None))?;
    Ok(writer.into_inner())
}

fn ok<'a>() -> StatusLine<'a> {
    StatusLine {
        version: Version::HTTP_11,
        status: StatusCode::OK,
        reason: None,
    }
}

#[test]
fn head_and_small_body_leave_in_one_write() {
    let headers = HeaderMap::from_iter([(HeaderName::from_static("content-length"), HeaderValue::from_static("2"))]);
    let title = HeaderCase::title();
    let sink = write(
        |writer| writer.response_head(ok(), &headers, &title, BodyLength::Exact(2)),
        &[b"hi"],
    )
    .expect("whole");
    assert_eq!(sink.bytes, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(sink.writes, 1);

    let mut writer = Writer::new(Sink::default());
    writer.response_head(ok(), &HeaderMap::new(), &title, BodyLength::Chunked);
    run(writer.finish_with(Bytes::from_static(b"hi"), Some((&headers, &title)))).expect("whole");
    let sink = writer.into_inner();
    assert_eq!(
        sink.bytes, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "and no framing in trailers"
    );
    assert_eq!(sink.writes, 1);
}

#[test]
fn large_pieces_are_not_copied() {
    static LARGE: [u8; 100_000] = [7; 100_000];
    for vectored in [true, false] {
        let mut writer = Writer::new(Sink {
            vectored,
            most: 30_000,
            ..Sink::default()
        });
        writer.response_head(ok(), &HeaderMap::new(), &HeaderCase::default(), BodyLength::Chunked);
        run(writer.data(Bytes::from_static(&LARGE))).expect("a sink takes everything");
        run(writer.finish(None)).expect("a sink takes everything");
        let bytes = writer.into_inner().bytes;
        let (message, left) = response(&bytes, &Method::GET).expect("legal");
        assert!(message.body == LARGE && left.is_empty());
    }
}

#[test]
fn lengths_are_held_to() {
    let empty = HeaderMap::new();
    let case = HeaderCase::default();
    let head = |writer: &mut Writer<Sink>| writer.response_head(ok(), &empty, &case, BodyLength::Exact(3));
    assert!(matches!(
        write(head, &[b"ab"]),
        Err(WriteError::BodyTooShort { missing: 1 })
    ));
    assert!(matches!(write(head, &[b"ab", b"cd"]), Err(WriteError::BodyTooLong)));
    let none = |writer: &mut Writer<Sink>| writer.response_head(ok(), &empty, &case, BodyLength::None);
    assert!(matches!(write(none, &[b"a"]), Err(WriteError::BodyTooLong)));
}

#[test]
fn framing_fields_follow_the_body_and_nothing_else() {
    let headers = HeaderMap::from_iter(
        [("content-length", "7"), ("transfer-encoding", "gzip"), ("a", "1")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    let case = HeaderCase::default();
    for (status, length, expected) in [
        (200, BodyLength::None, "content-length: 7\r\na: 1\r\n"),
        (304, BodyLength::None, "content-length: 7\r\na: 1\r\n"),
        (204, BodyLength::None, "a: 1\r\n"),
        (101, BodyLength::None, "a: 1\r\n"),
        (200, BodyLength::Exact(7), "content-length: 7\r\na: 1\r\n"),
        (200, BodyLength::Exact(8), "a: 1\r\ncontent-length: 8\r\n"),
        (200, BodyLength::Chunked, "a: 1\r\ntransfer-encoding: chunked\r\n"),
        (200, BodyLength::UntilClose, "a: 1\r\n"),
    ] {
        let mut writer = Writer::new(Sink::default());
        let line = StatusLine {
            status: StatusCode::from_u16(status).expect("a status"),
            reason: Some(b"x"),
            ..ok()
        };
        writer.response_head(line, &headers, &case, length);
        run(writer.flush()).expect("a sink takes everything");
        let written = String::from_utf8(writer.into_inner().bytes).expect("text");
        assert_eq!(
            written,
            format!("HTTP/1.1 {status} x\r\n{expected}\r\n"),
            "{status} {length:?}"
        );
    }
    let mut writer = Writer::new(Sink::default());
    let line = RequestLine {
        method: &Method::GET,
        target: b"/",
        version: Version::HTTP_10,
    };
    writer
        .request_head(line, &headers, &case, BodyLength::None)
        .expect("a legal target");
    run(writer.finish(None)).expect("a sink takes everything");
    assert_eq!(
        writer.into_inner().bytes,
        b"GET / HTTP/1.0\r\na: 1\r\n\r\n",
        "a length without a body would swallow the next request"
    );
}

#[test]
fn a_head_is_held_back_until_flushed() {
    let mut writer = Writer::new(Sink::default());
    writer.response_head(ok(), &HeaderMap::new(), &HeaderCase::default(), BodyLength::Chunked);
    assert!(writer.has_pending() && writer.io().bytes.is_empty());
    run(writer.flush()).expect("a sink takes everything");
    assert!(!writer.has_pending() && !writer.io().bytes.is_empty());
}

#[tokio::test]
async fn half_closing_is_not_breaking() {
    use tokio::io::AsyncWriteExt;
    let (mut client, server) = tokio::io::duplex(1024);
    client
        .write_all(b"GET / HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
        .await
        .expect("room");
    client.shutdown().await.expect("open");
    let mut reader = Reader::new(server, Limits::default());
    reader.request_head().await.expect("legal").expect("a request");
    assert!(reader.broken().await.is_none(), "reading cannot tell any more");
    let next = reader.request_head().await.expect("legal").expect("the pipelined one");
    assert_eq!(next.target.as_bytes(), b"/next");
    assert!(reader.request_head().await.expect("a clean end").is_none());
}

#[test]
fn an_idle_reader_is_small() {
    // Whatever a connection holds between two requests, 10,000 of them hold 10,000 times.
    assert!(size_of::<Reader<Pieces>>() - size_of::<Pieces>() <= 160);
    assert!(size_of::<Writer<Sink>>() - size_of::<Sink>() <= 48);
}
