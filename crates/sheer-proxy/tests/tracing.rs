//! A trace through two sidecars: the callee's span is the child of the caller's, both name the same stream, and the application is told.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use sheer_api::v1::{Attribute, Span, SpanKept, SpanKind, attribute::Value};
use tokio::{task::LocalSet, task::spawn_local};

#[expect(dead_code, reason = "shared with other tests")]
#[path = "support/pair.rs"]
mod pair;

use pair::{CLIENT, Pair};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    let found = |attribute: &&Attribute| attribute.key == key;
    match span
        .attributes
        .iter()
        .find(found)
        .and_then(|attribute| attribute.value.as_ref())
    {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// Serves HTTP/2 for as long as the test runs; answers with this status, and keeps the heads that came.
fn application(pair: &Rc<Pair>, status: u16) -> Rc<RefCell<Vec<HeaderMap>>> {
    let (pair, seen) = (Rc::clone(pair), Rc::new(RefCell::new(Vec::new())));
    let heads = Rc::clone(&seen);
    spawn_local(async move {
        loop {
            let tcp = pair.accept().await;
            let heads = Rc::clone(&heads);
            spawn_local(async move {
                let Ok(mut connection) = h2::server::handshake(tcp).await else {
                    return;
                };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    heads.borrow_mut().push(request.headers().clone());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let head = Response::builder().status(status).body(()).unwrap();
                    let _ = respond.send_response(head, true);
                }
            });
        }
    });
    seen
}

async fn call(pair: &Pair, request: Request<()>) -> u16 {
    let (send, connection) = h2::client::Builder::new()
        .handshake::<_, Bytes>(pair.connect().await)
        .await
        .unwrap();
    spawn_local(async move { drop(connection.await) });
    let mut send = send.ready().await.unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    response.await.unwrap().status().as_u16()
}

fn request() -> Request<()> {
    Request::post("http://ledger.bank/bank.v1.Ledger/Post")
        .body(())
        .unwrap()
}

/// The caller's span and the callee's.
fn by_kind(mut spans: Vec<Span>) -> (Span, Span) {
    spans.sort_by_key(|span| span.kind);
    let server = spans.remove(0);
    let client = spans.remove(0);
    assert_eq!((server.kind(), client.kind()), (SpanKind::Server, SpanKind::Client));
    assert!(spans.is_empty());
    (client, server)
}

#[test]
fn both_proxies_record_one_request_as_parent_and_child() {
    run(async {
        let pair = Rc::new(Pair::start(true).await);
        let mut recorded = pair.traced(&[]);
        let seen = application(&pair, 200);
        assert_eq!(call(&pair, request()).await, 200);
        let (client, server) = by_kind([recorded.next().await, recorded.next().await].concat());
        assert_eq!(client.trace_id, server.trace_id);
        assert_eq!(server.parent_span_id, client.span_id);
        assert!(client.parent_span_id.is_empty());
        assert_eq!((client.kept(), server.kept()), (SpanKept::Sampled, SpanKept::Parent));
        let told = seen.borrow()[0]["traceparent"].to_str().unwrap().to_owned();
        assert_eq!(
            told,
            format!("00-{}-{}-01", hex(&server.trace_id), hex(&server.span_id))
        );
        // The callee's time lies within the caller's, and the application's 20 ms within that.
        assert!(client.start_unix_ns <= server.start_unix_ns && server.end_unix_ns <= client.end_unix_ns);
        let sent = server.events.iter().find(|event| event.name == "sent").unwrap();
        assert!(server.end_unix_ns - sent.unix_ns >= 15_000_000, "{server:?}");
        assert_eq!(text(&server, "sheer.client.identity"), CLIENT);
        assert!(text(&client, "sheer.server.identity").starts_with("ledger.bank."));
        let connected: Vec<_> = client.events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(
            connected,
            ["queue", "connect", "tls", "connected", "sent", "first byte"]
        );
    });
}

/// Without a context the two ends of a stream are known by connection and stream alone.
#[test]
fn a_failure_that_nobody_drew_names_the_same_stream_at_both_proxies() {
    run(async {
        let pair = Rc::new(Pair::start(true).await);
        let mut recorded = pair.traced(&[("SHEER_PROXY_TRACE_SAMPLE_RATE", "0")]);
        let seen = application(&pair, 503);
        assert_eq!(call(&pair, request()).await, 503);
        let (client, server) = by_kind([recorded.next().await, recorded.next().await].concat());
        assert_eq!((client.kept(), server.kept()), (SpanKept::Failed, SpanKept::Failed));
        assert_ne!(client.trace_id, server.trace_id);
        let (here, there) = (client.wire.unwrap(), server.wire.unwrap());
        assert_eq!((here.client, here.stream), (there.client, there.stream));
        assert!(seen.borrow()[0].get("traceparent").is_none());
    });
}

#[test]
fn an_application_without_a_sidecar_is_told_of_the_trace_too() {
    run(async {
        let pair = Rc::new(Pair::start(false).await);
        let mut recorded = pair.traced(&[]);
        let seen = application(&pair, 200);
        assert_eq!(call(&pair, request()).await, 200);
        let spans = recorded.next().await;
        assert_eq!(
            (spans.len(), spans[0].kind()),
            (1, SpanKind::Client),
            "one sidecar, one span"
        );
        assert!(seen.borrow()[0].get("traceparent").is_some());
    });
}

/// Header lists of names that come up again and again, with values that are odd.
fn fields(seed: u64) -> Vec<(HeaderName, HeaderValue)> {
    let mut random = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let names = [
        "x-scope",
        "authorization",
        "x-b3-flags",
        "tracestate",
        "x-trace-bin",
        "baggage",
        "x-b3-sampled",
        "te-x",
    ];
    let count = next(40) as usize;
    (0..count)
        .map(|_| {
            let name = HeaderName::from_static(names[next(names.len() as u64) as usize]);
            let value: Vec<u8> = (0..next(60)).map(|_| 0x21 + next(0x5e) as u8).collect();
            (name, HeaderValue::from_bytes(&value).unwrap())
        })
        .collect()
}

/// By name, in order; without what a recorded request may have changed, and what tells the application who its client is.
fn by_name(headers: &HeaderMap) -> Vec<(String, Vec<HeaderValue>)> {
    let ours = ["traceparent", "b3", "x-b3-spanid", "x-b3-parentspanid", "l5d-client-id"];
    let mut all: Vec<_> = headers
        .keys()
        .filter(|name| !ours.contains(&name.as_str()))
        .map(|name| (name.to_string(), headers.get_all(name).iter().cloned().collect()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// `docs/headers.md`: a recorded request differs in the fields of its context alone, and one that is not recorded in none.
#[test]
fn recording_changes_the_fields_of_the_context_alone() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    run(async {
        for (rate, recorded) in [("1", true), ("0", false)] {
            let pair = Rc::new(Pair::start(true).await);
            let many = [
                ("SHEER_PROXY_TRACE_SAMPLE_RATE", rate),
                ("SHEER_PROXY_TRACE_SAMPLE_LIMIT", "100000"),
            ];
            let mut spans = pair.traced(&many);
            let seen = application(&pair, 200);
            for seed in 0..40 {
                let mut request = request();
                for (name, value) in fields(seed) {
                    request.headers_mut().append(name, value);
                }
                let context = seed % 4 == 1;
                if context {
                    let text = format!("00-{TRACE}-b7ad6b7169203331-{}", if recorded { "01" } else { "00" });
                    request.headers_mut().insert("traceparent", text.parse().unwrap());
                }
                let sent = request.headers().clone();
                // A value of `x-b3-sampled` that says no is obeyed.
                let refused = sent.get("x-b3-sampled").is_some_and(|value| value == "0");
                assert_eq!(call(&pair, request).await, 200);
                let came = seen.borrow().last().unwrap().clone();
                assert_eq!(by_name(&came), by_name(&sent), "{seed}");
                let parent = |headers: &HeaderMap| {
                    headers
                        .get("traceparent")
                        .map(|value| value.to_str().unwrap().to_owned())
                };
                match (recorded && !refused, parent(&sent), parent(&came)) {
                    (true, Some(sent), Some(came)) => assert!(came.starts_with(&sent[..36]) && came != sent),
                    (true, None, came) => assert!(came.is_some(), "a trace began"),
                    (false, sent, came) => assert_eq!(came, sent),
                    (true, Some(_), None) => panic!("the context was lost"),
                }
            }
            let mut kept = 0;
            while spans.try_next().is_some() {
                kept += 1;
            }
            assert_eq!(kept > 0, recorded);
        }
    });
}
