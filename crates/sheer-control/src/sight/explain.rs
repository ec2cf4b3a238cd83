//! One request, from what the sender's proxy does with it to what the receiver's does, beside what the control plane would have said.

use std::{net::SocketAddr, sync::Arc};

use sheer_api::v1;
use tonic::Status;

use super::{Sight, dump, places::Places, resolve, view::View};
use crate::{objects::Pod, ports, store::Snapshot};

/// What is looked at: who sends what where.
struct Question {
    source: Arc<Pod>,
    source_meshed: bool,
    to: resolve::Destination,
    asked: v1::ExplainRequest,
}

pub(super) async fn explain(sight: &Sight, asked: v1::ExplainRequest) -> Result<v1::ExplainResponse, Status> {
    let snapshot = sight.snapshot();
    let question = question(sight, &snapshot, asked)?;
    let view = sight.view(Arc::clone(&snapshot));
    let mut answer = v1::ExplainResponse {
        source: name(&question.source),
        grpc_status: -1,
        control_state_age_ms: millis(snapshot.diagnosis().changed.elapsed()),
        ..v1::ExplainResponse::default()
    };
    let places = Places::of(&snapshot);
    let out = outbound(sight, &view, &question, &mut answer).await?;
    take_over(&mut answer, out.decisions, &places, &question.source.metadata.namespace);
    conclude(&mut answer, &out.explanation);
    if answer.outcome == "forwarded"
        && let Some(endpoint) = out.endpoints.first()
    {
        let arrives = Arrival {
            endpoint: endpoint.address.clone(),
            // A proxy speaks TLS where discovery promised an identity; without one, nobody does.
            is_mutual: question.source_meshed && (!out.is_proxys || !endpoint.identity.is_empty()),
            // What filters made of it is what the receiver decides about.
            request: out
                .explanation
                .request
                .as_ref()
                .or(question.asked.request.as_ref())
                .cloned(),
        };
        inbound((sight, &view), &question, &arrives, &places, &mut answer).await?;
    }
    Ok(answer)
}

fn question(sight: &Sight, snapshot: &Snapshot, mut asked: v1::ExplainRequest) -> Result<Question, Status> {
    let sources = resolve::pods(snapshot, &asked.from, &asked.namespace)?;
    let source = Arc::clone(&sources[0]);
    let namespace = if asked.namespace.is_empty() {
        source.metadata.namespace.clone()
    } else {
        asked.namespace.clone()
    };
    let to = resolve::destination(snapshot, &sight.config, &asked.to, &namespace)?;
    if asked.protocol != "opaque" && asked.protocol != "tls" {
        let head = asked.request.get_or_insert_default();
        for (field, default) in [(&mut head.method, "GET"), (&mut head.path, "/")] {
            if field.is_empty() {
                default.clone_into(field);
            }
        }
        if head.authority.is_empty() {
            head.authority.clone_from(&to.authority);
        }
    }
    Ok(Question {
        source_meshed: dump::is_meshed(sight, snapshot, &source),
        source,
        to,
        asked,
    })
}

/// How a request arrives.
struct Arrival {
    endpoint: String,
    is_mutual: bool,
    request: Option<v1::RequestHead>,
}

/// What the sending half comes to.
struct Out {
    /// Whether the proxy said it, and not the control plane in its place.
    is_proxys: bool,
    explanation: v1::Explanation,
    decisions: Vec<v1::Decision>,
    endpoints: Vec<v1::EndpointState>,
}

async fn outbound(
    sight: &Sight,
    view: &View,
    question: &Question,
    answer: &mut v1::ExplainResponse,
) -> Result<Out, Status> {
    let Question { source, to, asked, .. } = question;
    let own = view.explain_outbound(source, to.address, asked).await?;
    if !question.source_meshed {
        return Ok(without_sidecar(question, own, answer));
    }
    let request = v1::ExplainOutboundRequest {
        address: to.address.to_string(),
        request: asked.request.clone(),
        server_name: asked.server_name.clone(),
        protocol: asked.protocol.clone(),
        also: to.also.iter().map(ToString::to_string).collect(),
    };
    let said = match sight.proxies.connect(&sight.config, source).await {
        Ok(mut proxy) => proxy.explain_outbound(request).await,
        Err(why) => Err(why),
    };
    let (is_proxys, explanation) = match said {
        Ok(said) => {
            answer.proxy_state_age_ms = said.state_age_ms;
            differences(&name(source), &said, &own, answer);
            (true, said)
        }
        Err(why) => {
            answer.notes.push(format!(
                "the proxy of {} did not say what it would do ({why}): what follows is what the control plane would have it do",
                name(source)
            ));
            (false, own)
        }
    };
    Ok(Out {
        is_proxys,
        decisions: explanation.decisions.clone(),
        endpoints: explanation.endpoints.clone(),
        explanation,
    })
}

/// A sender without a sidecar: the kernel picks an endpoint, and no route is looked at.
fn without_sidecar(question: &Question, own: v1::Explanation, answer: &mut v1::ExplainResponse) -> Out {
    let (source, address) = (name(&question.source), question.to.address);
    answer.notes.push(format!(
        "{source} has no sidecar: routes, retries and timeouts do not apply to what it sends, and it speaks plaintext"
    ));
    let mut explanation = v1::Explanation {
        outcome: "forwarded".to_owned(),
        grpc_status: -1,
        ..v1::Explanation::default()
    };
    if own.endpoints.is_empty() {
        explanation.outcome = "refused".to_owned();
        explanation.verdict = "kubernetes".to_owned();
        explanation.reason = "no-endpoint".to_owned();
    }
    let decision = v1::Decision {
        stage: "service".to_owned(),
        choice: address.to_string(),
        why: match own.endpoints.len() {
            0 => "no ready pod stands behind it: the connection is refused".to_owned(),
            1 => "the kernel leads it to the only endpoint".to_owned(),
            count => format!("the kernel leads it to one of {count} endpoints, at random"),
        },
        ..v1::Decision::default()
    };
    Out {
        is_proxys: false,
        explanation,
        decisions: vec![decision],
        endpoints: own.endpoints,
    }
}

async fn inbound(
    (sight, view): (&Sight, &View),
    question: &Question,
    arrives: &Arrival,
    places: &Places,
    answer: &mut v1::ExplainResponse,
) -> Result<(), Status> {
    let Ok(address) = arrives.endpoint.parse::<SocketAddr>() else {
        return Ok(());
    };
    let Some(pod) = view.snapshot.find_pod_at(address.ip()).cloned() else {
        answer.notes.push(format!(
            "{address} is no pod of the mesh: nothing is known of who may come in there"
        ));
        return Ok(());
    };
    answer.destination = name(&pod);
    if !ports::is_meshed(&view.snapshot, &pod, address.port(), &sight.config.control_namespace) {
        answer.notes.push(format!(
            "port {} of {} has no sidecar in front: no policy is asked who may come in",
            address.port(),
            name(&pod)
        ));
        return Ok(());
    }
    let caller = view.caller(&question.source, arrives.is_mutual)?;
    let request = arrives.request.as_ref();
    let own = view.explain_inbound(&pod, address.port(), &caller, request).await?;
    let asked = v1::ExplainInboundRequest {
        port: address.port().into(),
        client_identity: caller.identities.join(","),
        client_address: caller.address.to_string(),
        request: request.cloned(),
    };
    let said = match sight.proxies.connect(&sight.config, &pod).await {
        Ok(mut proxy) => proxy.explain_inbound(asked).await,
        Err(why) => Err(why),
    };
    let said = match said {
        Ok(said) => {
            answer.proxy_state_age_ms = answer.proxy_state_age_ms.max(said.state_age_ms);
            differences(&name(&pod), &said, &own, answer);
            said
        }
        Err(why) => {
            answer.notes.push(format!(
                "the proxy of {} did not say what it would do ({why}): the rest is what the control plane would have it do",
                name(&pod)
            ));
            own
        }
    };
    take_over(answer, said.decisions.clone(), places, &pod.metadata.namespace);
    conclude(answer, &said);
    Ok(())
}

fn take_over(answer: &mut v1::ExplainResponse, mut decisions: Vec<v1::Decision>, places: &Places, namespace: &str) {
    places.fill(&mut decisions, namespace);
    answer.decisions.extend(decisions);
}

fn conclude(answer: &mut v1::ExplainResponse, said: &v1::Explanation) {
    answer.outcome.clone_from(&said.outcome);
    answer.verdict.clone_from(&said.verdict);
    answer.reason.clone_from(&said.reason);
    answer.status = said.status;
    answer.grpc_status = said.grpc_status;
}

/// Stages that a policy alone decides; the others depend on what the proxy met.
const DECIDED: [&str; 10] = [
    "protocol", "route", "rule", "filter", "timeout", "retry", "backend", "server", "policy", "limit",
];

/// Where a proxy decides otherwise than the control plane would have it.
fn differences(pod: &str, said: &v1::Explanation, own: &v1::Explanation, answer: &mut v1::ExplainResponse) {
    let ages = format!(
        "heard {} ago, the control plane changed {} ago",
        age(said.state_age_ms),
        age(answer.control_state_age_ms)
    );
    let mut differs = |what: String| answer.differences.push(format!("the proxy of {pod} {what} ({ages})"));
    // A destination without a policy has nothing to compare.
    if own.decisions.is_empty() {
        return;
    }
    for stage in DECIDED {
        let (held, wanted) = (choices(said, stage), choices(own, stage));
        if held != wanted {
            differs(format!(
                "has {stage} {}, the control plane has {}",
                or_none(&held),
                or_none(&wanted)
            ));
        }
    }
    if said.outcome != own.outcome && !matches!(said.reason.as_str(), "failfast" | "no-backend") {
        differs(format!(
            "would end with {}, the control plane with {}",
            said.outcome, own.outcome
        ));
    }
    let (held, wanted) = (addresses(said), addresses(own));
    if held != wanted && said.outcome == "forwarded" && own.outcome == "forwarded" {
        differs(format!(
            "has the endpoints {}, the control plane has {}",
            or_none(&held.join(", ")),
            or_none(&wanted.join(", "))
        ));
    }
}

fn choices(said: &v1::Explanation, stage: &str) -> String {
    let of_stage = said.decisions.iter().filter(|decision| decision.stage == stage);
    of_stage
        .map(|decision| decision.choice.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

fn addresses(said: &v1::Explanation) -> Vec<String> {
    let mut addresses: Vec<_> = said.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.metadata.namespace, pod.metadata.name)
}

fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
