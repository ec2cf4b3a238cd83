//! `Stats.Edges`: who talks to whom.
//!
//! An edge has the numbers of the client's proxy. What comes from where there is none has those of the server's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sheer_api::v1::{self, series_key::Direction};
use tonic::Status;

use super::{
    Windows,
    resolve::Place,
    row::{PROTOCOLS, Party, Row},
    select::{Selector, named},
    time::Span,
    totals::{Part, Scratch, Totals},
};
use crate::{config::MeshConfig, ports, store::Snapshot};

const DEFAULT_WINDOW_MS: i64 = 600_000;

/// What makes an edge one of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EdgeKey {
    source: Party,
    destination: Party,
    service: Option<(Party, u16)>,
    tls: v1::Tls,
    source_identity: Arc<str>,
    destination_identity: Arc<str>,
}

#[derive(Debug, Default)]
struct Found {
    totals: Totals,
    protocols: BTreeSet<usize>,
    last_ms: i64,
}

/// Answers a question.
pub(super) fn edges(
    windows: &Windows,
    snapshot: &Snapshot,
    config: &MeshConfig,
    request: &v1::EdgesRequest,
) -> Result<v1::EdgesResponse, Status> {
    let selector = |message: &Option<v1::Selector>| message.as_ref().map(Selector::of).transpose();
    let (what, from, to) = (
        selector(&request.what)?,
        selector(&request.from)?,
        selector(&request.to)?,
    );
    let span = windows.span(request.window_ms, DEFAULT_WINDOW_MS);
    let (mut seen_by_clients, mut seen_by_servers) = (BTreeMap::new(), BTreeMap::new());
    let mut scratch = Scratch::default();
    for source in windows.sources() {
        let source = source.lock();
        for row in source.rows() {
            let Some(key) = key(&source.place, &source.reporter.identity, row) else {
                continue;
            };
            let is_meant = |selector: &Option<Selector>, party: &Party, of_row: bool| {
                selector.as_ref().is_none_or(|selector| {
                    // A pod is one side of its own rows only: the other side is known by its workload.
                    selector.means(party) || of_row && selector.means_place(&source.place)
                })
            };
            let outbound = row.key.direction == Direction::Outbound;
            let either = is_meant(&what, &key.source, outbound) || is_meant(&what, &key.destination, !outbound);
            if !either || !is_meant(&from, &key.source, outbound) || !is_meant(&to, &key.destination, !outbound) {
                continue;
            }
            let mut totals = Totals::default();
            if !totals.add_row(row, &span, Part::All, &mut scratch) {
                continue;
            }
            let edges = if outbound {
                &mut seen_by_clients
            } else {
                &mut seen_by_servers
            };
            let found: &mut Found = edges.entry(key).or_default();
            found.totals.add(&totals);
            found.last_ms = found.last_ms.max(row.last_ms);
            let spoken = row
                .protocols()
                .filter_map(|spoken| PROTOCOLS.iter().position(|name| *name == spoken));
            found.protocols.extend(spoken);
        }
    }
    // A client with a proxy tells of what its proxy sees. What bypasses it is known by the server alone.
    let told: BTreeSet<_> = seen_by_clients
        .keys()
        .map(|key| (key.source.clone(), key.destination.clone(), key.tls))
        .collect();
    seen_by_servers.retain(|key, _| {
        key.tls != v1::Tls::Mutual && !told.contains(&(key.source.clone(), key.destination.clone(), key.tls))
    });
    let of = |edges: BTreeMap<EdgeKey, Found>, seen_by: Direction| {
        let edge = |(key, found): (EdgeKey, Found)| message(snapshot, config, key, &found, (seen_by, &span));
        edges.into_iter().map(edge).collect::<Vec<_>>()
    };
    let mut all = of(seen_by_clients, Direction::Outbound);
    all.extend(of(seen_by_servers, Direction::Inbound));
    all.sort_by_key(|edge| {
        edge.source
            .clone()
            .map(|source| (source.namespace, source.kind, source.name))
    });
    Ok(v1::EdgesResponse {
        edges: all,
        window: Some(span.message()),
    })
}

/// The edge that a row belongs to; none for routes, and for requests that got to nobody.
fn key(place: &Place, identity: &str, row: &Row) -> Option<EdgeKey> {
    if row.key.route.is_some() {
        return None;
    }
    let peer = row.key.peer.clone()?;
    let is_mutual = row.key.tls == v1::Tls::Mutual;
    let own: Arc<str> = if is_mutual { identity.into() } else { "".into() };
    let key = match row.key.direction {
        Direction::Outbound => EdgeKey {
            source: place.party(),
            destination: peer,
            service: row.key.service.clone(),
            tls: row.key.tls,
            source_identity: own,
            destination_identity: Arc::clone(&row.key.identity),
        },
        Direction::Inbound | Direction::Unspecified => EdgeKey {
            source: peer,
            destination: place.party(),
            service: None,
            tls: row.key.tls,
            source_identity: Arc::clone(&row.key.identity),
            destination_identity: own,
        },
    };
    Some(key)
}

fn message(
    snapshot: &Snapshot,
    config: &MeshConfig,
    key: EdgeKey,
    found: &Found,
    (seen_by, span): (Direction, &Span),
) -> v1::Edge {
    let why_plain = if key.tls == v1::Tls::Mutual {
        String::new()
    } else {
        why_plain(snapshot, config, &key, seen_by)
    };
    v1::Edge {
        source: Some(key.source.message()),
        destination: Some(key.destination.message()),
        service: key.service.map(|(service, port)| named(&service, &port.to_string())),
        source_identity: key.source_identity.to_string(),
        destination_identity: key.destination_identity.to_string(),
        tls: key.tls.into(),
        why_plain,
        protocols: found
            .protocols
            .iter()
            .map(|place| PROTOCOLS[*place].to_owned())
            .collect(),
        last_seen_ms: found.last_ms,
        traffic: Some(found.totals.message(span.known_ms())),
        seen_by: seen_by.into(),
    }
}

/// Why there is no mutual TLS, as far as it can be told.
fn why_plain(snapshot: &Snapshot, config: &MeshConfig, key: &EdgeKey, seen_by: Direction) -> String {
    if key.tls == v1::Tls::Opaque {
        return "TLS of the application, passed through".to_owned();
    }
    let other = if seen_by == Direction::Outbound {
        &key.destination
    } else {
        &key.source
    };
    match other.kind {
        "address" | "host" | "egress" => "outside of the mesh".to_owned(),
        "deploy" | "sts" | "pod" => {
            let has_sidecar = snapshot.pods().any(|pod| {
                let place = Place::of(snapshot, &pod.metadata.namespace, &pod.metadata.name);
                place.party() == *other && ports::is_meshed(snapshot, pod, 0, &config.control_namespace)
            });
            match (has_sidecar, seen_by) {
                (false, _) => format!("{} has no sidecar", other.name),
                (true, Direction::Outbound) => "the port is skipped by the sidecar there".to_owned(),
                (true, _) => "the client's sidecar was bypassed".to_owned(),
            }
        }
        _ => String::new(),
    }
}
