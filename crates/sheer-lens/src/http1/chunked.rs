//! The chunked coding (RFC 9112, 7.1), up to its last chunk. Trailers are read as a head is.

use memchr::memchr;

use super::Rule;

/// Longest line of a chunk's size, its extensions included.
pub const MAX_CHUNK_LINE: usize = 4096;

///```text
/// Size ──► Extension ──► Data ──► End ──► Size …
///                 └────► Trailers            (size 0)
///```
#[derive(Clone, Copy, Debug)]
enum State {
    /// Digits so far, and their value.
    Size {
        digits: u32,
        size: u64,
    },
    /// The rest of the line. `seen` counts the whole line, `is_cr` is whether its last byte is CR.
    Extension {
        size: u64,
        seen: usize,
        is_cr: bool,
    },
    Data {
        left: u64,
    },
    /// After the data: whether CR has been seen.
    End {
        is_cr: bool,
    },
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A part of the coding itself.
    Coding,
    /// A chunk of this many bytes begins.
    Chunk(u64),
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The last chunk: trailers follow.
    Last,
}

/// Follows chunks.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    state: State,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size { digits: 0, size: 0 },
        }
    }

    /// Takes what it can of `bytes`, which are not empty, and says what that was and what is left.
    pub(super) fn step<'a>(
        &mut self,
        bytes: &'a [u8],
        mut report: impl FnMut(Rule),
    ) -> Result<(Step<'a>, &'a [u8]), Rule> {
        let (byte, rest) = (bytes[0], &bytes[1..]);
        match self.state {
            State::Size { digits, size } => match char::from(byte).to_digit(16) {
                Some(digit) if digits < 15 => {
                    self.state = State::Size {
                        digits: digits + 1,
                        size: size << 4 | u64::from(digit),
                    };
                    Ok((Step::Coding, rest))
                }
                None if digits > 0 && matches!(byte, b'\r' | b'\n' | b';' | b' ' | b'\t') => {
                    self.state = State::Extension {
                        size,
                        seen: digits as usize,
                        is_cr: false,
                    };
                    Ok((Step::Coding, bytes))
                }
                _ => Err(Rule::ChunkSize),
            },
            State::Extension { size, seen, is_cr } => {
                let length = memchr(b'\n', bytes).unwrap_or(bytes.len());
                if seen + length > MAX_CHUNK_LINE {
                    return Err(Rule::ChunkLineTooLong);
                }
                let is_cr = length.checked_sub(1).map_or(is_cr, |last| bytes[last] == b'\r');
                if length == bytes.len() {
                    self.state = State::Extension {
                        size,
                        seen: seen + length,
                        is_cr,
                    };
                    return Ok((Step::Coding, &[]));
                }
                if !is_cr {
                    report(Rule::ChunkLineFeed);
                }
                self.state = State::Data { left: size };
                let step = if size == 0 { Step::Last } else { Step::Chunk(size) };
                Ok((step, &bytes[length + 1..]))
            }
            State::Data { left } => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (data, rest) = bytes.split_at(length);
                let left = left - length as u64;
                self.state = if left == 0 {
                    State::End { is_cr: false }
                } else {
                    State::Data { left }
                };
                Ok((Step::Data(data), rest))
            }
            State::End { is_cr } => match (byte, is_cr) {
                (b'\r', false) => {
                    self.state = State::End { is_cr: true };
                    Ok((Step::Coding, rest))
                }
                (b'\n', _) => {
                    if !is_cr {
                        report(Rule::ChunkLineFeed);
                    }
                    *self = Self::new();
                    Ok((Step::Coding, rest))
                }
                _ => Err(Rule::ChunkEnd),
            },
        }
    }
}
