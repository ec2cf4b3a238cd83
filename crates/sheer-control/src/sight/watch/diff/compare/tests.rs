use sheer_api::v1::ExchangeView;

use super::*;

fn list(fields: &[(&str, &str)]) -> Vec<ShownField> {
    let field = |(name, value): &(&str, &str)| ShownField {
        name: (*name).to_owned(),
        value: value.as_bytes().to_vec(),
        ..ShownField::default()
    };
    fields.iter().map(field).collect()
}

fn point(request: &[(&str, &str)], response: &[(&str, &str)]) -> Option<PointView> {
    Some(PointView {
        request: list(request),
        response: list(response),
        protocol: "http/2".to_owned(),
        ..PointView::default()
    })
}

fn half(client: Option<PointView>, upstream: Option<PointView>) -> Option<ExchangeView> {
    Some(ExchangeView {
        client,
        upstream,
        ..ExchangeView::default()
    })
}

fn told(diff: &RequestDiff) -> Vec<(String, u32, bool)> {
    differences(diff, &ByRoute::default())
        .into_iter()
        .map(|one| (one.field, one.first_seen_at, one.documented))
        .collect()
}

#[test]
fn documented_changes_are_told_apart_and_the_first_hop_is_named() {
    let ok = &[(":status", "200"), ("x", "1")][..];
    let diff = RequestDiff {
        outbound: half(
            point(
                &[(":path", "/"), ("grpc-timeout", "1S"), ("x-tag", "a"), ("x-tag", "b")],
                ok,
            ),
            point(
                &[(":path", "/"), ("grpc-timeout", "990m"), ("x-tag", "a"), ("x-tag", "b")],
                ok,
            ),
        ),
        inbound: half(
            point(
                &[(":path", "/"), ("grpc-timeout", "990m"), ("x-tag", "b"), ("x-tag", "a")],
                ok,
            ),
            point(
                &[
                    (":path", "/"),
                    ("grpc-timeout", "990m"),
                    ("x-tag", "b"),
                    ("x-tag", "a"),
                    ("l5d-client-id", "web"),
                ],
                &[(":status", "200"), ("x", "2")],
            ),
        ),
        ..RequestDiff::default()
    };
    let expected = [
        ("grpc-timeout", 2, true),
        ("x-tag", 3, false),
        ("l5d-client-id", 4, true),
        ("x", 3, false),
    ];
    let expected: Vec<_> = expected
        .map(|(field, at, documented)| (field.to_owned(), at, documented))
        .into();
    assert_eq!(told(&diff), expected);
    let between = &differences(&diff, &ByRoute::default())[1];
    assert!(between.why.contains("between the proxies"), "{}", between.why);
}

#[test]
fn a_proxy_puts_its_own_span_into_a_context_and_takes_none_away() {
    let ok = &[(":status", "200")][..];
    let context = |outbound: &[(&str, &str)], sent: &[(&str, &str)]| RequestDiff {
        outbound: half(point(outbound, ok), point(sent, ok)),
        ..RequestDiff::default()
    };
    let (from, to) = (
        [(":path", "/"), ("traceparent", "00-a-1-01")],
        [(":path", "/"), ("traceparent", "00-a-2-01")],
    );
    assert_eq!(told(&context(&from, &to)), [("traceparent".to_owned(), 2, true)]);
    assert_eq!(told(&context(&from[..1], &to)), [("traceparent".to_owned(), 2, true)]);
    assert_eq!(told(&context(&from, &to[..1])), [("traceparent".to_owned(), 2, false)]);
}

/// Either proxy may keep a request for a while.
#[test]
fn what_remains_of_the_callers_time_is_told_by_both_proxies() {
    fn at(timeout: &str) -> Option<PointView> {
        point(&[(":path", "/"), ("grpc-timeout", timeout)], &[(":status", "200")])
    }
    let both = |timeouts: [&str; 4]| RequestDiff {
        outbound: half(at(timeouts[0]), at(timeouts[1])),
        inbound: half(at(timeouts[2]), at(timeouts[3])),
        ..RequestDiff::default()
    };
    let changed = |at, documented| ("grpc-timeout".to_owned(), at, documented);
    assert_eq!(
        told(&both(["1S", "990m", "990m", "980000u"])),
        [changed(2, true), changed(4, true)]
    );
    assert_eq!(
        told(&both(["1S", "2S", "1S", "1x"])),
        [changed(2, false), changed(3, false), changed(4, false)],
        "time that a caller did not give, or that vanished between the proxies"
    );
}

/// The two protocols say it in other fields, not that it goes elsewhere.
#[test]
fn where_a_request_goes_is_the_same_in_either_protocol() {
    let ok = &[(":status", "200")][..];
    let http1 = |request: &[(&str, &str)]| {
        let mut point = point(request, ok).expect("a point");
        "http/1".clone_into(&mut point.protocol);
        Some(point)
    };
    let sent = |from: &[(&str, &str)], to: &[(&str, &str)]| {
        let diff = RequestDiff {
            outbound: half(http1(from), point(to, ok)),
            ..RequestDiff::default()
        };
        let unexplained = told(&diff).into_iter().filter(|(.., documented)| !documented);
        unexplained.map(|(name, ..)| name).collect::<Vec<_>>().join(" ")
    };
    let to = [(":scheme", "http"), (":authority", "web"), (":path", "/a%7Bb?c=1")];
    assert_eq!(sent(&[(":path", "/a{b?c=1#d"), ("Host", "web")], &to), "");
    assert_eq!(sent(&[(":path", "http://web/a{b?c=1"), ("Host", "web")], &to), "");
    assert_eq!(sent(&[(":path", "/other"), ("Host", "web")], &to), ":path");
    assert_eq!(
        sent(&[(":path", "/a{b?c=1"), ("Host", "other")], &to),
        ":authority host"
    );
}

#[test]
fn a_path_that_is_empty_or_has_a_fragment_is_written_anew() {
    let ok = &[(":status", "200")][..];
    let sent = |from: &str, to: &str| RequestDiff {
        outbound: half(point(&[(":path", from)], ok), point(&[(":path", to)], ok)),
        ..RequestDiff::default()
    };
    for (from, to, documented) in [
        ("", "/", true),
        ("/a#b", "/a", true),
        ("/a", "/b", false),
        ("", "/b", false),
    ] {
        assert_eq!(told(&sent(from, to)), [(":path".to_owned(), 2, documented)], "{from:?}");
    }
}

fn http1(request: &[(&str, &str)], response: &[(&str, &str)]) -> PointView {
    let mut point = point(request, response).expect("a point");
    "http/1".clone_into(&mut point.protocol);
    "HTTP/1.1".clone_into(&mut point.http1_version);
    point
}

/// Both ends speak HTTP/1, whatever is between them.
#[test]
fn names_and_phrases_of_http1_arrive_as_they_were_written() {
    let (ok, get) = (&[(":status", "200")][..], &[(":path", "/"), ("X-Tag", "a")][..]);
    let through = |first: PointView, carried: &[(&str, &str)], last: PointView| RequestDiff {
        outbound: half(Some(first), point(carried, ok)),
        inbound: half(point(carried, ok), Some(last)),
        ..RequestDiff::default()
    };
    let carried = &[(":path", "/"), ("x-tag", "a"), ("sheer-h1-case", "t")][..];
    let of = |diff: &RequestDiff| {
        let all = told(diff).into_iter().filter(|(name, ..)| name != CASE);
        all.collect::<Vec<_>>()
    };
    assert_eq!(of(&through(http1(get, ok), carried, http1(get, ok))), []);

    let lower = http1(&[(":path", "/"), ("x-tag", "a")], ok);
    let lost = through(http1(get, ok), carried, lower.clone());
    assert_eq!(of(&lost), [("x-tag".to_owned(), 4, false)]);
    let all = differences(&lost, &ByRoute::default());
    let of_tag = all.iter().find(|one| one.field == "x-tag").expect("a difference");
    assert!(of_tag.why.contains("HTTP/2, which lies between"), "{}", of_tag.why);
    let full = "t,".to_owned() + &"X".repeat(4_092);
    let carried_full = &[(":path", "/"), ("x-tag", "a"), ("sheer-h1-case", &*full)][..];
    assert_eq!(
        of(&through(http1(get, ok), carried_full, lower)),
        [("x-tag".to_owned(), 4, true)]
    );

    let mut fine = http1(get, ok);
    "All Fine".clone_into(&mut fine.reason_phrase);
    assert_eq!(
        of(&through(http1(get, ok), carried, fine)),
        [("reason-phrase".to_owned(), 1, false)]
    );
}

/// Interim responses are passed on; one that was lost is a difference, but to a client that knows none.
#[test]
fn lost_interim_responses_are_told() {
    let ok = &[(":status", "200")][..];
    let get = &[(":path", "/")][..];
    let early = |mut point: PointView| {
        point.interim = list(&[(":status", "103"), ("link", "</a>")]);
        point
    };
    let sent = |client: PointView| RequestDiff {
        outbound: half(Some(client), Some(early(point(get, ok).expect("a point")))),
        ..RequestDiff::default()
    };
    let lost = |documented| {
        [
            (":status".to_owned(), 1, documented),
            ("link".to_owned(), 1, documented),
        ]
    };
    assert_eq!(told(&sent(early(http1(get, ok)))), []);
    assert_eq!(told(&sent(http1(get, ok))), lost(false));
    let mut old = http1(get, ok);
    "HTTP/1.0".clone_into(&mut old.http1_version);
    assert_eq!(told(&sent(old)), lost(true));
}

#[test]
fn what_belongs_to_a_connection_and_trailers_that_nobody_could_take_are_documented() {
    let ok = &[(":status", "200"), ("content-length", "2")][..];
    let from = &[
        (":path", "/"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("X-Other", "1"),
    ][..];
    let mut server = point(&[(":path", "/")], &[(":status", "200")]).expect("a point");
    server.response_trailers = list(&[("x-sum", "1")]);
    let diff = RequestDiff {
        outbound: half(Some(http1(from, ok)), Some(server)),
        ..RequestDiff::default()
    };
    let expected = [
        ("connection", 2, true),
        ("x-hop", 2, true),
        ("x-other", 2, false),
        ("content-length", 1, true),
        ("x-sum", 1, true),
    ];
    let expected: Vec<_> = expected
        .map(|(field, at, documented)| (field.to_owned(), at, documented))
        .into();
    assert_eq!(told(&diff), expected);
}

#[test]
fn the_order_of_names_and_their_case_do_not_count() {
    let ok = &[(":status", "200")][..];
    let diff = RequestDiff {
        outbound: half(
            point(&[(":path", "/"), ("A", "1"), ("B", "2")], ok),
            point(&[(":path", "/"), ("b", "2"), ("a", "1")], ok),
        ),
        ..RequestDiff::default()
    };
    assert_eq!(told(&diff), []);
}

#[test]
fn an_answer_that_a_proxy_made_up_explains_itself() {
    let mut outbound = half(
        point(
            &[(":path", "/")],
            &[(":status", "504"), ("l5d-proxy-error", "too late")],
        ),
        point(&[(":path", "/")], &[(":status", "200"), ("server", "nginx")]),
    );
    if let Some(view) = &mut outbound {
        "timeout".clone_into(&mut view.reason);
    }
    let diff = RequestDiff {
        outbound,
        ..RequestDiff::default()
    };
    assert_eq!(
        told(&diff),
        [":status", "l5d-proxy-error", "server"].map(|name| (name.to_owned(), 1, true))
    );
}

/// Points behind the outbound proxy show the last attempt.
#[test]
fn interim_responses_of_earlier_attempts_are_explained() {
    let (ok, get) = (&[(":status", "200")][..], &[(":path", "/")][..]);
    let with = |mut point: PointView, interim: &[(&str, &str)]| {
        point.interim = list(interim);
        Some(point)
    };
    let sent = |attempts| {
        let client = with(http1(get, ok), &[(":status", "100"), (":status", "100")]);
        let mut outbound = half(client, with(http1(get, ok), &[(":status", "100")]));
        if let Some(view) = &mut outbound {
            view.tapped = Some(sheer_api::v1::TappedRequest {
                attempts,
                ..sheer_api::v1::TappedRequest::default()
            });
        }
        RequestDiff {
            outbound,
            ..RequestDiff::default()
        }
    };
    assert_eq!(told(&sent(1)), [(":status".to_owned(), 1, false)]);
    assert_eq!(told(&sent(2)), [(":status".to_owned(), 1, true)]);
}

#[test]
fn te_is_of_one_connection_but_for_trailers() {
    let ok = &[(":status", "200")][..];
    let sent = |from: &str, to: &[(&str, &str)]| {
        let from = http1(&[(":path", "/"), ("te", from), ("connection", "te, host, close")], ok);
        let to = [&[(":path", "/")][..], to].concat();
        let diff = RequestDiff {
            outbound: half(Some(from), point(&to, ok)),
            ..RequestDiff::default()
        };
        let of_te = told(&diff).into_iter().find(|(name, ..)| name == "te");
        of_te.map(|(.., documented)| documented)
    };
    assert_eq!(sent("gzip, trailers;q=0.5", &[("te", "trailers")]), Some(true));
    assert_eq!(sent("gzip", &[]), Some(true));
    assert_eq!(sent("trailers", &[]), Some(false));
}

/// A head of which only the beginning is recorded says nothing of the rest.
#[test]
fn what_is_cut_is_not_compared() {
    let ok = &[(":status", "200")][..];
    let mut cut = http1(&[(":path", "/")], ok);
    cut.cut.push("request".to_owned());
    let diff = RequestDiff {
        outbound: half(Some(cut), point(&[(":path", "/"), ("x", "1")], &[(":status", "500")])),
        ..RequestDiff::default()
    };
    assert_eq!(told(&diff), [(":status".to_owned(), 1, false)]);
}
