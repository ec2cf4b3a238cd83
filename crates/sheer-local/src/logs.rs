//! Logs of what the mesh runs: one folder a pod, one file a program, rotated, lines as Kubernetes writes them
//! (`2026-11-22T07:00:00.123456Z stdout F text`).
//!
//! The supervisor writes ([`LogWriter`]), the command line reads ([`read`]).

mod last_words;
mod read;
mod time;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use last_words::LastWords;
pub use read::{Entry, Follow, LogFile, Selection, list, read};
pub use time::timestamp;

/// A file beyond this is rotated: Kubernetes' `containerLogMaxSize`.
const LARGEST_FILE: u64 = 10 * 1024 * 1024;
/// Files kept beside the current one.
const KEPT: u32 = 2;
/// A longer line is cut into pieces, marked `P`: the bound of the container runtimes.
const LONGEST_LINE: usize = 16 * 1024;

/// The log of one program.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Mutex<Rotated>>);

#[derive(Debug)]
struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogWriter {
    /// Opens the log, and its folder, readable by their owner only.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Rotated {
            path: path.to_owned(),
            file,
            size,
        }))))
    }

    /// Writes one line, or a piece of one.
    pub fn write(&self, stream: &str, text: &[u8], whole: bool) {
        let mut line = format!("{} {stream} {} ", timestamp(), if whole { 'F' } else { 'P' }).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        // A full disk must not end the program whose log this is.
        let _ = self.0.lock().append(&line);
    }

    /// Copies what a program prints until it ends; what it said of its end.
    pub async fn copy(self, stream: &'static str, source: impl AsyncRead + Unpin) -> Option<String> {
        let mut words = LastWords::default();
        let mut source = BufReader::with_capacity(LONGEST_LINE, source);
        let mut line = Vec::new();
        while let Ok(available) = source.fill_buf().await {
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let room = LONGEST_LINE - line.len();
            let taken = end.unwrap_or(available.len()).min(room);
            line.extend_from_slice(&available[..taken]);
            let whole = end == Some(taken);
            source.consume(taken + usize::from(whole));
            if whole || line.len() == LONGEST_LINE {
                self.write(stream, &line, whole);
                words.note(&line);
                line.clear();
            }
        }
        if !line.is_empty() {
            self.write(stream, &line, true);
            words.note(&line);
        }
        words.take()
    }
}

impl Rotated {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size + line.len() as u64 > LARGEST_FILE {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            let _ = fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1));
        }
        fs::rename(&self.path, numbered(&self.path, 1))?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Of the pods' folders below a workload's, keeps the ones that were written last.
pub(crate) fn prune(workload: &Path, keep: usize) -> io::Result<()> {
    let mut pods: Vec<_> = fs::read_dir(workload)?.flatten().collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.metadata().and_then(|meta| meta.modified()).ok()));
    pods.iter()
        .skip(keep)
        .try_for_each(|pod| fs::remove_dir_all(pod.path()))
}

/// `app.log` rotated once is `app.log.1`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_stamped_cut_and_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("app.log");
        let long = "x".repeat(LONGEST_LINE + 3);
        let last = LogWriter::open(&path)
            .expect("log")
            .copy("stdout", format!("one\n{long}\n\nlast").as_bytes())
            .await;
        assert_eq!(last.as_deref(), Some("last"));
        let text = fs::read_to_string(&path).expect("text");
        let shape: Vec<(String, usize)> = text
            .lines()
            .map(|line| line.splitn(4, ' ').collect::<Vec<_>>())
            .map(|f| (f[1..3].join(" "), f[3].len()))
            .collect();
        let expected = [
            ("stdout F", 3),
            ("stdout P", LONGEST_LINE),
            ("stdout F", 3),
            ("stdout F", 0),
            ("stdout F", 4),
        ];
        assert_eq!(shape, expected.map(|(tags, length)| (tags.to_owned(), length)));
    }

    #[test]
    fn a_log_stays_within_its_bound() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("app.log");
        let log = LogWriter::open(&path).expect("log");
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..45 {
            log.write("stdout", &line, true);
        }
        let sizes: Vec<u64> = fs::read_dir(dir.path())
            .expect("folder")
            .flatten()
            .map(|e| e.metadata().expect("meta").len())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| *size <= LARGEST_FILE), "{sizes:?}");
    }
}
