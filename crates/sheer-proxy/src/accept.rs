//! Accepts connections for one half of the proxy, on one worker.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    addr::{ClientAddr, OrigDst},
    error::ProxyError,
    life::Life,
    sys, worker,
};

/// How long to wait after an error that only time heals: no descriptors, no memory.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);

/// Accepts until the drain begins. Each connection gets a task of its own, so that none holds up another.
pub async fn run<F>(listener: TcpListener, life: Life, mut connection: impl FnMut(TcpStream, ClientAddr) -> F)
where
    F: Future<Output = ()> + 'static,
{
    loop {
        let accepted = tokio::select! {
            biased; // nothing new once the drain has begun
            () = life.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, client)) => {
                let client = ClientAddr(sys::canonical(client));
                worker::spawn_connection(&life, connection(tcp, client));
            }
            Err(error) if is_of_connection(&error) => tracing::debug!(%error, "a client left before it was accepted"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections: is the limit of open files high enough?");
                tokio::time::sleep(EXHAUSTED_WAIT).await;
            }
        }
    }
}

/// Whether `accept(2)` failed for one connection only.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
    )
}

/// Where the client wanted to go. `None` where it came straight to the proxy's own port.
pub fn original_dst(tcp: &TcpStream) -> Result<Option<OrigDst>, ProxyError> {
    sys::original_dst(tcp).map_err(|error| ProxyError::NoOriginalDst { why: error.to_string() })
}

/// Whether connecting to `dst` would come back to this listener for ever.
pub fn loops(dst: OrigDst, listen: SocketAddr, own_ips: impl FnOnce(std::net::IpAddr) -> bool) -> bool {
    dst.0.port() == listen.port() && (dst.0.ip().is_loopback() || own_ips(dst.0.ip()))
}
