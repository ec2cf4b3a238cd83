//! One line for each trace, and which traces a search wants.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sheer_api::{
    names::grpc_code,
    v1::{ListTracesRequest, SpanKind, TraceStatus, TraceSummary},
};

use super::{
    Source,
    store::{SpanId, Stored, Trace, TraceId, hex_of, text},
};

/// A search, checked.
pub(super) struct Search {
    service: String,
    namespace: String,
    status: TraceStatus,
    min_duration_ns: u64,
    /// Not older than this, since the Unix epoch.
    not_before: u64,
    id: String,
    code: Option<Code>,
}

/// A code of any kind.
enum Code {
    Number(u16),
    Grpc(i16),
    Verdict(String),
}

impl Search {
    /// `now` since the Unix epoch.
    pub(super) fn new(request: &ListTracesRequest, now: u64) -> Self {
        let within = request.within_ms.saturating_mul(1_000_000);
        Self {
            service: request.service.clone(),
            namespace: request.namespace.clone(),
            status: request.status(),
            min_duration_ns: request.min_duration_us.saturating_mul(1_000),
            not_before: if within == 0 { 0 } else { now.saturating_sub(within) },
            id: request.id.to_ascii_lowercase(),
            code: code(&request.code),
        }
    }

    /// Whether a trace is wanted.
    pub(super) fn wants(&self, id: &TraceId, trace: &Trace) -> bool {
        let spans = &trace.spans;
        let failed = || failures(trace).next().is_some();
        let status = match self.status {
            TraceStatus::Unspecified => true,
            TraceStatus::Failed => failed(),
            TraceStatus::Ok => !failed(),
        };
        let (start, end) = bounds(trace);
        status
            && end.saturating_sub(start) >= self.min_duration_ns
            && end >= self.not_before
            && (self.id.is_empty() || hex_of(id).starts_with(&self.id))
            && (self.service.is_empty() && self.namespace.is_empty() || spans.iter().any(|span| self.takes_part(span)))
            && self
                .code
                .as_ref()
                .is_none_or(|code| spans.iter().any(|span| code.is_of(span)))
    }

    fn takes_part(&self, span: &Stored) -> bool {
        let in_namespace = self.namespace.is_empty() || span.source.namespace == self.namespace;
        in_namespace && (self.service.is_empty() || is_named(&span.source, &self.service) || *span.peer == self.service)
    }
}

/// Whether a workload is called so: `ledger`, `deploy/ledger`, `bank/ledger`, `svc/ledger`.
fn is_named(source: &Source, name: &str) -> bool {
    let own = source.workload.rsplit('/').next().unwrap_or(&source.workload);
    let by_name = |name: &str| own == name || source.service == name || source.pod == name;
    match name.split_once('/') {
        None => by_name(name),
        Some(("svc" | "service", name)) => by_name(name),
        Some((first, second)) => source.workload == name || (source.namespace == first && by_name(second)),
    }
}

fn code(text: &str) -> Option<Code> {
    if text.is_empty() {
        return None;
    }
    Some(match (text.parse::<u16>(), grpc_code(text)) {
        (Ok(number), _) => Code::Number(number),
        (Err(_), Some(code)) => Code::Grpc(code.cast_signed()),
        (Err(_), None) => Code::Verdict(text.to_ascii_lowercase()),
    })
}

impl Code {
    fn is_of(&self, span: &Stored) -> bool {
        match self {
            Self::Number(number) if *number >= 100 => span.http_status == *number,
            Self::Number(number) => i32::from(span.grpc_status) == i32::from(*number),
            Self::Grpc(code) => span.grpc_status == *code,
            Self::Verdict(word) => *span.verdict == **word || *span.reason == **word,
        }
    }
}

/// Start of the first span and end of the last.
pub(super) fn bounds(trace: &Trace) -> (u64, u64) {
    let start = trace.spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = trace.spans.iter().map(|span| span.end).max().unwrap_or(0);
    (start, end)
}

/// The span that all others are below. While it is still on its way, the first of those that are here: times alone do not tell, as clocks of
/// machines differ.
fn first(trace: &Trace) -> Option<&Stored> {
    let known: HashSet<SpanId> = trace.spans.iter().map(|span| span.id).collect();
    let is_below = |span: &Stored| {
        let client = |other: &Stored| other.kind == SpanKind::Client && other.shares_stream(span);
        match span.parent {
            Some(parent) => known.contains(&parent),
            None => span.kind == SpanKind::Server && trace.spans.iter().any(client),
        }
    };
    let rank = |span: &&Stored| (is_below(span), span.parent.is_some(), span.start);
    trace.spans.iter().min_by_key(rank)
}

/// Spans that failed, but for what a retry made good: an attempt whose request went well in the end, and all below it.
fn failures(trace: &Trace) -> impl Iterator<Item = &Stored> {
    let failed = || trace.spans.iter().filter(|span| span.failed);
    let by_id: HashMap<SpanId, &Stored> = match failed().next() {
        Some(_) => trace.spans.iter().map(|span| (span.id, span)).collect(),
        None => HashMap::new(),
    };
    let is_made_good = move |span: &Stored| {
        let mut below = span;
        // Ids are told by others, and may go round in circles.
        for _ in 0..trace.spans.len() {
            let named = below.parent.and_then(|parent| by_id.get(&parent).copied());
            let caller = |other: &&Stored| other.kind == SpanKind::Client && other.shares_stream(below);
            let by_wire = || {
                trace
                    .spans
                    .iter()
                    .find(caller)
                    .filter(|_| below.kind == SpanKind::Server)
            };
            let Some(above) = named.or_else(by_wire) else {
                return false;
            };
            let is_attempt = below.kind == SpanKind::Client && above.kind == SpanKind::Internal;
            if is_attempt && below.failed && !above.failed {
                return true;
            }
            below = above;
        }
        false
    };
    failed().filter(move |span| !is_made_good(span))
}

/// The failed span that names the hop at fault: the one that began last, as what fails below fails above it too.
pub(super) fn culprit(trace: &Trace) -> Option<&Stored> {
    // Of the two proxies of one hop the one that made the answer up says more.
    failures(trace).max_by_key(|span| (!span.verdict.is_empty(), span.start))
}

/// The line of a trace.
pub(super) fn summary(id: &TraceId, trace: &Trace) -> TraceSummary {
    let (start, end) = bounds(trace);
    let Some(first) = first(trace) else {
        return TraceSummary::default();
    };
    let decoded = first.decode();
    let attribute = |key| text(&decoded.attributes, key).unwrap_or_default().to_owned();
    let own = workload(&first.source);
    let (source, target) = match first.kind {
        SpanKind::Server => (
            client(&attribute("sheer.client.identity"), &attribute("client.address")),
            own,
        ),
        _ => (own, peer(trace, first)),
    };
    let culprit = culprit(trace);
    let name = match (attribute("rpc.service"), attribute("http.request.method")) {
        (service, method) if service.is_empty() && !method.is_empty() => format!("{method} {}", attribute("url.path")),
        _ => decoded.name.clone(),
    };
    TraceSummary {
        trace_id: hex_of(id),
        start_unix_ns: start,
        duration_us: end.saturating_sub(start) / 1_000,
        name,
        source,
        target,
        workloads: workloads(trace),
        spans: trace.spans.len() as u32,
        failed: culprit.is_some(),
        failed_at: culprit.map_or_else(String::new, |span| workload(&span.source)),
        verdict: culprit.map_or_else(String::new, |span| span.verdict.to_string()),
        reason: culprit.map_or_else(String::new, |span| span.reason.to_string()),
        http_status: first.http_status.into(),
        grpc_status: first.grpc_status.into(),
        kept: first.kept.into(),
    }
}

/// `bank/deploy/ledger`.
pub(super) fn workload(source: &Source) -> String {
    format!("{}/{}", source.namespace, source.workload)
}

/// Who answered a request: the workload whose span is its child, or the name that was asked for.
fn peer(trace: &Trace, span: &Stored) -> String {
    let child = trace
        .spans
        .iter()
        .find(|other| other.kind == SpanKind::Server && (other.parent == Some(span.id) || other.shares_stream(span)));
    child.map_or_else(|| span.peer.to_string(), |child| workload(&child.source))
}

fn client(identity: &str, address: &str) -> String {
    match identity.split('.').collect::<Vec<_>>()[..] {
        [account, namespace, "serviceaccount", ..] => format!("{namespace}/{account}"),
        _ if !identity.is_empty() => identity.to_owned(),
        _ => address.to_owned(),
    }
}

/// In the order of their first span.
fn workloads(trace: &Trace) -> Vec<String> {
    let mut spans: Vec<&Stored> = trace.spans.iter().collect();
    spans.sort_by_key(|span| span.start);
    let mut seen: Vec<&Arc<Source>> = Vec::new();
    let mut names = Vec::new();
    for span in spans {
        if seen.iter().any(|known| Arc::ptr_eq(known, &span.source)) {
            continue;
        }
        seen.push(&span.source);
        let name = workload(&span.source);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
