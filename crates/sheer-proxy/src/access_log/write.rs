//! Writes lines, on a thread of its own: standard error may be read slowly, or not at all.

use std::{
    io::Write as _,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{Line, line};
use crate::{
    metrics::{Counter, LabelSet, Shard, family},
    redact::Redactor,
    settings::{AccessLog, AccessLogFormat},
    trace::Record,
};

/// Lines that may wait: about three megabytes.
const QUEUE: usize = 4_096;
/// Bytes that are written at once.
const AT_ONCE: usize = 64 * 1024;

/// Makes lines, and has them written.
pub(crate) struct Writer {
    format: AccessLogFormat,
    own: Arc<str>,
    redactor: Redactor,
    lines: SyncSender<String>,
    written: Counter,
    dropped: Counter,
}

impl Writer {
    /// Begins to write to standard error.
    pub(crate) fn start(settings: &AccessLog, own: &Arc<str>, redactor: &Redactor, shard: &Shard) -> Self {
        let (lines, waiting) = sync_channel(QUEUE);
        let started = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&waiting));
        if let Err(error) = started {
            tracing::error!(%error, "there will be no access log: no thread can be started for it");
        }
        Self {
            format: settings.format,
            own: Arc::clone(own),
            redactor: redactor.clone(),
            lines,
            written: shard.counter(&family::SHEER_ACCESS_LOG_LINES_TOTAL, &LabelSet::default()),
            dropped: shard.counter(&family::SHEER_ACCESS_LOG_LINES_DROPPED_TOTAL, &LabelSet::default()),
        }
    }

    /// Has the line of a request written; the line, for whoever else wants it.
    pub(crate) fn write(&self, record: &Record) -> Option<Line> {
        let outcome = record.outcome.as_ref()?;
        let line = line::line((record, outcome), self.format, &self.own, &self.redactor);
        let count = match self.lines.try_send(line.text.clone()) {
            Ok(()) => &self.written,
            Err(_) => &self.dropped,
        };
        count.inc();
        Some(line)
    }
}

/// Writes what waits, many lines at once where there are many.
fn write(lines: &Receiver<String>) {
    let mut buffer = Vec::with_capacity(AT_ONCE);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            buffer.extend_from_slice(line.as_bytes());
            buffer.push(b'\n');
            next = if buffer.len() < AT_ONCE {
                lines.try_recv().ok()
            } else {
                None
            };
        }
        // Nobody is left to be told.
        let _ = std::io::stderr().write_all(&buffer);
        buffer.clear();
    }
}
