//! The file: readable by its owner only, and there whole or not at all. What is there and is no file, as a named pipe or a device, is written
//! into and stays what it is.

use std::{
    collections::HashMap,
    fs::{self, File, FileType, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sheer_local::packets::dissect;

use super::{
    names::Names,
    pcapng::{Writer, Written},
    recording::Recording,
};
use crate::{outcome::Misuse, output::tell, running::Pod};

/// As many links one behind another as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// Where a capture goes.
pub(super) enum Place {
    /// Whoever reads stdout.
    Stdout,
    /// A named pipe or a device, open already.
    Stream(File),
    /// A file that takes its place when it is whole.
    File(Unfinished),
}

/// Finds out where a capture goes. An error where it could not be written there.
pub(super) fn place(target: &Path) -> anyhow::Result<Place> {
    if target == Path::new("-") {
        refuse_terminal(&io::stdout())?;
        return Ok(Place::Stdout);
    }
    match fs::metadata(target) {
        Ok(there) if there.is_dir() => Err(Misuse(format!(
            "{} is a folder: name a file in it, as {}",
            target.display(),
            target.join("capture.pcapng").display()
        ))
        .into()),
        Ok(there) if !there.is_file() => open(target, there.file_type()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| unwritable(target)),
        _ => begin(target),
    }
}

/// Opens what is no file, as it is. A named pipe waits here until somebody reads it, while Ctrl-C still ends the command.
fn open(target: &Path, kind: FileType) -> anyhow::Result<Place> {
    if kind.is_socket() {
        let told = "is a socket, which cannot be opened: pipe the capture into what connects to it, with -o -";
        return Err(Misuse(format!("{} {told}", target.display())).into());
    }
    if kind.is_fifo() {
        tell(format_args!(
            "{} is a pipe: the capture begins once something reads it, and is written when it is over",
            target.display()
        ));
    }
    let file = OpenOptions::new().write(true).open(target);
    let file = file.with_context(|| unwritable(target))?;
    refuse_terminal(&file)?;
    Ok(Place::Stream(file))
}

/// Begins a file beside the one that it replaces, which is where links lead to.
fn begin(target: &Path) -> anyhow::Result<Place> {
    let target = behind_links(target);
    let name = target
        .file_name()
        .with_context(|| format!("{} is no file", target.display()))?
        .to_string_lossy();
    let path = target.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| unwritable(&target))?;
    Ok(Place::File(Unfinished {
        file: Some(file),
        path,
        target,
    }))
}

/// What a path leads to by symbolic links, also where nothing is there yet.
fn behind_links(target: &Path) -> PathBuf {
    let mut path = target.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}

fn refuse_terminal(out: &impl IsTerminal) -> Result<(), Misuse> {
    if out.is_terminal() {
        let told = "a capture is no text: name a file, or pipe it into `tshark -r -`";
        return Err(Misuse(told.to_owned()));
    }
    Ok(())
}

fn unwritable(target: &Path) -> String {
    format!("{} cannot be written", target.display())
}

impl Place {
    /// Whether the capture can be opened there afterwards.
    pub(super) fn stays(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Puts it there; how many bytes.
    pub(super) fn fill(self, write: impl FnOnce(&mut dyn Write) -> io::Result<u64>) -> io::Result<u64> {
        match self {
            Self::Stdout => write(&mut io::stdout().lock()),
            Self::Stream(file) => flushed(file, write),
            Self::File(file) => file.fill(write),
        }
    }
}

fn flushed(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<u64>) -> io::Result<u64> {
    let mut out = BufWriter::new(file);
    let bytes = write(&mut out)?;
    out.flush()?;
    Ok(bytes)
}

/// A file that is being made; what was there before stays until it is whole.
pub(super) struct Unfinished {
    file: Option<File>,
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    /// Fills it and puts it in its place.
    fn fill(mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<u64>) -> io::Result<u64> {
        let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let bytes = flushed(file, write)?;
        fs::rename(&self.path, &self.target)?;
        Ok(bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // in its place already, or of no use
    }
}

/// Writes what was captured; how many bytes.
pub(super) fn write(out: impl Write, recording: &Recording, pods: &[Pod], names: &Names) -> io::Result<u64> {
    let mut writer = Writer::new(Counted::new(out), concat!("sheer ", env!("CARGO_PKG_VERSION")))?;
    let mut interfaces = HashMap::new();
    for (pod, index, name) in recording.interfaces() {
        let of = &pods[pod];
        let label = format!("{}/{name}", of.name);
        let description = format!("{name} of pod {} ({}) in {}", of.name, of.workload, of.namespace);
        interfaces.insert(
            (pod, index),
            (writer.interface(&label, &description, u32::from(u16::MAX) + 15)?, name),
        );
    }
    writer.names(names.iter())?;
    let key_log = recording.key_log();
    if !key_log.is_empty() {
        writer.secrets(&key_log)?;
    }
    let mut packets: Vec<_> = recording.packets().iter().collect();
    packets.sort_by_key(|packet| packet.time);
    for packet in &packets {
        let Some((interface, name)) = interfaces.get(&(packet.pod, packet.interface)) else {
            continue;
        };
        let comment =
            dissect(&packet.bytes).map_or_else(String::new, |facts| names.comment(&facts, name, &pods[packet.pod]));
        writer.packet(&Written {
            interface: *interface,
            time: packet.time,
            length: packet.length,
            bytes: &packet.bytes,
            comment: &comment,
        })?;
    }
    let end = packets.last().map_or(0, |packet| packet.time);
    // The kernel counts for a pod, not for an interface.
    let mut first_of = HashMap::new();
    for ((pod, _), (interface, _)) in &interfaces {
        let first = first_of.entry(*pod).or_insert(*interface);
        *first = (*first).min(*interface);
    }
    for (pod, interface) in first_of {
        writer.lost(interface, end, recording.lost_of(pod).into())?;
    }
    writer.into_inner().end()
}

/// Counts what is written.
pub(super) struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Counted<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, bytes: 0 }
    }

    /// When all is written: how many bytes.
    pub(super) fn end(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.bytes)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::{
            fs::{PermissionsExt as _, symlink},
            net::UnixListener,
        },
    };

    use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn captured(target: &Path) {
        let wrote = place(target).unwrap().fill(|out| {
            out.write_all(b"packets")?;
            Ok(7)
        });
        assert_eq!(wrote.unwrap(), 7);
    }

    /// Names in a folder, in order: what is begun and not ended shows.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_when_it_is_whole_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.pcapng");
        fs::write(&file, "before").unwrap();
        let begun = place(&file).unwrap();
        assert!(begun.stays());
        assert_eq!(fs::read(&file).unwrap(), b"before");
        drop(begun);
        assert_eq!(names(folder.path()), ["web.pcapng"], "what is not finished goes");
        captured(&file);
        assert_eq!(fs::read(&file).unwrap(), b"packets");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["web.pcapng"]);
    }

    #[test]
    fn a_named_pipe_is_written_into_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("live");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&pipe)
            .unwrap();
        let begun = place(&pipe).unwrap();
        assert_eq!(names(folder.path()), ["live"], "nothing stands beside it");
        assert!(!begun.stays());
        drop(begun);
        captured(&pipe);
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"packets");
    }

    #[test]
    fn a_link_is_followed_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("old.pcapng"), "before").unwrap();
        // By way of a second link, relative to where the first leads; of the last nothing is there yet.
        let links = [
            ("old", "kept/next"),
            ("kept/next", "old.pcapng"),
            ("new", "kept/new.pcapng"),
        ];
        for (link, to) in links {
            symlink(to, folder.path().join(link)).unwrap();
        }
        for link in ["old", "new"] {
            let link = folder.path().join(link);
            let begun = place(&link).unwrap();
            assert_eq!(
                names(folder.path()),
                ["kept", "new", "old"],
                "it begins beside the target"
            );
            drop(begun);
            captured(&link);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(&link).unwrap(), b"packets");
        }
        assert_eq!(names(folder.path()), ["kept", "new", "old"]);
        assert_eq!(names(&kept), ["new.pcapng", "next", "old.pcapng"]);
    }

    #[test]
    fn folders_and_sockets_are_misuse_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, socket) = (folder.path().display(), folder.path().join("socket"));
        let _listener = UnixListener::bind(&socket).unwrap();
        symlink(".", folder.path().join("link")).unwrap();
        let refused = |target: &Path| {
            let error = place(target).err().expect("it is refused");
            error.downcast::<Misuse>().expect("misuse").0
        };
        assert_eq!(
            refused(folder.path()),
            format!("{path} is a folder: name a file in it, as {path}/capture.pcapng")
        );
        assert!(refused(&folder.path().join("link")).contains("is a folder"));
        assert!(refused(&socket).contains("is a socket"));
        assert_eq!(names(folder.path()), ["link", "socket"]);
    }
}
