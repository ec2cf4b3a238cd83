//! The opening side of HTTP/2.

use std::{future::Future, pin::pin, rc::Rc};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Config, FrameMetrics, frames::Counted, keep_alive::peer_lost, server::ServeError};

/// Opens a connection: gives the handle for its streams and the future that drives it, which has to be spawned and ends with the
/// connection. A connection without handles and streams ends by itself. `frames` counts what passes.
pub async fn connect<T>(
    io: T,
    config: Config,
    frames: Option<Rc<FrameMetrics>>,
) -> Result<(SendRequest<Bytes>, impl Future<Output = Result<(), ServeError>>), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (send, mut connection) = config.client().handshake(Counted::client(io, frames)).await?;
    let pings = config.keep_alive.and_then(|_| connection.ping_pong());
    let drive = async move {
        let mut lost = pin!(peer_lost(config.keep_alive, pings));
        tokio::select! {
            biased; // a connection that ended tells why
            ended = &mut connection => Ok(ended?),
            () = &mut lost => {
                Err(ServeError::PeerLost(config.keep_alive.map(|times| times.timeout).unwrap_or_default()))
            }
        }
    };
    Ok((send, drive))
}
