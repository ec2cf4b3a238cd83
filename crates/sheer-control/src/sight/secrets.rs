//! What a capture needs of proxies: the secrets of TLS sessions, and sessions that begin while it looks.
//!
//! Each use is in the control plane's log, with the target `audit`. A workload or namespace with `sheer.dev/sight: disabled` is never shown.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use sheer_api::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Sight,
    asker::{Asker, Right},
    connect::Proxies,
    dump::is_meshed,
    resolve,
    watch::{is_hidden, name},
};
use crate::{config::MeshConfig, objects::Pod};

/// Secrets that wait for the command line; proxies hold what comes beyond, and count what they lose.
const WAITING: usize = 256;

/// Secrets of all proxies of a workload, as they come.
pub(crate) type Secrets = Pin<Box<dyn Stream<Item = Result<v1::WorkloadSecret, Status>> + Send>>;

pub(super) fn watch(sight: &Sight, asked: &v1::WatchSecretsRequest, asker: &Asker) -> Result<Secrets, Status> {
    let pods = visible(sight, (&asked.workload, &asked.namespace), asker)?;
    tracing::info!(target: "audit", right = "capture", caller = asker.caller(), workload = asked.workload, pods = pods.len(), "audit: secrets of TLS sessions are watched");
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
    let left = asker.left();
    let end = async move {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    Ok(Box::pin(stream.take_until(Box::pin(end))))
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

pub(super) async fn renew(sight: &Sight, asked: v1::RenewRequest, asker: &Asker) -> Result<v1::RenewResponse, Status> {
    let pods = visible(sight, (&asked.workload, &asked.namespace), asker)?;
    tracing::info!(target: "audit", right = "capture", caller = asker.caller(), workload = asked.workload, pods = pods.len(), "audit: connections are replaced");
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
fn visible(sight: &Sight, (workload, namespace): (&str, &str), asker: &Asker) -> Result<Vec<Arc<Pod>>, Status> {
    let snapshot = sight.snapshot();
    let pods = resolve::pods(&snapshot, workload, namespace)?;
    if let Some(pod) = pods.iter().find(|pod| is_hidden(&snapshot, pod)) {
        return Err(Status::permission_denied(format!(
            "sheer.dev/sight: disabled stands at {}, its workload or its namespace, so nobody looks into {workload}; the annotation wins over every right",
            name(pod)
        )));
    }
    for pod in &pods {
        asker.must(&snapshot, pod, Right::Capture)?;
    }
    Ok(pods
        .into_iter()
        .filter(|pod| is_meshed(sight, &snapshot, pod))
        .collect())
}
