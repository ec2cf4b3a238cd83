//! Traces as they come: in any order, under one id or several, too many of them.

use std::sync::Arc;

use sheer_api::v1::{
    Attribute, ListTracesRequest, Span, SpanEvent, SpanKept, SpanKind, SpanWire, Trace, TraceStatus, attribute::Value,
};

use super::{
    Source,
    show::show,
    store::{Kept, MAX_BYTES, MAX_TRACES, hex_of},
    summary::{Search, summary},
};

const MS: u64 = 1_000_000;
const NOW: u64 = 1_795_703_467_000 * MS;

fn source(workload: &str) -> Arc<Source> {
    Arc::new(Source {
        namespace: "bank".to_owned(),
        pod: format!("{workload}-0"),
        workload: format!("deploy/{workload}"),
        service: workload.to_owned(),
    })
}

/// A span of trace `trace`, from `at` for `long` milliseconds.
fn span(trace: u8, (id, parent): (u8, u8), kind: SpanKind, (at, long): (u64, u64)) -> Span {
    let parent = if parent == 0 { Vec::new() } else { vec![parent; 8] };
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: parent,
        kind: kind.into(),
        name: "bank.v1.Ledger/Post".to_owned(),
        start_unix_ns: NOW + at * MS,
        end_unix_ns: NOW + (at + long) * MS,
        kept: SpanKept::Sampled.into(),
        ..Span::default()
    }
}

fn number(key: &str, value: i64) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Number(value)),
    }
}

fn sent(mut span: Span, after: u64) -> Span {
    span.events.push(SpanEvent {
        name: "sent".to_owned(),
        unix_ns: span.start_unix_ns + after * MS,
        attributes: Vec::new(),
    });
    span
}

fn over(mut span: Span, stream: u32) -> Span {
    span.kept = SpanKept::Failed.into();
    span.failed = true;
    span.wire = Some(SpanWire {
        client: "10.77.0.4:51234".to_owned(),
        server: "10.77.0.5:9000".to_owned(),
        stream,
    });
    span
}

/// gateway ► payments ► ledger, as five spans.
fn payment() -> Vec<(&'static str, Span)> {
    let (server, client) = (SpanKind::Server, SpanKind::Client);
    vec![
        ("gateway", sent(span(1, (1, 0), server, (0, 100)), 1)),
        ("gateway", sent(span(1, (2, 1), client, (10, 80)), 2)),
        ("payments", sent(span(1, (3, 2), server, (14, 72)), 3)),
        ("payments", sent(span(1, (4, 3), client, (20, 50)), 1)),
        ("ledger", sent(span(1, (5, 4), server, (22, 40)), 1)),
    ]
}

fn kept(spans: impl IntoIterator<Item = (&'static str, Span)>) -> Kept {
    let mut kept = Kept::default();
    spans
        .into_iter()
        .for_each(|(workload, span)| kept.add(&span, &source(workload)));
    kept
}

fn only(kept: &Kept) -> Trace {
    let mut traces = kept.latest();
    let (id, trace) = traces.next().expect("a trace");
    assert!(traces.next().is_none(), "one trace only");
    show(id, trace)
}

/// Depth, workload and parent of each span.
fn shape(trace: &Trace) -> Vec<(u32, &str, i32)> {
    let spans = trace.spans.iter();
    spans
        .map(|span| (span.depth, span.workload.as_str(), span.parent))
        .collect()
}

#[test]
fn spans_find_their_places_in_whatever_order_they_come() {
    let mut backwards = payment();
    backwards.reverse();
    for spans in [payment(), backwards] {
        let trace = only(&kept(spans));
        assert_eq!(
            shape(&trace),
            [
                (0, "deploy/gateway", -1),
                (1, "deploy/gateway", 0),
                (2, "deploy/payments", 1),
                (3, "deploy/payments", 2),
                (4, "deploy/ledger", 3),
            ]
        );
        let summary = trace.summary.expect("a summary");
        assert_eq!(
            (summary.duration_us, summary.spans, summary.failed),
            (100_000, 5, false)
        );
        assert_eq!(
            summary.workloads,
            ["bank/deploy/gateway", "bank/deploy/payments", "bank/deploy/ledger"]
        );
        assert!(trace.notes.is_empty() && trace.culprit == -1, "{:?}", trace.notes);
    }
}

#[test]
fn the_time_of_a_hop_is_shared_out() {
    let trace = only(&kept(payment()));
    let shares = |at: usize| {
        let shares = trace.spans[at].shares.expect("shares");
        [
            shares.caller_proxy_us,
            shares.network_us,
            shares.callee_proxy_us,
            shares.application_us,
        ]
        .map(|micros| micros / 1_000)
    };
    assert_eq!(shares(0), [0, 0, 1, 99], "a server: its proxy and the application");
    // 80 ms: 2 here, 72 there of which 3 in the proxy, the rest on the way.
    assert_eq!(shares(1), [2, 6, 3, 69]);
    assert_eq!(shares(3), [1, 9, 1, 39]);
}

#[test]
fn the_two_ends_of_a_stream_are_one_trace_whatever_ids_they_have() {
    let client = over(span(1, (1, 0), SpanKind::Client, (0, 50)), 7);
    let server = over(span(2, (2, 0), SpanKind::Server, (5, 40)), 7);
    let other = over(span(3, (3, 0), SpanKind::Server, (5, 40)), 9);
    for order in [[0, 1], [1, 0]] {
        let both = [("payments", client.clone()), ("ledger", server.clone())];
        let kept = kept(order.map(|at| both[at].clone()));
        let trace = only(&kept);
        assert_eq!(shape(&trace), [(0, "deploy/payments", -1), (1, "deploy/ledger", 0)]);
        assert!(trace.spans[1].joined_by_wire && trace.notes[0].contains("connection and stream"));
        // Both ids lead to it, and what comes later under either.
        assert_eq!(kept.beginning("0202").len(), 1);
        assert_eq!(kept.beginning("0101").len(), 1);
        let mut kept = kept;
        kept.add(&span(2, (9, 2), SpanKind::Client, (10, 5)), &source("ledger"));
        assert_eq!(only(&kept).spans.len(), 3);
    }
    let apart = kept([("payments", client), ("ledger", other)]);
    assert_eq!(apart.latest().count(), 2, "another stream is another request");
}

#[test]
fn a_port_that_is_used_again_joins_nothing() {
    let long_ago = over(span(1, (1, 0), SpanKind::Client, (0, 50)), 7);
    let now = over(span(2, (2, 0), SpanKind::Server, (20_000, 40)), 7);
    assert_eq!(kept([("payments", long_ago), ("ledger", now)]).latest().count(), 2);
}

#[test]
fn a_hop_whose_context_said_not_to_record_is_joined_all_the_same() {
    // Both proxies saw the application's span as parent, as nobody changed the header.
    let client = over(span(1, (1, 7), SpanKind::Client, (0, 50)), 7);
    let server = over(span(1, (2, 7), SpanKind::Server, (5, 40)), 7);
    let trace = only(&kept([("payments", client), ("ledger", server)]));
    assert_eq!(shape(&trace), [(0, "deploy/payments", -1), (1, "deploy/ledger", 0)]);
}

#[test]
fn a_span_under_a_parent_of_the_application_hangs_under_what_its_workload_served() {
    let mut spans = payment();
    // The application's own span, which it tells to somebody else.
    spans[3].1.parent_span_id = vec![99; 8];
    let trace = only(&kept(spans));
    assert_eq!(shape(&trace)[3], (3, "deploy/payments", 2));
    assert!(
        trace.notes[0].contains("1 of 5 spans name a parent that is not here"),
        "{:?}",
        trace.notes
    );
}

#[test]
fn clocks_that_differ_are_levelled() {
    let mut spans = payment();
    for (_, span) in spans.iter_mut().filter(|(workload, _)| *workload == "ledger") {
        span.start_unix_ns += 500 * MS;
        span.end_unix_ns += 500 * MS;
        span.events[0].unix_ns += 500 * MS;
    }
    let trace = only(&kept(spans));
    let ledger = &trace.spans[4];
    // In the middle of its caller's 20 to 70.
    assert_eq!((ledger.offset_us, ledger.duration_us), (25_000, 40_000));
    assert!(
        trace.notes[0].contains("clocks of machines differ"),
        "{:?}",
        trace.notes
    );
}

#[test]
fn circles_of_parents_end() {
    let spans = [
        ("a", span(1, (1, 2), SpanKind::Client, (0, 1))),
        ("b", span(1, (2, 1), SpanKind::Server, (0, 1))),
        ("c", span(1, (3, 3), SpanKind::Server, (0, 1))),
    ];
    assert_eq!(only(&kept(spans)).spans.len(), 3);
}

#[test]
fn the_failing_hop_is_named() {
    let mut spans = payment();
    for (workload, span) in &mut spans {
        span.failed = true;
        span.attributes.push(number("rpc.grpc.status_code", 14));
        if *workload == "ledger" {
            span.verdict = "capacity".to_owned();
            span.reason = "too-many".to_owned();
        }
    }
    let trace = only(&kept(spans));
    assert_eq!(trace.culprit, 4);
    let summary = trace.summary.expect("a summary");
    assert_eq!(
        (
            summary.failed_at.as_str(),
            summary.verdict.as_str(),
            summary.reason.as_str()
        ),
        ("bank/deploy/ledger", "capacity", "too-many")
    );
}

#[test]
fn what_a_retry_made_good_is_no_failure() {
    let (server, client) = (SpanKind::Server, SpanKind::Client);
    let failed = |mut span: Span| {
        span.failed = true;
        span
    };
    let mut spans = vec![
        ("payments", span(1, (1, 0), server, (0, 100))),
        ("payments", span(1, (2, 1), SpanKind::Internal, (5, 90))),
        ("payments", failed(span(1, (3, 2), client, (5, 40)))),
        ("ledger", failed(span(1, (4, 3), server, (10, 30)))),
        ("payments", span(1, (5, 2), client, (50, 40))),
        ("ledger", span(1, (6, 5), server, (55, 30))),
    ];
    let trace = only(&kept(spans.clone()));
    assert_eq!((trace.culprit, trace.summary.expect("a summary").failed), (-1, false));
    // The same where nothing was drawn, and the callee knows no parent: it was the same stream.
    let mut joined = spans.clone();
    joined[2].1 = over(joined[2].1.clone(), 7);
    joined[3].1 = over(joined[3].1.clone(), 7);
    joined[3].1.parent_span_id.clear();
    assert!(!only(&kept(joined)).summary.expect("a summary").failed);
    // Both attempts failed, and with them the request.
    for at in [1, 4, 5] {
        spans[at].1.failed = true;
    }
    let trace = only(&kept(spans));
    let summary = trace.summary.expect("a summary");
    assert!(summary.failed);
    assert_eq!((trace.culprit, summary.failed_at.as_str()), (5, "bank/deploy/ledger"));
}

#[test]
fn a_trace_has_the_name_of_its_root_once_that_is_here() {
    let mut spans = payment();
    spans[0].1.name = "bank.v1.Gateway/Pay".to_owned();
    // A clock that is behind has its spans begin before their callers'.
    spans[4].1.start_unix_ns -= 500 * MS;
    let name = |spans: &[(&'static str, Span)]| only(&kept(spans.iter().cloned())).summary.expect("a summary").name;
    assert_eq!(name(&spans[1..]), "bank.v1.Ledger/Post");
    assert_eq!(name(&spans), "bank.v1.Gateway/Pay");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of searches")]
fn searches_find_by_service_status_duration_and_id() {
    let mut spans = payment();
    let mut slow = span(2, (1, 0), SpanKind::Server, (0, 900));
    slow.attributes = vec![number("http.response.status_code", 503)];
    slow.failed = true;
    spans.push(("fx", slow));
    let kept = kept(spans);
    let found = |request: ListTracesRequest| {
        let search = Search::new(&request, NOW + 2_000 * MS);
        let found = kept.latest().filter(|(id, trace)| search.wants(id, trace));
        found
            .map(|(id, trace)| summary(id, trace).trace_id[..2].to_owned())
            .collect::<Vec<_>>()
    };
    let any = ListTracesRequest::default;
    let by_service = |service: &str| {
        found(ListTracesRequest {
            service: service.to_owned(),
            ..any()
        })
    };
    assert_eq!(found(any()), ["02", "01"], "the latest first");
    for name in ["ledger", "deploy/ledger", "bank/ledger", "svc/ledger"] {
        assert_eq!(by_service(name), ["01"], "{name}");
    }
    assert!(by_service("shop/ledger").is_empty() && by_service("sts/ledger").is_empty());
    assert_eq!(
        found(ListTracesRequest {
            status: TraceStatus::Failed.into(),
            ..any()
        }),
        ["02"]
    );
    assert_eq!(
        found(ListTracesRequest {
            status: TraceStatus::Ok.into(),
            ..any()
        }),
        ["01"]
    );
    assert_eq!(
        found(ListTracesRequest {
            min_duration_us: 200_000,
            ..any()
        }),
        ["02"]
    );
    assert_eq!(
        found(ListTracesRequest {
            id: "0101".to_owned(),
            ..any()
        }),
        ["01"]
    );
    assert_eq!(
        found(ListTracesRequest {
            code: "503".to_owned(),
            ..any()
        }),
        ["02"]
    );
    assert!(
        found(ListTracesRequest {
            code: "UNAVAILABLE".to_owned(),
            ..any()
        })
        .is_empty()
    );
    assert_eq!(
        found(ListTracesRequest {
            within_ms: 1_500,
            ..any()
        }),
        ["02"],
        "the other ended 1.9 s ago"
    );
    assert!(
        found(ListTracesRequest {
            namespace: "shop".to_owned(),
            ..any()
        })
        .is_empty()
    );
}

/// The `n`th trace, with one span of about `bytes`.
fn nth(n: u32, bytes: usize) -> Span {
    let mut span = span(1, (1, 0), SpanKind::Server, (u64::from(n), 1));
    span.trace_id = u128::from(n + 1).to_be_bytes().to_vec();
    span.name = "x".repeat(bytes);
    span
}

#[test]
fn the_oldest_traces_make_room_by_number_and_by_bytes() {
    let mut kept = Kept::default();
    let source = source("ledger");
    for n in 0..MAX_TRACES as u32 + 50 {
        kept.add(&nth(n, 10), &source);
    }
    let state = kept.state();
    assert_eq!((state.traces, state.spans), (MAX_TRACES as u64, MAX_TRACES as u64));
    let first = u128::from(50_u32 + 1).to_be_bytes();
    assert!(
        kept.beginning(&hex_of(&first)).len() == 1,
        "the 51st is the oldest that is left"
    );
    let gone = u128::from(50_u32).to_be_bytes();
    assert!(kept.beginning(&hex_of(&gone)).is_empty());

    for n in 0..3_000 {
        kept.add(&nth(100_000 + n, 60_000), &source);
    }
    let state = kept.state();
    assert!(state.bytes <= MAX_BYTES as u64 && state.traces > 900, "{state:?}");
    let counted: usize = kept.latest().map(|(_, trace)| trace.spans.len()).sum();
    assert_eq!(counted as u64, state.spans);
}

#[test]
fn what_is_no_span_or_too_much_is_dropped_and_counted() {
    let mut kept = Kept::default();
    let source = source("ledger");
    let mut wrong = span(1, (1, 0), SpanKind::Server, (0, 1));
    wrong.trace_id.pop();
    kept.add(&wrong, &source);
    kept.add(&nth(1, 100_000), &source);
    kept.add(&nth(2, 10), &source);
    kept.add(&nth(2, 10), &source);
    assert_eq!(
        (kept.state().spans, kept.state().dropped_spans),
        (1, 3),
        "a span is kept once"
    );
    for id in 0..2_100_u32 {
        let mut many = nth(3, 10);
        many.span_id = u64::from(id + 1).to_be_bytes().to_vec();
        kept.add(&many, &source);
    }
    assert_eq!(kept.state().spans, 1 + 2_000);
    assert!(kept.state().dropped_spans > 100);
}

/// The annotation wins over everything: what a span says of a request is not kept, on either side of it.
#[test]
fn of_hidden_workloads_only_the_place_in_the_tree_is_kept() {
    use super::intake::{is_hidden, without_contents};
    use crate::{sight::hidden::Hidden, store::Snapshot};

    const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: quiet-0, namespace: shop, labels: {app: quiet}, annotations: {sheer.dev/sight: disabled}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 10.77.0.5}
";
    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: quiet, namespace: shop}
spec: {clusterIP: 10.96.0.3, selector: {app: quiet}, ports: [{port: 80}]}
";
    let hidden = Hidden::of(&Snapshot::of(SERVICE, PODS));
    let source = |pod: &str| Source {
        namespace: "shop".to_owned(),
        pod: pod.to_owned(),
        workload: String::new(),
        service: String::new(),
    };
    let with = |key: &str, value: &str| Span {
        name: "GET /secret".to_owned(),
        attributes: vec![Attribute {
            key: key.to_owned(),
            value: Some(Value::Text(value.to_owned())),
        }],
        ..span(1, (1, 0), SpanKind::Client, (0, 1))
    };
    let path = with("url.path", "/secret");
    assert!(is_hidden(&hidden, &path, &source("quiet-0")) && !is_hidden(&hidden, &path, &source("web-0")));
    assert!(is_hidden(
        &hidden,
        &with("peer.service", "quiet.shop.svc.cluster.local:80"),
        &source("web-0")
    ));
    let wire = SpanWire {
        client: "10.77.0.5:4000".to_owned(),
        server: "10.77.0.4:80".to_owned(),
        stream: 1,
    };
    let called = Span {
        wire: Some(wire),
        ..path.clone()
    };
    assert!(is_hidden(&hidden, &called, &source("web-0")), "it is the caller");
    let kept = without_contents(&path);
    assert!(kept.attributes.is_empty() && !kept.name.contains("secret"));
    assert_eq!((kept.span_id, kept.start_unix_ns), (path.span_id, path.start_unix_ns));
}
