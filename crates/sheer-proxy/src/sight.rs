//! Sight: what the proxy shows of itself to the control plane, and to nobody else.
//!
//! ```text
//! control plane ──mutual TLS, port 4190──► server ─► service ─┬─ discovery, identity: read here (control runtime)
//!                                                             └─ workers: asked over channels, answered between requests
//! ```
//!
//! Everything but the sampling of requests runs on the control runtime. A question to a worker is put into its channel and waited for, for a
//! while; a worker that is busy answers later or not at all, and nobody else waits for it.
//!
//! * [`server`]: the port, and who may ask.
//! * [`service`] serves `sheer.v1.Sight`.
//! * [`state`]: everything that the proxy holds. [`explain`]: what it would do with a request.
//! * [`watch`]: what passed and passes: connections, frames, requests.
//! * [`traffic`]: heads of requests that went through, a sample.

mod counts;
mod explain;
mod server;
mod service;
mod state;
mod traffic;
mod watch;
mod workers;

pub(crate) use server::serve;
pub(crate) use service::{Sight, Sources};
pub(crate) use traffic::{Sample, Sampler};
pub use workers::Workers;
pub(crate) use workers::answer;
