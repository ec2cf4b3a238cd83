//! What the control plane says, as ready-made snapshots.
//!
//! The control runtime owns the streams to the control plane and publishes into `watch` channels; data-path workers only read
//! them. No type of the wire (protobuf) leaves this module.

mod budgets;
mod cache;
mod client;
mod endpoints;
mod inbound;
mod outbound;

use std::sync::Arc;

use tokio::sync::watch;

use crate::addr::OrigDst;

pub use budgets::Budgets;
pub use client::Client;
pub(crate) use client::ClientOptions;
pub use sheer_policy::{
    Endpoint, Hint, Labels, ObjectRef, PeerIdentity, ProtocolPlan,
    inbound::{Authentication, Authorization, InboundPolicy},
    outbound::OutboundPolicy,
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

/// The name of a policy that forwards as it is (Linkerd's).
const EGRESS_FALLBACK: &str = "egress-fallback";

/// What to do with connections to one original destination.
#[derive(Clone, Debug)]
pub struct OutboundTarget {
    /// The service or endpoint, as `ledger.bank.svc.cluster.local:8080`; the bare address where it has no name.
    pub name: Arc<str>,
    /// Where traffic goes, and what is done to it on the way. Has a rule for everything that may be spoken.
    pub policy: Arc<OutboundPolicy>,
}

impl OutboundTarget {
    /// What the decision came from (`parent_*` labels).
    pub fn parent(&self) -> &ObjectRef {
        &self.policy.parent
    }

    /// Whether somebody says something of the destination. Of every other one, too, a control plane tells that it is forwarded as it is, so that
    /// a policy that comes later reaches the proxy.
    pub fn is_of_mesh(&self) -> bool {
        let parent = self.parent();
        !(parent.is_default() && parent.name == EGRESS_FALLBACK)
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
    /// The endpoints of a balanced service, by the path of a [`BackendTarget::Balance`](sheer_policy::outbound::BackendTarget).
    fn endpoints(&self, path: &str) -> watch::Receiver<Lookup<EndpointSet>>;
    /// The policy of one of the workload's own ports.
    fn inbound(&self, port: u16) -> watch::Receiver<Lookup<InboundPolicy>>;
    /// What all workers together may send again.
    fn budgets(&self) -> &Budgets;
}
