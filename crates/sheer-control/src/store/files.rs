//! The writer: watches files, keeps the last good state of each, and publishes a snapshot when anything changed.
//!
//! Changes are noticed by the kernel's notifications and, in case those are lost or not to be had (network file systems, exhausted
//! watches), by looking at every file's time and size every [`RESCAN`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::Snapshot;
use crate::{
    manifests::{self, Finding, Loaded, Manifest, Severity},
    objects::ObjectId,
};

/// Quiet time after a change before it is read: editors and `cp -r` make several in a row.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Longest that changes in an unbroken row are left unread.
const LONGEST_DEBOUNCE: Duration = Duration::from_millis(250);
/// How often files are looked at without a notification.
const RESCAN: Duration = Duration::from_secs(2);
/// How long a file that became empty is believed to be about to be written.
const EMPTY_GRACE: Duration = Duration::from_millis(200);

/// Something may have changed on disk.
struct Event;

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
struct FileState {
    stamp: Option<Stamp>,
    good: Vec<Manifest>,
    findings: Vec<Finding>,
}

/// Some files and folders, and the last good state of each file.
struct Source {
    roots: Vec<PathBuf>,
    files: BTreeMap<PathBuf, FileState>,
    unreadable: Vec<Finding>,
}

/// All sources. Owned by the writer.
pub(crate) struct Files {
    written: Source,
    running: Source,
    /// Which file defines an object: it keeps it when another file begins to define it too.
    owners: HashMap<ObjectId, Arc<Path>>,
}

impl Files {
    pub(crate) fn new(manifests: Vec<PathBuf>, status: Option<PathBuf>) -> Self {
        let source = |roots| Source {
            roots,
            files: BTreeMap::new(),
            unreadable: Vec::new(),
        };
        Self {
            written: source(manifests),
            running: source(status.into_iter().collect()),
            owners: HashMap::new(),
        }
    }

    /// Reads what changed. Whether anything did.
    pub(crate) fn rescan(&mut self) -> bool {
        let written = self.written.rescan();
        let running = self.running.rescan();
        written || running
    }

    /// The state as it stands.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let Loaded {
            manifests: written,
            mut findings,
        } = manifests::join(self.written.manifests(), |id| self.owners.get(id).cloned());
        self.owners = written
            .iter()
            .map(|manifest| (manifest.object.id(), manifest.file.clone()))
            .collect();
        let running = manifests::join(self.running.manifests(), |_| None);
        findings.extend(manifests::crosscheck(&written));
        findings.extend(running.findings);
        findings.extend(self.written.findings().chain(self.running.findings()).cloned());
        findings.sort_by(|a, b| (a.severity, &a.file, a.line).cmp(&(b.severity, &b.file, b.line)));
        Snapshot::new(&written, &running.manifests, findings)
    }
}

impl Source {
    fn rescan(&mut self) -> bool {
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

    fn manifests(&self) -> Vec<Manifest> {
        self.files
            .values()
            .flat_map(|state| state.good.iter().cloned())
            .collect()
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
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

/// Runs the writer on a thread of its own until nobody wants its snapshots.
pub(crate) fn spawn_watcher(files: Files, snapshots: watch::Sender<Arc<Snapshot>>) {
    let (sender, events) = mpsc::channel();
    let spawned = thread::Builder::new().name("store".to_owned()).spawn(move || {
        Writer {
            files,
            snapshots,
            watched: Watched::new(sender),
        }
        .run(&events);
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread to watch manifests: changes are not seen until a restart");
    }
}

struct Writer {
    files: Files,
    snapshots: watch::Sender<Arc<Snapshot>>,
    watched: Watched,
}

impl Writer {
    fn run(mut self, events: &mpsc::Receiver<Event>) {
        loop {
            self.watched
                .refresh(self.files.written.roots.iter().chain(&self.files.running.roots));
            // What changed between the last scan and the watch is seen here.
            if self.files.rescan() {
                let snapshot = Arc::new(self.files.snapshot());
                self.snapshots.send_replace(snapshot);
            }
            match events.recv_timeout(RESCAN) {
                Ok(Event) => debounce(events),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // No notifications on this machine.
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::park_timeout(RESCAN),
            }
            if self.snapshots.is_closed() {
                return;
            }
        }
    }
}

fn debounce(events: &mpsc::Receiver<Event>) {
    let deadline = Instant::now() + LONGEST_DEBOUNCE;
    while Instant::now() < deadline && events.recv_timeout(DEBOUNCE).is_ok() {}
}

/// The kernel's notifications.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, u64>,
}

impl Watched {
    fn new(sender: mpsc::Sender<Event>) -> Self {
        let notice = move |event: notify::Result<notify::Event>| {
            // Reading a file is an access event: without this, every scan would cause the next.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.send(Event);
            }
        };
        let watcher = notify::recommended_watcher(notice);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "the kernel does not tell of changed files: they are looked at every {RESCAN:?}");
        }
        Self {
            watcher: watcher.ok(),
            folders: BTreeMap::new(),
        }
    }

    /// Watches what exists by now; a folder that was removed and made again is another one.
    fn refresh<'a>(&mut self, roots: impl Iterator<Item = &'a PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for root in roots {
            // Of a single file the folder is watched: most editors replace the file.
            let (folder, mode) = match (root.is_dir(), root.parent()) {
                (true, _) => (root.clone(), RecursiveMode::Recursive),
                (false, Some(parent)) if parent.as_os_str().is_empty() => {
                    (PathBuf::from("."), RecursiveMode::NonRecursive)
                }
                (false, Some(parent)) => (parent.to_owned(), RecursiveMode::NonRecursive),
                (false, None) => continue,
            };
            let Ok(inode) = fs::metadata(&folder).map(|metadata| metadata.ino()) else {
                continue;
            };
            if self.folders.get(&folder) == Some(&inode) {
                continue;
            }
            let _ = watcher.unwatch(&folder);
            match watcher.watch(&folder, mode) {
                Ok(()) => drop(self.folders.insert(folder, inode)),
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "not told of changes: looked at every {RESCAN:?}")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
