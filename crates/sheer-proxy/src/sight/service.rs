//! `sheer.v1.Sight`: reads what is asked for, and hands it to whoever puts it into words.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use sheer_api::v1;
use tonic::{Request, Response, Status};

use super::{Workers, explain, state, watch};
use crate::{discovery::Client, identity::Identity, settings::Settings};

/// What questions are answered from.
#[derive(Debug)]
pub(crate) struct Sight {
    settings: Arc<Settings>,
    identity: Identity,
    client: Arc<Client>,
    workers: Workers,
    /// Where the sight and admin ports really are.
    bound: [(&'static str, SocketAddr); 2],
    started: Instant,
    /// Itself, for answers that go on.
    this: Weak<Self>,
}

impl Sight {
    /// `bound`: the addresses of the sight and the admin port.
    pub(crate) fn new(
        settings: Arc<Settings>,
        identity: Identity,
        client: Arc<Client>,
        workers: Workers,
        [sight, admin]: [SocketAddr; 2],
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            settings,
            identity,
            client,
            workers,
            bound: [("sight", sight), ("admin", admin)],
            started: Instant::now(),
        })
    }

    /// To be held by an answer that goes on.
    fn shared(&self) -> Result<Arc<Self>, Status> {
        let gone = || Status::unavailable("the proxy ends");
        self.this.upgrade().ok_or_else(gone)
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

    async fn connections(
        &self,
        request: Request<v1::ConnectionsRequest>,
    ) -> Result<Response<v1::ConnectionsResponse>, Status> {
        watch::connections(self, request.into_inner()).await.map(Response::new)
    }

    type FramesStream = BoxStream<'static, Result<v1::FrameEvent, Status>>;

    async fn frames(&self, request: Request<v1::FramesRequest>) -> Result<Response<Self::FramesStream>, Status> {
        watch::frames(self.shared()?, request.into_inner()).map(Response::new)
    }

    type TapStream = BoxStream<'static, Result<v1::TapEvent, Status>>;

    async fn tap(&self, request: Request<v1::TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        watch::tap(self.shared()?, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn exchanges(
        &self,
        request: Request<v1::ExchangesRequest>,
    ) -> Result<Response<v1::ExchangesResponse>, Status> {
        watch::exchanges(self, request.into_inner()).await.map(Response::new)
    }
}
