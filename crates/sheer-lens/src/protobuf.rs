//! Protobuf to JSON: by descriptors where there are some, by structure where there are none.
//!
//! Both take any bytes, show what can be read, and stay within [`Limits`]. A [`Redact`] sees every value with its place before it is written, and may
//! have it replaced: what is secret never gets into the JSON.
//!
//! ```
//! use sheer_lens::protobuf::{Limits, Place, by_structure};
//!
//! let message = [0x08, 0x96, 0x01, 0x12, 0x05, b'h', b'e', b'l', b'l', b'o', 0x1a, 0x02, 0x08, 0x01];
//! let json = by_structure(&message, Limits::default(), &mut |_: &Place<'_>| None);
//! assert_eq!(json.text, r#"{"1":150,"2":"hello","3":{"1":1}}"#);
//! let json = by_structure(&message, Limits::default(), &mut |place: &Place<'_>| (place.path == "3.1").then(|| "***".to_owned()));
//! assert_eq!(json.text, r#"{"1":150,"2":"hello","3":{"1":"***"}}"#);
//! ```

mod described;
mod guessed;
mod known;
mod marked;
mod redacted;
mod wire;
mod writer;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

pub use marked::marked;
pub use wire::{Fault, Field, Fields, Value};

use writer::Writer;

/// How deep messages may be nested. Deeper ones are written as bytes.
pub const MAX_DEPTH: usize = 64;
/// Fields that are read of one message.
pub const MAX_FIELDS: usize = 64 * 1024;
/// Size of JSON unless [`Limits`] says otherwise.
pub const DEFAULT_SIZE: usize = 64 * 1024;

/// What may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of JSON. Brackets that have to be closed, and the value that is being written, may exceed it a little.
    pub size: usize,
    /// How deep messages may be nested, at most [`MAX_DEPTH`].
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: DEFAULT_SIZE,
            depth: MAX_DEPTH,
        }
    }
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Names in JSON from the outermost message on, or numbers where there are no descriptors: `payer.card.number`, `3.1`. Keys of maps are a part of
    /// it; positions in lists are not.
    pub path: &'a str,
    /// Its last part.
    pub name: &'a str,
    /// The value as it was sent: text and bytes without their length, numbers in little-endian order, messages encoded. Equal values have equal bytes.
    pub raw: &'a [u8],
    /// The field, where descriptors know it.
    pub field: Option<&'a FieldDescriptor>,
}

/// Says which values are not to be seen, and what stands for them.
pub trait Redact {
    /// What to write instead of a value, as text; `None` to write it.
    fn redact(&mut self, place: &Place<'_>) -> Option<String>;
    /// The same of text and bytes of which nothing but the structure is known, so that no name can say whether they are secret: also of what is nested too
    /// deep, and of what has another type than its descriptor says.
    fn redact_nameless(&mut self, _place: &Place<'_>) -> Option<String> {
        None
    }
}

impl<F: FnMut(&Place<'_>) -> Option<String>> Redact for F {
    fn redact(&mut self, place: &Place<'_>) -> Option<String> {
        self(place)
    }
}

/// JSON, and what it does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json {
    /// Valid JSON in any case.
    pub text: String,
    /// Something was left out because of a limit.
    pub is_cut: bool,
    /// The first thing that is no protobuf, or not what the descriptor says.
    pub fault: Option<Fault>,
}

/// By descriptor: the JSON mapping of proto3, with names in lowerCamelCase. Fields that the descriptor does not have are under `"@unknown"`, by
/// structure.
pub fn by_descriptor(descriptor: &MessageDescriptor, message: &[u8], limits: Limits, redact: &mut dyn Redact) -> Json {
    let mut writer = Writer::new(limits, redact);
    described::message(&mut writer, descriptor, message);
    writer.finish()
}

/// By structure: field numbers as names, and for each value the likeliest reading. Bytes that are text are text, those that are a message are one,
/// others are base64 under `"@bytes"`; fixed-width numbers are shown as integer and as float.
pub fn by_structure(message: &[u8], limits: Limits, redact: &mut dyn Redact) -> Json {
    let mut writer = Writer::new(limits, redact);
    guessed::message(&mut writer, message);
    writer.finish()
}

/// The same as a message: with other values in the place of those that are not to be seen where they are text or bytes, and without the others. By descriptor
/// where there is one, by structure elsewhere; it shows nothing that the JSON would not.
pub fn redacted(descriptor: Option<&MessageDescriptor>, message: &[u8], redact: &mut dyn Redact) -> Vec<u8> {
    redacted::Encoder::new(redact).message(descriptor, message)
}

#[cfg(test)]
mod tests;
