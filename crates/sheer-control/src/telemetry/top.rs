//! `Stats.Top`: rates by path, while somebody looks.

use std::collections::BTreeMap;

use sheer_api::v1::{self, series_key::Direction};
use tonic::Status;

use super::{
    Windows, resolve,
    row::Party,
    select::{Selector, named},
    time::now_ms,
    totals::Totals,
};
use crate::{sight::hidden::Hidden, store::Snapshot};

const DEFAULT_WINDOW_MS: u64 = 10_000;
const LONGEST_WINDOW_MS: u64 = 60_000;
/// It takes so long at the most until every proxy looks at paths.
const BEGINNING_MS: i64 = 4_000;
/// In place of the path of requests that nobody may look at.
const HIDDEN: &str = "hidden (sheer.dev/sight: disabled)";
/// Paths of an answer: the busiest.
const MOST_PATHS: usize = 2_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PathKey {
    source: Party,
    destination: Party,
    service: Option<(Party, u16)>,
    method: String,
    path: String,
    outbound: bool,
}

impl PathKey {
    /// Only who talks with whom: such requests are counted, and not told apart.
    fn hide(&mut self) {
        self.method.clear();
        HIDDEN.clone_into(&mut self.path);
    }
}

#[derive(Debug)]
struct Found {
    totals: Totals,
    requests: Vec<u64>,
    failures: Vec<u64>,
    /// For how long its proxies were seen to look.
    span_ms: u64,
}

impl Found {
    fn new(seconds: usize) -> Self {
        Self {
            totals: Totals::default(),
            requests: vec![0; seconds],
            failures: vec![0; seconds],
            span_ms: 0,
        }
    }

    fn add(&mut self, path: &v1::PathDelta, second: usize) {
        self.totals.add_path(path);
        for status in &path.statuses {
            self.requests[second] += status.count;
            self.failures[second] += if status.success { 0 } else { status.count };
        }
    }
}

/// What to look at.
#[derive(Clone, Debug)]
pub(super) struct Look {
    what: Option<Selector>,
    to: Option<Selector>,
    window_ms: u64,
}

impl Look {
    pub(super) fn new(request: &v1::TopRequest) -> Result<Self, Status> {
        let window_ms = if request.window_ms == 0 {
            DEFAULT_WINDOW_MS
        } else {
            request.window_ms
        };
        Ok(Self {
            what: request.what.as_ref().map(Selector::of).transpose()?,
            to: request.to.as_ref().map(Selector::of).transpose()?,
            window_ms: window_ms.clamp(1_000, LONGEST_WINDOW_MS),
        })
    }
}

/// What went through in the last window. Of workloads that nobody may look at without methods and paths.
pub(super) fn top(windows: &Windows, (snapshot, hidden): (&Snapshot, &Hidden), look: &Look) -> v1::TopResponse {
    let to_ms = now_ms() / 1_000 * 1_000 - 1_000;
    let from_ms = to_ms - look.window_ms.cast_signed();
    let seconds = (look.window_ms / 1_000) as usize;
    // Proxies begin to look when somebody asks: a rate is of what was seen, not of the time before.
    let begun_ms = windows.watched_since_ms() + BEGINNING_MS;
    let is_fresh = begun_ms > from_ms;
    let mut found: BTreeMap<PathKey, Found> = BTreeMap::new();
    let mut proxies = 0;
    for source in windows.sources() {
        let source = source.lock();
        proxies += u32::from(source.streams > 0);
        let reports = source
            .paths
            .iter()
            .filter(|report| (from_ms..to_ms).contains(&report.at_ms));
        let mut reports: Vec<_> = reports.collect();
        if reports.first().is_some_and(|first| first.at_ms < begun_ms) {
            // Of a part of a second, which would show as a rate that is too low.
            reports.remove(0);
        }
        let Some(first) = reports.first() else { continue };
        // A report is of the second before its time.
        let seen_ms = (to_ms - first.at_ms).unsigned_abs().div_ceil(1_000).max(1) * 1_000;
        let span_ms = if is_fresh {
            seen_ms.min(look.window_ms)
        } else {
            look.window_ms
        };
        for report in reports {
            let second = (((report.at_ms - from_ms) / 1_000) as usize).min(seconds - 1);
            for path in &report.paths {
                let Some(mut key) = key(snapshot, look, &source.place, path) else {
                    continue;
                };
                if hidden.hides_path((&source.place.namespace, &source.place.pod), path) {
                    key.hide();
                }
                let found = found.entry(key).or_insert_with(|| Found::new(seconds));
                found.span_ms = found.span_ms.max(span_ms);
                found.add(path, second);
            }
        }
    }
    let span_ms = found
        .values()
        .map(|found| found.span_ms)
        .max()
        .unwrap_or(look.window_ms);
    let mut paths: Vec<_> = found.into_iter().map(|(key, found)| message(key, found)).collect();
    let requests = |path: &v1::PathStat| path.traffic.as_ref().map_or(0, |traffic| traffic.requests);
    paths.sort_by_key(|path| std::cmp::Reverse(requests(path)));
    paths.truncate(MOST_PATHS);
    v1::TopResponse {
        paths,
        window: Some(v1::Window {
            from_ms,
            to_ms,
            step_ms: 1_000,
            known_from_ms: to_ms - span_ms.cast_signed(),
        }),
        proxies,
    }
}

/// Each request once: by its client's proxy, or by its server's where that is what is looked at, or the only one.
fn key(snapshot: &Snapshot, look: &Look, place: &resolve::Place, path: &v1::PathDelta) -> Option<PathKey> {
    let outbound = path.direction() == Direction::Outbound;
    let own = place.party();
    let service = path.target.as_ref().and_then(resolve::service).filter(|_| outbound);
    let other = match (&path.peer, &service) {
        (Some(peer), _) => resolve::party(snapshot, peer),
        (None, Some((service, _))) => service.clone(),
        (None, None) => Party::new("host", "", &path.authority),
    };
    let is_mutual = path.peer.as_ref().is_some_and(|peer| peer.tls() == v1::Tls::Mutual);
    match &look.what {
        Some(what) if !what.means_place(place) => {
            // Of a client that is looked at, whose server tells: only where the client itself does not.
            if outbound || is_mutual || !what.means(&other) {
                return None;
            }
        }
        // Its client is looked at too, and tells.
        Some(what) if !outbound && is_mutual && what.means(&other) => return None,
        None if !outbound && is_mutual => return None,
        Some(_) | None => {}
    }
    let (source, destination) = if outbound { (own, other) } else { (other, own) };
    let goes_there = |to: &Selector| to.means(&destination) || !outbound && to.means_place(place);
    if !look.to.as_ref().is_none_or(goes_there) {
        return None;
    }
    Some(PathKey {
        source,
        destination,
        service,
        method: path.method.clone(),
        path: path.path.clone(),
        outbound,
    })
}

fn message(key: PathKey, found: Found) -> v1::PathStat {
    let seen_by = if key.outbound {
        Direction::Outbound
    } else {
        Direction::Inbound
    };
    v1::PathStat {
        source: Some(key.source.message()),
        destination: Some(key.destination.message()),
        service: key.service.map(|(service, port)| named(&service, &port.to_string())),
        method: key.method,
        path: key.path,
        traffic: Some(found.totals.message(found.span_ms)),
        seen_by: seen_by.into(),
        requests_by_second: found.requests,
        failures_by_second: found.failures,
    }
}
