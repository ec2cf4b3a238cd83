//! The chunked coding (RFC 9112 7.1), read. Strict to the letter: whatever two readers could take apart differently is refused.
//!
//! ```text
//! Size ──size > 0──► Data ──all taken──► End ──CRLF──► Size
//!   └────size = 0──► Trailers ──empty line──► Done
//! ```

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::{Limits, ParseError, parse};

/// 16 hexadecimal digits are 64 bits; leading zeros beyond that serve only to confuse.
const MAX_DIGITS: usize = 16;

/// Takes chunks apart. Holds no bytes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Before a size line.
    Size,
    /// This many bytes of the chunk are to come.
    Data(u64),
    /// After the data of a chunk, before its CRLF.
    End,
    /// In the trailer section, of which this many bytes were looked at.
    Trailers(usize),
    /// Past the trailer section.
    Done,
}

/// What a look at the buffer gave.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes of the body.
    Data(Bytes),
    /// A trailer section that is not empty.
    Trailers(Bytes),
    /// The body is over.
    Done,
    /// Nothing; more bytes are needed.
    More,
}

impl Chunked {
    /// Takes the next piece off the front of `buf`.
    pub(super) fn step(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Step, ParseError> {
        loop {
            *self = match *self {
                Self::Size => match size_line(buf, limits)? {
                    None => return Ok(Step::More),
                    Some((length, size)) => {
                        buf.advance(length);
                        if size == 0 { Self::Trailers(0) } else { Self::Data(size) }
                    }
                },
                Self::Data(left) => {
                    if buf.is_empty() {
                        return Ok(Step::More);
                    }
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    let left = left - taken as u64;
                    *self = if left == 0 { Self::End } else { Self::Data(left) };
                    return Ok(Step::Data(buf.split_to(taken).freeze()));
                }
                Self::End => match **buf {
                    [b'\r', b'\n', ..] => {
                        buf.advance(2);
                        Self::Size
                    }
                    [] | [b'\r'] => return Ok(Step::More),
                    _ => return Err(ParseError::ChunkEnd),
                },
                Self::Trailers(scanned) => match trailers(buf, scanned, limits)? {
                    parse::Scan::Ends(end) => {
                        *self = Self::Done;
                        let section = buf.split_to(end);
                        return Ok(if end == 2 {
                            Step::Done
                        } else {
                            Step::Trailers(section.freeze())
                        });
                    }
                    parse::Scan::From(scanned) => {
                        *self = Self::Trailers(scanned);
                        return Ok(Step::More);
                    }
                },
                Self::Done => return Ok(Step::Done),
            };
        }
    }

    /// Whether the body is over, or the buffer says at once that it is: `CRLF 0 CRLF CRLF`. Lets the path end a stream with its last data.
    pub(super) fn try_end(&mut self, buf: &mut BytesMut) -> bool {
        if *self == Self::End && buf.starts_with(b"\r\n0\r\n\r\n") {
            buf.advance(7);
            *self = Self::Done;
        }
        *self == Self::Done
    }
}

/// The size line at the front: its length and the size; `None` where it is not whole. Says no at the first wrong byte.
fn size_line(buf: &[u8], limits: &Limits) -> Result<Option<(usize, u64)>, ParseError> {
    let digits = buf.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MAX_DIGITS {
        return Err(ParseError::ChunkSize);
    }
    let (size, rest) = buf.split_at(digits);
    match rest {
        [] => return Ok(None),
        _ if digits == 0 => return Err(ParseError::ChunkSize),
        [b'\r', ..] => {}
        [b';', ..] => {}
        [b'\n', ..] => return Err(ParseError::BareLf),
        _ => return Err(ParseError::ChunkSize),
    }
    let too_long = ParseError::ChunkExtension {
        limit: limits.chunk_extension,
    };
    // The extension may be as long as the limit, and CRLF follows it.
    let window = &rest[..rest.len().min(limits.chunk_extension + 2)];
    let Some(lf) = memchr(b'\n', window) else {
        return if window.len() < limits.chunk_extension + 2 {
            Ok(None)
        } else {
            Err(too_long)
        };
    };
    let Some(extension) = rest[..lf].strip_suffix(b"\r") else {
        return Err(ParseError::BareLf);
    };
    if extension
        .iter()
        .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
    {
        return Err(too_long);
    }
    let size = size.iter().fold(0, |size, digit| size << 4 | u64::from(hex(*digit)));
    Ok(Some((digits + lf + 1, size)))
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Looks for the end of the trailer section.
fn trailers(buf: &[u8], scanned: usize, limits: &Limits) -> Result<parse::Scan, ParseError> {
    let end = match *buf {
        [b'\r', b'\n', ..] => parse::Scan::Ends(2),
        [b'\n', ..] => return Err(ParseError::BareLf),
        _ => parse::scan(buf, scanned),
    };
    let length = match end {
        parse::Scan::Ends(end) => end,
        parse::Scan::From(_) => buf.len(),
    };
    if length > limits.trailers {
        return Err(ParseError::TrailersTooLarge { limit: limits.trailers });
    }
    Ok(end)
}
