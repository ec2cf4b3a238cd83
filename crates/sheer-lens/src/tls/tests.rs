//! Hellos and records, in any pieces.

use proptest::prelude::*;

use super::*;

fn vector<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - BYTES..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector::<2>(content)].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector::<3>(body)].concat()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &vector::<2>(payload)].concat()
}

fn a_client_hello() -> Vec<u8> {
    let extensions = [
        extension(0, &vector::<2>(&[&[0][..], &vector::<2>(b"ledger.bank")].concat())),
        extension(10, &vector::<2>(&[0x11, 0xec, 0, 0x1d])),
        extension(13, &vector::<2>(&[4, 3])),
        extension(16, &vector::<2>(&vector::<1>(b"h2"))),
        extension(42, &[]),
        extension(43, &vector::<1>(&[3, 4, 3, 3])),
        extension(
            51,
            &vector::<2>(&[&[0x11, 0xec][..], &vector::<2>(&[7; 1216])].concat()),
        ),
        extension(
            41,
            &[
                vector::<2>(&[vector::<2>(b"ticket"), vec![0; 4]].concat()),
                vector::<2>(&[0; 33]),
            ]
            .concat(),
        ),
    ];
    let body = [
        &[3, 3][..],
        &[9; 32],
        &vector::<1>(&[5; 32]),
        &vector::<2>(&[0x13, 1, 0x13, 2]),
        &[1, 0],
        &vector::<2>(&extensions.concat()),
    ];
    message(1, &body.concat())
}

fn a_server_hello(random: [u8; 32], extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &random,
        &vector::<1>(&[5; 32]),
        &[0x13, 2, 0],
        &vector::<2>(&extensions.concat()),
    ];
    message(2, &body.concat())
}

/// The random that stands for HelloRetryRequest, as RFC 8446 4.1.3 prints it.
fn retry() -> [u8; 32] {
    let hex = "CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C";
    std::array::from_fn(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap())
}

#[derive(Debug, Default, PartialEq)]
struct Trace(Vec<String>);

impl Visitor for Trace {
    fn record(&mut self, record: &Record) {
        self.0.push(format!(
            "{} {} at {}",
            content_name(record.kind).unwrap_or("?"),
            record.length,
            record.offset
        ));
    }

    fn handshake(&mut self, kind: u8, length: u32) {
        self.0.push(format!("{} {length}", handshake_name(kind).unwrap_or("?")));
    }

    fn client_hello(&mut self, hello: &ClientHello) {
        self.0.push(format!("{hello:?}"));
    }

    fn server_hello(&mut self, hello: &ServerHello) {
        let names = (
            version_name(hello.version),
            cipher_name(hello.cipher_suite),
            hello.group.and_then(group_name),
        );
        self.0.push(format!(
            "{names:?} retry {} resumed {:?}",
            hello.is_retry, hello.pre_shared_key
        ));
    }

    fn alert(&mut self, alert: Alert) {
        self.0.push(format!(
            "alert {} fatal {}",
            alert_name(alert.description).unwrap_or("?"),
            alert.is_fatal
        ));
    }

    fn violation(&mut self, violation: Violation) {
        self.0
            .push(format!("violation {} at {}", violation.rule, violation.offset));
    }
}

fn trace(bytes: &[u8]) -> Vec<String> {
    let mut trace = Trace::default();
    Records::new().feed(bytes, &mut trace);
    trace.0
}

#[test]
fn a_client_hello_says_what_it_offers() {
    let hello = client_hello(&a_client_hello()[4..]).expect("well formed");
    let expected = ClientHello {
        legacy_version: 0x303,
        session_id: 32,
        cipher_suites: vec![0x1301, 0x1302],
        versions: vec![0x304, 0x303],
        sni: Some(b"ledger.bank".to_vec()),
        alpn: vec![b"h2".to_vec()],
        groups: vec![0x11ec, 0x1d],
        key_shares: vec![KeyShare {
            group: 0x11ec,
            length: 1216,
        }],
        signature_algorithms: vec![0x403],
        pre_shared_keys: 1,
        early_data: true,
        extensions: vec![0, 10, 13, 16, 42, 43, 51, 41],
    };
    assert_eq!(hello, expected);
    assert_eq!(group_name(hello.key_shares[0].group), Some("X25519MLKEM768"));
    // Before TLS 1.3 a hello could end where its extensions begin; anywhere else it is malformed.
    let whole: Vec<_> = (4..a_client_hello().len())
        .filter(|cut| client_hello(&a_client_hello()[4..*cut]).is_some())
        .collect();
    assert_eq!(whole, [4 + 2 + 32 + 33 + 6 + 2]);
}

#[test]
fn a_server_says_what_it_chose() {
    let tls13 = [
        extension(43, &[3, 4]),
        extension(51, &[&[0x11, 0xec][..], &vector::<2>(&[1; 1120])].concat()),
        extension(41, &[0, 0]),
    ];
    let again = [extension(43, &[3, 4]), extension(51, &[0, 0x1d])];
    // A retry, the decoration after it, the second hello, and what is encrypted.
    let bytes = [
        record(22, &a_server_hello(retry(), &again)),
        record(20, &[1]),
        record(22, &a_server_hello([4; 32], &tls13)),
        record(23, &[0; 50]),
        record(21, &[0; 19]),
    ];
    let seen = trace(&bytes.concat());
    assert_eq!(
        seen[2],
        r#"(Some("TLS 1.3"), Some("TLS_AES_256_GCM_SHA384"), Some("x25519")) retry true resumed None"#
    );
    assert_eq!(
        seen[6],
        r#"(Some("TLS 1.3"), Some("TLS_AES_256_GCM_SHA384"), Some("X25519MLKEM768")) retry false resumed Some(0)"#
    );
    assert_eq!(
        seen[7..]
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect::<Vec<_>>(),
        ["application_data", "alert"]
    );
}

#[test]
fn tls_1_2_is_readable_until_its_cipher_changes() {
    let flight = [
        a_server_hello([4; 32], &[extension(16, &vector::<2>(&vector::<1>(b"h2")))]),
        message(11, &[0; 3000]),
        message(14, &[]),
    ]
    .concat();
    // One message over two records, three messages in them; then Finished, encrypted, with an explicit nonce of zeros.
    let bytes = [
        record(22, &flight[..1000]),
        record(22, &flight[1000..]),
        record(20, &[1]),
        record(22, &[0; 40]),
        record(23, &[0; 9]),
    ]
    .concat();
    let seen = trace(&bytes);
    let kinds: Vec<_> = seen.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "handshake",
            "server_hello",
            "(Some(\"TLS",
            "handshake",
            "certificate",
            "server_hello_done",
            "change_cipher_spec",
            "handshake",
            "application_data"
        ]
    );
}

#[test]
fn alerts_and_faults() {
    let refused = [record(22, &a_client_hello()), record(21, &[2, 40])].concat();
    assert_eq!(trace(&refused).last().unwrap(), "alert handshake_failure fatal true");
    assert_eq!(
        trace(b"GET / HTTP/1.1\r\n\r\n"),
        ["violation this is no TLS record (RFC 8446, 5.1) at 0"]
    );
    assert_eq!(
        trace(&record(22, &message(2, &[3, 3, 0])))[2],
        "violation a hello cannot be read (RFC 8446, 4.1) at 0"
    );
    assert_eq!(
        trace(&record(22, &[11, 0xff, 0xff, 0xff]))[1],
        "violation a handshake message is larger than the lens reads at 0"
    );
    assert_eq!(
        trace(&[23, 3, 3, 0xff, 0xff]),
        ["violation a record is longer than records may be (RFC 8446, 5.1) at 0"]
    );
    assert_eq!(
        trace(&record(22, &[]))[1],
        "violation a handshake record is empty (RFC 8446, 5.1) at 0"
    );
}

proptest! {
    #[test]
    fn pieces_change_nothing(
        records in proptest::collection::vec((prop_oneof![3 => 20u8..24, 1 => any::<u8>()], proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
        cuts in proptest::collection::vec(1usize..200, 1..20),
    ) {
        let noise: Vec<_> = records.iter().map(|(kind, payload)| record(*kind, payload)).collect();
        let bytes = [record(22, &a_client_hello()), noise.concat()].concat();
        let (mut pieces, mut scanner) = (Trace::default(), Records::new());
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            scanner.feed(now, &mut pieces);
            prop_assert!(scanner.memory() <= 2 * MAX_HANDSHAKE);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(pieces.0, trace(&bytes));
    }
}
