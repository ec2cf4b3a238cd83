//! Opens compressed messages and bodies under a hard limit: what was made to burst only fills the limit.

use std::{fmt, io::Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Largest window that a zstd frame may ask for: what every decoder has to support (RFC 8878, 3.1.1.1.2).
pub const MAX_ZSTD_WINDOW: usize = 8 * 1024 * 1024;

/// An encoding of `grpc-encoding` or `content-encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 1950; what has no header of it is read as RFC 1951, as senders differ.
    Deflate,
    /// RFC 8878
    Zstd,
}

impl Encoding {
    /// By its name in the field; `None` for one that the lens cannot open.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if name.is_empty() || is("identity") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decompressed {
    /// At most as much as the limit.
    pub bytes: Vec<u8>,
    /// There is more than the limit lets out.
    pub is_cut: bool,
    /// Where the input ended early or turned out to be broken, what was wrong; `bytes` are those before.
    pub failed: Option<Failed>,
}

/// The input is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be decompressed: {}", self.0)
    }
}

impl std::error::Error for Failed {}

/// Decompresses up to `limit` bytes. Takes memory for those, and a constant for the decoder.
pub fn decompress(encoding: Encoding, bytes: &[u8], limit: usize) -> Decompressed {
    match encoding {
        Encoding::Identity => read(bytes, limit),
        Encoding::Gzip => read(MultiGzDecoder::new(bytes), limit),
        Encoding::Deflate if is_zlib(bytes) => read(ZlibDecoder::new(bytes), limit),
        Encoding::Deflate => read(DeflateDecoder::new(bytes), limit),
        Encoding::Zstd => match zstd(bytes) {
            Ok(decoder) => read(decoder, limit),
            Err(error) => Decompressed {
                bytes: Vec::new(),
                is_cut: false,
                failed: Some(Failed(error.to_string())),
            },
        },
    }
}

fn zstd(bytes: &[u8]) -> std::io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(MAX_ZSTD_WINDOW.ilog2())?;
    Ok(decoder)
}

/// A header of RFC 1950: method 8, and a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0xf == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31))
}

fn read(source: impl Read, limit: usize) -> Decompressed {
    let mut bytes = Vec::new();
    // One byte more tells whether there is more.
    let failed = source.take(limit as u64 + 1).read_to_end(&mut bytes).err();
    let is_cut = bytes.len() > limit;
    bytes.truncate(limit);
    Decompressed {
        bytes,
        is_cut,
        failed: failed.map(|error| Failed(error.to_string())),
    }
}
