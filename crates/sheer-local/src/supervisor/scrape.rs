//! What a Prometheus needs to scrape the sidecars: a configuration, and beside it the targets as they come and go.
//!
//! `prometheus --config.file=STATE/prometheus/prometheus.yml`, run in a pod of the mesh: sidecars are reached from there alone. Targets have the
//! labels that Linkerd's scrape configuration gives them, so that its dashboards and `sheer stat --prometheus` find their series.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};
use sheer_api::names::ADMIN_PORT;

use crate::{pod::PodHandle, workload::WorkloadKind};

/// Scrapes every second: a mesh on one machine is small, and whoever looks at it wants to see now.
const CONFIGURATION: &str = "\
# Written by sheer: what is changed here is lost. `rule_files` of your own go into another file that has the same `scrape_configs`.
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: linkerd-proxy
    file_sd_configs:
      - files: [targets.json]
";

/// Writes the folder.
pub(super) struct ScrapeWriter {
    folder: PathBuf,
    written: Option<String>,
}

impl ScrapeWriter {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, written: None }
    }

    /// Makes the targets the sidecars of these pods.
    pub(super) fn write<'a>(&mut self, pods: impl Iterator<Item = &'a PodHandle>) -> io::Result<()> {
        let targets: Vec<Value> = pods.filter_map(target).collect();
        let text = Value::from(targets).to_string();
        if self.written.as_ref() == Some(&text) {
            return Ok(());
        }
        if self.written.is_none() {
            fs::write(self.folder.join("prometheus.yml"), CONFIGURATION)?;
        }
        let new = self.folder.join(".new");
        fs::write(&new, &text)?;
        fs::rename(new, self.folder.join("targets.json"))?;
        self.written = Some(text);
        Ok(())
    }
}

/// One sidecar.
fn target(pod: &PodHandle) -> Option<Value> {
    pod.workload.mesh.as_ref()?;
    let ip = *pod.ips().first()?;
    let id = &pod.workload.id;
    let mut labels = json!({
        "namespace": id.namespace,
        "pod": pod.name,
        "control_plane_ns": sheer_api::names::CONTROL_NAMESPACE,
    });
    let owner = match id.kind {
        WorkloadKind::Deployment => "deployment",
        WorkloadKind::StatefulSet => "statefulset",
        WorkloadKind::Pod => "",
    };
    if !owner.is_empty() {
        labels[owner] = json!(id.name);
    }
    Some(json!({ "targets": [SocketAddr::new(ip, ADMIN_PORT).to_string()], "labels": labels }))
}
