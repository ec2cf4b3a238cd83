//! Spans of a record: names and attributes as OpenTelemetry's semantic conventions have them (HTTP, RPC, network), Sheer's own under `sheer.`.
//!
//! An inbound request is one SERVER span. An outbound request is one CLIENT span; where it took several attempts, each of them is one, below
//! an INTERNAL span of the whole. Queries are left out: they hold what is nobody's business.

use std::{
    net::SocketAddr,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use http::uri::Scheme;
use sheer_api::v1::{Attribute, Span, SpanEvent, SpanKept, SpanKind, SpanWire, attribute::Value};

use super::{
    record::{Attempt, Inbound, Kept, Record, Whom},
    resource::text,
};
use crate::{
    connect::Link,
    exchange::{End, Origin, Outcome},
    redact::Redactor,
};

const USER_AGENT: &str = "user_agent.original";
const PATH: &str = "url.path";
const HOST: &str = "http.request.header.host";
/// gRPC codes that say that the server is at fault (OpenTelemetry, "gRPC Status").
const SERVER_FAULTS: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// Turns instants into times of day.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    unix_ns: u64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a span says when")]
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            instant: Instant::now(),
            unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    fn at(&self, instant: Instant) -> u64 {
        let nanos = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
        };
        let (before, after) = (nanos(instant, self.instant), nanos(self.instant, instant));
        self.unix_ns.saturating_sub(before).saturating_add(after)
    }
}

/// How a request, or an attempt at it, ended.
struct Ending<'a> {
    status: Option<u16>,
    grpc_status: Option<u16>,
    /// Layer at fault, reason code and words, where something went wrong beyond an answer.
    fault: Option<(&'static str, &'static str, &'a str)>,
}

/// The spans of a request that is kept, the whole first, without what its workload hides.
pub(super) fn spans(record: &Record, redactor: &Redactor) -> Vec<Span> {
    let mut all = of_record(record);
    for attribute in all.iter_mut().flat_map(|span| &mut span.attributes) {
        let Some(Value::Text(value)) = &mut attribute.value else {
            continue;
        };
        let name = match attribute.key.as_str() {
            USER_AGENT => &b"user-agent"[..],
            PATH => b":path",
            HOST => b"host",
            _ => continue,
        };
        if let (shown, true) = redactor.value(name, value.as_bytes()) {
            let shown = String::from_utf8_lossy(&shown).into_owned();
            *value = shown;
        }
    }
    all
}

fn of_record(record: &Record) -> Vec<Span> {
    let (Some(kept), Some(trace), Some(own), Some(outcome)) = (record.kept, record.trace, record.span, &record.outcome)
    else {
        return Vec::new();
    };
    let clock = Clock::now();
    let whole = Span {
        trace_id: trace.bytes().to_vec(),
        span_id: own.bytes().to_vec(),
        parent_span_id: record
            .context
            .map_or_else(Vec::new, |context| context.parent.bytes().to_vec()),
        name: name(record),
        start_unix_ns: clock.at(record.started),
        end_unix_ns: clock.at(record.ended),
        kept: kept_as(kept).into(),
        trace_state: record.trace_state.clone(),
        ..Span::default()
    };
    match &record.whom {
        Whom::Inbound(inbound) => vec![server(whole, record, inbound, outcome, clock)],
        Whom::Outbound { .. } | Whom::Unknown => client(whole, record, outcome, clock),
    }
}

fn kept_as(kept: Kept) -> SpanKept {
    match kept {
        Kept::Parent => SpanKept::Parent,
        Kept::Sampled => SpanKept::Sampled,
        Kept::Failed => SpanKept::Failed,
        Kept::Slow => SpanKept::Slow,
    }
}

fn server(mut span: Span, record: &Record, inbound: &Inbound, outcome: &Outcome, clock: Clock) -> Span {
    span.kind = SpanKind::Server.into();
    span.wire = Some(SpanWire {
        client: inbound.client.to_string(),
        server: inbound.addr.to_string(),
        stream: inbound.stream,
    });
    let mut attributes = request(record);
    attributes.push(text("sheer.direction", "inbound"));
    attributes.push(text("server.address", inbound.addr.ip().to_string()));
    attributes.push(number("server.port", inbound.addr.port()));
    attributes.push(text("client.address", inbound.client.ip().to_string()));
    peer(&mut attributes, inbound.client);
    attributes.push(flag("sheer.mtls", inbound.meshed));
    if let Some(identity) = &inbound.identity {
        attributes.push(text("sheer.client.identity", &**identity));
    }
    if inbound.stream != 0 {
        attributes.push(number("sheer.stream_id", inbound.stream));
    }
    if !inbound.policy.server.is_default() {
        attributes.push(text("sheer.server", inbound.policy.server.to_string()));
    }
    span.attributes = attributes;
    if let Some(attempt) = record.attempts.last() {
        span.events = [("sent", attempt.sent), ("first byte", attempt.answered)]
            .into_iter()
            .filter_map(|(name, at)| Some(event(name, clock.at(at?))))
            .collect();
    }
    end(&mut span, &ending(record, outcome), false);
    span
}

/// The whole, and its attempts where there were several.
fn client(mut whole: Span, record: &Record, outcome: &Outcome, clock: Clock) -> Vec<Span> {
    let mut attributes = request(record);
    attributes.push(text("sheer.direction", "outbound"));
    if let Whom::Outbound { dst, target, .. } = &record.whom {
        attributes.push(text("peer.service", &*target.name));
        if record.attempts.is_empty() {
            peer(&mut attributes, *dst);
        }
    }
    if let Some((host, port)) = asked(record) {
        attributes.push(text("server.address", host));
        attributes.extend(port.map(|port| number("server.port", port)));
    }
    whole.attributes = attributes;
    let ended = ending(record, outcome);
    match &record.attempts[..] {
        [] => {
            whole.kind = SpanKind::Client.into();
            end(&mut whole, &ended, true);
            vec![whole]
        }
        [attempt] => {
            whole.kind = SpanKind::Client.into();
            // What the other side was told.
            if let Some(span) = attempt.span {
                whole.span_id = span.bytes().to_vec();
            }
            whole.wire = wire(attempt);
            whole.attributes.extend(at_endpoint(attempt));
            whole.events = events(attempt, record.started, clock);
            end(&mut whole, &ended, true);
            vec![whole]
        }
        several => {
            whole.kind = SpanKind::Internal.into();
            whole.attributes.push(number("sheer.attempts", several.len() as u32));
            let retries = several
                .iter()
                .skip(1)
                .map(|attempt| event("retry", clock.at(attempt.begun)));
            whole.events = retries.collect();
            let attempts = several.iter().enumerate().map(|(at, attempt)| {
                let is_last = at + 1 == several.len();
                attempt_span(&whole, (at, attempt, is_last), record, &ended, clock)
            });
            let attempts: Vec<_> = attempts.collect();
            end(&mut whole, &ended, true);
            [vec![whole], attempts].concat()
        }
    }
}

fn attempt_span(
    whole: &Span,
    (at, attempt, is_last): (usize, &Attempt, bool),
    record: &Record,
    ended: &Ending<'_>,
    clock: Clock,
) -> Span {
    let mut span = Span {
        span_id: attempt
            .span
            .map_or_else(|| made_up(whole, at), |span| span.bytes().to_vec()),
        parent_span_id: whole.span_id.clone(),
        kind: SpanKind::Client.into(),
        start_unix_ns: clock.at(attempt.begun),
        end_unix_ns: clock.at(attempt.ended.unwrap_or(record.ended)),
        wire: wire(attempt),
        events: events(attempt, attempt.begun, clock),
        ..whole.clone()
    };
    span.attributes.retain(|attribute| attribute.key != "sheer.attempts");
    span.attributes.extend(at_endpoint(attempt));
    if at > 0 {
        span.attributes.push(number("http.request.resend_count", at as u32));
    }
    let failure = attempt.failure.as_ref();
    let own = Ending {
        status: attempt.status.map(|status| status.as_u16()),
        grpc_status: attempt.grpc_status,
        // Its answer says it better than that it was not passed on.
        fault: failure
            .filter(|_| attempt.status.is_none())
            .map(|failure| (failure.verdict.as_str(), failure.reason, failure.text.as_str())),
    };
    let speaks_for_all = is_last && attempt.ended.is_none();
    end(&mut span, if speaks_for_all { ended } else { &own }, true);
    span
}

/// An id for an attempt of a request that was not recorded when it was made: nobody else was told one.
fn made_up(whole: &Span, at: usize) -> Vec<u8> {
    let mut id = whole.span_id.clone();
    if let Some(last) = id.last_mut() {
        *last = last.wrapping_add(at as u8).wrapping_add(1);
    }
    id
}

fn ending<'a>(record: &'a Record, outcome: &Outcome) -> Ending<'a> {
    let fault = match outcome.end {
        End::Complete | End::ClientReset(_) => None,
        End::Proxy { verdict, reason } => Some((verdict.as_str(), reason, record.error.as_str())),
        End::ServerReset(_) => Some(("", "server-reset", "the server reset the stream")),
        End::Dropped => Some(("", "dropped", "the request ended with the proxy, or its connection")),
    };
    Ending {
        status: outcome.status.map(|status| status.as_u16()),
        grpc_status: outcome.grpc_status,
        fault,
    }
}

/// Writes down how it ended. What a client did wrong is no failure of the server's span, but is one of the client's.
fn end(span: &mut Span, ending: &Ending<'_>, is_client: bool) {
    if let Some(status) = ending.status {
        span.attributes.push(number("http.response.status_code", status));
    }
    if let Some(code) = ending.grpc_status {
        span.attributes.push(number("rpc.grpc.status_code", code));
    }
    let bad_status = ending
        .status
        .is_some_and(|status| status >= if is_client { 400 } else { 500 });
    let bad_code = ending.grpc_status.is_some_and(|code| {
        if is_client {
            code != 0
        } else {
            SERVER_FAULTS.contains(&code)
        }
    });
    span.failed = ending.fault.is_some() || bad_status || bad_code;
    if let Some((verdict, reason, words)) = ending.fault {
        (span.verdict, span.reason) = (verdict.to_owned(), reason.to_owned());
        span.status_message = words.to_owned();
        span.attributes.push(text("error.type", reason));
        if !verdict.is_empty() {
            span.attributes.push(text("sheer.verdict", verdict));
        }
    } else if span.failed {
        let code = ending.grpc_status.filter(|_| bad_code).or(ending.status);
        span.attributes.push(text(
            "error.type",
            code.map_or_else(String::new, |code| code.to_string()),
        ));
    }
}

/// What was asked for.
fn request(record: &Record) -> Vec<Attribute> {
    let about = &record.request;
    let mut attributes = Vec::with_capacity(24);
    if let Some(origin) = about.origin {
        attributes.push(text("http.request.method", about.method.as_str()));
        attributes.push(text(PATH, about.uri.path()));
        let scheme = about.uri.scheme().map_or("http", Scheme::as_str);
        attributes.push(text("url.scheme", scheme));
        attributes.push(text("network.protocol.name", "http"));
        attributes.push(text("network.protocol.version", version(origin)));
    }
    let authority = about.authority();
    if !authority.is_empty() {
        attributes.push(text(HOST, authority));
    }
    if let Some((service, method)) = rpc(record) {
        attributes.push(text("rpc.system", "grpc"));
        attributes.push(text("rpc.service", service));
        attributes.push(text("rpc.method", method));
    }
    if let Some(agent) = about.user_agent.as_ref().and_then(|agent| agent.to_str().ok()) {
        attributes.push(text(USER_AGENT, agent));
    }
    if let Some(route) = record.route() {
        attributes.push(text("sheer.route", route.to_string()));
    }
    attributes
}

/// Of low cardinality: the method of gRPC, or that of HTTP.
fn name(record: &Record) -> String {
    match (rpc(record), record.request.origin) {
        (Some((service, method)), _) => format!("{service}/{method}"),
        (None, Some(_)) => record.request.method.to_string(),
        (None, None) => "HTTP".to_owned(),
    }
}

/// Service and method of gRPC.
fn rpc(record: &Record) -> Option<(&str, &str)> {
    let path = record.request.uri.path().strip_prefix('/')?;
    path.rsplit_once('/').filter(|_| record.request.grpc)
}

pub(crate) fn version(origin: Origin) -> &'static str {
    match origin {
        Origin::Http2 => "2",
        Origin::Http1 { http10: false, .. } => "1.1",
        Origin::Http1 { http10: true, .. } => "1.0",
    }
}

/// Host and port that the client asked for.
fn asked(record: &Record) -> Option<(String, Option<u16>)> {
    let authority: http::uri::Authority = record.request.authority().parse().ok()?;
    Some((authority.host().to_owned(), authority.port_u16()))
}

/// Where an attempt went.
fn at_endpoint(attempt: &Attempt) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    if let Some(endpoint) = &attempt.endpoint {
        peer(&mut attributes, endpoint.addr);
        attributes.push(flag("sheer.mtls", endpoint.identity.is_some()));
        if let Some(identity) = &endpoint.identity {
            attributes.push(text("sheer.server.identity", &*identity.id));
        }
        for (key, value) in &*endpoint.labels {
            attributes.push(text(&format!("sheer.peer.{key}"), value));
        }
    }
    if let Some(link) = &attempt.link {
        attributes.push(number("sheer.connection_id", link.id));
        if let Some(local) = link.local {
            attributes.push(text("network.local.address", local.ip().to_string()));
            attributes.push(number("network.local.port", local.port()));
        }
    }
    if attempt.stream != 0 {
        attributes.push(number("sheer.stream_id", attempt.stream));
    }
    attributes
}

fn peer(attributes: &mut Vec<Attribute>, addr: SocketAddr) {
    attributes.push(text("network.peer.address", addr.ip().to_string()));
    attributes.push(number("network.peer.port", addr.port()));
}

fn wire(attempt: &Attempt) -> Option<SpanWire> {
    let link = attempt.link.as_deref()?;
    Some(SpanWire {
        client: link.local?.to_string(),
        server: link.peer.to_string(),
        stream: attempt.stream,
    })
}

/// What happened to an attempt, by time. A connection that stood before is none of its events.
fn events(attempt: &Attempt, since: Instant, clock: Clock) -> Vec<SpanEvent> {
    let made = attempt
        .link
        .as_deref()
        .filter(|link| link.tls.unwrap_or(link.tcp) > since);
    let mut events = vec![("queue", Some(attempt.begun))];
    if let Some(Link { began, tcp, tls, .. }) = made {
        events.push(("connect", Some((*began).max(since))));
        if let Some(tls) = tls {
            events.push(("tls", Some(*tcp)));
            events.push(("connected", Some(*tls)));
        } else {
            events.push(("connected", Some(*tcp)));
        }
    }
    events.push(("sent", attempt.sent));
    events.push(("first byte", attempt.answered));
    let mut events: Vec<_> = events
        .into_iter()
        .filter_map(|(name, at)| Some(event(name, clock.at(at?))))
        .collect();
    events.sort_by_key(|event| event.unix_ns);
    events
}

fn event(name: &str, unix_ns: u64) -> SpanEvent {
    SpanEvent {
        name: name.to_owned(),
        unix_ns,
        attributes: Vec::new(),
    }
}

fn number(key: &str, value: impl TryInto<i64>) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Number(value.try_into().unwrap_or(i64::MAX))),
    }
}

fn flag(key: &str, value: bool) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Flag(value)),
    }
}
