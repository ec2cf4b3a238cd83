//! What differs between two points that follow each other, and whether Sheer says that it does that. Pure.

use std::collections::BTreeSet;

use sheer_api::v1::{Difference, PointView, RequestDiff, ShownField};

/// Between the proxies HTTP/1 travels in HTTP/2, with fields of its own (`docs/headers.md`).
const CARRIED: [&str; 5] = [
    "l5d-orig-proto",
    "sheer-h1-case",
    "sheer-h1-reason",
    "sheer-h1-target",
    "sheer-unserved",
];
/// Fields of one connection of HTTP/1 (RFC 9110, 7.6.1).
const HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
];
/// Fields that an application sets for its own proxy.
const OBEYED: [&str; 7] = [
    "l5d-retry-http",
    "l5d-retry-grpc",
    "l5d-retry-limit",
    "l5d-retry-timeout",
    "l5d-timeout",
    "l5d-request-timeout",
    "l5d-response-timeout",
];
/// Fields that carry the context of a trace.
const TRACE: [&str; 6] = [
    "traceparent",
    "grpc-trace-bin",
    "b3",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
];
/// What a proxy writes into an answer that it makes up itself.
const MADE_UP: [&str; 9] = [
    "l5d-proxy-error",
    "sheer-verdict",
    "sheer-reason",
    "grpc-status",
    "grpc-message",
    "grpc-retry-pushback-ms",
    "content-length",
    "content-type",
    "retry-after",
];

/// A part of a message at one point.
struct At<'a> {
    point: u32,
    view: &'a PointView,
    fields: &'a [ShownField],
}

/// One of the lists of fields that a point shows.
type Part = fn(&PointView) -> &[ShownField];

/// All differences, requests first, in the order of the points at which they show.
pub(super) fn differences(diff: &RequestDiff) -> Vec<Difference> {
    let points = points(diff);
    let mut all = Vec::new();
    let parts: [(&str, Part, bool); 4] = [
        ("request", |point| &point.request, false),
        ("request-trailers", |point| &point.request_trailers, false),
        ("response", |point| &point.response, true),
        ("response-trailers", |point| &point.response_trailers, true),
    ];
    for (part, fields, back) in parts {
        let mut at: Vec<At<'_>> = points
            .iter()
            .map(|(point, view)| At {
                point: *point,
                view,
                fields: fields(view),
            })
            .filter(|at| !at.fields.is_empty() || (part.ends_with("trailers") && at.view.missing.is_empty()))
            .collect();
        if back {
            at.reverse();
        }
        for pair in at.windows(2) {
            let made_up = back && is_made_up(diff, pair[1].point);
            all.extend(between(part, &pair[0], &pair[1], made_up));
        }
    }
    all
}

/// What is there of the four.
fn points(diff: &RequestDiff) -> Vec<(u32, &PointView)> {
    let mut points = Vec::new();
    for (first, view) in [(1, &diff.outbound), (3, &diff.inbound)] {
        let Some(view) = view else { continue };
        points.extend(view.client.as_ref().map(|point| (first, point)));
        points.extend(view.upstream.as_ref().map(|point| (first + 1, point)));
    }
    points
}

/// Whether the answer at this point was made up by the proxy there.
fn is_made_up(diff: &RequestDiff, point: u32) -> bool {
    let of = match point {
        1 => &diff.outbound,
        3 => &diff.inbound,
        _ => return false,
    };
    of.as_ref().is_some_and(|view| !view.reason.is_empty())
}

/// What differs between a point and the next.
fn between(part: &str, before: &At<'_>, after: &At<'_>, made_up: bool) -> Vec<Difference> {
    let names: BTreeSet<String> = before
        .fields
        .iter()
        .chain(after.fields)
        .map(|field| field.name.to_ascii_lowercase())
        .collect();
    let values = |at: &At<'_>, name: &str| -> Vec<Vec<u8>> {
        let own = at.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        own.map(|field| field.value.clone()).collect()
    };
    let mut all = Vec::new();
    for name in names {
        let (old, new) = (values(before, &name), values(after, &name));
        if old == new {
            continue;
        }
        let why = explain(part, &name, (before, after), (&old, &new), made_up);
        all.push(Difference {
            part: part.to_owned(),
            field: name,
            first_seen_at: after.point,
            documented: why.is_some(),
            before: old,
            after: new,
            why: why.unwrap_or_else(|| unexplained(before.point, after.point)),
        });
    }
    all
}

fn unexplained(before: u32, after: u32) -> String {
    match (before.min(after), before.max(after)) {
        (1, 2) => "nothing that is documented does this: it happened in the outbound proxy".to_owned(),
        (3, 4) => "nothing that is documented does this: it happened in the inbound proxy".to_owned(),
        (2, 3) => {
            "nothing that is documented does this: it happened between the proxies, on one stream of one connection"
                .to_owned()
        }
        _ => "nothing that is documented does this; a point in between is not recorded".to_owned(),
    }
}

/// Why Sheer does this, where `docs/headers.md` says that it does.
fn explain(
    part: &str,
    name: &str,
    (before, after): (&At<'_>, &At<'_>),
    (old, new): (&[Vec<u8>], &[Vec<u8>]),
    made_up: bool,
) -> Option<String> {
    let is_http1 = |at: &At<'_>| at.view.protocol == "http/1";
    let between = |one: u32, other: u32| {
        let points = (before.point, after.point);
        points == (one, other) || points == (other, one)
    };
    let either_http1 = is_http1(before) || is_http1(after);
    let why = if made_up && (MADE_UP.contains(&name) || name == ":status") {
        "the proxy made this answer up"
    } else if name == "l5d-client-id" && part == "request" && between(3, 4) {
        "the inbound proxy tells the application who its client is"
    } else if name == "grpc-timeout" && part == "request" && between(1, 2) {
        "what remains of the caller's time"
    } else if TRACE.contains(&name) && part == "request" && !new.is_empty() && (between(1, 2) || between(3, 4)) {
        if old.is_empty() {
            "the trace begins at this proxy"
        } else {
            "the proxy records the request: its own span stands for the caller's, the trace is the same"
        }
    } else if OBEYED.contains(&name) && part == "request" && between(1, 2) && new.is_empty() {
        "the rule that takes the request obeys it, and takes it away"
    } else if CARRIED.contains(&name) && !between(2, 3) {
        "HTTP/1 is carried between the proxies with it"
    } else if HOP.contains(&name) && either_http1 {
        "belongs to one connection of HTTP/1"
    } else if matches!(name, "content-length") && either_http1 {
        "the length is told as the protocol of that connection does"
    } else if matches!(name, "host" | ":authority" | ":scheme" | ":path") && either_http1 {
        "HTTP/1 and HTTP/2 say where a request goes in different fields"
    } else if name == ":scheme" && (old.is_empty() || new == [b"http".to_vec()]) {
        "a request without an authority gets the scheme http"
    } else if name == ":path" && without_fragment(old) == without_fragment(new) {
        "a path has no fragment"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn without_fragment(values: &[Vec<u8>]) -> Vec<&[u8]> {
    values
        .iter()
        .map(|value| value.split(|byte| *byte == b'#').next().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
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
        differences(diff)
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
        let between = &differences(&diff)[1];
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
            point(&[(":path", "/")], &[(":status", "200")]),
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
            [(":status".to_owned(), 1, true), ("l5d-proxy-error".to_owned(), 1, true)]
        );
    }
}
