//! What a sidecar is started with: the environment, key, certificate request, token and trust anchors that linkerd2-proxy expects, so that
//! either proxy can stand in this place.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use sheer_api::names::{
    self, ADMIN_PORT, CLUSTER_DOMAIN, CONTROL_NAMESPACE, DEFAULT_OPAQUE_PORTS, DESTINATION_PORT, IDENTITY_PORT,
    INBOUND_PORT, OUTBOUND_PORT, POLICY_PORT, PROXY_MARK, PROXY_UID, SIGHT_PORT,
};
use sheer_control::{
    identity::token::{Signer, Workload as TokenWorkload},
    objects::annotation,
};

use super::files::PodFacts;
use crate::{
    addresses,
    rules::Exemption,
    workload::{MeshOptions, Workload, WorkloadKind},
};

#[cfg(test)]
mod tests;

/// Life of a token; it is renewed at half of it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How often the token's age is looked at.
const TOKEN_LOOK: Duration = Duration::from_secs(60);
/// What a sidecar logs unless an annotation says otherwise: Linkerd's default, and the same for ours.
const LOG: &str = "warn,sheer_proxy=info,linkerd=info,trust_dns=error,hickory=error";

/// Where the sidecar's files lie, and how it is told from the application.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    /// Folder with `key.p8`, `csr.der` and `token`.
    pub(crate) identity: PathBuf,
    /// How redirection exempts it.
    pub(crate) exemption: Exemption,
    /// Whether the mesh has IPv6.
    pub(crate) ipv6: bool,
}

impl Sidecar {
    /// Makes the key and the certificate request, for this pod only.
    pub(crate) fn create_identity(&self, pod: &PodFacts) -> anyhow::Result<()> {
        fs::create_dir_all(&self.identity)?;
        fs::set_permissions(&self.identity, fs::Permissions::from_mode(0o700))?;
        let name = local_name(pod);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let request = params.serialize_request(&key)?;
        self.write("key.p8", &key.serialize_der())?;
        self.write("csr.der", request.der())?;
        self.own(&self.identity)?;
        Ok(())
    }

    /// Writes a fresh token over the one before, in one step.
    pub(crate) fn write_token(&self, signer: &Signer, pod: &PodFacts) -> io::Result<()> {
        let workload = TokenWorkload {
            namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
            pod: pod.name.clone(),
        };
        self.write("token", signer.sign(&workload, TOKEN_LIFETIME).as_bytes())
    }

    /// Keeps the token fresh; never returns. By the time of day: the timers of a machine that was suspended stood still meanwhile.
    pub(crate) async fn renew_token(self, signer: &Signer, pod: PodFacts, clock: impl Fn() -> SystemTime) {
        let mut written = clock();
        loop {
            tokio::time::sleep(TOKEN_LOOK).await;
            let now = clock();
            // A clock that was set back has tokens of the future.
            let fresh = now.duration_since(written).is_ok_and(|age| age < TOKEN_LIFETIME / 2);
            if fresh {
                continue;
            }
            match self.write_token(signer, &pod) {
                Ok(()) => written = now,
                Err(error) => {
                    tracing::error!(pod = pod.name, %error, "the sidecar's token cannot be renewed, which is tried again; without one its certificate will expire");
                }
            }
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (path, new) = (self.identity.join(name), self.identity.join(format!(".{name}.new")));
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        io::Write::write_all(&mut file, content)?;
        self.own(&new)?;
        fs::rename(new, path)
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self.exemption {
            Exemption::Uid => chown(path, Some(PROXY_UID), Some(PROXY_UID)),
            Exemption::Mark => Ok(()),
        }
    }

    /// The environment. Names are linkerd2-proxy's wherever it has one.
    pub(crate) fn environment(
        &self,
        pod: &PodFacts,
        workload: &Workload,
        anchors: &str,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let options = workload.mesh.as_ref().context("the workload has no sidecar")?;
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: String| env.insert(format!("LINKERD2_PROXY_{name}"), value);
        self.listeners(&mut set, pod);
        control_plane(&mut set, pod);
        self.identity(&mut set, pod, anchors);
        inbound(&mut set, workload);
        traces(&mut set, pod, workload);
        redactions(&mut set, workload);
        for (name, value) in TIMES {
            set(name, (*value).to_owned());
        }
        optional(&mut set, options);
        if self.exemption == Exemption::Mark {
            env.insert("SHEER_PROXY_MARK".to_owned(), PROXY_MARK.to_string());
        }
        env.insert("HOSTNAME".to_owned(), pod.name.clone());
        env.insert("RUST_BACKTRACE".to_owned(), "1".to_owned());
        Ok(env)
    }

    fn listeners(&self, set: &mut impl FnMut(&str, String) -> Option<String>, pod: &PodFacts) {
        let any = if self.ipv6 { "[::]" } else { "0.0.0.0" };
        let outbound = if self.ipv6 {
            format!(",[::1]:{OUTBOUND_PORT}")
        } else {
            String::new()
        };
        set("OUTBOUND_LISTEN_ADDRS", format!("127.0.0.1:{OUTBOUND_PORT}{outbound}"));
        set("INBOUND_LISTEN_ADDR", format!("{any}:{INBOUND_PORT}"));
        set("CONTROL_LISTEN_ADDR", format!("{any}:{SIGHT_PORT}"));
        set("ADMIN_LISTEN_ADDR", format!("{any}:{ADMIN_PORT}"));
        set("INBOUND_IPS", list(&pod.ips));
    }

    fn identity(&self, set: &mut impl FnMut(&str, String) -> Option<String>, pod: &PodFacts, anchors: &str) {
        set("IDENTITY_DIR", self.identity.display().to_string());
        set("IDENTITY_TOKEN_FILE", self.identity.join("token").display().to_string());
        set("IDENTITY_TRUST_ANCHORS", anchors.to_owned());
        set("IDENTITY_LOCAL_NAME", local_name(pod));
    }
}

/// Times of Linkerd's chart (`charts/partials/templates/_proxy.tpl`).
const TIMES: &[(&str, &str)] = &[
    ("CONTROL_STREAM_INITIAL_TIMEOUT", "3s"),
    ("CONTROL_STREAM_IDLE_TIMEOUT", "5m"),
    ("CONTROL_STREAM_LIFETIME", "1h"),
    ("INBOUND_CONNECT_TIMEOUT", "100ms"),
    ("OUTBOUND_CONNECT_TIMEOUT", "1000ms"),
    ("INBOUND_ACCEPT_KEEPALIVE", "10000ms"),
    ("OUTBOUND_CONNECT_KEEPALIVE", "10000ms"),
    ("INBOUND_ACCEPT_USER_TIMEOUT", "30s"),
    ("OUTBOUND_CONNECT_USER_TIMEOUT", "30s"),
    ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s"),
    ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s"),
    ("OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s"),
    ("OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s"),
];

fn control_plane(set: &mut impl FnMut(&str, String) -> Option<String>, pod: &PodFacts) {
    let name = names::dns_identity("sheer-control", CONTROL_NAMESPACE, CONTROL_NAMESPACE, CLUSTER_DOMAIN);
    for (service, port) in [
        ("IDENTITY", IDENTITY_PORT),
        ("DESTINATION", DESTINATION_PORT),
        ("POLICY", POLICY_PORT),
    ] {
        set(&format!("{service}_SVC_ADDR"), format!("{}:{port}", pod.host_ip));
        set(&format!("{service}_SVC_NAME"), name.clone());
    }
    set(
        "POLICY_WORKLOAD",
        serde_json::json!({ "ns": pod.namespace, "pod": pod.name }).to_string(),
    );
    set(
        "DESTINATION_CONTEXT",
        serde_json::json!({ "ns": pod.namespace, "nodeName": "local", "pod": pod.name }).to_string(),
    );
    set("DESTINATION_PROFILE_SUFFIXES", format!("svc.{CLUSTER_DOMAIN}."));
    let networks: Vec<_> = addresses::pod_networks()
        .into_iter()
        .chain(addresses::service_networks())
        .collect();
    set("DESTINATION_PROFILE_NETWORKS", list(&networks));
    set("POLICY_CLUSTER_NETWORKS", list(&networks));
}

fn inbound(set: &mut impl FnMut(&str, String) -> Option<String>, workload: &Workload) {
    let ports = workload.spec.containers.iter().flat_map(|container| &container.ports);
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    set(
        "INBOUND_PORTS",
        list(&tcp.map(|port| port.container_port).collect::<Vec<_>>()),
    );
    let opaque = annotation(&workload.annotations, "config", "opaque-ports").map(str::to_owned);
    set(
        "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
        opaque.unwrap_or_else(|| list(DEFAULT_OPAQUE_PORTS)),
    );
    let policy = annotation(&workload.annotations, "config", "default-inbound-policy").unwrap_or("all-unauthenticated");
    set("INBOUND_DEFAULT_POLICY", policy.to_owned());
}

/// What spans say of the workload, and what annotations say of telemetry, traces and the access log.
fn traces(set: &mut impl FnMut(&str, String) -> Option<String>, pod: &PodFacts, workload: &Workload) {
    let id = &workload.id;
    set("TRACE_SERVICE_NAME", id.name.clone());
    let kind = match id.kind {
        WorkloadKind::Deployment => format!("k8s.deployment.name={}\n", id.name),
        WorkloadKind::StatefulSet => format!("k8s.statefulset.name={}\n", id.name),
        WorkloadKind::Pod => String::new(),
    };
    set(
        "TRACE_EXTRA_ATTRIBUTES",
        format!(
            "service.namespace={ns}\nservice.instance.id={pod}\nk8s.namespace.name={ns}\nk8s.pod.name={pod}\n{kind}k8s.node.name=local\n",
            ns = pod.namespace,
            pod = pod.name,
        ),
    );
    for (name, setting) in TRACE_ANNOTATIONS {
        if let Some(value) = annotation(&workload.annotations, "config", name) {
            set(setting, value.to_owned());
        }
    }
}

/// What annotations hide, for what the sidecar writes without being asked: its logs, and the samples that it takes. Of header fields, what is no name hides
/// nothing, and would be a mistake to the proxy.
fn redactions(set: &mut impl FnMut(&str, String) -> Option<String>, workload: &Workload) {
    let is_name = |name: &str| {
        let name = name.strip_prefix('*').unwrap_or(name);
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(is_of_name)
    };
    if let Some(names) = annotation(&workload.annotations, "", "redact-headers") {
        let names: Vec<&str> = names.split(',').map(str::trim).filter(|name| is_name(name)).collect();
        set("SIGHT_REDACT", names.join(","));
    }
    if let Some(fields) = annotation(&workload.annotations, "", "redact-fields") {
        set("SIGHT_REDACT_FIELDS", fields.to_owned());
    }
}

/// Annotations of telemetry, traces, the recorder and the access log, and the settings that they are.
const TRACE_ANNOTATIONS: &[(&str, &str)] = &[
    ("telemetry", "TELEMETRY_ENABLED"),
    ("trace-control-plane", "TRACE_CONTROL_PLANE"),
    ("recorder", "RECORDER"),
    ("trace-collector", "TRACE_COLLECTOR_SVC_ADDR"),
    ("trace-collector-identity", "TRACE_COLLECTOR_SVC_NAME"),
    ("trace-protocol", "TRACE_PROTOCOL"),
    ("trace-sample-rate", "TRACE_SAMPLE_RATE"),
    ("trace-sample-limit", "TRACE_SAMPLE_LIMIT"),
    ("trace-slow", "TRACE_SLOW"),
    ("trace-keep-limit", "TRACE_KEEP_LIMIT"),
    ("access-log", "ACCESS_LOG"),
    ("access-log-filter", "ACCESS_LOG_FILTER"),
    ("access-log-otlp", "ACCESS_LOG_OTLP"),
];

fn optional(set: &mut impl FnMut(&str, String) -> Option<String>, options: &MeshOptions) {
    set("LOG", options.log_level.clone().unwrap_or_else(|| LOG.to_owned()));
    set(
        "LOG_FORMAT",
        options.log_format.clone().unwrap_or_else(|| "plain".to_owned()),
    );
    set("CORES", options.cores.unwrap_or(1).to_string());
    if let Some(grace) = options.shutdown_grace {
        set("SHUTDOWN_GRACE_PERIOD", format!("{}ms", grace.as_millis()));
    }
}

fn local_name(pod: &PodFacts) -> String {
    names::dns_identity(&pod.service_account, &pod.namespace, CONTROL_NAMESPACE, CLUSTER_DOMAIN)
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Where probes of the sidecar go.
pub(crate) fn admin_address(ip: IpAddr) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip, ADMIN_PORT)
}
