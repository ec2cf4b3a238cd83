//! What happened to a request, told exactly once.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, StatusCode};
use sheer_api::Verdict;
use sheer_policy::outbound::ResponseClasses;

use super::{
    hint::Hint,
    request::{Head, Origin},
};
use crate::{
    error::{ProxyError, ResetCode},
    metrics::{ResponseOutcome, TraceId},
    record::{Leg, Recorder},
    sight::Sample,
    tap::Tapped,
    telemetry::PathNote,
    trace::{Attempt, Record, Trail},
};

/// What happened to a request, as far as it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the client speaks.
    pub spoken: Spoken,
    /// When its head was complete.
    pub started: Instant,
    /// From the start to the final response's head.
    pub first_byte: Option<Duration>,
    /// Status of the final response.
    pub status: Option<StatusCode>,
    /// `grpc-status`, from the headers or the trailers.
    pub grpc_status: Option<u16>,
    /// How long a failing server wants to be left alone, where it says so.
    pub retry_after: Option<Duration>,
    /// Bytes of the request's body so far.
    pub request_bytes: u64,
    /// Bytes of the response's body so far.
    pub response_bytes: u64,
    /// What the route says of which answers are failures, where it says so.
    pub classes: Option<Arc<ResponseClasses>>,
    /// Times that the request's body, and the response's, waited for their receiver's window.
    pub stalls: [u32; 2],
    /// The trace that tells about it, where one is kept: metrics point at it (exemplars).
    pub trace: Option<TraceId>,
    /// How long its caller waits, from the start, where it says so.
    pub deadline: Option<Duration>,
    /// Times that it went out.
    pub attempts: u32,
    /// Attempts that were followed by another.
    pub passed_over: Vec<PassedOver>,
    /// How it ended; [`End::Dropped`] until something else is known.
    pub end: End,
}

/// An attempt that was followed by another: what the client did not see.
#[derive(Clone, Debug)]
pub struct PassedOver {
    /// Where it went, or should have gone.
    pub endpoint: Option<SocketAddr>,
    /// What answered; none where nothing did.
    pub status: Option<StatusCode>,
    /// `grpc-status` of that answer.
    pub grpc_status: Option<u16>,
    /// Why nothing answered.
    pub reason: &'static str,
    /// From the request's start.
    pub after: Duration,
}

/// A caller that gives up when its deadline comes may be this much early: it wrote the deadline down before it sent it.
const EARLY: Duration = Duration::from_millis(5);
/// And by one part of the deadline in this many, as it wrote it down rounded up: gRPC's C core to three digits.
const EARLY_PART: u32 = 100;

/// The protocol of a request, as its client speaks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1, also where it is carried in HTTP/2.
    #[default]
    Http1,
    /// HTTP/2 that is not gRPC.
    Http2,
    /// gRPC.
    Grpc,
}

impl Spoken {
    /// By what a request's head says.
    pub(crate) fn of(head: &Head) -> Self {
        match head.origin {
            _ if head.is_grpc() => Self::Grpc,
            Origin::Http2 => Self::Http2,
            Origin::Http1 { .. } => Self::Http1,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both bodies went through.
    Complete,
    /// The client reset the stream or closed its connection.
    ClientReset(ResetCode),
    /// The server reset the stream or closed its connection after the response had begun, or the application reset it before.
    ServerReset(ResetCode),
    /// The proxy answered, or ended the stream, for this reason.
    Proxy {
        /// The layer at fault.
        verdict: Verdict,
        /// Reason code.
        reason: &'static str,
    },
    /// The task went away: shutdown, or a panic.
    Dropped,
}

impl Outcome {
    fn new(started: Instant) -> Self {
        Self {
            spoken: Spoken::default(),
            started,
            first_byte: None,
            status: None,
            grpc_status: None,
            retry_after: None,
            request_bytes: 0,
            response_bytes: 0,
            classes: None,
            stalls: [0, 0],
            trace: None,
            deadline: None,
            attempts: 0,
            passed_over: Vec::new(),
            end: End::Dropped,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(Instant::now())
    }

    fn note_head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            self.retry_after = Hint::of(headers).after();
        }
        self.note_grpc_status(headers);
    }

    fn note_grpc_status(&mut self, headers: &HeaderMap) {
        if let Some(value) = headers.get("grpc-status") {
            // A status that is no number is `Unknown` for every gRPC library.
            let code = value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2);
            self.grpc_status = Some(code);
            if code != 0 {
                self.retry_after = Hint::of(headers).after();
            }
        }
    }

    /// The caller's deadline, where a cancel at this moment means that it has come.
    fn waited_out(&self, now: Instant) -> Option<Duration> {
        let deadline = self.deadline?;
        let waited = now.saturating_duration_since(self.started);
        (waited + EARLY + deadline / EARLY_PART >= deadline).then_some(deadline)
    }

    /// Success or failure, as `classification` of Linkerd's metrics has it: a request that did not come to its end is a failure,
    /// except one that the client gave up.
    pub fn is_success(&self) -> bool {
        match self.end {
            End::Proxy { .. } | End::ServerReset(_) | End::Dropped => false,
            End::Complete | End::ClientReset(_) => {
                let by_default =
                    || ResponseOutcome::is_success(self.status.map_or(0, |status| status.as_u16()), self.grpc_status);
                self.is_failure_by_class()
                    .map_or_else(by_default, |is_failure| !is_failure)
            }
        }
    }

    /// Whether the answer is a failure, where the route says so of its status.
    pub(crate) fn is_failure_by_class(&self) -> Option<bool> {
        self.classes.as_ref()?.is_failure(self.status?.as_u16())
    }
}

/// Who is told. One for each set of metric labels, resolved with the route or the endpoint, not with the request.
pub trait Sink {
    /// The final response's head is here.
    fn response(&self, _outcome: &Outcome) {}
    /// An answer that the client does not see, as the request goes out again.
    fn passed_over(&self, _outcome: &Outcome) {}
    /// The request is over. Called exactly once for an [`Observation`].
    fn end(&self, outcome: &Outcome);
}

/// Collects an [`Outcome`] and tells it when dropped, however the request ends.
///
/// Both directions of an exchange note here what they see, so it is shared by reference and never borrowed over an `.await`.
pub struct Observation {
    outcome: RefCell<Outcome>,
    sink: RefCell<Rc<dyn Sink>>,
    /// What sight keeps of this request, where it is one of its samples.
    sample: RefCell<Option<Box<Sample>>>,
    /// What is recorded of it for its trace and the access log, where somebody wants that.
    trail: RefCell<Option<Trail>>,
    /// Where it counts by its path, while somebody looks.
    path: RefCell<Option<Box<PathNote>>>,
    /// For who watches, where somebody does.
    tapped: RefCell<Option<Box<Tapped>>>,
    legs: RefCell<Legs>,
}

/// Where the request came in and went out, for the recorder.
#[derive(Default)]
struct Legs {
    recorder: Recorder,
    client: Leg,
    upstream: Leg,
}

impl std::fmt::Debug for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.outcome.fmt(f)
    }
}

impl Observation {
    /// Starts the clock.
    pub fn start(sink: Rc<dyn Sink>) -> Self {
        Self::start_at(Instant::now(), sink)
    }

    /// The same, of a request that arrived at this moment.
    pub(crate) fn start_at(arrived: Instant, sink: Rc<dyn Sink>) -> Self {
        Self {
            outcome: RefCell::new(Outcome::new(arrived)),
            sink: RefCell::new(sink),
            sample: RefCell::new(None),
            trail: RefCell::new(None),
            path: RefCell::new(None),
            tapped: RefCell::new(None),
            legs: RefCell::default(),
        }
    }

    /// The request came in on this stream, and is recorded by this recorder.
    pub(crate) fn recorded(&self, recorder: &Recorder, client: Leg) {
        let mut legs = self.legs.borrow_mut();
        legs.recorder = recorder.clone();
        legs.client = client;
    }

    /// Somebody watches the request.
    pub(crate) fn tap(&self, tapped: Option<Box<Tapped>>) {
        if tapped.is_some() {
            self.tapped.replace(tapped);
        }
    }

    fn tapped(&self, tell: impl FnOnce(&mut Tapped)) {
        if let Some(tapped) = &mut *self.tapped.borrow_mut() {
            tell(tapped);
        }
    }

    /// The request went out on this stream.
    pub(super) fn went_to(&self, upstream: Leg) {
        self.tapped(|tapped| tapped.went_to(&upstream));
        let mut legs = self.legs.borrow_mut();
        upstream.sent_for(&legs.client);
        legs.upstream = upstream;
        self.outcome.borrow_mut().attempts += 1;
    }

    /// When the request began.
    pub(crate) fn started(&self) -> Instant {
        self.outcome.borrow().started
    }

    /// Records from here on what becomes of the request.
    pub(crate) fn follow(&self, trail: Trail) {
        self.trail.replace(Some(trail));
    }

    /// Notes something in the record of the request, where there is one.
    pub(crate) fn record(&self, note: impl FnOnce(&mut Record)) {
        if let Some(trail) = &mut *self.trail.borrow_mut() {
            note(trail.record());
        }
    }

    /// The trace that it is part of, also one that began here, with 32 digits.
    pub(crate) fn trace(&self) -> Option<[u8; 32]> {
        let mut trail = self.trail.borrow_mut();
        let trace = trail.as_mut()?.record().trace;
        trace.map(crate::trace::TraceId::hex)
    }

    /// The same, of one attempt.
    pub(crate) fn attempt(&self, number: usize, note: impl FnOnce(&mut Attempt)) {
        self.record(|record| {
            if let Some(attempt) = record.attempts.get_mut(number) {
                note(attempt);
            }
        });
    }

    /// The request is about to be sent (again): its head says whose child it is. The number of the attempt.
    pub(crate) fn begin_attempt(&self, head: &mut Head) -> usize {
        let mut trail = self.trail.borrow_mut();
        trail.as_mut().map_or(0, |trail| trail.attempt(head))
    }

    /// Nobody wants to see the request, unless something is wrong with it.
    pub(crate) fn forget(&self) {
        if let Some(trail) = &mut *self.trail.borrow_mut() {
            trail.forget();
        }
    }

    /// The head of an attempt has left, on this stream.
    pub(super) fn sent(&self, attempt: usize, stream: u32) {
        self.attempt(attempt, |attempt| {
            attempt.sent = Some(Instant::now());
            attempt.stream = stream;
        });
    }

    /// Notes what the client speaks.
    pub(crate) fn speaks(&self, spoken: Spoken) {
        self.outcome.borrow_mut().spoken = spoken;
    }

    /// Counts the request by its path.
    pub(crate) fn note_path(&self, note: Box<PathNote>) {
        self.path.replace(Some(note));
    }

    /// Keeps a sample of the request, once it is known what became of it.
    pub(crate) fn sample(&self, sample: Box<Sample>) {
        self.sample.replace(Some(sample));
    }

    /// The route says which answers are failures.
    pub(crate) fn classify(&self, classes: &Arc<ResponseClasses>) {
        self.outcome.borrow_mut().classes = Some(Arc::clone(classes));
    }

    /// What is known so far.
    pub fn outcome(&self) -> Outcome {
        self.outcome.borrow().clone()
    }

    /// The server has said all, and got all.
    pub(super) fn upstream_over(&self) {
        self.legs.borrow_mut().upstream.over();
    }

    /// Tells another sink instead, as when the request goes to another endpoint.
    pub fn redirect(&self, sink: Rc<dyn Sink>) {
        *self.sink.borrow_mut() = sink;
    }

    /// The proxy ends this itself.
    pub fn error(&self, error: &ProxyError) {
        self.tapped(|tapped| tapped.error(error));
        self.record(|record| record.error = error.in_full());
        self.end(End::Proxy {
            verdict: error.verdict(),
            reason: error.reason(),
        });
    }

    pub(super) fn response_head(&self, status: StatusCode, headers: &HeaderMap) {
        let mut outcome = self.outcome.borrow_mut();
        outcome.note_head(status, headers);
        outcome.first_byte = Some(outcome.started.elapsed());
        self.sink.borrow().response(&outcome);
        self.tapped(|tapped| tapped.response(status, headers));
    }

    /// An answer that the client does not see, as the request goes out again: by its head, and what says how it went (head or trailers).
    pub(super) fn passed_over(&self, (attempt, addr): (usize, SocketAddr), status: StatusCode, headers: &HeaderMap) {
        self.attempt(attempt, |attempt| attempt.answered(status, headers));
        let mut outcome = self.outcome();
        outcome.note_head(status, headers);
        self.note_passed_over(PassedOver {
            endpoint: Some(addr),
            status: outcome.status,
            grpc_status: outcome.grpc_status,
            reason: "",
            after: outcome.started.elapsed(),
        });
        self.sink.borrow().passed_over(&outcome);
    }

    /// An attempt has failed, and another follows. An answer that was passed over is noted when it comes.
    pub(crate) fn goes_out_again(&self, endpoint: Option<SocketAddr>, error: &ProxyError) {
        if !matches!(error, ProxyError::TriedAgain { .. }) {
            self.note_passed_over(PassedOver {
                endpoint,
                status: None,
                grpc_status: None,
                reason: error.reason(),
                after: self.started().elapsed(),
            });
        }
    }

    fn note_passed_over(&self, one: PassedOver) {
        self.tapped(|tapped| tapped.passed_over(&one));
        self.outcome.borrow_mut().passed_over.push(one);
    }

    /// All of the request has gone out.
    pub(super) fn sent_whole(&self) {
        self.tapped(Tapped::sent_whole);
    }

    /// Whether the final response's head is here.
    pub(super) fn has_response(&self) -> bool {
        self.outcome.borrow().first_byte.is_some()
    }

    pub(super) fn request_trailers(&self, trailers: &HeaderMap) {
        self.tapped(|tapped| tapped.request_trailers(trailers));
    }

    pub(super) fn trailers(&self, trailers: &HeaderMap) {
        self.tapped(|tapped| tapped.trailers(trailers));
        self.outcome.borrow_mut().note_grpc_status(trailers);
    }

    /// A piece of a body goes by.
    #[inline]
    pub(super) fn body(&self, way: Way, data: &Bytes) {
        self.tapped(|tapped| tapped.body(way, data));
    }

    pub(super) fn bytes(&self, way: Way, bytes: usize) {
        let mut outcome = self.outcome.borrow_mut();
        match way {
            Way::Request => outcome.request_bytes += bytes as u64,
            Way::Response => outcome.response_bytes += bytes as u64,
        }
    }

    /// A body waits for its receiver's window.
    pub(super) fn stalled(&self, way: Way) {
        let stalls = &mut self.outcome.borrow_mut().stalls[way as usize];
        *stalls = stalls.saturating_add(1);
    }

    /// Bytes that moved so far, either way.
    pub(super) fn moved(&self) -> u64 {
        let outcome = self.outcome.borrow();
        outcome.request_bytes + outcome.response_bytes
    }

    /// The caller waits this long, from the start.
    pub(crate) fn waits_for(&self, deadline: Duration) {
        self.outcome.borrow_mut().deadline = Some(deadline);
    }

    /// The client reset the request, or left. Where its deadline has come that is what happened, whoever noticed it first.
    pub(crate) fn client_left(&self, code: ResetCode) {
        let passed = || self.outcome.borrow().waited_out(Instant::now());
        match code.0 {
            Reason::CANCEL if let Some(after) = passed() => {
                let sent = self.legs.borrow().upstream.id().is_known();
                self.error(&ProxyError::Deadline { sent, after });
            }
            _ => self.end(End::ClientReset(code)),
        }
    }

    pub(super) fn end(&self, end: End) {
        let mut outcome = self.outcome.borrow_mut();
        // The first end is the cause; what follows from it is not.
        if outcome.end == End::Dropped {
            outcome.end = end;
        }
    }
}

/// Direction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Client to server.
    Request,
    /// Server to client.
    Response,
}

impl Drop for Observation {
    fn drop(&mut self) {
        // First, as metrics point at the trace that is kept.
        if let Some(trail) = self.trail.take() {
            let kept = trail.end(&self.outcome.borrow());
            self.outcome.borrow_mut().trace = kept;
        }
        let outcome = self.outcome.borrow();
        self.sink.borrow().end(&outcome);
        let legs = self.legs.borrow();
        let tapped = self.tapped.take();
        let id = tapped.as_ref().map(|tapped| tapped.id());
        legs.recorder
            .request_ended(id, (&legs.client, &legs.upstream), &outcome);
        if let Some(tapped) = tapped {
            tapped.end(&outcome, |id| {
                legs.recorder.request_shown(id, (&legs.client, &legs.upstream));
            });
        }
        if let Some(sample) = self.sample.take() {
            sample.keep(outcome.status);
        }
        if let Some(note) = self.path.take()
            && let Some(outcome) = ResponseOutcome::of(&outcome)
        {
            note.ended(&outcome);
        }
    }
}
