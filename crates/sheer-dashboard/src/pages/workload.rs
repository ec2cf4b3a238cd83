//! One workload: its numbers over time, who calls it and whom it calls, its pods with their proxies.

use serde::Serialize;
use sheer_api::v1::selector::Kind;
use sheer_api::v1::series_key::Direction;
use sheer_api::v1::{
    EdgesRequest, Point, ProxiesRequest, ProxyStatus, Selector, SeriesOfResource, SeriesRequest, Stat, StatRequest,
    Window,
};

use super::{Sources, Span, map};
use crate::numbers::{self, Ending, Numbers};
use crate::problem::{Kind as ProblemKind, Problem};
use crate::query::Query;
use crate::resource::Id;

/// Points of a chart.
const POINTS: u64 = 180;
/// Services of a chart of what is called; more lines cannot be told apart.
const LINES: usize = 6;

#[derive(Debug, Serialize)]
pub(super) struct Workload {
    id: Id,
    namespace: String,
    kind: String,
    name: String,
    pods_total: u32,
    ready: u32,
    meshed: u32,
    direction: &'static str,
    window: Span,
    numbers: Numbers,
    endings: Vec<Ending>,
    protocols: Vec<String>,
    /// What arrived; what was sent where nothing arrives.
    inbound: Option<Lines>,
    /// What it sent, by service, the busiest first.
    outbound: Vec<Lines>,
    edges: Vec<map::Arrow>,
    pods: Vec<Pod>,
    notes: Vec<String>,
}

/// Columns of a chart. Null where nothing was measured.
#[derive(Debug, Serialize)]
struct Lines {
    name: String,
    /// Seconds since the Unix epoch.
    at: Vec<f64>,
    rps: Vec<Option<f64>>,
    failing: Vec<Option<f64>>,
    success: Vec<Option<f64>>,
    p50: Vec<Option<f64>>,
    p95: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    /// Bytes a second.
    read: Vec<Option<f64>>,
    written: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
struct Pod {
    name: String,
    ready: bool,
    meshed: bool,
    numbers: Numbers,
    /// Absent where its proxy does not report.
    proxy: Option<Proxy>,
}

#[derive(Debug, Serialize)]
struct Proxy {
    version: String,
    identity: String,
    /// Seconds since the Unix epoch; 0 before there is one.
    certificate_not_after: i64,
    started_ms: i64,
    connected: bool,
    last_seen_ms: i64,
    clock_ahead_ms: i64,
    overflowed: u64,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Workload, Problem> {
    let (id, window_ms) = (query.workload()?, query.window_ms()?);
    let stat = |what| {
        sources.control.stat(StatRequest {
            what,
            window_ms,
            ..StatRequest::default()
        })
    };
    let series = |what, from| {
        sources.control.series(SeriesRequest {
            what,
            from,
            window_ms,
            step_ms: window_ms / POINTS,
            ..SeriesRequest::default()
        })
    };
    let edges = sources.control.edges(EdgesRequest {
        what: id.selector(),
        window_ms,
        ..EdgesRequest::default()
    });
    let proxies = sources.control.proxies(ProxiesRequest {
        namespace: id.namespace.clone(),
    });
    let (own, pods, inbound, outbound, edges, proxies) = tokio::try_join!(
        stat(id.selector()),
        stat(all(Kind::Pod, &id.namespace)),
        series(id.selector(), None),
        series(all(Kind::Service, ""), id.selector()),
        edges,
        proxies
    )?;
    let stat = own.stats.into_iter().next().ok_or_else(|| unknown(&id))?;
    let traffic = stat.traffic.clone().unwrap_or_default();
    Ok(Workload {
        namespace: id.namespace.clone(),
        kind: id.kind.clone(),
        name: id.name.clone(),
        pods_total: stat.pods,
        ready: stat.pods_ready,
        meshed: stat.pods_meshed,
        direction: if stat.direction() == Direction::Outbound {
            "out"
        } else {
            "in"
        },
        window: Span::of(inbound.window),
        numbers: Numbers::of(Some(&traffic)),
        endings: numbers::endings(&traffic.statuses),
        protocols: numbers::protocols(&edges.edges),
        inbound: inbound.series.first().map(|series| lines(series, inbound.window)),
        outbound: busiest(&outbound.series)
            .into_iter()
            .map(|series| lines(series, outbound.window))
            .collect(),
        edges: map::arrows(&edges.edges, &edges.edges),
        pods: pods_of(&id, &pods.stats, &proxies.proxies),
        notes: own.notes,
        id,
    })
}

fn all(kind: Kind, namespace: &str) -> Option<Selector> {
    Some(Selector {
        kind: kind.into(),
        name: String::new(),
        namespace: namespace.to_owned(),
    })
}

fn unknown(id: &Id) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!("There is no {} in the namespace {}.", id.short(), id.namespace),
        "It may have been removed, or another mesh runs than the one of this link. The page Workloads lists what there is.",
    )
}

/// The services that were called most; those of which nothing was asked are left out.
fn busiest(series: &[SeriesOfResource]) -> Vec<&SeriesOfResource> {
    let load = |series: &SeriesOfResource| {
        series
            .points
            .iter()
            .map(|point| point.requests + point.connections_opened)
            .sum::<u64>()
    };
    let mut busy: Vec<_> = series.iter().filter(|series| load(series) > 0).collect();
    busy.sort_by_key(|series| std::cmp::Reverse(load(series)));
    busy.truncate(LINES);
    busy
}

fn lines(series: &SeriesOfResource, window: Option<Window>) -> Lines {
    let step_s = window.map_or(1, |window| window.step_ms).max(1) as f64 / 1e3;
    // Before the control plane began, nothing is known; that is not the same as nothing.
    let since_ms = window.map_or(0, |window| window.known_from_ms);
    let column = |of: fn(&Point) -> f64| {
        let points = series.points.iter();
        points
            .map(|point| (point.at_ms >= since_ms).then(|| of(point) / step_s))
            .collect()
    };
    let quantiles = |of: fn(&Point) -> Option<f64>| series.points.iter().map(of).collect();
    Lines {
        name: Id::of(series.resource.as_ref()).to_string(),
        at: series.points.iter().map(|point| point.at_ms as f64 / 1e3).collect(),
        rps: column(|point| point.requests as f64),
        failing: column(|point| point.requests.saturating_sub(point.successes) as f64),
        success: quantiles(|point| (point.requests > 0).then(|| point.successes as f64 / point.requests as f64)),
        p50: quantiles(|point| point.p50_ms),
        p95: quantiles(|point| point.p95_ms),
        p99: quantiles(|point| point.p99_ms),
        read: column(|point| point.read_bytes as f64),
        written: column(|point| point.written_bytes as f64),
    }
}

/// The workload's pods: by what their proxies say, and for pods without one by the names that controllers give.
fn pods_of(id: &Id, stats: &[Stat], proxies: &[ProxyStatus]) -> Vec<Pod> {
    let prefix = format!("{}-", id.name);
    let mut pods = Vec::new();
    for stat in stats {
        let pod = Id::of(stat.resource.as_ref());
        let proxy = proxies
            .iter()
            .find(|proxy| proxy.pod == pod.name && proxy.namespace == pod.namespace);
        let owner = proxy
            .map(|proxy| proxy.workload.as_str())
            .filter(|owner| !owner.is_empty());
        let own = match owner {
            Some(owner) => owner == id.short(),
            None => pod.name == id.name || is_replica(pod.name.strip_prefix(&prefix)),
        };
        if own {
            pods.push(Pod {
                name: pod.name,
                ready: stat.pods_ready > 0,
                meshed: stat.pods_meshed > 0,
                numbers: Numbers::of(stat.traffic.as_ref()),
                proxy: proxy.map(proxy_of),
            });
        }
    }
    pods
}

/// `0`, `7f9c5`, `6d4cf56db6-x7k2p`, `6d9f4-0`: what follows a workload's name, and not the rest of a longer one (`ledger-archive-0`). Generated words
/// have no vowels.
fn is_replica(rest: Option<&str>) -> bool {
    let parts: Vec<&str> = rest.map_or_else(Vec::new, |rest| rest.split('-').collect());
    let ordinal = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let generated = |part: &str| (4..=10).contains(&part.len()) && !part.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    match parts.as_slice() {
        [one] => ordinal(one) || generated(one),
        [hash, suffix] => generated(hash) && (ordinal(suffix) || generated(suffix)),
        _ => false,
    }
}

fn proxy_of(status: &ProxyStatus) -> Proxy {
    let reporter = status.reporter.clone().unwrap_or_default();
    Proxy {
        version: reporter.version,
        identity: reporter.identity,
        certificate_not_after: reporter.certificate_not_after,
        started_ms: reporter.started_ms,
        connected: status.connected,
        last_seen_ms: status.last_seen_ms,
        clock_ahead_ms: status.clock_ahead_ms,
        overflowed: status.overflowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_told_from_workloads_with_longer_names() {
        for replica in ["0", "12", "7f9c5", "6d4cf56db6-x7k2p", "6d9f4-0", "bcdfg"] {
            assert!(is_replica(Some(replica)), "{replica}");
        }
        for other in ["archive-0", "archive-6d4cf56db6-x7k2p", "gateway", ""] {
            assert!(!is_replica(Some(other)), "{other}");
        }
        assert!(!is_replica(None));
    }
}
