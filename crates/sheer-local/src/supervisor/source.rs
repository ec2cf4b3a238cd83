//! The manifests, watched: every change is read again; of a file with an error the last good state stays.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecursiveMode, Watcher as _};
use sheer_control::manifests::{self, Finding, Manifest, Severity};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// Editors write a file in several steps: what comes within this is one change.
const SETTLE: Duration = Duration::from_millis(30);
/// Read again even if nothing was heard: file systems exist (network, overlay) that tell nobody.
const POLL: Duration = Duration::from_secs(5);

/// What the manifests say now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Manifests {
    /// Objects in force.
    pub(super) objects: Vec<Manifest>,
    /// What is wrong with the files as they are now.
    pub(super) findings: Vec<Finding>,
}

/// Reads the manifests and keeps them up to date.
pub(super) fn watch(paths: Vec<PathBuf>) -> watch::Receiver<Arc<Manifests>> {
    let first = Manifests::read(&paths, &Manifests::default());
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(follow(paths, sender));
    receiver
}

async fn follow(paths: Vec<PathBuf>, sender: watch::Sender<Arc<Manifests>>) {
    let changed = Arc::new(Notify::new());
    let _watcher = start_watcher(&paths, &changed);
    loop {
        // Whether it was heard or polled for, it is read.
        let heard = timeout(POLL, changed.notified()).await;
        if heard.is_ok() {
            sleep(SETTLE).await;
        }
        let next = Manifests::read(&paths, &sender.borrow());
        sender.send_if_modified(|current| {
            let differs = **current != next;
            if differs {
                *current = Arc::new(next);
            }
            differs
        });
        if sender.is_closed() {
            return;
        }
    }
}

fn start_watcher(paths: &[PathBuf], changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let notify = Arc::clone(changed);
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading the manifests is an access, too: it must not cause the next reading.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            notify.notify_one();
        }
    };
    let mut watcher = match notify::recommended_watcher(on_event) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "manifests are not watched, but read every {POLL:?}");
            return None;
        }
    };
    for path in paths {
        // A file is replaced by renaming another over it, so its folder is what has to be watched.
        let (target, mode) = match path.parent() {
            Some(folder) if path.is_file() => (folder, RecursiveMode::NonRecursive),
            _ => (path.as_path(), RecursiveMode::Recursive),
        };
        if let Err(error) = watcher.watch(target, mode) {
            tracing::warn!(path = %target.display(), %error, "not watched, but read every {POLL:?}");
        }
    }
    Some(watcher)
}

impl Manifests {
    fn read(paths: &[PathBuf], before: &Self) -> Self {
        let loaded = manifests::load(paths);
        Self {
            objects: keep_last_good(loaded.manifests, &loaded.findings, &before.objects),
            findings: loaded.findings,
        }
    }
}

/// Objects of files that have an error are as they were before.
fn keep_last_good(read: Vec<Manifest>, findings: &[Finding], before: &[Manifest]) -> Vec<Manifest> {
    let broken = |file: &Path| {
        findings
            .iter()
            .any(|finding| finding.severity == Severity::Error && *finding.file == *file)
    };
    let mut objects: BTreeMap<_, Manifest> = BTreeMap::new();
    let kept = before
        .iter()
        .filter(|manifest| broken(&manifest.file) && manifest.file.exists())
        .cloned();
    for manifest in kept.chain(read) {
        objects.entry(manifest.object.id()).or_insert(manifest);
    }
    objects.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, replicas: &str) {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {} }}\nspec:\n  replicas: {replicas}\n  selector: {{ matchLabels: {{ app: w }} }}\n  \
             template:\n    metadata: {{ labels: {{ app: w }} }}\n    spec: {{ containers: [{{ name: app, command: [sleep] }}] }}\n",
            path.file_stem().expect("a name").to_string_lossy()
        );
        std::fs::write(path, text).expect("written");
    }

    fn replicas(manifests: &Manifests) -> Vec<u32> {
        let count = |manifest: &Manifest| match &manifest.object {
            sheer_control::objects::Object::Deployment(deployment) => deployment.spec.replicas,
            other => panic!("{other:?}"),
        };
        manifests.objects.iter().map(count).collect()
    }

    #[tokio::test]
    async fn an_edit_is_heard_and_a_broken_file_keeps_its_last_good_state() {
        let dir = tempfile::tempdir().expect("a folder");
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        write(&a, "1");
        write(&b, "1");
        let mut manifests = watch(vec![dir.path().to_owned()]);
        assert_eq!(replicas(&manifests.borrow()), [1, 1]);
        // The watcher starts beside this test: write until it is heard.
        let mut see = async |files: &[(&Path, &str)], expected: &[u32]| {
            for _ in 0..50 {
                for (file, count) in files {
                    write(file, count);
                }
                let seen = manifests.wait_for(|now| {
                    replicas(now) == expected && files.iter().all(|(_, c)| *c != "many" || !now.findings.is_empty())
                });
                if timeout(Duration::from_millis(200), seen).await.is_ok() {
                    return;
                }
            }
            panic!("not seen: {expected:?}");
        };
        see(&[(&a, "3")], &[3, 1]).await;
        see(&[(&a, "many"), (&b, "2")], &[3, 2]).await;
        std::fs::remove_file(&a).expect("removed");
        see(&[(&b, "2")], &[2]).await;
    }
}
