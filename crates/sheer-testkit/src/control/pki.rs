//! Keys and certificates of a test's mesh.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Issue;

/// An issuer, its own trust anchor.
#[derive(Debug)]
pub struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
    anchors_pem: String,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    /// The leaf alone: the issuer is the anchor.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A new mesh.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root.test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let anchors_pem = issuer.as_ref().pem();
        Self { issuer, anchors_pem }
    }

    /// The trust anchor, PEM.
    pub fn anchors_pem(&self) -> &str {
        &self.anchors_pem
    }

    /// A certificate for these DNS names and URIs, valid for a day.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_between(names, -30, 86_400)
    }

    /// A certificate that begins and ends so many seconds from now.
    pub fn leaf_between(&self, names: &[&str], begins: i64, ends: i64) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = workload_params(Duration::ZERO);
        params.not_before = seconds_from_now(begins).into();
        params.not_after = seconds_from_now(ends).into();
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            chain: vec![cert.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// Issues for a signing request, as told. DER.
    pub(super) fn issue(&self, request: &[u8], issue: &Issue) -> Option<Vec<u8>> {
        let life = if let Issue::Valid(life) = issue {
            *life
        } else {
            Duration::from_secs(86_400)
        };
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).ok()?;
        let names = std::mem::take(&mut request.params.subject_alt_names);
        request.params = workload_params(life);
        request.params.subject_alt_names = names;
        let hour = Duration::from_secs(3_600);
        match issue {
            Issue::Valid(_) => {}
            Issue::Expired => {
                request.params.not_before = (now() - 2 * hour).into();
                request.params.not_after = (now() - hour).into();
            }
            Issue::NotYetValid => request.params.not_before = (now() + hour).into(),
            Issue::OtherName(name) => request.params.subject_alt_names = vec![alternative(name)],
            Issue::OtherKey => {
                let key = KeyPair::generate().ok()?;
                debug_assert_ne!(key.der_bytes(), request.public_key.der_bytes());
                return Some(request.params.signed_by(&key, &self.issuer).ok()?.der().to_vec());
            }
            Issue::Untrusted => return Some(request.signed_by(&Self::new().issuer).ok()?.der().to_vec()),
            Issue::Garbage => return Some(b"no certificate".to_vec()),
            Issue::Refused => return None,
        }
        Some(request.signed_by(&self.issuer).ok()?.der().to_vec())
    }
}

fn workload_params(life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now() - Duration::from_secs(30)).into();
    params.not_after = (now() + life).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn alternative(name: &str) -> SanType {
    let text = Ia5String::try_from(name).expect("names of tests are ASCII");
    if name.contains("://") {
        SanType::URI(text)
    } else {
        SanType::DnsName(text)
    }
}

fn seconds_from_now(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        now() - distance
    } else {
        now() + distance
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are of wall-clock time")]
fn now() -> SystemTime {
    SystemTime::now()
}
