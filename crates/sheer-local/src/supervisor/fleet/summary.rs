//! What `ps` shows.

use super::{Fleet, PodHandle};
use crate::{
    pod::{Phase, program::ProgramState, readiness},
    protocol::{MeshStatus, PodSummary, ProgramStatus, Published, WorkloadStatus},
    supervisor::usage::Usage,
    workload::{PublishTarget, Workload},
};

impl Fleet {
    pub(super) fn status(&self) -> MeshStatus {
        let mesh = &self.parts.mesh;
        let published = self.desired.published.iter().map(|(host, publication)| {
            let target = match &publication.target {
                PublishTarget::Workload(id) => format!("{} {id}:{}", id.namespace, publication.port),
                PublishTarget::Service(namespace, name) => format!("{namespace} svc/{name}:{}", publication.port),
            };
            Published {
                port: *host,
                target,
                problem: self.refused.get(host).cloned(),
            }
        });
        MeshStatus {
            age_s: self.started.elapsed().as_secs(),
            rootless: mesh.rootless,
            manifests: mesh.launch.manifests.clone(),
            published: published.collect(),
            control: program(&self.parts.control.state(), &self.parts.usage),
            workloads: self
                .desired
                .workloads
                .values()
                .map(|workload| self.workload_status(workload))
                .collect(),
            pods: self
                .pods
                .values()
                .map(|pod| pod_summary(pod, &self.parts.usage))
                .collect(),
            warnings: self.warned.iter().chain(&self.silent_ports).cloned().collect(),
        }
    }

    fn workload_status(&self, workload: &Workload) -> WorkloadStatus {
        let pods = || self.pods.values().filter(|pod| pod.workload.id == workload.id);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        WorkloadStatus {
            id: workload.id.clone(),
            replicas: workload.replicas,
            ready: count(
                pods()
                    .filter(|pod| pod.workload.hash == workload.hash && pod.is_ready())
                    .count(),
            ),
            outdated: count(pods().filter(|pod| pod.workload.hash != workload.hash).count()),
        }
    }
}

fn pod_summary(pod: &PodHandle, usage: &Usage) -> PodSummary {
    let states = pod.states();
    let (state, reason) = describe(&pod.phase(), &states);
    let mut programs = states.iter().map(|state| program(state, usage));
    let sidecar = if pod.workload.mesh.is_some() {
        programs.next()
    } else {
        None
    };
    PodSummary {
        namespace: pod.namespace().to_owned(),
        name: pod.name.clone(),
        workload: pod.workload.id.to_string(),
        ready: pod.is_ready(),
        state,
        reason,
        restarts: states.iter().map(|state| state.restarts).sum(),
        age_s: pod.created.elapsed().as_secs(),
        ips: pod.ips(),
        meshed: pod.workload.mesh.is_some(),
        containers: programs.collect(),
        sidecar,
    }
}

/// What to tell of ports on which the programs of a pod do not listen. The same for all pods of a workload.
pub(super) fn silent_ports(pod: &PodHandle) -> Vec<String> {
    let id = &pod.workload.id;
    let states = pod.states();
    let silent = states.iter().filter(|state| !state.silent_ports.is_empty());
    let tell = |state: &ProgramState| {
        format!(
            "{} {id}: container {} counts as ready, but nothing in it listens on port {} of the pod's address. Correct containerPort, or give it a readinessProbe.",
            id.namespace,
            state.name,
            readiness::list(&state.silent_ports)
        )
    };
    silent.map(tell).collect()
}

fn program(state: &ProgramState, usage: &Usage) -> ProgramStatus {
    let used = state.pid.map(|pid| usage.of(pid)).unwrap_or_default();
    ProgramStatus {
        name: state.name.clone(),
        ready: state.ready,
        pid: state.pid,
        restarts: state.restarts,
        last_exit: state.last_exit.clone(),
        last_words: state.last_words.clone(),
        cpu_millicores: (used.cores * 1000.0).round() as u64,
        cpu_seconds: used.cpu_seconds,
        rss_bytes: used.rss,
    }
}

/// A word as kubectl has it, and why.
fn describe(phase: &Phase, programs: &[ProgramState]) -> (String, String) {
    let waiting = programs
        .iter()
        .find_map(|program| Some((program.waiting.clone()?, program)));
    let ended = |program: &ProgramState| {
        program
            .last_exit
            .as_ref()
            .map(|exit| format!("{}: {exit}", program.name))
            .unwrap_or_default()
    };
    match phase {
        Phase::Terminating | Phase::Gone => ("Terminating".to_owned(), String::new()),
        _ if waiting.is_some() => waiting
            .map(|(word, program)| (word, ended(program)))
            .unwrap_or_default(),
        Phase::Pending { why } => {
            let sidecar = programs.first().and_then(|program| program.unready.clone());
            (
                "Pending".to_owned(),
                sidecar.map_or_else(|| why.clone(), |unready| format!("{why}: {unready}")),
            )
        }
        Phase::Running => {
            let unready = programs.iter().find(|program| !program.ready);
            let reason = unready.map(|program| {
                program
                    .unready
                    .clone()
                    .map_or_else(|| ended(program), |why| format!("{}: {why}", program.name))
            });
            let last = || {
                programs
                    .iter()
                    .map(ended)
                    .find(|text| !text.is_empty())
                    .map(|text| format!("last end: {text}"))
            };
            ("Running".to_owned(), reason.or_else(last).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(ready: bool) -> ProgramState {
        ProgramState {
            name: "app".into(),
            ready,
            ..ProgramState::default()
        }
    }

    #[test]
    fn a_pod_is_described_in_the_operators_words() {
        let crashed = ProgramState {
            waiting: Some("CrashLoopBackOff".into()),
            last_exit: Some("exit code 1".into()),
            ..state(false)
        };
        let unready = ProgramState {
            unready: Some("10.77.0.2:80: refused".into()),
            ..state(false)
        };
        let restarted = ProgramState {
            last_exit: Some("killed by SIGKILL".into()),
            ..state(true)
        };
        let describe = |phase, state| {
            let (word, why) = describe(&phase, &[state]);
            format!("{word}|{why}")
        };
        assert_eq!(describe(Phase::Running, crashed), "CrashLoopBackOff|app: exit code 1");
        assert_eq!(
            describe(Phase::Running, unready.clone()),
            "Running|app: 10.77.0.2:80: refused"
        );
        assert_eq!(
            describe(Phase::Running, restarted),
            "Running|last end: app: killed by SIGKILL"
        );
        assert_eq!(
            describe(
                Phase::Pending {
                    why: "its sidecar starts".into()
                },
                unready
            ),
            "Pending|its sidecar starts: 10.77.0.2:80: refused"
        );
        assert_eq!(describe(Phase::Terminating, state(true)), "Terminating|");
    }
}
