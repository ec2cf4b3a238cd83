//! Who a verified peer is, by its certificate.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{extensions::GeneralName, prelude::*};

/// Clocks of two machines may differ by this much.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// The names in a peer's certificate. Linkerd's certificates carry a DNS name, SPIRE's a URI, Sheer's both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// DNS names, as `ledger.bank.serviceaccount.identity.sheer.cluster.local`.
    pub dns: Vec<Arc<str>>,
    /// URIs, as `spiffe://cluster.local/ns/bank/sa/ledger`.
    pub uris: Vec<Arc<str>>,
}

impl PeerNames {
    /// The name that logs, labels and `l5d-client-id` show: the first DNS name, or else the first URI.
    pub fn primary(&self) -> Option<&Arc<str>> {
        self.dns.first().or(self.uris.first())
    }

    /// Whether the certificate carries this very name (a DNS name in any case).
    pub fn contains(&self, name: &str) -> bool {
        self.dns.iter().any(|own| own.eq_ignore_ascii_case(name)) || self.uris.iter().any(|own| &**own == name)
    }

    /// Whether a DNS name ends in these labels; an empty suffix matches every peer.
    pub fn ends_in(&self, suffix: &[String]) -> bool {
        suffix.is_empty()
            || self.dns.iter().any(|name| {
                let mut labels = name.rsplit('.');
                suffix.iter().rev().all(|label| labels.next() == Some(label))
            })
    }

    /// Every name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.dns.iter().chain(&self.uris)
    }
}

/// Why a peer's certificate is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not a certificate.
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    /// Can happen where a session was resumed after its certificate ended.
    #[error("the peer's certificate has ended")]
    Expired,
}

/// Names of a peer, from the chain that TLS verified. TLS checks the validity at a full handshake only, so a resumed session's is
/// checked here again.
pub fn peer_names(chain: &[CertificateDer<'_>]) -> Result<PeerNames, PeerError> {
    names_at(chain, UnixTime::now())
}

pub(crate) fn names_at(chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerNames, PeerError> {
    let Some(leaf) = chain.first() else {
        return Ok(PeerNames::default());
    };
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Unreadable)?;
    let ends = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
    if now.as_secs() > ends.saturating_add(CLOCK_SKEW.as_secs()) {
        return Err(PeerError::Expired);
    }
    let mut names = PeerNames::default();
    let alternatives = leaf.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
    for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns.push(name.to_ascii_lowercase().into()),
            GeneralName::URI(uri) => names.uris.push((*uri).into()),
            _ => {}
        }
    }
    Ok(names)
}
