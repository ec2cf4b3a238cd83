//! What is known of one request, for its spans and its line in the access log. Filled in on a worker as the request goes; read by whoever
//! makes spans and lines of it, on the control runtime.
//!
//! Times and handles only: no text is made before it is certain that somebody wants it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use sheer_api::Verdict;
use sheer_policy::{
    ObjectRef,
    inbound::{InboundPolicy, InboundRule},
    outbound::HttpRule,
    routes::Rule,
};

use super::{
    context::TraceContext,
    id::{SpanId, TraceId},
};
use crate::{
    connect::Link,
    discovery::{Endpoint, OutboundTarget},
    error::ProxyError,
    exchange::{Head, Origin, Outcome},
};

// Looked up in every request: a name in text would be parsed each time.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    /// The context that the request came with.
    pub(crate) context: Option<TraceContext>,
    /// The trace that it belongs to, where it is recorded or was begun by somebody; else made up when it is kept.
    pub(crate) trace: Option<TraceId>,
    /// The span of this proxy.
    pub(crate) span: Option<SpanId>,
    /// Why it is recorded; none for a request that may still be kept for how it ends.
    pub(crate) kept: Option<Kept>,
    /// The access log wants it.
    pub(crate) logged: bool,
    pub(crate) trace_state: String,
    pub(crate) request: About,
    pub(crate) whom: Whom,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) outcome: Option<Outcome>,
    /// Why the proxy ended it, in words.
    pub(crate) error: String,
}

/// Why a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Its context says so.
    Parent,
    /// It was drawn.
    Sampled,
    /// It failed.
    Failed,
    /// It was slow.
    Slow,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) origin: Option<Origin>,
    pub(crate) grpc: bool,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    /// `x-request-id`, for logs.
    pub(crate) request_id: Option<HeaderValue>,
}

/// Between whom it went.
#[derive(Clone, Debug)]
pub(crate) enum Whom {
    /// Nobody knows (yet).
    Unknown,
    /// From this workload.
    Outbound {
        dst: SocketAddr,
        target: OutboundTarget,
        route: Option<Arc<Rule<HttpRule>>>,
    },
    /// To this workload.
    Inbound(Box<Inbound>),
}

/// A request that came to this workload.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    /// The workload's address and port.
    pub(crate) addr: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) identity: Option<Arc<str>>,
    /// It came over mutual TLS.
    pub(crate) meshed: bool,
    /// Stream of HTTP/2; 0 for HTTP/1.
    pub(crate) stream: u32,
    pub(crate) policy: Arc<InboundPolicy>,
    pub(crate) route: Option<Arc<Rule<InboundRule>>>,
}

/// One attempt to have it served.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The span that the other side sees as its parent.
    pub(crate) span: Option<SpanId>,
    /// An endpoint is wanted.
    pub(crate) begun: Instant,
    /// The head left.
    pub(crate) sent: Option<Instant>,
    /// The response's head is here.
    pub(crate) answered: Option<Instant>,
    /// It is over, before the request is.
    pub(crate) ended: Option<Instant>,
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    pub(crate) link: Option<Arc<Link>>,
    /// Stream of HTTP/2; 0 for HTTP/1.
    pub(crate) stream: u32,
    pub(crate) status: Option<StatusCode>,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) failure: Option<Failure>,
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

impl Attempt {
    pub(super) fn new(span: Option<SpanId>) -> Self {
        Self {
            span,
            begun: Instant::now(),
            sent: None,
            answered: None,
            ended: None,
            endpoint: None,
            link: None,
            stream: 0,
            status: None,
            grpc_status: None,
            failure: None,
        }
    }

    /// The response's head, or what says how it went.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.answered.get_or_insert_with(Instant::now);
        self.status = Some(status);
        if let Some(code) = headers.get(&GRPC_STATUS) {
            self.grpc_status = code.to_str().ok().and_then(|text| text.parse().ok());
        }
    }

    /// Whether it was answered with an error, or not at all; one that was given up for another is none.
    fn is_failure(&self) -> bool {
        let server_error = self.status.is_some_and(|status| status.is_server_error());
        self.failure.is_some() || server_error || self.grpc_status.is_some_and(|code| code != 0)
    }

    /// It was not served.
    pub(crate) fn failed(&mut self, error: &ProxyError) {
        self.ended.get_or_insert_with(Instant::now);
        self.failure.get_or_insert_with(|| Failure {
            verdict: error.verdict(),
            reason: error.reason(),
            text: error.in_full(),
        });
    }
}

impl About {
    pub(super) fn of(head: &Head) -> Self {
        let field = |name: &HeaderName| head.headers.get(name).cloned();
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            origin: Some(head.origin),
            grpc: head.is_grpc(),
            host: match head.uri.authority() {
                Some(_) => None,
                None => field(&header::HOST),
            },
            user_agent: field(&header::USER_AGENT),
            request_id: field(&REQUEST_ID),
        }
    }

    /// The authority that the client asked for.
    pub(crate) fn authority(&self) -> &str {
        match self.uri.authority() {
            Some(authority) => authority.as_str(),
            None => self
                .host
                .as_ref()
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default(),
        }
    }
}

impl Record {
    #[cfg(test)]
    pub(crate) fn for_tests(head: &Head) -> Self {
        Self {
            request: About::of(head),
            ..Self::new(Instant::now())
        }
    }

    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            ended: started,
            context: None,
            trace: None,
            span: None,
            kept: None,
            logged: false,
            trace_state: String::new(),
            request: About::default(),
            whom: Whom::Unknown,
            attempts: Vec::new(),
            outcome: None,
            error: String::new(),
        }
    }

    /// Lets go of everything that it held, but for its room. Field by field: to make a new one and move it here costs more than all else.
    pub(super) fn clear(&mut self) {
        self.context = None;
        self.trace = None;
        self.span = None;
        self.kept = None;
        self.logged = false;
        self.trace_state.clear();
        self.request = About::default();
        self.whom = Whom::Unknown;
        self.attempts.clear();
        self.outcome = None;
        self.error.clear();
    }

    pub(crate) fn duration(&self) -> Duration {
        self.ended.duration_since(self.started)
    }

    /// Whether an attempt failed and another was made.
    pub(super) fn was_retried(&self) -> bool {
        let before = self.attempts.split_last().map_or(&[][..], |(_, before)| before);
        before.iter().any(Attempt::is_failure)
    }

    /// From the start until the request's head left this proxy for the last time.
    pub(crate) fn until_sent(&self) -> Option<Duration> {
        let sent = self.attempts.last()?.sent?;
        Some(sent.duration_since(self.started))
    }

    pub(crate) fn is_inbound(&self) -> bool {
        matches!(self.whom, Whom::Inbound(_))
    }

    /// The rule that took it.
    pub(crate) fn outbound_route(&mut self, rule: &Arc<Rule<HttpRule>>) {
        if let Whom::Outbound { route, .. } = &mut self.whom {
            *route = Some(Arc::clone(rule));
        }
    }

    /// The rule that took it.
    pub(crate) fn inbound_route(&mut self, rule: &Arc<Rule<InboundRule>>) {
        if let Whom::Inbound(inbound) = &mut self.whom {
            inbound.route = Some(Arc::clone(rule));
        }
    }

    /// The route that took it, where somebody wrote one.
    pub(crate) fn route(&self) -> Option<&ObjectRef> {
        let route = match &self.whom {
            Whom::Outbound { route, .. } => &route.as_ref()?.route,
            Whom::Inbound(inbound) => &inbound.route.as_ref()?.route,
            Whom::Unknown => return None,
        };
        (!route.is_default()).then_some(route)
    }
}
