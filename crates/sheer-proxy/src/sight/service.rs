//! `sheer.v1.Sight`: reads what is asked for, and hands it to whoever puts it into words.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use sheer_api::v1;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{Workers, explain, state, traffic::hide, watch};
use crate::{
    discovery::Client,
    identity::{Identity, Secret},
    logs::LogLevel,
    metrics::Registry,
    settings::Settings,
};

/// Secrets that wait for the connection to the control plane; what comes beyond waits in the tap, which is bounded too.
const SECRETS_WAITING: usize = 64;

/// The parts of the process that questions are about.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) settings: Arc<Settings>,
    pub(crate) identity: Identity,
    pub(crate) client: Arc<Client>,
    pub(crate) workers: Workers,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) registry: Registry,
}

/// What questions are answered from.
#[derive(Debug)]
pub(crate) struct Sight {
    sources: Sources,
    /// Where the sight and admin ports really are.
    bound: [(&'static str, SocketAddr); 2],
    started: Instant,
    /// Itself, for answers that go on.
    this: Weak<Self>,
}

impl Sight {
    /// `sight`, `admin`: the addresses of these ports.
    pub(crate) fn new(sources: Sources, sight: SocketAddr, admin: SocketAddr) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            sources,
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
        &self.sources.settings
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.sources.identity
    }

    pub(super) fn client(&self) -> &Client {
        &self.sources.client
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.sources.workers
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.sources.registry
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn listeners(&self) -> Vec<v1::Listener> {
        let outbound = self
            .sources
            .settings
            .outbound
            .listen
            .iter()
            .map(|addr| ("outbound", *addr));
        let inbound = ("inbound", self.sources.settings.inbound.listen);
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
    type SecretsStream = BoxStream<'static, Result<v1::TlsSecret, Status>>;

    async fn secrets(&self, _: Request<v1::SecretsRequest>) -> Result<Response<Self::SecretsStream>, Status> {
        tracing::warn!("the control plane captures: secrets of TLS sessions that begin now leave this proxy");
        let mut watch = self.sources.identity.keys().watch();
        let (sender, receiver) = mpsc::channel(SECRETS_WAITING);
        tokio::spawn(async move {
            let mut next = Some(v1::TlsSecret::default()); // nothing is missed from here on
            while let Some(secret) = next {
                if sender.send(Ok(secret)).await.is_err() {
                    break;
                }
                next = tokio::select! {
                    biased; // who has left gets nothing more
                    () = sender.closed() => None,
                    secret = watch.next() => secret.map(message),
                };
            }
            tracing::warn!("the capture has ended: no secrets leave this proxy any more");
        });
        let stream = futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn log_level(&self, request: Request<v1::LogLevelRequest>) -> Result<Response<v1::LogLevelResponse>, Status> {
        let level = self
            .sources
            .log_level
            .as_ref()
            .ok_or_else(|| Status::unimplemented("this proxy's logs are not set up"))?;
        let v1::LogLevelRequest { filter, for_ms } = request.into_inner();
        let before = level.filter();
        if !filter.is_empty() {
            let changed = match for_ms {
                0 => level.set(&filter),
                ms => level.lend(&filter, Duration::from_millis(ms)),
            };
            changed.map_err(|problem| Status::invalid_argument(format!("{filter:?} {problem}")))?;
            tracing::info!(filter, for_ms, "log filter changed");
        }
        Ok(Response::new(v1::LogLevelResponse {
            before,
            now: level.filter(),
        }))
    }

    async fn renew_connections(
        &self,
        _: Request<v1::RenewConnectionsRequest>,
    ) -> Result<Response<v1::RenewConnectionsResponse>, Status> {
        let renewed = self.sources.workers.renew().await;
        tracing::info!(
            ?renewed,
            "connections to peers of the mesh are replaced, as the control plane asked"
        );
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(v1::RenewConnectionsResponse {
            opened: count(renewed.opened),
            accepted: count(renewed.accepted),
        }))
    }

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
        let asked = request.into_inner();
        let within = (asked.within_ms > 0).then(|| Duration::from_millis(asked.within_ms));
        let mut traffic = self.sources.workers.traffic(within).await;
        if let Some(redaction) = &asked.redaction {
            let redactor = watch::redactor_of(self, redaction);
            traffic.samples.iter_mut().for_each(|sample| hide(sample, &redactor));
        }
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
        watch::frames(self.shared()?, request.into_inner())
            .await
            .map(Response::new)
    }

    type TapStream = BoxStream<'static, Result<v1::TapEvent, Status>>;

    async fn tap(&self, request: Request<v1::TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        watch::tap(self.shared()?, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn reflect(&self, request: Request<v1::ReflectRequest>) -> Result<Response<v1::ReflectResponse>, Status> {
        watch::reflect(self, request.into_inner()).await.map(Response::new)
    }

    async fn exchanges(
        &self,
        request: Request<v1::ExchangesRequest>,
    ) -> Result<Response<v1::ExchangesResponse>, Status> {
        watch::exchanges(self, request.into_inner()).await.map(Response::new)
    }
}

fn message((secret, lost): (Secret, u64)) -> v1::TlsSecret {
    v1::TlsSecret {
        label: secret.label.to_string(),
        client_random: secret.client_random.to_vec(),
        secret: secret.secret,
        lost,
        remote: secret.remote.map_or_else(String::new, |remote| remote.to_string()),
    }
}
