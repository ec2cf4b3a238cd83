//! `Control`: rules that let the bank's callers in, and routes of its gateway.

use std::collections::HashMap;

use futures::stream::BoxStream;
use sheer_api::v1::control_server::Control;
use sheer_api::v1::finding::Severity;
use sheer_api::v1::{
    BackendState, ConfigDumpRequest, ConfigDumpResponse, ControlStream, Decision, EndpointState, EnterRequest,
    EnterResponse, ExplainRequest, ExplainResponse, Finding, FrameEvent, InboundState, IssueTokenRequest,
    IssueTokenResponse, Loser, ObjectRef, OutboundState, PlaintextEvent, PolicyDiffRequest, PolicyDiffResponse,
    ProxyDump, ProxyState, RenewRequest, RenewResponse, ReportRequest, ReportResponse, RevokeTokensRequest,
    RevokeTokensResponse, RouteCondition, RouteParent, RouteState, RouteStatus, RoutesRequest, RoutesResponse, TapLine,
    WatchConnectionsRequest, WatchConnectionsResponse, WatchDiffRequest, WatchDiffResponse, WatchFramesRequest,
    WatchPlaintextRequest, WatchSecretsRequest, WatchTapRequest, WorkloadLogLevelRequest, WorkloadLogLevelResponse,
    WorkloadSecret,
};
use tonic::{Request, Response, Status};

use super::meshes::{End, Mesh, now_ms};
use super::{Simulated, sight};

fn reference(kind: &str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..ObjectRef::default()
    }
}

fn inbound(mesh: &Mesh, index: usize) -> InboundState {
    let workload = &mesh.workloads[index];
    let callers = mesh
        .calls
        .iter()
        .filter(|call| call.to == End::Workload(index))
        .filter_map(|call| match call.from {
            End::Workload(from) => Some(&mesh.workloads[from]),
            _ => None,
        });
    InboundState {
        port: 8080,
        server: Some(reference("server", &workload.namespace, &workload.name)),
        protocol: "http/2".to_owned(),
        age_ms: 5_400_000,
        authorizations: callers
            .filter(|from| from.meshed)
            .map(|from| {
                format!(
                    "AuthorizationPolicy {}/{}: MeshTLS {}.{}… from 0.0.0.0/0",
                    workload.namespace, workload.name, from.name, from.namespace
                )
            })
            .collect(),
        routes: vec![RouteState {
            route: Some(reference("default", "", "default")),
            matches: "*".to_owned(),
            requests: 12_000,
            ..RouteState::default()
        }],
        rate_limit: if workload.name == "gateway" {
            "100/s for all, 20/s each identity".to_owned()
        } else {
            String::new()
        },
    }
}

fn outbound(mesh: &Mesh, index: usize) -> Vec<OutboundState> {
    let calls = mesh.calls.iter().filter(|call| call.from == End::Workload(index));
    let targets = calls.filter_map(|call| match call.to {
        End::Workload(to) => Some((call, to)),
        _ => None,
    });
    targets
        .map(|(call, to)| {
            let target = &mesh.workloads[to];
            let pods = mesh.pods(to).into_iter().enumerate();
            OutboundState {
                address: format!("10.78.0.{}:8080", to + 1),
                name: format!("{}.{}.svc.cluster.local:8080", target.name, target.namespace),
                protocol: "http/2".to_owned(),
                routes: vec![RouteState {
                    route: Some(reference("default", "", "default")),
                    matches: "*".to_owned(),
                    backends: vec![format!("Service {}/{}:8080", target.namespace, target.name)],
                    requests: 9_000,
                    ..RouteState::default()
                }],
                backends: vec![BackendState {
                    endpoints: pods
                        .map(|(nth, pod)| EndpointState {
                            address: format!("10.77.{to}.{nth}:8080"),
                            weight: 1.0,
                            identity: format!("{}.{}…", target.name, target.namespace),
                            ready: true,
                            breaker: "closed".to_owned(),
                            rtt_ms: call.ms,
                            pod,
                            ..EndpointState::default()
                        })
                        .collect(),
                    ..BackendState::default()
                }],
                ..OutboundState::default()
            }
        })
        .collect()
}

fn dump(mesh: &Mesh, request: &ConfigDumpRequest) -> ConfigDumpResponse {
    let meshed = mesh
        .workloads
        .iter()
        .enumerate()
        .filter(|(_, workload)| workload.meshed);
    let meant = meshed.filter(|(_, workload)| {
        request.workload.is_empty()
            || (request.workload == format!("deploy/{}", workload.name) && request.namespace == workload.namespace)
    });
    let proxies = meant.flat_map(|(index, workload)| {
        mesh.pods(index).into_iter().map(move |pod| ProxyDump {
            namespace: workload.namespace.clone(),
            workload: format!("deploy/{}", workload.name),
            state: Some(ProxyState {
                version: "0.1.0".to_owned(),
                inbound: vec![inbound(mesh, index)],
                outbound: outbound(mesh, index),
                control_streams: vec![ControlStream {
                    method: "OutboundPolicies.Watch".to_owned(),
                    connected: true,
                    messages: 3,
                    ..ControlStream::default()
                }],
                uptime_ms: 5_400_000,
                ..ProxyState::default()
            }),
            error: String::new(),
            pod,
        })
    });
    ConfigDumpResponse {
        proxies: proxies.collect(),
    }
}

fn explain(request: &ExplainRequest) -> ExplainResponse {
    let denied = request.from.contains("reports");
    let decision = |stage: &str, object: Option<ObjectRef>, choice: &str, why: &str| Decision {
        stage: stage.to_owned(),
        object,
        choice: choice.to_owned(),
        why: why.to_owned(),
        ..Decision::default()
    };
    let mut policy = decision(
        "policy",
        Some(reference("AuthorizationPolicy", "bank", "ledger")),
        if denied { "denied" } else { "allowed" },
        if denied {
            "the client has no identity, and no rule lets in clients without one"
        } else {
            "payments.bank… is named"
        },
    );
    policy.file = "bank/ledger.yaml".to_owned();
    policy.line = 42;
    policy.losers = vec![Loser {
        object: Some(reference("AuthorizationPolicy", "bank", "probes")),
        why: "it is for the port 8081".to_owned(),
        ..Loser::default()
    }];
    ExplainResponse {
        decisions: vec![
            decision(
                "service",
                Some(reference("Service", "bank", "ledger")),
                "ledger.bank:8080",
                "it has this address",
            ),
            decision(
                "route",
                Some(reference("default", "", "default")),
                "default",
                "the Service has no routes",
            ),
            decision(
                "endpoint",
                None,
                "10.77.0.7:8080",
                "two were drawn, this one answers faster",
            ),
            policy,
        ],
        outcome: if denied { "denied" } else { "forwarded" }.to_owned(),
        verdict: if denied { "policy" } else { "" }.to_owned(),
        reason: if denied { "policy-denied" } else { "" }.to_owned(),
        status: if denied { 403 } else { 0 },
        grpc_status: if denied { 7 } else { -1 },
        proxy_state_age_ms: 5_400_000,
        source: "bank/payments-6d9f4-0".to_owned(),
        destination: "bank/ledger-6d9f4-1".to_owned(),
        ..ExplainResponse::default()
    }
}

fn routes(mesh: &Mesh) -> RoutesResponse {
    let routed = mesh
        .workloads
        .iter()
        .filter(|workload| workload.name.contains("gateway") || workload.name.contains("api"));
    let routes = routed.enumerate().map(|(nth, workload)| RouteStatus {
        route: Some(ObjectRef {
            group: "gateway.networking.k8s.io".to_owned(),
            ..reference("HTTPRoute", &workload.namespace, &workload.name)
        }),
        file: format!("{}/routes.yaml", workload.namespace),
        line: 3 + nth as u32 * 20,
        parents: vec![RouteParent {
            parent: Some(ObjectRef {
                port: 8080,
                ..reference("Service", &workload.namespace, &workload.name)
            }),
            conditions: vec![
                RouteCondition {
                    r#type: "Accepted".to_owned(),
                    status: true,
                    reason: "Accepted".to_owned(),
                    ..RouteCondition::default()
                },
                RouteCondition {
                    r#type: "ResolvedRefs".to_owned(),
                    status: nth != 1,
                    reason: if nth == 1 { "BackendNotFound" } else { "ResolvedRefs" }.to_owned(),
                    message: if nth == 1 {
                        "Service accounts/accounts-v2 does not exist"
                    } else {
                        ""
                    }
                    .to_owned(),
                    field: if nth == 1 { "spec.rules[0].backendRefs[1]" } else { "" }.to_owned(),
                },
            ],
        }],
        rank: 0,
    });
    RoutesResponse {
        routes: routes.collect(),
    }
}

#[tonic::async_trait]
impl Control for Simulated {
    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let services = self.0.workloads.len() as u32;
        Ok(Response::new(ReportResponse {
            version: "0.1.0".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            objects: HashMap::from([("Service".to_owned(), services), ("Deployment".to_owned(), services)]),
            findings: vec![Finding {
                severity: Severity::Warning.into(),
                file: "bank/ledger.yaml".to_owned(),
                line: 12,
                object: "Deployment bank/ledger".to_owned(),
                field: "spec.strategy".to_owned(),
                message: "has no effect on a local mesh; take it out, or live without it".to_owned(),
            }],
            streams: HashMap::from([
                ("Destination.Get".to_owned(), services),
                ("OutboundPolicies.Watch".to_owned(), services),
            ]),
            issuer_not_after: now_ms() / 1_000 + 300 * 86_400,
            last_change_age_ms: 12_000,
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let request = request.into_inner();
        if request.from.contains("nobody") {
            return Err(Status::not_found("there is no workload deploy/nobody in any namespace"));
        }
        Ok(Response::new(explain(&request)))
    }

    async fn config_dump(&self, request: Request<ConfigDumpRequest>) -> Result<Response<ConfigDumpResponse>, Status> {
        Ok(Response::new(dump(&self.0, request.get_ref())))
    }

    async fn policy_diff(&self, _: Request<PolicyDiffRequest>) -> Result<Response<PolicyDiffResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn routes(&self, _: Request<RoutesRequest>) -> Result<Response<RoutesResponse>, Status> {
        Ok(Response::new(routes(&self.0)))
    }

    async fn connections(
        &self,
        _: Request<WatchConnectionsRequest>,
    ) -> Result<Response<WatchConnectionsResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn issue_token(&self, _: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn revoke_tokens(&self, _: Request<RevokeTokensRequest>) -> Result<Response<RevokeTokensResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    type FramesStream = BoxStream<'static, Result<FrameEvent, Status>>;

    async fn frames(&self, request: Request<WatchFramesRequest>) -> Result<Response<Self::FramesStream>, Status> {
        sight::frames(&request).map(Response::new)
    }

    type TapStream = BoxStream<'static, Result<TapLine, Status>>;

    async fn tap(&self, request: Request<WatchTapRequest>) -> Result<Response<Self::TapStream>, Status> {
        sight::tap(&request).map(Response::new)
    }

    async fn diff(&self, request: Request<WatchDiffRequest>) -> Result<Response<WatchDiffResponse>, Status> {
        sight::diff(&request).map(Response::new)
    }

    type PlaintextStream = tokio_stream::Empty<Result<PlaintextEvent, Status>>;

    async fn plaintext(&self, _: Request<WatchPlaintextRequest>) -> Result<Response<Self::PlaintextStream>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    type SecretsStream = tokio_stream::Empty<Result<WorkloadSecret, Status>>;

    async fn secrets(&self, _: Request<WatchSecretsRequest>) -> Result<Response<Self::SecretsStream>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn log_level(
        &self,
        _: Request<WorkloadLogLevelRequest>,
    ) -> Result<Response<WorkloadLogLevelResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn enter(&self, _: Request<EnterRequest>) -> Result<Response<EnterResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn renew_connections(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }
}
