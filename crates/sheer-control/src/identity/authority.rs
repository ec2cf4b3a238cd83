//! The certificate authority: a trust anchor that every workload knows, and an issuer that signs their certificates.
//!
//! Made at first start (ECDSA P-256; the anchor for ten years, the issuer for one, renewed on its own when a third of that is left).
//! Where the folder holds anchors and an issuer of the operator's own (and no `anchor.key`), those are used and never changed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::{RootCertStore, client::danger::ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};

use super::files::{self, FileError};

const ANCHOR_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const ISSUER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Certificates are valid from a moment before they are made: the clocks of two machines are never the same.
const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// Why certificates cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written, or does not hold what it should.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something that belongs together is not there together.
    #[error("{}: missing: {why}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        why: &'static str,
    },
    /// A certificate is not valid now.
    #[error("{}: the certificate {when}: {what_to_do}", path.display())]
    NotValid {
        /// The file.
        path: PathBuf,
        /// Since or from when.
        when: String,
        /// What to do.
        what_to_do: &'static str,
    },
    /// Anchors, issuer and key do not belong together.
    #[error("{}: {why}", path.display())]
    Mismatch {
        /// The issuer's file.
        path: PathBuf,
        /// What does not fit, and what to do.
        why: String,
    },
    /// Signing failed.
    #[error("a certificate could not be made: {0}")]
    Signing(#[from] rcgen::Error),
}

/// A signed leaf and what leads from it to the trust anchors.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) issuer: CertificateDer<'static>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Signs certificates. One a control plane.
pub struct Authority {
    folder: PathBuf,
    anchors_pem: String,
    anchors: Vec<CertificateDer<'static>>,
    issuing: ArcSwap<Issuing>,
    lifetime: Duration,
}

/// The issuer in use.
struct Issuing {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Authority {
    /// Reads the authority of an identity folder; makes what is missing where that is safe. `lifetime` is that of leaves.
    pub fn load_or_create(folder: &Path, trust_domain: &str, lifetime: Duration) -> Result<Self, AuthorityError> {
        files::make_folder(folder)?;
        let own_key = load_or_create_anchor(folder, trust_domain)?;
        let path = folder.join("anchors.pem");
        let missing = || AuthorityError::Missing {
            path: path.clone(),
            why: "put the trust anchors' certificates there",
        };
        let pem = files::read(&path)?.ok_or_else(missing)?;
        let anchors = certificates(&path, &pem)?;
        check_anchors(&path, &anchors)?;
        let anchors_pem = String::from_utf8_lossy(&pem).into_owned();
        let issuing = match load_issuer(folder, &anchors) {
            Ok(Some(issuing)) => issuing,
            // Ours to replace, whatever is wrong with it.
            Ok(None) if own_key.is_some() => make_issuer(folder, trust_domain, &anchors)?,
            Err(error) if own_key.is_some() => {
                tracing::warn!(%error, "making a new issuer");
                make_issuer(folder, trust_domain, &anchors)?
            }
            Ok(None) => {
                let why =
                    "put the issuer's certificate and key there (issuer.pem, issuer.key), signed by one of anchors.pem";
                return Err(AuthorityError::Missing {
                    path: folder.join("issuer.pem"),
                    why,
                });
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            folder: folder.to_owned(),
            anchors_pem,
            anchors,
            issuing: ArcSwap::from_pointee(issuing),
            lifetime,
        })
    }

    /// The trust anchors, as workloads are given them.
    pub fn anchors_pem(&self) -> &str {
        &self.anchors_pem
    }

    /// The trust anchors, to verify with.
    pub(crate) fn roots(&self) -> RootCertStore {
        roots(&self.anchors)
    }

    /// When the issuer's certificate ends.
    pub fn issuer_not_after(&self) -> SystemTime {
        self.issuing.load().not_after
    }

    /// Makes a new issuer where a third of the life of the present one is left and the anchor's key is here. Whether it did.
    pub fn renew_issuer(&self, trust_domain: &str) -> Result<bool, AuthorityError> {
        let issuing = self.issuing.load();
        let life = issuing.not_after.duration_since(issuing.not_before).unwrap_or_default();
        let left = issuing.not_after.duration_since(files::now()).unwrap_or_default();
        if left > life / 3 || files::read_private(&self.folder.join("anchor.key"))?.is_none() {
            return Ok(false);
        }
        self.issuing
            .store(Arc::new(make_issuer(&self.folder, trust_domain, &self.anchors)?));
        Ok(true)
    }

    /// A leaf for a workload: both names, for servers and clients, from now on.
    pub(crate) fn issue(&self, dns: &str, spiffe: &str, key: &impl PublicKeyData) -> Result<Issued, AuthorityError> {
        let issuing = self.issuing.load();
        let now = files::now();
        let not_before = (now - CLOCK_SKEW).max(issuing.not_before);
        // A leaf that outlives its issuer would be refused with a message that names the wrong certificate.
        let not_after = (now + self.lifetime).min(issuing.not_after);
        let mut params = leaf(dns, not_before, not_after)?;
        // The DNS name first: linkerd2-proxy names a client by the first.
        params.subject_alt_names = vec![SanType::DnsName(dns.try_into()?), SanType::URI(spiffe.try_into()?)];
        let leaf = params.signed_by(key, &issuing.issuer)?.der().clone();
        Ok(Issued {
            leaf,
            issuer: issuing.certificate.clone(),
            not_before,
            not_after,
        })
    }
}

/// One anchor that is valid is enough: while anchors are being replaced, the old one may run out.
fn check_anchors(path: &Path, anchors: &[CertificateDer<'static>]) -> Result<(), AuthorityError> {
    let mut first_error = None;
    for anchor in anchors {
        let (from, to) = validity(path, anchor)?;
        let what_to_do = "remove the folder to have a new anchor made (every workload then needs a restart), or put a valid one there";
        match check_validity(path, from, to, what_to_do) {
            Ok(()) => return Ok(()),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn roots(anchors: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(anchors.iter().cloned());
    roots
}

/// A name has 64 characters at most (RFC 5280, `ub-common-name`); longer ones stand in the alternative names alone.
fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    if name.len() <= 64 {
        distinguished.push(DnType::CommonName, name);
    }
    distinguished
}

fn validity_of(not_before: SystemTime, not_after: SystemTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive and of full length, as RFC 5280 4.1.2.2 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn leaf(name: &str, not_before: SystemTime, not_after: SystemTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = validity_of(not_before, not_after)?;
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn authority(
    name: &str,
    lifetime: Duration,
    constraint: BasicConstraints,
) -> Result<CertificateParams, AuthorityError> {
    let now = files::now();
    let mut params = validity_of(now - CLOCK_SKEW, now + lifetime)?;
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(constraint);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params)
}

/// The anchor's key, where the anchor is ours; made together with the anchor where the folder holds neither.
fn load_or_create_anchor(folder: &Path, trust_domain: &str) -> Result<Option<KeyPair>, AuthorityError> {
    let (key_path, path) = (folder.join("anchor.key"), folder.join("anchors.pem"));
    let foreign = files::read(&path)?.is_some() || files::read(&folder.join("issuer.pem"))?.is_some();
    let Some(pem) = files::read_private(&key_path)? else {
        if foreign {
            return Ok(None);
        }
        let key = KeyPair::generate()?;
        files::create(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
        // Read back: another process may have been first.
        return load_or_create_anchor(folder, trust_domain);
    };
    let key = read_key(&key_path, &pem)?;
    if files::read(&path)?.is_none() {
        let params = authority(
            &format!("root.sheer.{trust_domain}"),
            ANCHOR_LIFETIME,
            BasicConstraints::Unconstrained,
        )?;
        files::create(&path, params.self_signed(&key)?.pem().as_bytes(), 0o644)?;
    }
    Ok(Some(key))
}

fn make_issuer(
    folder: &Path,
    trust_domain: &str,
    anchors: &[CertificateDer<'static>],
) -> Result<Issuing, AuthorityError> {
    let key_path = folder.join("anchor.key");
    let missing = || AuthorityError::Missing {
        path: key_path.clone(),
        why: "without it no issuer can be signed",
    };
    let anchor_key = read_key(&key_path, &files::read_private(&key_path)?.ok_or_else(missing)?)?;
    let stray = || {
        FileError::content(
            &key_path,
            "not the key of any certificate of anchors.pem: put the pair there that belongs together",
        )
    };
    let anchor = anchors
        .iter()
        .find(|anchor| is_key_of(&anchor_key, anchor))
        .ok_or_else(stray)?;
    let (_, anchor_end) = validity(&folder.join("anchors.pem"), anchor)?;
    let lifetime = ISSUER_LIFETIME.min(anchor_end.duration_since(files::now()).unwrap_or_default());
    let anchor = Issuer::from_ca_cert_der(anchor, anchor_key)?;
    let key = KeyPair::generate()?;
    let params = authority(
        &format!("identity.sheer.{trust_domain}"),
        lifetime,
        BasicConstraints::Constrained(0),
    )?;
    let certificate = params.signed_by(&key, &anchor)?;
    // Certificate last: a key without its certificate is noticed and replaced at the next start.
    files::replace(&folder.join("issuer.key"), key.serialize_pem().as_bytes(), 0o600)?;
    files::replace(&folder.join("issuer.pem"), certificate.pem().as_bytes(), 0o644)?;
    load_issuer(folder, anchors)?.ok_or_else(missing)
}

/// The issuer of the folder, checked against the anchors; `None` where there is none.
fn load_issuer(folder: &Path, anchors: &[CertificateDer<'static>]) -> Result<Option<Issuing>, AuthorityError> {
    let (path, key_path) = (folder.join("issuer.pem"), folder.join("issuer.key"));
    let (pem, key) = match (files::read(&path)?, files::read_private(&key_path)?) {
        (None, None) => return Ok(None),
        (Some(pem), Some(key)) => (pem, read_key(&key_path, &key)?),
        (Some(_), None) => {
            return Err(AuthorityError::Missing {
                path: key_path,
                why: "issuer.pem is there: put its private key beside it",
            });
        }
        (None, Some(_)) => {
            return Err(AuthorityError::Missing {
                path,
                why: "issuer.key is there: put its certificate beside it",
            });
        }
    };
    let certificate = certificates(&path, &pem)?.swap_remove(0);
    let (not_before, not_after) = validity(&path, &certificate)?;
    check_validity(
        &path,
        not_before,
        not_after,
        "put a new issuer there (issuer.pem, issuer.key), signed by one of anchors.pem",
    )?;
    if !is_key_of(&key, &certificate) {
        let why = "issuer.key is not the key of issuer.pem: put the pair there that belongs together".to_owned();
        return Err(AuthorityError::Mismatch { path, why });
    }
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    let issuing = Issuing {
        certificate,
        issuer,
        not_before,
        not_after,
    };
    check_chain(&path, anchors, &issuing)?;
    Ok(Some(issuing))
}

/// Signs a leaf and verifies it as a proxy will: finds every mismatch of anchors, issuer and key.
fn check_chain(path: &Path, anchors: &[CertificateDer<'static>], issuing: &Issuing) -> Result<(), AuthorityError> {
    let mismatch = |why: String| AuthorityError::Mismatch {
        path: path.to_owned(),
        why,
    };
    let name = "check.sheer.dev";
    let mut params = leaf(name, issuing.not_before, issuing.not_after)?;
    params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
    let leaf = params.signed_by(&KeyPair::generate()?, &issuing.issuer)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots(anchors)), provider)
        .build()
        .map_err(|error| mismatch(format!("anchors.pem holds no usable trust anchor: {error}")))?;
    let name = ServerName::try_from(name).map_err(|error| mismatch(error.to_string()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(files::seconds(files::now())));
    let verified = verifier.verify_server_cert(leaf.der(), std::slice::from_ref(&issuing.certificate), &name, &[], now);
    verified.map(drop).map_err(|error| {
        use rustls::{CertificateError, Error};
        mismatch(match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                "the issuer was not signed by any certificate of anchors.pem: put the ones there that belong together".to_owned()
            }
            other => format!("what the issuer signs does not verify: {other}; it must be a certificate authority (CA:TRUE, keyCertSign)"),
        })
    })
}

fn is_key_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, certificate)| certificate.public_key().raw == key.subject_public_key_info())
}

fn read_key(path: &Path, pem: &[u8]) -> Result<KeyPair, AuthorityError> {
    let text = String::from_utf8_lossy(pem);
    let key = KeyPair::from_pem(&text);
    key.map_err(|_| FileError::content(path, "not a private key in PEM (PKCS#8; ECDSA P-256, P-384 or Ed25519)").into())
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| FileError::content(path, "not certificates in PEM"))?;
    if found.is_empty() {
        return Err(FileError::content(path, "no certificate in it (PEM)").into());
    }
    Ok(found)
}

fn validity(path: &Path, certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), AuthorityError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| FileError::content(path, "not an X.509 certificate"))?;
    let time = |timestamp: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(timestamp.try_into().unwrap_or(0));
    let validity = parsed.validity();
    Ok((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}

fn check_validity(
    path: &Path,
    from: SystemTime,
    to: SystemTime,
    what_to_do: &'static str,
) -> Result<(), AuthorityError> {
    let now = files::now();
    let wrong = |when: String| {
        Err(AuthorityError::NotValid {
            path: path.to_owned(),
            when,
            what_to_do,
        })
    };
    match (from.duration_since(now), now.duration_since(to)) {
        (Ok(ahead), _) if ahead > CLOCK_SKEW => wrong(format!(
            "is valid only in {} h (or this machine's clock is wrong)",
            ahead.as_secs() / 3600
        )),
        (_, Ok(ago)) => wrong(format!("expired {} ago", rough(ago))),
        _ => Ok(()),
    }
}

/// A time in the unit in which people think of it.
fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
