//! What changed manifests would do to the traffic of the last minutes: every sample is decided by the objects in force and by the changed
//! ones, with the code that proxies decide with.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sheer_api::v1;
use sheer_policy::{
    explain::{self, Client, Explanation, Outcome, Stage, outbound::Traffic, words},
    inbound::InboundPolicy,
    outbound::OutboundPolicy,
    wire::explain as wire,
};
use tonic::Status;

use super::{Sight, dump, hidden::Hidden, view::View, watch};
use crate::{
    manifests::{self, Finding, Manifest, Severity},
    objects::{ObjectId, Pod},
    server::finding_message,
    store::Snapshot,
};

/// How far back traffic is looked at, where nobody says.
const WITHIN: Duration = Duration::from_secs(5 * 60);
/// Said of a request that nobody may look at, where its head would be told.
const HIDDEN: &str = "no rule takes it";
/// Requests that are named as examples of a change.
const EXAMPLES: usize = 3;

pub(super) async fn diff(sight: &Sight, asked: v1::PolicyDiffRequest) -> Result<v1::PolicyDiffResponse, Status> {
    let snapshot = sight.snapshot();
    let (manifests, findings) = read(&asked.manifests);
    let mut answer = v1::PolicyDiffResponse {
        findings: findings.iter().map(finding_message).collect(),
        ..v1::PolicyDiffResponse::default()
    };
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Ok(answer);
    }
    let deleted = deleted(&snapshot, &asked.deleted)?;
    answer.objects = changed(&snapshot, &manifests);
    answer
        .objects
        .extend(deleted.iter().map(|id| format!("{id} (deleted)")));
    let changed = Arc::new(snapshot.with(&manifests, &deleted));
    let within = match asked.within_ms {
        0 => WITHIN,
        ms => Duration::from_millis(ms),
    };
    let mut replay = Replay {
        before: Decider::new(sight.view(Arc::clone(&snapshot))),
        after: Decider::new(sight.view(changed)),
        hidden: sight.hidden.of(&snapshot),
        changes: BTreeMap::new(),
    };
    for (pod, traffic) in traffic(sight, &snapshot, within, &mut answer).await {
        for sample in &traffic.samples {
            answer.samples += 1;
            answer.requests += sample.weight;
            replay.sample(&snapshot, &pod, sample).await?;
        }
    }
    let mut changes: Vec<_> = replay
        .changes
        .into_iter()
        .map(|(group, count)| group.message(count))
        .collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.requests));
    answer.changes = changes;
    Ok(answer)
}

fn read(texts: &[v1::ManifestText]) -> (Vec<Manifest>, Vec<Finding>) {
    let (mut manifests, mut findings) = (Vec::new(), Vec::new());
    for text in texts {
        let loaded = manifests::parse(Path::new(&text.file), &text.text);
        manifests.extend(loaded.manifests);
        findings.extend(loaded.findings);
    }
    (manifests, findings)
}

/// The objects that are new, or not as those in force.
fn changed(snapshot: &Snapshot, manifests: &[Manifest]) -> Vec<String> {
    let is_same = |manifest: &Manifest| snapshot.written().iter().any(|known| known.object == manifest.object);
    manifests
        .iter()
        .filter(|manifest| !is_same(manifest))
        .map(|manifest| manifest.object.id().to_string())
        .collect()
}

/// The objects in force that are thought away. A name that names none, or several, is a mistake of whoever asks.
pub(super) fn deleted(snapshot: &Snapshot, asked: &[v1::ObjectRef]) -> Result<Vec<ObjectId>, Status> {
    let one = |said: &v1::ObjectRef| {
        let is_it = |id: &ObjectId| {
            id.kind.as_str().eq_ignore_ascii_case(&said.kind)
                && id.name == said.name
                && (said.namespace.is_empty() || id.namespace == said.namespace)
                && (said.group.is_empty() || id.kind.is_of(&said.group))
        };
        let mut found: Vec<_> = snapshot
            .written()
            .iter()
            .map(|manifest| manifest.object.id())
            .filter(is_it)
            .collect();
        match (found.pop(), found.pop()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(Status::invalid_argument(format!(
                "there is no {}/{} to delete{}",
                said.kind,
                said.name,
                if said.namespace.is_empty() {
                    String::new()
                } else {
                    format!(" in namespace {}", said.namespace)
                }
            ))),
            (Some(one), Some(other)) => Err(Status::invalid_argument(format!(
                "{}/{} is {one} of {} and {other} of {}: name its namespace, or its group as {}.{}/{}",
                said.kind,
                said.name,
                one.kind.group(),
                other.kind.group(),
                said.kind,
                one.kind.group(),
                said.name
            ))),
        }
    };
    asked.iter().map(one).collect()
}

/// What every proxy saw.
async fn traffic(
    sight: &Sight,
    snapshot: &Snapshot,
    within: Duration,
    answer: &mut v1::PolicyDiffResponse,
) -> Vec<(Arc<Pod>, v1::TrafficResponse)> {
    let pods = snapshot.pods().filter(|pod| dump::is_meshed(sight, snapshot, pod));
    let redaction = &watch::redaction(sight, snapshot);
    let asked = pods.map(|pod| async move {
        let said = match sight.proxies.connect(&sight.config, pod).await {
            Ok(mut proxy) => proxy.traffic(within, redaction.clone()).await,
            Err(why) => Err(why),
        };
        (Arc::clone(pod), said)
    });
    let mut heard = Vec::new();
    for (pod, said) in futures::future::join_all(asked).await {
        match said {
            Ok(traffic) => {
                answer.proxies += 1;
                heard.push((pod, traffic));
            }
            Err(why) => answer.notes.push(format!(
                "the traffic of {}/{} is not part of this: {why}",
                pod.metadata.namespace, pod.metadata.name
            )),
        }
    }
    heard
}

/// Requests that are treated otherwise, and alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    kind: &'static str,
    direction: String,
    workload: String,
    target: String,
    client: String,
    before: String,
    after: String,
}

#[derive(Default)]
struct Count {
    requests: u64,
    examples: Vec<String>,
}

impl Group {
    fn message(self, count: Count) -> v1::PolicyChange {
        v1::PolicyChange {
            kind: self.kind.to_owned(),
            direction: self.direction,
            workload: self.workload,
            target: self.target,
            client: self.client,
            before: self.before,
            after: self.after,
            requests: count.requests,
            examples: count.examples,
        }
    }
}

/// A request that a proxy noted.
struct Sampled<'a> {
    sample: &'a v1::TrafficSample,
    request: &'a v1::RequestHead,
    /// Nobody may see which request it is; what becomes of such is counted.
    is_hidden: bool,
}

/// Samples, decided twice.
struct Replay {
    before: Decider,
    after: Decider,
    /// Now: a change that would show a workload shows nothing yet.
    hidden: Arc<Hidden>,
    changes: BTreeMap<Group, Count>,
}

impl Replay {
    async fn sample(&mut self, snapshot: &Snapshot, pod: &Arc<Pod>, sample: &v1::TrafficSample) -> Result<(), Status> {
        // What a proxy sampled has an address and a request; one of another version may say less.
        let (Ok(address), Some(request)) = (sample.address.parse::<SocketAddr>(), &sample.request) else {
            return Ok(());
        };
        let own = (pod.metadata.namespace.as_str(), pod.metadata.name.as_str());
        let sampled = Sampled {
            sample,
            request,
            is_hidden: self.hidden.hides_sample(own, sample),
        };
        let (before, after) = if sample.direction == "inbound" {
            let before = self.before.inbound(pod, address.port(), &sampled).await?;
            (before, self.after.inbound(pod, address.port(), &sampled).await?)
        } else {
            let before = self.before.outbound(pod, address, &sampled).await?;
            (before, self.after.outbound(pod, address, &sampled).await?)
        };
        let Some(kind) = kind_of(&before, &after) else {
            return Ok(());
        };
        let group = Group {
            kind,
            direction: sample.direction.clone(),
            workload: format!("{}/{}", pod.metadata.namespace, dump::workload(snapshot, pod)),
            target: target(snapshot, sample, address),
            client: client(sample),
            before: told(&before, &after),
            after: told(&after, &before),
        };
        let count = self.changes.entry(group).or_default();
        count.requests += sample.weight;
        if sampled.is_hidden {
            return Ok(());
        }
        let example = format!("{} {}", request.method, request.path);
        if count.examples.len() < EXAMPLES && !count.examples.contains(&example) {
            count.examples.push(example);
        }
        Ok(())
    }
}

fn target(snapshot: &Snapshot, sample: &v1::TrafficSample, address: SocketAddr) -> String {
    if sample.direction == "inbound" {
        return format!(":{}", address.port());
    }
    match snapshot.find_service_at(address.ip()) {
        Some(service) => format!(
            "{}.{}:{}",
            service.metadata.name,
            service.metadata.namespace,
            address.port()
        ),
        None => address.to_string(),
    }
}

fn client(sample: &v1::TrafficSample) -> String {
    if sample.direction != "inbound" {
        String::new()
    } else if sample.client_identity.is_empty() {
        sample.client_address.clone()
    } else {
        words::identity(&sample.client_identity)
    }
}

impl Sampled<'_> {
    /// An explanation as far as it may be shown: why no rule takes a request is told by its method and path.
    fn shown(&self, mut explanation: Explanation) -> Explanation {
        if self.is_hidden {
            let of_head = |decision: &&mut explain::Decision| matches!(decision.stage, Stage::Route | Stage::Rule);
            for decision in explanation.decisions.iter_mut().filter(of_head) {
                HIDDEN.clone_into(&mut decision.why);
                decision.losers.clear();
            }
        }
        explanation
    }
}

/// What became of a sample.
struct Decided {
    outcome: Outcome,
    /// Where it may go and by which route, or what lets it in or ends it: for whoever reads it.
    place: String,
    /// Where it may go; empty of what comes in, as who lets it in does not matter to a request.
    to: String,
    /// Everything else that is done to it.
    rest: String,
}

impl Decided {
    fn of(explanation: &Explanation, place: String, to: String) -> Self {
        let rest = [Stage::Filter, Stage::Timeout, Stage::Retry, Stage::Limit];
        let done = explanation
            .decisions
            .iter()
            .filter(|decision| rest.contains(&decision.stage))
            .map(|decision| decision.choice.as_str());
        Self {
            outcome: explanation.outcome,
            place,
            to,
            rest: done.collect::<Vec<_>>().join("; "),
        }
    }

    /// What the mesh does not know is forwarded as it is.
    fn as_it_is(address: SocketAddr) -> Self {
        Self {
            outcome: Outcome::Forwarded,
            place: format!("{address}, as it is"),
            to: address.to_string(),
            rest: String::new(),
        }
    }
}

/// In which way a sample would be treated otherwise; none where it would not.
fn kind_of(before: &Decided, after: &Decided) -> Option<&'static str> {
    use Outcome::{Answered, Denied, Forwarded, Limited, Redirected, Refused};
    match (before.outcome, after.outcome) {
        (old, new) if old != new => Some(match new {
            Denied => "denied",
            Refused => "refused",
            Redirected => "redirected",
            Answered => "answered",
            Limited => "limited",
            Forwarded => "allowed",
        }),
        (Forwarded, _) if before.to != after.to => Some("routed"),
        _ if before.rest != after.rest => Some("changed"),
        _ => None,
    }
}

/// One of two sides in words, beside what the other says.
fn told(this: &Decided, other: &Decided) -> String {
    let outcome = match this.outcome {
        Outcome::Forwarded => this.place.clone(),
        outcome => format!("{}: {}", outcome.as_str(), this.place),
    };
    if this.rest != other.rest && !this.rest.is_empty() {
        format!("{outcome}; {}", this.rest)
    } else {
        outcome
    }
}

/// Decides samples by one snapshot. Policies are compiled once for each workload and destination.
struct Decider {
    view: View,
    outbound: HashMap<(String, String, SocketAddr), Option<Arc<OutboundPolicy>>>,
    inbound: HashMap<(String, String, u16), Arc<InboundPolicy>>,
}

impl Decider {
    fn new(view: View) -> Self {
        Self {
            view,
            outbound: HashMap::new(),
            inbound: HashMap::new(),
        }
    }

    async fn outbound(&mut self, pod: &Pod, address: SocketAddr, sampled: &Sampled<'_>) -> Result<Decided, Status> {
        let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        let key = (namespace, name, address);
        let policy = match self.outbound.get(&key) {
            Some(known) => known.clone(),
            None => {
                let policy = self.view.outbound(pod, address).await?.map(Arc::new);
                self.outbound.insert(key, policy.clone());
                policy
            }
        };
        let Some(policy) = policy else {
            return Ok(Decided::as_it_is(address));
        };
        let head = wire::request(sampled.request).map_err(Status::invalid_argument)?;
        let traffic = match sampled.sample.protocol.as_str() {
            "http/1" => Traffic::Http1(head.view()),
            _ => Traffic::Http2(head.view()),
        };
        let explanation = sampled.shown(explain::outbound::explain(&policy, &traffic).explanation);
        let to = backend(&explanation);
        let place = format!("{to}{}", by_route(&explanation));
        Ok(Decided::of(&explanation, place, to))
    }

    async fn inbound(&mut self, pod: &Pod, port: u16, sampled: &Sampled<'_>) -> Result<Decided, Status> {
        let key = (pod.metadata.namespace.clone(), pod.metadata.name.clone(), port);
        let policy = match self.inbound.get(&key) {
            Some(known) => Arc::clone(known),
            None => {
                let policy = Arc::new(self.view.inbound(pod, port).await?);
                self.inbound.insert(key, Arc::clone(&policy));
                policy
            }
        };
        let head = wire::request(sampled.request).map_err(Status::invalid_argument)?;
        let sample = sampled.sample;
        let names: Vec<&str> = std::iter::once(sample.client_identity.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        let client = Client {
            address: sample.client_address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])),
            meshed: !names.is_empty(),
            identities: &names,
        };
        let explanation = sampled.shown(explain::inbound::explain(&policy, port, &client, Some(&head.view())));
        let place = admission(&explanation);
        Ok(Decided::of(&explanation, place, String::new()))
    }
}

/// The backends with their shares, or what ends the request.
fn backend(explanation: &Explanation) -> String {
    let Some(backend) = last(explanation, Stage::Backend) else {
        let last = explanation.decisions.last();
        return last.map_or_else(String::new, |last| format!("{} ({})", last.choice, last.why));
    };
    let others = backend
        .losers
        .iter()
        .map(|loser| format!(", {} ({})", loser.choice, loser.why));
    let share = if backend.losers.is_empty() {
        String::new()
    } else {
        format!(" ({})", backend.why)
    };
    format!("{}{share}{}", backend.choice, others.collect::<String>())
}

/// The route that sends a request to a backend, as ` by HTTPRoute bank/canary`.
fn by_route(explanation: &Explanation) -> String {
    let route = last(explanation, Stage::Backend).and(last(explanation, Stage::Route));
    route
        .and_then(|route| route.object.as_ref())
        .map_or_else(String::new, |route| format!(" by {route}"))
}

fn last(explanation: &Explanation, stage: Stage) -> Option<&explain::Decision> {
    explanation.decisions.iter().rev().find(|one| one.stage == stage)
}

/// Who lets it in, or who does not.
fn admission(explanation: &Explanation) -> String {
    let policy = explanation.decisions.iter().find(|one| one.stage == Stage::Policy);
    let decision = policy.or(explanation.decisions.last());
    decision.map_or_else(String::new, |one| match explanation.outcome {
        Outcome::Forwarded | Outcome::Limited => one.choice.clone(),
        _ => one.why.clone(),
    })
}

#[cfg(test)]
mod tests;
