//! PINGs that find out whether a silent peer is still there.

use std::time::Duration;

use h2::{Ping, PingPong};

/// How often to PING, and how long the answer may take.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Between two PINGs.
    pub interval: Duration,
    /// Until the connection is given up.
    pub timeout: Duration,
}

impl KeepAlive {
    /// Returns once the peer does not answer; never, where there is nothing to ask with.
    pub(super) async fn peer_lost(self, pings: Option<PingPong>) {
        let Some(mut pings) = pings else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(self.interval).await;
            match tokio::time::timeout(self.timeout, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                // The connection itself has ended, and whoever drives it knows.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return,
            }
        }
    }
}

/// As [`KeepAlive::peer_lost`], where PINGs may be off.
pub(super) async fn peer_lost(keep_alive: Option<KeepAlive>, pings: Option<PingPong>) {
    match keep_alive {
        Some(keep_alive) => keep_alive.peer_lost(pings).await,
        None => std::future::pending().await,
    }
}
