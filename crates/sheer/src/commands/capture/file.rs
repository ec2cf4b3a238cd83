//! The file: readable by its owner only, and there whole or not at all.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sheer_local::packets::dissect;

use super::{
    names::Names,
    pcapng::{Writer, Written},
    recording::Recording,
};
use crate::running::Pod;

/// A file that is being made; what was there before stays until it is whole.
pub(super) struct Unfinished {
    file: Option<File>,
    path: PathBuf,
    target: PathBuf,
}

/// Begins a file. An error where it could not be written.
pub(super) fn create(target: &Path) -> anyhow::Result<Unfinished> {
    let name = target
        .file_name()
        .with_context(|| format!("{} is no file", target.display()))?
        .to_string_lossy();
    let path = target.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("{} cannot be written", target.display()))?;
    Ok(Unfinished {
        file: Some(file),
        path,
        target: target.to_owned(),
    })
}

impl Unfinished {
    /// Fills it and puts it in its place.
    pub(super) fn fill(mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<u64>) -> io::Result<u64> {
        let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let mut out = BufWriter::new(file);
        let bytes = write(&mut out)?;
        out.flush()?;
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
