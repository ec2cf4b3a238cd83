//! What a check looks at, gathered by `gather` and judged by `points`: plain data.

use sheer_api::v1::ReportResponse;

use crate::certificate::Certificate;

/// Everything that a check looks at. Each `Err` says why a thing could not be had, in the operator's words.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
    /// Programs that are not installed, with the package that brings each.
    pub(super) missing_tools: Vec<String>,
    /// Whether this user may make namespaces.
    pub(super) namespaces: Result<(), String>,
    /// The mesh, if one runs.
    pub(super) mesh: Result<Mesh, String>,
}

/// A mesh that runs.
#[derive(Debug)]
pub(super) struct Mesh {
    /// What the control plane says of itself.
    pub(super) control: Result<ReportResponse, String>,
    /// The certificates that all others must lead to.
    pub(super) anchors: Result<Vec<Certificate>, String>,
    /// Whether the mesh's DNS knows its services.
    pub(super) dns: Result<(), String>,
    /// What runs.
    pub(super) pods: Vec<Pod>,
    /// Applications that break traces, in words.
    pub(super) propagation: Result<Vec<String>, String>,
}

/// One replica of a workload.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) ready: bool,
    /// As `ps` shows it.
    pub(super) state: String,
    pub(super) restarts: u32,
    /// None where the workload has no sidecar by its own wish.
    pub(super) proxy: Option<Proxy>,
}

impl Pod {
    /// `bank/ledger-0`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The sidecar of a pod.
#[derive(Debug)]
pub(super) struct Proxy {
    /// What `/ready` says.
    pub(super) ready: Result<(), String>,
    /// Where it says it.
    pub(super) version: Option<String>,
    /// Whether what it serves proves its identity.
    pub(super) certificate: Result<(), String>,
    /// Whether traffic to the workload arrives at the proxy.
    pub(super) redirected: Result<(), String>,
    /// Services of the control plane that it is not connected to.
    pub(super) disconnected: Vec<String>,
    /// Panics that it survived.
    pub(super) panics: f64,
}
