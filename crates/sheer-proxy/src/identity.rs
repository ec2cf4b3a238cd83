//! Who this proxy is: its key and certificate, and what it takes to check a peer's.
//!
//! The control runtime has the certificate issued and renewed and publishes [`Credentials`] snapshots; the data path reads the
//! newest for each new connection. Old connections keep what they began with. No private key leaves this module.

mod certify;
mod credentials;
mod crypto;
mod files;
mod peer;
mod verify;

use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use certify::{Certifier, roots};
pub use credentials::{Credentials, CredentialsError, Material, MeshAlpn};
pub(crate) use crypto::{anonymous_client_config, describe as describe_tls};
pub use peer::{PeerError, PeerNames, peer_names};
pub use verify::WrongPeer;

/// Handle to the newest credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(watch::Receiver<Option<Arc<Credentials>>>);

impl Identity {
    /// The newest credentials; none before the first certificate.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.0.borrow().clone()
    }

    /// Follows the credentials: changes at every renewal.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        self.0.clone()
    }
}

/// What publishes to an [`Identity`]: the renewal, or a test.
pub fn channel() -> (watch::Sender<Option<Arc<Credentials>>>, Identity) {
    let (sender, receiver) = watch::channel(None);
    (sender, Identity(receiver))
}
