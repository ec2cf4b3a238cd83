//! Gathers the evidence: asks the machine, the supervisor, the control plane, and every proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use rustls_pki_types::CertificateDer;
use sheer_api::names::INBOUND_PORT;
use sheer_local::{addresses, tools};
use tokio::time::timeout;

use super::evidence::{self, Evidence, Proxy};
use crate::certificate::{Certificate, served};
use crate::cli::Global;
use crate::commands::identity::{name_of, now, trust_anchors};
use crate::commands::version::proxy_version;
use crate::running::{Mesh, Pod};
use crate::scrape;

/// Patience with one part of the mesh.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that a check looks at.
pub(super) async fn gather(global: &Global) -> Evidence {
    let missing = tools::check().err().unwrap_or_default();
    let mesh = match Mesh::find(global).await {
        Ok(mesh) => look(&mesh).await.map_err(words),
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

async fn look(mesh: &Mesh) -> anyhow::Result<evidence::Mesh> {
    let control = mesh.report().await.map_err(words);
    let anchors = trust_anchors(mesh);
    let trust_domain = control.as_ref().ok().map(|report| report.trust_domain.clone());
    let proxies = Proxies {
        mesh,
        anchors: anchors.as_deref().unwrap_or_default(),
        trust_domain: trust_domain.as_deref(),
    };
    let pods = mesh.pods().await?;
    let pods = join_all(pods.iter().map(|pod| proxies.look_at(pod))).await;
    Ok(evidence::Mesh {
        dns: resolve_all(mesh).await.map_err(words),
        anchors: anchors
            .and_then(|anchors| anchors.iter().map(|der| Certificate::from_der(der)).collect())
            .map_err(words),
        control,
        pods,
    })
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
    /// None while the control plane does not answer: then certificates cannot be judged.
    trust_domain: Option<&'a str>,
}

impl Proxies<'_> {
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
        let disconnected = samples
            .iter()
            .filter(|sample| sample.name == "control_connected" && sample.value == 0.0)
            // Asked for a certificate twice a day, and idle in between.
            .filter(|sample| sample.label("service") != "identity");
        let panics = samples.iter().filter(|sample| sample.name == "sheer_panics_total");
        Proxy {
            ready,
            version: proxy_version(&metrics),
            certificate: self.certificate(pod, INBOUND_PORT).await,
            redirected: self.redirected(pod).await,
            disconnected: disconnected.map(|sample| sample.label("service").to_owned()).collect(),
            panics: panics.map(|sample| sample.value).sum(),
        }
    }

    /// Whether what is served on a port of the pod proves the pod's identity.
    async fn certificate(&self, pod: &Pod, port: u16) -> Result<(), String> {
        let Some(trust_domain) = self.trust_domain else {
            return Ok(());
        };
        let handshake = async {
            served(
                self.mesh.dial(pod.at(port)?).await?,
                &name_of(pod, trust_domain),
                self.anchors,
            )
            .await
        };
        match timeout(PATIENCE, handshake).await {
            Ok(Ok(served)) => served.verified,
            Ok(Err(error)) => Err(words(error)),
            Err(_) => Err("the TLS handshake takes too long".to_owned()),
        }
    }

    /// The application's own port must answer with the proxy's certificate: the application has none.
    async fn redirected(&self, pod: &Pod) -> Result<(), String> {
        let Some(port) = pod.ports.first() else { return Ok(()) }; // it serves nothing
        let seen = self.certificate(pod, *port).await;
        seen.map_err(|why| format!("what is sent to port {port} does not reach the proxy: {why}"))
    }
}
