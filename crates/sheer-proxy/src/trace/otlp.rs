//! Spans and access logs on their way to a collector of OpenTelemetry: in batches, over gRPC or HTTP, tried again while the collector is busy or
//! away, dropped and counted where that takes too long.

mod convert;
mod http;
mod send;

use std::time::Duration;

use sheer_api::v1::{Attribute, Span};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use self::{
    convert::Converter,
    send::{Sender, Unsent},
};
use super::collector::dropped;
use crate::{
    access_log::Line,
    control::{Channel, Waits},
    metrics::{LabelSet, Shard, family},
    settings::{Backoff, ExportProtocol},
};

/// Spans and lines that may wait for the collector: a few megabytes.
pub(super) const QUEUE: usize = 4_096;
/// Of one batch.
const BATCH: usize = 512;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// To collect a batch.
    collect: Duration,
    /// To try a batch; then it is dropped, so that a collector that comes back gets what is new.
    tried: Duration,
    /// Between attempts, where the collector does not say how long.
    again: Backoff,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            collect: Duration::from_secs(1),
            tried: Duration::from_secs(60),
            again: Backoff {
                min: Duration::from_millis(500),
                max: Duration::from_secs(15),
                jitter: 0.5,
            },
        }
    }
}

/// What is exported.
#[derive(Debug)]
pub(super) enum Export {
    Span(Box<Span>),
    Log(Box<Line>),
    /// Answered once everything before is with the collector, or is given up.
    Flush(oneshot::Sender<()>),
}

/// What kind of data, for paths and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Traces,
    Logs,
}

impl Signal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    lines: Vec<Line>,
    flushed: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, export: Export) {
        match export {
            Export::Span(span) => self.spans.push(*span),
            Export::Log(line) => self.lines.push(*line),
            Export::Flush(done) => self.flushed.push(done),
        }
    }

    fn is_full(&self) -> bool {
        self.spans.len() + self.lines.len() >= BATCH || !self.flushed.is_empty()
    }
}

/// Exports until the process ends.
pub(super) async fn run(
    (protocol, times): (ExportProtocol, Times),
    channel: Channel,
    resource: Vec<Attribute>,
    mut waiting: mpsc::Receiver<Export>,
    shard: Shard,
) {
    let mut exporter = Exporter {
        sender: Sender::new(protocol, channel),
        converter: Converter::new(&resource),
        shard,
        times,
        last_failure: String::new(),
    };
    while let Some(first) = waiting.recv().await {
        let mut batch = Batch::default();
        batch.add(first);
        let mut over = std::pin::pin!(sleep(times.collect));
        while !batch.is_full() {
            tokio::select! {
                biased; // a batch does not grow for ever
                () = &mut over => break,
                next = waiting.recv() => match next {
                    Some(next) => batch.add(next),
                    None => break,
                },
            }
        }
        let Batch { spans, lines, flushed } = batch;
        if !spans.is_empty() {
            let (count, body) = (spans.len(), exporter.converter.traces(spans));
            exporter.export(Signal::Traces, count, body).await;
        }
        if !lines.is_empty() {
            let (count, body) = (lines.len(), exporter.converter.logs(lines));
            exporter.export(Signal::Logs, count, body).await;
        }
        // Whoever asked may be gone.
        for done in flushed {
            let _ = done.send(());
        }
    }
}

struct Exporter {
    sender: Sender,
    converter: Converter,
    shard: Shard,
    times: Times,
    /// Told once.
    last_failure: String,
}

impl Exporter {
    /// Sends a batch, again and again while that makes sense.
    async fn export(&mut self, signal: Signal, count: usize, body: bytes::Bytes) {
        let until = Instant::now() + self.times.tried;
        let mut waits = Waits::new(self.times.again);
        loop {
            let unsent = match self.sender.send(signal, body.clone()).await {
                Ok(rejected) => {
                    self.last_failure.clear();
                    self.count(signal, "ok");
                    let rejected = rejected.min(count as u64);
                    dropped(&self.shard, "otlp", "rejected").add(rejected);
                    return self.exported(signal, count as u64 - rejected);
                }
                Err(unsent) => unsent,
            };
            self.tell(&unsent);
            let (wait, why) = match unsent {
                Unsent::Later { after, .. } => (after.unwrap_or_else(|| waits.next()), "unreachable"),
                Unsent::Never { .. } => (self.times.tried, "refused"),
            };
            if Instant::now() + wait >= until {
                self.count(signal, "failed");
                return dropped(&self.shard, "otlp", why).add(count as u64);
            }
            self.count(signal, "retried");
            sleep(wait).await;
        }
    }

    fn tell(&mut self, unsent: &Unsent) {
        let (Unsent::Later { why, .. } | Unsent::Never { why }) = unsent;
        if self.last_failure != *why {
            tracing::warn!("the collector of traces does not take them, traffic goes on: {why}");
            self.last_failure.clone_from(why);
        }
    }

    fn count(&self, signal: Signal, result: &str) {
        let labels = LabelSet::builder()
            .label("signal", signal.as_str())
            .label("result", result);
        self.shard
            .counter(&family::SHEER_TRACE_EXPORTS_TOTAL, &labels.build())
            .inc();
    }

    fn exported(&self, signal: Signal, count: u64) {
        let labels = LabelSet::builder().label("signal", signal.as_str()).build();
        self.shard
            .counter(&family::SHEER_TRACE_EXPORTED_TOTAL, &labels)
            .add(count);
    }
}

#[cfg(test)]
mod tests;
