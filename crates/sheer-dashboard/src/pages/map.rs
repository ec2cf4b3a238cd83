//! The map: workloads and who calls whom, with the peers outside of the mesh.

use std::collections::BTreeMap;

use serde::Serialize;
use sheer_api::v1::selector::Kind;
use sheer_api::v1::series_key::Direction;
use sheer_api::v1::{Edge, EdgesRequest, Stat, StatRequest, Tls, Traffic};

use super::{Sources, Span};
use crate::numbers::{self, Numbers};
use crate::problem::Problem;
use crate::query::Query;
use crate::resource::Id;

/// Who called whom stays on the map for this long, so that a pause does not redraw it.
const REMEMBERED_MS: u64 = 600_000;

#[derive(Debug, Serialize)]
pub(super) struct Map {
    window: Span,
    /// By id.
    nodes: Vec<Node>,
    /// By source and destination.
    edges: Vec<Arrow>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Node {
    id: Id,
    namespace: String,
    kind: String,
    name: String,
    pods: u32,
    ready: u32,
    meshed: u32,
    /// Not a workload of the mesh's.
    outside: bool,
    /// "in" for what arrived, "out" for what was sent.
    direction: &'static str,
    numbers: Numbers,
}

#[derive(Debug, Serialize)]
pub(super) struct Arrow {
    source: Id,
    destination: Id,
    /// Services that the client addressed, as "bank/ledger:8080".
    services: Vec<String>,
    source_identity: String,
    destination_identity: String,
    /// "mutual", "opaque", "plain", "loopback", "mixed" or "unknown".
    tls: &'static str,
    why_plain: Vec<String>,
    protocols: Vec<String>,
    last_seen_ms: i64,
    /// Nothing happened within the window.
    idle: bool,
    numbers: Numbers,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Map, Problem> {
    let window_ms = query.window_ms()?;
    let stat = sources.control.stat(StatRequest {
        what: query.every(Kind::Workload),
        window_ms,
        ..StatRequest::default()
    });
    let edges = |window_ms| {
        sources.control.edges(EdgesRequest {
            what: query.every(Kind::Workload).filter(|what| !what.namespace.is_empty()),
            window_ms,
            ..EdgesRequest::default()
        })
    };
    let (stat, now, remembered) = tokio::try_join!(stat, edges(window_ms), edges(window_ms.max(REMEMBERED_MS)))?;
    let arrows = arrows(&now.edges, &remembered.edges);
    Ok(Map {
        window: Span::of(stat.window),
        nodes: nodes(&stat.stats, &arrows),
        edges: arrows,
        notes: stat.notes,
    })
}

/// One arrow for each two that talk, however many services and protocols lie between.
pub(super) fn arrows(now: &[Edge], remembered: &[Edge]) -> Vec<Arrow> {
    type Parts<'a> = (Vec<&'a Edge>, Vec<&'a Edge>);
    let mut pairs: BTreeMap<(Id, Id), Parts<'_>> = BTreeMap::new();
    let key = |edge: &Edge| (Id::of(edge.source.as_ref()), Id::of(edge.destination.as_ref()));
    for edge in now {
        pairs.entry(key(edge)).or_default().0.push(edge);
    }
    for edge in remembered {
        pairs.entry(key(edge)).or_default().1.push(edge);
    }
    pairs
        .into_iter()
        .map(|(pair, (now, then))| arrow(pair, &now, &then))
        .collect()
}

fn arrow((source, destination): (Id, Id), now: &[&Edge], remembered: &[&Edge]) -> Arrow {
    let known = if remembered.is_empty() { now } else { remembered };
    let total = numbers::sum(now.iter().filter_map(|edge| edge.traffic.as_ref()));
    let numbers = Numbers::of(Some(&total));
    let mut services: Vec<String> = known.iter().filter_map(|edge| service(edge)).collect();
    services.sort_unstable();
    services.dedup();
    let identity = |of: fn(&Edge) -> &str| {
        known
            .iter()
            .map(|edge| of(edge))
            .find(|name| !name.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let mut protocols: Vec<String> = known.iter().flat_map(|edge| edge.protocols.iter().cloned()).collect();
    protocols.sort_unstable();
    protocols.dedup();
    let mut why_plain: Vec<String> = known
        .iter()
        .map(|edge| edge.why_plain.clone())
        .filter(|why| !why.is_empty())
        .collect();
    why_plain.dedup();
    Arrow {
        services,
        source_identity: identity(|edge| &edge.source_identity),
        destination_identity: identity(|edge| &edge.destination_identity),
        tls: tls(known),
        why_plain,
        protocols,
        last_seen_ms: known.iter().map(|edge| edge.last_seen_ms).max().unwrap_or(0),
        idle: is_idle(&total),
        numbers,
        source,
        destination,
    }
}

/// The Service that the client addressed, as "bank/ledger:8080".
pub(super) fn service(edge: &Edge) -> Option<String> {
    let service = edge.service.as_ref().filter(|service| !service.name.is_empty())?;
    let port = if service.part.is_empty() {
        String::new()
    } else {
        format!(":{}", service.part)
    };
    Some(format!("{}/{}{port}", service.namespace, service.name))
}

fn is_idle(traffic: &Traffic) -> bool {
    let tcp = traffic.tcp.unwrap_or_default();
    traffic.requests == 0 && tcp.opened == 0 && tcp.open == 0 && tcp.read_bytes + tcp.written_bytes == 0
}

/// What secures the edges together. An edge between pods that was seen plain once and is mutual now is "mixed" for as long as both are known.
fn tls(edges: &[&Edge]) -> &'static str {
    let name = |edge: &&Edge| match edge.tls() {
        Tls::Unspecified => "unknown",
        Tls::Mutual => "mutual",
        Tls::Opaque => "opaque",
        Tls::Plain => "plain",
        Tls::Loopback => "loopback",
    };
    let mut names = edges.iter().map(name);
    let first = names.next().unwrap_or("unknown");
    if names.all(|name| name == first) {
        first
    } else {
        "mixed"
    }
}

/// Every workload, and every other end of an arrow.
fn nodes(stats: &[Stat], arrows: &[Arrow]) -> Vec<Node> {
    let mut nodes: BTreeMap<Id, Node> = stats.iter().map(node).map(|node| (node.id.clone(), node)).collect();
    for id in arrows.iter().flat_map(|arrow| [&arrow.source, &arrow.destination]) {
        nodes.entry(id.clone()).or_insert_with(|| other(id));
    }
    nodes.into_values().collect()
}

fn node(stat: &Stat) -> Node {
    let id = Id::of(stat.resource.as_ref());
    Node {
        pods: stat.pods,
        ready: stat.pods_ready,
        meshed: stat.pods_meshed,
        direction: if stat.direction() == Direction::Outbound {
            "out"
        } else {
            "in"
        },
        numbers: Numbers::of(stat.traffic.as_ref()),
        ..other(&id)
    }
}

/// What is known by its name alone.
fn other(id: &Id) -> Node {
    Node {
        namespace: id.namespace.clone(),
        kind: id.kind.clone(),
        name: id.name.clone(),
        pods: 0,
        ready: 0,
        meshed: 0,
        outside: id.is_outside(),
        direction: "in",
        numbers: Numbers::default(),
        id: id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use sheer_api::v1::Resource;

    use super::*;

    fn edge(source: &str, destination: &str, service: &str, requests: u64, tls: Tls) -> Edge {
        let deploy = |name: &str| {
            Some(Resource {
                kind: "deploy".to_owned(),
                namespace: "bank".to_owned(),
                name: name.to_owned(),
                part: String::new(),
            })
        };
        let mut addressed = deploy(service);
        addressed.as_mut().unwrap().part = "8080".to_owned();
        Edge {
            source: deploy(source),
            destination: deploy(destination),
            service: addressed,
            tls: tls.into(),
            traffic: Some(Traffic {
                span_ms: 60_000,
                requests,
                successes: requests,
                ..Traffic::default()
            }),
            ..Edge::default()
        }
    }

    #[test]
    fn two_services_between_two_workloads_are_one_arrow() {
        let now = [
            edge("web", "db", "reads", 60, Tls::Mutual),
            edge("web", "db", "writes", 60, Tls::Plain),
        ];
        let arrows = arrows(&now, &now);
        assert_eq!(arrows.len(), 1);
        assert_eq!(arrows[0].services, ["bank/reads:8080", "bank/writes:8080"]);
        assert_eq!(
            (arrows[0].numbers.rps, arrows[0].tls, arrows[0].idle),
            (2.0, "mixed", false)
        );
    }

    #[test]
    fn who_is_silent_stays_on_the_map() {
        let then = [edge("web", "db", "db", 60, Tls::Mutual)];
        let arrows = arrows(&[], &then);
        assert!(arrows[0].idle);
        assert_eq!((arrows[0].tls, arrows[0].numbers.rps), ("mutual", 0.0));
        let nodes = nodes(&[], &arrows);
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["db", "web"]);
    }
}
