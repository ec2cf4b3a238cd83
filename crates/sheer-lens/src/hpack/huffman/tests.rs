use proptest::prelude::*;

use super::*;

fn code(symbol: usize) -> (u32, usize) {
    let bits = usize::from(LENGTHS[symbol]);
    let length = TABLES.lengths[bits];
    let sorted = &TABLES.sorted[length.offset as usize..(length.offset + length.count) as usize];
    let nth = sorted
        .iter()
        .position(|s| usize::from(*s) == symbol)
        .expect("in the table");
    (length.first + nth as u32, bits)
}

/// Bit by bit: slow, and nothing like the decoder.
fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for byte in text {
        let (code, length) = code(usize::from(*byte));
        bits.extend((0..length).rev().map(|i| code >> i & 1 == 1));
    }
    while !bits.len().is_multiple_of(8) {
        bits.push(true);
    }
    bits.chunks(8)
        .map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
        .collect()
}

fn decoded(coded: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    let mut out = vec![0; longest(coded.len())];
    let length = decode(coded, &mut out)?;
    out.truncate(length);
    Ok(out)
}

/// A few codes as appendix B prints them, of every kind of length.
#[test]
fn codes_are_those_of_the_rfc() {
    for (symbol, expected) in [
        (usize::from(b'0'), (0x0, 5)),
        (usize::from(b'a'), (0x3, 5)),
        (usize::from(b' '), (0x14, 6)),
        (usize::from(b'X'), (0xfc, 8)),
        (usize::from(b'\\'), (0x7fff0, 19)),
        (0, (0x1ff8, 13)),
        (10, (0x3fff_fffc, 30)),
        (127, (0x0fff_fffc, 28)),
        (199, (0x01ff_ffec, 25)),
        (255, (0x03ff_ffee, 26)),
        (256, (0x3fff_ffff, 30)),
    ] {
        assert_eq!(code(symbol), expected, "symbol {symbol}");
    }
}

#[test]
fn strings_of_the_rfc() {
    // RFC 7541, C.4 and C.6
    for (coded, text) in [
        ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
        ("a8eb10649cbf", "no-cache"),
        ("25a849e95ba97d7f", "custom-key"),
        ("25a849e95bb8e8b4bf", "custom-value"),
        ("6402", "302"),
        ("aec3771a4b", "private"),
        (
            "d07abe941054d444a8200595040b8166e082a62d1bff",
            "Mon, 21 Oct 2013 20:13:21 GMT",
        ),
    ] {
        let coded: Vec<u8> = (0..coded.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&coded[i..i + 2], 16).unwrap())
            .collect();
        assert_eq!(decoded(&coded).unwrap(), text.as_bytes());
        assert_eq!(encode(text.as_bytes()), coded);
    }
}

#[test]
fn padding_is_the_beginning_of_eos_and_shorter_than_a_byte() {
    assert_eq!(decoded(&[]), Ok(Vec::new()));
    assert_eq!(decoded(&[0x07]), Ok(b"0".to_vec())); // five bits of '0', three ones
    assert_eq!(decoded(&[0x00]), Err(ErrorKind::HuffmanPaddingNotOnes));
    assert_eq!(decoded(&[0x06]), Err(ErrorKind::HuffmanPaddingNotOnes));
    assert_eq!(decoded(&[0xff]), Err(ErrorKind::HuffmanPaddingTooLong));
    assert_eq!(decoded(&[0x07, 0xff]), Err(ErrorKind::HuffmanPaddingTooLong));
    assert_eq!(decoded(&[0xff; 3]), Err(ErrorKind::HuffmanPaddingTooLong));
    assert_eq!(decoded(&[0xff; 4]), Err(ErrorKind::HuffmanEos));
    assert_eq!(decoded(&[0xff; 40]), Err(ErrorKind::HuffmanEos));
}

#[test]
fn every_byte_after_every_byte() {
    for first in 0..=255u8 {
        for second in 0..=255u8 {
            let text = [first, second, first];
            assert_eq!(decoded(&encode(&text)).as_deref(), Ok(&text[..]));
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(decoded(&encode(&text)).unwrap(), text);
    }

    /// A code is complete: what decodes at all encodes to the same bytes.
    #[test]
    fn what_is_decoded_is_encoded(coded in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(text) = decoded(&coded) {
            prop_assert_eq!(encode(&text), coded);
        }
    }
}
