//! The secrets of TLS sessions, for who captures packets and has the right to read them.
//!
//! Nothing is kept: a session that begins while nobody watches costs one relaxed load and leaves no trace. A watcher that is too slow loses
//! secrets and is told how many; no handshake waits for it.

use std::{
    cell::Cell,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::broadcast;

/// Secrets that wait for the slowest watcher: those of some 800 handshakes, at five each.
const WAITING: usize = 4096;

/// One line of a key log (SSLKEYLOGFILE, draft-ietf-tls-keylogfile).
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) label: Arc<str>,
    pub(crate) client_random: [u8; 32],
    pub(crate) secret: Vec<u8>,
    /// The other end of the connection, where the handshake ran in [`with_remote`].
    pub(crate) remote: Option<SocketAddr>,
}

thread_local! {
    /// Whose handshake this thread works on: the TLS library does not say.
    static REMOTE: Cell<Option<SocketAddr>> = const { Cell::new(None) };
}

/// Does a part of the handshake with `remote`, so that its secrets can be told from others.
pub(crate) fn with_remote<T>(remote: SocketAddr, part: impl FnOnce() -> T) -> T {
    let before = REMOTE.replace(Some(remote));
    let done = part();
    REMOTE.set(before);
    done
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret itself: this is what logs print.
        f.debug_struct("Secret")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Where the TLS library leaves secrets, and where watchers take them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyTap(Arc<Shared>);

/// What watchers and the library share.
#[derive(Default)]
struct Shared {
    watchers: AtomicUsize,
    /// Made for the first watcher and gone with the last: its places take half a mebibyte.
    secrets: Mutex<Option<broadcast::Sender<Secret>>>,
}

/// Secrets of the sessions that began since.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    secrets: broadcast::Receiver<Secret>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("watchers", &self.watchers)
            .finish_non_exhaustive()
    }
}

impl KeyTap {
    /// Begins to watch: misses nothing of a session that begins from now on.
    pub(crate) fn watch(&self) -> Watch {
        let mut secrets = self.0.secrets.lock();
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Watch {
            shared: Arc::clone(&self.0),
            secrets: secrets
                .get_or_insert_with(|| broadcast::Sender::new(WAITING))
                .subscribe(),
        }
    }
}

impl Watch {
    /// The next secret, and how many were lost before it.
    pub(crate) async fn next(&mut self) -> Option<(Secret, u64)> {
        let mut lost = 0;
        loop {
            match self.secrets.recv().await {
                Ok(secret) => return Some((secret, lost)),
                Err(broadcast::error::RecvError::Lagged(missed)) => lost += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut secrets = self.shared.secrets.lock();
        if self.shared.watchers.fetch_sub(1, Ordering::Relaxed) == 1 {
            *secrets = None;
        }
    }
}

impl rustls::KeyLog for KeyTap {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let Ok(client_random) = client_random.try_into() else {
            return; // RFC 8446 4.1.2: always 32 bytes
        };
        let Some(secrets) = &*self.0.secrets.lock() else {
            return; // the last watcher has just left
        };
        // Fails where nobody receives it.
        drop(secrets.send(Secret {
            label: label.into(),
            client_random,
            secret: secret.to_vec(),
            remote: REMOTE.get(),
        }));
    }

    fn will_log(&self, _label: &str) -> bool {
        self.0.watchers.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use rustls::KeyLog as _;

    use super::*;

    #[test]
    fn nobody_watches_nothing_is_logged() {
        let tap = KeyTap::default();
        assert!(!tap.will_log("CLIENT_TRAFFIC_SECRET_0"));
        let watch = tap.watch();
        assert!(tap.will_log("CLIENT_TRAFFIC_SECRET_0"));
        drop(watch);
        assert!(!tap.will_log("CLIENT_TRAFFIC_SECRET_0"));
    }

    #[tokio::test]
    async fn a_secret_knows_whose_it_is() {
        let tap = KeyTap::default();
        let mut watch = tap.watch();
        let remote = "10.77.0.5:4143".parse().expect("an address");
        with_remote(remote, || tap.log("A", &[7; 32], b"secret"));
        tap.log("B", &[7; 32], b"secret");
        let (known, _) = watch.next().await.expect("one");
        let (unknown, _) = watch.next().await.expect("another");
        assert_eq!((known.remote, unknown.remote), (Some(remote), None));
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_the_oldest_and_knows() {
        let tap = KeyTap::default();
        let mut watch = tap.watch();
        for n in 0..=WAITING {
            tap.log(&n.to_string(), &[7; 32], b"secret");
        }
        let (first, lost) = watch.next().await.expect("one");
        assert_eq!((&*first.label, lost), ("1", 1));
        assert!(!format!("{first:?}").contains("secret\""));
    }
}
