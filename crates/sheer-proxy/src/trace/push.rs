//! Spans on their way to the control plane: in batches, one after the other, each acknowledged. Where the control plane does not take spans
//! none are recorded for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use rand::Rng as _;
use sheer_api::v1::{PropagationCount, Span, SpanBatch, SpanSource, trace_intake_client::TraceIntakeClient};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use super::{
    Collecting,
    collector::{control_plane_takes, dropped},
    propagation::PassedCount,
};
use crate::{
    control::{Channel, Waits},
    metrics::{Counter, Shard},
    settings::Settings,
};

/// Spans that may wait for the control plane: about a megabyte.
pub(super) const QUEUE: usize = 2_048;
/// Spans of a batch.
const BATCH: usize = 256;
/// How long a batch is collected: who looks at a trace should not wait for it.
const COLLECT: Duration = Duration::from_millis(200);
/// Patience with the control plane, for each batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a control plane that does not know the service is left alone.
const UNIMPLEMENTED_WAIT: Duration = Duration::from_secs(600);

/// What is pushed.
#[derive(Debug)]
pub(super) enum Pushing {
    Span(Box<Span>),
    Passed(Vec<PassedCount>),
    /// Answered once everything before is with the control plane, or cannot be.
    Flush(oneshot::Sender<()>),
}

/// Who tells.
pub(super) fn source(settings: &Settings, resource: &[sheer_api::v1::Attribute]) -> SpanSource {
    SpanSource {
        workload: settings.workload.clone(),
        attributes: resource.to_vec(),
    }
}

/// What is collected for the next batch.
#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    passed: Vec<PropagationCount>,
    flushed: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, pushing: Pushing) {
        match pushing {
            Pushing::Span(span) => self.spans.push(*span),
            Pushing::Passed(counts) => self.passed.extend(counts.into_iter().map(|count| PropagationCount {
                target: count.target.to_string(),
                with_context: count.with_context,
                without_context: count.without_context,
            })),
            Pushing::Flush(done) => self.flushed.push(done),
        }
    }

    fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.passed.is_empty()
    }
}

/// Pushes until the process ends.
pub(super) async fn run(
    channel: Channel,
    source: SpanSource,
    mut waiting: mpsc::Receiver<Pushing>,
    collecting: Collecting,
    shard: Shard,
) {
    let (mut waits, lost) = (Waits::control(), dropped(&shard, "control-plane", "lost"));
    let queue_full = dropped(&shard, "control-plane", "queue-full");
    let mut told = queue_full.value();
    loop {
        channel.ready().await;
        let pusher = Pusher {
            channel: &channel,
            source: &source,
            collecting: &collecting,
            lost: &lost,
            queue_full: &queue_full,
        };
        let status = pusher.push(&mut waiting, &mut waits, &mut told).await;
        control_plane_takes(&collecting, false);
        let Err(status) = status else { return };
        tracing::debug!(%status, "the control plane takes no spans now");
        let wait = match status.code() {
            Code::Unimplemented => UNIMPLEMENTED_WAIT.mul_f64(1.0 + rand::rng().random::<f64>()),
            _ => waits.next(),
        };
        idle(&mut waiting, wait, &lost).await;
    }
}

/// Waits. Nothing is recorded meanwhile, so what comes is what was recorded a moment before, or for a collector: it has nowhere to go here.
async fn idle(waiting: &mut mpsc::Receiver<Pushing>, wait: Duration, lost: &Counter) {
    let mut over = std::pin::pin!(sleep(wait));
    loop {
        tokio::select! {
            biased; // the wait ends, whatever comes
            () = &mut over => return,
            pushing = waiting.recv() => match pushing {
                Some(Pushing::Span(_)) => lost.inc(),
                Some(Pushing::Passed(_)) => {}
                // Whoever asked may be gone.
                Some(Pushing::Flush(done)) => {
                    let _ = done.send(());
                }
                None => return,
            },
        }
    }
}

/// Batches as the stream that a client sends.
struct Outgoing(mpsc::Receiver<SpanBatch>);

impl Stream for Outgoing {
    type Item = SpanBatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SpanBatch>> {
        self.0.poll_recv(cx)
    }
}

struct Pusher<'a> {
    channel: &'a Channel,
    source: &'a SpanSource,
    collecting: &'a Collecting,
    lost: &'a Counter,
    queue_full: &'a Counter,
}

impl Pusher<'_> {
    /// One stream, to its end: `Ok` where the process ends.
    async fn push(
        &self,
        waiting: &mut mpsc::Receiver<Pushing>,
        waits: &mut Waits,
        told: &mut u64,
    ) -> Result<(), Status> {
        let (batches, outgoing) = mpsc::channel::<SpanBatch>(1);
        let late = |_| Status::deadline_exceeded("no answer in time");
        let first = SpanBatch {
            source: Some(self.source.clone()),
            ..SpanBatch::default()
        };
        let mut client = TraceIntakeClient::with_origin(self.channel.clone(), self.channel.origin());
        // Goes at once: the answer waits for it.
        let ended = |_| Status::unavailable("the stream ended before it began");
        batches.try_send(first).map_err(ended)?;
        let pushed = client.push(Outgoing(outgoing));
        let mut replies = timeout(PATIENCE, pushed).await.map_err(late)??.into_inner();
        timeout(PATIENCE, replies.message()).await.map_err(late)??;
        waits.reset();
        control_plane_takes(self.collecting, true);
        loop {
            let Some(mut batch) = self.collect(waiting, &mut replies).await? else {
                return Ok(());
            };
            let flushed = std::mem::take(&mut batch.flushed);
            if !batch.is_empty() {
                let (spans, full) = (batch.spans.len() as u64, self.queue_full.value());
                let sent = self.send(batch, full - *told, &batches, &mut replies).await;
                if sent.is_err() {
                    self.lost.add(spans);
                }
                sent?;
                *told = full;
            }
            // Whoever asked may be gone.
            for done in flushed {
                let _ = done.send(());
            }
        }
    }

    /// Collects a batch; none at the end of the process.
    async fn collect(
        &self,
        waiting: &mut mpsc::Receiver<Pushing>,
        replies: &mut tonic::Streaming<sheer_api::v1::PushReply>,
    ) -> Result<Option<Batch>, Status> {
        let mut batch = Batch::default();
        let first = tokio::select! {
            biased; // a stream that ended takes no batch
            reply = replies.message() => {
                reply?;
                return Err(Status::unavailable("the control plane ended the stream"));
            }
            first = waiting.recv() => first,
        };
        let Some(first) = first else { return Ok(None) };
        batch.add(first);
        let mut over = std::pin::pin!(sleep(COLLECT));
        while batch.spans.len() < BATCH && batch.flushed.is_empty() {
            tokio::select! {
                biased; // a batch does not grow for ever
                () = &mut over => break,
                next = waiting.recv() => match next {
                    Some(next) => batch.add(next),
                    None => break,
                },
            }
        }
        Ok(Some(batch))
    }

    async fn send(
        &self,
        batch: Batch,
        dropped: u64,
        batches: &mpsc::Sender<SpanBatch>,
        replies: &mut tonic::Streaming<sheer_api::v1::PushReply>,
    ) -> Result<(), Status> {
        let message = SpanBatch {
            source: None,
            spans: batch.spans,
            dropped,
            propagation: batch.passed,
        };
        let ended = |_| Status::unavailable("the stream ended");
        batches.send(message).await.map_err(ended)?;
        let late = |_| Status::deadline_exceeded("a batch was not acknowledged in time");
        match timeout(PATIENCE, replies.message()).await.map_err(late)?? {
            Some(_) => Ok(()),
            None => Err(Status::unavailable("the control plane ended the stream")),
        }
    }
}
