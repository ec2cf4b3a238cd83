//! Certificates as people want to read them, and the one that a TLS server really serves.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Certificate {
    /// Distinguished name; may be empty, as identity is in the names below.
    pub(crate) subject: String,
    /// DNS names.
    pub(crate) dns_names: Vec<String>,
    /// URIs, as a SPIFFE identity.
    pub(crate) uris: Vec<String>,
    /// Distinguished name of who signed it.
    pub(crate) issuer: String,
    /// Seconds since the Unix epoch.
    pub(crate) not_before: i64,
    /// Seconds since the Unix epoch.
    pub(crate) not_after: i64,
    /// SHA-256 of the whole, in hexadecimal.
    pub(crate) sha256: String,
}

impl Certificate {
    /// Reads one certificate in DER.
    pub(crate) fn from_der(der: &[u8]) -> anyhow::Result<Self> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| anyhow!("no X.509 certificate: {error}"))?;
        let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        Ok(Self {
            subject: parsed.subject().to_string(),
            dns_names,
            uris,
            issuer: parsed.issuer().to_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            sha256: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Whether the certificate is valid at a moment, in seconds since the Unix epoch.
    pub(crate) fn is_valid_at(&self, moment: i64) -> bool {
        (self.not_before..=self.not_after).contains(&moment)
    }
}

/// All certificates of a PEM text, in DER.
pub(crate) fn from_pem(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    use rustls_pki_types::pem::PemObject as _;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| anyhow!("no PEM: {error}"))?;
    anyhow::ensure!(!all.is_empty(), "there is no certificate in it");
    Ok(all)
}

/// A moment in words, in UTC: `Nov 22 19:30:00 2026 +00:00`.
pub(crate) fn moment(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(
        |_| format!("{seconds} s after 1970"),
        |time| time.to_string().trim().to_owned(),
    )
}

/// What a server showed in a TLS handshake.
#[derive(Debug)]
pub(crate) struct Served {
    /// The leaf.
    pub(crate) leaf: Certificate,
    /// Whether it proves the name that was asked for, to the trust anchors; otherwise why not.
    pub(crate) verified: Result<(), String>,
}

/// A TLS handshake that is ready to begin. Made before the connection: a proxy takes a client that stays silent for one that
/// does not speak TLS.
pub(crate) struct Handshake {
    witness: Arc<Witness>,
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

impl Handshake {
    /// A handshake with this server name, to be judged by these trust anchors. No client certificate is offered.
    pub(crate) fn new(name: &str, anchors: &[CertificateDer<'static>]) -> anyhow::Result<Self> {
        let witness = Arc::new(Witness::new(anchors)?);
        let config = ClientConfig::builder_with_provider(witness.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // nothing is sent on this connection, and what the server shows is judged after
            .with_custom_certificate_verifier(witness.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).with_context(|| format!("`{name}` is no server name"))?;
        Ok(Self {
            witness,
            connector: Arc::new(config).into(),
            name,
        })
    }

    /// Does the handshake on a connection, which is of no further use, and tells what the server showed.
    pub(crate) async fn with<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> anyhow::Result<Served> {
        let handshake = self.connector.connect(self.name, stream).await;
        let seen = self
            .witness
            .seen
            .lock()
            .expect("nothing panics while it is held")
            .take();
        match (seen, handshake) {
            (Some((der, verified)), _) => Ok(Served {
                leaf: Certificate::from_der(&der)?,
                verified,
            }),
            (None, Err(error)) => Err(anyhow!(error).context("no TLS handshake")),
            (None, Ok(_)) => Err(anyhow!("the server showed no certificate")),
        }
    }
}

/// A leaf in DER, and what the real verifier says of it.
type Seen = (Vec<u8>, Result<(), String>);

/// Lets every handshake through and remembers what was shown and whether the real verifier likes it.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    judge: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<Seen>>,
}

impl Witness {
    fn new(anchors: &[CertificateDer<'static>]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots.add(anchor.clone()).context("a trust anchor cannot be used")?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        Ok(Self {
            provider,
            judge,
            seen: Mutex::default(),
        })
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self
            .judge
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = judged.map(drop).map_err(|error| in_words(&error));
        *self.seen.lock().expect("nothing panics while it is held") = Some((end_entity.to_vec(), verified));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn in_words(error: &rustls::Error) -> String {
    match error {
        // The latter where another mesh's trust anchor has the same name.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "it is not signed by the mesh's trust anchor".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "it is for another identity".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "it is not valid yet".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";

    struct Issuer(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

    impl Issuer {
        fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "identity.sheer.cluster.local");
            Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
        }

        fn anchors(&self) -> Vec<CertificateDer<'static>> {
            vec![self.0.der().clone()]
        }

        /// A TLS server with a leaf for `NAME`, on one end of a pipe.
        fn serve(&self) -> tokio::io::DuplexStream {
            let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(
                "spiffe://cluster.local/ns/bank/sa/ledger".try_into().unwrap(),
            ));
            let key = rcgen::KeyPair::generate().unwrap();
            let leaf = params.signed_by(&key, &self.0).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![leaf.der().clone()],
                    rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
                )
                .unwrap();
            let (client, server) = tokio::io::duplex(16 * 1024);
            tokio::spawn(async move {
                tokio_rustls::TlsAcceptor::from(Arc::new(config))
                    .accept(server)
                    .await
                    .map(drop)
            });
            client
        }
    }

    async fn served(server: &Issuer, name: &str, anchor: &Issuer) -> Served {
        Handshake::new(name, &anchor.anchors())
            .unwrap()
            .with(server.serve())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_served_leaf_is_read_and_judged() {
        let issuer = Issuer::new();
        let Served { leaf, verified } = served(&issuer, NAME, &issuer).await;
        assert_eq!(verified, Ok(()));
        assert_eq!(leaf.dns_names, [NAME]);
        assert_eq!(leaf.uris, ["spiffe://cluster.local/ns/bank/sa/ledger"]);
        assert!(leaf.issuer.contains("CN=identity.sheer.cluster.local"), "{leaf:?}");
        assert_eq!(leaf.sha256.len(), 64);

        let other = served(&issuer, "fx.bank.serviceaccount.identity.sheer.cluster.local", &issuer).await;
        assert_eq!(other.verified, Err("it is for another identity".to_owned()));
        let stranger = served(&issuer, NAME, &Issuer::new()).await;
        assert_eq!(
            stranger.verified,
            Err("it is not signed by the mesh's trust anchor".to_owned())
        );
    }

    #[tokio::test]
    async fn what_is_no_tls_is_an_error() {
        let (client, mut server) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut server, b"HTTP/1.1 400 Bad Request\r\n\r\n").await
        });
        let error = Handshake::new(NAME, &Issuer::new().anchors())
            .unwrap()
            .with(client)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no TLS handshake"), "{error:#}");
    }

    #[test]
    fn moments_read_well() {
        assert_eq!(moment(1_795_375_800), "Nov 22 19:30:00 2026 +00:00");
    }
}
