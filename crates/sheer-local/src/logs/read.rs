//! Reads logs: which there are, their last lines, and what is added to them.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::{KEPT, numbered};
use crate::workload::{Reference, WorkloadId, WorkloadKind};

/// Which logs are meant.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Namespace; any where absent.
    pub namespace: Option<String>,
    /// Workload or pod.
    pub reference: Reference,
    /// Program; every one of the pod but its sidecar where absent.
    pub container: Option<String>,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Namespace.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Container, or the sidecar.
    pub program: String,
    /// The current file.
    pub path: PathBuf,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, as in RFC 3339.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the line ends here.
    pub whole: bool,
    /// The text.
    pub text: String,
}

/// The logs that are meant, by pod and program. `sidecar` is the name that is left out unless asked for.
pub fn list(logs: &Path, selection: &Selection, sidecar: &str) -> Vec<LogFile> {
    let mut files = Vec::new();
    for namespace in names(logs)
        .into_iter()
        .filter(|name| selection.namespace.as_ref().is_none_or(|wanted| wanted == name))
    {
        for folder in names(&logs.join(&namespace)) {
            let Some(id) = workload_of(&namespace, &folder) else {
                continue;
            };
            for pod in names(&logs.join(&namespace).join(&folder))
                .into_iter()
                .filter(|pod| selection.reference.matches(&id, pod))
            {
                let place = logs.join(&namespace).join(&folder).join(&pod);
                for file in names(&place) {
                    let Some(program) = file.strip_suffix(".log") else {
                        continue;
                    };
                    if selection
                        .container
                        .as_ref()
                        .map_or(program != sidecar, |wanted| wanted == program)
                    {
                        let (pod, program) = (pod.clone(), program.to_owned());
                        files.push(LogFile {
                            namespace: namespace.clone(),
                            pod,
                            program,
                            path: place.join(&file),
                        });
                    }
                }
            }
        }
    }
    files
}

/// Sorted names in a folder; none where it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn workload_of(namespace: &str, folder: &str) -> Option<WorkloadId> {
    let (kind, name) = folder.split_once('.')?;
    let kinds = [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::Pod];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
    Some(WorkloadId {
        namespace: namespace.to_owned(),
        kind,
        name: name.to_owned(),
    })
}

/// The last lines of a log, its rotated files included; all where `tail` is absent.
pub fn read(path: &Path, tail: Option<usize>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let files = (1..=KEPT)
        .rev()
        .map(|number| numbered(path, number))
        .chain([path.to_owned()]);
    for file in files {
        match fs::read(&file) {
            Ok(bytes) => entries.extend(parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let skipped = tail.map_or(0, |tail| entries.len().saturating_sub(tail));
    Ok(entries.split_off(skipped))
}

fn parse(bytes: &[u8]) -> Vec<Entry> {
    bytes.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.splitn(4, ' ');
    let (time, stream) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    let whole = fields.next()? == "F";
    Some(Entry {
        time,
        stream,
        whole,
        text: fields.next()?.to_owned(),
    })
}

/// Reads what is added to a log, across rotations.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Follow {
    /// Follows a log from its end, or, where it does not exist yet, from its start.
    pub fn from_end(path: &Path) -> io::Result<Self> {
        let mut follow = Self::from_start(path);
        if let Ok(mut file) = File::open(path) {
            file.seek(SeekFrom::End(0))?;
            follow.file = Some(file);
        }
        Ok(follow)
    }

    /// Follows a log from its start.
    pub fn from_start(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            rest: Vec::new(),
        }
    }

    /// What was added since the last time.
    pub fn poll(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = self.read_on()?;
        if self.was_rotated()? {
            // What was written between the last reading and the rotation is at the end of the old file.
            entries.extend(self.read_on()?);
            self.file = None;
            entries.extend(self.read_on()?);
        }
        Ok(entries)
    }

    fn read_on(&mut self) -> io::Result<Vec<Entry>> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Ok(Vec::new());
        };
        file.read_to_end(&mut self.rest)?;
        // A line that is being written is for the next time.
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        Ok(parse(&lines))
    }

    fn was_rotated(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        let (Some(file), Ok(current)) = (&self.file, fs::metadata(&self.path)) else {
            return Ok(false);
        };
        Ok(file.metadata()?.ino() != current.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::LogWriter, *};

    fn texts(entries: Vec<Entry>) -> Vec<String> {
        entries.into_iter().map(|entry| entry.text).collect()
    }

    #[test]
    fn logs_are_found_by_workload_pod_and_program() {
        let dir = tempfile::tempdir().expect("a folder");
        for file in [
            "bank/deploy.web/web-a-0/app.log",
            "bank/deploy.web/web-a-0/sheer-proxy.log",
            "bank/deploy.web-api/web-api-b-0/app.log",
            "control.log",
        ] {
            LogWriter::open(&dir.path().join(file))
                .expect("log")
                .write("stdout", b"x", true);
        }
        let find = |reference: &str, container: Option<&str>| -> Vec<String> {
            let selection = Selection {
                namespace: None,
                reference: reference.parse().expect("name"),
                container: container.map(str::to_owned),
            };
            list(dir.path(), &selection, "sheer-proxy")
                .into_iter()
                .map(|file| format!("{} {}", file.pod, file.program))
                .collect()
        };
        assert_eq!(find("deploy/web", None), ["web-a-0 app"]);
        assert_eq!(find("web-api-b-0", None), ["web-api-b-0 app"]);
        assert_eq!(find("web", Some("sheer-proxy")), ["web-a-0 sheer-proxy"]);
        assert_eq!(find("nothing", None), Vec::<String>::new());
    }

    #[test]
    fn following_loses_nothing_across_a_rotation() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("app.log");
        let log = LogWriter::open(&path).expect("log");
        log.write("stdout", b"before", true);
        let mut follow = Follow::from_end(&path).expect("follows");
        log.write("stdout", b"one", true);
        assert_eq!(texts(follow.poll().expect("read")), ["one"]);
        log.write("stdout", b"two", true);
        fs::rename(&path, numbered(&path, 1)).expect("rotated");
        LogWriter::open(&path).expect("log").write("stdout", b"three", true);
        assert_eq!(texts(follow.poll().expect("read")), ["two", "three"]);
        assert_eq!(texts(read(&path, Some(2)).expect("read")), ["two", "three"]);
        assert_eq!(
            texts(read(&path, None).expect("read")),
            ["before", "one", "two", "three"]
        );
    }
}
