//! HTTP/2 (RFC 9113): bytes in, frames, header blocks and broken rules out.
//!
//! [`Decoder`] follows one direction and knows frames only. [`Connection`] joins both: it applies settings when they are acknowledged, holds the HPACK
//! state of either direction, and keeps the flow-control windows. [`fields`] judges a decoded header list. A body's bytes pass through as slices
//! and are kept nowhere.
//!
//! ```
//! use sheer_lens::h2::{Decoder, Frame, Sender, Visitor};
//!
//! #[derive(Default)]
//! struct Types(Vec<String>);
//! impl Visitor for Types {
//!     fn frame(&mut self, frame: &Frame<'_>) {
//!         self.0.push(frame.header.kind.to_string());
//!     }
//! }
//!
//! let mut types = Types::default();
//! let mut decoder = Decoder::new(Sender::Server);
//! for byte in [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0] {
//!     decoder.feed(&[byte], &mut types); // in any pieces
//! }
//! assert_eq!(types.0, ["SETTINGS", "WINDOW_UPDATE"]);
//! ```

mod connection;
mod decoder;
pub mod fields;
mod frame;
mod names;
mod payload;
mod streams;
mod violation;

pub use connection::{Connection, Events, MAX_PENDING_SETTINGS, Room, Settings};
pub use decoder::{Block, BlockKind, Decoder, MAX_BLOCK, MAX_PAYLOAD, Visitor};
pub use frame::{Frame, FrameHeader, HEADER_LENGTH, Kind, Payload, Priority, Sender, Setting};
pub use names::{error_code_name, flag_names, setting_name};
pub use streams::MAX_STREAMS;
pub use violation::{Rule, Scope, Violation};

/// Bits of the flags field (RFC 9113, 6).
pub mod flags {
    /// SETTINGS, PING: this answers one of the other side.
    pub const ACK: u8 = 0x1;
    /// DATA, HEADERS: the last frame of a stream's direction.
    pub const END_STREAM: u8 = 0x1;
    /// HEADERS, PUSH_PROMISE, CONTINUATION: the last fragment of the block.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS, PUSH_PROMISE: the payload begins with the length of its padding.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: priority fields stand before the fragment.
    pub const PRIORITY: u8 = 0x20;
}

#[cfg(test)]
mod tests;
