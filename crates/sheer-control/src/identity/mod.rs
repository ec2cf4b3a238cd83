//! Who a workload is: tokens that prove it, and certificates that say so on the wire.
//!
//! The folder given as `--identity` holds everything: `anchors.pem` (public) and `anchor.key`, `issuer.pem` and `issuer.key`,
//! `token.key` and `token.pub` (and `last-good/`, which is the store's). Keys are readable by their owner only. Nothing here knows pods or services.

pub mod token;

mod authority;
pub(crate) mod files;
mod own;
mod request;
mod service;

pub use authority::{Authority, AuthorityError};
pub use files::FileError;
pub(crate) use own::OwnIdentity;
pub(crate) use service::IdentityService;
