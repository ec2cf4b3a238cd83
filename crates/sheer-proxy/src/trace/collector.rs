//! Takes what workers hand over, and gives it to whoever wants it. On the control runtime.

use std::{sync::Arc, time::Duration};

use sheer_api::v1::Span;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    COLLECTOR, CONTROL_PLANE, Collecting, Told, otlp,
    push::{self, Pushing},
    record::{Kept, Record},
    resource, span,
};
use crate::{
    access_log::Writer,
    control::Channel,
    metrics::{Counter, LabelSet, Shard, family},
    redact::Redactor,
    settings::Settings,
};

/// Longest wait for what is under way when the process ends.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The end of the queue of all workers, and where it leads.
pub(crate) struct Collector {
    told: mpsc::Receiver<Told>,
    sinks: Sinks,
    log: Option<Writer>,
    redactor: Redactor,
    counts: Counts,
    finish: mpsc::Receiver<oneshot::Sender<()>>,
}

/// What a collector is made from.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) shard: Shard,
    /// The service that takes spans is on the policy port.
    pub(crate) control_plane: Channel,
    /// Makes the channel to a collector.
    pub(crate) channel: Box<dyn Fn(&crate::settings::ControlAddr) -> Channel + Send>,
}

/// Who gets spans.
struct Sinks {
    collecting: Collecting,
    control_plane: Option<Outbox<Pushing>>,
    collector: Option<Outbox<otlp::Export>>,
    logs: bool,
}

/// A bounded queue, and what did not fit into it.
pub(super) struct Outbox<T> {
    queue: mpsc::Sender<T>,
    dropped: Counter,
}

/// Asks the collector for its end.
#[derive(Clone, Debug)]
pub(crate) struct Finish(mpsc::Sender<oneshot::Sender<()>>);

impl Finish {
    /// Has everything sent that waits, for a while.
    pub(crate) async fn finish(&self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // Past the wait what is left is lost, as with a process that was killed.
            let _ = timeout(LAST_WAIT, is_done).await;
        }
    }
}

struct Counts([Counter; 4]);

impl Counts {
    fn new(shard: &Shard) -> Self {
        Self(["parent", "sampled", "failed", "slow"].map(|kept| {
            let labels = LabelSet::builder().label("kept", kept).build();
            shard.counter(&family::SHEER_TRACE_SPANS_TOTAL, &labels)
        }))
    }

    fn add(&self, kept: Kept, spans: usize) {
        let at = match kept {
            Kept::Parent => 0,
            Kept::Sampled => 1,
            Kept::Failed => 2,
            Kept::Slow => 3,
        };
        self.0[at].add(spans as u64);
    }
}

impl<T> Outbox<T> {
    pub(super) fn new(shard: &Shard, exporter: &'static str, capacity: usize) -> (Self, mpsc::Receiver<T>) {
        let (queue, waiting) = mpsc::channel(capacity);
        let dropped = dropped(shard, exporter, "queue-full");
        (Self { queue, dropped }, waiting)
    }

    /// Puts something in, where there is room.
    pub(super) fn put(&self, item: T) {
        if self.queue.try_send(item).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until everything that was put in before is done with.
    pub(super) async fn flush(&self, flush: impl FnOnce(oneshot::Sender<()>) -> T) {
        let (done, is_done) = oneshot::channel();
        if self.queue.send(flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

/// The counter of spans that an exporter lost.
pub(super) fn dropped(shard: &Shard, exporter: &str, reason: &str) -> Counter {
    let labels = LabelSet::builder()
        .label("reason", &format!("{exporter}-{reason}"))
        .build();
    shard.counter(&family::SHEER_TRACE_SPANS_DROPPED_TOTAL, &labels)
}

impl Collector {
    /// Begins to collect.
    pub(crate) fn start(collecting: &Collecting, told: mpsc::Receiver<Told>, parts: Parts) -> Finish {
        let (ask, finish) = mpsc::channel(1);
        let collecting = collecting.clone();
        tokio::spawn(async move {
            let collector = Self::new(&collecting, told, parts, finish).await;
            collector.run().await;
        });
        Finish(ask)
    }

    async fn new(
        collecting: &Collecting,
        told: mpsc::Receiver<Told>,
        parts: Parts,
        finish: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        let Parts {
            settings,
            shard,
            control_plane,
            channel,
        } = parts;
        let resource = resource::attributes(&settings).await;
        let mut sinks = Sinks {
            collecting: collecting.clone(),
            control_plane: None,
            collector: None,
            logs: false,
        };
        if settings.trace.control_plane {
            let (outbox, waiting) = Outbox::new(&shard, "control-plane", push::QUEUE);
            let source = push::source(&settings, &resource);
            tokio::spawn(push::run(
                control_plane,
                source,
                waiting,
                collecting.clone(),
                shard.clone(),
            ));
            sinks.control_plane = Some(outbox);
        }
        if let Some(settings) = &settings.trace.collector {
            let (outbox, waiting) = Outbox::new(&shard, "otlp", otlp::QUEUE);
            tokio::spawn(otlp::run(
                (settings.protocol, otlp::Times::default()),
                channel(&settings.addr),
                resource,
                waiting,
                shard.clone(),
            ));
            sinks.collector = Some(outbox);
            collecting.want(COLLECTOR, true);
        }
        let (own, redactor) = (&settings.identity.name, &settings.sight.redactor);
        let log = settings.access_log.as_ref();
        let log = log.map(|log| Writer::start(log, own, redactor, &shard));
        sinks.logs = settings.access_log.as_ref().is_some_and(|log| log.otlp);
        Self {
            told,
            sinks,
            log,
            redactor: redactor.clone(),
            counts: Counts::new(&shard),
            finish,
        }
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                biased; // what is here goes before the end
                told = self.told.recv() => match told {
                    Some(told) => self.take(told),
                    None => return,
                },
                done = self.finish.recv() => {
                    let Some(done) = done else { return };
                    self.sinks.flush().await;
                    // Whoever asked may have waited long enough.
                    let _ = done.send(());
                }
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Request(record) => self.take_request(&record),
            Told::Passed(counts) => {
                if let Some(outbox) = &self.sinks.control_plane {
                    outbox.put(Pushing::Passed(counts));
                }
            }
        }
    }

    fn take_request(&mut self, record: &Record) {
        if let Some(kept) = record.kept {
            let spans = span::spans(record, &self.redactor);
            self.counts.add(kept, spans.len());
            spans.into_iter().for_each(|span| self.sinks.span(span));
        }
        if let (true, Some(log)) = (record.logged, &self.log) {
            let line = log.write(record);
            if let (true, Some(line), Some(outbox)) = (self.sinks.logs, line, &self.sinks.collector) {
                outbox.put(otlp::Export::Log(Box::new(line)));
            }
        }
    }
}

impl Sinks {
    fn span(&self, span: Span) {
        if let Some(outbox) = &self.collector {
            outbox.put(otlp::Export::Span(Box::new(span.clone())));
        }
        if let Some(outbox) = self
            .control_plane
            .as_ref()
            .filter(|_| self.collecting.wants(CONTROL_PLANE))
        {
            outbox.put(Pushing::Span(Box::new(span)));
        }
    }

    async fn flush(&self) {
        let control_plane = async {
            // Who takes none now will not in a moment.
            if let Some(outbox) = self
                .control_plane
                .as_ref()
                .filter(|_| self.collecting.wants(CONTROL_PLANE))
            {
                outbox.flush(Pushing::Flush).await;
            }
        };
        let collector = async {
            if let Some(outbox) = &self.collector {
                outbox.flush(otlp::Export::Flush).await;
            }
        };
        tokio::join!(control_plane, collector);
    }
}

/// Whether the control plane takes spans.
pub(super) fn control_plane_takes(collecting: &Collecting, takes: bool) {
    collecting.want(CONTROL_PLANE, takes);
}
