//! What the proxy would do with a request, by what it holds. Nothing is sent.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sheer_api::v1;
use sheer_policy::{
    explain::{Client, Decision, Stage, inbound as policy_inbound, outbound as policy_outbound, words},
    outbound::{Backend, BackendTarget},
    wire::explain as wire,
};
use tokio::{sync::watch, time::timeout};
use tonic::Status;

use super::{service::Sight, state};
use crate::{
    addr::OrigDst,
    discovery::{Discovery as _, EndpointSet, Lookup, OutboundTarget},
};

/// Longest wait for an answer of the control plane that nobody had asked for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Endpoints that are named as losers.
const LOSERS: usize = 8;

/// Where a request of the workload would go.
pub(super) async fn outbound(sight: &Sight, asked: v1::ExplainOutboundRequest) -> Result<v1::Explanation, Status> {
    let dst = address_in_use(sight, &asked)?;
    let parsed = asked.request.as_ref().map(wire::request).transpose();
    let parsed = parsed.map_err(Status::invalid_argument)?;
    let known = answered(sight.client().outbound(OrigDst(dst))).await;
    let age = state::age(&sight.client().streams(), "OutboundPolicies.Watch", &dst.to_string());
    let target = match known {
        Lookup::Known(target) => target,
        unknown => return Ok(as_it_is(dst, &unknown)),
    };
    let traffic = match (&parsed, asked.server_name.as_str()) {
        (Some(request), _) if asked.protocol == "http/1" => policy_outbound::Traffic::Http1(request.view()),
        (Some(request), _) if asked.protocol != "opaque" => policy_outbound::Traffic::Http2(request.view()),
        (_, "") if asked.protocol == "tls" => policy_outbound::Traffic::Tls(None),
        (_, "") => policy_outbound::Traffic::Opaque,
        (_, name) => policy_outbound::Traffic::Tls(Some(name)),
    };
    let explained = policy_outbound::explain(&target.policy, &traffic);
    let mut said = wire::explanation(&explained.explanation);
    said.decisions.insert(0, wire::decision(&service(dst, &target)));
    said.state_age_ms = state::millis(age);
    said.request = parsed.as_ref().and_then(|request| request.changed(&explained.changes));
    at_endpoints(sight, &explained.backends, &mut said).await;
    Ok(said)
}

/// Of the addresses of a destination, the one that is known already: what the application's connections meet, and as old as they have it.
fn address_in_use(sight: &Sight, asked: &v1::ExplainOutboundRequest) -> Result<SocketAddr, Status> {
    let parse = |text: &String| {
        let wrong = |_| Status::invalid_argument(format!("{text:?} is not an address with a port"));
        text.parse::<SocketAddr>().map_err(wrong)
    };
    let first = parse(&asked.address)?;
    let others = asked.also.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let known = sight.client().destinations();
    let is_known = |address: &&SocketAddr| known.iter().any(|(dst, _)| dst.0 == **address);
    let all = std::iter::once(&first).chain(&others);
    Ok(all.clone().find(is_known).copied().unwrap_or(first))
}

/// The first answer, for as long as it is worth waiting.
async fn answered<T: Clone>(mut receiver: watch::Receiver<Lookup<T>>) -> Lookup<T> {
    let waited = timeout(PATIENCE, receiver.wait_for(|lookup| !matches!(lookup, Lookup::Pending)));
    match waited.await {
        Ok(Ok(lookup)) => lookup.clone(),
        Ok(Err(_)) | Err(_) => Lookup::Pending,
    }
}

fn service(dst: SocketAddr, target: &OutboundTarget) -> Decision {
    let policy = &target.policy;
    Decision::new(
        Stage::Service,
        Some(&policy.parent),
        &*target.name,
        format!("{dst} is its address"),
    )
}

/// A destination that the mesh does not know, or not in time.
fn as_it_is(dst: SocketAddr, known: &Lookup<OutboundTarget>) -> v1::Explanation {
    let why = match known {
        Lookup::Unknown => "the mesh knows neither a Service nor a pod there: forwarded as it is",
        Lookup::Pending | Lookup::Known(_) => "the control plane did not answer in time: forwarded as it is",
    };
    let decision = Decision::new(Stage::Service, None, dst.to_string(), why);
    let endpoint = v1::EndpointState {
        address: dst.to_string(),
        weight: 1.0,
        ready: true,
        breaker: "closed".to_owned(),
        ..v1::EndpointState::default()
    };
    v1::Explanation {
        decisions: vec![wire::decision(&decision)],
        outcome: "forwarded".to_owned(),
        grpc_status: -1,
        endpoints: vec![endpoint],
        ..v1::Explanation::default()
    }
}

/// Adds which endpoints could take the request, and how the best proves itself.
async fn at_endpoints(sight: &Sight, backends: &[std::sync::Arc<Backend>], said: &mut v1::Explanation) {
    let Some(first) = backends.first() else { return };
    let views = sight.workers().services().await;
    let mut states = Vec::new();
    let mut exists = true;
    for (index, backend) in backends.iter().enumerate() {
        let set = match &backend.target {
            BackendTarget::Balance { path, .. } => match answered(sight.client().endpoints(path)).await {
                Lookup::Known(set) => Some(set),
                Lookup::Pending | Lookup::Unknown => None,
            },
            BackendTarget::Forward(_) | BackendTarget::Invalid { .. } => None,
        };
        if index == 0 {
            exists = does_exist(backend, set.as_deref());
        }
        states.push(state::backend_state(backend, set.as_deref(), &views).endpoints);
    }
    let mut states = states.into_iter();
    let mut own = states.next().unwrap_or_default();
    own.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    said.decisions.push(wire::decision(&endpoint(first, &own)));
    match own.first() {
        Some(best) => said.decisions.push(wire::decision(&tls(best))),
        None => refuse(said, exists),
    }
    said.endpoints = own;
    said.endpoints.extend(states.flatten());
}

fn does_exist(backend: &Backend, set: Option<&EndpointSet>) -> bool {
    match backend.target {
        BackendTarget::Balance { .. } => set.is_none_or(|set| set.exists),
        BackendTarget::Forward(_) | BackendTarget::Invalid { .. } => true,
    }
}

/// Ready ones first, then those that were never needed; of these the cheapest.
fn rank(endpoint: &v1::EndpointState) -> f64 {
    let cost = endpoint.rtt_ms * f64::from(endpoint.pending + 1);
    match (endpoint.ready, endpoint.why.as_str()) {
        (true, _) => cost,
        (false, state::NEVER_USED) => 1e9,
        (false, _) => 1e12 + cost,
    }
}

fn endpoint(backend: &Backend, endpoints: &[v1::EndpointState]) -> Decision {
    let object = Some(&backend.object);
    let Some((best, others)) = endpoints.split_first() else {
        return Decision::new(Stage::Endpoint, object, "none", "no ready pod stands behind it");
    };
    let ready = endpoints.iter().filter(|one| one.ready).count();
    let never = endpoints.iter().filter(|one| one.why == state::NEVER_USED).count();
    let why = match endpoints.len() {
        1 => "the only endpoint".to_owned(),
        count if never == count => format!("{count} endpoints, none used yet by this proxy"),
        count => format!("{ready} of {count} endpoints are ready; of two drawn at random the cheaper is taken"),
    };
    let loser = |one: &v1::EndpointState| sheer_policy::explain::Loser {
        object: backend.object.clone(),
        rule: None,
        choice: name(one),
        why: if one.why.is_empty() { cost(one) } else { one.why.clone() },
    };
    let mut decision = Decision::new(Stage::Endpoint, object, name(best), why);
    if !best.ready && best.why != state::NEVER_USED {
        decision.why = format!("{}; not ready: {}", decision.why, best.why);
    }
    decision.losers = others.iter().take(LOSERS).map(loser).collect();
    decision
}

fn name(endpoint: &v1::EndpointState) -> String {
    if endpoint.pod.is_empty() {
        endpoint.address.clone()
    } else {
        format!("{} ({})", endpoint.address, endpoint.pod)
    }
}

fn cost(endpoint: &v1::EndpointState) -> String {
    format!("ready too: {:.1} ms, {} under way", endpoint.rtt_ms, endpoint.pending)
}

fn tls(best: &v1::EndpointState) -> Decision {
    if best.identity.is_empty() {
        let why = "the endpoint has no sidecar, or its port is skipped";
        return Decision::new(Stage::Tls, None, "plaintext", why);
    }
    let why = "the control plane promises this identity, and the certificate must prove it";
    Decision::new(
        Stage::Tls,
        None,
        format!("mutual TLS with {}", words::identity(&best.identity)),
        why,
    )
}

/// Without an endpoint the request waits for the fail-fast time and is answered.
fn refuse(said: &mut v1::Explanation, exists: bool) {
    const UNAVAILABLE: i32 = 14;
    const NOT_FOUND: i32 = 5;
    said.outcome = "refused".to_owned();
    let (verdict, reason, status, grpc_status) = if exists {
        ("capacity", "failfast", 503, UNAVAILABLE)
    } else {
        ("discovery", "no-backend", 404, NOT_FOUND)
    };
    (said.verdict, said.reason) = (verdict.to_owned(), reason.to_owned());
    (said.status, said.grpc_status) = (status, grpc_status);
}

/// Whether a request of a client would come in.
pub(super) async fn inbound(sight: &Sight, asked: v1::ExplainInboundRequest) -> Result<v1::Explanation, Status> {
    let port = u16::try_from(asked.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Status::invalid_argument(format!("{} is not a port", asked.port)))?;
    let address: IpAddr = asked
        .client_address
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{:?} is not an address", asked.client_address)))?;
    let parsed = asked.request.as_ref().map(wire::request).transpose();
    let parsed = parsed.map_err(Status::invalid_argument)?;
    let Lookup::Known(policy) = answered(sight.client().inbound(port)).await else {
        return Err(Status::unavailable(format!(
            "the policy of port {port} is not known to this proxy yet"
        )));
    };
    let names: Vec<&str> = asked
        .client_identity
        .split(',')
        .filter(|name| !name.is_empty())
        .collect();
    let client = Client {
        address,
        meshed: !names.is_empty(),
        identities: &names,
    };
    let view = parsed.as_ref().map(wire::Head::view);
    let explained = policy_inbound::explain(&policy, port, &client, view.as_ref());
    let age = state::age(
        &sight.client().streams(),
        "InboundServerPolicies.WatchPort",
        &port.to_string(),
    );
    Ok(v1::Explanation {
        state_age_ms: state::millis(age),
        ..wire::explanation(&explained)
    })
}
