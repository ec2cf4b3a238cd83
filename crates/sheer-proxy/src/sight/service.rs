//! `sheer.v1.Sight`: reads what is asked for, and hands it to whoever puts it into words.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sheer_api::v1;
use tonic::{Request, Response, Status};

use super::{Workers, explain, state};
use crate::{discovery::Client, identity::Identity, metrics::Registry, settings::Settings};

/// What questions are answered from.
#[derive(Debug)]
pub(crate) struct Sight {
    settings: Arc<Settings>,
    identity: Identity,
    client: Arc<Client>,
    workers: Workers,
    registry: Registry,
    /// Where the sight and admin ports really are.
    bound: [(&'static str, SocketAddr); 2],
    started: Instant,
}

impl Sight {
    /// `bound`: the addresses of the sight and the admin port.
    pub(crate) fn new(
        settings: Arc<Settings>,
        identity: Identity,
        client: Arc<Client>,
        (workers, registry): (Workers, Registry),
        [sight, admin]: [SocketAddr; 2],
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            identity,
            client,
            workers,
            registry,
            bound: [("sight", sight), ("admin", admin)],
            started: Instant::now(),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn listeners(&self) -> Vec<v1::Listener> {
        let outbound = self.settings.outbound.listen.iter().map(|addr| ("outbound", *addr));
        let inbound = ("inbound", self.settings.inbound.listen);
        let all = outbound.chain([inbound]).chain(self.bound);
        all.map(|(name, address)| v1::Listener {
            name: name.to_owned(),
            address: address.to_string(),
        })
        .collect()
    }
}

#[tonic::async_trait]
impl v1::sight_server::Sight for Sight {
    async fn state(&self, _: Request<v1::StateRequest>) -> Result<Response<v1::ProxyState>, Status> {
        Ok(Response::new(state::state(self).await))
    }

    async fn explain_outbound(
        &self,
        request: Request<v1::ExplainOutboundRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        explain::outbound(self, request.into_inner()).await.map(Response::new)
    }

    async fn explain_inbound(
        &self,
        request: Request<v1::ExplainInboundRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        explain::inbound(self, request.into_inner()).await.map(Response::new)
    }

    async fn traffic(&self, request: Request<v1::TrafficRequest>) -> Result<Response<v1::TrafficResponse>, Status> {
        let within = request.into_inner().within_ms;
        let within = (within > 0).then(|| Duration::from_millis(within));
        let traffic = self.workers.traffic(within).await;
        Ok(Response::new(v1::TrafficResponse {
            samples: traffic.samples,
            seen: traffic.seen,
        }))
    }
}
