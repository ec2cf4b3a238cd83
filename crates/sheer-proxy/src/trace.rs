//! Traces and the access log: what is kept of a request, and where it goes.
//!
//! ```text
//!  worker:   context (headers) ─► tracer (drawn? failed? slow?) ─► record ──bounded queue──┐
//!  control runtime:                                                                        ▼
//!                 collector ─┬─ span ─┬─► push: the control plane                 (each with a bounded queue
//!                            │        └─► otlp: a collector, over gRPC or HTTP     of its own, dropping and counting)
//!                            └─ access log: standard error, and OTLP
//! ```
//!
//! * A request costs one relaxed load while nobody wants anything of it. Where somebody does, a record is filled in as the request goes, in
//!   memory that is used again; text is made on the control runtime, of those that are kept.
//! * What is recorded: requests whose context says so; of those without a context a share, so many a second at the most; and whatever failed
//!   or was slow.
//! * Nothing here waits for anybody, and nothing that happens here can hurt a request.

mod collector;
mod context;
mod id;
mod otlp;
mod propagation;
mod push;
mod record;
mod resource;
mod sampler;
mod span;
mod tracer;

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use sheer_api::v1::Span;
use tokio::sync::mpsc;

pub use self::tracer::Tracer;
pub(crate) use self::{
    collector::{Collector, Finish, Parts},
    id::TraceId,
    propagation::Passed,
    record::{Attempt, Inbound, Record, Whom},
    span::version as http_version,
    tracer::{Sent, Trail},
};

use self::{propagation::Serving, tracer::Told};
use crate::{
    access_log::AccessLog,
    redact::Redactor,
    settings::{self, Settings},
};

/// The trace that a request names in any of the formats, with 32 digits.
pub(crate) fn named(headers: &http::HeaderMap) -> Option<[u8; 32]> {
    match context::read(headers) {
        context::Said::Context(context) => Some(context.trace.hex()),
        _ => None,
    }
}

/// Records that may wait for the control runtime, from all workers.
const QUEUE: usize = 4_096;
/// Somebody takes spans: the control plane.
const CONTROL_PLANE: u8 = 1;
/// The same: a collector.
const COLLECTOR: u8 = 2;
/// There is an access log.
const LOG: u8 = 4;

/// What workers and the control runtime share. One a process, cheap to clone.
#[derive(Clone, Debug)]
pub struct Collecting(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Who wants anything.
    wanted: AtomicU8,
    settings: settings::Trace,
    log: Option<AccessLog>,
    queue: mpsc::Sender<Told>,
    serving: Serving,
    worker_count: usize,
    /// Workers so far.
    workers: AtomicUsize,
}

/// Spans as workers record them.
#[derive(Debug)]
pub struct Spans(mpsc::Receiver<Told>, Redactor);

impl Spans {
    /// The spans of the next request that is recorded, the whole first.
    pub async fn next(&mut self) -> Vec<Span> {
        loop {
            match self.0.recv().await {
                Some(Told::Request(record)) => return span::spans(&record, &self.1),
                Some(Told::Passed(_)) => {}
                None => return Vec::new(),
            }
        }
    }

    /// The spans of one that was recorded already.
    pub fn try_next(&mut self) -> Option<Vec<Span>> {
        loop {
            match self.0.try_recv().ok()? {
                Told::Request(record) => return Some(span::spans(&record, &self.1)),
                Told::Passed(_) => {}
            }
        }
    }
}

impl Collecting {
    /// With nobody yet who takes spans; and where workers put what they keep.
    pub(crate) fn new(settings: &Settings) -> (Self, mpsc::Receiver<Told>) {
        let (queue, told) = mpsc::channel(QUEUE);
        let log = settings.access_log.as_ref().map(AccessLog::new);
        let shared = Shared {
            wanted: AtomicU8::new(if log.is_some() { LOG } else { 0 }),
            settings: settings.trace.clone(),
            log,
            queue,
            serving: Serving::new(settings.workers),
            worker_count: settings.workers,
            workers: AtomicUsize::new(0),
        };
        (Self(Arc::new(shared)), told)
    }

    /// For whoever takes spans here instead of an exporter, as tests do.
    pub fn recorded(settings: &Settings) -> (Self, Spans) {
        let (collecting, told) = Self::new(settings);
        collecting.want(COLLECTOR, true);
        (collecting, Spans(told, settings.sight.redactor.clone()))
    }

    /// Whether anybody wants anything of a request.
    fn is_on(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed) != 0
    }

    fn wants_spans(&self) -> bool {
        self.wants(CONTROL_PLANE | COLLECTOR)
    }

    fn wants(&self, who: u8) -> bool {
        self.0.wanted.load(Ordering::Relaxed) & who != 0
    }

    fn log(&self) -> Option<&AccessLog> {
        self.0.log.as_ref()
    }

    /// Somebody takes spans from now on, or no longer.
    fn want(&self, who: u8, wanted: bool) {
        if wanted {
            self.0.wanted.fetch_or(who, Ordering::Relaxed);
        } else {
            self.0.wanted.fetch_and(!who, Ordering::Relaxed);
        }
    }
}
