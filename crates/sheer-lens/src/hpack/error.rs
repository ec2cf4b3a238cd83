//! What can be wrong with a header block, with the rule that it breaks.

use std::fmt;

/// Why a header block cannot be decoded. The table is unknown afterwards: RFC 9113 4.3 has the connection end with `COMPRESSION_ERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which byte of the block the faulty representation begins with.
    pub at: usize,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What is wrong with a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The block ends within a representation.
    Truncated,
    /// Index 0 where an entry is meant.
    IndexZero,
    /// An index past the end of the dynamic table: an entry that has been evicted or never was.
    IndexBeyondTable {
        /// The index.
        index: u32,
        /// Entries of the static and the dynamic table together.
        entries: u32,
    },
    /// An integer that does not fit into 32 bits, or takes more bytes than one needs.
    IntegerTooLarge,
    /// The EOS symbol in a Huffman string.
    HuffmanEos,
    /// A Huffman string with a byte or more of padding.
    HuffmanPaddingTooLong,
    /// A Huffman string whose padding is not the beginning of EOS.
    HuffmanPaddingNotOnes,
    /// A size update after the first field.
    SizeUpdateAfterField,
    /// A table that is larger than the lens will mirror.
    TableBeyondLimit {
        /// The size.
        size: u32,
        /// The lens's own limit.
        limit: u32,
    },
    /// A block before this one was lost or could not be decoded, so the table is unknown.
    TableUnknown,
}

impl ErrorKind {
    /// The section of RFC 7541 that says so; `None` where nothing is wrong with the block itself.
    pub fn section(self) -> Option<&'static str> {
        Some(match self {
            Self::Truncated => "3.2",
            Self::IndexZero => "6.1",
            Self::IndexBeyondTable { .. } => "2.3.3",
            Self::IntegerTooLarge => "5.1",
            Self::HuffmanEos | Self::HuffmanPaddingTooLong | Self::HuffmanPaddingNotOnes => "5.2",
            Self::SizeUpdateAfterField => "4.2",
            Self::TableBeyondLimit { .. } | Self::TableUnknown => return None,
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the header block ends within a field"),
            Self::IndexZero => f.write_str("index 0 stands for no entry"),
            Self::IndexBeyondTable { index, entries } => {
                write!(f, "index {index} is beyond the {entries} entries of the tables")
            }
            Self::IntegerTooLarge => f.write_str("an integer does not fit into 32 bits"),
            Self::HuffmanEos => f.write_str("a Huffman string contains EOS"),
            Self::HuffmanPaddingTooLong => f.write_str("a Huffman string has a byte or more of padding"),
            Self::HuffmanPaddingNotOnes => f.write_str("the padding of a Huffman string is not all ones"),
            Self::SizeUpdateAfterField => f.write_str("the table's size is set after the first field"),
            Self::TableBeyondLimit { size, limit } => {
                write!(f, "the table is set to {size} bytes, but only {limit} are followed")
            }
            Self::TableUnknown => f.write_str("an earlier header block was lost, so the table is unknown"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at byte {}", self.kind, self.at)?;
        self.kind
            .section()
            .map_or(Ok(()), |section| write!(f, " (RFC 7541, {section})"))
    }
}

impl std::error::Error for Error {}

/// A rule that an encoder broke in a block that can be decoded all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The decoder's side lowered the table's size and acknowledged settings, but the next block does not begin with that size (RFC 7541, 4.2).
    SizeUpdateMissing {
        /// `SETTINGS_HEADER_TABLE_SIZE`, as acknowledged.
        allowed: u32,
        /// What the table still has.
        size: u32,
    },
    /// A size beyond what the decoder's side allows (RFC 7541, 6.3). The table has it all the same: it is the encoder's.
    SizeUpdateTooLarge {
        /// The size.
        size: u32,
        /// `SETTINGS_HEADER_TABLE_SIZE`, as acknowledged.
        allowed: u32,
    },
    /// More than two size updates at the beginning of a block (RFC 7541, 4.2).
    SizeUpdatesTooMany,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SizeUpdateMissing { allowed, size } => {
                write!(
                    f,
                    "the table may have {allowed} bytes, but the encoder keeps {size} (RFC 7541, 4.2)"
                )
            }
            Self::SizeUpdateTooLarge { size, allowed } => {
                write!(
                    f,
                    "the table is set to {size} bytes where {allowed} are allowed (RFC 7541, 6.3)"
                )
            }
            Self::SizeUpdatesTooMany => {
                f.write_str("the table's size is set more than twice in a block (RFC 7541, 4.2)")
            }
        }
    }
}
