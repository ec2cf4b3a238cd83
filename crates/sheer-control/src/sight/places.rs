//! Where objects were written: file and line for every decision.

use std::{collections::HashMap, path::Path, sync::Arc};

use sheer_api::v1;

use crate::{manifests::Manifest, objects::Kind, store::Snapshot};

/// File and line of every object, and of its rules.
pub(super) struct Places(HashMap<Key, Place>);

struct Place {
    file: Arc<Path>,
    line: u32,
    rules: Arc<[u32]>,
}

impl Place {
    /// The line of a rule, from 1; of the object itself where it is none.
    fn line(&self, rule: u32) -> u32 {
        let rule = rule.checked_sub(1).and_then(|index| self.rules.get(index as usize));
        rule.copied().unwrap_or(self.line)
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    /// In lower case, as labels have it.
    kind: String,
    /// An HTTPRoute of the policy group: the one name that is in two groups.
    is_of_policies: bool,
    namespace: String,
    name: String,
}

impl Places {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let place = |manifest: &Manifest| {
            let id = manifest.object.id();
            let key = Key {
                kind: id.kind.as_str().to_ascii_lowercase(),
                is_of_policies: id.kind == Kind::PolicyHttpRoute,
                namespace: id.namespace,
                name: id.name,
            };
            let place = Place {
                file: manifest.file.clone(),
                line: manifest.line,
                rules: manifest.rules.clone(),
            };
            (key, place)
        };
        Self(snapshot.written().iter().map(place).collect())
    }

    /// Fills in file and line, and the namespace that labels leave out: `namespace` is that of the workload.
    pub(super) fn fill(&self, decisions: &mut [v1::Decision], namespace: &str) {
        for decision in decisions {
            if let Some(object) = &mut decision.object {
                (decision.file, decision.line) = self.find(object, decision.rule, namespace);
            }
            for loser in &mut decision.losers {
                if let Some(object) = &mut loser.object {
                    (loser.file, loser.line) = self.find(object, loser.rule, namespace);
                }
            }
        }
    }

    fn find(&self, object: &mut v1::ObjectRef, rule: u32, namespace: &str) -> (String, u32) {
        if object.kind == "default" {
            return (String::new(), 0);
        }
        if object.namespace.is_empty() {
            namespace.clone_into(&mut object.namespace);
        }
        let kind = object.kind.to_ascii_lowercase();
        let key = Key {
            is_of_policies: kind == "httproute" && Kind::PolicyHttpRoute.is_of(&object.group),
            kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        };
        self.0.get(&key).map_or_else(Default::default, |place| {
            (place.file.display().to_string(), place.line(rule))
        })
    }
}
