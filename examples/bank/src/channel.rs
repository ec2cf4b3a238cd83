//! How one service reaches another: plain HTTP/2 to a DNS name and a port.

use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};

/// The longest that a connection may take; a call's own deadline may end sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that answers no ping for this long is replaced.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A channel that connects at its first call, stays connected, and connects again by itself.
pub fn channel(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("`{url}` is no URL of a service"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy())
}
