//! Header fidelity, as `docs/headers.md` promises it: random header lists through both proxies and through one, in each protocol,
//! in requests, responses and trailers.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[path = "support/inbound.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod inbound;
#[path = "support/run.rs"]
mod run;
#[path = "support/sidecars.rs"]
mod sidecars;

use http::{HeaderMap, HeaderName, HeaderValue};
use inbound::Proxy;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use run::run;
use sidecars::{Fields, Message, Way, http1, http2};

/// Names that come up again and again, so that values repeat, and some that are odd.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["x-scope", "X-Scope", "x-SCOPE", "authorization", "ETag", "x-b3-traceid", "Cookie",
            "set-cookie", "accept", "User-Agent", "x-trace-bin", "idempotency-key", "x", "X_Under", "x~!#$&'*.^`|"])
            .prop_map(str::to_owned),
        1 => "[xX]-[a-zA-Z0-9]{1,24}",
    ]
}

/// Any bytes that a field value may have: visible ones, spaces within, and those above ASCII. Made of a seed: a strategy for each of
/// 8 KiB would take longer than all the proxies.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![2 => Just(0usize), 12 => 1usize..60, 1 => 8190usize..8193];
    (length, any::<u64>()).prop_map(|(length, mut seed)| {
        let mut byte = |at: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let drawn = (seed >> 33) as u8;
            match drawn {
                0x21..=0x7e | 0x80.. => drawn,
                b' ' | b'\t' if at > 0 && at + 1 < length => drawn,
                _ => 0x21 + drawn % 0x5e,
            }
        };
        (0..length).map(&mut byte).collect()
    })
}

fn fields(most: usize) -> impl Strategy<Value = Fields> {
    prop::collection::vec((name(), value()), 0..most).prop_map(Fields)
}

fn message() -> impl Strategy<Value = Message> {
    let lists = (fields(200), fields(200), fields(12), fields(12));
    lists.prop_map(|(request, response, up, down)| Message {
        request,
        response,
        up,
        down,
    })
}

/// The same fields, each value byte for byte, those of one name in order.
fn same(sent: &HeaderMap, got: &HeaderMap, what: &str) {
    for name in sent.keys().chain(got.keys()) {
        let values = |map: &HeaderMap| map.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(values(sent), values(got), "{what}: {name}");
    }
}

fn check(cases: u32, way: Way, h1: bool) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        ..ProptestConfig::default()
    });
    run(async {
        let proxy = Proxy::start().await;
        // The runner is not async: draw the cases first, then send them.
        for _ in 0..cases {
            let message = message().new_tree(&mut runner).unwrap().current();
            if h1 {
                http1(&proxy, way, &message).await
            } else {
                http2(&proxy, way, &message).await
            }
        }
    });
}

#[test]
fn http2_through_both_sidecars() {
    check(40, Way::Both, false);
}

#[test]
fn http2_through_one_proxy() {
    check(40, Way::Inbound, false);
}

#[test]
fn http1_through_both_sidecars() {
    check(40, Way::Both, true);
}

#[test]
fn http1_through_one_proxy() {
    check(40, Way::Inbound, true);
}

#[test]
fn the_comparison_notices_a_difference() {
    let field = |value: &'static str| (HeaderName::from_static("a"), HeaderValue::from_static(value));
    let sent: HeaderMap = [field("1"), field("2")].into_iter().collect();
    let got: HeaderMap = [field("2"), field("1")].into_iter().collect();
    assert!(std::panic::catch_unwind(|| same(&sent, &got, "order")).is_err());
}
