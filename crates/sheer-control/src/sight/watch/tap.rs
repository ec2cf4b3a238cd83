//! Requests as they pass, the views of both proxies joined.
//!
//! The proxies of the workload are tapped. What the other side of each request saw is fetched from its proxy's recorder when the request is over, so that no
//! other proxy is disturbed by requests that nobody looks at.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::stream::{self, BoxStream, StreamExt as _};
use sheer_api::v1::{self, tap_event::Event, tap_line::Line};
use tonic::Status;

use super::{Sight, is_hidden, name, names, peers::Peers, reflect, rights, select, until_revoked};
use crate::{
    objects::Pod,
    sight::{
        asker::{Asker, Right},
        dump, resolve,
    },
    store::Snapshot,
};

/// Requests whose other half is being fetched.
const FETCHED_AT_ONCE: usize = 32;

/// Where the operator wants to see requests go.
#[derive(Clone, Debug, Default)]
struct To {
    /// For the proxies: addresses and names.
    words: Vec<String>,
    /// Pods at whose addresses they must arrive, where the operator named pods.
    pods: Option<HashSet<IpAddr>>,
    /// Pods that stand behind it.
    behind: Vec<Arc<Pod>>,
}

impl To {
    fn words(words: impl IntoIterator<Item = String>) -> Self {
        Self {
            words: words.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// Lines as they come.
pub(in crate::sight) async fn tap(
    sight: &Sight,
    asked: v1::WatchTapRequest,
    asker: &Asker,
) -> Result<BoxStream<'static, Result<v1::TapLine, Status>>, Status> {
    let snapshot = sight.snapshot();
    let mut question = asked.asked.unwrap_or_default();
    let namespace = asked.of.as_ref().map(|of| of.namespace.clone()).unwrap_or_default();
    let pods = select(sight, &snapshot, asked.of, (asker, Right::Tap, "tap"))?;
    let own = pods
        .first()
        .map_or(namespace, |asked| asked.pod.metadata.namespace.clone());
    let to = to(sight, &snapshot, &asked.to, &own)?;
    let mut filter = question.filter.clone().unwrap_or_default();
    filter.to.clone_from(&to.words);
    if !to.words.is_empty() {
        "outbound".clone_into(&mut filter.direction);
    }
    let tapped: HashSet<IpAddr> = pods.iter().flat_map(|asked| asked.pod.addresses()).collect();
    let peers = Peers::new(sight, asker);
    if question.bodies > 0 {
        for one in &pods {
            asker.must(&snapshot, &one.pod, Right::Bodies)?;
        }
        tracing::info!(target: "audit", what = "tap", right = "bodies", caller = asker.caller(), "audit: traffic is looked at");
        let own = reflect::descriptors(sight, &snapshot, (&pods, &to.behind), asker).await;
        question.descriptors.extend(own);
    }
    let share = u32::try_from(pods.len()).unwrap_or(1).max(1);
    let rate = if question.rate == 0 { 100 } else { question.rate };
    let mut streams = Vec::new();
    for asked in pods {
        let pod = asked.pod;
        let question = v1::TapRequest {
            rights: Some(rights(sight, &snapshot, &pod, asker)),
            filter: Some(filter.clone()),
            rate: rate.div_ceil(share),
            ..question.clone()
        };
        let opened = match asked.why_not {
            Some(why) => Err(why),
            None => match sight.proxies.connect(&sight.config, &pod).await {
                Ok(mut proxy) => proxy.tap(question).await,
                Err(why) => Err(why),
            },
        };
        let joiner = Arc::new(Joiner {
            peers: Arc::clone(&peers),
            pod: Arc::clone(&pod),
            own: name(&pod),
            workload: dump::workload(&snapshot, &pod),
            tapped: tapped.clone(),
            to: to.clone(),
        });
        streams.push(match opened {
            Ok(events) => one(joiner, events),
            Err(why) => stream::once(async move { Ok(note(&joiner.own, &why)) }).boxed(),
        });
    }
    Ok(until_revoked(asker, stream::select_all(streams).boxed()))
}

fn to(sight: &Sight, snapshot: &Snapshot, text: &str, namespace: &str) -> Result<To, Status> {
    if text.is_empty() {
        return Ok(To::default());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(To::words([address.to_string()]));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(To::words([ip.to_string()]));
    }
    let (kind, rest) = text.split_once('/').unwrap_or(("svc", text));
    if matches!(kind, "svc" | "service" | "services") {
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, Some(port)),
            _ => (rest, None),
        };
        let service = resolve::service(snapshot, &sight.config, name, namespace)?;
        let of = |ip: IpAddr| match port.and_then(|port| port.parse().ok()) {
            Some(port) => SocketAddr::new(ip, port).to_string(),
            None => ip.to_string(),
        };
        let fqdn = format!(
            "{}.{}.svc.{}",
            service.metadata.name, service.metadata.namespace, sight.config.cluster_domain
        );
        let name = port.map_or_else(|| fqdn.clone(), |port| format!("{fqdn}:{port}"));
        return Ok(To {
            behind: snapshot.pods_of(service).to_vec(),
            ..To::words(service.addresses().into_iter().map(of).chain([name]))
        });
    }
    let pods = resolve::pods(snapshot, text, namespace)?;
    let ips: HashSet<IpAddr> = pods.iter().flat_map(|pod| pod.addresses()).collect();
    // Whoever goes to a pod mostly asks for a service that stands before it.
    let before = snapshot.services().filter(|service| {
        let behind = snapshot.pods_of(service);
        behind
            .iter()
            .any(|behind| pods.iter().any(|pod| name(pod) == name(behind)))
    });
    let addresses = before.flat_map(|service| service.addresses()).map(|ip| ip.to_string());
    Ok(To {
        words: addresses.chain(ips.iter().map(ToString::to_string)).collect(),
        pods: Some(ips),
        behind: pods,
    })
}

/// Makes lines of the events of one proxy.
struct Joiner {
    peers: Arc<Peers>,
    pod: Arc<Pod>,
    own: String,
    workload: String,
    /// Addresses of all pods that are tapped: what one of them sends to another is shown once.
    tapped: HashSet<IpAddr>,
    to: To,
}

fn note(pod: &str, why: &str) -> v1::TapLine {
    v1::TapLine {
        line: Some(Line::Note(format!("{pod}: {why}"))),
    }
}

fn one(joiner: Arc<Joiner>, events: tonic::Streaming<v1::TapEvent>) -> BoxStream<'static, Result<v1::TapLine, Status>> {
    let lines = events
        .map(move |event| {
            let joiner = Arc::clone(&joiner);
            async move {
                match event {
                    Ok(event) => joiner.line(event).await.map(|line| v1::TapLine { line: Some(line) }),
                    Err(status) => Some(note(&joiner.own, status.message())),
                }
            }
        })
        .buffered(FETCHED_AT_ONCE);
    lines.filter_map(|line| futures::future::ready(line.map(Ok))).boxed()
}

/// What the other proxy recorded of a request that passes now: not one from before.
fn other_half(view: v1::ExchangeView) -> Option<v1::TappedRequest> {
    let tapped = view.tapped?;
    Some(v1::TappedRequest { kept: false, ..tapped })
}

impl Joiner {
    async fn line(&self, event: v1::TapEvent) -> Option<Line> {
        let snapshot = self.peers.snapshot();
        if is_hidden(&snapshot, &self.pod) {
            return None;
        }
        match event.event? {
            Event::Request(request) => self.request(&snapshot, request).await.map(Line::Request),
            Event::Connection(connection) => self.connection(&snapshot, connection).map(Line::Connection),
            Event::Body(body) => Some(Line::Body(v1::JoinedBody {
                id: format!("{}/{}", self.pod.metadata.name, body.id),
                body: Some(body),
            })),
            Event::Loss(loss) => Some(Line::Loss(loss)),
            Event::Note(why) => Some(Line::Note(format!("{}: {why}", self.own))),
        }
    }

    async fn request(&self, snapshot: &Snapshot, request: v1::TappedRequest) -> Option<v1::JoinedRequest> {
        let exchange = request.exchange.clone().unwrap_or_default();
        let is_outbound = exchange.direction == "outbound";
        let is_end = request.kind == "end";
        let mut joined = v1::JoinedRequest {
            id: format!("{}/{}", self.pod.metadata.name, exchange.id),
            ..v1::JoinedRequest::default()
        };
        if is_outbound {
            (joined.source, joined.source_workload) = (self.own.clone(), self.workload.clone());
            let upstream = exchange.upstream.as_ref();
            let endpoint = upstream.map_or(request.endpoint.as_str(), |leg| leg.remote.as_str());
            (joined.destination, joined.destination_workload) = self.place(snapshot, endpoint, &request.destination)?;
            if self
                .to
                .pods
                .as_ref()
                .is_some_and(|pods| is_end && !names::is_one_of(pods, endpoint))
            {
                return None;
            }
            if let Some(upstream) = upstream.filter(|_| is_end) {
                joined.inbound = self.peers.inbound_of(upstream, true).await.and_then(other_half);
            }
            joined.outbound = Some(request);
        } else {
            let client = exchange.client.as_ref();
            let address = client.map_or(request.client_address.as_str(), |leg| leg.remote.as_str());
            if names::is_one_of(&self.tapped, address) && request.mutual_tls {
                return None;
            }
            (joined.source, joined.source_workload) = self.place(snapshot, address, address)?;
            (joined.destination, joined.destination_workload) = (self.own.clone(), self.workload.clone());
            if let Some(client) = client.filter(|_| is_end && request.mutual_tls) {
                joined.outbound = self.peers.outbound_of(client, true).await.and_then(other_half);
            }
            joined.inbound = Some(request);
        }
        Some(joined)
    }

    fn connection(&self, snapshot: &Snapshot, connection: v1::TappedConnection) -> Option<v1::JoinedConnection> {
        let mut joined = v1::JoinedConnection {
            id: format!("{}/{}", self.pod.metadata.name, connection.id),
            ..v1::JoinedConnection::default()
        };
        let remote = |leg: &Option<v1::Leg>| leg.as_ref().map_or_else(String::new, |leg| leg.remote.clone());
        if connection.direction == "outbound" {
            let endpoint = remote(&connection.upstream);
            (joined.source, joined.source_workload) = (self.own.clone(), self.workload.clone());
            (joined.destination, joined.destination_workload) =
                self.place(snapshot, &endpoint, &connection.destination)?;
            joined.outbound = Some(connection);
        } else {
            let client = remote(&connection.client);
            if names::is_one_of(&self.tapped, &client) && !connection.client_identity.is_empty() {
                return None;
            }
            (joined.source, joined.source_workload) = self.place(snapshot, &client, &client)?;
            (joined.destination, joined.destination_workload) = (self.own.clone(), self.workload.clone());
            joined.inbound = Some(connection);
        }
        Some(joined)
    }

    /// Who is at an address; by what it is called where that is no pod. None where nobody may look at it.
    fn place(&self, snapshot: &Snapshot, address: &str, called: &str) -> Option<(String, String)> {
        if names::is_hidden_at(snapshot, address) {
            return None;
        }
        let (pod, workload) = names::pod_at(snapshot, address);
        if !pod.is_empty() {
            return Some((pod, workload));
        }
        let called = called.replace(&format!(".svc.{}", self.peers.domain()), "");
        Some((
            if called.is_empty() { address.to_owned() } else { called },
            String::new(),
        ))
    }
}
