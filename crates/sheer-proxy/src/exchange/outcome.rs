//! What happened to a request, told exactly once.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use sheer_api::Verdict;

use crate::error::{ProxyError, ResetCode};

/// What happened to a request, as far as it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When its head was complete.
    pub started: Instant,
    /// From the start to the final response's head.
    pub first_byte: Option<Duration>,
    /// Status of the final response.
    pub status: Option<StatusCode>,
    /// `grpc-status`, from the headers or the trailers.
    pub grpc_status: Option<u16>,
    /// Bytes of the request's body so far.
    pub request_bytes: u64,
    /// Bytes of the response's body so far.
    pub response_bytes: u64,
    /// How it ended; [`End::Dropped`] until something else is known.
    pub end: End,
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

/// Success or failure, as `classification` of Linkerd's metrics has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Classification {
    /// `success`
    Success,
    /// `failure`
    Failure,
}

impl Outcome {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            first_byte: None,
            status: None,
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            end: End::Dropped,
        }
    }

    /// Success or failure: what gRPC says where it says something, else the HTTP status; a stream that did not end well is a
    /// failure, except one that the client gave up.
    pub fn classification(&self) -> Classification {
        let failed = match self.end {
            End::Proxy { .. } | End::ServerReset(_) | End::Dropped => true,
            End::Complete | End::ClientReset(_) => match (self.grpc_status, self.status) {
                // Unknown, DeadlineExceeded, PermissionDenied, Internal, Unavailable, DataLoss: faults of the server or the mesh.
                (Some(code), _) => matches!(code, 2 | 4 | 7 | 13 | 14 | 15),
                (None, Some(status)) => status.is_server_error(),
                (None, None) => false,
            },
        };
        if failed { Classification::Failure } else { Classification::Success }
    }
}

/// Who is told. One for each set of metric labels, resolved with the route or the endpoint, not with the request.
pub trait Sink {
    /// The final response's head is here.
    fn response(&self, _outcome: &Outcome) {}
    /// The request is over. Called exactly once for an [`Observation`].
    fn end(&self, outcome: &Outcome);
}

/// Collects an [`Outcome`] and tells it when dropped, however the request ends.
pub struct Observation {
    outcome: Outcome,
    sink: Rc<dyn Sink>,
}

impl std::fmt::Debug for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.outcome.fmt(f)
    }
}

impl Observation {
    /// Starts the clock.
    pub fn start(sink: Rc<dyn Sink>) -> Self {
        Self { outcome: Outcome::new(), sink }
    }

    /// What is known so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Tells another sink instead, as when the request goes to another endpoint.
    pub fn redirect(&mut self, sink: Rc<dyn Sink>) {
        self.sink = sink;
    }

    /// The proxy ends this itself.
    pub fn error(&mut self, error: &ProxyError) {
        self.end(End::Proxy { verdict: error.verdict(), reason: error.reason() });
    }

    pub(super) fn response_head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.outcome.status = Some(status);
        self.outcome.first_byte = Some(self.outcome.started.elapsed());
        self.trailers(headers);
        self.sink.response(&self.outcome);
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(value) = trailers.get("grpc-status") {
            // A status that is no number is `Unknown` for every gRPC library.
            self.outcome.grpc_status = Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2));
        }
    }

    pub(super) fn request_bytes(&mut self, bytes: usize) {
        self.outcome.request_bytes += bytes as u64;
    }

    pub(super) fn response_bytes(&mut self, bytes: usize) {
        self.outcome.response_bytes += bytes as u64;
    }

    pub(super) fn end(&mut self, end: End) {
        // The first end is the cause; what follows from it is not.
        if self.outcome.end == End::Dropped {
            self.outcome.end = end;
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.sink.end(&self.outcome);
    }
}
