//! Discovery: which endpoints a service has, and what is behind an address (`io.linkerd.proxy.destination`).
//!
//! [`endpoints`] and [`profile`] are plain functions from a snapshot to a message; the service here only streams them.

mod endpoints;
mod profile;
mod service_profile;
mod shared;

pub(crate) use service_profile::route as profile_route;

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

/// The namespace of who asks: its token is `{"ns":"bank","pod":"web-0"}`, or `ns:bank` of old. Empty where it does not say.
fn namespace(token: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Token {
        ns: String,
    }
    match serde_json::from_str::<Token>(token) {
        Ok(token) => token.ns,
        Err(_) => token.strip_prefix("ns:").unwrap_or_default().to_owned(),
    }
}

#[tonic::async_trait]
impl Destination for DestinationService {
    type GetStream = BoxStream<'static, Result<Update, Status>>;
    type GetProfileStream = BoxStream<'static, Result<DestinationProfile, Status>>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let path = request.into_inner().path;
        let (namespace, name, port, pod) = match Target::parse(&path, &self.config.cluster_domain)? {
            Target::Service { namespace, name, port } => (namespace, name, port, None),
            Target::Pod {
                namespace,
                service,
                pod,
                port,
            } => (namespace, service, port, Some(pod)),
            // An address has no set of endpoints: GetProfile says what is behind it.
            Target::Address(_) => {
                return Err(Status::invalid_argument(format!(
                    "{path:?} is an address: ask for its profile"
                )));
            }
        };
        let (config, endpoints) = (self.config.clone(), self.endpoints.clone());
        let key = (namespace, name, port, pod);
        let mut sent = endpoints::Sent::default();
        let answer = move |snapshot: &Snapshot| Ok(sent.advance(endpoints.find(snapshot, &config, &key)));
        Ok(Response::new(self.streams.open(
            "Destination.Get",
            self.store.watch(),
            answer,
        )))
    }

    async fn get_profile(&self, request: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        let request = request.into_inner();
        let target = Target::parse(&request.path, &self.config.cluster_domain)?;
        let (config, client) = (self.config.clone(), namespace(&request.context_token));
        let answer = move |snapshot: &Snapshot| {
            Ok(match target.find(snapshot) {
                Found::Service(service, port) => profile::of_service(snapshot, &config, service, port, &client),
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
