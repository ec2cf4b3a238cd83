//! Gathers the evidence: asks the machine, the supervisor, the control plane, and every proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use rustls_pki_types::CertificateDer;
use sheer_api::names::INBOUND_PORT;
use sheer_api::v1::WorkloadPropagation;
use sheer_local::{addresses, tools};
use tokio::time::timeout;

use super::evidence::{self, Evidence, Proxy};
use crate::certificate::{Certificate, Served};
use crate::cli::Global;
use crate::commands::identity::{ask, name_of, now, trust_anchors};
use crate::commands::version::proxy_version;
use crate::progress::Progress;
use crate::running::{Mesh, Pod};
use crate::scrape::{self, Sample};

/// Patience with one part of the mesh.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pods that are looked at at once. Few enough that a handshake does not wait for the others': to a proxy that would be a silent client.
const AT_A_TIME: usize = 8;

/// Everything that a check looks at.
pub(super) async fn gather(global: &Global, progress: &mut Progress) -> Evidence {
    let missing = tools::check().err().unwrap_or_default();
    let mesh = match Mesh::find(global).await {
        Ok(mesh) => look(&mesh, progress).await.map_err(words),
        Err(error) => Err(words(error)),
    };
    Evidence {
        now: now(),
        missing_tools: missing.iter().map(ToString::to_string).collect(),
        namespaces: namespaces(),
        mesh,
    }
}

fn words(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// Whether this user may make namespaces: root may, others need user namespaces, which distributions can switch off.
fn namespaces() -> Result<(), String> {
    let off = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !std::path::Path::new("/proc/self/ns/net").exists() {
        Err("this kernel has no network namespaces".to_owned())
    } else if root {
        Ok(())
    } else if off("/proc/sys/user/max_user_namespaces", "0") {
        Err("user.max_user_namespaces is 0".to_owned())
    } else if off("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        Err("kernel.unprivileged_userns_clone is 0".to_owned())
    } else {
        Ok(())
    }
}

async fn look(mesh: &Mesh, progress: &mut Progress) -> anyhow::Result<evidence::Mesh> {
    progress.step("asking the control plane");
    let control = mesh.report().await.map_err(words);
    let anchors = trust_anchors(mesh);
    let proxies = Proxies {
        mesh,
        anchors: anchors.as_deref().unwrap_or_default(),
        trust_domain: mesh.trust_domain().map_err(words),
    };
    let pods = proxies.look_at_all(&mesh.pods().await?, progress).await;
    progress.step("asking the DNS server");
    Ok(evidence::Mesh {
        dns: resolve_all(mesh).await.map_err(words),
        anchors: anchors
            .and_then(|anchors| anchors.iter().map(|der| Certificate::from_der(der)).collect())
            .map_err(words),
        control,
        pods,
        propagation: mesh.propagation().await.map(breaking).map_err(words),
    })
}

fn breaking(workloads: Vec<WorkloadPropagation>) -> Vec<String> {
    let breaking = workloads.into_iter().filter(|workload| workload.breaks);
    breaking.map(|workload| workload.finding).collect()
}

/// Asks the mesh's DNS for every service.
async fn resolve_all(mesh: &Mesh) -> anyhow::Result<()> {
    let ask = async {
        let server = SocketAddr::new(addresses::bridge().v4.into(), 53);
        let mut stream = mesh.dial(server).await.context("the DNS server cannot be reached")?;
        for (namespace, name) in mesh.services()? {
            super::dns::resolve(&mut stream, &format!("{name}.{namespace}.svc.cluster.local")).await?;
        }
        Ok(())
    };
    timeout(PATIENCE, ask).await.context("the DNS server takes too long")?
}

/// What all proxies are judged by.
struct Proxies<'a> {
    mesh: &'a Mesh,
    anchors: &'a [CertificateDer<'static>],
    /// Without it certificates cannot be judged.
    trust_domain: Result<String, String>,
}

impl Proxies<'_> {
    /// Some at a time: those that do not answer take all of the patience.
    async fn look_at_all(&self, pods: &[Pod], progress: &mut Progress) -> Vec<evidence::Pod> {
        // Boxed where they are made: a closure over pods of any lifetime is no closure that another thread may be given.
        let looks: Vec<BoxFuture<'_, evidence::Pod>> = pods.iter().map(|pod| self.look_at(pod).boxed()).collect();
        let mut looks = futures::stream::iter(looks).buffered(AT_A_TIME);
        let mut seen = Vec::new();
        loop {
            progress.step(&format!("asking proxies: {} of {} pods", seen.len(), pods.len()));
            match looks.next().await {
                Some(pod) => seen.push(pod),
                None => return seen,
            }
        }
    }

    async fn look_at(&self, pod: &Pod) -> evidence::Pod {
        let proxy = if pod.meshed {
            Some(self.look_at_proxy(pod).await)
        } else {
            None
        };
        evidence::Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            ready: pod.ready,
            state: pod.state.clone(),
            restarts: pod.restarts,
            proxy,
        }
    }

    async fn look_at_proxy(&self, pod: &Pod) -> Proxy {
        let ready = match self.mesh.proxy(pod, "/ready").await {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("not ready ({status}): {}", body.trim())),
            Err(error) => Err(words(error)),
        };
        let metrics = self
            .mesh
            .proxy(pod, "/metrics")
            .await
            .map(|(_, metrics)| metrics)
            .unwrap_or_default();
        let samples = scrape::parse(&metrics).unwrap_or_default();
        let panics = samples.iter().filter(|sample| sample.name == "sheer_panics_total");
        let (redirected, certificate) = self.certificate(pod).await;
        Proxy {
            ready,
            version: proxy_version(&metrics),
            certificate,
            redirected,
            disconnected: disconnected(&samples),
            panics: panics.map(|sample| sample.value).sum(),
        }
    }

    /// Whether what is sent to the pod reaches its proxy, and whether what the proxy serves proves the pod's identity.
    ///
    /// The application's own port must answer with the proxy's certificate: the application has none.
    async fn certificate(&self, pod: &Pod) -> (Result<(), String>, Result<(), String>) {
        let Some(port) = pod.redirected else {
            return (
                Ok(()),
                self.served(pod, INBOUND_PORT).await.and_then(|served| served.verified),
            ); // it serves nothing, or nothing through the proxy
        };
        let mut seen = self.served(pod, port).await;
        if seen.is_err() {
            // Once more: on a machine without a free CPU even a handshake at once can come late.
            seen = self.served(pod, port).await;
        }
        match seen {
            Ok(served) => (Ok(()), served.verified),
            Err(why) => {
                let lost = format!("what is sent to port {port} does not reach the proxy: {why}");
                (
                    Err(lost),
                    self.served(pod, INBOUND_PORT).await.and_then(|served| served.verified),
                )
            }
        }
    }

    async fn served(&self, pod: &Pod, port: u16) -> Result<Served, String> {
        let name = name_of(pod, self.trust_domain.as_ref().map_err(Clone::clone)?);
        ask(self.mesh, pod, port, &name, self.anchors).await.map_err(words)
    }
}

/// Services of the control plane that the proxy wants to be connected to and is not. It connects when it has something to ask.
fn disconnected(samples: &[Sample<'_>]) -> Vec<String> {
    let is = |name: &'static str, service: &str| {
        let of_service = move |sample: &&Sample<'_>| sample.name == name && sample.label("service") == service;
        samples
            .iter()
            .filter(of_service)
            .map(|sample| sample.value)
            .sum::<f64>()
    };
    let services = samples
        .iter()
        .filter(|sample| sample.name == "control_connected")
        .map(|sample| sample.label("service"));
    // A certificate is asked for twice a day; in between the connection may rest.
    let services = services.filter(|service| *service != "identity");
    let lost = services
        .filter(|service| is("control_connected", service) == 0.0 && is("control_request_total", service) > 0.0);
    lost.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_never_asked_need_not_be_connected() {
        let text = "control_connected{service=\"destination\"} 0\ncontrol_connected{service=\"policy\"} 1\n\
            control_connected{service=\"identity\"} 0\ncontrol_request_total{service=\"identity\"} 1\n";
        assert_eq!(disconnected(&scrape::parse(text).unwrap()), Vec::<String>::new());
        let asked = format!("{text}control_request_total{{service=\"destination\",method=\"Get\"}} 2\n");
        assert_eq!(disconnected(&scrape::parse(&asked).unwrap()), ["destination"]);
    }
}
