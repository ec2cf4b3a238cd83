//! The wire to this crate's form: Linkerd's proxy API (`outbound.proto`, `inbound.proto`, `destination.proto`), and `sheer.v1`'s extras.
//!
//! Pure functions; whatever a control plane sends, they answer. What cannot be understood never opens a door: a route that cannot be read takes its
//! requests and refuses them, an authorization that cannot be read lets nobody in.

pub mod explain;
pub mod inbound;
pub mod outbound;
pub mod profile;

mod common;
mod matches;

pub use common::{address, bare_endpoint, default_object, duration, endpoint, object, port};

/// Whether a proxy can read a regular expression; why not. For whatever checks what users write.
pub fn check_regex(pattern: &str) -> Result<(), String> {
    matches::anchored(pattern).map(drop)
}
