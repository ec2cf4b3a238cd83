//! What differs between two points that follow each other, and whether Sheer says that it does that. Pure.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use sheer_api::v1::{Difference, PointView, RequestDiff, ShownField};

use super::by_route::ByRoute;

#[cfg(test)]
mod tests;

/// Between the proxies HTTP/1 travels in HTTP/2, with fields of its own (`docs/headers.md`).
const CARRIED: [&str; 5] = [
    "l5d-orig-proto",
    "sheer-h1-case",
    "sheer-h1-reason",
    "sheer-h1-target",
    "sheer-unserved",
];
/// How the names of HTTP/1 were spelt, between the proxies.
const CASE: &str = "sheer-h1-case";
/// Bytes of it at the most.
const MOST_SPELLINGS: usize = 4_096;
/// Fields of one connection of HTTP/1 (RFC 9110, 7.6.1).
const HOP: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
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

    /// Whether an answer was written to a client in a way behind which no trailers can follow (RFC 9112, 7.1.2).
    fn takes_no_trailers(&self) -> bool {
        let has_length = |field: &ShownField| field.name.eq_ignore_ascii_case("content-length");
        self.is_http1() && (self.view.http1_version == "HTTP/1.0" || self.view.response.iter().any(has_length))
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

    /// Whether `Connection` says that it is of one connection alone (RFC 9110, 7.6.1).
    fn is_named_by_connection(&self) -> bool {
        // Messages need these, whatever a client says of them.
        if ["host", "content-length", "te"].contains(&self.name) {
            return false;
        }
        let named = self
            .before
            .values("connection")
            .into_iter()
            .flat_map(|value| value.split(|byte| *byte == b','));
        let mut named = named.map(<[u8]>::trim_ascii);
        self.values_after().is_empty() && named.any(|named| named.eq_ignore_ascii_case(self.name.as_bytes()))
    }

    /// Whether all that is left of `TE` is what says that trailers are understood (RFC 9110, 10.1.4).
    fn keeps_trailers_of_te(&self) -> bool {
        let takes_trailers = |values: Vec<&[u8]>| {
            let mut all = values.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
            all.any(|one| {
                let name = one.split(|byte| *byte == b';').next().unwrap_or_default();
                name.trim_ascii().eq_ignore_ascii_case(b"trailers")
            })
        };
        self.name == "te" && takes_trailers(self.values_before()) == takes_trailers(self.values_after())
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

/// What a message consists of, with whether it goes back to the client.
const PARTS: [(&str, Part, bool); 5] = [
    ("request", |point| &point.request, false),
    ("request-trailers", |point| &point.request_trailers, false),
    ("interim", |point| &point.interim, true),
    ("response", |point| &point.response, true),
    ("response-trailers", |point| &point.response_trailers, true),
];

/// All differences, requests first, in the order of the points at which they show.
pub(super) fn differences(diff: &RequestDiff, by_route: &ByRoute) -> Vec<Difference> {
    let points = points(diff);
    let tapped = diff.outbound.as_ref().and_then(|view| view.tapped.as_ref());
    let sent_again = tapped.is_some_and(|tapped| tapped.attempts > 1);
    let mut all = Vec::new();
    for (part, fields, back) in PARTS {
        // Where a message is known that has none of these, that is known too.
        let optional = part.ends_with("trailers") || part == "interim";
        let mut at: Vec<At<'_>> = points
            .iter()
            .map(|(point, view)| At {
                point: *point,
                view,
                fields: fields(view),
            })
            .filter(|at| !at.fields.is_empty() || (optional && at.view.missing.is_empty()))
            .filter(|at| at.view.cut.iter().all(|cut| cut != part))
            .collect();
        if back {
            at.reverse();
        }
        for pair in at.windows(2) {
            let told = Told {
                made_up: back && is_made_up(diff, pair[1].point),
                sent_again,
            };
            all.extend(between(part, (&pair[0], &pair[1]), told, by_route));
        }
        let of_http1: Vec<&At<'_>> = at.iter().filter(|at| at.is_http1()).collect();
        for pair in of_http1.windows(2) {
            // From 4 to 1 either proxy may have made it up.
            let is_answer = |point: u32| (pair[1].point..=pair[0].point).contains(&point) && is_made_up(diff, point);
            if !(back && (is_answer(1) || is_answer(3))) {
                all.extend(spelt(part, (pair[0], pair[1]), &at));
            }
        }
    }
    all
}

/// How HTTP/1 writes what HTTP/2 has no way to say: the case of names, and the phrase behind a status. Between two points of HTTP/1, whatever lies between them.
fn spelt(part: &str, (before, after): (&At<'_>, &At<'_>), all: &[At<'_>]) -> Vec<Difference> {
    let within = before.point.min(after.point)..=before.point.max(after.point);
    let carried = |name: &str| {
        let fields = all
            .iter()
            .filter(|at| within.contains(&at.point))
            .flat_map(|at| at.fields);
        let lengths = fields.filter(|field| field.name == CASE).map(|field| field.value.len());
        lengths
            .max()
            .is_some_and(|length| length + 1 + name.len() > MOST_SPELLINGS)
    };
    // Where HTTP/2 lies between them, no point in between could show it.
    let unexplained = || {
        match before.point.abs_diff(after.point) {
        1 => unexplained(before.point, after.point),
        _ => "nothing that is documented does this: HTTP/2, which lies between these points, has no way to show where it happened".to_owned(),
    }
    };
    let difference = |field: String, [old, new]: [Vec<&str>; 2], why: Option<&str>| Difference {
        part: part.to_owned(),
        field,
        first_seen_at: after.point,
        documented: why.is_some(),
        before: old.into_iter().map(|text| text.as_bytes().to_vec()).collect(),
        after: new.into_iter().map(|text| text.as_bytes().to_vec()).collect(),
        why: why.map_or_else(unexplained, str::to_owned),
    };
    let names: BTreeSet<String> = before
        .fields
        .iter()
        .map(|field| field.name.to_ascii_lowercase())
        .collect();
    let mut found = Vec::new();
    for name in names {
        // Each connection writes its own.
        let is_own = HOP.contains(&&*name) || ["te", "content-length"].contains(&&*name);
        if is_own || before.values(&name) != after.values(&name) {
            continue;
        }
        let spellings = [before, after].map(|at| at.shown(&name).map(|field| &*field.name).collect::<Vec<_>>());
        if spellings[0] != spellings[1] {
            let why =
                carried(&name).then_some("spellings beyond 4 KiB of one message are not carried between the proxies");
            found.push(difference(name, spellings, why));
        }
    }
    let phrases = [before, after].map(|at| &*at.view.reason_phrase);
    if part == "response" && before.values(":status") == after.values(":status") && phrases[0] != phrases[1] {
        found.push(difference(
            "reason-phrase".to_owned(),
            phrases.map(|phrase| vec![phrase]),
            None,
        ));
    }
    found
}

/// What is known of a request beside its fields.
#[derive(Clone, Copy)]
struct Told {
    /// The answer at the later point is the proxy's own.
    made_up: bool,
    /// It went out more than once, and the points behind the outbound proxy show the last attempt.
    sent_again: bool,
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
fn between(part: &str, (before, after): (&At<'_>, &At<'_>), told: Told, by_route: &ByRoute) -> Vec<Difference> {
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
        let why = why.or_else(|| explain(&change, told).map(str::to_owned));
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
fn explain(change: &Change<'_>, Told { made_up, sent_again }: Told) -> Option<&'static str> {
    let is_of_answer = change.part.starts_with("response") && change.values_after().is_empty();
    if made_up && (is_of_answer || MADE_UP.contains(&change.name) || change.name == ":status") {
        return Some("the proxy made this answer up");
    }
    if change.part == "interim" && sent_again && change.is_between(1, 2) {
        return Some(
            "the request was sent more than once: interim responses of each attempt are passed on as they come",
        );
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
    } else if either_http1 && (HOP.contains(&name) || change.is_named_by_connection() || change.keeps_trailers_of_te())
    {
        Some("belongs to one connection of HTTP/1")
    } else if change.part == "interim" && new.is_empty() && change.after.view.http1_version == "HTTP/1.0" {
        Some("a client of HTTP/1.0 knows no interim responses")
    } else if change.part == "response-trailers" && new.is_empty() && change.after.takes_no_trailers() {
        Some("this client cannot take trailers: it speaks HTTP/1.0, or was told the length of the body")
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
