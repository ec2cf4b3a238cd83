//! `-o json` of `sheer trace`: documented in docs/tracing.md.

use std::collections::BTreeMap;

use serde::Serialize;
use sheer_api::v1::{
    Attribute, ListTracesResponse, SpanKind, TimeShares, Trace, TraceSpan, TraceStoreState, TraceSummary,
    attribute::Value as Any,
};

use super::{super::trace::waterfall::hex, words};

/// Of `list`.
#[derive(Serialize)]
pub(super) struct List {
    traces: Vec<Summary>,
    store: TraceStoreState,
}

/// One trace in a line.
#[derive(Serialize)]
struct Summary {
    trace_id: String,
    start_unix_ns: u64,
    duration_ms: f64,
    name: String,
    from: String,
    to: String,
    workloads: Vec<String>,
    spans: u32,
    failed: bool,
    failed_at: String,
    verdict: String,
    reason: String,
    http_status: Option<u32>,
    grpc_status: Option<i32>,
    kept: &'static str,
}

/// Of `show`.
#[derive(Serialize)]
pub(super) struct Whole {
    #[serde(flatten)]
    summary: Summary,
    /// Index of the span that names the failing hop.
    culprit: Option<i32>,
    notes: Vec<String>,
    tree: Vec<Span>,
}

#[derive(Serialize)]
struct Span {
    span_id: String,
    parent_span_id: String,
    /// Index of the parent in `tree`.
    parent: Option<i32>,
    depth: u32,
    kind: &'static str,
    name: String,
    namespace: String,
    workload: String,
    pod: String,
    service: String,
    offset_ms: f64,
    duration_ms: f64,
    failed: bool,
    message: String,
    verdict: String,
    reason: String,
    kept: &'static str,
    joined_by_wire: bool,
    shares: TimeShares,
    attributes: BTreeMap<String, serde_json::Value>,
    events: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    name: String,
    /// From the start of the span.
    offset_ms: f64,
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

impl List {
    pub(super) fn of(answer: &ListTracesResponse) -> Self {
        Self {
            traces: answer.traces.iter().map(Summary::of).collect(),
            store: answer.store.unwrap_or_default(),
        }
    }
}

impl Summary {
    fn of(trace: &TraceSummary) -> Self {
        Self {
            trace_id: trace.trace_id.clone(),
            start_unix_ns: trace.start_unix_ns,
            duration_ms: millis(trace.duration_us),
            name: trace.name.clone(),
            from: trace.source.clone(),
            to: trace.target.clone(),
            workloads: trace.workloads.clone(),
            spans: trace.spans,
            failed: trace.failed,
            failed_at: trace.failed_at.clone(),
            verdict: trace.verdict.clone(),
            reason: trace.reason.clone(),
            http_status: (trace.http_status != 0).then_some(trace.http_status),
            grpc_status: (trace.grpc_status >= 0).then_some(trace.grpc_status),
            kept: words::kept(trace.kept()),
        }
    }
}

impl Whole {
    pub(super) fn of(trace: &Trace) -> Self {
        Self {
            summary: Summary::of(&trace.summary.clone().unwrap_or_default()),
            culprit: (trace.culprit >= 0).then_some(trace.culprit),
            notes: trace.notes.clone(),
            tree: trace.spans.iter().map(Span::of).collect(),
        }
    }
}

impl Span {
    fn of(shown: &TraceSpan) -> Self {
        let span = shown.span.clone().unwrap_or_default();
        let kind = match span.kind() {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
            SpanKind::Internal | SpanKind::Unspecified => "internal",
        };
        let events = span.events.iter().map(|event| Event {
            name: event.name.clone(),
            offset_ms: event.unix_ns.saturating_sub(span.start_unix_ns) as f64 / 1e6,
        });
        Self {
            span_id: hex(&span.span_id),
            parent_span_id: hex(&span.parent_span_id),
            parent: (shown.parent >= 0).then_some(shown.parent),
            depth: shown.depth,
            kind,
            name: span.name.clone(),
            namespace: shown.namespace.clone(),
            workload: shown.workload.clone(),
            pod: shown.pod.clone(),
            service: shown.service.clone(),
            offset_ms: shown.offset_us as f64 / 1e3,
            duration_ms: millis(shown.duration_us),
            failed: span.failed,
            message: span.status_message.clone(),
            verdict: span.verdict.clone(),
            reason: span.reason.clone(),
            kept: words::kept(span.kept()),
            joined_by_wire: shown.joined_by_wire,
            shares: shown.shares.unwrap_or_default(),
            attributes: span.attributes.iter().filter_map(attribute).collect(),
            events: events.collect(),
        }
    }
}

fn attribute(attribute: &Attribute) -> Option<(String, serde_json::Value)> {
    let value = match attribute.value.as_ref()? {
        Any::Text(text) => text.as_str().into(),
        Any::Number(number) => (*number).into(),
        Any::Decimal(number) => (*number).into(),
        Any::Flag(flag) => (*flag).into(),
    };
    Some((attribute.key.clone(), value))
}
