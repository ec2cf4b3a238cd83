//! Who a workload is: tokens that prove it, and certificates that say so on the wire.
//!
//! The folder given as `--identity` holds everything: `anchors.pem` (public), `anchor.key`, `issuer.pem`, `issuer.key`,
//! `token.key` and `token.pub`. Keys are readable by their owner only. Nothing here knows pods or services.

pub mod token;

mod files;
