//! What passed on the wire as JSON: what `sheer tap`, `frames` and `diff` print with `-o json`, and what the page takes. One place, so that the two cannot differ.
//! Pure: bytes that came from applications are text from here on, never markup and never control characters.

pub mod diff;
pub mod frames;
pub mod tap;
pub mod text;
