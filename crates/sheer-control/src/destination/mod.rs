//! Discovery: which endpoints a service has, and what is behind an address (`io.linkerd.proxy.destination`).
//!
//! [`endpoints`] and [`profile`] are plain functions from a snapshot to a message; the service here only streams them.

mod endpoints;
mod profile;
mod shared;

use std::sync::Arc;

use futures::stream::BoxStream;
use shared::SharedEndpoints;
use sheer_api::linkerd::destination::{
    DestinationProfile, GetDestination, Update,
    destination_server::{Destination, DestinationServer},
};
use tonic::{Request, Response, Status};

use crate::{
    config::MeshConfig,
    server::Streams,
    store::{Snapshot, Store},
    target::{Found, Target},
};

/// The destination service.
pub(crate) struct DestinationService {
    store: Store,
    config: Arc<MeshConfig>,
    streams: Streams,
    endpoints: Arc<SharedEndpoints>,
}

impl DestinationService {
    /// The service, as tonic serves it.
    pub(crate) fn server(store: Store, config: Arc<MeshConfig>, streams: Streams) -> DestinationServer<Self> {
        DestinationServer::new(Self::new(store, config, streams))
    }

    /// The service, not yet as tonic serves it.
    pub(crate) fn new(store: Store, config: Arc<MeshConfig>, streams: Streams) -> Self {
        Self {
            store,
            config,
            streams,
            endpoints: Arc::default(),
        }
    }
}

#[tonic::async_trait]
impl Destination for DestinationService {
    type GetStream = BoxStream<'static, Result<Update, Status>>;
    type GetProfileStream = BoxStream<'static, Result<DestinationProfile, Status>>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let path = request.into_inner().path;
        let Target::Service { namespace, name, port } = Target::parse(&path, &self.config.cluster_domain)? else {
            // An address has no set of endpoints: GetProfile says what is behind it.
            return Err(Status::invalid_argument(format!(
                "{path:?} is an address: ask for its profile"
            )));
        };
        let (config, endpoints) = (self.config.clone(), self.endpoints.clone());
        let key = (namespace, name, port);
        let mut sent = endpoints::Sent::default();
        let answer = move |snapshot: &Snapshot| Ok(sent.advance(endpoints.find(snapshot, &config, &key)));
        Ok(Response::new(self.streams.open(
            "Destination.Get",
            self.store.watch(),
            answer,
        )))
    }

    async fn get_profile(&self, request: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        let target = Target::parse(&request.into_inner().path, &self.config.cluster_domain)?;
        let config = self.config.clone();
        let answer = move |snapshot: &Snapshot| {
            Ok(match target.find(snapshot) {
                Found::Service(service, port) => profile::of_service(snapshot, &config, service, port),
                Found::Pod(pod, address) => profile::of_pod(snapshot, &config, pod, address),
                Found::Nothing => profile::unknown(),
            })
        };
        Ok(Response::new(self.streams.open_latest(
            "Destination.GetProfile",
            self.store.watch(),
            answer,
        )))
    }
}

#[cfg(test)]
mod tests;
