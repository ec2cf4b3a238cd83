//! Which pods to start and which to stop, so that a workload becomes what it shall be. Pure.
//!
//! A Deployment rolls: new pods start beside the old ones, an old one stops for each new one that is ready, so there are never fewer ready
//! pods than there shall be. A StatefulSet goes one pod at a time, because names are taken.

use crate::workload::{Workload, WorkloadKind};

/// A pod of the workload, as far as planning goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Existing {
    /// Name.
    pub(super) name: String,
    /// Template that it was made from.
    pub(super) hash: String,
    /// Whether it takes traffic.
    pub(super) ready: bool,
    /// Whether it was told to end.
    pub(super) stopping: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a pod of this name.
    Start(String),
    /// Tell a pod to end.
    Stop(String),
}

/// What to do next; called again whenever something changed.
pub(super) fn plan(workload: &Workload, existing: &[Existing]) -> Vec<Action> {
    match workload.id.kind {
        WorkloadKind::Deployment => roll(workload, existing),
        WorkloadKind::StatefulSet => in_order(workload, existing),
        WorkloadKind::Pod => replace(workload, existing),
    }
}

fn roll(workload: &Workload, existing: &[Existing]) -> Vec<Action> {
    let replicas = workload.replicas as usize;
    let (mut current, old): (Vec<&Existing>, Vec<&Existing>) = existing
        .iter()
        .filter(|pod| !pod.stopping)
        .partition(|pod| pod.hash == workload.hash);
    let mut actions = Vec::new();
    // Kubernetes' default: a quarter more, while a new template rolls out.
    let surge = if old.is_empty() { 0 } else { replicas.div_ceil(4).max(1) };
    let room = (replicas + surge).saturating_sub(current.len() + old.len());
    let missing = replicas.saturating_sub(current.len()).min(room);
    actions.extend(free_names(workload, existing).take(missing).map(Action::Start));
    // Too many: those that do not serve go first, then the youngest names.
    current.sort_by(|a, b| (b.ready, &a.name).cmp(&(a.ready, &b.name)));
    actions.extend(current.iter().skip(replicas).map(|pod| Action::Stop(pod.name.clone())));
    let serving = current
        .iter()
        .take(replicas)
        .chain(&old)
        .filter(|pod| pod.ready)
        .count();
    let mut spare = serving.saturating_sub(replicas);
    for pod in old {
        // An old pod that does not serve is of no use to anybody.
        if !pod.ready || spare > 0 {
            spare -= usize::from(pod.ready);
            actions.push(Action::Stop(pod.name.clone()));
        }
    }
    actions
}

/// `NAME-HASH-N` with the smallest numbers that no pod has, not even one that ends.
fn free_names<'a>(workload: &'a Workload, existing: &'a [Existing]) -> impl Iterator<Item = String> + 'a {
    let name = |number: u32| format!("{}-{}-{number}", workload.id.name, workload.hash);
    (0..)
        .map(name)
        .filter(|name| existing.iter().all(|pod| pod.name != *name))
}

fn in_order(workload: &Workload, existing: &[Existing]) -> Vec<Action> {
    let name = |number: u32| format!("{}-{number}", workload.id.name);
    let find = |number: u32| existing.iter().find(|pod| pod.name == name(number));
    let wanted = 0..workload.replicas;
    let names: Vec<String> = wanted.clone().map(name).collect();
    let surplus = existing
        .iter()
        .filter(|pod| !pod.stopping && !names.contains(&pod.name));
    let mut actions: Vec<Action> = surplus.map(|pod| Action::Stop(pod.name.clone())).collect();
    // Upwards, each after the one before is ready.
    for number in wanted.clone() {
        match find(number) {
            Some(pod) if pod.ready => {}
            Some(pod) if pod.hash != workload.hash && !pod.stopping => {
                // It is not ready, and a new template may be why: replace it.
                actions.push(Action::Stop(pod.name.clone()));
                return actions;
            }
            Some(_) => return actions,
            None => {
                actions.push(Action::Start(name(number)));
                return actions;
            }
        }
    }
    // All ready: the template rolls out downwards.
    let outdated = wanted
        .rev()
        .filter_map(find)
        .find(|pod| pod.hash != workload.hash && !pod.stopping);
    actions.extend(outdated.map(|pod| Action::Stop(pod.name.clone())));
    actions
}

fn replace(workload: &Workload, existing: &[Existing]) -> Vec<Action> {
    let wanted = workload.replicas > 0;
    match existing {
        [] if wanted => vec![Action::Start(workload.id.name.clone())],
        [pod, ..] if !pod.stopping && (!wanted || pod.hash != workload.hash) => vec![Action::Stop(pod.name.clone())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadId;

    fn workload(kind: WorkloadKind, replicas: u32) -> Workload {
        let id = WorkloadId {
            namespace: "bank".into(),
            kind,
            name: "w".into(),
        };
        let (labels, annotations, spec) = Default::default();
        Workload {
            id,
            replicas,
            declared: replicas,
            labels,
            annotations,
            spec,
            hash: "new".into(),
            mesh: None,
        }
    }

    /// `w-new-0 ready`, `w-old-1 starting`, `w-old-2 stopping`.
    fn pods(text: &[&str]) -> Vec<Existing> {
        let parse = |line: &&str| {
            let (name, state) = line.split_once(' ').expect("name and state");
            let hash = if name.contains("old") || state.contains("old") {
                "old"
            } else {
                "new"
            };
            let name = name.to_owned();
            Existing {
                name,
                hash: hash.into(),
                ready: state.contains("ready"),
                stopping: state.contains("stopping"),
            }
        };
        text.iter().map(parse).collect()
    }

    fn planned(kind: WorkloadKind, replicas: u32, existing: &[&str]) -> String {
        let show = |action: Action| match action {
            Action::Start(name) => format!("+{name}"),
            Action::Stop(name) => format!("-{name}"),
        };
        plan(&workload(kind, replicas), &pods(existing))
            .into_iter()
            .map(show)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_deployment_grows_and_shrinks() {
        use WorkloadKind::Deployment;
        assert_eq!(planned(Deployment, 3, &[]), "+w-new-0 +w-new-1 +w-new-2");
        assert_eq!(
            planned(Deployment, 2, &["w-new-0 stopping", "w-new-1 ready"]),
            "+w-new-2"
        );
        assert_eq!(
            planned(Deployment, 1, &["w-new-0 starting", "w-new-1 ready", "w-new-2 ready"]),
            "-w-new-2 -w-new-0"
        );
        assert_eq!(planned(Deployment, 0, &["w-new-0 ready"]), "-w-new-0");
    }

    #[test]
    fn a_roll_out_never_serves_with_fewer_pods() {
        use WorkloadKind::Deployment;
        let old = ["w-old-0 ready", "w-old-1 ready", "w-old-2 ready"];
        assert_eq!(planned(Deployment, 3, &old), "+w-new-0");
        let starting = [&old[..], &["w-new-0 starting"]].concat();
        assert_eq!(
            planned(Deployment, 3, &starting),
            "",
            "nothing stops before the new one is ready"
        );
        let ready = [&old[..], &["w-new-0 ready"]].concat();
        assert_eq!(planned(Deployment, 3, &ready), "-w-old-0");
        assert_eq!(
            planned(
                Deployment,
                3,
                &["w-old-0 stopping", "w-old-1 ready", "w-old-2 ready", "w-new-0 ready"]
            ),
            "+w-new-1"
        );
        assert_eq!(
            planned(Deployment, 1, &["w-old-0 starting", "w-new-0 starting"]),
            "-w-old-0",
            "a broken version is let go of"
        );
    }

    #[test]
    fn a_stateful_set_goes_one_at_a_time() {
        use WorkloadKind::StatefulSet;
        assert_eq!(planned(StatefulSet, 2, &[]), "+w-0");
        assert_eq!(planned(StatefulSet, 2, &["w-0 starting"]), "");
        assert_eq!(planned(StatefulSet, 2, &["w-0 ready"]), "+w-1");
        assert_eq!(planned(StatefulSet, 2, &["w-0 old,ready", "w-1 old,ready"]), "-w-1");
        assert_eq!(planned(StatefulSet, 2, &["w-0 old,ready", "w-1 old,stopping"]), "");
        assert_eq!(planned(StatefulSet, 2, &["w-0 old,ready", "w-1 ready"]), "-w-0");
        assert_eq!(planned(StatefulSet, 1, &["w-0 ready", "w-1 ready"]), "-w-1");
    }

    #[test]
    fn a_pod_is_replaced_under_its_name() {
        use WorkloadKind::Pod;
        assert_eq!(planned(Pod, 1, &[]), "+w");
        assert_eq!(planned(Pod, 1, &["w old,ready"]), "-w");
        assert_eq!(planned(Pod, 1, &["w old,stopping"]), "");
        assert_eq!(planned(Pod, 1, &["w ready"]), "");
    }
}
