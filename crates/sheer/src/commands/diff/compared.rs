//! Between which points a request could be compared: one of which nothing is recorded differs nowhere, and that says nothing. Pure.

use sheer_api::v1::{ExchangeView, PointView, RequestDiff};
use sheer_dashboard::wire::diff::{PARTS, points};

use super::Args;

/// Parts that are known at the same points.
struct Known {
    parts: Vec<&'static str>,
    at: Vec<usize>,
}

impl Known {
    fn is_compared(&self) -> bool {
        self.at.len() > 1
    }
}

/// What is known of a request, and where. Parts that nobody has are not there, but for the request itself.
fn known(request: &RequestDiff) -> Vec<Known> {
    let points = points(request);
    let mut all: Vec<Known> = Vec::new();
    for (part, fields) in PARTS {
        let is_whole = |point: &PointView| point.cut.iter().all(|cut| cut != part);
        let has = |point: &PointView| !fields(point).is_empty() && is_whole(point);
        if part != "request" && !points.into_iter().flatten().any(has) {
            continue;
        }
        // Where a message is known that has no trailers, or no interim responses, that is known too.
        let ends = part.ends_with("trailers") || part == "interim";
        let at = (1..).zip(points).filter_map(|(nth, point)| {
            let is_known = point.is_some_and(|point| has(point) || (ends && point.missing.is_empty()));
            is_known.then_some(nth)
        });
        let at: Vec<usize> = at.collect();
        match all.iter_mut().find(|known| known.at == at) {
            Some(known) => known.parts.push(part),
            None => all.push(Known { parts: vec![part], at }),
        }
    }
    all
}

/// The points of which at least one part was compared with another point's.
pub(super) fn points_compared(request: &RequestDiff) -> Vec<usize> {
    let compared = known(request).into_iter().filter(Known::is_compared);
    let mut points: Vec<usize> = compared.flat_map(|known| known.at).collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// What can be said behind the differences: that there is no other, and between which points. Nothing where all was compared and something differs.
pub(super) fn verdict(request: &RequestDiff, args: &Args) -> Vec<String> {
    let known = known(request);
    if !known.iter().any(Known::is_compared) {
        return vec![nothing(request, args)];
    }
    let differs = !request.differences.is_empty();
    let whole = known.iter().all(|known| known.at.len() == 4);
    match (whole, differs) {
        (true, true) => Vec::new(),
        (true, false) => vec!["no difference".to_owned()],
        (false, _) => known.iter().map(|one| line(one, known.len() > 1, differs)).collect(),
    }
}

fn line(known: &Known, names_parts: bool, differs: bool) -> String {
    let parts = known.parts.join(", ");
    if !known.is_compared() {
        let at = if known.at.is_empty() {
            "no point".to_owned()
        } else {
            format!("{} alone", named(&known.at))
        };
        return format!("{parts}: known at {at}, so there is nothing to compare");
    }
    let of = if names_parts {
        format!("{parts}: ")
    } else {
        String::new()
    };
    let other = if differs { "no other" } else { "no" };
    let rest: Vec<usize> = (1..=4).filter(|nth| !known.at.contains(nth)).collect();
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!("; {} could not be compared", named(&rest))
    };
    format!("{of}{other} difference between {}{rest}", named(&known.at))
}

/// Says that nothing could be compared, and what to do.
pub(super) fn nothing(request: &RequestDiff, args: &Args) -> String {
    let mut at: Vec<usize> = known(request).into_iter().flat_map(|known| known.at).collect();
    at.sort_unstable();
    at.dedup();
    let where_known = match &*at {
        [] => "no point of this request is recorded any more".to_owned(),
        [_] => format!("only {} is known", named(&at)),
        // Of one the request, of the other the answer.
        _ => format!("no part is known at more than one of {}", named(&at)),
    };
    let workload = workload(args);
    let views = [&request.outbound, &request.inbound];
    let next = if let Some(reason) = views.into_iter().flatten().find_map(answered_by_proxy) {
        format!("A proxy answered it ({reason}) and sent it nowhere: see `sheer tap {workload} --failed-only`")
    } else if args.failed {
        format!("Ask sooner after it failed, or see headers as they pass: `sheer tap {workload} -o wide`")
    } else {
        format!(
            "Ask sooner after the request, take one that failed (--failed: more is kept of those), or see headers as they pass: `sheer tap {workload} -o wide`"
        )
    };
    format!("nothing could be compared: {where_known}. {next}")
}

/// Why a proxy answered a request itself, without sending it on.
fn answered_by_proxy(view: &ExchangeView) -> Option<&str> {
    let exchange = view.exchange.as_ref()?;
    (exchange.upstream.is_none() && !view.reason.is_empty()).then_some(&view.reason)
}

/// The workload as the command line had it.
pub(super) fn workload(args: &Args) -> String {
    let workload = &args.of.workload;
    match &args.of.namespace {
        None => workload.clone(),
        Some(namespace) => format!("-n {namespace} {workload}"),
    }
}

/// `point 1`, `points 1 and 2`, `points 1, 2 and 4`.
fn named(points: &[usize]) -> String {
    let words: Vec<String> = points.iter().map(usize::to_string).collect();
    match &*words {
        [] => String::new(),
        [one] => format!("point {one}"),
        [first @ .., last] => format!("points {} and {last}", first.join(", ")),
    }
}
