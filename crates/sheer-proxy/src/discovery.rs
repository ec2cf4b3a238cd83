//! What the control plane says, as ready-made snapshots.
//!
//! The control runtime owns the streams to the control plane and publishes into `watch` channels; data-path workers only read
//! them. No type of the wire (protobuf) leaves this module.

mod cache;
mod client;
mod endpoints;
mod inbound;
mod outbound;
mod routes;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::addr::OrigDst;

pub use client::Client;
pub(crate) use client::ClientOptions;
pub use sheer_policy::{
    Endpoint, Hint, Labels, ObjectRef, PeerIdentity, ProtocolPlan,
    inbound::{Authentication, Authorization, InboundPolicy},
};

/// Answer to a look-up: the control plane may not have spoken yet.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    /// Nothing heard yet.
    Pending,
    /// The mesh does not know this address: forward as it is.
    Unknown,
    /// The last that was heard; stays in force while the control plane is away.
    Known(Arc<T>),
}

/// What to do with connections to one original destination.
#[derive(Clone, Debug)]
pub struct OutboundTarget {
    /// The service or endpoint, as `ledger.bank.svc.cluster.local:8080`; the bare address where it has no name.
    pub name: Arc<str>,
    /// What the decision came from (`parent_*` labels).
    pub parent: ObjectRef,
    /// How to find out the protocol.
    pub protocol: ProtocolPlan,
    /// Where traffic goes.
    pub backend: Backend,
}

/// Where traffic goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// To one endpoint (a pod addressed directly, or an address that the mesh does not know).
    Forward(Arc<Endpoint>),
    /// To the endpoints of a service, balanced.
    Balance {
        /// Key of [`Discovery::endpoints`], as `ledger.bank.svc.cluster.local:8080`.
        path: Arc<str>,
        /// The backend's own reference (`backend_*` labels).
        backend: ObjectRef,
        /// Load estimate of an endpoint that was never measured.
        default_rtt: Duration,
        /// Decay of the peak estimate.
        decay: Duration,
        /// Requests that may wait while no endpoint is ready.
        queue_capacity: usize,
        /// How long they wait before the fail-fast answer.
        failfast_timeout: Duration,
    },
    /// Nowhere: the control plane says that there is no backend (404 for HTTP, reset for TCP).
    None {
        /// Why, for the caller.
        why: Arc<str>,
    },
}

impl Backend {
    /// What the endpoints belong to, where that is an object of its own.
    pub fn object(&self) -> Option<&ObjectRef> {
        match self {
            Self::Balance { backend, .. } => Some(backend),
            Self::Forward(_) | Self::None { .. } => None,
        }
    }
}

/// The endpoints of a service, whole. Workers diff it against what they hold.
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    /// Sorted by address, each once.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// `false` where the control plane says that the service does not exist.
    pub exists: bool,
}

/// Handle to discovery, cheap to clone, used from every worker. Every answer stays subscribed while a receiver lives, and some
/// seconds longer; while the control plane is away the last answer stays.
pub trait Discovery: Send + Sync + 'static {
    /// What to do with connections to an original destination. `Unknown` also where the control plane did not answer
    /// within the first-answer timeout: traffic must flow.
    fn outbound(&self, dst: OrigDst) -> watch::Receiver<Lookup<OutboundTarget>>;
    /// The endpoints of a balanced service, by [`Backend::Balance`]'s path.
    fn endpoints(&self, path: &str) -> watch::Receiver<Lookup<EndpointSet>>;
    /// The policy of one of the workload's own ports.
    fn inbound(&self, port: u16) -> watch::Receiver<Lookup<InboundPolicy>>;
}
