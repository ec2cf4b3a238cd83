//! Connections that nobody looks into: balanced once, then relayed byte for byte.

use std::{net::SocketAddr, rc::Rc};

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
    tcp::{self, Meters},
};

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
    let meters = Meters {
        client: accepted,
        server: metrics,
    };
    let both = (client, Rewind::new(stream, prefix));
    let ended = tcp::relay_counted(both, meters, &outbound.life, std::future::pending()).await;
    tracing::debug!(dst = %target.dst(), ?ended, "relay ended");
}
