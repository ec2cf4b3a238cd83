//! Messages in any pieces, bombs, and the fields.

use std::{io::Write, time::Duration};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use proptest::prelude::*;

use super::*;

fn compressed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    let level = Compression::best();
    match encoding {
        Encoding::Identity => bytes.to_vec(),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zstd => zstd::encode_all(bytes, 19).unwrap(),
    }
}

const ALL: [Encoding; 4] = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

#[test]
fn every_encoding_is_opened() {
    let text = b"the same words again and again and again".repeat(20);
    for encoding in ALL {
        let whole = Decompressed {
            bytes: text.clone(),
            is_cut: false,
            failed: None,
        };
        assert_eq!(
            decompress(encoding, &compressed(encoding, &text), text.len()),
            whole,
            "{encoding:?}"
        );
    }
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
    raw.write_all(&text).unwrap();
    assert_eq!(decompress(Encoding::Deflate, &raw.finish().unwrap(), 4096).bytes, text);
    let names = [
        ("", Encoding::Identity),
        ("GZIP", Encoding::Gzip),
        ("deflate", Encoding::Deflate),
        ("zstd", Encoding::Zstd),
    ];
    for (name, encoding) in names {
        assert_eq!(Encoding::by_name(name.as_bytes()), Some(encoding));
    }
    assert_eq!(Encoding::by_name(b"snappy"), None);
}

#[test]
fn a_bomb_fills_the_limit_and_no_more() {
    let zeros = vec![0; 50 << 20];
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
        let bomb = compressed(encoding, &zeros);
        assert!(bomb.len() < 60_000);
        let opened = decompress(encoding, &bomb, 10_000);
        assert_eq!(
            (opened.bytes.len(), opened.is_cut, opened.failed),
            (10_000, true, None),
            "{encoding:?}"
        );
        assert!(opened.bytes.capacity() < 100_000);
    }
    // A frame that asks for a window of 2 GiB, which a decoder would have to keep.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(decompress(Encoding::Zstd, &window, 100).failed.is_some());
}

#[test]
fn what_is_broken_is_opened_as_far_as_it_goes() {
    let text: Vec<u8> = (0..40_000u32).flat_map(|i| (i * 2_654_435_761).to_be_bytes()).collect();
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
        let whole = compressed(encoding, &text);
        let opened = decompress(encoding, &whole[..whole.len() * 9 / 10], 1 << 20);
        assert!(
            opened.failed.is_some() && text.starts_with(&opened.bytes) && !opened.bytes.is_empty(),
            "{encoding:?}"
        );
        assert!(decompress(encoding, b"plain text", 100).failed.is_some());
    }
}

#[test]
fn fields_are_read() {
    assert_eq!(
        metadata::status(b"13").and_then(metadata::status_name),
        Some("INTERNAL")
    );
    assert_eq!(
        (
            metadata::status(b"+1"),
            metadata::status(b""),
            metadata::status_name(17)
        ),
        (None, None, None)
    );
    assert_eq!(
        metadata::message(b"no%20such%20account%3a %C3%A9 100% %zz %"),
        "no such account: \u{e9} 100% %zz %"
    );
    assert_eq!(metadata::message(b"%ff"), "\u{fffd}");
    for (value, timeout) in [
        ("1S", Some(1_000_000)),
        ("20m", Some(20_000)),
        ("99999999H", Some(99_999_999 * 3_600_000_000)),
        ("5M", Some(300_000_000)),
        ("7u", Some(7)),
    ] {
        assert_eq!(
            metadata::timeout(value.as_bytes()),
            timeout.map(Duration::from_micros),
            "{value}"
        );
    }
    for value in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S"] {
        assert_eq!(metadata::timeout(value.as_bytes()), None, "{value}");
    }
    assert_eq!(metadata::timeout(b"3n"), Some(Duration::from_nanos(3)));
    assert!(metadata::is_binary(b"grpc-status-details-bin") && !metadata::is_binary(b"bin"));
    assert_eq!(
        metadata::binary(b"AQI=, AQI,"),
        Some(vec![vec![1, 2], vec![1, 2], vec![]])
    );
    assert_eq!(metadata::binary(b"?"), None);
}

#[test]
fn a_message_larger_than_the_limit_keeps_its_beginning() {
    let body = [&[1, 0, 0, 0, 6][..], b"abcdef", &[0, 0, 0, 0, 1], b"g"].concat();
    for pieces in [1, 2, 5, 100] {
        let (mut messages, mut seen) = (Messages::new(4), Vec::new());
        let mut show = |message: &Message<'_>| {
            seen.push((
                message.index,
                message.is_compressed(),
                message.is_whole(),
                message.bytes.to_vec(),
            ))
        };
        body.chunks(pieces).for_each(|piece| messages.feed(piece, &mut show));
        assert_eq!(
            seen,
            [(0, true, false, b"abcd".to_vec()), (1, false, true, b"g".to_vec())]
        );
    }
}

proptest! {
    #[test]
    fn pieces_change_nothing(body in proptest::collection::vec(prop_oneof![3 => 0u8..4, 1 => any::<u8>()], 0..200), cuts in proptest::collection::vec(1usize..20, 1..20)) {
        let run = |pieces: Vec<&[u8]>| {
            let (mut messages, mut seen) = (Messages::new(16), Vec::new());
            for piece in pieces {
                messages.feed(piece, &mut |message: &Message<'_>| seen.push((message.index, message.flag, message.length, message.bytes.to_vec())));
                assert!(messages.memory() <= 64);
            }
            (seen, messages.is_between_messages())
        };
        let (mut pieces, mut rest) = (Vec::new(), body.as_slice());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            pieces.push(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(run(pieces), run(vec![&body]));
    }

    #[test]
    fn anything_is_opened_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for encoding in ALL {
            prop_assert!(decompress(encoding, &bytes, 1000).bytes.len() <= 1000);
        }
    }
}
