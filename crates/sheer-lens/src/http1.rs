//! HTTP/1 (RFC 9112): bytes in, heads, bodies, trailers and broken rules out.
//!
//! [`Scanner`] follows one direction, [`Connection`] both: how a response ends depends on the request that it answers. Heads are shown as they were
//! sent, byte for byte, in the case of their sender. Bodies pass through as slices and are kept nowhere.
//!
//! ```
//! use sheer_lens::http1::{Head, Scanner, Start, Visitor};
//!
//! #[derive(Default)]
//! struct Seen(Vec<String>);
//! impl Visitor for Seen {
//!     fn head(&mut self, head: &Head<'_>) {
//!         let Start::Request { method, target, .. } = head.start else { return };
//!         self.0.push(format!("{} {}", String::from_utf8_lossy(method), String::from_utf8_lossy(target)));
//!         self.0.extend(head.fields().map(|field| String::from_utf8_lossy(field.name).into_owned()));
//!     }
//! }
//!
//! let mut seen = Seen::default();
//! Scanner::requests().feed(b"GET / HTTP/1.1\r\nhOsT: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n", &mut seen);
//! assert_eq!(seen.0, ["GET /", "hOsT", "GET /next", "Host"]);
//! ```

mod chunked;
mod connection;
mod framing;
mod head;
mod scanner;
mod survey;
mod violation;

pub use chunked::MAX_CHUNK_LINE;
pub use connection::{Connection, Events};
pub use head::{Field, Fields, Head, Start};
pub use scanner::{Answering, MAX_HEAD, MAX_WAITING, Scanner, Visitor};
pub use violation::{Rule, Violation};

#[cfg(test)]
mod tests;
