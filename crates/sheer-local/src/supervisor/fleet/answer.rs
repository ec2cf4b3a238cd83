//! Answers to what the command line asks.

use std::sync::Arc;

use super::{Fleet, existing};
use crate::{
    pod::{PodHandle, SIDECAR, files, run},
    protocol::{ExecTarget, Request, Response, Target},
    workload::{Workload, WorkloadId, WorkloadKind, desired},
};

impl Fleet {
    pub(super) fn answer(&mut self, request: Request) -> Response {
        let answer = match request {
            Request::Status => Ok(Response::Status(self.status())),
            Request::Scale { target, replicas } => self.scale(&target, replicas),
            Request::Restart { target } => self.restart(&target),
            Request::Exec { target, container } => self.exec(&target, container.as_deref()),
            Request::Down => Ok(Response::Done {
                text: "the mesh ends".to_owned(),
            }),
        };
        answer.unwrap_or_else(|text| Response::Refused { text })
    }

    fn scale(&mut self, target: &Target, replicas: u32) -> Result<Response, String> {
        let workload = self.find_workload(target)?;
        let id = workload.id.clone();
        if id.kind == WorkloadKind::Pod {
            return Err(format!(
                "{id} is a single pod, which cannot be scaled; a Deployment can"
            ));
        }
        self.overrides
            .replicas
            .insert(id.clone(), (replicas, workload.declared));
        self.work_out();
        Ok(Response::Done {
            text: format!(
                "{} {id}: {} replicas become {replicas}",
                id.namespace, workload.replicas
            ),
        })
    }

    fn restart(&mut self, target: &Target) -> Result<Response, String> {
        let id = self.find_workload(target)?.id.clone();
        *self.overrides.restarts.entry(id.clone()).or_default() += 1;
        self.work_out();
        Ok(Response::Done {
            text: format!("{} {id}: new pods take over from those that run", id.namespace),
        })
    }

    fn work_out(&mut self) {
        let manifests = self.parts.manifests.borrow().clone();
        self.desired = desired(&manifests.manifests, &self.overrides);
    }

    fn exec(&self, target: &Target, container: Option<&str>) -> Result<Response, String> {
        let pod = self.find_pod(target)?;
        let Some(namespaces) = pod.namespaces() else {
            return Ok(Response::NotYet {
                text: format!("pod {} is still being set up: try again", pod.name),
            });
        };
        let facts = run::facts_of(pod);
        let containers = &pod.workload.spec.containers;
        let named = |name: &str| containers.iter().find(|known| known.name == name);
        let found = match container {
            // In the sidecar's place, as far as a folder and an environment go: the first container's.
            None | Some(SIDECAR) => containers.first(),
            Some(name) => named(name),
        };
        let names = || {
            containers
                .iter()
                .map(|known| known.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let container = found.ok_or_else(|| {
            format!(
                "pod {} has no container {:?}; it has {}",
                pod.name,
                container.unwrap_or(""),
                names()
            )
        })?;
        let program = run::container_program(container, &facts, &self.parts.mesh);
        Ok(Response::Exec(ExecTarget {
            pod: pod.name.clone(),
            namespaces: namespaces.fds(),
            env: program.env,
            dir: program.dir,
            resolv_conf: files::resolv_conf(&facts),
        }))
    }

    /// The one workload that is meant.
    fn find_workload(&self, target: &Target) -> Result<Arc<Workload>, String> {
        let named = |workload: &&Arc<Workload>| {
            let id = &workload.id;
            in_namespace(target, id) && (target.reference.matches_workload(id) || self.has_pod(id, target))
        };
        let found: Vec<&Arc<Workload>> = self.desired.workloads.values().filter(named).collect();
        match found.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(self.nothing_like(target)),
            several => {
                let names: Vec<String> = several
                    .iter()
                    .map(|workload| format!("-n {} {}", workload.id.namespace, workload.id))
                    .collect();
                Err(format!("{} could be any of: {}", target.reference, names.join(", ")))
            }
        }
    }

    fn has_pod(&self, id: &WorkloadId, target: &Target) -> bool {
        self.pods
            .values()
            .any(|pod| pod.workload.id == *id && target.reference.matches(id, &pod.name))
    }

    /// One pod that is meant, a ready one if there is.
    fn find_pod(&self, target: &Target) -> Result<&Arc<PodHandle>, String> {
        let meant = |pod: &&Arc<PodHandle>| {
            in_namespace(target, &pod.workload.id) && target.reference.matches(&pod.workload.id, &pod.name)
        };
        let mut pods: Vec<&Arc<PodHandle>> = self.pods.values().filter(meant).collect();
        let mut namespaces: Vec<&str> = pods.iter().map(|pod| pod.namespace()).collect();
        namespaces.dedup();
        if namespaces.len() > 1 {
            return Err(format!(
                "{} is in several namespaces ({}): choose one with -n",
                target.reference,
                namespaces.join(", ")
            ));
        }
        pods.sort_by_key(|pod| {
            let existing = existing(pod);
            (!existing.ready, existing.stopping)
        });
        pods.first().copied().ok_or_else(|| self.nothing_like(target))
    }

    fn nothing_like(&self, target: &Target) -> String {
        let place = target
            .namespace
            .as_ref()
            .map(|namespace| format!(" in namespace {namespace}"))
            .unwrap_or_default();
        let known: Vec<String> = self
            .desired
            .workloads
            .keys()
            .map(|id| format!("{} {id}", id.namespace))
            .collect();
        format!(
            "there is no {}{place}; the mesh has {}",
            target.reference,
            if known.is_empty() {
                "nothing".to_owned()
            } else {
                known.join(", ")
            }
        )
    }
}

fn in_namespace(target: &Target, id: &WorkloadId) -> bool {
    target
        .namespace
        .as_ref()
        .is_none_or(|namespace| *namespace == id.namespace)
}
