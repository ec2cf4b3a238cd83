//! The data plane: a sidecar that takes a workload's traffic, secures it, spreads it, and can say what happened to it.
//!
//! Read [`outbound`] and [`inbound`] top to bottom to follow a request. Nothing here knows Kubernetes: what the proxy knows of
//! services comes from [`discovery`], who it is from [`identity`].

// Tests of the inside share what those from outside are made with.
#[cfg(test)]
extern crate self as sheer_proxy;

pub mod accept;
mod access_log;
pub mod addr;
mod admin;
pub mod balance;
pub mod connect;
mod control;
mod deadline;
pub mod detect;
pub mod discovery;
pub mod error;
pub mod exchange;
mod filters;
pub mod headers;
pub mod http1;
pub mod http1_server;
pub mod http2;
pub mod identity;
pub mod inbound;
pub mod io;
pub mod life;
pub mod logs;
pub mod metrics;
pub mod outbound;
pub mod pool;
pub mod process;
pub mod record;
mod redact;
pub mod settings;
pub mod sight;
pub mod sys;
mod tap;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod transport_header;
pub mod worker;
