//! TLS from outside (RFC 8446, RFC 5246): records, the hellos, and alerts, as far as they are not encrypted.
//!
//! [`Records`] follows one direction. What both hellos say together names version, cipher and key exchange of a connection; the rest is lengths.
//! [`crate::client_hello`] is the quick look that decides where a connection goes; this is the thorough one.

mod cursor;
mod hello;
mod names;
mod records;

pub(crate) use cursor::Cursor;
pub use hello::{ClientHello, KeyShare, ServerHello, client_hello, server_hello};
pub use names::{alert_name, cipher_name, content_name, group_name, handshake_name, version_name};
pub use records::{Alert, MAX_HANDSHAKE, Record, Records, Rule, Violation, Visitor};

#[cfg(test)]
mod tests;
