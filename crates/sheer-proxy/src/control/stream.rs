//! Streams from the control plane, opened again for ever.

use std::{future::Future, sync::Arc, time::Duration};

use rand::Rng as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Code, Response, Status, Streaming};

use super::{backoff::Waits, channel::Channel, ledger::Line};
use crate::{
    metrics::{LabelSet, family},
    settings::ControlStreams,
};

/// Ends of streams at the same age would come in waves: lifetimes are shortened at random by up to this share.
const LIFETIME_JITTER: f64 = 0.2;
/// "For ever", for timers.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// What a stream told.
#[derive(Debug)]
pub(crate) enum Event<T> {
    /// First message of a stream: it replaces all that was known.
    First(T),
    /// A further message.
    Next(T),
    /// The control plane knows nothing of this (`NOT_FOUND`, `INVALID_ARGUMENT`). It is asked again later.
    Unknown,
}

/// Opens streams of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    channel: Channel,
    method: &'static str,
    limits: ControlStreams,
    again: Arc<Notify>,
    line: Line,
}

impl Streams {
    /// Streams about `target`, which is for whoever looks at them.
    pub(crate) fn new(channel: Channel, method: &'static str, target: &str, limits: ControlStreams) -> Self {
        Self {
            line: channel.ledger().line(method, target),
            channel,
            method,
            limits,
            again: Arc::default(),
        }
    }

    /// Ends the wait after "not found": there is reason to believe that the answer is another now.
    pub(crate) fn again(&self) -> Arc<Notify> {
        Arc::clone(&self.again)
    }

    /// Follows a stream and those that take its place, until dropped. Losses are not told: what is known stays in force.
    pub(crate) async fn follow<T, F>(&self, open: impl Fn(Channel) -> F, mut tell: impl FnMut(Event<T>))
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let (mut waits, mut not_found) = (Waits::control(), Waits::not_found());
        loop {
            self.channel.ready().await;
            let status = match self.follow_one(&open, &mut tell, &mut waits).await {
                // A clean end and our own limits are no failures: go on at once, but never in a tight loop.
                Ok(()) => Status::ok(""),
                Err(status) => status,
            };
            self.line.ended(&status);
            self.count_end(&status);
            tracing::debug!(service = self.channel.service(), method = self.method, %status, "stream ended");
            if matches!(status.code(), Code::NotFound | Code::InvalidArgument) {
                tell(Event::Unknown);
                // Late or told to hurry, the next step is the same.
                let _ = timeout(not_found.next(), self.again.notified()).await;
            } else {
                not_found.reset();
                sleep(waits.next()).await;
            }
        }
    }

    async fn follow_one<T, F>(
        &self,
        open: &impl Fn(Channel) -> F,
        tell: &mut impl FnMut(Event<T>),
        waits: &mut Waits,
    ) -> Result<(), Status>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let shorter = 1.0 - rand::rng().random::<f64>() * LIFETIME_JITTER;
        let began = Instant::now();
        let ends = began
            + self
                .limits
                .lifetime
                .map_or(FOR_EVER, |lifetime| lifetime.mul_f64(shorter));
        let first_until = began + self.limits.initial_timeout.unwrap_or(FOR_EVER);
        self.count_request();
        let late = |_| Status::deadline_exceeded("no first message in time");
        let mut stream = timeout_at(first_until, open(self.channel.clone()))
            .await
            .map_err(late)??
            .into_inner();
        let first = timeout_at(first_until, stream.message()).await.map_err(late)??;
        let Some(first) = first else {
            return Err(Status::unavailable("ended before the first message"));
        };
        self.count_latency(began.elapsed());
        waits.reset();
        self.line.heard();
        tell(Event::First(first));
        loop {
            let idle_until = Instant::now() + self.limits.idle_timeout.unwrap_or(FOR_EVER);
            match timeout_at(ends.min(idle_until), stream.message()).await {
                Ok(Ok(Some(message))) => {
                    self.line.heard();
                    tell(Event::Next(message));
                }
                Ok(Ok(None)) | Err(_) => return Ok(()),
                Ok(Err(status)) => return Err(status),
            }
        }
    }

    fn labels(&self) -> LabelSet {
        LabelSet::builder()
            .label("service", self.channel.service())
            .label("method", self.method)
            .build()
    }

    fn count_request(&self) {
        self.channel
            .shard()
            .counter(&family::CONTROL_REQUEST_TOTAL, &self.labels())
            .inc();
    }

    fn count_latency(&self, latency: Duration) {
        self.channel
            .shard()
            .histogram(&family::CONTROL_RESPONSE_LATENCY_MS, &self.labels())
            .record(latency);
    }

    fn count_end(&self, status: &Status) {
        let success = matches!(status.code(), Code::Ok | Code::NotFound);
        let labels = self
            .labels()
            .to_builder()
            .label("classification", if success { "success" } else { "failure" })
            .label("grpc_status", &i32::from(status.code()).to_string())
            .build();
        self.channel
            .shard()
            .counter(&family::CONTROL_RESPONSE_TOTAL, &labels)
            .inc();
    }
}
