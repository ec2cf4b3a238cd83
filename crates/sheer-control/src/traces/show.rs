//! A whole trace: every span in its place, where its time went, and which hop is at fault.

use std::collections::HashMap;

use sheer_api::v1::{Span, SpanKind, TimeShares, Trace as Shown, TraceSpan};

use super::{
    store::{SpanId, Stored, Trace, TraceId},
    summary::{bounds, culprit, summary},
};

/// Two clocks that differ by less are said to be the same.
const SKEW_TOLD_NS: i64 = 1_000_000;

/// A span while its place is looked for.
struct Placed<'a> {
    stored: &'a Stored,
    span: Span,
    parent: Option<usize>,
    by_wire: bool,
    /// Its parent is a span that the trace has none of.
    lost_parent: bool,
    /// What is added to its times, as its machine's clock differs from that of its caller's.
    shift: i64,
}

/// Puts a trace together.
pub(super) fn show(id: &TraceId, trace: &Trace) -> Shown {
    let mut placed = place(trace);
    let children = children(&placed);
    let roots: Vec<usize> = (0..placed.len()).filter(|at| placed[*at].parent.is_none()).collect();
    for root in &roots {
        level_clocks(&mut placed, &children, *root, 0);
    }
    let mut order = Vec::with_capacity(placed.len());
    roots.iter().for_each(|root| walk(*root, 0, &children, &mut order));
    let place_of: HashMap<usize, usize> = order.iter().enumerate().map(|(place, (at, _))| (*at, place)).collect();
    let (start, _) = bounds(trace);
    let guilty = culprit(trace).map(|span| span.id);
    let mut shown = Shown {
        summary: Some(summary(id, trace)),
        spans: Vec::with_capacity(order.len()),
        culprit: -1,
        notes: notes(&placed),
    };
    for (at, depth) in order {
        let one = &placed[at];
        if Some(one.stored.id) == guilty {
            shown.culprit = shown.spans.len() as i32;
        }
        let source = &one.stored.source;
        shown.spans.push(TraceSpan {
            parent: one
                .parent
                .and_then(|parent| place_of.get(&parent))
                .map_or(-1, |place| *place as i32),
            depth,
            namespace: source.namespace.clone(),
            pod: source.pod.clone(),
            workload: source.workload.clone(),
            service: source.service.clone(),
            offset_us: (signed(one.stored.start) - signed(start) + one.shift) / 1_000,
            duration_us: one.stored.end.saturating_sub(one.stored.start) / 1_000,
            shares: Some(shares(
                one,
                children.get(&at).into_iter().flatten().map(|child| &placed[*child]),
            )),
            joined_by_wire: one.by_wire,
            span: Some(one.span.clone()),
        });
    }
    shown
}

fn signed(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// Finds the parent of each span: the one that it names; else the other end of its stream; else, where an application recorded a span of its own
/// elsewhere, the request that its workload served then.
fn place(trace: &Trace) -> Vec<Placed<'_>> {
    let mut spans: Vec<&Stored> = trace.spans.iter().collect();
    spans.sort_by_key(|span| span.start);
    let by_id: HashMap<SpanId, usize> = spans.iter().enumerate().map(|(at, span)| (span.id, at)).collect();
    let parent_of = |at: usize| {
        let span = spans[at];
        let named = span.parent.and_then(|parent| by_id.get(&parent)).copied();
        let by_wire = || {
            let ends = spans
                .iter()
                .enumerate()
                .filter(|(_, other)| span.kind == SpanKind::Server && other.kind == SpanKind::Client);
            ends.into_iter()
                .find(|(_, other)| other.shares_stream(span))
                .map(|(at, _)| at)
        };
        let served = || {
            let around = |other: &Stored| other.start <= span.start && span.start <= other.end;
            let same_pod =
                |other: &Stored| other.source.pod == span.source.pod && other.source.namespace == span.source.namespace;
            (0..at)
                .rev()
                .find(|other| {
                    let other = spans[*other];
                    other.kind == SpanKind::Server && same_pod(other) && around(other)
                })
                .filter(|_| span.kind != SpanKind::Server && span.parent.is_some())
        };
        match named {
            Some(parent) => (Some(parent), false, false),
            None => match by_wire() {
                Some(parent) => (Some(parent), true, false),
                None => (served(), false, span.parent.is_some()),
            },
        }
    };
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(spans.len());
    for (at, stored) in spans.iter().enumerate() {
        let (parent, by_wire, lost_parent) = parent_of(at);
        placed.push(Placed {
            stored,
            span: stored.decode(),
            parent,
            by_wire,
            lost_parent,
            shift: 0,
        });
    }
    break_circles(&mut placed);
    placed
}

/// Ids are told by others: a span that is its own ancestor becomes a root.
fn break_circles(placed: &mut [Placed<'_>]) {
    for at in 0..placed.len() {
        let (mut next, mut steps) = (placed[at].parent, 0);
        while let Some(parent) = next {
            steps += 1;
            if parent == at || steps > placed.len() {
                placed[at].parent = None;
                break;
            }
            next = placed[parent].parent;
        }
    }
}

/// By parent, in the order of their start.
fn children(placed: &[Placed<'_>]) -> HashMap<usize, Vec<usize>> {
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, one) in placed.iter().enumerate() {
        if let Some(parent) = one.parent {
            children.entry(parent).or_default().push(at);
        }
    }
    children
}

fn walk(at: usize, depth: u32, children: &HashMap<usize, Vec<usize>>, order: &mut Vec<(usize, u32)>) {
    order.push((at, depth));
    for child in children.get(&at).into_iter().flatten() {
        walk(*child, depth + 1, children, order);
    }
}

/// A callee whose span is not within its caller's has another clock: its spans are moved into the middle, where the network took as long on the
/// way there as on the way back.
fn level_clocks(placed: &mut [Placed<'_>], children: &HashMap<usize, Vec<usize>>, at: usize, shift: i64) {
    placed[at].shift = shift;
    for child in children.get(&at).into_iter().flatten() {
        let (caller, callee) = (placed[at].stored, placed[*child].stored);
        let crosses = callee.kind == SpanKind::Server && caller.source.pod != callee.source.pod;
        let within = callee.start >= caller.start && callee.end <= caller.end;
        let long = |span: &Stored| signed(span.end) - signed(span.start);
        let own = if crosses && !within && long(callee) <= long(caller) {
            signed(caller.start) + (long(caller) - long(callee)) / 2 - signed(callee.start)
        } else {
            0
        };
        level_clocks(placed, children, *child, shift + own);
    }
}

fn event(span: &Span, name: &str) -> Option<u64> {
    span.events
        .iter()
        .find(|event| event.name == name)
        .map(|event| event.unix_ns)
}

/// Where the time of a span went. What the application does counts for it, with everything that it calls.
fn shares<'a>(one: &Placed<'_>, mut children: impl Iterator<Item = &'a Placed<'a>>) -> TimeShares {
    let whole = one.stored.end.saturating_sub(one.stored.start);
    // Without it nothing was sent: all of it was spent here.
    let own = event(&one.span, "sent").map_or(whole, |sent| sent.saturating_sub(one.stored.start).min(whole));
    let micros = |nanos: u64| nanos / 1_000;
    match one.stored.kind {
        SpanKind::Server => TimeShares {
            callee_proxy_us: micros(own),
            application_us: micros(whole - own),
            ..TimeShares::default()
        },
        SpanKind::Client => {
            let server = children.find(|child| child.stored.kind == SpanKind::Server);
            let Some(server) = server else {
                return TimeShares {
                    caller_proxy_us: micros(own),
                    network_us: micros(whole - own),
                    ..TimeShares::default()
                };
            };
            let there = server.stored.end.saturating_sub(server.stored.start).min(whole - own);
            let in_proxy =
                event(&server.span, "sent").map_or(there, |sent| sent.saturating_sub(server.stored.start).min(there));
            TimeShares {
                caller_proxy_us: micros(own),
                network_us: micros(whole - own - there),
                callee_proxy_us: micros(in_proxy),
                application_us: micros(there - in_proxy),
            }
        }
        SpanKind::Internal | SpanKind::Unspecified => TimeShares::default(),
    }
}

fn notes(placed: &[Placed<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    let lost = placed.iter().filter(|one| one.lost_parent).count();
    if lost > 0 {
        notes.push(format!(
            "{lost} of {} spans name a parent that is not here: a span of an application, or of a proxy that does not push to this control plane",
            placed.len()
        ));
    }
    let joined = placed.iter().filter(|one| one.by_wire).count();
    if joined > 0 {
        notes.push(format!(
            "{joined} spans were joined by connection and stream, as their requests carried no context"
        ));
    }
    let skew = placed
        .iter()
        .map(|one| one.shift)
        .max_by_key(|shift| shift.abs())
        .unwrap_or(0);
    if skew.abs() >= SKEW_TOLD_NS {
        let millis = skew as f64 / 1e6;
        notes.push(format!(
            "clocks of machines differ: spans were moved by up to {millis:.1} ms"
        ));
    }
    notes
}
