//! The services of the API, answering from the script.

use std::{collections::BTreeMap, pin::Pin};

use futures::{Stream, StreamExt as _, stream};
use sheer_api::{
    linkerd::{
        destination::{
            AddrSet, DestinationProfile, GetDestination, NoEndpoints, Update, WeightedAddr, WeightedAddrSet,
            destination_server::Destination, update,
        },
        identity::{CertifyRequest, CertifyResponse, identity_server::Identity},
        inbound::{PortSpec, Server, inbound_server_policies_server::InboundServerPolicies},
        outbound::{OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies, traffic_spec},
    },
    v1::{
        ExtrasRequest, InboundExtras, InboundExtrasRequest, OutboundExtras, TelemetryAnswer, TelemetryPush,
        extras_server::Extras, telemetry_server::Telemetry,
    },
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Answer, Issue, Script};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Script {
    /// Counts a stream, and holds the answer back while the control plane is to be silent.
    async fn opened(&self, method: &'static str) {
        *self.streams.lock().entry(method).or_default() += 1;
        // The sender is in self.
        let _ = self.silent.subscribe().wait_for(|silent| !silent).await;
    }

    /// The answer as it is and as it changes. What is not known ends the stream with `NOT_FOUND`.
    async fn follow<T>(&self, method: &'static str, answer: Answer<T>) -> Result<Response<Answers<T>>, Status>
    where
        T: Clone + Send + Sync + 'static,
    {
        self.opened(method).await;
        if answer.borrow().is_none() {
            return Err(Status::not_found("nothing is known of it"));
        }
        let changes = WatchStream::new(answer.subscribe());
        Ok(Response::new(Box::pin(
            changes.map(|now| now.ok_or_else(|| Status::not_found("no longer known"))),
        )))
    }
}

#[async_trait]
impl Identity for Script {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        self.opened("Certify").await;
        let CertifyRequest {
            token,
            certificate_signing_request,
            ..
        } = request.into_inner();
        let wrong_token = self.token.lock().as_ref().is_some_and(|right| *right != token);
        let issue = if wrong_token {
            Issue::Refused
        } else {
            self.issue.lock().clone()
        };
        let leaf = self.pki.issue(&certificate_signing_request, &issue);
        self.certified.send_modify(|count| *count += 1);
        let leaf_certificate = leaf.ok_or_else(|| Status::failed_precondition("the token has expired"))?;
        Ok(Response::new(CertifyResponse {
            leaf_certificate,
            ..CertifyResponse::default()
        }))
    }
}

#[async_trait]
impl Destination for Script {
    type GetStream = Answers<Update>;
    type GetProfileStream = Answers<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        self.opened("Get").await;
        let sets = WatchStream::new(self.endpoints.of(&request.into_inner().path).subscribe());
        let mut told = BTreeMap::new();
        let updates = sets.flat_map(move |set| futures::stream::iter(updates(&mut told, set)));
        Ok(Response::new(Box::pin(updates.map(Ok))))
    }

    async fn get_profile(&self, request: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        let answer = self.profiles.of(&request.into_inner().path);
        self.follow("GetProfile", answer).await
    }
}

#[async_trait]
impl OutboundPolicies for Script {
    type WatchStream = Answers<OutboundPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let answer = self.policies.of(&target(request.into_inner())?);
        let now = answer.borrow().clone();
        now.map(Response::new)
            .ok_or_else(|| Status::not_found("nothing is known of it"))
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let answer = self.policies.of(&target(request.into_inner())?);
        self.follow("Watch", answer).await
    }
}

#[async_trait]
impl InboundServerPolicies for Script {
    type WatchPortStream = Answers<Server>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let now = self.servers.of(&request.into_inner().port.to_string()).borrow().clone();
        now.map(Response::new)
            .ok_or_else(|| Status::not_found("nothing is known of it"))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let answer = self.servers.of(&request.into_inner().port.to_string());
        self.follow("WatchPort", answer).await
    }
}

#[async_trait]
impl Extras for Script {
    type WatchOutboundStream = Answers<OutboundExtras>;

    async fn watch_outbound(
        &self,
        request: Request<ExtrasRequest>,
    ) -> Result<Response<Self::WatchOutboundStream>, Status> {
        let answer = self.extras.of(&request.into_inner().address);
        self.follow("WatchOutbound", answer).await
    }

    type WatchInboundStream = Answers<InboundExtras>;

    async fn watch_inbound(
        &self,
        request: Request<InboundExtrasRequest>,
    ) -> Result<Response<Self::WatchInboundStream>, Status> {
        let answer = self.port_extras.of(&request.into_inner().port.to_string());
        self.follow("WatchInbound", answer).await
    }
}

#[async_trait]
impl Telemetry for Script {
    type PushStream = Answers<TelemetryAnswer>;

    async fn push(&self, request: Request<Streaming<TelemetryPush>>) -> Result<Response<Self::PushStream>, Status> {
        self.opened("Push").await;
        let messages = request.into_inner();
        let (reports, acknowledges) = (self.reports.clone(), self.acknowledges.subscribe());
        let wants_paths = self.wants_paths.subscribe();
        let answers = stream::unfold(messages, move |mut messages| {
            let (reports, mut acknowledges, mut wants_paths) =
                (reports.clone(), acknowledges.clone(), wants_paths.clone());
            async move {
                let acknowledged = tokio::select! {
                    Ok(()) = wants_paths.changed() => 0,
                    message = messages.message() => {
                        let message = message.ok().flatten()?;
                        let acknowledged = message.sequence;
                        // As it is when the report comes: whoever sees it and changes that means the next.
                        let at_once = *acknowledges.borrow();
                        reports.send_modify(|reports| reports.push(message));
                        if !at_once {
                            acknowledges.wait_for(|acknowledges| *acknowledges).await.ok()?;
                        }
                        acknowledged
                    }
                };
                let paths = *wants_paths.borrow();
                Some((Ok(TelemetryAnswer { acknowledged, paths }), messages))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn target(spec: TrafficSpec) -> Result<String, Status> {
    match spec.target {
        Some(traffic_spec::Target::Addr(addr)) => std::net::SocketAddr::try_from(addr)
            .map(|addr| addr.to_string())
            .map_err(|_| Status::invalid_argument("not an address")),
        Some(traffic_spec::Target::Authority(authority)) => Ok(authority),
        None => Err(Status::invalid_argument("no target")),
    }
}

/// What has to be said to get from what was told to a set.
fn updates(told: &mut BTreeMap<String, WeightedAddr>, set: Option<Vec<WeightedAddr>>) -> Vec<Update> {
    let none = |exists| {
        vec![Update {
            update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
        }]
    };
    let Some(set) = set else {
        told.clear();
        return none(false);
    };
    if set.is_empty() {
        told.clear();
        return none(true);
    }
    let now: BTreeMap<_, _> = set.into_iter().map(|addr| (format!("{:?}", addr.addr), addr)).collect();
    let added: Vec<_> = now
        .iter()
        .filter(|(key, addr)| told.get(*key) != Some(*addr))
        .map(|(_, addr)| addr.clone())
        .collect();
    let removed: Vec<_> = told
        .iter()
        .filter(|(key, _)| !now.contains_key(*key))
        .filter_map(|(_, addr)| addr.addr)
        .collect();
    *told = now;
    let mut updates = Vec::new();
    if !added.is_empty() {
        let set = WeightedAddrSet {
            addrs: added,
            ..WeightedAddrSet::default()
        };
        updates.push(Update {
            update: Some(update::Update::Add(set)),
        });
    }
    if !removed.is_empty() {
        updates.push(Update {
            update: Some(update::Update::Remove(AddrSet { addrs: removed })),
        });
    }
    updates
}
