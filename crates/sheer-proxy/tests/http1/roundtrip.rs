//! Writing and reading are each other's inverse, however the bytes are cut; and another parser agrees.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use proptest::{collection::vec, prelude::*};
use sheer_proxy::http1::{HeaderCase, RequestLine, StatusLine, Writer};

use crate::support::{Sink, body, reader, requests, run};

/// Fields as they stand on the wire.
type Fields = Vec<(String, Vec<u8>)>;

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        // Few names, so that they repeat, in every case.
        "[xX]-[dD]up",
        "[A-Z][a-z]{0,4}(-[A-Z][a-z]{0,4}){0,2}",
        "x-[a-z0-9]{1,8}",
        "[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,12}",
    ]
    .prop_filter("framing fields are the writer's", |name| {
        let name = name.to_ascii_lowercase();
        !["content-length", "transfer-encoding", "host", "connection"].contains(&name.as_str())
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x21_u8..0x7f, 1 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80_u8..=0xff];
    vec(byte, 0..40).prop_map(|value| {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |end| end + 1);
        value[start..end].to_vec()
    })
}

fn fields(most: usize) -> impl Strategy<Value = Fields> {
    // A map holds the fields of one name together: so does the expectation.
    vec((name(), value()), 0..most).prop_map(|fields| {
        let mut grouped: Fields = Vec::new();
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields[..at].iter().all(|(other, _)| !other.eq_ignore_ascii_case(name)) {
                grouped.extend(
                    fields[at..]
                        .iter()
                        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
                        .cloned(),
                );
            }
        }
        grouped
    })
}

fn lines(fields: &Fields) -> Vec<u8> {
    let line = |(name, value): &(String, Vec<u8>)| [name.as_bytes(), b": ", value, b"\r\n"].concat();
    fields.iter().flat_map(line).collect()
}

fn map(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(String, Vec<u8>)| {
        (
            HeaderName::from_bytes(name.as_bytes()).expect("a generated name"),
            HeaderValue::from_bytes(value).expect("a generated value"),
        )
    };
    fields.iter().map(field).collect()
}

/// A case as it arrives behind HTTP/2.
fn carried(case: &HeaderCase) -> HeaderCase {
    case.encode()
        .map(|value| HeaderCase::decode(&value))
        .unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_request_survives(
        method in "[A-Za-z]{1,8}",
        target in "/[!-~]{0,30}",
        fields in fields(30),
        chunks in vec(vec(any::<u8>(), 1..300), 0..5),
        trailers in fields(5),
        chunked in any::<bool>(),
        cuts in vec(any::<usize>(), 0..8),
        most in 1_usize..5000,
    ) {
        prop_assume!(method != "CONNECT");
        let content = chunks.concat();
        let framing = match (chunked, content.len()) {
            (true, _) => "Transfer-Encoding: chunked\r\n".to_owned(),
            (false, 0) => String::new(),
            (false, length) => format!("Content-Length: {length}\r\n"),
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        head.extend(lines(&fields));
        let mut wire = [&head[..], framing.as_bytes(), b"\r\n"].concat();
        if chunked {
            for chunk in &chunks {
                wire.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            wire.extend([b"0\r\n", &lines(&trailers)[..], b"\r\n"].concat());
        } else {
            wire.extend_from_slice(&content);
        }

        let mut found = requests(&wire, &cuts).expect("legal");
        prop_assert_eq!(found.len(), 1);
        let found = found.remove(0);
        prop_assert_eq!(&found.body, &content);
        let mut seen = found.head.headers.clone();
        seen.remove("transfer-encoding");
        seen.remove("content-length");
        prop_assert_eq!(&seen, &map(&fields));

        // What was read, written again, with the case as it arrives behind HTTP/2.
        let mut writer = Writer::new(Sink { most, ..Sink::default() });
        let line = RequestLine {
            method: &found.head.method,
            target: found.head.target.as_bytes(),
            version: Version::HTTP_11,
        };
        writer.request_head(line, &seen, &carried(&found.head.case), found.head.body).expect("a legal target");
        for chunk in &chunks {
            run(writer.data(Bytes::from(chunk.clone()))).expect("a sink takes everything");
        }
        let found_trailers = found.trailers.map(|(trailers, case)| (trailers, carried(&case)));
        run(writer.finish(found_trailers.as_ref().map(|(trailers, case)| (trailers, case)))).expect("whole");
        let written = writer.into_inner().bytes;

        // Byte for byte the same but for the case of the framing field, which was not in the map.
        prop_assert_eq!(&written[..head.len()], &head[..]);
        let rest = |bytes: &[u8]| bytes[head.len() + framing.len()..].to_vec();
        prop_assert!(rest(&written) == rest(&wire));
        prop_assert!(written[head.len()..head.len() + framing.len()].eq_ignore_ascii_case(framing.as_bytes()));
    }

    #[test]
    fn a_response_survives(
        status in 200_u16..599,
        reason in "[ -~]{0,20}",
        fields in fields(30),
        content in vec(any::<u8>(), 0..5000),
        until_close in any::<bool>(),
        cuts in vec(any::<usize>(), 0..8),
    ) {
        prop_assume!(![204, 304].contains(&status));
        let framing = if until_close { String::new() } else { format!("content-length: {}\r\n", content.len()) };
        let head = [format!("HTTP/1.1 {status} {reason}\r\n").as_bytes(), &lines(&fields)].concat();
        let wire = [&head[..], framing.as_bytes(), b"\r\n", &content].concat();

        let mut reader = reader(&wire, &cuts);
        let found = run(reader.response_head(&Method::GET)).expect("legal");
        let found = body(&mut reader, found).expect("legal");
        prop_assert_eq!(&found.body, &content);
        let mut seen = found.head.headers.clone();
        seen.remove("content-length");
        prop_assert_eq!(&seen, &map(&fields));

        let mut writer = Writer::new(Sink::default());
        let line = StatusLine {
            version: Version::HTTP_11,
            status: found.head.status,
            reason: found.head.reason.as_deref(),
        };
        writer.response_head(line, &seen, &carried(&found.head.case), found.head.body);
        run(writer.finish_with(Bytes::from(content.clone()), None)).expect("whole");
        let written = writer.into_inner().bytes;
        prop_assert_eq!(&written[..head.len()], &head[..]);
        prop_assert!(written.eq_ignore_ascii_case(&wire));
    }

    /// Where `httparse` and this codec both take a head, they read the same; where `httparse` refuses, so do we.
    #[test]
    fn another_parser_agrees(
        text in "(GET|get|P\\(T|POST) {1,2}(/[!-~]{0,5}|\\*|x) HTTP/(1\\.1|1\\.0|1\\.x|2\\.0)\r\n([!-~]{0,6}( |\t)?:?[ \t]{0,2}[ -~\t\u{0}\u{7f}]{0,8}\r?\n){0,4}\r\n",
    ) {
        let mut space = [httparse::EMPTY_HEADER; 16];
        let mut other = httparse::Request::new(&mut space);
        let theirs = other.parse(text.as_bytes());
        let ours = run(reader(text.as_bytes(), &[]).request_head());
        let Ok(Some(ours)) = ours else { return Ok(()) };
        let Ok(httparse::Status::Complete(length)) = theirs else {
            return Err(TestCaseError::fail(format!("httparse says {theirs:?} to {text:?}")));
        };
        prop_assert!(text[length..].trim().is_empty() || text[..length].ends_with("\n\n") || text[..length].ends_with("\r\n\r\n"));
        prop_assert_eq!(ours.method.as_str(), other.method.unwrap_or_default());
        prop_assert_eq!(ours.target.as_bytes(), other.path.unwrap_or_default().as_bytes());
        let theirs: Fields = other.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        prop_assert_eq!(ours.headers, map(&theirs));
    }
}
