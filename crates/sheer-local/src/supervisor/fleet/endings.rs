//! Workloads that end because the manifests no longer have them: nobody removes those by mistake without reading so. Pure.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use sheer_control::manifests::Manifest;

use crate::workload::WorkloadId;

/// Which file declares each workload.
pub(super) type Places = BTreeMap<WorkloadId, Arc<Path>>;

/// Which file declares each workload.
pub(super) fn places(manifests: &[Manifest]) -> Places {
    let place = |manifest: &Manifest| Some((WorkloadId::of(&manifest.object)?, Arc::clone(&manifest.file)));
    manifests.iter().filter_map(place).collect()
}

/// What to tell of workloads that ended, a line for each file that had them.
pub(super) fn endings(before: &Places, after: &Places, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut ended: BTreeMap<&Arc<Path>, Vec<String>> = BTreeMap::new();
    for (id, file) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
        ended.entry(file).or_default().push(format!("{} {id}", id.namespace));
    }
    let line = |(file, ids): (&Arc<Path>, Vec<String>)| {
        let end = match ids.len() {
            1 => "1 workload ends".to_owned(),
            several => format!("{several} workloads end"),
        };
        let why = if exists(file) {
            "no longer has what it had"
        } else {
            "is gone"
        };
        format!("{} {why}: {end} ({})", file.display(), ids.join(", "))
    };
    ended.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &[&str])]) -> Places {
        let manifests = files.iter().flat_map(|(file, names)| {
            let text: Vec<String> = names.iter().map(|name| pod(name)).collect();
            let loaded = sheer_control::manifests::parse(Path::new(file), &text.join("---\n"));
            assert!(!loaded.has_errors(), "{:?}", loaded.findings);
            loaded.manifests
        });
        places(&manifests.collect::<Vec<_>>())
    }

    fn pod(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: bank}}\nspec: {{containers: [{{name: app, command: [app]}}]}}\n"
        )
    }

    #[test]
    fn a_file_that_is_gone_is_named_with_what_ends() {
        let before = of(&[("m/a.yaml", &["fx", "web"]), ("m/b.yaml", &["db"])]);
        let after = of(&[("m/b.yaml", &["db"])]);
        let told = endings(&before, &after, |_| false);
        assert_eq!(told, ["m/a.yaml is gone: 2 workloads end (bank pod/fx, bank pod/web)"]);
        let told = endings(&before, &of(&[("m/a.yaml", &["fx", "web"])]), |_| false);
        assert_eq!(told, ["m/b.yaml is gone: 1 workload ends (bank pod/db)"]);
    }

    #[test]
    fn what_was_taken_out_of_a_file_is_named_and_what_moved_is_not() {
        let before = of(&[("m/a.yaml", &["fx", "web"])]);
        let edited = of(&[("m/a.yaml", &["web"])]);
        let told = endings(&before, &edited, |_| true);
        assert_eq!(
            told,
            ["m/a.yaml no longer has what it had: 1 workload ends (bank pod/fx)"]
        );
        let moved = of(&[("m/b.yaml", &["fx", "web", "new"])]);
        assert_eq!(endings(&before, &moved, |_| false), Vec::<String>::new());
    }
}
