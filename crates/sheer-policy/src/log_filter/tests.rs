//! Filters: what they keep, what their mistakes read like, and that reading them is safe.

use proptest::prelude::*;

use super::*;

fn facts() -> Facts<'static> {
    Facts {
        direction: "inbound",
        method: "POST",
        path: "/bank.v1.Ledger/Post",
        host: "ledger.bank:9000",
        status: Some(200),
        grpc_status: Some(14),
        duration: Duration::from_millis(250),
        first_byte: None,
        request_bytes: 100,
        response_bytes: 0,
        verdict: "",
        reason: "",
        client: "payments.bank.serviceaccount.identity.sheer.cluster.local",
        user_agent: "tonic/0.14",
        attempts: 2,
    }
}

fn keeps(filter: &str) -> bool {
    LogFilter::parse(filter)
        .unwrap_or_else(|error| panic!("{error}"))
        .keeps(&facts())
}

#[test]
fn it_keeps_what_it_says() {
    for kept in [
        "status >= 500 || duration > 200ms || verdict != \"\"",
        "duration > 0.2s && duration < 1m",
        "grpc-status == UNAVAILABLE",
        "grpc_status == 14",
        "method == POST && path ~ \"^/bank\\.v1\\.\"",
        "!(status == 503)",
        "!!(attempts > 1)",
        "client ~ \"^payments\\.\" && user-agent !~ \"curl\"",
        "direction == inbound && host == \"ledger.bank:9000\"",
        "request-bytes == 100 && response-bytes <= 0",
        // What there is not equals nothing.
        "first-byte != 1ms",
    ] {
        assert!(keeps(kept), "{kept}");
    }
    for left_out in [
        "status >= 500",
        "duration > 250ms",
        "verdict != \"\"",
        "first-byte < 1s",
        "first-byte >= 0ms",
        "first-byte == 0ms",
        "status == 200 && (method == GET || path == \"/\")",
        // && binds closer than ||.
        "status == 503 || status == 200 && method == GET",
    ] {
        assert!(!keeps(left_out), "{left_out}");
    }
}

#[test]
fn mistakes_say_where_and_what_to_write() {
    let errors = [
        "",
        "status >=",
        "status > 200ms",
        "duration > 200",
        "duration > 2 days",
        "stat > 500",
        "latency > 1s",
        "status = 500",
        "method > GET",
        "status ~ \"5..\"",
        "path ~ \"(\"",
        "path == \"unfinished",
        "(status == 500",
        "status == 500 status == 200",
        "status == 500 & duration > 1s",
        "500 == status",
        "grpc-status == BROKEN",
        "zoë == 1",
    ];
    let told: Vec<_> = errors
        .iter()
        .map(|text| LogFilter::parse(text).expect_err(text).to_string())
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn brackets_end_somewhere() {
    let deep = |depth: usize| format!("{}status == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(LogFilter::parse(&deep(31)).is_ok());
    assert!(LogFilter::parse(&deep(32)).is_err());
    assert!(LogFilter::parse(&"!".repeat(4_000)).is_err());
    assert!(LogFilter::parse(&deep(10_000)).is_err());
}

fn expr() -> impl Strategy<Value = Expr> {
    let number = (0..FIELDS.len(), 0usize..6, 0u64..1_000_000).prop_filter_map("numbers", |(at, order, value)| {
        let (_, field, kind) = FIELDS[at];
        (kind != Kind::Text).then(|| Expr::Number(field, Order::ALL[order], value))
    });
    let text = (0..FIELDS.len(), any::<bool>(), "[ -~äß]{0,12}").prop_filter_map("texts", |(at, equal, value)| {
        let (_, field, kind) = FIELDS[at];
        (kind == Kind::Text).then_some(Expr::Text(field, equal, value))
    });
    let pattern = (0..FIELDS.len(), any::<bool>(), "[a-z.]{0,6}").prop_filter_map("patterns", |(at, found, value)| {
        let (_, field, kind) = FIELDS[at];
        let pattern = Pattern(Regex::new(&value).ok()?);
        (kind == Kind::Text).then_some(Expr::Pattern(field, found, pattern))
    });
    prop_oneof![number, text, pattern].prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Any),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::All),
            inner.prop_map(|term| Expr::Not(Box::new(term))),
        ]
    })
}

proptest! {
    #[test]
    fn a_filter_that_is_written_down_is_the_same_when_read(expr in expr()) {
        let written = expr.to_string();
        let read = LogFilter::parse(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&*read.0, &expr, "{}", written);
        prop_assert_eq!(read.keeps(&facts()), expr.holds(&facts()));
    }

    /// Any text is a filter or a mistake with a place in it.
    #[test]
    fn any_text_is_survived(text in "\\PC{0,60}") {
        if let Err(error) = LogFilter::parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1);
        }
    }

    /// The same of texts that are nearly filters.
    #[test]
    fn near_misses_are_survived(parts in proptest::collection::vec(
        prop_oneof![Just("status"), Just("path"), Just("duration"), Just(">="), Just("=="), Just("~"), Just("!"), Just("("), Just(")"),
            Just("&&"), Just("||"), Just("500"), Just("1.5.2"), Just("20ms"), Just("\"a"), Just("\"b\""), Just("\\")], 0..12)) {
        let text = parts.join(" ");
        if let Err(error) = LogFilter::parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1);
        }
    }
}
