//! What the control plane itself would say: the services that answer proxies, asked with one snapshot, and their answers explained by the code
//! that proxies decide with.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::StreamExt as _;
use sheer_api::{
    linkerd::{
        destination::{GetDestination, destination_server::Destination as _, update},
        inbound::{PortSpec, inbound_server_policies_server::InboundServerPolicies as _},
        outbound::{TrafficSpec, outbound_policies_server::OutboundPolicies as _, traffic_spec},
    },
    v1::{self, extras_server::Extras as _},
};
use sheer_policy::{
    explain::{self, Client, outbound::Traffic},
    inbound::InboundPolicy,
    outbound::{BackendTarget, OutboundPolicy},
    wire,
};
use tonic::{Request, Status};

use crate::{
    config::MeshConfig,
    destination::DestinationService,
    objects::Pod,
    policy::PolicyService,
    server::Streams,
    store::{Snapshot, Store},
};

/// Longest detection that a policy is read with; explanations do not depend on it.
const DETECT: Duration = Duration::from_secs(10);

/// The control plane's services over one snapshot that does not change.
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    config: Arc<MeshConfig>,
    policy: PolicyService,
    destination: DestinationService,
}

/// A client as policies see it.
pub(super) struct Caller {
    /// DNS-like name and URI; nothing for plaintext.
    pub(super) identities: Vec<String>,
    /// Its address.
    pub(super) address: std::net::IpAddr,
}

impl View {
    pub(super) fn new(snapshot: Arc<Snapshot>, config: Arc<MeshConfig>, streams: Streams) -> Self {
        let store = Store::fixed(Arc::clone(&snapshot));
        Self {
            policy: PolicyService::new(store.clone(), Arc::clone(&config), streams.clone()),
            destination: DestinationService::new(store, Arc::clone(&config), streams),
            snapshot,
            config,
        }
    }

    /// The policy of what a pod sends to an address; none where the mesh knows no Service there.
    pub(super) async fn outbound(&self, source: &Pod, address: SocketAddr) -> Result<Option<OutboundPolicy>, Status> {
        let spec = TrafficSpec {
            source_workload: workload(source),
            target: Some(traffic_spec::Target::Addr(address.into())),
        };
        match self.policy.get(Request::new(spec)).await {
            Ok(said) => {
                let extras = self.extras(source, address).await;
                Ok(Some(wire::outbound::policy(said.into_inner(), extras.as_ref(), DETECT)))
            }
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// What Linkerd's API cannot say of it.
    async fn extras(&self, source: &Pod, address: SocketAddr) -> Option<v1::OutboundExtras> {
        let asked = v1::ExtrasRequest {
            source_workload: workload(source),
            address: address.to_string(),
        };
        let said = self.policy.watch_outbound(Request::new(asked)).await.ok()?;
        // The first is whole: the snapshot does not change.
        said.into_inner().next().await?.ok()
    }

    /// The policy of a pod's port.
    pub(super) async fn inbound(&self, pod: &Pod, port: u16) -> Result<InboundPolicy, Status> {
        let spec = PortSpec {
            workload: workload(pod),
            port: port.into(),
        };
        let said = self.policy.get_port(Request::new(spec)).await?;
        let extras = self.inbound_extras(pod, port).await;
        Ok(wire::inbound::policy(said.into_inner(), extras.as_ref(), DETECT))
    }

    async fn inbound_extras(&self, pod: &Pod, port: u16) -> Option<v1::InboundExtras> {
        let asked = v1::InboundExtrasRequest {
            workload: workload(pod),
            port: port.into(),
        };
        let said = self.policy.watch_inbound(Request::new(asked)).await.ok()?;
        said.into_inner().next().await?.ok()
    }

    /// What a pod's proxy would do with what it sends to an address, but for the state of endpoints.
    pub(super) async fn explain_outbound(
        &self,
        source: &Pod,
        address: SocketAddr,
        asked: &v1::ExplainRequest,
    ) -> Result<v1::Explanation, Status> {
        let Some(policy) = self.outbound(source, address).await? else {
            return Ok(v1::Explanation {
                outcome: "forwarded".to_owned(),
                grpc_status: -1,
                endpoints: vec![endpoint(address)],
                ..v1::Explanation::default()
            });
        };
        let head = asked.request.as_ref().map(wire::explain::request).transpose();
        let head = head.map_err(Status::invalid_argument)?;
        let traffic = match (&head, asked.server_name.as_str()) {
            (Some(head), _) if asked.protocol == "http/1" => Traffic::Http1(head.view()),
            (Some(head), _) if asked.protocol != "opaque" => Traffic::Http2(head.view()),
            (_, "") if asked.protocol == "tls" => Traffic::Tls(None),
            (_, "") => Traffic::Opaque,
            (_, name) => Traffic::Tls(Some(name)),
        };
        let explained = explain::outbound::explain(&policy, &traffic);
        let mut said = wire::explain::explanation(&explained.explanation);
        said.request = head.as_ref().and_then(|head| head.changed(&explained.changes));
        for backend in &explained.backends {
            match &backend.target {
                BackendTarget::Balance { path, .. } => {
                    said.endpoints
                        .extend(self.endpoints(path).await.into_iter().map(endpoint));
                }
                BackendTarget::Forward(to) => said.endpoints.push(endpoint(to.addr)),
                BackendTarget::Invalid { .. } => {}
            }
        }
        Ok(said)
    }

    /// What a pod's proxy would do with a request that arrives.
    pub(super) async fn explain_inbound(
        &self,
        pod: &Pod,
        port: u16,
        caller: &Caller,
        request: Option<&v1::RequestHead>,
    ) -> Result<v1::Explanation, Status> {
        let policy = self.inbound(pod, port).await?;
        let head = request.map(wire::explain::request).transpose();
        let head = head.map_err(Status::invalid_argument)?;
        let names: Vec<&str> = caller.identities.iter().map(String::as_str).collect();
        let client = Client {
            address: caller.address,
            meshed: !names.is_empty(),
            identities: &names,
        };
        let view = head.as_ref().map(wire::explain::Head::view);
        let explained = explain::inbound::explain(&policy, port, &client, view.as_ref());
        Ok(wire::explain::explanation(&explained))
    }

    /// The addresses behind a service.
    pub(super) async fn endpoints(&self, path: &str) -> Vec<SocketAddr> {
        let asked = GetDestination {
            path: path.to_owned(),
            ..GetDestination::default()
        };
        let Ok(stream) = self.destination.get(Request::new(asked)).await else {
            return Vec::new();
        };
        // The first answer is whole: the snapshot does not change.
        let Some(Ok(first)) = stream.into_inner().next().await else {
            return Vec::new();
        };
        let Some(update::Update::Add(added)) = first.update else {
            return Vec::new();
        };
        let addresses = added.addrs.into_iter().filter_map(|one| wire::address(one.addr?));
        addresses.collect()
    }

    /// Who a pod is to those whom it calls; plaintext where `meshed` is false.
    pub(super) fn caller(&self, pod: &Pod, meshed: bool) -> Result<Caller, Status> {
        let address = pod.addresses().first().copied();
        let address =
            address.ok_or_else(|| Status::unavailable(format!("{} has no address yet", pod.metadata.name)))?;
        let identities = if meshed {
            let namespace = &pod.metadata.namespace;
            let uri = sheer_api::names::spiffe_identity(pod.service_account(), namespace, &self.config.trust_domain);
            vec![self.config.pod_identity(pod), uri]
        } else {
            Vec::new()
        };
        Ok(Caller { identities, address })
    }
}

/// A workload as proxies name themselves.
fn workload(pod: &Pod) -> String {
    serde_json::json!({ "ns": pod.metadata.namespace, "pod": pod.metadata.name }).to_string()
}

fn endpoint(address: SocketAddr) -> v1::EndpointState {
    v1::EndpointState {
        address: address.to_string(),
        weight: 1.0,
        ..v1::EndpointState::default()
    }
}
