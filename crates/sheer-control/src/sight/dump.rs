//! What proxies hold, one after another's answer.

use std::sync::Arc;

use sheer_api::v1;
use tonic::Status;

use super::{Sight, resolve};
use crate::{
    objects::{Kind, Pod},
    ports,
    store::Snapshot,
};

pub(super) async fn dump(sight: &Sight, asked: v1::ConfigDumpRequest) -> Result<v1::ConfigDumpResponse, Status> {
    let snapshot = sight.snapshot();
    let pods = if asked.workload.is_empty() {
        let of_namespace = |pod: &&Arc<Pod>| {
            (asked.namespace.is_empty() || pod.metadata.namespace == asked.namespace)
                && is_meshed(sight, &snapshot, pod)
        };
        snapshot.pods().filter(of_namespace).cloned().collect()
    } else {
        resolve::pods(&snapshot, &asked.workload, &asked.namespace)?
    };
    let proxies = pods.iter().map(|pod| one(sight, &snapshot, pod));
    Ok(v1::ConfigDumpResponse {
        proxies: futures::future::join_all(proxies).await,
    })
}

async fn one(sight: &Sight, snapshot: &Snapshot, pod: &Pod) -> v1::ProxyDump {
    let answer = if is_meshed(sight, snapshot, pod) {
        match sight.proxies.connect(&sight.config, pod).await {
            Ok(mut proxy) => proxy.state().await,
            Err(why) => Err(why),
        }
    } else {
        Err("it has no sidecar".to_owned())
    };
    let (state, error) = match answer {
        Ok(state) => (Some(state), String::new()),
        Err(why) => (None, why),
    };
    v1::ProxyDump {
        namespace: pod.metadata.namespace.clone(),
        pod: pod.metadata.name.clone(),
        workload: workload(snapshot, pod),
        state,
        error,
    }
}

/// Whether a pod has a sidecar.
pub(super) fn is_meshed(sight: &Sight, snapshot: &Snapshot, pod: &Pod) -> bool {
    // No port of a workload: only the sidecar itself is asked after.
    ports::is_meshed(snapshot, pod, 0, &sight.config.control_namespace)
}

/// What made a pod, as `deploy/web`; the pod itself where nothing did.
pub(super) fn workload(snapshot: &Snapshot, pod: &Pod) -> String {
    match snapshot.owner_of(pod) {
        Some((Kind::StatefulSet, name)) => format!("sts/{name}"),
        Some((_, name)) => format!("deploy/{name}"),
        None => format!("pod/{}", pod.metadata.name),
    }
}
