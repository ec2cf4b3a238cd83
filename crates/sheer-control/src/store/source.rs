//! Some files and folders, and the last good state of each file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::memory::Memory;
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
    /// Keeps last good states over a restart.
    memory: Option<Memory>,
    /// Whether findings are logged as they come up; whoever reads the state may rather say them in words of its own.
    logs: bool,
    /// Whether the mesh wrote them itself, from what users wrote: of that everything was said that is not honoured.
    derived: bool,
}

impl Source {
    pub(super) fn new(roots: Vec<PathBuf>, memory: Option<Memory>) -> Self {
        Self {
            roots,
            files: BTreeMap::new(),
            unreadable: Vec::new(),
            memory,
            logs: true,
            derived: false,
        }
    }

    /// For what the mesh writes itself: only what cannot be read at all is worth a word, and that is no user's mistake.
    pub(super) fn derived(self) -> Self {
        Self { derived: true, ..self }
    }

    /// Leaves it to the reader to say what is wrong.
    pub(super) fn silent(self) -> Self {
        Self { logs: false, ..self }
    }

    /// Reads what changed. Whether anything did.
    pub(super) fn rescan(&mut self) -> bool {
        let (paths, unreadable) = manifests::list(&self.roots);
        let mut changed = unreadable != self.unreadable;
        self.unreadable = unreadable;
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        let before = self.files.len();
        // Of a folder that cannot be read nobody knows what was removed: its last good state stays.
        let gone =
            |path: &PathBuf| !paths.contains(path) && !self.unreadable.iter().any(|root| path.starts_with(&root.file));
        self.files.retain(|path, _| {
            let gone = gone(path);
            if gone && let Some(memory) = &self.memory {
                memory.forget(path);
            }
            !gone
        });
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
        let held = self.files.get(&path);
        let (stamp, text) = settle(&path, stamp, held.is_some_and(|state| !state.good.is_empty()));
        let mut loaded = match &text {
            Ok(text) => manifests::parse(&path, text),
            Err(finding) => Loaded {
                manifests: Vec::new(),
                findings: vec![finding.clone()],
            },
        };
        if self.derived {
            loaded.findings.retain(|finding| finding.severity == Severity::Error);
        }
        if self.logs {
            log(&loaded.findings);
        }
        let failed = loaded.has_errors();
        let mut remembered = Vec::new();
        match (&self.memory, &text) {
            (Some(memory), Ok(text)) if !failed => memory.keep(&path, text),
            (Some(memory), _) if failed && held.is_none() => remembered = memory.recall(&path),
            _ => {}
        }
        let state = self.files.entry(path).or_insert_with(|| FileState {
            stamp: None,
            good: remembered,
            findings: Vec::new(),
        });
        if self.logs && failed && !state.good.is_empty() {
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

fn log(findings: &[Finding]) {
    for finding in findings {
        match finding.severity {
            Severity::Error => tracing::error!("{finding}"),
            Severity::Warning => tracing::warn!("{finding}"),
        }
    }
}

/// Reads a file, and once more where it turned empty: programs that do not write by rename truncate first, and for that moment
/// every object of the file would be gone.
fn settle(path: &Path, stamp: Option<Stamp>, had_objects: bool) -> (Option<Stamp>, Result<String, Finding>) {
    let deadline = Instant::now() + EMPTY_GRACE;
    let mut stamp = stamp;
    while had_objects && stamp.is_none_or(|stamp| stamp.size == 0) && Instant::now() < deadline {
        thread::park_timeout(EMPTY_GRACE / 10);
        stamp = Stamp::of(path);
    }
    (stamp, manifests::read_text(path))
}
