//! ClientHello decoding: whole, in pieces, malformed, hostile.

use proptest::prelude::*;
use sheer_lens::client_hello::{ClientHello, MAX_CLIENT_HELLO, client_hello};

/// A vector with its length before it, in `width` bytes.
fn vector(width: usize, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32).to_be_bytes()[4 - width..].to_vec();
    out.extend_from_slice(body);
    out
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, body)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, name.as_bytes())].concat()))
}

fn alpn(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = protocols
        .iter()
        .flat_map(|protocol| vector(1, protocol.as_bytes()))
        .collect();
    extension(16, &vector(2, &list))
}

/// A handshake message.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend(vector(1, &[9; 32]));
    body.extend(vector(2, &[0x13, 0x01, 0x13, 0x02]));
    body.extend(vector(1, &[0]));
    body.extend(vector(2, &extensions.concat()));
    [&[1][..], &vector(3, &body)].concat()
}

/// The message, cut into records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat())
        .collect()
}

/// As browsers and rustls send it: the key share of X25519MLKEM768 alone has 1,216 bytes.
fn post_quantum() -> Vec<u8> {
    message(&[
        extension(51, &[5; 1260]),
        server_name("Ledger.bank.svc.cluster.local"),
        alpn(&["h2", "http/1.1"]),
    ])
}

fn found(sni: &str, alpn: &[&str]) -> ClientHello {
    ClientHello::Complete {
        sni: Some(sni.to_owned()),
        alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
    }
}

#[test]
fn a_post_quantum_hello_is_read_in_every_fragmentation() {
    for size in [1, 2, 3, 5, 100, 512, 1024, 16_384] {
        let bytes = records(&post_quantum(), size);
        assert_eq!(
            client_hello(&bytes),
            found("ledger.bank.svc.cluster.local", &["h2", "http/1.1"]),
            "records of {size}"
        );
    }
}

#[test]
fn bytes_after_the_hello_do_not_matter() {
    let mut bytes = records(&message(&[server_name("a")]), 16_384);
    bytes.extend_from_slice(&[23, 3, 3, 0, 1, 0xff]);
    assert_eq!(client_hello(&bytes), found("a", &[]));
}

#[test]
fn a_hello_without_extensions_is_one() {
    let mut body = vec![3, 1];
    body.extend_from_slice(&[7; 32]);
    body.extend([0, 0, 2, 0, 10, 1, 0]);
    let bytes = records(&[&[1][..], &vector(3, &body)].concat(), 16_384);
    assert_eq!(
        client_hello(&bytes),
        ClientHello::Complete {
            sni: None,
            alpn: vec![]
        }
    );
}

#[test]
fn a_server_name_that_is_no_dns_name_is_left_out() {
    for name in ["", "a b", "ex\u{e4}mple", "a\0b"] {
        let bytes = records(&message(&[server_name(name)]), 16_384);
        assert_eq!(
            client_hello(&bytes),
            ClientHello::Complete {
                sni: None,
                alpn: vec![]
            },
            "{name:?}"
        );
    }
}

#[test]
fn other_protocols_are_told_at_their_first_wrong_byte() {
    for (bytes, what) in [
        (&b"G"[..], "HTTP"),
        (b"SSH-2.0", "SSH"),
        (&[0x16, 0x02], "a wrong major version"),
        (&[0x16, 3, 9], "a wrong minor version"),
        (&[0x16, 3, 1, 0, 0], "an empty record"),
        (&[0x16, 3, 1, 0x40, 1], "a record over 2^14"),
        (&[0x16, 3, 1, 0, 5, 2], "a ServerHello"),
        (&[0x16, 3, 1, 0, 5, 1, 0, 0x40, 1], "a message over 16 KiB"),
        (&[0x80, 0x2e, 1, 3, 1], "SSL 2"),
        (&[23, 3, 3], "application data"),
    ] {
        assert_eq!(client_hello(bytes), ClientHello::NotTls, "{what}");
    }
}

#[test]
fn malformed_hellos_are_refused() {
    let whole = message(&[server_name("a"), alpn(&["h2"])]);
    // Every length field that lies by one makes the message something else.
    for at in [38, 72, 77, 80, 84, 86, 89] {
        let mut lying = whole.clone();
        lying[at] = lying[at].wrapping_add(1);
        assert_eq!(
            client_hello(&records(&lying, 16_384)),
            ClientHello::NotTls,
            "length at {at}"
        );
    }
    let empty_protocol = message(&[extension(16, &[0, 1, 0])]);
    assert_eq!(client_hello(&records(&empty_protocol, 16_384)), ClientHello::NotTls);
}

#[test]
fn waiting_is_bounded() {
    // A hello that never ends is given up as soon as its length is known.
    let mut endless = vec![22, 3, 1, 0x40, 0, 1];
    endless.extend_from_slice(&(MAX_CLIENT_HELLO as u32 + 1).to_be_bytes()[1..]);
    assert_eq!(client_hello(&endless), ClientHello::NotTls);
}

proptest! {
    #[test]
    fn every_prefix_is_incomplete(
        name in "[a-z]{1,20}(\\.[a-z0-9-]{1,20}){0,3}",
        protocols in prop::collection::vec("[a-z0-9./]{1,12}", 0..4),
        padding in 0_usize..3000,
        size in 1_usize..4000,
    ) {
        let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
        let message = message(&[extension(21, &vec![0; padding]), alpn(&protocols), server_name(&name)]);
        let bytes = records(&message, size);
        let step = bytes.len() / 97 + 1;
        for end in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            prop_assert_eq!(client_hello(&bytes[..end]), ClientHello::Incomplete);
        }
        prop_assert_eq!(client_hello(&bytes), found(&name, &protocols));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        client_hello(&bytes);
        // The same as the body of a hello, so that the parser behind the framing sees it too.
        let message = [&[1][..], &vector(3, &bytes)].concat();
        client_hello(&records(&message, 100));
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0_usize..1400, value in any::<u8>()) {
        let mut bytes = records(&post_quantum(), 400);
        let at = at % bytes.len();
        bytes[at] = value;
        client_hello(&bytes);
    }
}
