//! What TLS of the mesh may negotiate: TLS 1.3 only.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
    client::{WantsClientCert, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};

use super::verify::ServerVerifier;
use crate::discovery::PeerIdentity;

/// AWS-LC, with suites and key exchanges in order of preference: AES-128 first, since both ends have it in hardware and a stronger
/// suite protects nothing that the certificates' P-256 does not; the post-quantum hybrid first, against recording now and
/// deciphering later.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// Begins a client's configuration with a verifier of our own.
pub(crate) fn client_builder(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

/// For a proxy that has no certificate yet: it can only check the other side.
pub(crate) fn anonymous_client_config(roots: &Arc<RootCertStore>, peer: &PeerIdentity) -> Arc<ClientConfig> {
    let provider = provider();
    let verifier = ServerVerifier::new(&provider, Arc::clone(roots), Arc::clone(&peer.id));
    let mut config = client_builder(&provider, verifier).with_no_client_auth();
    config.alpn_protocols = vec![sheer_api::names::H2_ALPN.to_vec()];
    Arc::new(config)
}

/// Begins a server's configuration.
pub(crate) fn server_builder(provider: &Arc<CryptoProvider>) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
}

/// Labels of the metric `rustls_info`.
pub(crate) fn describe() -> [(&'static str, String); 3] {
    let provider = provider();
    let suites: Vec<_> = provider
        .cipher_suites
        .iter()
        .map(|suite| format!("{:?}", suite.suite()))
        .collect();
    let groups: Vec<_> = provider
        .kx_groups
        .iter()
        .map(|group| format!("{:?}", group.name()))
        .collect();
    [
        ("tls_suites", suites.join(",")),
        ("tls_kx_groups", groups.join(",")),
        ("tls_versions", "TLSv1.3".to_owned()),
    ]
}
