//! The bank: a payments platform as a company would write it, with nothing in it that knows of a mesh. Services call each
//! other by name and port over plain HTTP/2; `sheer demo` puts sidecars beside them.
//!
//! `main.rs` picks the service. Each service is one file in `services/`; all of them stand on `server` (listen, health,
//! reflection, graceful stop), `guard` (verify what arrived, apply faults) and `metadata` (what every call carries).

pub mod channel;
pub mod fault_command;
pub mod faults;
pub mod guard;
pub mod histogram;
pub mod load;
pub mod metadata;
pub mod server;
pub mod services;

/// The messages and services of `proto/bank/v1`.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated from proto/bank/v1, where the comments are"
    )]
    tonic::include_proto!("bank.v1");
}

/// Descriptors of `proto/bank/v1`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bank.bin"));
