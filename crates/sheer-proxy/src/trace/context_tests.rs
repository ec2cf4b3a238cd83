//! Contexts in every format: read, passed on, left alone.

use http::HeaderMap;
use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let fields = fields.iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value).expect("a value");
        (HeaderName::from_static(name), value)
    });
    fields.collect()
}

fn span(id: u64) -> SpanId {
    SpanId::new(id).expect("an id")
}

fn context(headers: &HeaderMap) -> TraceContext {
    match read(headers) {
        Said::Context(context) => context,
        said => panic!("{said:?} of {headers:?}"),
    }
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    lines.sort_unstable();
    lines
}

#[expect(clippy::type_complexity, reason = "a table: what comes, and what is passed on")]
#[test]
fn each_format_is_passed_on_in_itself() {
    let binary = grpc_trace_bin(
        TraceId::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c).expect("an id"),
        span(0xb7ad_6b71_6920_3331),
        1,
    );
    let cases: [(&[(&'static str, &str)], &[&str]); 6] = [
        (
            &[
                ("traceparent", &format!("00-{TRACE}-{PARENT}-03")),
                ("tracestate", "a=1,b=2"),
            ],
            &[
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-03",
                "tracestate: a=1,b=2",
            ],
        ),
        (
            &[("b3", &format!("{TRACE}-{PARENT}-1"))],
            &["b3: 0af7651916cd43dd8448eb211c80319c-00000000000000ff-1-b7ad6b7169203331"],
        ),
        // A short id stays short, and a debug flag a debug flag.
        (
            &[("b3", &format!("8448eb211c80319c-{PARENT}-d-05e3ac9a4f6e3b90"))],
            &["b3: 8448eb211c80319c-00000000000000ff-d-b7ad6b7169203331"],
        ),
        // Who says nothing of sampling leaves it to whoever comes first.
        (
            &[("b3", &format!("8448eb211c80319c-{PARENT}"))],
            &["b3: 8448eb211c80319c-00000000000000ff-1-b7ad6b7169203331"],
        ),
        (
            &[
                ("x-b3-traceid", "8448eb211c80319c"),
                ("x-b3-spanid", PARENT),
                ("x-b3-sampled", "1"),
            ],
            &[
                "x-b3-parentspanid: b7ad6b7169203331",
                "x-b3-sampled: 1",
                "x-b3-spanid: 00000000000000ff",
                "x-b3-traceid: 8448eb211c80319c",
            ],
        ),
        (
            &[("grpc-trace-bin", binary.to_str().expect("base64"))],
            &["grpc-trace-bin: AAAK92UZFs1D3YRI6yEcgDGcAQAAAAAAAAD/AgE"],
        ),
    ];
    for (came, goes) in cases {
        let mut headers = headers(came);
        let context = context(&headers);
        assert_eq!(context.parent.to_string(), PARENT, "{came:?}");
        assert_ne!(context.sampled, Some(false), "{came:?}");
        context.pass_on(&mut headers, span(0xff));
        assert_eq!(lines(&headers), goes, "{came:?}");
    }
}

#[test]
fn several_formats_of_one_trace_go_together_and_others_are_left_alone() {
    let mut same = headers(&[
        ("traceparent", &format!("00-{TRACE}-{PARENT}-01")),
        ("b3", &format!("{TRACE}-05e3ac9a4f6e3b90-1")),
        ("x-b3-traceid", "1111111111111111"),
        ("x-b3-spanid", PARENT),
    ]);
    context(&same).pass_on(&mut same, span(1));
    assert_eq!(
        lines(&same),
        [
            "b3: 0af7651916cd43dd8448eb211c80319c-0000000000000001-1-b7ad6b7169203331",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01",
            "x-b3-spanid: b7ad6b7169203331",
            "x-b3-traceid: 1111111111111111",
        ]
    );
}

#[test]
fn what_is_no_context_is_none() {
    let w3c = |text: &str| read(&headers(&[("traceparent", text)]));
    let zero = "0".repeat(32);
    for wrong in [
        "",
        "00",
        &format!("00-{TRACE}-{PARENT}-1"),
        &format!("00-{TRACE}-{PARENT}-01-more"),
        &format!("ff-{TRACE}-{PARENT}-01"),
        &format!("00-{zero}-{PARENT}-01"),
        &format!("00-{TRACE}-0000000000000000-01"),
        &format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        &format!("00_{TRACE}-{PARENT}-01"),
    ] {
        assert_eq!(w3c(wrong), Said::Unreadable, "{wrong}");
    }
    let mut twice = headers(&[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]);
    twice.append(TRACEPARENT, twice[TRACEPARENT].clone());
    assert_eq!(read(&twice), Said::Unreadable);
    // A later version is read as far as it is known.
    let later = headers(&[("traceparent", &format!("01-{TRACE}-{PARENT}-09-what-comes"))]);
    let mut later_on = later.clone();
    context(&later).pass_on(&mut later_on, span(1));
    assert_eq!(
        lines(&later_on),
        [format!("traceparent: 00-{TRACE}-0000000000000001-01")]
    );

    assert_eq!(read(&headers(&[("b3", "0")])), Said::No);
    assert_eq!(read(&headers(&[("x-b3-sampled", "0")])), Said::No);
    assert_eq!(read(&headers(&[("b3", "1")])), Said::Nothing);
    assert_eq!(read(&headers(&[("b3", "what-ever-1")])), Said::Unreadable);
    assert_eq!(read(&headers(&[("grpc-trace-bin", "AAAA")])), Said::Unreadable);
    assert_eq!(read(&HeaderMap::new()), Said::Nothing);
    assert_eq!(
        context(&headers(&[("b3", &format!("{TRACE}-{PARENT}-0"))])).sampled,
        Some(false)
    );
}

#[test]
fn a_trace_that_begins_here_is_said_in_one_field() {
    let mut headers = HeaderMap::new();
    begin(&mut headers, TraceId::new(0xab).expect("an id"), span(0xcd));
    assert_eq!(
        lines(&headers),
        ["traceparent: 00-000000000000000000000000000000ab-00000000000000cd-01"]
    );
    assert_eq!(context(&headers).sampled, Some(true));
}

proptest! {
    /// Whatever comes, reading it neither panics nor changes anything, and passing it on changes fields of the context alone.
    #[test]
    fn any_value_is_survived(
        value in proptest::collection::vec(0x20u8..0x7f, 0..80),
        which in 0usize..5,
        other in "[a-z]{1,8}",
    ) {
        let name = [TRACEPARENT, B3, B3_TRACE_ID, GRPC_TRACE_BIN, B3_SAMPLED][which].clone();
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(&value).expect("visible"));
        headers.insert("x-other", HeaderValue::from_str(&other).expect("visible"));
        let said = read(&headers);
        if let Said::Context(context) = said {
            context.pass_on(&mut headers, span(7));
            let again = match read(&headers) {
                Said::Context(again) => again,
                said => return Err(TestCaseError::fail(format!("{said:?}"))),
            };
            prop_assert_eq!(again.trace, context.trace);
            prop_assert_eq!(again.parent, span(7));
        }
        prop_assert_eq!(headers["x-other"].to_str().expect("text"), other);
    }

    /// Every context that is written is read again as it was meant, in each format.
    #[test]
    fn what_is_written_is_read(trace in 1u128.., parent in 1u64.., next in 1u64.., format in 0usize..4) {
        let (trace, parent) = (TraceId::new(trace).expect("an id"), span(parent));
        let mut headers = HeaderMap::new();
        match format {
            0 => drop(headers.insert(TRACEPARENT, traceparent(trace, parent, 1))),
            1 => drop(headers.insert(GRPC_TRACE_BIN, grpc_trace_bin(trace, parent, 1))),
            2 => drop(headers.insert(B3, value(format!("{trace}-{parent}-1").as_bytes()))),
            _ => {
                headers.insert(B3_TRACE_ID, value(&trace.hex()));
                headers.insert(B3_SPAN_ID, value(&parent.hex()));
                headers.insert(B3_SAMPLED, HeaderValue::from_static("1"));
            }
        }
        let before = match read(&headers) { Said::Context(context) => context, said => return Err(TestCaseError::fail(format!("{said:?}"))) };
        prop_assert_eq!((before.trace, before.parent, before.sampled), (trace, parent, Some(true)));
        before.pass_on(&mut headers, span(next));
        let after = match read(&headers) { Said::Context(context) => context, said => return Err(TestCaseError::fail(format!("{said:?}"))) };
        prop_assert_eq!((after.trace, after.parent, after.sampled), (trace, span(next), Some(true)));
    }
}
