//! Checks of a peer's certificate: a chain to the trust anchors, within its time (clocks may differ a little), for the expected name.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::peer::{CLOCK_SKEW, names_at};

/// The peer proved another identity than discovery promised. Found by downcast in `rustls::Error`'s `CertificateError::Other`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, but the peer proved to be {found}")]
pub struct WrongPeer {
    /// What discovery promised.
    pub expected: Arc<str>,
    /// What the certificate says.
    pub found: Arc<str>,
}

/// Verifies a server that has to be one identity.
pub(crate) struct ServerVerifier {
    algorithms: WebPkiSupportedAlgorithms,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    expected: Arc<str>,
}

impl ServerVerifier {
    pub(crate) fn new(provider: &Arc<CryptoProvider>, roots: Arc<RootCertStore>, expected: Arc<str>) -> Arc<Self> {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(Self {
            algorithms,
            provider: Arc::clone(provider),
            roots,
            expected,
        })
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _sni: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_chain(&self.provider, &self.roots, leaf, intermediates, now)?;
        let names = names_at(std::slice::from_ref(leaf), now)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if names.contains(&self.expected) {
            return Ok(ServerCertVerified::assertion());
        }
        let found = names.primary().cloned().unwrap_or_else(|| "nobody".into());
        let wrong = WrongPeer {
            expected: Arc::clone(&self.expected),
            found,
        };
        Err(Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(
            Arc::new(wrong),
        ))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies a client where it shows a certificate; who may come in is for policy to say.
#[derive(Debug)]
pub(crate) struct ClientVerifier(Arc<dyn ClientCertVerifier>);

impl ClientVerifier {
    pub(crate) fn new(provider: &Arc<CryptoProvider>, roots: &Arc<RootCertStore>) -> Result<Arc<Self>, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .allow_unauthenticated()
            // Hints only help a client that has several certificates; a proxy has one.
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Arc::new(Self(verifier)))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        with_skew(now, |now| self.0.verify_client_cert(leaf, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whether a server's chain leads to a trust anchor.
pub(crate) fn verify_chain(
    provider: &CryptoProvider,
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider.signature_verification_algorithms.all;
    with_skew(now, |now| {
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
    })
}

/// Tries again at the other end of the tolerated skew where only the time is wrong.
fn with_skew<T>(now: UnixTime, verify: impl Fn(UnixTime) -> Result<T, Error>) -> Result<T, Error> {
    let result = verify(now);
    let skewed = match &result {
        Err(Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            now.as_secs().saturating_add(CLOCK_SKEW.as_secs())
        }
        Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            now.as_secs().saturating_sub(CLOCK_SKEW.as_secs())
        }
        _ => return result,
    };
    verify(UnixTime::since_unix_epoch(std::time::Duration::from_secs(skewed)))
}
