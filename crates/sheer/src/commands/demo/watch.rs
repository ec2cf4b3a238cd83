//! Scrapes every proxy of the mesh at once.

use futures::future::join_all;

use super::rows::{Counters, Snapshot};
use crate::running::{Mesh, Pod};
use crate::scrape::{Direction, Traffic, parse};

/// What all workloads did until now. A proxy that does not answer counts as not ready.
pub(super) async fn snapshot(mesh: &Mesh) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let status = mesh.status().await?;
    for workload in &status.workloads {
        snapshot.workloads.entry(workload.id.name.clone()).or_default().replicas = workload.replicas as usize;
    }
    let pods = mesh.pods_of(status)?;
    let scrapes = join_all(pods.iter().map(|pod| counters(mesh, pod))).await;
    for (pod, counters) in pods.iter().zip(scrapes) {
        let workload = snapshot.workloads.entry(pod.workload_name().to_owned()).or_default();
        if pod.ready && (counters.is_some() || !pod.meshed) {
            workload.ready += 1;
        }
        workload
            .pods
            .extend(counters.map(|counters| (pod.name.clone(), counters)));
    }
    Ok(snapshot)
}

async fn counters(mesh: &Mesh, pod: &Pod) -> Option<Counters> {
    let (_, metrics) = mesh.proxy(pod, "/metrics").await.ok()?;
    let samples = parse(&metrics).ok()?;
    Some(Counters {
        inbound: Traffic::of(&samples, Direction::Inbound),
        outbound: Traffic::of(&samples, Direction::Outbound),
    })
}
