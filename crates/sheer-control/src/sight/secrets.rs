//! What a capture needs of proxies: the secrets of TLS sessions, and sessions that begin while it looks.
//!
//! Each use is in the control plane's log, with the target `audit`. A workload or namespace with `sheer.dev/sight: disabled` is never shown.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use sheer_api::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Sight, connect::Proxies, dump::is_meshed, resolve};
use crate::{
    config::MeshConfig,
    objects::{Pod, annotation},
    store::Snapshot,
};

/// Secrets that wait for the command line; proxies hold what comes beyond, and count what they lose.
const WAITING: usize = 256;

/// Secrets of all proxies of a workload, as they come.
pub(crate) type Secrets = Pin<Box<dyn Stream<Item = Result<v1::WorkloadSecret, Status>> + Send>>;

pub(super) fn watch(sight: &Sight, asked: &v1::WatchSecretsRequest) -> Result<Secrets, Status> {
    let pods = visible(sight, &asked.workload, &asked.namespace)?;
    tracing::info!(target: "audit", right = "capture", workload = asked.workload, pods = pods.len(), "secrets of TLS sessions are watched");
    let (sender, receiver) = mpsc::channel(WAITING);
    for pod in pods {
        let (proxies, config, sender) = (Arc::clone(&sight.proxies), Arc::clone(&sight.config), sender.clone());
        tokio::spawn(async move {
            let gone = sender.clone();
            tokio::select! {
                biased; // nobody is asked for whom nobody listens
                () = gone.closed() => {}
                () = follow(&proxies, &config, &pod, sender) => {}
            }
        });
    }
    let stream = futures::stream::unfold(receiver, async |mut receiver| {
        Some((Ok(receiver.recv().await?), receiver))
    });
    Ok(Box::pin(stream))
}

/// Passes on what the proxy of a pod tells, to the end.
async fn follow(proxies: &Proxies, config: &MeshConfig, pod: &Pod, sender: mpsc::Sender<v1::WorkloadSecret>) {
    let tell = async |secret, error| {
        let message = v1::WorkloadSecret {
            pod: pod.metadata.name.clone(),
            secret,
            error,
        };
        sender.send(message).await.is_ok()
    };
    let opened = async { proxies.connect(config, pod).await?.secrets().await }.await;
    let mut secrets = match opened {
        Ok(secrets) => secrets,
        Err(why) => {
            tell(None, why).await;
            return;
        }
    };
    let why = loop {
        match secrets.message().await {
            Ok(Some(secret)) => {
                if !tell(Some(secret), String::new()).await {
                    return;
                }
            }
            Ok(None) => break "its proxy has ended".to_owned(),
            Err(status) => break format!("its proxy has ended: {}", status.message()),
        }
    };
    tell(None, why).await;
}

pub(super) async fn renew(sight: &Sight, asked: v1::RenewRequest) -> Result<v1::RenewResponse, Status> {
    let pods = visible(sight, &asked.workload, &asked.namespace)?;
    tracing::info!(target: "audit", right = "capture", workload = asked.workload, pods = pods.len(), "connections are replaced");
    let proxies = pods.iter().map(async |pod| {
        let renewed = async {
            sight
                .proxies
                .connect(&sight.config, pod)
                .await?
                .renew_connections()
                .await
        }
        .await;
        let (renewed, error) = match renewed {
            Ok(renewed) => (renewed, String::new()),
            Err(why) => (v1::RenewConnectionsResponse::default(), why),
        };
        v1::RenewedProxy {
            pod: pod.metadata.name.clone(),
            opened: renewed.opened,
            accepted: renewed.accepted,
            error,
        }
    });
    Ok(v1::RenewResponse {
        proxies: futures::future::join_all(proxies).await,
    })
}

/// The pods with a sidecar that a reference means, where they may be looked into.
fn visible(sight: &Sight, workload: &str, namespace: &str) -> Result<Vec<Arc<Pod>>, Status> {
    let snapshot = sight.snapshot();
    let pods = resolve::pods(&snapshot, workload, namespace)?;
    if let Some(place) = pods.iter().find_map(|pod| hidden(&snapshot, pod)) {
        return Err(Status::permission_denied(format!(
            "{place} has sheer.dev/sight: disabled, so nobody looks into {workload}; the annotation wins over every right"
        )));
    }
    Ok(pods
        .into_iter()
        .filter(|pod| is_meshed(sight, &snapshot, pod))
        .collect())
}

/// What hides a pod, where something does: its own annotation or its namespace's.
fn hidden(snapshot: &Snapshot, pod: &Pod) -> Option<String> {
    let disabled = |annotations| annotation(annotations, "", "sight") == Some("disabled");
    let meta = &pod.metadata;
    if disabled(&meta.annotations) {
        return Some(format!("pod {}/{}", meta.namespace, meta.name));
    }
    let namespace = snapshot.find_namespace(&meta.namespace)?;
    disabled(&namespace.metadata.annotations).then(|| format!("namespace {}", meta.namespace))
}
