//! Traces on one worker: which requests are recorded, and what becomes of a record when its request is over.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Collecting,
    context::{self, Said, TraceContext},
    id::Ids,
    propagation::{Passed, Served, Targets},
    record::{About, Attempt, Inbound, Kept, Record, Whom},
    sampler::{Bucket, Share},
};
use crate::{
    discovery::OutboundTarget,
    exchange::{End, Head, Observation, Outcome},
    metrics::{self, Counter, LabelSet, Shard, family},
};

/// Records that wait to be used again: more requests at once than this make new ones.
const SPARE: usize = 256;
/// How often what was counted of propagation is handed over.
const TELL: Duration = Duration::from_secs(5);

/// Records requests on one worker.
pub struct Tracer {
    collecting: Collecting,
    worker: usize,
    ids: Ids,
    share: Share,
    begun: Bucket,
    kept: Bucket,
    /// Apart, so that a storm of retries leaves room for what failed in the end.
    made_good: Bucket,
    slow: Option<Duration>,
    #[expect(clippy::vec_box, reason = "a record moves between requests as the box that it is in")]
    spare: RefCell<Vec<Box<Record>>>,
    passed: Targets,
    dropped: Counter,
    not_kept: Counter,
}

/// What is handed to the control runtime.
#[derive(Debug)]
pub(crate) enum Told {
    /// A request that is recorded, logged or both.
    Request(Box<Record>),
    /// Counts of propagation.
    Passed(Vec<super::propagation::PassedCount>),
}

/// The record of a request under way, and where it goes afterwards. Held by the request's [`Observation`].
pub(crate) struct Trail {
    tracer: Rc<Tracer>,
    record: Box<Record>,
    /// Counted while the application serves it.
    served: Option<Served>,
}

impl Tracer {
    /// For a new worker; has its counts told.
    pub fn start(collecting: &Collecting, shard: &Shard) -> Rc<Self> {
        let settings = &collecting.0.settings;
        let worker = collecting.0.workers.fetch_add(1, Ordering::Relaxed);
        // Each worker has its part of what the proxy may begin.
        let part = 1.0 / collecting.0.worker_count.max(1) as f64;
        let dropped = |reason| {
            let labels = LabelSet::builder().label("reason", reason).build();
            shard.counter(&family::SHEER_TRACE_SPANS_DROPPED_TOTAL, &labels)
        };
        let tracer = Rc::new(Self {
            collecting: collecting.clone(),
            worker,
            ids: Ids::new(),
            share: Share::new(settings.sample_rate),
            begun: Bucket::new(settings.sample_limit * part),
            kept: Bucket::new(settings.keep_limit * part),
            made_good: Bucket::new(settings.keep_limit * part / 4.0),
            slow: (!settings.slow.is_zero()).then_some(settings.slow),
            spare: RefCell::default(),
            passed: Targets::default(),
            dropped: dropped("queue-full"),
            not_kept: dropped("keep-limit"),
        });
        let weak = Rc::downgrade(&tracer);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(TELL).await;
                let Some(tracer) = weak.upgrade() else { return };
                tracer.tell_passed();
            }
        });
        tracer
    }

    fn tell_passed(&self) {
        let passed = self.passed.take();
        if !passed.is_empty() {
            // Full: these are counts, and the next ones say the same.
            let _ = self.collecting.0.queue.try_send(Told::Passed(passed));
        }
    }

    /// Counts of requests to one target.
    pub(crate) fn passed(&self, target: &Arc<str>) -> Rc<Passed> {
        self.passed.add(Arc::clone(target))
    }

    /// A request of the workload begins.
    pub(crate) fn outbound(self: &Rc<Self>, observation: &Observation, head: &Head, to: &impl Sent) {
        if !self.collecting.is_on() {
            return;
        }
        let mut record = self.record(observation.started());
        let (passed, serving) = (to.passed(self), &self.collecting.0.serving);
        // Of an application that passes contexts on, a request without one belongs to one that was not drawn (or to work in the background,
        // which one cannot tell): a trace that began here would lack its beginning.
        let is_part = passed.passes_on(record.started) && serving.is_serving();
        let said = self.judge(&mut record, head, !is_part);
        let with_context = matches!(said, Said::Context(_));
        if with_context {
            passed.saw(record.started);
        }
        if serving.all_with_context() {
            passed.note(with_context);
        }
        record.request = About::of(head);
        let (dst, target) = to.target();
        record.whom = Whom::Outbound {
            dst,
            target,
            route: None,
        };
        self.attach(observation, record, None);
    }

    /// A request for the workload begins.
    pub(crate) fn inbound(self: &Rc<Self>, observation: &Observation, head: &Head, from: impl FnOnce() -> Inbound) {
        if !self.collecting.is_on() {
            return;
        }
        let from = from();
        let mut record = self.record(observation.started());
        // A peer of the mesh has drawn already: to draw again at every hop would record more than was asked for.
        let said = self.judge(&mut record, head, !from.meshed);
        let given = matches!(said, Said::Context(_)) || record.kept.is_some();
        let served = self.collecting.0.serving.begin(self.worker, given);
        record.request = About::of(head);
        record.whom = Whom::Inbound(Box::new(from));
        self.attach(observation, record, Some(served));
    }

    /// Something that came instead of a request.
    pub(crate) fn refused(self: &Rc<Self>, observation: &Observation, whom: impl FnOnce() -> Whom) {
        if !self.collecting.is_on() {
            return;
        }
        let mut record = self.record(observation.started());
        record.whom = whom();
        self.attach(observation, record, None);
    }

    fn attach(self: &Rc<Self>, observation: &Observation, record: Box<Record>, served: Option<Served>) {
        observation.follow(Trail {
            tracer: Rc::clone(self),
            record,
            served,
        });
    }

    fn record(&self, started: Instant) -> Box<Record> {
        match self.spare.borrow_mut().pop() {
            Some(mut record) => {
                record.started = started;
                record.ended = started;
                record
            }
            None => Box::new(Record::new(started)),
        }
    }

    /// Whether the request is recorded, by its context or by chance.
    fn judge(&self, record: &mut Record, head: &Head, may_begin: bool) -> Said {
        let said = context::read(&head.headers);
        let wants_spans = self.collecting.wants_spans();
        match said {
            Said::Context(context) => self.join(record, context, wants_spans),
            Said::Nothing if may_begin && wants_spans && self.draw(record.started) => {
                record.kept = Some(Kept::Sampled);
                record.trace = Some(self.ids.trace());
            }
            Said::Nothing | Said::No | Said::Unreadable => {}
        }
        if record.kept.is_some() {
            record.span = Some(self.ids.span());
            record.trace_state = context::trace_state(&head.headers);
        }
        said
    }

    fn join(&self, record: &mut Record, context: TraceContext, wants_spans: bool) {
        record.context = Some(context);
        record.trace = Some(context.trace);
        let drawn = || self.draw(record.started);
        if wants_spans && context.sampled.unwrap_or_else(drawn) {
            record.kept = Some(Kept::Parent);
        }
    }

    fn draw(&self, now: Instant) -> bool {
        self.share.takes(self.ids.random()) && self.begun.take(now)
    }

    /// Hands a record over, where somebody wants it, or keeps its room. Gives the id of the trace, where that is kept.
    fn end(&self, mut record: Box<Record>, outcome: &Outcome) -> Option<metrics::TraceId> {
        record.ended = Instant::now();
        if record.kept.is_none() && self.collecting.wants_spans() {
            record.kept = self.why_kept(&record, outcome);
        }
        let log = self.collecting.log();
        record.logged = log.is_some_and(|log| log.wants(&record, outcome));
        if record.kept.is_none() && !record.logged {
            self.keep_room(record);
            return None;
        }
        if record.kept.is_some() {
            record.trace.get_or_insert_with(|| self.ids.trace());
            record.span.get_or_insert_with(|| self.ids.span());
        }
        let kept = record.kept.and(record.trace).map(|trace| trace.bytes());
        record.outcome = Some(outcome.clone());
        let full = match self.collecting.0.queue.try_send(Told::Request(record)) {
            Ok(()) => return kept,
            Err(mpsc::error::TrySendError::Full(told) | mpsc::error::TrySendError::Closed(told)) => told,
        };
        self.dropped.inc();
        if let Told::Request(record) = full {
            self.keep_room(record);
        }
        None
    }

    fn why_kept(&self, record: &Record, outcome: &Outcome) -> Option<Kept> {
        let gave_up = matches!(outcome.end, End::ClientReset(_));
        let failed = !gave_up && !outcome.is_success() || matches!(outcome.end, End::Proxy { .. });
        // What a retry made good is kept as well: the callee's proxy keeps its failure, and only this one knows that nobody saw it.
        let (kept, bucket) = if failed {
            (Kept::Failed, &self.kept)
        } else if record.was_retried() {
            (Kept::Failed, &self.made_good)
        } else if self.slow.is_some_and(|slow| record.duration() >= slow) {
            (Kept::Slow, &self.kept)
        } else {
            return None;
        };
        if bucket.take(record.ended) {
            return Some(kept);
        }
        self.not_kept.inc();
        None
    }

    fn keep_room(&self, mut record: Box<Record>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            // Now and not when it is used again: what it holds may hold a buffer of its connection.
            record.clear();
            spare.push(record);
        }
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

/// Where an outbound request goes, as far as tracing asks.
pub(crate) trait Sent {
    /// The original destination, and what is known of it.
    fn target(&self) -> (std::net::SocketAddr, OutboundTarget);
    /// Where propagation is counted.
    fn passed(&self, tracer: &Tracer) -> Rc<Passed>;
}

impl Trail {
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The request is about to be sent (again): says in its head whose child it is, where it is recorded. The number of the attempt.
    pub(crate) fn attempt(&mut self, head: &mut Head) -> usize {
        let Self { tracer, record, .. } = self;
        let span = record.kept.and_then(|_| match &record.whom {
            // The other side is the application: the span of this proxy is its parent, however often it is asked.
            Whom::Inbound(_) => record.span,
            Whom::Outbound { .. } | Whom::Unknown => Some(tracer.ids.span()),
        });
        if let (Some(span), Some(trace)) = (span, record.trace) {
            match &record.context {
                Some(context) => context.pass_on(&mut head.headers, span),
                None => context::begin(&mut head.headers, trace, span),
            }
        }
        record.attempts.push(Attempt::new(span));
        record.attempts.len() - 1
    }

    /// A request that nobody wants to see, unless something is wrong with it.
    pub(crate) fn forget(&mut self) {
        if self.record.kept == Some(Kept::Sampled) {
            self.record.kept = None;
        }
    }

    /// The request is over. Gives the id of its trace, where that is kept.
    pub(crate) fn end(self, outcome: &Outcome) -> Option<metrics::TraceId> {
        let Self { tracer, record, served } = self;
        drop(served);
        tracer.end(record, outcome)
    }
}
