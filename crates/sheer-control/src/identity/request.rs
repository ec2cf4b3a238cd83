//! Certificate signing requests: what a workload may ask for.

use rcgen::{CertificateSigningRequestParams, DnType, DnValue, IsCa, PublicKey, SanType};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};

/// Largest request that is looked at; ours have some 300 bytes.
const LARGEST: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum RequestError {
    /// Not a request at all.
    #[error("the certificate signing request cannot be read ({0}): it must be PKCS#10 in DER")]
    Malformed(String),
    /// Its signature is not by the key in it.
    #[error("the certificate signing request is not signed by the key that it holds")]
    Signature,
    /// It asks for a name that is not the workload's.
    #[error("the certificate signing request asks for {found}, but the token is for {expected}")]
    Name {
        /// What is asked for.
        found: String,
        /// What may be.
        expected: String,
    },
    /// It asks to become an authority.
    #[error("the certificate signing request asks for a certificate authority")]
    Authority,
}

/// The key of a request that asks for these names only: the DNS name must be asked for, the SPIFFE name may be.
pub(super) fn check(request: &[u8], dns: &str, spiffe: &str) -> Result<PublicKey, RequestError> {
    if request.is_empty() || request.len() > LARGEST {
        return Err(RequestError::Malformed(format!("{} bytes", request.len())));
    }
    // The API's comments say PEM, its users send DER.
    let der = if request.starts_with(b"-----BEGIN") {
        CertificateSigningRequestDer::from_pem_slice(request)
            .map_err(|error| RequestError::Malformed(error.to_string()))?
    } else {
        CertificateSigningRequestDer::from(request)
    };
    let CertificateSigningRequestParams { params, public_key } = CertificateSigningRequestParams::from_der(&der)
        .map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => RequestError::Signature,
            other => RequestError::Malformed(other.to_string()),
        })?;
    if matches!(params.is_ca, IsCa::Ca(_)) {
        return Err(RequestError::Authority);
    }
    let wrong = |found: String| {
        Err(RequestError::Name {
            found,
            expected: dns.to_owned(),
        })
    };
    let mut asked = false;
    for name in &params.subject_alt_names {
        match name {
            SanType::DnsName(name) if name.as_str() == dns => asked = true,
            SanType::URI(uri) if uri.as_str() == spiffe => {}
            SanType::DnsName(name) => return wrong(format!("the DNS name {:?}", name.as_str())),
            SanType::URI(uri) => return wrong(format!("the URI {:?}", uri.as_str())),
            SanType::IpAddress(address) => return wrong(format!("the address {address}")),
            other => return wrong(format!("a name of another type ({other:?})")),
        }
    }
    if !asked {
        return wrong("no DNS name".to_owned());
    }
    match params.distinguished_name.get(&DnType::CommonName) {
        None => Ok(public_key),
        Some(name) if text(name) == Some(dns) => Ok(public_key),
        Some(name) => wrong(format!("the common name {:?}", text(name).unwrap_or_default())),
    }
}

fn text(name: &DnValue) -> Option<&str> {
    match name {
        DnValue::Utf8String(text) => Some(text),
        DnValue::PrintableString(text) => Some(text.as_str()),
        DnValue::Ia5String(text) => Some(text.as_str()),
        _ => None,
    }
}
