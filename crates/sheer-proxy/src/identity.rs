//! Who this proxy is: its key and certificate, and what it takes to check a peer's.
//!
//! The control runtime has the certificate issued and renewed and publishes [`Credentials`] snapshots; the data path reads the
//! newest for each new connection. Old connections keep what they began with. No private key leaves this module.

mod certify;
mod credentials;
mod crypto;
mod files;
mod key_tap;
mod peer;
mod verify;

use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use certify::{Certifier, roots};
pub use credentials::{Credentials, CredentialsError, Material, MeshAlpn};
pub(crate) use crypto::{anonymous_client_config, describe as describe_tls};
pub(crate) use key_tap::{KeyTap, Secret, with_remote};
pub use peer::{PeerError, PeerNames, peer_names};
pub use verify::WrongPeer;

/// Handle to the newest credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    problem: watch::Receiver<Option<String>>,
    keys: KeyTap,
}

impl Identity {
    /// The newest credentials; none before the first certificate.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.credentials.borrow().clone()
    }

    /// Follows the credentials: changes at every renewal.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        self.credentials.clone()
    }

    /// Where secrets of TLS sessions can be watched.
    pub(crate) fn keys(&self) -> &KeyTap {
        &self.keys
    }

    /// Why the last attempt to have a certificate issued failed, where it did.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

/// Publishes to an [`Identity`]: the renewal, or a test.
#[derive(Debug)]
pub struct Publisher {
    credentials: watch::Sender<Option<Arc<Credentials>>>,
    problem: watch::Sender<Option<String>>,
    keys: KeyTap,
}

impl Publisher {
    /// New credentials; what was wrong is over.
    pub fn publish(&self, credentials: Credentials) {
        let credentials = credentials.watched(self.keys.clone());
        self.credentials.send_replace(Some(Arc::new(credentials)));
        self.problem.send_replace(None);
    }

    /// An attempt failed. The credentials stay. `false` where it failed the same way before.
    pub(crate) fn fail(&self, problem: String) -> bool {
        self.problem.send_if_modified(|before| {
            let new = before.as_ref() != Some(&problem);
            *before = Some(problem);
            new
        })
    }
}

/// An identity without credentials yet, and what publishes to it.
pub fn channel() -> (Publisher, Identity) {
    let (credentials, problem) = (watch::Sender::new(None), watch::Sender::new(None));
    let keys = KeyTap::default();
    let identity = Identity {
        credentials: credentials.subscribe(),
        problem: problem.subscribe(),
        keys: keys.clone(),
    };
    let publisher = Publisher {
        credentials,
        problem,
        keys,
    };
    (publisher, identity)
}

#[cfg(test)]
mod tests;
