//! `Stats.Stat`: each resource with what happened to it in a time.

use std::collections::BTreeMap;

use sheer_api::v1::{self, series_key::Direction};
use tonic::Status;

use super::{
    Windows,
    select::{Question, is_workload},
    time::Span,
    totals::{Scratch, Totals},
};
use crate::{config::MeshConfig, ports, store::Snapshot};

/// Asked for without a window.
pub(super) const DEFAULT_WINDOW_MS: i64 = 60_000;

/// Namespace, kind, name and part: the order of answers.
pub(super) type ResourceKey = (String, String, String, String);

pub(super) fn key_of(resource: &v1::Resource) -> ResourceKey {
    let v1::Resource {
        kind,
        namespace,
        name,
        part,
    } = resource.clone();
    (namespace, kind, name, part)
}

/// What happened to a resource on either side.
#[derive(Debug, Default)]
struct Sides {
    inbound: Totals,
    outbound: Totals,
}

/// Whether the question can be answered.
pub(super) fn check(request: &v1::StatRequest) -> Result<(), Status> {
    Question::new(request.what.as_ref(), request.from.as_ref(), request.to.as_ref()).map(drop)
}

/// Answers a question.
pub(super) fn stat(
    windows: &Windows,
    snapshot: &Snapshot,
    config: &MeshConfig,
    request: &v1::StatRequest,
) -> Result<v1::StatResponse, Status> {
    let question = Question::new(request.what.as_ref(), request.from.as_ref(), request.to.as_ref())?;
    let span = windows.span(request.window_ms, DEFAULT_WINDOW_MS);
    let mut found: BTreeMap<ResourceKey, Sides> = BTreeMap::new();
    if !request.only_active {
        for resource in question.all(snapshot) {
            found.entry(key_of(&resource)).or_default();
        }
    }
    let (mut reporting, mut scratch) = (std::collections::HashSet::new(), Scratch::default());
    for source in windows.sources() {
        let source = source.lock();
        if source.streams > 0 {
            reporting.insert((source.place.namespace.clone(), source.place.pod.clone()));
        }
        for row in source.rows() {
            let Some(counted) = question.count(&source.place, row) else {
                continue;
            };
            let mut totals = Totals::default();
            if !totals.add_row(row, &span, counted.part, &mut scratch) {
                continue;
            }
            let sides = found.entry(key_of(&counted.resource)).or_default();
            let side = match counted.direction {
                Direction::Outbound => &mut sides.outbound,
                Direction::Inbound | Direction::Unspecified => &mut sides.inbound,
            };
            side.add(&totals);
        }
    }
    if found.is_empty() && !request.only_active {
        question.what.found_nothing()?;
    }
    let stats = found.into_iter().filter_map(|(key, sides)| {
        let direction = if question.is_of_clients() || sides.inbound.is_silent() && !sides.outbound.is_silent() {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        // With `from`, servers of clients without a proxy tell what arrived.
        let from_servers = direction == Direction::Outbound && sides.outbound.is_silent() && !sides.inbound.is_silent();
        let direction = if from_servers { Direction::Inbound } else { direction };
        let totals = if direction == Direction::Outbound {
            sides.outbound
        } else {
            sides.inbound
        };
        if request.only_active && totals.is_silent() {
            return None;
        }
        Some(one((snapshot, config), key, direction, &totals, &span))
    });
    Ok(v1::StatResponse {
        stats: stats.collect(),
        window: Some(span.message()),
        notes: notes(snapshot, config, &question, &reporting),
    })
}

fn one(
    (snapshot, config): (&Snapshot, &MeshConfig),
    (namespace, kind, name, part): ResourceKey,
    direction: Direction,
    totals: &Totals,
    span: &Span,
) -> v1::Stat {
    let mut stat = v1::Stat {
        direction: direction.into(),
        traffic: Some(totals.message(span.known_ms())),
        ..v1::Stat::default()
    };
    for pod in pods_of(snapshot, &kind, &namespace, &name) {
        stat.pods += 1;
        stat.pods_ready += u32::from(pod.is_ready());
        stat.pods_meshed += u32::from(ports::is_meshed(snapshot, pod, 0, &config.control_namespace));
    }
    stat.resource = Some(v1::Resource {
        kind,
        namespace,
        name,
        part,
    });
    stat
}

/// The pods behind a resource.
fn pods_of<'a>(
    snapshot: &'a Snapshot,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Box<dyn Iterator<Item = &'a crate::objects::Pod> + 'a> {
    if kind == "svc" {
        let service = snapshot.find_service(namespace, name);
        let pods = service.map_or(&[][..], |service| snapshot.pods_of(service));
        return Box::new(pods.iter().map(|pod| &**pod));
    }
    let is_of = move |pod: &&std::sync::Arc<crate::objects::Pod>| {
        let of_namespace = pod.metadata.namespace == namespace;
        match kind {
            "ns" => pod.metadata.namespace == name,
            "pod" => of_namespace && pod.metadata.name == name,
            _ => {
                let owner = snapshot.owner_of(pod);
                of_namespace && owner.is_some_and(|(of, owner)| owner == name && is_workload(kind, *of))
            }
        }
    };
    Box::new(snapshot.pods().filter(is_of).map(|pod| &**pod))
}

/// Pods whose numbers are missing.
fn notes(
    snapshot: &Snapshot,
    config: &MeshConfig,
    question: &Question,
    reporting: &std::collections::HashSet<(String, String)>,
) -> Vec<String> {
    let silent = snapshot.pods().filter(|pod| {
        let place = super::resolve::Place::of(snapshot, &pod.metadata.namespace, &pod.metadata.name);
        question.what.means_place(&place)
            && pod.is_ready()
            && ports::is_meshed(snapshot, pod, 0, &config.control_namespace)
            && !reporting.contains(&(place.namespace, place.pod))
    });
    let mut names: Vec<_> = silent
        .map(|pod| format!("{}/{}", pod.metadata.namespace, pod.metadata.name))
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let more = names.len().saturating_sub(5);
    names.truncate(5);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    vec![format!(
        "the proxies of {}{more} do not report: their numbers are missing. A linkerd2-proxy reports nothing; a sheer-proxy connects again by itself",
        names.join(", ")
    )]
}
