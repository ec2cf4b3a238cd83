//! What differs between two points that follow each other, and whether Sheer says that it does that. Pure.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use sheer_api::v1::{Difference, PointView, RequestDiff, ShownField};

use super::by_route::ByRoute;

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
pub(super) struct At<'a> {
    pub(super) point: u32,
    pub(super) view: &'a PointView,
    pub(super) fields: &'a [ShownField],
}

/// A field that is not the same at two points.
pub(super) struct Change<'a> {
    pub(super) part: &'a str,
    /// In lower case.
    pub(super) name: &'a str,
    pub(super) before: &'a At<'a>,
    pub(super) after: &'a At<'a>,
}

impl<'a> At<'a> {
    /// What is shown under a name, in order.
    pub(super) fn shown(&self, name: &str) -> impl Iterator<Item = &'a ShownField> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
    }

    /// The values of a name, in order.
    pub(super) fn values(&self, name: &str) -> Vec<&'a [u8]> {
        self.shown(name).map(|field| field.value.as_slice()).collect()
    }

    fn is_http1(&self) -> bool {
        self.view.protocol == "http/1"
    }

    /// Everything here that names a host.
    pub(super) fn hosts(&self) -> HashSet<&'a [u8]> {
        let named = [":authority", "host"].into_iter().flat_map(|name| self.values(name));
        let of_target = self.values(":path").into_iter().filter_map(|target| split(target).0);
        named.chain(of_target).collect()
    }
}

impl Change<'_> {
    pub(super) fn values_before(&self) -> Vec<&[u8]> {
        self.before.values(self.name)
    }

    pub(super) fn values_after(&self) -> Vec<&[u8]> {
        self.after.values(self.name)
    }

    /// Whether it is between these two points, either way.
    pub(super) fn is_between(&self, one: u32, other: u32) -> bool {
        let points = (self.before.point, self.after.point);
        points == (one, other) || points == (other, one)
    }

    /// Whether it happened inside a proxy.
    fn is_within(&self) -> bool {
        self.is_between(1, 2) || self.is_between(3, 4)
    }

    fn is_either_http1(&self) -> bool {
        self.before.is_http1() || self.after.is_http1()
    }
}

/// Host and path of a request target, which is in absolute form at times (`http://web/a`). A path has no fragment.
fn split(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let target = target.split(|byte| *byte == b'#').next().unwrap_or_default();
    let mut schemes = [&b"http://"[..], b"https://"].into_iter();
    let Some(rest) = schemes.find_map(|scheme| target.strip_prefix(scheme)) else {
        return (None, target);
    };
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    (Some(host), if path.is_empty() { b"/" } else { path })
}

/// A target as `:path` has it. What no URI may have is percent-encoded there.
pub(super) fn path_of(target: &[u8]) -> Vec<u8> {
    let (_, path) = split(target);
    let mut encoded = Vec::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    encoded
}

/// One of the lists of fields that a point shows.
type Part = fn(&PointView) -> &[ShownField];

/// All differences, requests first, in the order of the points at which they show.
pub(super) fn differences(diff: &RequestDiff, by_route: &ByRoute) -> Vec<Difference> {
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
            all.extend(between(part, (&pair[0], &pair[1]), made_up, by_route));
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
fn between(part: &str, (before, after): (&At<'_>, &At<'_>), made_up: bool, by_route: &ByRoute) -> Vec<Difference> {
    let names: BTreeSet<String> = before
        .fields
        .iter()
        .chain(after.fields)
        .map(|field| field.name.to_ascii_lowercase())
        .collect();
    let mut all = Vec::new();
    for name in names {
        let change = Change {
            part,
            name: &name,
            before,
            after,
        };
        let (old, new) = (change.values_before(), change.values_after());
        if old == new {
            continue;
        }
        let why = by_route.explain(&change);
        let why = why.or_else(|| explain(&change, made_up).map(str::to_owned));
        let owned = |values: Vec<&[u8]>| values.into_iter().map(<[u8]>::to_vec).collect();
        all.push(Difference {
            part: part.to_owned(),
            field: name.clone(),
            first_seen_at: after.point,
            documented: why.is_some(),
            before: owned(old),
            after: owned(new),
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

/// Why Sheer does this, where `docs/headers.md` says that it does; what routes do is [`ByRoute`]'s to tell.
fn explain(change: &Change<'_>, made_up: bool) -> Option<&'static str> {
    if made_up && (MADE_UP.contains(&change.name) || change.name == ":status") {
        return Some("the proxy made this answer up");
    }
    if change.part == "request"
        && let Some(why) = of_requests(change)
    {
        return Some(why);
    }
    of_protocols(change)
}

/// What proxies write into requests, and take out of them.
fn of_requests(change: &Change<'_>) -> Option<&'static str> {
    let (name, old, new) = (change.name, change.values_before(), change.values_after());
    if name == "l5d-client-id" && change.is_between(3, 4) {
        Some("the inbound proxy tells the application who its client is")
    } else if name == "grpc-timeout" && change.is_within() && is_less_time(&old, &new) {
        Some("what remains of the caller's time")
    } else if TRACE.contains(&name) && change.is_within() && !new.is_empty() {
        Some(if old.is_empty() {
            "the trace begins at this proxy"
        } else {
            "the proxy records the request: its own span stands for the caller's, the trace is the same"
        })
    } else if OBEYED.contains(&name) && change.is_between(1, 2) && new.is_empty() {
        Some("the rule that takes the request obeys it, and takes it away")
    } else {
        None
    }
}

/// What one protocol says in another way than the other.
fn of_protocols(change: &Change<'_>) -> Option<&'static str> {
    let (name, old, new) = (change.name, change.values_before(), change.values_after());
    let either_http1 = change.is_either_http1();
    if CARRIED.contains(&name) && !change.is_between(2, 3) {
        Some("HTTP/1 is carried between the proxies with it")
    } else if HOP.contains(&name) && either_http1 {
        Some("belongs to one connection of HTTP/1")
    } else if name == "content-length" && either_http1 {
        Some("the length is told as the protocol of that connection does")
    } else if either_http1 && says_the_same(change) {
        Some("HTTP/1 and HTTP/2 say where a request goes in different fields")
    } else if name == ":scheme" && (old.is_empty() || new == [b"http"]) {
        Some("a request without an authority gets the scheme http")
    } else if name == ":path" && without_fragment(&old) == without_fragment(&new) {
        Some("a path has no fragment")
    } else if name == ":path" && old == [b""] && (new == [b"/"] || new == [b"*"]) {
        Some("an empty path becomes one that a server can read")
    } else {
        None
    }
}

/// Whether a field in which HTTP/1 and HTTP/2 differ still leads to the same place.
fn says_the_same(change: &Change<'_>) -> bool {
    let (old, new) = (change.values_before(), change.values_after());
    let paths = |values: &[&[u8]]| -> Vec<Vec<u8>> { values.iter().map(|value| path_of(value)).collect() };
    match change.name {
        ":scheme" => true,
        // CONNECT has a path in HTTP/1 alone.
        ":path" => old.is_empty() || new.is_empty() || paths(&old) == paths(&new),
        "host" | ":authority" => {
            let hosts = change.before.hosts();
            if new.is_empty() {
                old.iter().all(|host| change.after.hosts().contains(host))
            } else {
                new.iter().all(|host| hosts.contains(host))
            }
        }
        _ => false,
    }
}

/// Whether one timeout of gRPC became another that is no longer.
fn is_less_time(old: &[&[u8]], new: &[&[u8]]) -> bool {
    let one = |values: &[&[u8]]| match values {
        [value] => timeout(value),
        _ => None,
    };
    one(old).zip(one(new)).is_some_and(|(old, new)| new <= old)
}

/// A number of at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'n' => Some(Duration::from_nanos(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'S' => Some(Duration::from_secs(number)),
        b'M' => Some(Duration::from_secs(number.checked_mul(60)?)),
        b'H' => Some(Duration::from_secs(number.checked_mul(3_600)?)),
        _ => None,
    }
}

fn without_fragment<'a>(values: &[&'a [u8]]) -> Vec<&'a [u8]> {
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
