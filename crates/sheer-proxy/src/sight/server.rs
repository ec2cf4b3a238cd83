//! The sight port: mutual TLS with this proxy's own identity, for the control plane's identity only.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use sheer_api::v1::sight_server::SightServer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::server::TlsStream;

use super::Sight;
use crate::{
    detect::Rewind,
    identity::{Identity, MeshAlpn, PeerNames},
    life::Life,
    metrics::{Counter, LabelSet, Shard, family},
    sys, tls,
};

/// Control planes are few: more connections than this are a mistake or an attack, and wait.
const MAX_CONNECTIONS: usize = 16;
/// After a failed accept (mostly: no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may ask, and how often who did.
struct Door {
    identity: Identity,
    clients: Vec<Arc<str>>,
    allowed: Counter,
    refused: Counter,
    failed: Counter,
}

/// Serves until the hard stop: a proxy that drains can still be asked why.
pub(crate) async fn serve(listener: TcpListener, sight: Arc<Sight>, clients: Vec<Arc<str>>, shard: &Shard, life: Life) {
    let door = Arc::new(Door::new(sight.identity().clone(), clients, shard));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let (tcp, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the sight port cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (door, sight, life) = (Arc::clone(&door), Arc::clone(&sight), life.clone());
            tokio::spawn(async move {
                let _ = life
                    .stopped_or(connection(tcp, sys::canonical(client), &door, sight))
                    .await;
                drop(permit);
            });
        }
    };
    let _ = life.stopped_or(accept).await;
}

async fn connection(tcp: TcpStream, client: SocketAddr, door: &Door, sight: Arc<Sight>) {
    let Some(stream) = door.open(tcp, client).await else {
        return;
    };
    let service = TowerToHyperService::new(SightServer::from_arc(sight));
    let served = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%client, %error, "connection to the sight port ended");
    }
}

impl Door {
    fn new(identity: Identity, clients: Vec<Arc<str>>, shard: &Shard) -> Self {
        let count = |result| {
            let labels = LabelSet::builder().label("result", result).build();
            shard.counter(&family::SHEER_SIGHT_CONNECTIONS_TOTAL, &labels)
        };
        Self {
            identity,
            clients,
            allowed: count("allowed"),
            refused: count("refused"),
            failed: count("failed"),
        }
    }

    /// The connection of a client that proved to be the control plane.
    async fn open(&self, tcp: TcpStream, client: SocketAddr) -> Option<Box<TlsStream<Rewind<TcpStream>>>> {
        let Some(credentials) = self.identity.current() else {
            self.failed.inc();
            return None;
        };
        let accepted = match tls::accept(Rewind::new(tcp, BytesMut::new()), client, &credentials).await {
            Ok(accepted) => accepted,
            Err(error) => {
                self.failed.inc();
                tracing::debug!(%client, %error, "no TLS on the sight port");
                return None;
            }
        };
        if accepted.alpn == Some(MeshAlpn::H2) && self.allows(accepted.peer.as_ref()) {
            self.allowed.inc();
            return Some(accepted.stream);
        }
        self.refused.inc();
        let who = accepted.peer.as_ref().and_then(PeerNames::primary);
        tracing::warn!(%client, who = ?who, "refused on the sight port: not the control plane");
        None
    }

    fn allows(&self, peer: Option<&PeerNames>) -> bool {
        peer.is_some_and(|peer| self.clients.iter().any(|client| peer.contains(client)))
    }
}
