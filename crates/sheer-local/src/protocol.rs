//! What the command line and the supervisor say to each other: one line of JSON each way, over the supervisor's unix socket.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    namespaces::NamespaceFds,
    workload::{Reference, WorkloadId},
};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// What runs.
    Status,
    /// Another number of replicas.
    Scale {
        /// Which.
        target: Target,
        /// How many.
        replicas: u32,
    },
    /// New pods in the place of those that run, without losing a request.
    Restart {
        /// Which.
        target: Target,
    },
    /// Where to run a command.
    Exec {
        /// Which.
        target: Target,
        /// Container; the first where absent.
        container: Option<String>,
    },
    /// The end of the mesh.
    Down,
}

/// A workload or pod, as an operator named it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Namespace; any where absent, if only one has such a workload.
    pub namespace: Option<String>,
    /// Name.
    pub reference: Reference,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// What runs.
    Status(MeshStatus),
    /// It is done, or has begun.
    Done {
        /// What, for the operator.
        text: String,
    },
    /// Where to run a command.
    Exec(ExecTarget),
    /// It cannot be done: what was asked for makes no sense.
    Refused {
        /// Why, and what to do.
        text: String,
    },
    /// It cannot be done now.
    NotYet {
        /// Why, and what to do.
        text: String,
    },
}

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// Seconds since the mesh was started.
    pub age_s: u64,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Manifests that it runs.
    pub manifests: Vec<PathBuf>,
    /// Published ports of 127.0.0.1, and what they lead to.
    pub published: Vec<Published>,
    /// The control plane.
    pub control: ProgramStatus,
    /// Workloads.
    pub workloads: Vec<WorkloadStatus>,
    /// Pods.
    pub pods: Vec<PodSummary>,
    /// What is not honoured or not well.
    pub warnings: Vec<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Port of 127.0.0.1.
    pub port: u16,
    /// What it leads to, as `bank deploy/gateway:8080`.
    pub target: String,
    /// Why the port is not open; it is tried again.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// What makes it unique.
    #[serde(flatten)]
    pub id: WorkloadId,
    /// Pods that it shall have.
    pub replicas: u32,
    /// Pods of the current template that are ready.
    pub ready: u32,
    /// Pods of earlier templates that still run.
    pub outdated: u32,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodSummary {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What made it, as `deploy/web`.
    pub workload: String,
    /// Whether it takes traffic.
    pub ready: bool,
    /// One or two words, as `Running` or `CrashLoopBackOff`.
    pub state: String,
    /// Why it is not ready, or how it ended the last time; may be empty.
    pub reason: String,
    /// Restarts of its programs.
    pub restarts: u32,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Addresses, IPv4 first.
    pub ips: Vec<IpAddr>,
    /// Whether it has a sidecar.
    pub meshed: bool,
    /// Its containers.
    pub containers: Vec<ProgramStatus>,
    /// Its sidecar.
    pub sidecar: Option<ProgramStatus>,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// Name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Process id in the mesh's pid namespace, while it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// The last line that it wrote to stderr before that.
    #[serde(default)]
    pub last_words: Option<String>,
    /// CPU over the last seconds, in thousandths of a core.
    pub cpu_millicores: u64,
    /// CPU since its start, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory of the program and its children, bytes.
    pub rss_bytes: u64,
}

/// Where to run a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecTarget {
    /// Pod.
    pub pod: String,
    /// Namespaces, as descriptors of the supervisor.
    pub namespaces: NamespaceFds,
    /// Environment of the container.
    pub env: BTreeMap<String, String>,
    /// Folder of the container.
    pub dir: PathBuf,
    /// The pod's `/etc/resolv.conf`.
    pub resolv_conf: String,
}
