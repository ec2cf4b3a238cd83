use sheer_api::v1::{Exchange, ExchangeView, Leg};

use super::*;

const OVERWRITTEN: &str = "its connection has said too much since";

fn asked() -> Args {
    Args {
        of: Of {
            workload: "deploy/web".to_owned(),
            namespace: Some("bank".to_owned()),
        },
        request: None,
        trace: None,
        failed: false,
        output: Format::Table,
    }
}

fn fields(pairs: &[(&str, &str)]) -> Vec<ShownField> {
    let field = |(name, value): &(&str, &str)| ShownField {
        name: (*name).to_owned(),
        value: value.as_bytes().to_vec(),
        ..ShownField::default()
    };
    pairs.iter().map(field).collect()
}

/// A point that is known, with an answer or without.
fn known(answered: bool) -> PointView {
    PointView {
        protocol: "http/2".to_owned(),
        request: fields(&[(":method", "GET"), (":path", "/")]),
        response: fields(if answered { &[(":status", "200")] } else { &[] }),
        ..PointView::default()
    }
}

fn missing(why: &str) -> PointView {
    PointView {
        missing: why.to_owned(),
        ..PointView::default()
    }
}

fn request([one, two, three, four]: [PointView; 4]) -> RequestDiff {
    let view = |client, upstream| {
        Some(ExchangeView {
            exchange: Some(Exchange {
                upstream: Some(Leg::default()),
                ..Exchange::default()
            }),
            client: Some(client),
            upstream: Some(upstream),
            ..ExchangeView::default()
        })
    };
    RequestDiff {
        request_id: "web-0/41".to_owned(),
        source: "bank/web-0".to_owned(),
        destination: "bank/ledger-0".to_owned(),
        outbound: view(one, two),
        inbound: view(three, four),
        ..RequestDiff::default()
    }
}

/// The page behind the four points.
fn verdict(request: &RequestDiff) -> String {
    let page = page(request, &asked(), false);
    page.lines().skip(5).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_nobody_remembers_is_not_said_to_be_the_same() {
    let nothing = request([(); 4].map(|()| missing(OVERWRITTEN)));
    insta::assert_snapshot!(page(&nothing, &asked(), false));
    assert_eq!(outcome(std::slice::from_ref(&nothing)), Outcome::Finding);
    assert_eq!(json(&nothing)["compared"], serde_json::json!([]));
    let failed = Args {
        failed: true,
        ..asked()
    };
    assert!(!page(&nothing, &failed, false).contains("--failed"), "it was asked for");
}

#[test]
fn one_point_has_nothing_to_be_compared_with() {
    let mut one = request([
        known(true),
        missing(OVERWRITTEN),
        missing(OVERWRITTEN),
        missing(OVERWRITTEN),
    ]);
    assert!(
        verdict(&one).starts_with("nothing could be compared: only point 1 is known. Ask sooner"),
        "{}",
        verdict(&one)
    );
    assert_eq!(outcome(std::slice::from_ref(&one)), Outcome::Finding);
    // What a proxy answers by itself is sent nowhere, however soon one asks.
    let outbound = one.outbound.as_mut().unwrap();
    (outbound.exchange, outbound.reason) = (Some(Exchange::default()), "no-endpoints".to_owned());
    assert_eq!(
        verdict(&one),
        "nothing could be compared: only point 1 is known. A proxy answered it (no-endpoints) and sent it nowhere: see `sheer tap -n bank deploy/web --failed-only`"
    );
}

#[test]
fn two_points_are_compared_and_the_others_named() {
    let mut half = request([known(true), known(true), missing(OVERWRITTEN), missing(OVERWRITTEN)]);
    assert_eq!(
        verdict(&half),
        "no difference between points 1 and 2; points 3 and 4 could not be compared"
    );
    assert_eq!(outcome(std::slice::from_ref(&half)), Outcome::Healthy);
    assert_eq!(json(&half)["compared"], serde_json::json!([1, 2]));
    half.differences = vec![Difference {
        part: "request".to_owned(),
        field: "traceparent".to_owned(),
        documented: true,
        ..Difference::default()
    }];
    assert!(
        verdict(&half).ends_with("\nno other difference between points 1 and 2; points 3 and 4 could not be compared"),
        "{}",
        verdict(&half)
    );
}

#[test]
fn an_answer_that_is_known_once_is_not_said_to_be_the_same() {
    let made_up = request([known(true), known(false), known(false), missing("it did not get there")]);
    assert_eq!(
        verdict(&made_up),
        "request: no difference between points 1, 2 and 3; point 4 could not be compared\n\
         response: known at point 1 alone, so there is nothing to compare"
    );
}

#[test]
fn trailers_alone_are_compared_as_such() {
    let trailers = || PointView {
        response_trailers: fields(&[("grpc-status", "0")]),
        ..missing(OVERWRITTEN)
    };
    let late = request([(); 4].map(|()| trailers()));
    assert_eq!(
        verdict(&late),
        "request: known at no point, so there is nothing to compare\n\
         response-trailers: no difference between points 1, 2, 3 and 4"
    );
}

#[test]
fn all_four_points_need_no_more_words() {
    let mut whole = request([(); 4].map(|()| known(true)));
    assert_eq!(verdict(&whole), "no difference");
    assert_eq!(outcome(std::slice::from_ref(&whole)), Outcome::Healthy);
    assert_eq!(json(&whole)["compared"], serde_json::json!([1, 2, 3, 4]));
    whole.differences = vec![Difference::default()];
    assert_eq!(outcome(std::slice::from_ref(&whole)), Outcome::Finding);
    assert!(!verdict(&whole).contains("no "), "{}", verdict(&whole));
    assert_eq!(outcome(&[]), Outcome::Finding);
}
