//! What people see of traces.

use sheer_api::v1::{
    Attribute, Span, SpanKept, SpanKind, TimeShares, Trace, TraceSpan, TraceSummary, attribute::Value,
};

use super::{list, waterfall, words};

fn text(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Text(value.to_owned())),
    }
}

fn number(key: &str, value: i64) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Number(value)),
    }
}

struct Sketch<'a> {
    parent: i32,
    workload: &'a str,
    kind: SpanKind,
    name: &'a str,
    time: (i64, u64),
    shares: [u64; 4],
    more: Vec<Attribute>,
}

fn span(sketch: Sketch<'_>) -> TraceSpan {
    let [caller_proxy_us, network_us, callee_proxy_us, application_us] = sketch.shares;
    let failed = sketch
        .more
        .iter()
        .any(|one| one.key == "rpc.grpc.status_code" && one.value != Some(Value::Number(0)));
    TraceSpan {
        parent: sketch.parent,
        namespace: "bank".to_owned(),
        workload: format!("deploy/{}", sketch.workload),
        offset_us: sketch.time.0,
        duration_us: sketch.time.1,
        shares: Some(TimeShares {
            caller_proxy_us,
            network_us,
            callee_proxy_us,
            application_us,
        }),
        span: Some(Span {
            kind: sketch.kind.into(),
            name: sketch.name.to_owned(),
            failed,
            attributes: sketch.more,
            ..Span::default()
        }),
        ..TraceSpan::default()
    }
}

fn grpc(code: i64, peer: &str) -> Vec<Attribute> {
    vec![
        text("rpc.service", "x"),
        number("rpc.grpc.status_code", code),
        text("peer.service", peer),
    ]
}

/// A payment whose second try at the ledger is answered, and whose notice finds nobody.
#[expect(clippy::too_many_lines, reason = "one trace, span after span")]
fn payment() -> Trace {
    let (server, client) = (SpanKind::Server, SpanKind::Client);
    let ledger = "ledger.bank.svc.cluster.local:9000";
    let pay = "bank.v1.Payments/Pay";
    let post = "bank.v1.Ledger/Post";
    let http = vec![
        text("url.path", "/v1/payments"),
        number("http.response.status_code", 503),
    ];
    let retry = |code| [grpc(code, ledger), vec![number("http.request.resend_count", 1)]].concat();
    let attempts = [grpc(0, ledger), vec![number("sheer.attempts", 2)]].concat();
    let sketch = |parent, workload, kind, name, time, shares, more| {
        span(Sketch {
            parent,
            workload,
            kind,
            name,
            time,
            shares,
            more,
        })
    };
    let mut spans = vec![
        sketch(-1, "gateway", server, "POST", (0, 80_000), [0, 0, 500, 79_500], http),
        sketch(
            0,
            "gateway",
            client,
            pay,
            (2_000, 76_000),
            [400, 1_600, 600, 73_400],
            grpc(14, "payments.bank:9000"),
        ),
        sketch(
            1,
            "payments",
            server,
            pay,
            (3_200, 74_000),
            [0, 0, 600, 73_400],
            grpc(14, ""),
        ),
        sketch(
            2,
            "payments",
            SpanKind::Internal,
            post,
            (5_000, 40_000),
            [0; 4],
            attempts,
        ),
        sketch(
            3,
            "payments",
            client,
            post,
            (5_000, 10_000),
            [300, 700, 500, 8_500],
            grpc(14, ledger),
        ),
        sketch(
            4,
            "ledger",
            server,
            post,
            (5_400, 9_000),
            [0, 0, 500, 8_500],
            grpc(14, ""),
        ),
        sketch(
            3,
            "payments",
            client,
            post,
            (20_000, 25_000),
            [300, 700, 500, 23_500],
            retry(0),
        ),
        sketch(
            6,
            "ledger",
            server,
            post,
            (20_400, 24_000),
            [0, 0, 500, 23_500],
            grpc(0, ""),
        ),
        sketch(
            2,
            "payments",
            client,
            "bank.v1.Notify/Deliver",
            (50_000, 25_000),
            [25_000, 0, 0, 0],
            grpc(14, "notify.bank:9000"),
        ),
    ];
    if let Some(last) = spans.last_mut().and_then(|span| span.span.as_mut()) {
        last.verdict = "capacity".to_owned();
        last.reason = "failfast".to_owned();
        last.status_message =
            "no endpoint of notify.bank:9000 is ready (2 known): 10.77.0.9:9000: connection refused".to_owned();
    }
    Trace {
        summary: Some(summary()),
        culprit: 8,
        spans,
        notes: vec!["clocks of machines differ: spans were moved by up to 1.2 ms".to_owned()],
    }
}

fn summary() -> TraceSummary {
    TraceSummary {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        start_unix_ns: 1_795_703_467_123_000_000,
        duration_us: 80_000,
        name: "POST /v1/payments".to_owned(),
        source: "10.77.0.1".to_owned(),
        target: "bank/deploy/gateway".to_owned(),
        workloads: ["gateway", "payments", "ledger"]
            .map(|name| format!("bank/deploy/{name}"))
            .to_vec(),
        spans: 9,
        failed: true,
        failed_at: "bank/deploy/payments".to_owned(),
        verdict: "capacity".to_owned(),
        reason: "failfast".to_owned(),
        http_status: 503,
        grpc_status: -1,
        kept: SpanKept::Sampled.into(),
    }
}

#[test]
fn a_waterfall_says_where_time_went_and_which_hop_failed() {
    insta::assert_snapshot!(waterfall::draw(&payment(), false, false));
}

#[test]
fn a_wide_waterfall_has_every_span_and_its_times() {
    insta::assert_snapshot!(waterfall::draw(&payment(), true, false));
}

#[test]
fn colours_are_for_terminals() {
    assert!(!waterfall::draw(&payment(), true, false).contains('\x1b'));
    assert!(waterfall::draw(&payment(), false, true).contains("\x1b[31m"));
}

#[test]
fn a_list_says_where_a_trace_failed() {
    let well = TraceSummary {
        failed: false,
        failed_at: String::new(),
        verdict: String::new(),
        reason: String::new(),
        http_status: 200,
        grpc_status: 0,
        name: "bank.v1.Payments/Pay".to_owned(),
        ..summary()
    };
    insta::assert_snapshot!(list::table(&[summary(), well], true).render(false));
}

#[test]
fn times_are_read_and_written() {
    assert_eq!(
        [850, 12_345, 250_000, 1_250_000].map(words::micros),
        ["850µs", "12.3ms", "250ms", "1.25s"]
    );
    let read = |text| crate::words::duration(text).map(|time| time.as_micros());
    assert_eq!(
        ["200ms", "1.5s", "10m", "7us"].map(read),
        [Ok(200_000), Ok(1_500_000), Ok(600_000_000), Ok(7)]
    );
    assert!(
        ["", "5", "ms", "-1s", "2 s", "1e9s"]
            .map(crate::words::duration)
            .iter()
            .all(Result::is_err)
    );
    assert_eq!(words::status(200, -1), "200");
    assert_eq!(
        [words::status(200, 14), words::status(200, 99), words::status(0, -1)],
        ["UNAVAILABLE", "gRPC 99", ""]
    );
}
