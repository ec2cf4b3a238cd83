//! The writer's thread: hears of changes on disk, reads them, publishes.
//!
//! Changes are noticed by the kernel's notifications and, in case those are lost or not to be had (network file systems, exhausted
//! watches), by looking at every file's time and size every [`RESCAN`].

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

/// Quiet time after a change before it is read: editors and `cp -r` make several in a row, a fraction of a millisecond apart.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// Longest that changes in an unbroken row are left unread.
const LONGEST_DEBOUNCE: Duration = Duration::from_millis(250);
/// How often files are looked at without a notification.
pub(super) const RESCAN: Duration = Duration::from_secs(2);

/// Something may have changed on disk.
pub(super) struct Event;

/// What can be read again and again.
pub(super) trait Scan: Send + 'static {
    /// What it comes to.
    type State: Send + Sync + 'static;

    /// The files and folders to watch.
    fn roots(&self) -> Vec<PathBuf>;

    /// Reads what changed. Whether anything did.
    fn rescan(&mut self) -> bool;

    /// The state as it stands.
    fn state(&mut self) -> Self::State;
}

/// Reads at once, then whenever something changed, from a thread of its own, until nobody wants it.
pub(super) fn follow<S: Scan>(mut scan: S) -> watch::Receiver<Arc<S::State>> {
    scan.rescan();
    let (states, receiver) = watch::channel(Arc::new(scan.state()));
    let (sender, events) = mpsc::channel();
    let spawned = thread::Builder::new().name("store".to_owned()).spawn(move || {
        Writer {
            scan,
            states,
            watched: Watched::new(sender),
        }
        .run(&events);
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread to watch manifests: changes are not seen until a restart");
    }
    receiver
}

pub(super) struct Writer<S: Scan> {
    pub(super) scan: S,
    pub(super) states: watch::Sender<Arc<S::State>>,
    pub(super) watched: Watched,
}

impl<S: Scan> Writer<S> {
    pub(super) fn run(mut self, events: &mpsc::Receiver<Event>) {
        loop {
            self.watched.refresh(&self.scan.roots());
            // What changed between the last scan and the watch is seen here.
            if self.scan.rescan() {
                self.states.send_replace(Arc::new(self.scan.state()));
            }
            match events.recv_timeout(RESCAN) {
                Ok(Event) => debounce(events),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // No notifications on this machine.
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::park_timeout(RESCAN),
            }
            if self.states.is_closed() {
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
#[derive(Default)]
pub(super) struct Watched {
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
    fn refresh(&mut self, roots: &[PathBuf]) {
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
