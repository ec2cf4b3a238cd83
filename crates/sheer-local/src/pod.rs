//! One pod: its namespaces, its sidecar, its containers, from start to end.
//!
//! ```text
//!   Pending ──namespaces, link, rules──► sidecar starts ──ready──► containers start ──► Running
//!      ▲  │ setup failed: again later                                                  │ stop
//!      └──┘                                                                            ▼
//!   Gone ◄── everything killed ◄── sidecar drained ◄── containers ended ◄── not ready ── Terminating
//! ```
//!
//! The supervisor makes a [`PodHandle`] and spawns [`run::run`]; whether the pod is ready is always worked out from the programs' states,
//! never stored.

pub(crate) mod files;
mod listening;
pub(crate) mod probe;
pub(crate) mod program;
pub(crate) mod readiness;
pub(crate) mod run;
pub(crate) mod sidecar;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use sheer_control::objects::{ObjectMeta, Pod, PodCondition, PodIp, PodStatus};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{addresses::Pair, namespaces::Namespaces, workload::Workload};
use program::{ProgramCell, ProgramState};

/// Name of the sidecar among a pod's programs, in logs and in `exec -c`.
pub const SIDECAR: &str = "sheer-proxy";

/// Where a pod is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not all of its programs were started yet.
    Pending {
        /// What is waited for, or what went wrong.
        why: String,
    },
    /// Its programs were started.
    Running,
    /// It takes no traffic any more and ends.
    Terminating,
    /// Nothing of it is left.
    Gone,
}

/// Whether and how a pod shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// In order: others learn that it takes no more traffic before its programs are told to end.
    Gently,
    /// With the whole mesh: there is nobody who could lose a request.
    AtOnce,
}

/// What the rest of the supervisor knows of a pod.
pub(crate) struct PodHandle {
    /// Name, unique in the namespace while the pod lives.
    pub(crate) name: String,
    /// Unique for ever.
    pub(crate) uid: String,
    /// What it was made from.
    pub(crate) workload: Arc<Workload>,
    /// Addresses.
    pub(crate) addresses: Pair,
    /// Sidecar, if it has one, then the containers.
    pub(crate) programs: Vec<Arc<ProgramCell>>,
    /// When it was made.
    pub(crate) created: Instant,
    /// Rules for virtual addresses, replaced as endpoints come and go.
    pub(crate) rules: watch::Sender<Arc<str>>,
    /// Those of them that the kernel has.
    pub(crate) applied_rules: Mutex<Arc<str>>,
    phase: Mutex<Phase>,
    stop: watch::Sender<Stop>,
    namespaces: OnceLock<Arc<Namespaces>>,
    ipv6: bool,
    changed: Arc<Notify>,
}

/// What a new pod is made from.
pub(crate) struct NewPod {
    /// Name.
    pub(crate) name: String,
    /// What to run.
    pub(crate) workload: Arc<Workload>,
    /// Addresses.
    pub(crate) addresses: Pair,
    /// Rules for virtual addresses as they are now.
    pub(crate) rules: Arc<str>,
    /// Whether the mesh has IPv6.
    pub(crate) ipv6: bool,
    /// Told of every change.
    pub(crate) changed: Arc<Notify>,
}

impl PodHandle {
    pub(crate) fn new(new: NewPod) -> Arc<Self> {
        let NewPod {
            name,
            workload,
            addresses,
            rules,
            ipv6,
            changed,
        } = new;
        let sidecar = workload.mesh.iter().map(|_| SIDECAR);
        let containers = workload
            .spec
            .containers
            .iter()
            .filter(|c| !c.command.is_empty())
            .map(|c| c.name.as_str());
        let programs = sidecar
            .chain(containers)
            .map(|name| ProgramCell::new(name, Arc::clone(&changed)))
            .collect();
        Arc::new(Self {
            uid: random_uid(),
            programs,
            created: Instant::now(),
            applied_rules: Mutex::new(Arc::clone(&rules)),
            rules: watch::Sender::new(rules),
            phase: Mutex::new(Phase::Pending {
                why: "being set up".to_owned(),
            }),
            stop: watch::Sender::new(Stop::No),
            namespaces: OnceLock::new(),
            name,
            workload,
            addresses,
            ipv6,
            changed,
        })
    }

    /// Namespace (Kubernetes' kind).
    pub(crate) fn namespace(&self) -> &str {
        &self.workload.id.namespace
    }

    /// Addresses, IPv4 first.
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.addresses
            .both()
            .into_iter()
            .filter(|ip| self.ipv6 || ip.is_ipv4())
            .collect()
    }

    /// Where it is in its life.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    /// Its namespaces, once it has them.
    pub(crate) fn namespaces(&self) -> Option<&Arc<Namespaces>> {
        self.namespaces.get()
    }

    /// Whether it takes traffic.
    pub(crate) fn is_ready(&self) -> bool {
        let running = *self.phase.lock() == Phase::Running;
        running && *self.stop.borrow() == Stop::No && self.programs.iter().all(|program| program.state().ready)
    }

    /// Whether it was told to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Tells it to end. Later calls can only make it faster.
    pub(crate) fn stop(&self, how: Stop) {
        self.stop.send_if_modified(|stop| {
            let faster = *stop == Stop::No || (*stop == Stop::Gently && how == Stop::AtOnce);
            if faster {
                *stop = how;
            }
            faster
        });
        self.changed.notify_one();
    }

    /// States of its programs.
    pub(crate) fn states(&self) -> Vec<ProgramState> {
        self.programs.iter().map(|program| program.state()).collect()
    }

    /// Whether what it connects to by virtual addresses is up to date.
    pub(crate) fn is_settled(&self) -> bool {
        *self.applied_rules.lock() == *self.rules.borrow()
    }

    fn rules_applied(&self, rules: Arc<str>) {
        *self.applied_rules.lock() = rules;
        self.changed.notify_one();
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify_one();
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(
            self.workload.spec.termination_grace_period_seconds.unwrap_or(30),
        ))
    }

    /// The pod as the control plane reads it.
    pub(crate) fn to_object(&self) -> Pod {
        let mut metadata = ObjectMeta::new(self.namespace(), &self.name);
        metadata.labels = self.workload.labels.clone();
        metadata.annotations = self.workload.annotations.clone();
        if self.workload.mesh.is_some() {
            metadata
                .annotations
                .insert("sheer.dev/meshed".to_owned(), "true".to_owned());
        }
        metadata.uid = Some(self.uid.clone());
        let phase = if matches!(self.phase(), Phase::Pending { .. }) {
            "Pending"
        } else {
            "Running"
        };
        let ready = if self.is_ready() { "True" } else { "False" };
        let status = PodStatus {
            phase: Some(phase.to_owned()),
            pod_ip: self.ips().first().copied(),
            pod_ips: self.ips().into_iter().map(|ip| PodIp { ip }).collect(),
            conditions: vec![PodCondition {
                kind: "Ready".to_owned(),
                status: ready.to_owned(),
            }],
        };
        Pod {
            metadata,
            spec: self.workload.spec.clone(),
            status: Some(status),
        }
    }
}

/// A version 4 UUID (RFC 9562).
fn random_uid() -> String {
    let bits: u128 = rand::random();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn uids_are_version_4() {
        let uid = super::random_uid();
        assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'));
        assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
    }
}
