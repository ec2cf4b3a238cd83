//! One certificate with its key, and the TLS configurations made of it.

use std::{sync::Arc, time::SystemTime};

use ahash::AHashMap;
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};

use crate::discovery::PeerIdentity;

/// What a meshed connection carries, as ALPN says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MeshAlpn {
    /// HTTP/2.
    H2,
    /// A transport header, then anything.
    TransportHeader,
    /// HTTP/1 as it is: upgrades and CONNECT.
    Http1,
    /// Not said: raw bytes.
    None,
}

/// One certificate with its key, and the TLS configurations made of it. A snapshot: a renewal makes new ones.
#[derive(Debug)]
pub struct Credentials {
    name: Arc<str>,
    not_before: SystemTime,
    not_after: SystemTime,
    server: Arc<ServerConfig>,
    clients: Mutex<AHashMap<(PeerIdentity, MeshAlpn), Arc<ClientConfig>>>,
}

impl Credentials {
    /// This proxy's own identity.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// When the certificate begins.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// For the inbound side: TLS 1.3, a client certificate wanted but not required (policy decides), ALPN `h2`, `transport.l5d.io/v1`
    /// and `http/1.1`.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For the outbound side: presents the own certificate and accepts exactly this peer. The connection's `ServerName` is
    /// [`PeerIdentity::server_name`]. The same peer gets the same configuration, so that sessions are resumed.
    pub fn client_config(&self, peer: &PeerIdentity, alpn: MeshAlpn) -> Arc<ClientConfig> {
        let mut clients = self.clients.lock();
        if let Some(config) = clients.get(&(peer.clone(), alpn)) {
            return Arc::clone(config);
        }
        let config = self.new_client_config(peer, alpn);
        clients.insert((peer.clone(), alpn), Arc::clone(&config));
        config
    }

    fn new_client_config(&self, _peer: &PeerIdentity, _alpn: MeshAlpn) -> Arc<ClientConfig> {
        unimplemented!("follows within the hour")
    }
}
