//! Names: how operators refer to workloads, and how template versions are told apart.

use std::{fmt, str::FromStr};

use super::{WorkloadId, WorkloadKind};
use crate::addresses::fnv;

/// Letters of generated names: Kubernetes' choice, no vowels, so that no words come out.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a template's hash.
const HASH_LENGTH: usize = 5;

/// A short word that changes whenever the template does.
pub fn template_hash(template: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(template).expect("templates have string keys, so they always become JSON");
    let mut rest = fnv(&text);
    let mut letter = || {
        let letter = LETTERS[(rest % LETTERS.len() as u64) as usize];
        rest /= LETTERS.len() as u64;
        char::from(letter)
    };
    (0..HASH_LENGTH).map(|_| letter()).collect()
}

/// What an operator typed: `deploy/web`, `web`, `pod/web-6d9f4-0`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reference {
    /// Kind, where one was typed.
    pub kind: Option<WorkloadKind>,
    /// Name of a workload or of a pod.
    pub name: String,
}

impl Reference {
    /// Whether a pod of this workload is meant.
    pub fn matches(&self, workload: &WorkloadId, pod: &str) -> bool {
        self.matches_workload(workload) || (matches!(self.kind, None | Some(WorkloadKind::Pod)) && self.name == pod)
    }

    /// Whether the whole workload is meant.
    pub fn matches_workload(&self, workload: &WorkloadId) -> bool {
        self.kind.is_none_or(|kind| kind == workload.kind) && self.name == workload.name
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((kind, name)) => (Some(parse_kind(kind)?), name),
        };
        let valid = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        if !valid {
            return Err(format!(
                "{text:?} names no workload; write it as deploy/web, pod/web-6d9f4-0 or web"
            ));
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

fn parse_kind(kind: &str) -> Result<WorkloadKind, String> {
    match kind {
        "deploy" | "deployment" | "deployments" | "deployment.apps" => Ok(WorkloadKind::Deployment),
        "sts" | "statefulset" | "statefulsets" | "statefulset.apps" => Ok(WorkloadKind::StatefulSet),
        "po" | "pod" | "pods" => Ok(WorkloadKind::Pod),
        _ => Err(format!(
            "a local mesh runs deployments, statefulsets and pods, not {kind:?}; write deploy/NAME, sts/NAME or pod/NAME"
        )),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{}/{}", kind.as_str(), self.name),
            None => f.write_str(&self.name),
        }
    }
}
