//! Policy: how traffic leaves a workload ([`outbound`]) and who may come in ([`inbound`]).
//!
//! Both are plain functions from a snapshot to messages; the services here only look targets up and stream the messages. What is compiled for
//! outbound traffic is shared by all streams that ask for the same ([`shared`]) and encoded once ([`watch`]).

mod inbound;
mod outbound;
mod shared;
mod watch;

pub(crate) use inbound::cannot_be_applied;

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use prost::Message;
use shared::{Shared, SharedPolicies};
use sheer_api::{
    linkerd::{
        inbound::{
            PortSpec, Server,
            inbound_server_policies_server::{InboundServerPolicies, InboundServerPoliciesServer},
        },
        net::TcpAddress,
        outbound::{OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies, traffic_spec},
    },
    v1::{ExtrasRequest, InboundExtras, InboundExtrasRequest, OutboundExtras, extras_server::Extras},
};
use tonic::{Request, Response, Status};
use watch::{Encoded, OutboundServer, SharedExtrasServer};

use crate::{
    config::MeshConfig,
    server::Streams,
    store::{Snapshot, Store},
    target::{Target, WorkloadName},
};

/// The policy services.
#[derive(Clone)]
pub(crate) struct PolicyService {
    store: Store,
    config: Arc<MeshConfig>,
    streams: Streams,
    policies: Arc<SharedPolicies>,
}

impl PolicyService {
    /// The services, not yet as tonic serves them.
    pub(crate) fn new(store: Store, config: Arc<MeshConfig>, streams: Streams) -> Self {
        Self {
            store,
            config,
            streams,
            policies: Arc::default(),
        }
    }

    /// The outbound service, as tonic serves it.
    pub(crate) fn outbound(&self) -> OutboundServer {
        OutboundServer::new(self.clone())
    }

    /// What the outbound service cannot say, as tonic serves it.
    pub(crate) fn extras(&self) -> SharedExtrasServer {
        SharedExtrasServer::of_extras(self.clone())
    }

    /// The inbound service, as tonic serves it.
    pub(crate) fn inbound(&self) -> InboundServerPoliciesServer<Self> {
        InboundServerPoliciesServer::new(self.clone())
    }

    fn outbound_answer(
        &self,
        workload: &str,
        target: Target,
    ) -> Result<impl FnMut(&Snapshot) -> Result<Arc<Shared>, Status> + Send + use<>, Status> {
        let client = WorkloadName::parse(workload)?.namespace;
        let (config, policies) = (self.config.clone(), self.policies.clone());
        Ok(move |snapshot: &Snapshot| {
            let policy = policies.find(snapshot, &config, &target, &client);
            // As Linkerd: a proxy that is told "not found" forwards to the address itself, with what the profile says of it.
            policy.ok_or_else(|| Status::not_found("not the address of a Service: forward as it is"))
        })
    }

    fn target(&self, spec: TrafficSpec) -> Result<Target, Status> {
        match spec.target {
            Some(traffic_spec::Target::Addr(address)) => Ok(Target::Address(socket_address(address)?)),
            Some(traffic_spec::Target::Authority(authority)) => Target::parse(&authority, &self.config.cluster_domain),
            None => Err(Status::invalid_argument("the traffic's target is missing")),
        }
    }

    /// The policy of a destination, again whenever it changes.
    fn watch_outbound_policy(
        &self,
        spec: TrafficSpec,
    ) -> Result<BoxStream<'static, Result<Arc<Shared>, Status>>, Status> {
        let workload = spec.source_workload.clone();
        let mut answer = self.outbound_answer(&workload, self.target(spec)?)?;
        // What cannot be found is told as the answer to the call, not as a stream that ends at once.
        answer(&self.store.latest())?;
        let mut last: Option<Arc<Shared>> = None;
        let changes = move |snapshot: &Snapshot| {
            let new = answer(snapshot)?;
            let known = last.replace(new.clone());
            // The same value mostly; where only the extras changed, the same bytes.
            let same = |known: Arc<Shared>| Arc::ptr_eq(&known, &new) || known.encoded == new.encoded;
            Ok(if known.is_some_and(same) { Vec::new() } else { vec![new] })
        };
        Ok(self.streams.open("OutboundPolicies.Watch", self.store.watch(), changes))
    }

    /// The same, as it is sent.
    fn watch_encoded_policy(
        &self,
        spec: TrafficSpec,
    ) -> Result<BoxStream<'static, Result<Arc<Encoded>, Status>>, Status> {
        let policies = self.watch_outbound_policy(spec)?;
        let policies = policies.map(|shared| shared.map(|shared| Arc::clone(&shared.encoded)));
        Ok(policies.boxed())
    }

    /// What Linkerd's API cannot say of a destination, again whenever it changes.
    fn watch_extras(
        &self,
        request: &ExtrasRequest,
    ) -> Result<BoxStream<'static, Result<Arc<Encoded>, Status>>, Status> {
        let target = Target::parse(&request.address, &self.config.cluster_domain)?;
        let mut policy = self.outbound_answer(&request.source_workload, target)?;
        policy(&self.store.latest())?;
        let WorkloadName { namespace, pod } = WorkloadName::parse(&request.source_workload)?;
        let answer = move |snapshot: &Snapshot| {
            let shared = policy(snapshot)?;
            let client = snapshot.find_pod(&namespace, &pod);
            Ok(shared.extras(client.map(|pod| &**pod)))
        };
        Ok(self
            .streams
            .open_latest("Extras.WatchOutbound", self.store.watch(), answer))
    }

    fn inbound_answer(
        &self,
        workload: &str,
        on: u32,
    ) -> Result<impl FnMut(&Snapshot) -> Result<inbound::Compiled, Status> + Send + use<>, Status> {
        let workload = WorkloadName::parse(workload)?;
        let port = port(on)?;
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
        let spec = request.into_inner();
        let workload = spec.source_workload.clone();
        let shared = self.outbound_answer(&workload, self.target(spec)?)?(&self.store.latest())?;
        Ok(Response::new(shared.compiled.policy.clone()))
    }

    /// As [`watch`] serves it, but not encoded.
    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let policies = self.watch_outbound_policy(request.into_inner())?;
        let policies = policies.map(|shared| shared.map(|shared| shared.compiled.policy.clone()));
        Ok(Response::new(policies.boxed()))
    }
}

#[tonic::async_trait]
impl Extras for PolicyService {
    type WatchOutboundStream = BoxStream<'static, Result<OutboundExtras, Status>>;

    /// As [`watch`] serves it, but not encoded.
    async fn watch_outbound(
        &self,
        request: Request<ExtrasRequest>,
    ) -> Result<Response<Self::WatchOutboundStream>, Status> {
        let extras = self.watch_extras(request.get_ref())?;
        let decode = |encoded: Arc<Encoded>| {
            let said = OutboundExtras::decode(encoded.message());
            said.map_err(|error| Status::internal(format!("what was encoded cannot be read: {error}")))
        };
        Ok(Response::new(
            extras.map(move |encoded| encoded.and_then(decode)).boxed(),
        ))
    }

    type WatchInboundStream = BoxStream<'static, Result<InboundExtras, Status>>;

    async fn watch_inbound(
        &self,
        request: Request<InboundExtrasRequest>,
    ) -> Result<Response<Self::WatchInboundStream>, Status> {
        let request = request.get_ref();
        let mut answer = self.inbound_answer(&request.workload, request.port)?;
        answer(&self.store.latest())?;
        Ok(Response::new(self.streams.open_latest(
            "Extras.WatchInbound",
            self.store.watch(),
            move |snapshot: &Snapshot| Ok(answer(snapshot)?.extras),
        )))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for PolicyService {
    type WatchPortStream = BoxStream<'static, Result<Server, Status>>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let spec = request.get_ref();
        let compiled = self.inbound_answer(&spec.workload, spec.port)?(&self.store.latest())?;
        Ok(Response::new(compiled.server))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let spec = request.get_ref();
        let mut answer = self.inbound_answer(&spec.workload, spec.port)?;
        answer(&self.store.latest())?;
        Ok(Response::new(self.streams.open_latest(
            "InboundServerPolicies.WatchPort",
            self.store.watch(),
            move |snapshot: &Snapshot| Ok(answer(snapshot)?.server),
        )))
    }
}

#[cfg(test)]
mod tests;
