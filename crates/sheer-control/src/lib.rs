//! The control plane: what the mesh is told about services, identities and rules.
//!
//! Objects come from files ([`manifests`]) or from any other source; `store` joins them into one snapshot; `destination`,
//! `policy` and [`identity`] answer proxies from that snapshot; `sight` asks proxies; `telemetry` keeps what proxies tell of
//! their traffic; `server` listens. Nothing but the sources knows how an object reached the store.

pub mod identity;
pub mod manifests;
pub mod objects;
pub mod socket;

mod config;
mod destination;
mod options;
mod policy;
mod ports;
mod routes;
mod server;
mod sight;
mod store;
mod target;
mod telemetry;
mod traces;

pub use options::{ControlOptions, Ports, run};
pub use server::Bound;
pub use store::watch_manifests;
