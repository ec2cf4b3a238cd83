//! Descriptors for the bodies that a tap may show, from the applications themselves: of each workload that is tapped or talked to, one pod is asked.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use sheer_api::v1;

use super::{Asked, is_hidden, names, rights};
use crate::{
    objects::Pod,
    sight::{
        Sight,
        asker::{Asker, Right},
        dump, resolve,
    },
    store::Snapshot,
};

/// Applications that are asked at most.
const APPLICATIONS: usize = 32;

/// What there is. Applications without reflection are no error: their messages are shown by structure.
pub(super) async fn descriptors(
    sight: &Sight,
    snapshot: &Snapshot,
    (tapped, behind): (&[Asked], &[Arc<Pod>]),
    asker: &Asker,
) -> Vec<Vec<u8>> {
    let mut pods: Vec<Arc<Pod>> = tapped.iter().map(|asked| Arc::clone(&asked.pod)).collect();
    if behind.is_empty() {
        let talks = tapped.iter().map(|asked| talks_to(sight, snapshot, &asked.pod, asker));
        let talks = futures::future::join_all(talks).await;
        // Who talks to nobody yet will talk to a neighbour, as likely as not.
        let is_quiet = tapped.iter().zip(&talks).filter(|(_, talks)| talks.is_empty());
        let quiet: BTreeSet<&str> = is_quiet.map(|(asked, _)| &*asked.pod.metadata.namespace).collect();
        pods.extend(talks.into_iter().flatten());
        let neighbours = |namespace| resolve::pods(snapshot, &format!("ns/{namespace}"), "").unwrap_or_default();
        pods.extend(quiet.into_iter().flat_map(neighbours));
    } else {
        pods.extend(behind.iter().cloned());
    }
    let mut seen = HashSet::new();
    pods.retain(|pod| {
        let workload = (pod.metadata.namespace.clone(), dump::workload(snapshot, pod));
        dump::is_meshed(sight, snapshot, pod)
            && !is_hidden(snapshot, pod)
            && asker.may(snapshot, pod, Right::Bodies)
            && seen.insert(workload)
    });
    pods.truncate(APPLICATIONS);
    let sets = pods.iter().map(|pod| of_pod(sight, snapshot, pod, asker));
    let sets = futures::future::join_all(sets).await.into_iter().flatten();
    let mut sets: Vec<Vec<u8>> = sets.filter(|set| !set.is_empty()).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}

/// Pods that a pod's proxy has connections to.
async fn talks_to(sight: &Sight, snapshot: &Snapshot, pod: &Pod, asker: &Asker) -> Vec<Arc<Pod>> {
    let question = v1::ConnectionsRequest {
        rights: Some(rights(sight, snapshot, asker)),
        peer: "mesh".to_owned(),
        ended: false,
        ..v1::ConnectionsRequest::default()
    };
    let answer = async {
        sight
            .proxies
            .connect(&sight.config, pod)
            .await?
            .connections(question)
            .await
    }
    .await;
    let connections = answer.map_or_else(|_| Vec::new(), |answer| answer.connections);
    let outbound = connections.iter().filter(|connection| !connection.accepted);
    outbound
        .filter_map(|connection| names::find_pod(snapshot, &connection.remote))
        .collect()
}

/// Of every port of a pod's containers.
async fn of_pod(sight: &Sight, snapshot: &Snapshot, pod: &Pod, asker: &Asker) -> Vec<Vec<u8>> {
    let Some(ip) = pod.addresses().first().copied() else {
        return Vec::new();
    };
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let tcp = ports.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
    let asked = tcp.map(|port| of_port(sight, snapshot, pod, (ip, port.container_port), asker));
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn of_port(
    sight: &Sight,
    snapshot: &Snapshot,
    pod: &Pod,
    (ip, port): (IpAddr, u16),
    asker: &Asker,
) -> Option<Vec<u8>> {
    let question = v1::ReflectRequest {
        rights: Some(rights(sight, snapshot, asker)),
        address: SocketAddr::new(ip, port).to_string(),
    };
    let mut proxy = sight.proxies.connect(&sight.config, pod).await.ok()?;
    proxy.reflect(question).await.ok().map(|answer| answer.descriptors)
}
