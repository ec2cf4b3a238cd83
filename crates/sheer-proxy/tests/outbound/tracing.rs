//! Traces at the caller's proxy: contexts that come, traces that begin, attempts as children, and what is kept of what went wrong.

use std::time::Duration;

use sheer_api::v1::{Attribute, Span, SpanKept, SpanKind, attribute::Value};
use sheer_policy::outbound::{HttpRule, Retry};

use crate::{
    app::{App, Say, ask, get, grpc, proxy_for, to_service, with},
    support::{Proxy, Server, run, settings_with},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn find<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    let found = |attribute: &&Attribute| attribute.key == key;
    span.attributes.iter().find(found)?.value.as_ref()
}

fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    match find(span, key) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

fn number(span: &Span, key: &str) -> i64 {
    match find(span, key) {
        Some(Value::Number(number)) => *number,
        _ => -1,
    }
}

fn events(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| event.name.as_str()).collect()
}

fn w3c(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[test]
fn a_trace_that_begins_here_is_told_to_the_callee() {
    run(async {
        let app = App::start(|_| Say::grpc(0)).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let mut spans = proxy.traced();
        ask(&client, grpc(), b"question").await.expect("answered");
        let spans = spans.next().await;
        let [span] = &spans[..] else { panic!("{spans:?}") };
        let told = app.header(0, "traceparent").expect("it is told");
        assert_eq!(told, format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
        assert!(span.parent_span_id.is_empty());
        assert_eq!((span.kind(), span.kept()), (SpanKind::Client, SpanKept::Sampled));
        assert_eq!((span.name.as_str(), span.failed), ("shop.Web/Get", false));
        let said = [
            "http.request.method",
            "url.path",
            "rpc.system",
            "rpc.service",
            "rpc.method",
            "network.protocol.version",
        ]
        .map(|key| text(span, key));
        assert_eq!(said, ["POST", "/shop.Web/Get", "grpc", "shop.Web", "Get", "2"]);
        assert_eq!(
            (
                number(span, "http.response.status_code"),
                number(span, "rpc.grpc.status_code")
            ),
            (200, 0)
        );
        assert_eq!(
            (text(span, "peer.service"), text(span, "server.address")),
            ("web.shop:80", "web.shop")
        );
        assert_eq!(text(span, "sheer.route"), "HTTPRoute shop/route");
        assert_eq!(number(span, "network.peer.port"), i64::from(app.endpoint.addr.port()));
        assert!(number(span, "sheer.stream_id") >= 1 && number(span, "network.local.port") > 0);
        let wire = span.wire.as_ref().expect("a stream");
        assert_eq!(wire.server, app.endpoint.addr.to_string());
        assert_eq!(i64::from(wire.stream), number(span, "sheer.stream_id"));
        assert!(span.start_unix_ns < span.end_unix_ns);
    });
}

#[test]
fn a_request_that_waited_for_its_connection_says_so_and_the_next_does_not() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let mut recorded = proxy.traced();
        ask(&client, get("/first"), b"").await.expect("answered");
        ask(&client, get("/second"), b"").await.expect("answered");
        let (first, second) = (recorded.next().await, recorded.next().await);
        assert_eq!(events(&second[0]), ["queue", "sent", "first byte"]);
        // It may have connected before the request came: then nothing was waited for.
        assert!(
            [
                &["queue", "connect", "connected", "sent", "first byte"][..],
                &["queue", "sent", "first byte"]
            ]
            .contains(&&events(&first[0])[..]),
            "{:?}",
            events(&first[0])
        );
        let times: Vec<u64> = first[0].events.iter().map(|event| event.unix_ns).collect();
        assert!(times.is_sorted() && times[0] >= first[0].start_unix_ns, "{first:?}");
    });
}

#[test]
fn a_context_that_comes_is_passed_on_with_this_proxy_as_parent() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let mut recorded = proxy.traced();
        let request = with(with(get("/"), "traceparent", &w3c("01")), "tracestate", "a=1");
        ask(&client, request, b"").await.expect("answered");
        let span = recorded.next().await.remove(0);
        assert_eq!(
            (hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()),
            (TRACE, PARENT)
        );
        assert_eq!(span.kept(), SpanKept::Parent);
        assert_eq!(
            (app.header(0, "tracestate").as_deref(), span.trace_state.as_str()),
            (Some("a=1"), "a=1")
        );
        let own = hex(&span.span_id);
        assert_eq!(app.header(0, "traceparent"), Some(format!("00-{TRACE}-{own}-01")));

        let request = with(get("/"), "b3", &format!("{TRACE}-{PARENT}-d"));
        ask(&client, request, b"").await.expect("answered");
        let own = hex(&recorded.next().await[0].span_id);
        assert_eq!(app.header(1, "b3"), Some(format!("{TRACE}-{own}-d-{PARENT}")));
        assert_eq!(app.header(1, "traceparent"), None, "in its own format only");

        let request = with(
            with(get("/"), "x-b3-traceid", "8448eb211c80319c"),
            "x-b3-spanid",
            PARENT,
        );
        ask(&client, with(request, "x-b3-sampled", "1"), b"")
            .await
            .expect("answered");
        let span = recorded.next().await.remove(0);
        assert_eq!(hex(&span.trace_id), "00000000000000008448eb211c80319c");
        assert_eq!(app.header(2, "x-b3-traceid").as_deref(), Some("8448eb211c80319c"));
        assert_eq!(app.header(2, "x-b3-spanid"), Some(hex(&span.span_id)));
        assert_eq!(app.header(2, "x-b3-parentspanid").as_deref(), Some(PARENT));
    });
}

#[test]
fn a_request_that_is_not_recorded_is_not_touched() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let mut recorded = proxy.traced_with(&settings_with(&[("SHEER_PROXY_TRACE_SAMPLE_RATE", "0")]));
        for request in [
            get("/"),
            with(get("/"), "traceparent", &w3c("00")),
            with(get("/"), "b3", "0"),
            with(get("/"), "traceparent", "what ever"),
        ] {
            let sent = request.headers().clone();
            ask(&client, request, b"").await.expect("answered");
            let seen = app.seen.borrow().last().expect("it came").head.headers.clone();
            assert_eq!(seen, sent);
        }
        assert!(recorded.try_next().is_none());
    });
}

#[test]
fn what_a_workload_hides_is_in_no_span() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        for (hidden, shown) in [("", "a-browser"), ("user-agent", "hash:")] {
            let (proxy, client) = proxy_for(&app, to_service()).await;
            let mut recorded = proxy.traced_with(&settings_with(&[("SHEER_PROXY_SIGHT_REDACT", hidden)]));
            let request = with(get("/pay;jsessionid=planted/x"), "user-agent", "a-browser");
            ask(&client, request, b"").await.expect("answered");
            let spans = recorded.next().await;
            let agent = text(&spans[0], "user_agent.original");
            assert!(agent.starts_with(shown), "{hidden}: {agent}");
            let path = text(&spans[0], "url.path");
            assert!(path.starts_with("/pay;jsessionid=hash:"), "{path}");
        }
    });
}

#[test]
fn so_many_traces_begin_and_no_more() {
    run(async {
        let app = App::start(|_| Say::ok()).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let mut recorded = proxy.traced_with(&settings_with(&[("SHEER_PROXY_TRACE_SAMPLE_LIMIT", "3")]));
        for _ in 0..20 {
            ask(&client, get("/"), b"").await.expect("answered");
        }
        let begun = (0..20).filter(|n| app.header(*n, "traceparent").is_some()).count();
        let mut kept = 0;
        while recorded.try_next().is_some() {
            kept += 1;
        }
        assert!(kept == begun && (3..=6).contains(&begun), "{kept} of {begun}");
    });
}

#[test]
fn what_fails_or_is_slow_is_kept_although_it_was_not_drawn() {
    run(async {
        let app = App::start(|n| match n {
            0 => Say::status(503),
            1 => Say::grpc_head(14),
            2 => Say::reset(h2::Reason::INTERNAL_ERROR),
            3 => Say::ok().after(Duration::from_millis(60)),
            _ => Say::status(404),
        })
        .await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let changes = [
            ("SHEER_PROXY_TRACE_SAMPLE_RATE", "0"),
            ("SHEER_PROXY_TRACE_SLOW", "50ms"),
        ];
        let mut recorded = proxy.traced_with(&settings_with(&changes));
        for request in [get("/0"), grpc(), get("/2"), get("/3"), get("/4")] {
            // A reset is an answer too.
            let _ = ask(&client, request, b"").await;
        }
        let mut kept = Vec::new();
        while let Some(spans) = recorded.try_next() {
            kept.extend(
                spans
                    .into_iter()
                    .map(|span| (span.kept(), span.failed, text(&span, "error.type").to_owned())),
            );
        }
        let failed = |why: &str| (SpanKept::Failed, true, why.to_owned());
        let slow = (SpanKept::Slow, false, String::new());
        assert_eq!(kept, [failed("503"), failed("14"), failed("server-reset"), slow]);
        assert!((0..5).all(|n| app.header(n, "traceparent").is_none()));
    });
}

#[test]
fn a_failure_of_a_trace_that_somebody_else_began_has_its_id() {
    run(async {
        let app = App::start(|_| Say::status(500)).await;
        let (proxy, client) = proxy_for(&app, to_service()).await;
        let mut recorded = proxy.traced();
        ask(&client, with(get("/"), "traceparent", &w3c("00")), b"")
            .await
            .expect("answered");
        let span = recorded.next().await.remove(0);
        assert_eq!(
            (hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()),
            (TRACE, PARENT)
        );
        assert_eq!(span.kept(), SpanKept::Failed);
        assert_eq!(
            app.header(0, "traceparent"),
            Some(w3c("00")),
            "who did not want it recorded need not know"
        );
    });
}

#[test]
fn attempts_are_children_and_each_is_told_to_its_callee() {
    run(async {
        let app = App::start(|n| Say::status(if n < 2 { 503 } else { 200 })).await;
        let retry = Retry {
            limit: 2,
            max_request_bytes: 1024,
            statuses: vec![(500, 599)],
            grpc_codes: Vec::new(),
            timeout: None,
            backoff: None,
            max_hint: None,
        };
        let rule = HttpRule {
            retry: Some(retry),
            ..to_service()
        };
        let (proxy, client) = proxy_for(&app, rule).await;
        let mut recorded = proxy.traced();
        let request = with(get("/pay?token=secret"), "traceparent", &w3c("01"));
        ask(&client, request, b"question").await.expect("answered");
        let spans = recorded.next().await;
        let [whole, attempts @ ..] = &spans[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(
            (whole.kind(), whole.failed, attempts.len()),
            (SpanKind::Internal, false, 3)
        );
        assert_eq!(hex(&whole.parent_span_id), PARENT);
        assert_eq!((number(whole, "sheer.attempts"), events(whole).len()), (3, 2));
        for (n, attempt) in attempts.iter().enumerate() {
            assert_eq!(
                (attempt.kind(), &attempt.parent_span_id),
                (SpanKind::Client, &whole.span_id)
            );
            let told = app.header(n, "traceparent");
            assert_eq!(told, Some(format!("00-{TRACE}-{}-01", hex(&attempt.span_id))));
            assert_eq!(
                number(attempt, "http.request.resend_count"),
                if n == 0 { -1 } else { n as i64 }
            );
        }
        let failed: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.failed, number(attempt, "http.response.status_code")))
            .collect();
        assert_eq!(failed, [(true, 503), (true, 503), (false, 200)]);
        assert!(
            attempts
                .windows(2)
                .all(|two| two[0].end_unix_ns <= two[1].start_unix_ns)
        );
        assert!(
            !format!("{spans:?}").contains("secret"),
            "queries are nobody's business"
        );
    });
}

#[test]
fn what_the_proxy_answers_itself_has_verdict_and_words() {
    run(async {
        let proxy = Proxy::start();
        let mut recorded = proxy.traced();
        proxy.discovery.endpoints([]);
        let client = proxy.h2().await;
        let answer = client.call().await.expect("answered");
        assert_eq!(answer.header("sheer-reason"), "failfast");
        let span = recorded.next().await.remove(0);
        assert!(span.failed);
        assert_eq!((span.verdict.as_str(), span.reason.as_str()), ("capacity", "failfast"));
        assert_eq!(
            (text(&span, "sheer.verdict"), text(&span, "error.type")),
            ("capacity", "failfast")
        );
        assert_eq!(number(&span, "http.response.status_code"), 503);
        assert!(
            span.status_message.contains("no ready pod stands behind it"),
            "{}",
            span.status_message
        );
        assert_eq!(events(&span), ["queue"], "it was never sent");
        assert!(
            span.end_unix_ns - span.start_unix_ns >= 200_000_000,
            "the wait is in it"
        );

        // 431: more header fields than are taken.
        let large = "x".repeat(300 * 1024);
        let server = Server::start("a").await;
        proxy.discovery.endpoints([server.endpoint()]);
        let answer = ask(&client, with(get("/large"), "x-large", &large), b"").await;
        assert_eq!(answer.map(|answer| answer.status.as_u16()).ok(), Some(431));
        let span = recorded.next().await.remove(0);
        assert_eq!((number(&span, "http.response.status_code"), span.failed), (431, true));
        assert_eq!(
            (text(&span, "url.path"), span.verdict.as_str()),
            ("/large", "client-config")
        );
    });
}
