//! What is read from disk: what users wrote, and what runs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Snapshot, memory::Memory, source::Source, watcher::Scan};
use crate::{
    manifests::{self, Loaded},
    objects::ObjectId,
};

/// What users wrote.
pub(super) struct Written {
    source: Source,
    /// Which file defines an object: it keeps it when another file begins to define it too.
    owners: HashMap<ObjectId, Arc<Path>>,
}

impl Written {
    pub(super) fn new(paths: Vec<PathBuf>, memory: Option<Memory>) -> Self {
        Self {
            source: Source::new(paths, memory),
            owners: HashMap::new(),
        }
    }

    /// Leaves it to the reader to say what is wrong.
    pub(super) fn silent(self) -> Self {
        Self {
            source: self.source.silent(),
            ..self
        }
    }
}

impl Scan for Written {
    type State = Loaded;

    fn roots(&self) -> Vec<PathBuf> {
        self.source.roots.clone()
    }

    fn rescan(&mut self) -> bool {
        self.source.rescan()
    }

    fn state(&mut self) -> Loaded {
        let mut loaded = manifests::join(self.source.manifests(), |id| self.owners.get(id).cloned());
        self.owners = loaded
            .manifests
            .iter()
            .map(|manifest| (manifest.object.id(), manifest.file.clone()))
            .collect();
        loaded.findings.extend(self.source.findings().cloned());
        loaded.findings.extend(manifests::crosscheck(&loaded.manifests));
        loaded.sort_findings();
        loaded
    }
}

/// What users wrote and what runs.
pub(super) struct Files {
    written: Written,
    running: Source,
}

impl Files {
    pub(super) fn new(manifests: Vec<PathBuf>, status: Option<PathBuf>, memory: Option<Memory>) -> Self {
        Self {
            written: Written::new(manifests, memory),
            running: Source::new(status.into_iter().collect(), None).derived(),
        }
    }
}

impl Scan for Files {
    type State = Snapshot;

    fn roots(&self) -> Vec<PathBuf> {
        let mut roots = self.written.roots();
        roots.extend_from_slice(&self.running.roots);
        roots
    }

    fn rescan(&mut self) -> bool {
        let written = self.written.rescan();
        let running = self.running.rescan();
        written || running
    }

    fn state(&mut self) -> Snapshot {
        let mut written = self.written.state();
        let running = manifests::join(self.running.manifests(), |_| None);
        written.findings.extend(running.findings);
        written.findings.extend(self.running.findings().cloned());
        written.sort_findings();
        Snapshot::new(&written.manifests, &running.manifests, written.findings)
    }
}

#[cfg(test)]
mod tests;
