//! Protocol detection: what each protocol's first bytes are taken for, and how early.

use proptest::prelude::*;
use sheer_lens::protocol::{HTTP2_PREFACE, Protocol, protocol};

#[test]
fn http1_is_known_by_its_request_line() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\n",
        "POST /a?b=c HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://web.bank/x HTTP/1.1\r\n",
        "CONNECT db.bank:443 HTTP/1.1\r\n",
        "CONNECT [fd77::1]:443 HTTP/1.1\r\n",
        "M-SEARCH * HTTP/1.1\r\n",
        "get /lower HTTP/1.1\r\n",
        "GET /\u{e4}\u{f6} HTTP/1.1\r\n",
        "PRI * HTTP/1.1\r\n",
        "PRINT / HTTP/1.1\r\n",
    ] {
        assert_eq!(protocol(line.as_bytes()), Protocol::Http1, "{line:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000));
    assert_eq!(protocol(long.as_bytes()), Protocol::Http1);
    assert_eq!(
        protocol(&long.as_bytes()[..16_000]),
        Protocol::Http1,
        "no other protocol has such a word"
    );
}

#[test]
fn http2_needs_its_whole_preface() {
    assert_eq!(protocol(HTTP2_PREFACE), Protocol::Http2);
    assert_eq!(protocol(&[&HTTP2_PREFACE[..], &[0, 0, 0, 4]].concat()), Protocol::Http2);
    assert_eq!(protocol(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"), Protocol::Opaque);
    assert_eq!(protocol(b"PRI * HTTP/2.1"), Protocol::Opaque);
}

#[test]
fn other_protocols_are_opaque_as_soon_as_they_differ() {
    // The shortest prefix of each that already says enough: a client that now waits for an answer must not be kept waiting.
    for (bytes, what) in [
        (&b"\x16"[..], "TLS"),
        (b"\r", "an empty line"),
        (b" ", "a space"),
        (b"*1\r", "Redis"),
        (b"PING\r", "Redis, inline"),
        (b"SET foo ", "Redis, inline with a key"),
        (b"GET foo\r", "Redis, inline as HTTP/0.9"),
        (b"GET /\r", "HTTP/0.9"),
        (b"get key\r", "memcached"),
        (b"EHLO relay.example\r", "SMTP"),
        (b"MAIL FROM:<", "SMTP"),
        (b"INVITE sip:b", "SIP"),
        (b"OPTIONS rtsp://cam/1 R", "RTSP"),
        (b"GET / HTTP/2", "a version that is neither"),
        (b"GET / HTTP/1.x", "a version without a digit"),
        (b"GET  ", "two spaces"),
        (b"OPTIONS *x", "an asterisk with something"),
        (b"CONNECT /", "CONNECT with a path"),
        (b"CONNECT host ", "CONNECT without a port"),
        (b"SSH-2.0-OpenSSH_9.2\r", "SSH"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "PostgreSQL"),
        (b"A_TOKEN_THAT_IS_LONGER_THAN_ANY_METHOD", "a long word"),
    ] {
        assert_eq!(protocol(bytes), Protocol::Opaque, "{what}");
        assert_eq!(
            protocol(&bytes[..bytes.len() - 1]),
            early(what),
            "{what}, one byte less"
        );
    }
}

/// What is known one byte earlier.
fn early(what: &str) -> Protocol {
    match what {
        "PostgreSQL" | "a long word" => Protocol::Opaque,
        _ => Protocol::Incomplete,
    }
}

proptest! {
    #[test]
    fn every_prefix_of_a_request_is_incomplete_or_http1(
        method in "[A-Z][A-Z_-]{0,15}",
        path in "/[a-zA-Z0-9/?=&%._-]{0,40}",
        authority in "[a-z]{1,10}:[0-9]{1,5}",
        form in 0..4,
        minor in 0..2,
    ) {
        prop_assume!(method != "CONNECT" && method != "PRI");
        let (method, target) = match form {
            0 => (method, path),
            1 => (method, format!("http://{authority}{path}")),
            2 => ("CONNECT".to_owned(), authority),
            _ => ("OPTIONS".to_owned(), "*".to_owned()),
        };
        let line = format!("{method} {target} HTTP/1.{minor}\r\nHost: x\r\n\r\n");
        prop_assert_eq!(protocol(line.as_bytes()), Protocol::Http1);
        for end in 0..line.len() {
            let answer = protocol(&line.as_bytes()[..end]);
            prop_assert!(matches!(answer, Protocol::Incomplete | Protocol::Http1), "{:?} of {:?}", answer, &line[..end]);
        }
    }

    #[test]
    fn every_prefix_of_the_preface_is_incomplete(end in 0_usize..24) {
        prop_assert_eq!(protocol(&HTTP2_PREFACE[..end]), Protocol::Incomplete);
    }

    #[test]
    fn an_answer_never_changes(bytes in prop::collection::vec(any::<u8>(), 0..200), end in 0_usize..200) {
        let early = protocol(&bytes[..end.min(bytes.len())]);
        prop_assert!(early == Protocol::Incomplete || early == protocol(&bytes));
    }

    #[test]
    fn an_answer_never_changes_for_text(text in "[A-Z]{1,4}[ /*:a-z.HTP12\r\n]{0,30}", end in 0_usize..34) {
        let early = protocol(&text.as_bytes()[..end.min(text.len())]);
        prop_assert!(early == Protocol::Incomplete || early == protocol(text.as_bytes()));
    }
}
