//! Connections that nobody looks into: balanced once, then relayed byte for byte.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;

use super::{Outbound, targets::Target};
use crate::{
    balance,
    connect::Speak,
    detect::Rewind,
    error::ProxyError,
    io::{Io, Stream},
    metrics::TcpOpen,
    pool::TcpLease,
    tcp::{self, Counters},
};

/// How often a relay that runs is counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// The server side of a connection, opened.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    pub(super) stream: Stream,
    /// What the server said already.
    pub(super) prefix: Bytes,
    metrics: Option<TcpOpen>,
}

/// Opens the server side.
pub(super) async fn connect(target: &Rc<Target>) -> Result<Server, ProxyError> {
    let service = target.resolution().connections()?;
    let TcpLease { stream, request } = service.connect(Speak::Opaque).await?;
    let addr = request.node().endpoint.addr;
    // For bytes the connection is the answer.
    request.finish(balance::Outcome::Success, std::time::Instant::now());
    let (stream, metrics) = stream.unmetered();
    Ok(Server {
        addr,
        stream,
        prefix: Bytes::new(),
        metrics,
    })
}

/// Relays a connection to its end. `accepted` counts the client side.
pub(super) async fn serve(
    outbound: &Rc<Outbound>,
    client: Io,
    server: Option<Server>,
    target: &Rc<Target>,
    accepted: TcpOpen,
) {
    let opened = match server {
        Some(server) => Ok(server),
        None => connect(target).await,
    };
    let Server {
        addr: _,
        stream,
        prefix,
        metrics,
    } = match opened {
        Ok(server) => server,
        Err(error) => return outbound.refuse(client.io().tcp(), &error),
    };
    let counters = Counters::default();
    let mut counted = Counted {
        counters: &counters,
        client: accepted,
        server: metrics,
        seen: (0, 0),
    };
    let mut relay = tcp::relay(client, Rewind::new(stream, prefix), &counters);
    let quiet = outbound.life.quiet_in_drain(|| counters.moved());
    let is_quiet = tokio::select! {
        biased; // the end is worth more than another count
        outcome = &mut relay => {
            tracing::debug!(dst = %target.dst(), ?outcome, "relay ended");
            false
        }
        () = counted.count_regularly() => false,
        () = quiet => true,
    };
    if is_quiet {
        tracing::debug!(dst = %target.dst(), "a quiet relay ends with the proxy");
        relay.close().await;
    }
}

/// Counts the bytes of a relay: the relay itself moves them past every other counter.
struct Counted<'a> {
    counters: &'a Counters,
    client: TcpOpen,
    server: Option<TcpOpen>,
    /// Counted already: to the server, to the client.
    seen: (u64, u64),
}

impl Counted<'_> {
    async fn count_regularly(&mut self) {
        loop {
            tokio::time::sleep(COUNT_INTERVAL).await;
            self.count();
        }
    }

    fn count(&mut self) {
        let now = (self.counters.to_server(), self.counters.to_client());
        let (up, down) = (now.0 - self.seen.0, now.1 - self.seen.1);
        self.seen = now;
        self.client.read(up);
        self.client.wrote(down);
        if let Some(server) = &self.server {
            server.wrote(up);
            server.read(down);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count();
    }
}
