//! The outbound path as a whole, on loopback: a client of the test, real servers, and a discovery that the test plays.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

mod app;
mod balancing;
mod breaking;
mod counting;
mod doubling;
mod failing;
mod http1;
#[expect(dead_code, reason = "shared with the tests of the inbound half")]
#[path = "../support/inbound.rs"]
mod inbound;
mod mesh;
mod pipelining;
mod renewal;
mod retrying;
mod routing;
mod streams;
mod support;
mod timing;
mod tracing;
mod unknown;
