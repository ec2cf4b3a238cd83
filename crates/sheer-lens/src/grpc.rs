//! gRPC over HTTP/2: messages in DATA, and what its fields say (the protocol's PROTOCOL-HTTP2 document).
//!
//! [`Messages`] cuts a body into messages, [`decompress`] opens one under a hard limit, and [`metadata`] reads status, timeout and binary values.
//!
//! ```
//! use sheer_lens::grpc::{Message, Messages};
//!
//! let mut messages = Messages::new(1024);
//! let mut seen = Vec::new();
//! for piece in [&[0, 0, 0][..], &[0, 2, b'h'], &[b'i', 0, 0, 0, 0, 0]] {
//!     messages.feed(piece, &mut |message: &Message<'_>| seen.push(message.bytes.to_vec()));
//! }
//! assert_eq!(seen, [b"hi".to_vec(), Vec::new()]);
//! assert!(messages.is_between_messages());
//! ```

mod compression;
mod messages;
pub mod metadata;

pub use compression::{Decompressed, Encoding, Failed, MAX_ZSTD_WINDOW, decompress};
pub use messages::{Message, Messages, PREFIX};

#[cfg(test)]
mod tests;
