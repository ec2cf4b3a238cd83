//! The admin server: whether the proxy lives and is ready, its metrics, its log filter, its end.
//!
//! Reading is open to whoever reaches the port; what changes something, or shows the environment, is for callers in the same
//! pod (loopback) only. HTTP/1, on the control runtime.

mod answers;
mod ready;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

pub(crate) use ready::Readiness;

use crate::{
    life::{Life, Shutdown},
    logs::LogLevel,
    metrics::Registry,
};

/// Scrapers and probes are few: more connections than this are a mistake or an attack, and wait.
const MAX_CONNECTIONS: usize = 64;
/// A probe sends its request at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (mostly: no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin server answers from.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    pub(crate) readiness: Readiness,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) life: Life,
    /// Asked by `POST /shutdown`, where that is enabled.
    pub(crate) shutdown: Option<Shutdown>,
}

/// Serves until the hard stop: while draining, scrapes and probes still get answers.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let life = admin.life.clone();
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the admin server cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                let service = service_fn(|request| answer(&admin, client, request));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    biased; // an answer that is ready is written before the stop
                    result = connection => if let Err(error) = result {
                        tracing::debug!(%client, %error, "connection to the admin server ended");
                    },
                    () = admin.life.stopped() => {}
                }
                drop(permit);
            });
        }
    };
    tokio::select! {
        biased; // nothing to prefer: the stop ends the accepting
        () = life.stopped() => {}
        () = accept => {}
    }
}

async fn answer(
    admin: &Admin,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(answers::answer(admin, client, request).await)
}

#[cfg(test)]
mod tests;
