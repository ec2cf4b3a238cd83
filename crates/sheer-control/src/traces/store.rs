//! The last traces, bounded in number and bytes. Spans are kept encoded, with what searches ask for beside them.
//!
//! Spans of one trace come from many proxies, in any order. Where a request carried no context its two proxies recorded it under different
//! ids; connection and stream are the same, and by these the two become one trace.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use sheer_api::v1::{Attribute, Span, SpanKept, SpanKind, SpanWire, TraceStoreState, attribute::Value};

use super::Source;

/// Most traces.
pub(super) const MAX_TRACES: usize = 10_000;
/// Most bytes of spans and what is kept beside them.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most spans of one trace: a caller that sends everything under one id must not push out all others.
const MAX_SPANS: usize = 2_000;
/// Largest span that is kept, encoded.
const MAX_SPAN: usize = 64 * 1024;
/// What a span takes beside its encoded form: its facts, its entries in the indexes.
const OVERHEAD: usize = size_of::<Stored>() + 96;
/// Two spans of one stream began within this time: ports are used again, and with them numbers of streams.
const SAME_STREAM: Duration = Duration::from_secs(10);

/// Id of a trace.
pub(super) type TraceId = [u8; 16];
/// Id of a span.
pub(super) type SpanId = [u8; 8];

/// A span, encoded, and what is asked of it without decoding it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) source: Arc<Source>,
    pub(super) encoded: Box<[u8]>,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) kind: SpanKind,
    pub(super) kept: SpanKept,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) failed: bool,
    pub(super) http_status: u16,
    /// −1 where there is none.
    pub(super) grpc_status: i16,
    pub(super) verdict: Box<str>,
    pub(super) reason: Box<str>,
    /// Host of `peer.service`, for peers without a proxy.
    pub(super) peer: Box<str>,
    wire: Option<Wire>,
}

/// One stream of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wire {
    client: Box<str>,
    server: Box<str>,
    stream: u32,
}

/// One trace.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) spans: Vec<Stored>,
    bytes: usize,
}

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    traces: HashMap<TraceId, Trace>,
    /// By the arrival of the first span.
    order: VecDeque<TraceId>,
    /// Ends of streams whose spans came under ids that somebody made up, each waiting for the other.
    ends: HashMap<(Wire, SpanKind), (TraceId, u64)>,
    /// Ids under which more spans of another trace may come.
    same_as: HashMap<TraceId, TraceId>,
    spans: usize,
    bytes: usize,
    dropped_spans: u64,
    pub(super) dropped_by_proxies: u64,
    pub(super) proxies: u32,
}

impl Stored {
    /// None where the span's ids are none, or it is too large.
    pub(super) fn new(span: &Span, source: &Arc<Source>) -> Option<(TraceId, Self)> {
        let trace: TraceId = span.trace_id.as_slice().try_into().ok().filter(|id| *id != [0; 16])?;
        let id: SpanId = span.span_id.as_slice().try_into().ok().filter(|id| *id != [0; 8])?;
        let encoded = span.encode_to_vec();
        if encoded.len() > MAX_SPAN {
            return None;
        }
        let number = |key| number(&span.attributes, key);
        let stored = Self {
            source: Arc::clone(source),
            encoded: encoded.into(),
            id,
            parent: span.parent_span_id.as_slice().try_into().ok(),
            kind: span.kind(),
            kept: span.kept(),
            start: span.start_unix_ns,
            end: span.end_unix_ns.max(span.start_unix_ns),
            failed: span.failed,
            http_status: number("http.response.status_code")
                .and_then(|code| code.try_into().ok())
                .unwrap_or(0),
            grpc_status: number("rpc.grpc.status_code")
                .and_then(|code| code.try_into().ok())
                .unwrap_or(-1),
            verdict: span.verdict.as_str().into(),
            reason: span.reason.as_str().into(),
            peer: text(&span.attributes, "peer.service")
                .map(host)
                .unwrap_or_default()
                .into(),
            wire: span.wire.as_ref().and_then(Wire::of),
        };
        Some((trace, stored))
    }

    pub(super) fn decode(&self) -> Span {
        // Encoded here, by the same code.
        Span::decode(&*self.encoded).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        self.encoded.len() + self.verdict.len() + self.reason.len() + self.peer.len() + OVERHEAD
    }

    /// The stream, where the other end may have recorded it under another id.
    fn end_of_stream(&self) -> Option<(Wire, SpanKind)> {
        let made_up = matches!(self.kept, SpanKept::Failed | SpanKept::Slow);
        let kind = matches!(self.kind, SpanKind::Client | SpanKind::Server);
        self.wire
            .clone()
            .filter(|_| made_up && kind)
            .map(|wire| (wire, self.kind))
    }

    /// Whether both are ends of one stream.
    pub(super) fn shares_stream(&self, other: &Self) -> bool {
        self.wire.is_some() && self.wire == other.wire && near(self.start, other.start)
    }
}

impl Wire {
    fn of(wire: &SpanWire) -> Option<Self> {
        let SpanWire { client, server, stream } = wire;
        // HTTP/1 has one request after the other on a connection: nothing tells them apart.
        (*stream != 0 && !client.is_empty()).then(|| Self {
            client: client.as_str().into(),
            server: server.as_str().into(),
            stream: *stream,
        })
    }
}

impl Kept {
    /// Keeps a span.
    pub(super) fn add(&mut self, span: &Span, source: &Arc<Source>) {
        let Some((trace, stored)) = Stored::new(span, source) else {
            self.dropped_spans += 1;
            return;
        };
        let mut trace = self.same_as.get(&trace).copied().unwrap_or(trace);
        if let Some(end) = stored.end_of_stream() {
            trace = self.join(trace, &end, stored.start);
        }
        self.insert(trace, stored);
        self.evict();
    }

    fn insert(&mut self, id: TraceId, stored: Stored) {
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Trace::default()
        });
        if trace.spans.len() >= MAX_SPANS || trace.spans.iter().any(|known| known.id == stored.id) {
            self.dropped_spans += 1;
            return;
        }
        let bytes = stored.bytes();
        trace.bytes += bytes;
        self.bytes += bytes;
        self.spans += 1;
        trace.spans.push(stored);
    }

    /// Joins a trace with that of the stream's other end, where it is known, and gives the id under which they are one: that of the client's
    /// side, which was first.
    fn join(&mut self, trace: TraceId, end: &(Wire, SpanKind), start: u64) -> TraceId {
        let (wire, kind) = end;
        let other_kind = match kind {
            SpanKind::Server => SpanKind::Client,
            _ => SpanKind::Server,
        };
        let other = self.ends.get(&(wire.clone(), other_kind)).copied();
        self.ends.insert(end.clone(), (trace, start));
        let Some((other, _)) = other.filter(|(other, began)| *other != trace && near(*began, start)) else {
            return trace;
        };
        let other = self.same_as.get(&other).copied().unwrap_or(other);
        let (stays, goes) = match kind {
            SpanKind::Server => (other, trace),
            _ => (trace, other),
        };
        if stays != goes {
            self.merge(goes, stays);
        }
        stays
    }

    fn merge(&mut self, from: TraceId, to: TraceId) {
        self.same_as.insert(from, to);
        let Some(moved) = self.traces.remove(&from) else { return };
        self.order.retain(|id| *id != from);
        self.bytes -= moved.bytes;
        self.spans -= moved.spans.len();
        moved.spans.into_iter().for_each(|span| self.insert(to, span));
    }

    /// Lets the oldest traces go until the rest fits.
    fn evict(&mut self) {
        while self.traces.len() > MAX_TRACES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            let Some(trace) = self.traces.remove(&oldest) else {
                continue;
            };
            self.bytes -= trace.bytes;
            self.spans -= trace.spans.len();
            for end in trace.spans.iter().filter_map(Stored::end_of_stream) {
                self.ends.remove(&end);
            }
            self.same_as.retain(|_, to| *to != oldest);
        }
    }

    /// The traces, the latest first.
    pub(super) fn latest(&self) -> impl Iterator<Item = (&TraceId, &Trace)> {
        let ids = self.order.iter().rev();
        ids.filter_map(|id| self.traces.get_key_value(id))
    }

    /// Traces whose id begins so, in hex.
    pub(super) fn beginning(&self, hex: &str) -> Vec<(&TraceId, &Trace)> {
        let known = self.latest().filter(|(id, _)| hex_of(*id).starts_with(hex));
        let mut found: Vec<_> = known.collect();
        // Under an id that is another's too.
        for (from, to) in &self.same_as {
            if hex_of(from).starts_with(hex) && !found.iter().any(|(id, _)| *id == to) {
                found.extend(self.traces.get_key_value(to));
            }
        }
        found
    }

    pub(super) fn state(&self) -> TraceStoreState {
        TraceStoreState {
            traces: self.traces.len() as u64,
            spans: self.spans as u64,
            bytes: self.bytes as u64,
            max_traces: MAX_TRACES as u64,
            max_bytes: MAX_BYTES as u64,
            dropped_spans: self.dropped_spans,
            dropped_by_proxies: self.dropped_by_proxies,
            proxies: self.proxies,
        }
    }
}

fn near(one: u64, other: u64) -> bool {
    u128::from(one.abs_diff(other)) < SAME_STREAM.as_nanos()
}

pub(super) fn hex_of(id: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(id.len() * 2);
    for byte in id {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// `fx` of `fx.bank.svc.cluster.local:9000`; an address stays as it is.
fn host(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    host.split('.').next().unwrap_or(host)
}

pub(super) fn text<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()? {
        Value::Text(text) => Some(text),
        Value::Number(_) | Value::Decimal(_) | Value::Flag(_) => None,
    }
}

fn number(attributes: &[Attribute], key: &str) -> Option<i64> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()? {
        Value::Number(number) => Some(*number),
        Value::Text(_) | Value::Decimal(_) | Value::Flag(_) => None,
    }
}
