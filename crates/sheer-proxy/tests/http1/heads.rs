//! What a head says, kept as sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use sheer_proxy::http1::{
    BodyLength, HeaderCase, Host, IdleEnd, ReadError, RequestLine, StatusLine, TargetForm, Writer,
};

use crate::support::{Sink, reader, request, requests, response, run};

#[test]
fn a_request_is_kept_as_sent() {
    let message = request(
        b"PoST /a%20b?c=\xc3\xa4 HTTP/1.1\r\nHost: x\r\nX-Dup: 1\r\nETag:\t\"a\" \t\r\nx-dup: \xff2\r\nEmpty:\r\n\r\n",
    )
    .expect("legal");
    let head = message.head;
    assert_eq!(head.method.as_str(), "PoST");
    assert_eq!(
        (head.target.as_bytes(), head.target.form()),
        (&b"/a%20b?c=\xc3\xa4"[..], TargetForm::Origin)
    );
    assert_eq!(head.version, Version::HTTP_11);
    let dup: Vec<&[u8]> = head
        .headers
        .get_all("x-dup")
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    assert_eq!(dup, [&b"1"[..], b"\xff2"]);
    assert_eq!(head.headers["etag"], "\"a\"");
    assert_eq!(head.headers["empty"], "");
    assert_eq!(head.case.encode().expect("has case"), "t,ETag,X-Dup,x-dup");
    assert_eq!((head.body, head.keep_alive), (BodyLength::None, true));
}

#[test]
fn targets_have_four_forms() {
    for (line, form, authority) in [
        ("GET /p", TargetForm::Origin, Some("host.example:8080")),
        (
            "GET http://abs.example:81/p?q",
            TargetForm::Absolute,
            Some("abs.example:81"),
        ),
        ("OPTIONS *", TargetForm::Asterisk, Some("host.example:8080")),
        ("CONNECT db.example:443", TargetForm::Authority, Some("db.example:443")),
        ("CONNECT [fd77::1]:443", TargetForm::Authority, Some("[fd77::1]:443")),
    ] {
        let head = request(format!("{line} HTTP/1.1\r\nHost: host.example:8080\r\n\r\n").as_bytes())
            .expect(line)
            .head;
        assert_eq!(head.target.form(), form, "{line}");
        assert_eq!(
            head.authority().map(|authority| authority.to_string()).as_deref(),
            authority,
            "{line}"
        );
    }
}

#[test]
fn a_missing_host_is_told_not_refused() {
    let host = |head: &[u8]| {
        request(head)
            .map(|message| format!("{:?}", message.head.host()))
            .expect("legal")
    };
    assert_eq!(host(b"GET / HTTP/1.1\r\n\r\n"), format!("{:?}", Host::Missing));
    assert_eq!(host(b"GET / HTTP/1.1\r\nHost:\r\n\r\n"), format!("{:?}", Host::Empty));
    assert_eq!(host(b"GET / HTTP/1.0\r\nHost: a:1\r\n\r\n"), "Value(\"a:1\")");
}

#[test]
fn who_keeps_the_connection() {
    for (version, connection, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: keep-alive, x\r\nConnection: y, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.7", "", true),
    ] {
        let head = request(format!("GET / HTTP/{version}\r\n{connection}\r\n").as_bytes())
            .expect("legal")
            .head;
        assert_eq!(head.keep_alive, keep, "{version} {connection}");
    }
}

#[test]
fn an_upgrade_needs_its_nomination() {
    let upgrade = |fields: &str| {
        let head = request(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes())
            .expect("legal")
            .head;
        head.upgrade().cloned()
    };
    assert_eq!(
        upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        Some(HeaderValue::from_static("websocket"))
    );
    assert_eq!(upgrade("Upgrade: websocket\r\n"), None);
}

#[test]
fn expectations_are_told() {
    for (version, expected) in [("1.1", true), ("1.0", false)] {
        let head = format!("PUT / HTTP/{version}\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            request(head.as_bytes()).expect("legal").head.expects_continue(),
            expected
        );
    }
}

#[test]
fn sloppy_but_legal_heads_pass() {
    for head in [
        &b"\r\n\r\n\nGET / HTTP/1.1\r\n\r\n"[..],
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost:a\r\n\n",
    ] {
        assert_eq!(request(head).expect("legal").head.target.as_bytes(), b"/");
    }
}

#[test]
fn pipelined_requests_follow_each_other() {
    let bytes = b"POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\nPOST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\nGET /3 HTTP/1.1\r\n\r\n";
    for cuts in [
        &[][..],
        &[1, 30, 44, 45, 60, 101, 107, 110, 118],
        &(0..bytes.len()).collect::<Vec<_>>(),
    ] {
        let bodies: Vec<(String, Vec<u8>)> = requests(bytes, cuts)
            .expect("legal")
            .into_iter()
            .map(|message| {
                (
                    String::from_utf8_lossy(message.head.target.as_bytes()).into_owned(),
                    message.body,
                )
            })
            .collect();
        let expected =
            [("/1", &b"abc"[..]), ("/2", b"de"), ("/3", b"")].map(|(path, body)| (path.to_owned(), body.to_vec()));
        assert_eq!(bodies, expected);
    }
}

#[test]
fn the_next_head_is_not_read_before_the_body() {
    let mut reader = reader(
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
        &[],
    );
    run(reader.request_head()).expect("legal");
    assert!(matches!(run(reader.request_head()), Err(ReadError::BodyUnread)));
}

#[test]
fn reasons_are_kept_where_they_are_unusual() {
    for (line, reason) in [
        ("HTTP/1.1 200 OK", None),
        ("HTTP/1.1 200 Fine\tby me", Some("Fine\tby me")),
        ("HTTP/1.1 200 ", Some("")),
        ("HTTP/1.1 200", Some("")),
        ("HTTP/1.0 299 ", None),
        ("HTTP/1.0 299 Odd", Some("Odd")),
    ] {
        let bytes = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let head = response(bytes.as_bytes(), &Method::GET).expect("legal").0.head;
        assert_eq!(head.reason.as_deref(), reason.map(str::as_bytes), "{line}");
        let mut writer = Writer::new(Sink::default());
        let status = StatusLine {
            version: head.version,
            status: head.status,
            reason: head.reason.as_deref(),
        };
        writer.response_head(status, &head.headers, &head.case, head.body);
        run(writer.finish(None)).expect("a sink takes everything");
        let line = if line.ends_with("200") {
            format!("{line} ")
        } else {
            line.to_owned()
        };
        let written = writer.into_inner().bytes;
        assert_eq!(
            String::from_utf8_lossy(&written),
            format!("{line}\r\nContent-Length: 0\r\n\r\n")
        );
    }
}

#[test]
fn interim_responses_stand_before_the_final_one() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let mut reader = reader(bytes, &[10, 40]);
    let mut statuses = Vec::new();
    loop {
        let head = run(reader.response_head(&Method::GET)).expect("legal");
        statuses.push(head.status.as_u16());
        if !head.is_interim() {
            break;
        }
    }
    assert_eq!(statuses, [100, 103, 200]);
}

#[test]
fn what_follows_an_upgrade_is_handed_over() {
    let mut upgraded = reader(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x81\x02hi", &[]);
    let head = run(upgraded.response_head(&Method::GET)).expect("legal");
    assert!(!head.is_interim() && upgraded.is_body_done());
    assert_eq!(&upgraded.into_parts().1[..], b"\x81\x02hi");

    // Forward proxies answer CONNECT with framing fields that mean nothing (RFC 9110 9.3.6).
    let mut tunnel = reader(
        b"HTTP/1.1 200 Connection established\r\nContent-Length: 0\r\n\r\n\x16\x03",
        &[],
    );
    let head = run(tunnel.response_head(&Method::CONNECT)).expect("legal");
    assert_eq!((head.status, head.body), (StatusCode::OK, BodyLength::None));
    assert_eq!(&tunnel.into_parts().1[..], b"\x16\x03");
}

#[test]
fn ends_are_told_apart() {
    assert!(requests(b"", &[]).expect("a clean end").is_empty());
    assert!(requests(b"\r\n", &[]).expect("a clean end").is_empty());
    assert!(matches!(requests(b"GET / HT", &[]), Err(ReadError::HeadTruncated)));
    assert!(matches!(response(b"", &Method::GET), Err(ReadError::NoResponse)));
    assert!(matches!(
        response(b"HTTP/1.1 2", &Method::GET),
        Err(ReadError::HeadTruncated)
    ));
    let mut idle = reader(b"", &[]);
    assert!(matches!(run(idle.idle_end()), IdleEnd::Closed));
    let mut idle = reader(b"HTTP/1.1 408 Request Timeout\r\n\r\n", &[]);
    assert!(matches!(run(idle.idle_end()), IdleEnd::Unexpected));
    assert!(!idle.is_usable());
}

#[test]
fn a_target_cannot_split_the_request_line() {
    for target in [&b""[..], b"/ HTTP/1.1\r\nX: y", b"/a b", b"/\n", b"/\x7f"] {
        let mut writer = Writer::new(Sink::default());
        let line = RequestLine {
            method: &Method::GET,
            target,
            version: Version::HTTP_11,
        };
        let result = writer.request_head(line, &HeaderMap::new(), &HeaderCase::default(), BodyLength::None);
        assert!(result.is_err(), "{target:?}");
        run(writer.flush()).expect("a sink takes everything");
        assert!(writer.into_inner().bytes.is_empty());
    }
}

#[test]
fn a_reason_cannot_split_the_head() {
    let mut writer = Writer::new(Sink::default());
    let reason = Bytes::from_static(b"OK\r\nX: y");
    let line = StatusLine {
        version: Version::HTTP_11,
        status: StatusCode::OK,
        reason: Some(&reason),
    };
    writer.response_head(line, &HeaderMap::new(), &HeaderCase::default(), BodyLength::Exact(0));
    run(writer.finish(None)).expect("a sink takes everything");
    assert_eq!(
        writer.into_inner().bytes,
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    );
}
