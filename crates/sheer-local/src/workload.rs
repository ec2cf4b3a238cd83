//! What shall run, worked out from manifests. Pure: objects in, [`Desired`] out.

mod names;
mod options;

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sheer_control::{
    manifests::Manifest,
    objects::{Labels, Namespace, Object, PodSpec, PodTemplate, Service, WorkloadSpec, annotation, parse_publish},
};

pub use names::{Reference, template_hash};
pub use options::{MeshOptions, redirects};

#[cfg(test)]
mod tests;

/// What makes pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// Replicas, any of which can stand for another.
    #[serde(rename = "deploy")]
    Deployment,
    /// Replicas with names of their own.
    #[serde(rename = "sts")]
    StatefulSet,
    /// One pod, as it is.
    #[serde(rename = "pod")]
    Pod,
}

impl WorkloadKind {
    /// The short word, as kubectl has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deploy",
            Self::StatefulSet => "sts",
            Self::Pod => "pod",
        }
    }
}

/// What makes a workload unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadId {
    /// Namespace.
    pub namespace: String,
    /// Kind.
    pub kind: WorkloadKind,
    /// Name.
    pub name: String,
}

impl WorkloadId {
    /// The workload that an object is, if it is one.
    pub fn of(object: &Object) -> Option<Self> {
        let kind = match object {
            Object::Deployment(_) => WorkloadKind::Deployment,
            Object::StatefulSet(_) => WorkloadKind::StatefulSet,
            Object::Pod(_) => WorkloadKind::Pod,
            _ => return None,
        };
        let metadata = object.metadata();
        Some(Self {
            namespace: metadata.namespace.clone(),
            kind,
            name: metadata.name.clone(),
        })
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

/// A workload as it shall run.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What makes it unique.
    pub id: WorkloadId,
    /// How many pods.
    pub replicas: u32,
    /// How many the manifest asks for.
    pub declared: u32,
    /// Labels of its pods.
    pub labels: Labels,
    /// Annotations of its pods, over those of their namespace.
    pub annotations: Labels,
    /// Containers of its pods.
    pub spec: PodSpec,
    /// Changes with everything that a pod is made from.
    pub hash: String,
    /// What its sidecar is told; `None` where it has none.
    pub mesh: Option<MeshOptions>,
}

/// Where connections to a published port go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishTarget {
    /// A pod of a workload.
    Workload(WorkloadId),
    /// An endpoint of a service: namespace, name.
    Service(String, String),
}

/// A port of the host that leads into the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it leads.
    pub target: PublishTarget,
    /// Port of the pod, or of the service.
    pub port: u16,
}

/// Everything that shall run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Workloads.
    pub workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    /// Services by namespace and name.
    pub services: BTreeMap<(String, String), Arc<Service>>,
    /// Published ports, by port of the host.
    pub published: BTreeMap<u16, Publication>,
    /// What is not honoured, and what to do.
    pub warnings: Vec<String>,
}

/// What the operator changed by command, beside the manifests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Replicas of a workload, and the manifest's number that they replace: another number in the manifest ends it.
    pub replicas: BTreeMap<WorkloadId, (u32, u32)>,
    /// How often a workload was restarted by command.
    pub restarts: BTreeMap<WorkloadId, u32>,
}

impl Overrides {
    /// Forgets numbers of replicas whose time is over: the manifest has had another number than the one that they replaced.
    pub fn forget_ended(&mut self, desired: &Desired) {
        self.replicas.retain(|id, (_, replaced)| {
            let workload = desired.workloads.get(id);
            workload.is_some_and(|workload| workload.declared == *replaced)
        });
    }
}

/// Works out what shall run.
pub fn desired(manifests: &[Manifest], overrides: &Overrides) -> Desired {
    let mut desired = Desired::default();
    let namespaces: BTreeMap<&str, &Namespace> = manifests
        .iter()
        .filter_map(|manifest| match &manifest.object {
            Object::Namespace(namespace) => Some((namespace.metadata.name.as_str(), &**namespace)),
            _ => None,
        })
        .collect();
    for manifest in manifests {
        let (replicas, template) = match &manifest.object {
            Object::Deployment(o) => (o.spec.replicas, template(&o.spec)),
            Object::StatefulSet(o) => (o.spec.replicas, template(&o.spec)),
            Object::Pod(pod) => (1, PodTemplateRef::of_pod(pod)),
            Object::Service(service) => {
                desired.add_service(service);
                continue;
            }
            _ => continue,
        };
        let id = WorkloadId::of(&manifest.object).expect("what has a template is a workload");
        let inherited = namespaces
            .get(id.namespace.as_str())
            .map(|namespace| mesh_annotations(&namespace.metadata.annotations));
        let template = template.over(inherited.unwrap_or_default());
        desired.add_workload(id, replicas, template, overrides);
        desired.publish_workload(manifest);
    }
    desired
}

/// The parts of a pod template, whatever object holds it.
struct PodTemplateRef<'a> {
    labels: &'a Labels,
    annotations: Cow<'a, Labels>,
    spec: &'a PodSpec,
}

fn template(spec: &WorkloadSpec) -> PodTemplateRef<'_> {
    let PodTemplate { metadata, spec } = &spec.template;
    PodTemplateRef {
        labels: &metadata.labels,
        annotations: Cow::Borrowed(&metadata.annotations),
        spec,
    }
}

impl<'a> PodTemplateRef<'a> {
    /// The template with the annotations of its namespace as defaults.
    fn over(self, mut inherited: Labels) -> Self {
        inherited.extend(self.annotations.into_owned());
        Self {
            annotations: Cow::Owned(inherited),
            ..self
        }
    }

    fn of_pod(pod: &'a sheer_control::objects::Pod) -> Self {
        Self {
            labels: &pod.metadata.labels,
            annotations: Cow::Borrowed(&pod.metadata.annotations),
            spec: &pod.spec,
        }
    }
}

impl Desired {
    fn add_workload(&mut self, id: WorkloadId, declared: u32, template: PodTemplateRef<'_>, overrides: &Overrides) {
        let annotations = template.annotations.into_owned();
        let replicas = match overrides.replicas.get(&id) {
            Some((wanted, replaced)) if *replaced == declared => *wanted,
            _ => declared,
        };
        let restarts = overrides.restarts.get(&id).copied().unwrap_or(0);
        let hash = template_hash(&(template.labels, &annotations, template.spec, restarts));
        let mesh = is_meshed(&annotations).then(|| MeshOptions::of(&annotations));
        let (labels, spec) = (template.labels.clone(), template.spec.clone());
        let workload = Workload {
            id: id.clone(),
            replicas,
            declared,
            labels,
            annotations,
            spec,
            hash,
            mesh,
        };
        self.warn_of_empty_commands(&workload);
        self.workloads.insert(id, Arc::new(workload));
    }

    /// No image is pulled, so a container without a command has nothing to run.
    fn warn_of_empty_commands(&mut self, workload: &Workload) {
        for container in workload
            .spec
            .containers
            .iter()
            .filter(|container| container.command.is_empty())
        {
            self.warnings.push(format!(
                "{} {}: container {} has no command, and images are not pulled: it is not started. Give it a command.",
                workload.id.namespace, workload.id, container.name
            ));
        }
    }

    fn add_service(&mut self, service: &Arc<Service>) {
        let metadata = &service.metadata;
        let key = (metadata.namespace.clone(), metadata.name.clone());
        let default_port = service.spec.ports.first().map(|port| port.port);
        self.publish(
            &metadata.annotations,
            default_port,
            &PublishTarget::Service(key.0.clone(), key.1.clone()),
        );
        self.services.insert(key, Arc::clone(service));
    }

    /// The annotation stands on the pod template, or on the object itself.
    fn publish_workload(&mut self, manifest: &Manifest) {
        let id = WorkloadId::of(&manifest.object);
        let Some(workload) = id.and_then(|id| self.workloads.get(&id)).cloned() else {
            return;
        };
        let mut annotations = manifest.object.metadata().annotations.clone();
        annotations.extend(workload.annotations.clone());
        let default_port = workload
            .spec
            .containers
            .iter()
            .flat_map(|container| &container.ports)
            .map(|port| port.container_port)
            .next();
        self.publish(
            &annotations,
            default_port,
            &PublishTarget::Workload(workload.id.clone()),
        );
    }

    fn publish(&mut self, annotations: &Labels, default_port: Option<u16>, target: &PublishTarget) {
        let Some(text) = annotations.get("sheer.dev/publish") else {
            return;
        };
        let mut mistakes = Vec::new();
        // What cannot be read is an error of the manifest, which is then not in force.
        for (host, port) in parse_publish(text).unwrap_or_default() {
            let Some(port) = port.or(default_port) else {
                mistakes.push(format!(
                    "{host}: leads nowhere, as no port is declared: write it, as {host}:8080"
                ));
                continue;
            };
            let target = target.clone();
            if self.published.insert(host, Publication { target, port }).is_some() {
                mistakes.push(format!(
                    "port {host} of the host is published twice; the last one counts"
                ));
            }
        }
        let what = match target {
            PublishTarget::Workload(id) => format!("{} {id}", id.namespace),
            PublishTarget::Service(namespace, name) => format!("{namespace} svc/{name}"),
        };
        self.warnings.extend(
            mistakes
                .into_iter()
                .map(|mistake| format!("{what}: annotation sheer.dev/publish: {mistake}")),
        );
    }
}

/// What the control plane reads of the Namespace itself, at once: pods would be replaced, and what is known of them lost, for nothing.
const READ_LIVE: [&str; 3] = ["sight", "redact-headers", "redact-fields"];

/// Of a namespace's annotations, those that configure its pods; they are defaults.
fn mesh_annotations(annotations: &Labels) -> Labels {
    let configures = |key: &str| match key.split_once('/') {
        Some(("sheer.dev" | "linkerd.io", name)) => !READ_LIVE.contains(&name),
        Some(("config.sheer.dev" | "config.linkerd.io", _)) => true,
        _ => false,
    };
    annotations
        .iter()
        .filter(|(key, _)| configures(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn is_meshed(annotations: &Labels) -> bool {
    !matches!(annotation(annotations, "", "inject"), Some("disabled" | "false"))
}
