//! Some files and folders, and the last good state of each file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::manifests::{self, Finding, Loaded, Manifest, Severity};

/// How long a file that became empty is believed to be about to be written.
const EMPTY_GRACE: Duration = Duration::from_millis(200);

/// What tells one content of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// A file: what it last held without error, and what is wrong with what it holds now.
pub(super) struct FileState {
    stamp: Option<Stamp>,
    good: Vec<Manifest>,
    findings: Vec<Finding>,
}

/// Some files and folders, and the last good state of each file.
pub(super) struct Source {
    pub(super) roots: Vec<PathBuf>,
    files: BTreeMap<PathBuf, FileState>,
    unreadable: Vec<Finding>,
}

impl Source {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            files: BTreeMap::new(),
            unreadable: Vec::new(),
        }
    }

    /// Reads what changed. Whether anything did.
    pub(super) fn rescan(&mut self) -> bool {
        let (paths, unreadable) = manifests::list(&self.roots);
        let mut changed = unreadable != self.unreadable;
        self.unreadable = unreadable;
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        let before = self.files.len();
        self.files.retain(|path, _| paths.contains(path));
        changed |= self.files.len() != before;
        for path in paths {
            // The stamp is taken before the content: a write in between is then read again, never missed.
            let stamp = Stamp::of(&path);
            if self.files.get(&path).is_none_or(|state| state.stamp != stamp) {
                changed |= self.reload(path, stamp);
            }
        }
        changed
    }

    fn reload(&mut self, path: PathBuf, stamp: Option<Stamp>) -> bool {
        let (stamp, loaded) = settle(&path, stamp, self.files.get(&path));
        let failed = loaded.has_errors();
        for finding in &loaded.findings {
            match finding.severity {
                Severity::Error => tracing::error!("{finding}"),
                Severity::Warning => tracing::warn!("{finding}"),
            }
        }
        let state = self.files.entry(path).or_insert_with(|| FileState {
            stamp: None,
            good: Vec::new(),
            findings: Vec::new(),
        });
        if failed && !state.good.is_empty() {
            tracing::error!(
                objects = state.good.len(),
                "the last good state of the file stays in force"
            );
        }
        let changed = state.findings != loaded.findings || (!failed && state.good != loaded.manifests);
        state.stamp = stamp;
        state.findings = loaded.findings;
        if !failed {
            state.good = loaded.manifests;
        }
        changed
    }

    /// The last good state of every file.
    pub(super) fn manifests(&self) -> Vec<Manifest> {
        self.files
            .values()
            .flat_map(|state| state.good.iter().cloned())
            .collect()
    }

    /// What is wrong with the files as they are now.
    pub(super) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.unreadable
            .iter()
            .chain(self.files.values().flat_map(|state| &state.findings))
    }
}

/// Reads a file, and once more where it turned empty: programs that do not write by rename truncate first, and for that moment
/// every object of the file would be gone.
fn settle(path: &Path, stamp: Option<Stamp>, held: Option<&FileState>) -> (Option<Stamp>, Loaded) {
    let had_objects = held.is_some_and(|state| !state.good.is_empty());
    if !had_objects || stamp.is_some_and(|stamp| stamp.size > 0) {
        return (stamp, manifests::load_file(path));
    }
    let deadline = Instant::now() + EMPTY_GRACE;
    loop {
        let stamp = Stamp::of(path);
        if stamp.is_some_and(|stamp| stamp.size > 0) || Instant::now() >= deadline {
            return (stamp, manifests::load_file(path));
        }
        thread::park_timeout(EMPTY_GRACE / 10);
    }
}
