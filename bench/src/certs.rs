//! Certificates of the pairs that are not a mesh: one authority, one leaf that both ends use, as files (PEM) and for rustls.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// The name in the leaf.
pub(crate) const NAME: &str = "bench.local";

/// Writes `ca.pem`, `leaf.pem` and `leaf.key` (ECDSA P-256, as the mesh has it).
pub(crate) fn write(dir: &Path) -> Result<()> {
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    // Two different names: where both are the same, OpenSSL takes the leaf for self-signed.
    ca.distinguished_name.push(DnType::CommonName, "bench authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let mut leaf = CertificateParams::new([NAME.to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, NAME);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &ca)?;
    fs::write(dir.join("ca.pem"), ca.pem())?;
    fs::write(dir.join("leaf.pem"), leaf.pem())?;
    fs::write(dir.join("leaf.key"), key.serialize_pem())?;
    Ok(())
}

/// Both sides of mTLS from the files of [`write`].
pub(crate) fn load(dir: &Path, alpn: &[u8]) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).context("ca.pem")?)?;
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from_pem_file(dir.join("leaf.pem")).context("leaf.pem")?];
    let key = PrivateKeyDer::from_pem_file(dir.join("leaf.key")).context("leaf.key")?;
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key())?;
    client.resumption = rustls::client::Resumption::disabled();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    server.send_tls13_tickets = 0;
    client.alpn_protocols = vec![alpn.to_vec()];
    server.alpn_protocols = vec![alpn.to_vec()];
    Ok((Arc::new(client), Arc::new(server)))
}
