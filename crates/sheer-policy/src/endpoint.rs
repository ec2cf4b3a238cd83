//! Endpoints, as discovery tells them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// Labels of a metric, as discovery sent them. Rendered once, when an endpoint or a target is resolved.
pub type Labels = Arc<BTreeMap<String, String>>;

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
