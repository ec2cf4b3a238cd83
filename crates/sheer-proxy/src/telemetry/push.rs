//! The stream of reports to the control plane.
//!
//! One report is under way at a time. One that was not acknowledged is sent again, as it was, on the next stream, so that nothing is lost and nothing
//! counts twice; what happens meanwhile adds up in the cells. Everything here runs on the control runtime: no worker ever waits for it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ahash::AHashMap;
use sheer_api::v1::{self, telemetry_client::TelemetryClient};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{Code, Status, Streaming};

use super::{Table, collect::Collector};
use crate::{
    control::{Channel, Waits},
    identity::Identity,
    settings::Settings,
};

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an acknowledgement may take before the stream is given up.
const ACK_PATIENCE: Duration = Duration::from_secs(10);
/// A control plane that does not take reports is asked again this rarely.
const UNIMPLEMENTED_WAIT: Duration = Duration::from_secs(600);
/// While reports are not taken, series that ended are forgotten this often, and after this long.
const SWEEP: Duration = Duration::from_secs(30);
const UNTOLD: Duration = Duration::from_secs(600);

/// What a [`Pusher`] is made of.
#[derive(Debug)]
pub(crate) struct PusherOptions {
    pub(crate) table: Arc<Table>,
    /// To the policy service, beside which reports are taken.
    pub(crate) channel: Channel,
    pub(crate) settings: Arc<Settings>,
    pub(crate) identity: Identity,
}

/// Pushes reports, to the end of the process.
#[derive(Debug)]
pub(crate) struct Pusher {
    options: PusherOptions,
    collector: Collector,
    instance: String,
    started_ms: i64,
    sequence: u64,
    /// Not acknowledged yet.
    pending: Option<v1::TelemetryPush>,
    /// Until when everything was told.
    told: Instant,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Has everything told before the process ends. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Flush(mpsc::Sender<oneshot::Sender<()>>);

impl Flush {
    /// Returns once everything is told, or cannot be in time.
    pub(crate) async fn flush(&self, patience: Duration) {
        let flushed = async {
            let (done, wait) = oneshot::channel();
            if self.0.send(done).await.is_ok() {
                let _ = wait.await;
            }
        };
        // Late is as good as not at all: the process ends.
        let _ = timeout(patience, flushed).await;
    }
}

/// One stream.
struct Stream<'a> {
    pusher: &'a mut Pusher,
    out: mpsc::Sender<v1::TelemetryPush>,
    answers: Streaming<v1::TelemetryAnswer>,
    /// Series whose keys this stream has named; whether with a name for the peer.
    named: AHashMap<u32, bool>,
    /// Whoever waits for everything to be told.
    flush: Option<oneshot::Sender<()>>,
}

impl Pusher {
    pub(crate) fn new(options: PusherOptions) -> (Self, Flush) {
        let (flush, flushes) = mpsc::channel(1);
        let pusher = Self {
            collector: Collector::new(Arc::clone(&options.table)),
            options,
            instance: format!("{:016x}", rand::random::<u64>()),
            started_ms: now_ms(),
            sequence: 0,
            pending: None,
            told: Instant::now(),
            flushes,
        };
        (pusher, Flush(flush))
    }

    /// Pushes until the process ends.
    pub(crate) async fn run(mut self) {
        let mut waits = Waits::control();
        loop {
            self.connected().await;
            let (acknowledged, ended) = (self.sequence, self.stream().await);
            self.options.table.want_paths(false);
            let status = ended.err().unwrap_or_else(|| Status::ok("the stream ended"));
            tracing::debug!(%status, "reports are not taken now");
            if self.sequence > acknowledged {
                waits.reset();
            }
            if status.code() == Code::Unimplemented {
                self.idle(UNIMPLEMENTED_WAIT.mul_f64(1.0 + rand::random::<f64>())).await;
            } else {
                self.idle(waits.next()).await;
            }
        }
    }

    /// Returns once there is a connection.
    async fn connected(&mut self) {
        let channel = self.options.channel.clone();
        let mut ready = std::pin::pin!(channel.ready());
        loop {
            tokio::select! {
                biased; // a connection is what is waited for
                () = &mut ready => return,
                // Nothing can be told: nobody need wait for it.
                Some(flush) = self.flushes.recv() => drop(flush),
                () = sleep(SWEEP) => self.collector.give_up(Instant::now(), UNTOLD),
            }
        }
    }

    /// Waits, and forgets meanwhile what cannot be told.
    async fn idle(&mut self, wait: Duration) {
        let mut over = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                biased; // the end is what is waited for
                () = &mut over => return,
                // Nothing can be told: nobody need wait for it.
                Some(flush) = self.flushes.recv() => drop(flush),
                () = sleep(SWEEP) => self.collector.give_up(Instant::now(), UNTOLD),
            }
        }
    }

    /// One stream, to its end.
    async fn stream(&mut self) -> Result<(), Status> {
        let (out, messages) = mpsc::channel(1);
        let hello = v1::TelemetryPush {
            reporter: Some(self.reporter()),
            at_ms: now_ms(),
            ..v1::TelemetryPush::default()
        };
        // There is room for one.
        let _ = out.try_send(hello);
        let requests = futures::stream::unfold(messages, async |mut messages: mpsc::Receiver<_>| {
            let message = messages.recv().await?;
            Some((message, messages))
        });
        let channel = self.options.channel.clone();
        let origin = channel.origin();
        let mut client = TelemetryClient::with_origin(channel, origin);
        let answers = timeout(ACK_PATIENCE, client.push(requests))
            .await
            .map_err(|_| Status::deadline_exceeded("no answer"))??;
        let stream = Stream {
            pusher: self,
            out,
            answers: answers.into_inner(),
            named: AHashMap::new(),
            flush: None,
        };
        stream.run().await
    }

    fn reporter(&self) -> v1::Reporter {
        let PusherOptions { settings, identity, .. } = &self.options;
        let credentials = identity.current();
        let seconds = |at: SystemTime| {
            at.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs().cast_signed())
        };
        v1::Reporter {
            workload: settings.workload.clone(),
            instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            identity: settings.identity.name.to_string(),
            certificate_not_after: credentials.map_or(0, |credentials| seconds(credentials.not_after())),
            started_ms: self.started_ms,
            addresses: settings.inbound.ips.iter().map(ToString::to_string).collect(),
        }
    }

    /// The report that is not acknowledged yet, or a new one where something happened.
    fn report(&mut self) -> Option<v1::TelemetryPush> {
        if self.pending.is_none() {
            let now = Instant::now();
            let collected = self.collector.collect(now);
            let span = now.duration_since(std::mem::replace(&mut self.told, now));
            if collected.is_empty() {
                return None;
            }
            self.sequence += 1;
            self.pending = Some(v1::TelemetryPush {
                sequence: self.sequence,
                at_ms: now_ms(),
                span_ms: span.as_millis() as u64,
                series: collected.series,
                paths: collected.paths,
                overflowed: self.options.table.overflowed(),
                ..v1::TelemetryPush::default()
            });
        }
        self.pending.clone()
    }
}

impl Stream<'_> {
    async fn run(mut self) -> Result<(), Status> {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut certificate = self.pusher.options.identity.watch();
        certificate.mark_unchanged();
        loop {
            tokio::select! {
                biased; // the order is of no weight: nothing here is ever busy
                answer = self.answers.message() => match answer? {
                    Some(answer) => self.hear(&answer),
                    None => return Ok(()),
                },
                Some(flush) = self.pusher.flushes.recv() => self.flush = Some(flush),
                Ok(()) = certificate.changed() => {
                    certificate.mark_unchanged();
                    let reporter = Some(self.pusher.reporter());
                    self.send(v1::TelemetryPush { reporter, at_ms: now_ms(), ..v1::TelemetryPush::default() }).await?;
                    continue;
                }
                _ = ticks.tick() => {}
            }
            let due = self.flush.is_some() || self.pusher.told.elapsed() >= INTERVAL * 9 / 10;
            if !due {
                continue;
            }
            if let Some(report) = self.pusher.report() {
                self.tell(report).await?;
            }
            // Whoever waits for the last word has it by now.
            self.flush.take();
        }
    }

    /// Sends a report and waits until it is taken in.
    async fn tell(&mut self, mut report: v1::TelemetryPush) -> Result<(), Status> {
        let collector = &self.pusher.collector;
        for delta in &report.series {
            let is_named = collector.is_named(delta.id);
            if self.named.get(&delta.id).is_none_or(|before| is_named && !before)
                && let Some(key) = collector.key(delta.id)
            {
                self.named.insert(delta.id, is_named);
                report.keys.push(key);
            }
        }
        self.send(report).await?;
        while self.pusher.pending.is_some() {
            let answer = timeout(ACK_PATIENCE, self.answers.message())
                .await
                .map_err(|_| Status::deadline_exceeded("no acknowledgement"))??
                .ok_or_else(|| Status::unavailable("the stream ended"))?;
            self.hear(&answer);
        }
        Ok(())
    }

    async fn send(&self, message: v1::TelemetryPush) -> Result<(), Status> {
        let gone = |_| Status::unavailable("the stream ended");
        self.out.send(message).await.map_err(gone)
    }

    fn hear(&mut self, answer: &v1::TelemetryAnswer) {
        self.pusher.options.table.want_paths(answer.paths);
        let pending = self.pusher.pending.as_ref().map(|pending| pending.sequence);
        if pending.is_some_and(|sequence| answer.acknowledged >= sequence) {
            self.pusher.pending = None;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "reports are placed in time by the control plane, which corrects this clock"
)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
