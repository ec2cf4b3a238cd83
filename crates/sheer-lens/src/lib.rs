//! Pure decoders: bytes in, facts out. No I/O, no async, no panic on any input, bounded memory.
//!
//! Written apart from the libraries of the data path on purpose: what checks a library must share no code with it.

pub mod client_hello;
pub mod grpc;
pub mod h2;
pub mod hpack;
pub mod http1;
pub mod protobuf;
pub mod protocol;
pub mod tls;
