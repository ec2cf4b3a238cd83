//! Everything the control plane knows, as one snapshot after another.
//!
//! One thread writes ([`watcher`]): it reads what changed on disk and publishes a whole new [`Snapshot`]. Readers hold an `Arc` of one and
//! wait for the next; a reader that is slow sees the latest and skips those between, so it costs no memory.

mod files;
mod memory;
mod snapshot;
mod source;
mod watcher;

use std::{path::PathBuf, sync::Arc, time::Instant};

pub(crate) use snapshot::Snapshot;
use tokio::sync::watch;

use crate::manifests::{Finding, Loaded};
use files::{Files, Written};
use memory::Memory;

/// Receives every snapshot, the latest first.
pub(crate) type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// Reads manifests and keeps reading them: of each file the last state without an error, and what is wrong with the files as they are
/// now. The first value is there when this returns (it reads files: not for an async thread that is in a hurry). For whatever starts
/// workloads: it then sees exactly what the control plane sees, and says itself what is wrong.
pub fn watch_manifests(paths: Vec<PathBuf>) -> watch::Receiver<Arc<Loaded>> {
    watcher::follow(Written::new(paths, None).silent())
}

/// Handle to the store. The writer ends when the last handle and the last watch are gone.
#[derive(Clone)]
pub(crate) struct Store {
    snapshots: Snapshots,
}

impl Store {
    /// Reads everything once, then watches it from a thread of its own. `memory` is the folder of last good states.
    pub(crate) fn open(manifests: Vec<PathBuf>, status: Option<PathBuf>, memory: PathBuf) -> Self {
        Self {
            snapshots: watcher::follow(Files::new(manifests, status, Some(Memory::new(memory)))),
        }
    }

    /// A store of one snapshot that stays.
    pub(crate) fn fixed(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshots: watch::Sender::new(snapshot).subscribe(),
        }
    }

    /// The latest snapshot.
    pub(crate) fn latest(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// The latest snapshot and all that follow.
    pub(crate) fn watch(&self) -> Snapshots {
        let mut snapshots = self.snapshots.clone();
        snapshots.mark_changed();
        snapshots
    }
}

/// What the files say beside objects.
#[derive(Clone, Debug)]
pub(crate) struct Diagnosis {
    /// What is wrong, errors first.
    pub(crate) findings: Vec<Finding>,
    /// When anything last changed.
    pub(crate) changed: Instant,
}
