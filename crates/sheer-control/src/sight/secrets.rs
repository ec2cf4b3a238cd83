//! What a capture needs of proxies: the secrets of TLS sessions, and sessions that begin while it looks.
//!
//! Each use is in the control plane's log, with the target `audit`. A workload or namespace with `sheer.dev/sight: disabled` is never shown: neither by
//! its own proxy, nor at its other end, whose secrets stay and whose packets the command line is told to leave out.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use sheer_api::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Sight,
    asker::{Asker, Right},
    connect::{Proxies, Proxy},
    dump::is_meshed,
    hidden::{Hidden, Latest, is_hidden},
    resolve,
    watch::{disabled, refused},
};
use crate::{config::MeshConfig, objects::Pod, store::Store};

/// Secrets that wait for the command line; proxies hold what comes beyond, and count what they lose.
const WAITING: usize = 256;

/// Secrets of all proxies of a workload, as they come.
pub(crate) type Secrets = Pin<Box<dyn Stream<Item = Result<v1::WorkloadSecret, Status>> + Send>>;

/// How often a proxy is asked which connections must be left out.
const LOOKS: Duration = Duration::from_millis(300);

pub(super) fn watch(sight: &Sight, asked: &v1::WatchSecretsRequest, asker: &Asker) -> Result<Secrets, Status> {
    let pods = visible(sight, (&asked.workload, &asked.namespace), asker)?;
    tracing::info!(target: "audit", right = "capture", caller = asker.caller(), workload = asked.workload, namespace = asked.namespace, pods = pods.len(), secrets = !asked.without_secrets, "audit: packets are captured");
    let (sender, receiver) = mpsc::channel(WAITING);
    let following = Arc::new(Following {
        store: sight.store.clone(),
        latest: Arc::clone(&sight.hidden),
        proxies: Arc::clone(&sight.proxies),
        config: Arc::clone(&sight.config),
        asker: asker.clone(),
    });
    // Without a proxy there is nobody to ask, and what is hidden is hidden all the same.
    let first = following.unseen();
    drop(sender.try_send(v1::WorkloadSecret {
        unseen: Some(first),
        ..v1::WorkloadSecret::default()
    }));
    for pod in pods {
        let (following, sender, secrets) = (Arc::clone(&following), sender.clone(), !asked.without_secrets);
        tokio::spawn(async move {
            let gone = sender.clone();
            let both = async {
                let secrets = async {
                    if secrets {
                        following.secrets(&pod, &sender).await;
                    }
                };
                tokio::join!(secrets, following.look(&pod, &sender));
            };
            tokio::select! {
                biased; // nobody is asked for whom nobody listens
                () = gone.closed() => {}
                () = both => {}
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

/// Asks proxies for a capture.
struct Following {
    store: Store,
    latest: Arc<Latest>,
    proxies: Arc<Proxies>,
    config: Arc<MeshConfig>,
    asker: Asker,
}

impl Following {
    fn hidden(&self) -> Arc<Hidden> {
        self.latest.of(&self.store.latest())
    }

    fn unseen(&self) -> v1::Unseen {
        v1::Unseen {
            addresses: self.hidden().addresses().map(|ip| ip.to_string()).collect(),
            ..v1::Unseen::default()
        }
    }

    /// Passes on what the proxy of a pod tells, to the end; but not of sessions with whom nobody may look at.
    async fn secrets(&self, pod: &Pod, sender: &mpsc::Sender<v1::WorkloadSecret>) {
        let tell = async |secret, error| {
            let message = v1::WorkloadSecret {
                pod: pod.metadata.name.clone(),
                secret,
                error,
                unseen: None,
            };
            sender.send(message).await.is_ok()
        };
        let opened = async { self.proxies.connect(&self.config, pod).await?.secrets().await }.await;
        let mut secrets = match opened {
            Ok(secrets) => secrets,
            Err(why) => {
                tell(None, why).await;
                return;
            }
        };
        let why = loop {
            match secrets.message().await {
                Ok(Some(secret)) if !may_leave(&self.hidden(), &secret) => {}
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

    /// Says, again and again, which of the pod's connections must be left out, as long as anything in the mesh is hidden.
    async fn look(&self, pod: &Pod, sender: &mpsc::Sender<v1::WorkloadSecret>) {
        let mut proxy = None;
        loop {
            let hidden = self.hidden();
            if !hidden.is_nothing() {
                let mut unseen = self.unseen();
                // Of a proxy that does not answer nothing is known, so that all of its application's connections are left out.
                let connections = self.connections(pod, &mut proxy).await.unwrap_or_default();
                sort(&hidden, connections, &mut unseen);
                let message = v1::WorkloadSecret {
                    pod: pod.metadata.name.clone(),
                    unseen: Some(unseen),
                    ..v1::WorkloadSecret::default()
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(LOOKS).await;
        }
    }

    /// All that the proxy of a pod remembers. It is connected to once.
    async fn connections(&self, pod: &Pod, proxy: &mut Option<Proxy>) -> Result<Vec<v1::Connection>, String> {
        let mut asking = match proxy.take() {
            Some(proxy) => proxy,
            None => self.proxies.connect(&self.config, pod).await?,
        };
        let asked = v1::ConnectionsRequest {
            // For this check alone, which shows nothing of them.
            rights: Some(v1::Rights {
                tap: true,
                ..self.asker.rights(v1::Redaction::default())
            }),
            ended: true,
            ..v1::ConnectionsRequest::default()
        };
        let answer = asking.connections(asked).await?;
        *proxy = Some(asking);
        Ok(answer.connections)
    }
}

/// Whether the secret of a session may be shown: where anything is hidden, its other end must be known.
fn may_leave(hidden: &Hidden, secret: &v1::TlsSecret) -> bool {
    hidden.is_nothing() || secret.label.is_empty() || !(secret.remote.is_empty() || hidden.is_at(&secret.remote))
}

/// Which connections of an application may be seen, and which not.
fn sort(hidden: &Hidden, connections: Vec<v1::Connection>, unseen: &mut v1::Unseen) {
    for connection in connections {
        let is_hidden = hidden.hides_connection(&connection);
        match (connection.direction.as_str(), connection.peer.as_str()) {
            ("outbound", "app") if is_hidden => unseen.hidden.push(connection.remote),
            ("outbound", "app") => unseen.seen.push(connection.remote),
            ("inbound", _) => unseen.calls |= hidden.is_at(&connection.remote),
            _ => {}
        }
    }
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
fn visible(sight: &Sight, of: (&str, &str), asker: &Asker) -> Result<Vec<Arc<Pod>>, Status> {
    let snapshot = sight.snapshot();
    let allowed = || {
        let pods = resolve::pods(&snapshot, of.0, of.1)?;
        if pods.iter().any(|pod| is_hidden(&snapshot, pod)) {
            return Err(disabled(of.0));
        }
        for pod in &pods {
            asker.must(&snapshot, pod, Right::Capture)?;
        }
        Ok(pods)
    };
    let pods = allowed().inspect_err(|why| refused(("capture", Right::Capture.name()), asker, of, why))?;
    Ok(pods
        .into_iter()
        .filter(|pod| is_meshed(sight, &snapshot, pod))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sight::hidden::tests::shop;

    fn secret(remote: &str) -> v1::TlsSecret {
        v1::TlsSecret {
            label: "CLIENT_TRAFFIC_SECRET_0".to_owned(),
            remote: remote.to_owned(),
            ..v1::TlsSecret::default()
        }
    }

    #[test]
    fn secrets_and_connections_of_hidden_workloads_stay() {
        let hidden = shop();
        assert!(may_leave(&hidden, &secret("10.77.0.4:4143")));
        assert!(!may_leave(&hidden, &secret("10.77.0.5:4143")) && !may_leave(&hidden, &secret("")));
        assert!(may_leave(&hidden, &v1::TlsSecret::default()), "that it begins");
        assert!(may_leave(&Hidden::default(), &secret("")));

        let connection = |direction: &str, peer: &str, remote: &str, original: &str| v1::Connection {
            direction: direction.to_owned(),
            peer: peer.to_owned(),
            remote: remote.to_owned(),
            original: original.to_owned(),
            ..v1::Connection::default()
        };
        let mut unseen = v1::Unseen::default();
        let own = connection("outbound", "app", "10.77.0.9:1", "10.96.0.3:80");
        let other = connection("outbound", "app", "10.77.0.9:2", "10.96.0.9:80");
        let caller = connection("inbound", "mesh", "10.77.0.4:3", "");
        sort(&hidden, vec![own, other, caller], &mut unseen);
        assert_eq!(
            (unseen.hidden.join(" "), unseen.seen.join(" "), unseen.calls),
            ("10.77.0.9:1".to_owned(), "10.77.0.9:2".to_owned(), false)
        );
        sort(
            &hidden,
            vec![connection("inbound", "mesh", "10.77.0.5:3", "")],
            &mut unseen,
        );
        assert!(unseen.calls);
    }
}
