//! What the control plane says, as ready-made snapshots.
//!
//! The control runtime owns the streams to the control plane and publishes into `watch` channels; data-path workers only read
//! them. No type of the wire (protobuf) leaves this module.

mod cache;
mod client;
mod convert;
mod endpoints;
mod inbound;
mod outbound;
mod routes;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::addr::OrigDst;

pub use client::Client;
pub(crate) use client::ClientOptions;

/// Labels of a metric, as discovery sent them. Rendered once, when an endpoint or a target is resolved.
pub type Labels = Arc<BTreeMap<String, String>>;

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

/// Reference to the object that a decision came from (`meta.proto`), as metric labels name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// API group, as `core` or `policy.sheer.dev`.
    pub group: String,
    /// Kind, as `Service`; `default` where the control plane made it up.
    pub kind: String,
    /// Namespace, empty for a default.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Section (a listener or port name), empty where none.
    pub section: String,
    /// Port, 0 where none.
    pub port: u16,
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

/// Whether and how to detect a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolPlan {
    /// Look at the first bytes; `timeout` is the wait before the server side is opened for a silent client.
    Detect {
        /// The policy's wait; the proxy's own setting is the upper bound.
        timeout: Duration,
    },
    /// HTTP/1 without looking.
    Http1,
    /// HTTP/2 without looking (gRPC too).
    Http2,
    /// Never inspected.
    Opaque,
    /// TLS of the application, passed through; only the server name is read.
    Tls,
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

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Address to connect to (before an opaque transport's port is applied).
    pub addr: SocketAddr,
    /// Relative weight, 1 by default (the API's 10,000 is scaled down).
    pub weight: f64,
    /// Whom to expect, where the endpoint is meshed.
    pub identity: Option<PeerIdentity>,
    /// What the endpoint's proxy can take.
    pub hint: Hint,
    /// Inbound port of the peer's proxy that takes a transport header (opaque TCP), if it does.
    pub transport_port: Option<u16>,
    /// Replaces `:authority`/`Host`, for gateways.
    pub authority_override: Option<http::uri::Authority>,
    /// Metric labels (`dst_*`) of the endpoint and its set.
    pub labels: Labels,
}

/// The identity that discovery promises for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// What the certificate must carry: a DNS-like name or a `spiffe://` URI.
    pub id: Arc<str>,
    /// What to send as SNI.
    pub server_name: rustls_pki_types::ServerName<'static>,
}

/// What an endpoint's proxy can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing known: speak what the client speaks.
    Unknown,
    /// HTTP/1 may be carried in HTTP/2.
    H2,
    /// Treat as opaque.
    Opaque,
}

/// The endpoints of a service, whole. Workers diff it against what they hold.
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    /// Sorted by address, each once.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// `false` where the control plane says that the service does not exist.
    pub exists: bool,
}

/// What an inbound port allows and how it speaks.
#[derive(Clone, Debug)]
pub struct InboundPolicy {
    /// How to find out the protocol.
    pub protocol: ProtocolPlan,
    /// Who may come in; nobody where empty. The first that matches wins.
    pub authorizations: Vec<Authorization>,
    /// The Server (`srv_*` labels).
    pub server: ObjectRef,
}

/// One rule of who may come in.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// Client networks, each with exceptions.
    pub networks: Vec<(ipnet::IpNet, Vec<ipnet::IpNet>)>,
    /// Required identity.
    pub authentication: Authentication,
    /// The policy that this came from (`authz_*` labels).
    pub policy: ObjectRef,
}

/// What a client has to prove.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nothing.
    Unauthenticated,
    /// mTLS with any identity of the mesh, or none (`MeshTLS: unauthenticated`).
    MeshTlsAny,
    /// mTLS with one of these identities, or one that ends in one of these suffixes.
    MeshTls {
        /// Whole names.
        identities: Vec<String>,
        /// Suffixes, each a list of labels; an empty list matches every identity.
        suffixes: Vec<Vec<String>>,
    },
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
