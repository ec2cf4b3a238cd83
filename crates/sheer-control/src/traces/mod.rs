//! Traces of the mesh: taken from proxies, kept in memory within bounds, searched and shown.
//!
//! ```text
//! proxies ──Push──► intake ─► store ◄─ query (List, Show, Propagation; the socket only)
//!                      └────► propagation
//! ```
//!
//! Of workloads with `sheer.dev/sight: disabled` only the places and times of spans are kept: neither paths nor any attribute.
//!
//! Nothing here is on the way of any request, and nothing is written to disk: who wants traces for longer has proxies export them.

mod intake;
mod propagation;
mod query;
mod show;
mod store;
mod summary;

use std::sync::Arc;

use parking_lot::Mutex;
use sheer_api::v1::{trace_intake_server::TraceIntakeServer, traces_server::TracesServer};

use self::{intake::Intake, propagation::Propagation, query::Query, store::Kept};
use crate::{config::MeshConfig, server::Streams, sight::hidden::Latest, store::Store};

/// What is kept. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Traces {
    objects: Store,
    config: Arc<MeshConfig>,
    streams: Streams,
    kept: Arc<Mutex<Kept>>,
    propagation: Arc<Mutex<Propagation>>,
    hidden: Arc<Latest>,
}

/// The proxy that recorded a span, and its workload.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// As `deploy/ledger`; the pod's own name where nothing made it.
    pub(crate) workload: String,
    /// `service.name`.
    pub(crate) service: String,
}

impl Traces {
    /// With nothing kept.
    pub(crate) fn new(objects: Store, config: Arc<MeshConfig>, streams: Streams) -> Self {
        Self {
            objects,
            config,
            streams,
            kept: Arc::default(),
            propagation: Arc::default(),
            hidden: Arc::default(),
        }
    }

    /// What proxies push to, as tonic serves it.
    pub(crate) fn intake(&self) -> TraceIntakeServer<Intake> {
        TraceIntakeServer::new(Intake(self.clone()))
    }

    /// What is asked through the socket, as tonic serves it.
    pub(crate) fn query(&self) -> TracesServer<Query> {
        TracesServer::new(Query(self.clone()))
    }
}

#[cfg(test)]
mod tests;
