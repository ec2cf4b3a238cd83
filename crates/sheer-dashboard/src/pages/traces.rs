//! Traces: the list with its search, and the waterfall of one.

use serde::Serialize;
use sheer_api::names::grpc_code_name;
use sheer_api::v1::attribute::Value;
use sheer_api::v1::{
    Attribute, ListTracesRequest, PropagationRequest, ShowTraceRequest, Span, SpanKept, SpanKind, TimeShares,
    TraceSpan, TraceStatus, TraceStoreState, TraceSummary, WorkloadPropagation,
};

use super::Sources;
use crate::problem::{Kind, Problem};
use crate::query::Query;

#[derive(Debug, Serialize)]
pub(super) struct Traces {
    traces: Vec<Summary>,
    store: TraceStoreState,
    /// Applications that break traces, with what to do.
    breaks: Vec<Break>,
}

#[derive(Debug, Serialize)]
struct Summary {
    id: String,
    /// Milliseconds since the Unix epoch.
    at_ms: f64,
    duration_us: u64,
    name: String,
    source: String,
    target: String,
    workloads: Vec<String>,
    spans: u32,
    failed: bool,
    failed_at: String,
    verdict: String,
    reason: String,
    http_status: u32,
    /// Absent where it is none of gRPC.
    grpc_status: Option<i32>,
    /// The status as gRPC calls it, with its number.
    grpc_name: Option<String>,
    kept: &'static str,
}

#[derive(Debug, Serialize)]
struct Break {
    workload: String,
    with_context: u64,
    without_context: u64,
    finding: String,
}

pub(super) async fn list(sources: &Sources, query: &Query) -> Result<Traces, Problem> {
    let request = ListTracesRequest {
        service: query.text("service").to_owned(),
        namespace: query.namespace().to_owned(),
        status: status(query.text("status"))?.into(),
        min_duration_us: query.number("min_ms", 0)?.saturating_mul(1_000),
        within_ms: match query.text("window") {
            "" => 0,
            _ => query.window_ms()?,
        },
        id: query.text("id").to_owned(),
        limit: u32::try_from(query.number("limit", 100)?.min(1_000)).unwrap_or(1_000),
        code: query.text("code").to_owned(),
    };
    let propagation = sources.control.propagation(PropagationRequest {
        namespace: query.namespace().to_owned(),
    });
    let (list, propagation) = tokio::try_join!(sources.control.list_traces(request), propagation)?;
    Ok(Traces {
        traces: list.traces.into_iter().map(summary).collect(),
        store: list.store.unwrap_or_default(),
        breaks: propagation
            .workloads
            .into_iter()
            .filter(|workload| workload.breaks)
            .map(broken)
            .collect(),
    })
}

fn status(text: &str) -> Result<TraceStatus, Problem> {
    match text {
        "" => Ok(TraceStatus::Unspecified),
        "failed" => Ok(TraceStatus::Failed),
        "ok" => Ok(TraceStatus::Ok),
        other => Err(Problem::parameter("status", other, "failed or ok")),
    }
}

fn broken(workload: WorkloadPropagation) -> Break {
    Break {
        workload: format!("{}/{}", workload.namespace, workload.workload),
        with_context: workload.with_context,
        without_context: workload.without_context,
        finding: workload.finding,
    }
}

fn summary(summary: TraceSummary) -> Summary {
    Summary {
        at_ms: summary.start_unix_ns as f64 / 1e6,
        kept: kept(summary.kept()),
        grpc_status: Some(summary.grpc_status).filter(|code| *code >= 0),
        grpc_name: u32::try_from(summary.grpc_status)
            .ok()
            .and_then(|code| Some(format!("{code} {}", grpc_code_name(code)?))),
        id: summary.trace_id,
        duration_us: summary.duration_us,
        name: summary.name,
        source: summary.source,
        target: summary.target,
        workloads: summary.workloads,
        spans: summary.spans,
        failed: summary.failed,
        failed_at: summary.failed_at,
        verdict: summary.verdict,
        reason: summary.reason,
        http_status: summary.http_status,
    }
}

fn kept(kept: SpanKept) -> &'static str {
    match kept {
        SpanKept::Unspecified => "",
        SpanKept::Parent => "the caller asked for it",
        SpanKept::Sampled => "drawn",
        SpanKept::Failed => "failed",
        SpanKept::Slow => "slow",
    }
}

/// The waterfall; an empty object where there is none.
#[derive(Debug, Default, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    waterfall: Option<Waterfall>,
}

#[derive(Debug, Serialize)]
struct Waterfall {
    trace: Summary,
    /// Parents before children.
    spans: Vec<Bar>,
    /// Index of the span that names the failing hop; absent where none failed.
    culprit: Option<usize>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Bar {
    id: String,
    /// Index; absent for a root.
    parent: Option<usize>,
    depth: u32,
    /// "client", "server" or "internal".
    kind: &'static str,
    name: String,
    /// As "bank/deploy/ledger".
    workload: String,
    pod: String,
    service: String,
    offset_us: i64,
    duration_us: u64,
    failed: bool,
    message: String,
    verdict: String,
    reason: String,
    joined_by_wire: bool,
    shares: Option<TimeShares>,
    events: Vec<Event>,
    attributes: Vec<(String, String)>,
    /// Who was connected to whom, as "10.77.0.4:51234 → 10.77.0.9:4143, stream 5"; may be empty.
    wire: String,
    /// The same as the page of the request takes it, as "10.77.0.4:51234,10.77.0.9:4143,5"; may be empty.
    carried_by: String,
    kept: &'static str,
}

#[derive(Debug, Serialize)]
struct Event {
    name: String,
    /// From the start of the trace.
    offset_us: f64,
    attributes: Vec<(String, String)>,
}

/// Nothing where it is not kept and the page asks for what there may be (`perhaps`): of a request that is shown beside it, not every trace is drawn.
pub(super) async fn show(sources: &Sources, query: &Query) -> Result<Shown, Problem> {
    let request = ShowTraceRequest {
        trace_id: query.text("id").to_owned(),
    };
    let trace = match sources.control.show_trace(request).await {
        Err(problem) if problem.kind == Kind::NotFound && query.is_on("perhaps") => return Ok(Shown::default()),
        answer => answer?,
    };
    let waterfall = Waterfall {
        spans: trace.spans.into_iter().map(bar).collect(),
        culprit: usize::try_from(trace.culprit).ok(),
        notes: trace.notes,
        trace: summary(trace.summary.unwrap_or_default()),
    };
    Ok(Shown {
        waterfall: Some(waterfall),
    })
}

fn bar(placed: TraceSpan) -> Bar {
    let span = placed.span.unwrap_or_default();
    let start_us = span.start_unix_ns as f64 / 1e3 - placed.offset_us as f64;
    Bar {
        id: hex(&span.span_id),
        parent: usize::try_from(placed.parent).ok(),
        depth: placed.depth,
        kind: match span.kind() {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
            SpanKind::Internal | SpanKind::Unspecified => "internal",
        },
        kept: kept(span.kept()),
        wire: wire(&span),
        carried_by: carried_by(&span),
        name: span.name,
        workload: format!("{}/{}", placed.namespace, placed.workload),
        pod: placed.pod,
        service: placed.service,
        offset_us: placed.offset_us,
        duration_us: placed.duration_us,
        failed: span.failed,
        message: span.status_message,
        verdict: span.verdict,
        reason: span.reason,
        joined_by_wire: placed.joined_by_wire,
        shares: placed.shares,
        events: span
            .events
            .into_iter()
            .map(|event| Event {
                name: event.name,
                offset_us: event.unix_ns as f64 / 1e3 - start_us,
                attributes: event.attributes.into_iter().map(attribute).collect(),
            })
            .collect(),
        attributes: span.attributes.into_iter().map(attribute).collect(),
    }
}

fn wire(span: &Span) -> String {
    let Some(wire) = span.wire.as_ref().filter(|wire| !wire.server.is_empty()) else {
        return String::new();
    };
    let stream = match wire.stream {
        0 => String::new(),
        stream => format!(", stream {stream}"),
    };
    format!("{} → {}{stream}", wire.client, wire.server)
}

fn carried_by(span: &Span) -> String {
    let wire = span.wire.as_ref().filter(|wire| !wire.server.is_empty());
    wire.map_or_else(String::new, |wire| {
        format!("{},{},{}", wire.client, wire.server, wire.stream)
    })
}

fn attribute(attribute: Attribute) -> (String, String) {
    let value = match attribute.value {
        None => String::new(),
        Some(Value::Text(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Decimal(decimal)) => decimal.to_string(),
        Some(Value::Flag(flag)) => flag.to_string(),
    };
    (attribute.key, value)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // to a String: cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_placed_by_the_start_of_the_trace() {
        let span = Span {
            start_unix_ns: 1_700_000_000_000_500_000,
            events: vec![sheer_api::v1::SpanEvent {
                name: "first byte".to_owned(),
                unix_ns: 1_700_000_000_000_900_000,
                ..Default::default()
            }],
            span_id: vec![0xab, 0x01],
            ..Span::default()
        };
        let bar = bar(TraceSpan {
            span: Some(span),
            offset_us: 300,
            parent: -1,
            ..TraceSpan::default()
        });
        assert!((bar.events[0].offset_us - 700.0).abs() < 1.0, "{:?}", bar.events);
        assert_eq!((bar.id.as_str(), bar.parent), ("ab01", None));
    }
}
