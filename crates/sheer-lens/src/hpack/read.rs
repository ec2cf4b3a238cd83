//! Integers, strings and the first bits of a representation (RFC 7541, 5 and 6).

use super::{Indexing, error::ErrorKind};

/// Bytes that may follow an integer's prefix: five carry 32 bits, and one more is forgiven.
const MAX_INTEGER_BYTES: u32 = 6;

/// How a representation begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instruction {
    Indexed(u32),
    /// The index of the name, or 0 where the name is spelled out.
    Literal(Indexing, u32),
    SizeUpdate(u32),
}

/// A string as it stands in the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) huffman: bool,
}

/// Takes representations off a block.
pub(super) struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.block.len()
    }

    #[inline]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, ErrorKind> {
        let byte = *self.block.get(self.at).ok_or(ErrorKind::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    // Always: through memory its parts would be stored one by one and loaded as one word, which the processor waits for, field by field.
    #[expect(
        clippy::inline_always,
        reason = "measured in a proxy under load: a sixth of the lens's time"
    )]
    #[inline(always)]
    pub(super) fn instruction(&mut self) -> Result<Instruction, ErrorKind> {
        let first = self.byte()?;
        Ok(match first {
            0x80.. => Instruction::Indexed(self.integer(first, 7)?),
            0x40..0x80 => Instruction::Literal(Indexing::Incremental, self.integer(first, 6)?),
            0x20..0x40 => Instruction::SizeUpdate(self.integer(first, 5)?),
            0x10..0x20 => Instruction::Literal(Indexing::Never, self.integer(first, 4)?),
            0x00..0x10 => Instruction::Literal(Indexing::Without, self.integer(first, 4)?),
        })
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<Text<'a>, ErrorKind> {
        let first = self.byte()?;
        let length = self.integer(first, 7)? as usize;
        let bytes = self.block[self.at..].get(..length).ok_or(ErrorKind::Truncated)?;
        self.at += length;
        Ok(Text {
            bytes,
            huffman: first & 0x80 != 0,
        })
    }

    /// An integer whose first byte, with `prefix` bits of it, has been read (RFC 7541, 5.1).
    #[inline]
    fn integer(&mut self, first: u8, prefix: u32) -> Result<u32, ErrorKind> {
        let mask = (1u32 << prefix) - 1;
        let value = u32::from(first) & mask;
        if value < mask {
            Ok(value)
        } else {
            self.long_integer(value)
        }
    }

    fn long_integer(&mut self, prefix: u32) -> Result<u32, ErrorKind> {
        let mut value = u64::from(prefix);
        for nth in 0..MAX_INTEGER_BYTES {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| ErrorKind::IntegerTooLarge);
            }
        }
        Err(ErrorKind::IntegerTooLarge)
    }
}
