//! The control plane's own certificate: signed by itself, renewed by itself, served on its ports and shown to proxies that it asks.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rcgen::KeyPair;
use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::{Authority, AuthorityError, files};

/// An issuer that is about to end gives certificates that are due at once: even then, not in a tight loop.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Retry after a renewal that failed.
const RETRY: Duration = Duration::from_secs(10);

/// The control plane's own certificate.
pub(crate) struct OwnIdentity {
    authority: Arc<Authority>,
    dns: String,
    spiffe: String,
    current: ArcSwap<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl fmt::Debug for OwnIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnIdentity")
            .field("dns", &self.dns)
            .finish_non_exhaustive()
    }
}

impl OwnIdentity {
    /// Certifies the control plane.
    pub(crate) fn new(authority: Arc<Authority>, dns: String, spiffe: String) -> anyhow::Result<Arc<Self>> {
        let current = ArcSwap::from_pointee(certify(&authority, &dns, &spiffe)?);
        Ok(Arc::new(Self {
            authority,
            dns,
            spiffe,
            current,
        }))
    }

    /// TLS 1.3 only. A client certificate is asked for and verified, but not needed: who has none yet must be able to get one.
    pub(crate) fn server_config(self: &Arc<Self>) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(self.authority.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![sheer_api::names::H2_ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// For connections to proxies, which take nobody but the control plane.
    pub(crate) fn client_config(self: &Arc<Self>) -> anyhow::Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.authority.roots())
            .with_client_cert_resolver(self.clone());
        config.alpn_protocols = vec![sheer_api::names::H2_ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// Renews the certificate at 70 % of its life, and the issuer when that is due, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>, trust_domain: String) {
        let mut wait = self.next_renewal();
        loop {
            tokio::time::sleep(wait).await;
            match self.authority.renew_issuer(&trust_domain) {
                Ok(true) => tracing::info!("a new issuer signs certificates from now on"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the issuer cannot be renewed"),
            }
            match certify(&self.authority, &self.dns, &self.spiffe) {
                Ok(current) => {
                    self.current.store(Arc::new(current));
                    wait = self.next_renewal();
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's own certificate cannot be renewed");
                    wait = RETRY;
                }
            }
        }
    }

    fn next_renewal(&self) -> Duration {
        let current = self.current.load();
        let life = current.not_after.duration_since(current.not_before).unwrap_or_default();
        let due = current.not_before + life.mul_f64(0.7);
        due.duration_since(files::now()).unwrap_or_default().max(SHORTEST_WAIT)
    }
}

fn certify(authority: &Authority, dns: &str, spiffe: &str) -> anyhow::Result<Current> {
    let key = KeyPair::generate().map_err(AuthorityError::from)?;
    let issued = authority.issue(dns, spiffe, &key)?;
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private.into())?;
    let key = Arc::new(CertifiedKey::new(vec![issued.leaf, issued.issuer], signing));
    Ok(Current {
        key,
        not_before: issued.not_before,
        not_after: issued.not_after,
    })
}

impl ResolvesClientCert for OwnIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OwnIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}
