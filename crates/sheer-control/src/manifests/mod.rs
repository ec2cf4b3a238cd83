//! Reads manifests: files in, objects and findings out. Every mistake is named with file, line and field; nothing that a user wrote
//! is dropped in silence.
//!
//! Called by the store for what it watches, and by whatever starts workloads. Reads files when told to; watches nothing.

mod annotations;
mod check;
mod crosscheck;
mod decode;
mod finding;
mod kinds;
mod tree;
mod unhonoured;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use annotations::INBOUND_POLICIES;
pub(crate) use check::check_name;
pub(crate) use crosscheck::crosscheck;
pub use finding::{Finding, Severity};

use crate::objects::{Object, ObjectId};

/// Largest manifest that is read. A file beyond it is not a manifest.
const LARGEST: u64 = 16 * 1024 * 1024;

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The object.
    pub object: Object,
    /// Its file.
    pub file: Arc<Path>,
    /// The line on which it begins, from 1.
    pub line: u32,
    /// The lines of its rules, where it has any (of a ServiceProfile its routes).
    pub rules: Arc<[u32]>,
}

/// What some files hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The objects, in the order of files (by path) and lines. None of a file that has an error.
    pub manifests: Vec<Manifest>,
    /// What is wrong, errors first.
    pub findings: Vec<Finding>,
}

impl Loaded {
    /// Whether something must be corrected before the manifests can be used whole.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub(crate) fn sort_findings(&mut self) {
        self.findings
            .sort_by(|a, b| (a.severity, &a.file, a.line, &a.field).cmp(&(b.severity, &b.file, b.line, &b.field)));
    }
}

/// Reads files and folders (with everything below them).
pub fn load(paths: &[PathBuf]) -> Loaded {
    let (files, mut findings) = list(paths);
    let mut parsed = Vec::new();
    for file in files {
        let one = load_file(&file);
        findings.extend(one.findings);
        parsed.extend(one.manifests);
    }
    let mut loaded = join(parsed, |_| None);
    loaded.findings.extend(findings);
    loaded.findings.extend(crosscheck(&loaded.manifests));
    loaded.sort_findings();
    loaded
}

/// Reads one file. Where it has an error, no object of it is returned.
pub fn load_file(file: &Path) -> Loaded {
    match read_text(file) {
        Ok(text) => parse(file, &text),
        Err(finding) => Loaded {
            manifests: Vec::new(),
            findings: vec![finding],
        },
    }
}

/// The text of a manifest, or why there is none.
pub(crate) fn read_text(file: &Path) -> Result<String, Finding> {
    let bytes = read(file).map_err(|error| Finding::error(file, 0, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Finding::error(file, 0, "is not UTF-8 text"))
}

/// Reads the text of a file: YAML, of which JSON is a part, in any number of documents.
pub fn parse(file: &Path, text: &str) -> Loaded {
    let mut loaded = decode::decode(&Arc::from(file), text);
    if loaded.has_errors() {
        loaded.manifests.clear();
    }
    loaded.sort_findings();
    loaded
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(file)?.len();
    if size > LARGEST {
        return Err(io::Error::other(format!(
            "{size} bytes, and a manifest may have {LARGEST}"
        )));
    }
    fs::read(file)
}

/// The manifests below some paths, sorted, each once; and the paths that cannot be read.
pub(crate) fn list(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Finding>) {
    let (mut files, mut findings) = (Vec::new(), Vec::new());
    for path in paths {
        // A file that was named is read whatever it is called; in folders the extension decides.
        let result = if path.is_dir() {
            walk(path, 0, &mut files)
        } else {
            fs::metadata(path).map(|_| files.push(path.clone()))
        };
        if let Err(error) = result {
            findings.push(Finding::error(path, 0, format!("cannot be read: {error}")));
        }
    }
    files.sort();
    files.dedup();
    (files, findings)
}

fn walk(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> io::Result<()> {
    // A link that leads back up would otherwise be followed until the path is too long.
    if depth > 16 {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Joins the objects of several files. Of an object that two files define, the one in the file that `owner` names stays, or else
/// the first; the other is an error that names both.
pub(crate) fn join(manifests: Vec<Manifest>, owner: impl Fn(&ObjectId) -> Option<Arc<Path>>) -> Loaded {
    let mut loaded = Loaded::default();
    let mut places: HashMap<ObjectId, usize> = HashMap::new();
    for manifest in manifests {
        let id = manifest.object.id();
        let Some(&place) = places.get(&id) else {
            places.insert(id, loaded.manifests.len());
            loaded.manifests.push(manifest);
            continue;
        };
        let held = &mut loaded.manifests[place];
        let other = match owner(&id) {
            Some(file) if file == manifest.file && file != held.file => std::mem::replace(held, manifest),
            _ => manifest,
        };
        let message = format!(
            "defined twice: also in {}:{}, which stays in force",
            held.file.display(),
            held.line
        );
        loaded
            .findings
            .push(Finding::error(&other.file, other.line, message).on(&id));
    }
    loaded
}

#[cfg(test)]
mod tests;
