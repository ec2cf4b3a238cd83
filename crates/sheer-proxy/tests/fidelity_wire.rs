//! Header fidelity down to the octets: what `fidelity.rs` holds with the libraries' own peers, held once more with both ends written by
//! hand (`h2peer` for HTTP/2, [`http1`] for HTTP/1), so that no library hides a difference from itself.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "fidelity_wire/http1.rs"]
mod http1;
#[expect(dead_code, reason = "shared with the tests of HTTP/1")]
#[path = "support/pair.rs"]
mod pair;

use std::collections::BTreeMap;

use bytes::Bytes;
use pair::{CLIENT, Pair};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sheer_testkit::h2peer::{Block, Field, Message, Peer};
use tokio::{runtime::Runtime, task::LocalSet};

/// Random lists a pair of protocols. Each goes through as request, response and both trailers.
const CASES: u32 = 24;
const BODY: &[u8] = b"hello";

/// What is sent: fields of four places.
#[derive(Clone, Debug)]
struct Case {
    request: Vec<Field>,
    request_trailers: Vec<Field>,
    response: Vec<Field>,
    response_trailers: Vec<Field>,
}

/// Names that a proxy could be tempted to touch, and a few that repeat.
const NAMES: &[&str] = &[
    "x-scope",
    "x-scope",
    "x-scope",
    "accept",
    "authorization",
    "cookie",
    "set-cookie",
    "content-type",
    "user-agent",
    "date",
    "server",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-request-id",
    "traceparent",
    "grpc-timeout",
    "grpc-status",
    "x-b3-traceid",
    "etag",
    "x-token-bin",
    "www-authenticate",
    "cache-control",
    "vary",
    "age",
    "range",
    "x_underscore",
    "!#$%&'*+.^_`|~",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => proptest::sample::select(NAMES).prop_map(str::to_owned),
        1 => "x-[a-z0-9-]{0,8}[a-z0-9]",
    ]
}

/// Visible octets and, inside, blanks: what is left of a value once white space around it is not part of it.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let visible = || prop_oneof![0x21_u8..0x7f, 0x80_u8..=0xff];
    let inner = prop_oneof![8 => visible(), 1 => Just(b' '), 1 => Just(b'\t')];
    let around = (visible(), proptest::collection::vec(inner, 0..40), visible());
    prop_oneof![
        2 => Just(Vec::new()),
        6 => around.prop_map(|(first, middle, last)| [&[first][..], &middle, &[last]].concat()),
        2 => "[a-z]{1,20}(, ?[a-z]{1,8}){0,3}".prop_map(String::into_bytes),
        1 => "[A-Za-z0-9+/]{4,60}={0,2}".prop_map(String::into_bytes),
    ]
}

/// Up to 200 fields, sometimes with a value of 8 KiB among them.
fn fields() -> impl Strategy<Value = Vec<Field>> {
    let count = prop_oneof![4 => 0..12_usize, 1 => 190..=200_usize];
    let list = count.prop_flat_map(|count| proptest::collection::vec((name(), value()), count));
    (list, proptest::option::weighted(0.3, 0x21_u8..0x7f)).prop_map(|(list, big)| {
        let big = big.map(|octet| ("x-big".to_owned(), vec![octet; 8192]));
        list.into_iter()
            .chain(big)
            .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
            .collect()
    })
}

fn case() -> impl Strategy<Value = Case> {
    (fields(), fields(), fields(), fields()).prop_map(|(request, request_trailers, response, response_trailers)| Case {
        request,
        request_trailers,
        response,
        response_trailers,
    })
}

/// Values by name, each in order: HTTP gives the order of different names no meaning.
fn by_name(fields: &[Field]) -> BTreeMap<Bytes, Vec<Bytes>> {
    let mut names: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
    for (name, value) in fields {
        names.entry(name.clone()).or_default().push(value.clone());
    }
    names
}

/// What the mesh adds to a request on its way to the application.
fn expected_additions(meshed: bool) -> Vec<Field> {
    let client_id = (Bytes::from("l5d-client-id"), Bytes::from(CLIENT));
    if meshed { vec![client_id] } else { vec![] }
}

fn assert_same(what: &str, sent: &[Field], arrived: &[Field]) -> Result<(), TestCaseError> {
    let (sent, arrived) = (by_name(sent), by_name(arrived));
    for (name, values) in &sent {
        prop_assert_eq!(Some(values), arrived.get(name), "{}: {:?}", what, name);
    }
    let added: Vec<_> = arrived.keys().filter(|name| !sent.contains_key(*name)).collect();
    prop_assert!(added.is_empty(), "{}: {:?} was added", what, added);
    Ok(())
}

/// Runs a property against a pair that stays up over all cases.
fn property<F>(meshed: bool, mut check: impl FnMut(Pair, Case) -> F)
where
    F: Future<Output = (Pair, Result<(), TestCaseError>)>,
{
    let (runtime, local) = (tokio_runtime(), LocalSet::new());
    let mut up = Some(local.block_on(&runtime, Pair::start(meshed)));
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    });
    let up = std::cell::RefCell::new(&mut up);
    let check = std::cell::RefCell::new(&mut check);
    let outcome = runner.run(&case(), |case| {
        let pair = up.borrow_mut().take().expect("the pair comes back after every case");
        let (pair, result) = local.block_on(&runtime, (check.borrow_mut())(pair, case));
        **up.borrow_mut() = Some(pair);
        result
    });
    outcome.unwrap();
}

fn tokio_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn over_http2(pair: &Pair, meshed: bool, case: &Case) -> Result<(), TestCaseError> {
    let fail = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
    let mut client = Peer::client(pair.connect().await).await.map_err(fail)?;
    let head = Block::post("ledger.bank", "/pkg.Svc/Call?a=b").then(&Block::of(case.request.iter().cloned()));
    client.headers(1, &head).await.map_err(fail)?;
    client.data(1, BODY, false).await.map_err(fail)?;
    client
        .headers_end(1, &Block::of(case.request_trailers.iter().cloned()))
        .await
        .map_err(fail)?;
    let mut server = Peer::server(pair.accept().await).await.map_err(fail)?;
    let (stream, request) = server.request().await.map_err(fail)?;
    let pseudo = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/pkg.Svc/Call?a=b"),
        (":authority", "ledger.bank"),
    ];
    let pseudo = pseudo.map(|(name, value)| (Bytes::from(name), Bytes::from(value)));
    let sent = [&pseudo[..], &case.request, &expected_additions(meshed)].concat();
    assert_same("request", &sent, &request.head)?;
    prop_assert_eq!(&request.body, BODY);
    trailers_same("request trailers", &case.request_trailers, &request)?;

    let head = Block::status(218).then(&Block::of(case.response.iter().cloned()));
    server.headers(stream, &head).await.map_err(fail)?;
    server.data(stream, BODY, false).await.map_err(fail)?;
    server
        .headers_end(stream, &Block::of(case.response_trailers.iter().cloned()))
        .await
        .map_err(fail)?;
    let response = client.response(1).await.map_err(fail)?;
    let status = [(Bytes::from(":status"), Bytes::from("218"))];
    assert_same("response", &[&status[..], &case.response].concat(), &response.head)?;
    prop_assert_eq!(&response.body, BODY);
    trailers_same("response trailers", &case.response_trailers, &response)
}

/// Trailers of no field at all may arrive as the end of the body.
fn trailers_same(what: &str, sent: &[Field], message: &Message) -> Result<(), TestCaseError> {
    assert_same(what, sent, message.trailers.as_deref().unwrap_or_default())
}

async fn over_http1(pair: &Pair, meshed: bool, case: &Case) -> Result<(), TestCaseError> {
    let fail = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
    let host = (Bytes::from("Host"), Bytes::from("ledger.bank"));
    let framing = (Bytes::from("Transfer-Encoding"), Bytes::from("chunked"));
    let mut spelling = http1::Spelling::default();
    let mut spelt = |fields: &[Field]| -> Vec<Field> { fields.iter().map(|field| spelling.of(field)).collect() };
    let [request, request_trailers, response, response_trailers] = [
        &case.request,
        &case.request_trailers,
        &case.response,
        &case.response_trailers,
    ]
    .map(|fields| spelt(fields));

    let mut client = http1::Connection::new(pair.connect().await);
    let head = [&[host.clone(), framing.clone()][..], &request].concat();
    client
        .send("POST /a?b=c HTTP/1.1", &head, BODY, &request_trailers)
        .await
        .map_err(fail)?;
    let mut server = http1::Connection::new(pair.accept().await);
    let arrived = server.receive().await.map_err(fail)?;
    prop_assert_eq!(&arrived.start, "POST /a?b=c HTTP/1.1");
    let sent = [&head[..], &expected_additions(meshed)].concat();
    assert_same("request", &sent, &http1::canonical_own(arrived.head))?;
    prop_assert_eq!(&arrived.body, BODY);
    assert_same("request trailers", &request_trailers, &arrived.trailers)?;

    let head = [&[framing][..], &response].concat();
    server
        .send("HTTP/1.1 218 This Is Fine", &head, BODY, &response_trailers)
        .await
        .map_err(fail)?;
    let arrived = client.receive().await.map_err(fail)?;
    prop_assert_eq!(&arrived.start, "HTTP/1.1 218 This Is Fine");
    assert_same("response", &head, &http1::canonical_own(arrived.head))?;
    prop_assert_eq!(&arrived.body, BODY);
    assert_same("response trailers", &response_trailers, &arrived.trailers)
}

#[test]
fn http2_through_two_sidecars() {
    property(true, |pair, case| async move {
        let result = over_http2(&pair, true, &case).await;
        (pair, result)
    });
}

#[test]
fn http2_through_one_sidecar() {
    property(false, |pair, case| async move {
        let result = over_http2(&pair, false, &case).await;
        (pair, result)
    });
}

#[test]
fn http1_through_two_sidecars() {
    property(true, |pair, case| async move {
        let result = over_http1(&pair, true, &case).await;
        (pair, result)
    });
}

#[test]
fn http1_through_one_sidecar() {
    property(false, |pair, case| async move {
        let result = over_http1(&pair, false, &case).await;
        (pair, result)
    });
}
