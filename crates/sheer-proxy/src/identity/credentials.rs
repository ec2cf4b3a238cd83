//! One certificate with its key, and the TLS configurations made of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ahash::AHashMap;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    KeyTap, crypto,
    peer::names_at,
    verify::{ClientVerifier, ServerVerifier, verify_chain},
};
use crate::discovery::PeerIdentity;

/// Sessions kept for each peer: one ticket comes with each connection, and a burst of connections to a peer is short.
const SESSIONS_PER_PEER: usize = 32;

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

impl MeshAlpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::H2 => vec![sheer_api::names::H2_ALPN.to_vec()],
            Self::TransportHeader => vec![sheer_api::names::TRANSPORT_HEADER_ALPN.to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::None => Vec::new(),
        }
    }
}

/// What credentials are made of.
#[derive(Clone, Debug)]
pub struct Material {
    /// The name that the certificate must carry.
    pub name: Arc<str>,
    /// The name that it answers for in TLS.
    pub server_name: ServerName<'static>,
    /// The private key.
    pub key: Arc<dyn SigningKey>,
    /// The leaf, then the intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Trust anchors.
    pub roots: Arc<RootCertStore>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No leaf, or not X.509.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Issued for another key.
    #[error("the certificate is for another key than the one in the identity directory")]
    OtherKey,
    /// Issued for another workload.
    #[error("the certificate is for {found}, this workload is {wanted}: the token is another workload's")]
    OtherName {
        /// What the certificate says.
        found: String,
        /// What it should say.
        wanted: Arc<str>,
    },
    /// Begins in the future by more than the tolerated skew.
    #[error("the certificate is valid only in {} s: the clock of this machine or of the control plane's is wrong", .0.as_secs())]
    NotYetValid(Duration),
    /// Ended already.
    #[error("the certificate ended {} s ago: the clock of this machine or of the control plane's is wrong", .0.as_secs())]
    Expired(Duration),
    /// Not signed by a trust anchor.
    #[error(
        "the certificate does not lead to a trust anchor of this proxy ({0}): its trust anchors are of another mesh or old"
    )]
    Untrusted(rustls::Error),
    /// The TLS library refuses it.
    #[error("the certificate cannot be used for TLS: {0}")]
    Tls(rustls::Error),
}

/// One certificate with its key, and the TLS configurations made of it. A snapshot: a renewal makes new ones.
#[derive(Debug)]
pub struct Credentials {
    name: Arc<str>,
    server_name: ServerName<'static>,
    validity: (SystemTime, SystemTime),
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    own: Arc<SingleCertAndKey>,
    server: Arc<ServerConfig>,
    clients: Mutex<AHashMap<(PeerIdentity, MeshAlpn), Arc<ClientConfig>>>,
    keys: Option<KeyTap>,
}

impl Credentials {
    /// Checks the certificate against key, name, clock and trust anchors, and makes the configurations.
    pub fn new(material: Material) -> Result<Self, CredentialsError> {
        let validity = check(&material, UnixTime::now())?;
        let Material {
            name,
            server_name,
            key,
            chain,
            roots,
        } = material;
        let provider = crypto::provider();
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| CredentialsError::OtherKey)?;
        let own = Arc::new(SingleCertAndKey::from(certified));
        let server = server_config(&provider, &roots, &own).map_err(CredentialsError::Tls)?;
        let clients = Mutex::default();
        Ok(Self {
            name,
            server_name,
            validity,
            roots,
            provider,
            own,
            server: Arc::new(server),
            clients,
            keys: None,
        })
    }

    /// Shows the secrets of its sessions to who watches there. Before any of the configurations is handed out.
    pub(super) fn watched(mut self, keys: KeyTap) -> Self {
        Arc::make_mut(&mut self.server).key_log = Arc::new(keys.clone());
        self.keys = Some(keys);
        self
    }

    /// This proxy's own identity.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name that clients send as SNI to reach this proxy (anything else is TLS of the application).
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// When the certificate begins.
    pub fn not_before(&self) -> SystemTime {
        self.validity.0
    }

    /// Since it was issued, by this machine's clock.
    #[expect(clippy::disallowed_methods, reason = "certificates are of wall-clock time")]
    pub fn age(&self) -> Option<std::time::Duration> {
        SystemTime::now().duration_since(self.not_before()).ok()
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.validity.1
    }

    /// For the inbound side: TLS 1.3, a client certificate wanted but not required (policy decides), ALPN `h2`, `transport.l5d.io/v1`
    /// and `http/1.1`.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For the outbound side: presents the own certificate and accepts exactly this peer. The connection's `ServerName` is
    /// [`PeerIdentity::server_name`]. The same peer gets the same configuration, so that sessions are resumed: a session
    /// belongs to one expected identity and cannot be resumed for another.
    pub fn client_config(&self, peer: &PeerIdentity, alpn: MeshAlpn) -> Arc<ClientConfig> {
        let mut clients = self.clients.lock();
        if let Some(config) = clients.get(&(peer.clone(), alpn)) {
            return Arc::clone(config);
        }
        let config = Arc::new(self.new_client_config(peer, alpn));
        clients.insert((peer.clone(), alpn), Arc::clone(&config));
        config
    }

    fn new_client_config(&self, peer: &PeerIdentity, alpn: MeshAlpn) -> ClientConfig {
        let verifier = ServerVerifier::new(&self.provider, Arc::clone(&self.roots), Arc::clone(&peer.id));
        let own: Arc<SingleCertAndKey> = Arc::clone(&self.own);
        let mut config = crypto::client_builder(&self.provider, verifier).with_client_cert_resolver(own);
        config.alpn_protocols = alpn.protocols();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_PER_PEER);
        if let Some(keys) = &self.keys {
            config.key_log = Arc::new(keys.clone());
        }
        config
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    own: &Arc<SingleCertAndKey>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = ClientVerifier::new(provider, roots)?;
    let own: Arc<SingleCertAndKey> = Arc::clone(own);
    let mut config = crypto::server_builder(provider)
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = [MeshAlpn::H2, MeshAlpn::TransportHeader, MeshAlpn::Http1]
        .iter()
        .flat_map(|alpn| alpn.protocols())
        .collect();
    // Tickets: a connection for each opaque TCP connection would otherwise pay for two signatures and three verifications. They are
    // sealed with keys of this snapshot, so none outlives a renewal; `peer_names` checks that the client's certificate has not ended.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn check(material: &Material, now: UnixTime) -> Result<(SystemTime, SystemTime), CredentialsError> {
    let (leaf, intermediates) = material.chain.split_first().ok_or(CredentialsError::Unreadable)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CredentialsError::Unreadable)?;
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let (begins, ends) = (
        seconds(parsed.validity().not_before.timestamp()),
        seconds(parsed.validity().not_after.timestamp()),
    );
    let skew = super::peer::CLOCK_SKEW.as_secs();
    if begins > now.as_secs() + skew {
        return Err(CredentialsError::NotYetValid(Duration::from_secs(
            begins - now.as_secs(),
        )));
    }
    if ends + skew < now.as_secs() {
        return Err(CredentialsError::Expired(Duration::from_secs(now.as_secs() - ends)));
    }
    let names = names_at(&material.chain, now).map_err(|_| CredentialsError::Unreadable)?;
    if !names.contains(&material.name) {
        let found = names
            .primary()
            .map_or_else(|| "nobody".to_owned(), |name| name.to_string());
        return Err(CredentialsError::OtherName {
            found,
            wanted: Arc::clone(&material.name),
        });
    }
    verify_chain(&crypto::provider(), &material.roots, leaf, intermediates, now)
        .map_err(CredentialsError::Untrusted)?;
    let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Ok((time(begins), time(ends)))
}
