//! The last good text of each manifest, kept beside the identity, so that a control plane that starts while a file is broken still
//! knows what was in force.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::manifests::{self, Manifest};

/// A folder of last good texts.
pub(super) struct Memory {
    folder: PathBuf,
}

impl Memory {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Remembers what a file holds.
    pub(super) fn keep(&self, path: &Path, text: &str) {
        let kept = self.place(path);
        if fs::read_to_string(&kept).is_ok_and(|before| before == text) {
            return;
        }
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let new = kept.with_extension("new");
            fs::write(&new, text)?;
            fs::rename(new, &kept)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, file = %path.display(), "its last good state would not survive a restart");
        }
    }

    /// What a file last held without error.
    pub(super) fn recall(&self, path: &Path) -> Vec<Manifest> {
        fs::read_to_string(self.place(path))
            .map(|text| manifests::parse(path, &text).manifests)
            .unwrap_or_default()
    }

    /// The file was removed: so is what it held.
    pub(super) fn forget(&self, path: &Path) {
        let _ = fs::remove_file(self.place(path));
    }

    /// Paths are of any length and depth, names in a folder are not.
    fn place(&self, path: &Path) -> PathBuf {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let hash = digest(&SHA256, whole.as_os_str().as_encoded_bytes());
        let name: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name)
    }
}
