//! Huffman decoding of HPACK strings (RFC 7541, appendix B).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols. So the table is the list of lengths,
//! and decoding counts through it. Slow and plain on purpose: it has to be right, not fast.

/// The symbol that ends a string; it never appears in one.
const EOS: usize = 256;
/// The longest code.
const MAX_BITS: usize = 30;

/// Code length of each symbol, then of EOS.
#[rustfmt::skip]
const LENGTHS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // control characters
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6, // ' ' to '/'
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10, // '0' to '?'
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7, // '@' to 'O'
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6, // 'P' to '_'
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5, // '`' to 'o'
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28, // 'p' to DEL
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Decodes a Huffman-coded string; says what is wrong with one that is not.
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, &'static str> {
    let symbols = by_length();
    let mut out = Vec::with_capacity(coded.len() * 2);
    let (mut code, mut length) = (0_u32, 0_usize);
    let (mut first, mut padding_is_ones) = (0_u32, true);
    for bit in coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |i| u32::from(byte >> i & 1)))
    {
        code = code << 1 | bit;
        length += 1;
        padding_is_ones &= bit == 1;
        first <<= 1;
        let row = symbols.get(length).ok_or("code longer than any symbol's")?;
        if let Some(&symbol) = row.get((code - first) as usize) {
            if symbol == EOS {
                return Err("EOS inside a string");
            }
            out.push(symbol as u8);
            (code, length, first, padding_is_ones) = (0, 0, 0, true);
        } else {
            first += row.len() as u32;
        }
    }
    if length > 7 || !padding_is_ones {
        return Err("padding is not a prefix of EOS");
    }
    Ok(out)
}

/// Symbols by code length, in order: the position in a row is the code's distance from the row's first code.
fn by_length() -> [Vec<usize>; MAX_BITS + 1] {
    let mut rows: [Vec<usize>; MAX_BITS + 1] = std::array::from_fn(|_| Vec::new());
    for (symbol, length) in LENGTHS.iter().enumerate() {
        rows[usize::from(*length)].push(symbol);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_make_a_complete_prefix_code() {
        let kraft: u64 = LENGTHS
            .iter()
            .map(|length| 1 << (MAX_BITS as u64 - u64::from(*length)))
            .sum();
        assert_eq!(kraft, 1 << MAX_BITS);
    }

    #[test]
    fn decodes_the_examples_of_the_rfc() {
        // RFC 7541, C.4.1 and C.6.1.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&coded).unwrap(), b"www.example.com");
        let coded = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
            0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decode(&coded).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
    }

    #[test]
    fn refuses_bad_padding() {
        assert!(decode(&[0b0000_0000]).is_err(), "'0' and three zero bits");
        assert!(decode(&[0xff, 0xff]).is_err(), "padding of two bytes");
    }
}
