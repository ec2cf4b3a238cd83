//! Pods and what makes them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{IntOrString, LabelSelector, Labels, ObjectMeta};

/// Label (or annotation) that says in which zone a pod runs.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Replicas of one pod, any of which can stand for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// What to run.
    pub spec: WorkloadSpec,
}

/// Replicas of one pod, each with a name of its own (`NAME-0`, `NAME-1`, …).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatefulSet {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// What to run.
    pub spec: WorkloadSpec,
}

/// What a [`Deployment`] or a [`StatefulSet`] runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// How many; 1 where absent.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Must match the template's labels.
    pub selector: LabelSelector,
    /// The pod.
    pub template: PodTemplate,
}

fn one() -> u32 {
    1
}

/// The pod that a workload makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodTemplate {
    /// Labels and annotations.
    #[serde(default)]
    pub metadata: TemplateMeta,
    /// Containers.
    pub spec: PodSpec,
}

/// Labels and annotations of the pods of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TemplateMeta {
    /// Labels, which selectors match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Annotations, which configure the mesh.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Labels,
}

/// One instance of a workload. In a status directory: one that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Containers.
    pub spec: PodSpec,
    /// Address and readiness; absent in a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PodStatus>,
}

/// The containers of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Whose identity the pod has; `default` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// At least one.
    pub containers: Vec<Container>,
    /// Seconds between SIGTERM and SIGKILL; 30 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
}

/// One program of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// Program and first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Folder to start in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Environment; later entries may refer to earlier ones as `$(NAME)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Ports that it listens on; needed for those that are referred to by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
    /// When the pod may get traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Not run by a local mesh; its path is let through by inbound policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Not run by a local mesh; its path is let through by inbound policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
}

/// One variable of a container's environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Value from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}

/// Where an [`EnvVar`] takes its value from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueFrom {
    /// A field of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// A field of the pod, as `metadata.name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// One of [`FieldRef::PATHS`].
    pub field_path: String,
}

impl FieldRef {
    /// The fields that can be referred to.
    pub const PATHS: [&'static str; 6] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.serviceAccountName",
        "status.podIP",
        "status.hostIP",
    ];
}

/// One port of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name that Services, Servers and probes may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number.
    pub container_port: u16,
    /// `TCP` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

impl ContainerPort {
    /// Whether the mesh carries the port.
    pub fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

/// A check of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// GET; 200–399 is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Asks `grpc.health.v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,
    /// Runs a command; 0 is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Wait before the first, seconds; 0 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay_seconds: Option<u32>,
    /// Time between two, seconds; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<u32>,
    /// Patience with one, seconds; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Good ones in a row that make it good; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    /// Bad ones in a row that make it bad; 3 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
}

/// A probe by HTTP GET.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpGetAction {
    /// Path; `/` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Port of the pod.
    pub port: IntOrString,
    /// `HTTP` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}

/// A probe by connecting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpSocketAction {
    /// Port of the pod.
    pub port: IntOrString,
}

/// A probe by `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrpcAction {
    /// Port of the pod.
    pub port: u16,
    /// Service to ask for; the whole server where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A probe by running a command in the pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecAction {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Address and readiness of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// First address.
    #[serde(rename = "podIP", default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<IpAddr>,
    /// All addresses, one a family.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
    /// `Ready` decides whether the pod is an endpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PodCondition>,
}

/// One address of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: IpAddr,
}

/// One condition of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodCondition {
    /// What, as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

impl Pod {
    /// All addresses, each once.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let Some(status) = &self.status else { return Vec::new() };
        let mut addresses: Vec<IpAddr> = status.pod_ip.into_iter().collect();
        for PodIp { ip } in &status.pod_ips {
            if !addresses.contains(ip) {
                addresses.push(*ip);
            }
        }
        addresses
    }

    /// Whether the pod takes traffic.
    pub fn is_ready(&self) -> bool {
        let ready = |status: &PodStatus| {
            status
                .conditions
                .iter()
                .any(|c| c.kind == "Ready" && c.status == "True")
        };
        self.status.as_ref().is_some_and(ready)
    }

    /// Whether the pod has ended for good.
    pub fn has_ended(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// The zone that the pod runs in, where it is known.
    pub fn zone(&self) -> Option<&str> {
        let ObjectMeta {
            labels, annotations, ..
        } = &self.metadata;
        let zone = labels.get(ZONE).or_else(|| annotations.get(ZONE))?;
        (!zone.is_empty()).then_some(zone)
    }

    /// The service account whose identity the pod has.
    pub fn service_account(&self) -> &str {
        self.spec.service_account()
    }
}

impl PodSpec {
    /// The service account whose identity the pod has.
    pub fn service_account(&self) -> &str {
        self.service_account_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
    }

    /// The number of a port that is given by number or by name.
    pub fn find_port(&self, port: &IntOrString) -> Option<u16> {
        match port {
            IntOrString::Int(port) => Some(*port),
            IntOrString::Name(name) => {
                let mut ports = self.containers.iter().flat_map(|container| &container.ports);
                ports
                    .find(|port| port.name.as_ref() == Some(name))
                    .map(|port| port.container_port)
            }
        }
    }
}
