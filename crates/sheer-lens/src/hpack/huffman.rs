//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B), decoder only.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, so the lengths alone give everything. Twelve bits
//! at a time are looked up, which yields two symbols for most text; codes longer than that are rare and found by their length.

use super::error::ErrorKind;

/// Bits of a code, by symbol; the last is EOS, which must not appear.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
/// End of string: a code that is only ever used, cut off, as padding.
const EOS: u16 = 256;
/// Shortest and longest code.
const SHORTEST: usize = 5;
const LONGEST: usize = 30;
/// Bits that one look-up takes.
const LOOKUP_BITS: usize = 12;

/// What twelve bits begin with: no, one or two symbols.
#[derive(Clone, Copy)]
struct Lookup {
    symbols: [u8; 2],
    /// 0 where the code is longer than the look-up.
    count: u8,
    /// Bits of all symbols.
    bits: u8,
}

/// Codes of one length: the first of them, and where its symbol stands in `sorted`.
#[derive(Clone, Copy)]
struct Length {
    first: u32,
    count: u32,
    offset: u32,
}

#[derive(Clone, Copy)]
struct Tables {
    lookup: [Lookup; 1 << LOOKUP_BITS],
    lengths: [Length; LONGEST + 1],
    /// Symbols by length, then by number.
    sorted: [u16; 257],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        lookup: [Lookup {
            symbols: [0; 2],
            count: 0,
            bits: 0,
        }; 1 << LOOKUP_BITS],
        lengths: [Length {
            first: 0,
            count: 0,
            offset: 0,
        }; LONGEST + 1],
        sorted: [0; 257],
    };
    let (mut code, mut sorted, mut bits) = (0u32, 0usize, SHORTEST);
    while bits <= LONGEST {
        tables.lengths[bits] = Length {
            first: code,
            count: 0,
            offset: sorted as u32,
        };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                tables.sorted[sorted] = symbol as u16;
                tables.lengths[bits].count += 1;
                if bits <= LOOKUP_BITS {
                    let (first, spread) = ((code as usize) << (LOOKUP_BITS - bits), 1 << (LOOKUP_BITS - bits));
                    let mut i = first;
                    while i < first + spread {
                        tables.lookup[i] = Lookup {
                            symbols: [symbol as u8, 0],
                            count: 1,
                            bits: bits as u8,
                        };
                        i += 1;
                    }
                }
                sorted += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    pair(tables)
}

/// Adds the second symbol where both fit into a look-up.
const fn pair(tables: Tables) -> Tables {
    let mut paired = tables;
    let mut i = 0;
    while i < 1 << LOOKUP_BITS {
        // From the table as it was: an entry that already has two would bring the wrong length.
        let first = tables.lookup[i];
        if first.count == 1 {
            let second = tables.lookup[(i << first.bits) & ((1 << LOOKUP_BITS) - 1)];
            let bits = first.bits + second.bits;
            if second.count == 1 && bits as usize <= LOOKUP_BITS {
                let symbols = [first.symbols[0], second.symbols[0]];
                paired.lookup[i] = Lookup {
                    symbols,
                    count: 2,
                    bits,
                };
            }
        }
        i += 1;
    }
    paired
}

/// Longest text that this many coded bytes can give, and one byte of slack that [`decode`] may write to.
pub(super) fn longest(coded: usize) -> usize {
    coded * 8 / SHORTEST + 1
}

/// Decodes into `out`, which has at least [`longest`] bytes, and says how many are the text.
pub(super) fn decode(coded: &[u8], out: &mut [u8]) -> Result<usize, ErrorKind> {
    let mut bits = Bits::new(coded);
    let mut written = 0;
    loop {
        // While eight bytes are left there are 56 bits or more, and those are four look-ups that need not ask.
        while bits.refill_word() {
            let mut lookups = 0;
            while lookups < 4 {
                let lookup = TABLES.lookup[(bits.window >> (64 - LOOKUP_BITS)) as usize];
                if lookup.count == 0 {
                    break;
                }
                out[written..written + 2].copy_from_slice(&lookup.symbols);
                written += usize::from(lookup.count);
                bits.take(u32::from(lookup.bits));
                lookups += 1;
            }
            if lookups < 4 {
                break;
            }
        }
        bits.refill();
        let lookup = TABLES.lookup[(bits.window >> (64 - LOOKUP_BITS)) as usize];
        if lookup.count != 0 && u32::from(lookup.bits) <= bits.left {
            out[written..written + 2].copy_from_slice(&lookup.symbols);
            written += usize::from(lookup.count);
            bits.take(u32::from(lookup.bits));
            continue;
        }
        let (symbol, length) = match lookup.count {
            0 => long(bits.window).unwrap_or((EOS, LONGEST as u32)),
            _ => (
                u16::from(lookup.symbols[0]),
                u32::from(LENGTHS[usize::from(lookup.symbols[0])]),
            ),
        };
        if length > bits.left {
            return padding(bits.window, bits.left).map(|()| written);
        }
        // Bytes only: EOS is the one symbol that does not fit.
        out[written] = u8::try_from(symbol).map_err(|_| ErrorKind::HuffmanEos)?;
        written += 1;
        bits.take(length);
    }
}

/// The symbol whose code, longer than a look-up, the window begins with.
#[cold]
fn long(window: u64) -> Option<(u16, u32)> {
    (LOOKUP_BITS + 1..=LONGEST).find_map(|bits| {
        let length = TABLES.lengths[bits];
        let nth = ((window >> (64 - bits)) as u32).checked_sub(length.first)?;
        (nth < length.count).then(|| (TABLES.sorted[(length.offset + nth) as usize], bits as u32))
    })
}

/// What is left over is the beginning of EOS, shorter than a byte (RFC 7541, 5.2).
fn padding(window: u64, left: u32) -> Result<(), ErrorKind> {
    match left {
        0 => Ok(()),
        8.. => Err(ErrorKind::HuffmanPaddingTooLong),
        _ if window >> (64 - left) == (1 << left) - 1 => Ok(()),
        _ => Err(ErrorKind::HuffmanPaddingNotOnes),
    }
}

/// Bits, the next one highest.
struct Bits<'a> {
    rest: &'a [u8],
    /// Bits below `left` are those of bytes that come next, or zero.
    window: u64,
    left: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            window: 0,
            left: 0,
        }
    }

    /// Fills up to at least 56 bits at once; false where fewer than eight bytes are left to do so.
    #[inline]
    fn refill_word(&mut self) -> bool {
        let Some(word) = self.rest.first_chunk::<8>() else {
            return false;
        };
        // Whole bytes are counted; what is below them is the same bits that a later refill brings again.
        self.window |= u64::from_be_bytes(*word) >> self.left;
        let bytes = (63 - self.left) / 8;
        self.rest = &self.rest[bytes as usize..];
        self.left += bytes * 8;
        true
    }

    /// Fills up to at least 56 bits, or with all that there are.
    #[inline]
    fn refill(&mut self) {
        if self.left > 32 || self.refill_word() {
            return;
        }
        while let ([byte, rest @ ..], true) = (self.rest, self.left <= 56) {
            self.window |= u64::from(*byte) << (56 - self.left);
            self.left += 8;
            self.rest = rest;
        }
    }

    #[inline]
    fn take(&mut self, bits: u32) {
        self.window <<= bits;
        self.left -= bits;
    }
}

#[cfg(test)]
mod tests;
