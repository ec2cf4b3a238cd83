//! Policy: how traffic leaves a workload ([`outbound`]) and who may come in ([`inbound`]).
//!
//! Both are plain functions from a snapshot to a message; the services here only look targets up and stream the messages.

mod inbound;
mod outbound;

pub(crate) use inbound::cannot_be_applied;

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use futures::stream::BoxStream;
use sheer_api::linkerd::{
    inbound::{
        PortSpec, Server,
        inbound_server_policies_server::{InboundServerPolicies, InboundServerPoliciesServer},
    },
    net::TcpAddress,
    outbound::{
        OutboundPolicy, TrafficSpec,
        outbound_policies_server::{OutboundPolicies, OutboundPoliciesServer},
        traffic_spec,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    config::MeshConfig,
    server::Streams,
    store::{Snapshot, Store},
    target::{Found, Target, WorkloadName},
};

/// Both policy services.
#[derive(Clone)]
pub(crate) struct PolicyService {
    store: Store,
    config: Arc<MeshConfig>,
    streams: Streams,
}

impl PolicyService {
    /// The services, not yet as tonic serves them.
    pub(crate) fn new(store: Store, config: Arc<MeshConfig>, streams: Streams) -> Self {
        Self { store, config, streams }
    }

    /// The outbound service, as tonic serves it.
    pub(crate) fn outbound(&self) -> OutboundPoliciesServer<Self> {
        OutboundPoliciesServer::new(self.clone())
    }

    /// The inbound service, as tonic serves it.
    pub(crate) fn inbound(&self) -> InboundServerPoliciesServer<Self> {
        InboundServerPoliciesServer::new(self.clone())
    }

    fn outbound_answer(
        &self,
        spec: TrafficSpec,
    ) -> Result<impl FnMut(&Snapshot) -> Result<OutboundPolicy, Status> + Send + use<>, Status> {
        WorkloadName::parse(&spec.source_workload)?;
        let config = self.config.clone();
        let target = match spec.target {
            Some(traffic_spec::Target::Addr(address)) => Target::Address(socket_address(address)?),
            Some(traffic_spec::Target::Authority(authority)) => Target::parse(&authority, &config.cluster_domain)?,
            None => return Err(Status::invalid_argument("the traffic's target is missing")),
        };
        Ok(move |snapshot: &Snapshot| match target.find(snapshot) {
            Found::Service(service, port) => Ok(outbound::of_service(snapshot, &config, service, port)),
            // As Linkerd: a proxy that is told "not found" forwards to the address itself, with what the profile says of it.
            Found::Pod(..) | Found::Nothing => Err(Status::not_found("not the address of a Service: forward as it is")),
        })
    }

    fn inbound_answer(
        &self,
        spec: &PortSpec,
    ) -> Result<impl FnMut(&Snapshot) -> Result<Server, Status> + Send + use<>, Status> {
        let workload = WorkloadName::parse(&spec.workload)?;
        let port = port(spec.port)?;
        let config = self.config.clone();
        Ok(move |snapshot: &Snapshot| {
            let WorkloadName { namespace, pod } = &workload;
            let found = snapshot.find_pod(namespace, pod);
            let found =
                found.ok_or_else(|| Status::not_found(format!("no pod {namespace}/{pod} runs in this mesh")))?;
            Ok(inbound::of_port(snapshot, &config, found, port))
        })
    }
}

fn port(port: u32) -> Result<u16, Status> {
    let checked = u16::try_from(port).ok().filter(|port| *port != 0);
    checked.ok_or_else(|| Status::invalid_argument(format!("{port} is not a port")))
}

fn socket_address(address: TcpAddress) -> Result<SocketAddr, Status> {
    let ip = address
        .ip
        .ok_or_else(|| Status::invalid_argument("the target's address is missing"))?;
    let ip: IpAddr = ip
        .try_into()
        .map_err(|_| Status::invalid_argument("the target's address is empty"))?;
    Ok(SocketAddr::new(ip.to_canonical(), port(address.port)?))
}

#[tonic::async_trait]
impl OutboundPolicies for PolicyService {
    type WatchStream = BoxStream<'static, Result<OutboundPolicy, Status>>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        self.outbound_answer(request.into_inner())?(&self.store.latest()).map(Response::new)
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let mut answer = self.outbound_answer(request.into_inner())?;
        // What cannot be found is told as the answer to the call, not as a stream that ends at once.
        answer(&self.store.latest())?;
        Ok(Response::new(self.streams.open_latest(
            "OutboundPolicies.Watch",
            self.store.watch(),
            answer,
        )))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for PolicyService {
    type WatchPortStream = BoxStream<'static, Result<Server, Status>>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        self.inbound_answer(request.get_ref())?(&self.store.latest()).map(Response::new)
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let mut answer = self.inbound_answer(request.get_ref())?;
        answer(&self.store.latest())?;
        Ok(Response::new(self.streams.open_latest(
            "InboundServerPolicies.WatchPort",
            self.store.watch(),
            answer,
        )))
    }
}

#[cfg(test)]
mod tests;
