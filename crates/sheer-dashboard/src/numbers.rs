//! From the control plane's counts to what a page shows: rates, shares, quantiles. Pure.

use serde::Serialize;
use sheer_api::names::grpc_code_name;
use sheer_api::v1::{Edge, LatencyHistogram, StatusCount, Traffic};

/// Bucket `i` ends at 2^(i/8) ms.
const BUCKETS_PER_OCTAVE: f64 = 8.0;
/// What is shorter than its end is all in it.
const FIRST_BUCKET: f64 = -48.0;

/// What happened in a time. Null where there was nothing to measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Numbers {
    /// Requests that ended, and those that failed.
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) rps: f64,
    /// From 0 to 1.
    pub(crate) success: Option<f64>,
    /// By attempts at endpoints, where some were retried.
    pub(crate) actual_success: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) retries: u64,
    /// Retries that were not made, by the rule's limit or the destination's budget.
    pub(crate) retries_refused: u64,
    /// From 0 to 1: of requests, or of connections where there are none.
    pub(crate) mtls: Option<f64>,
    pub(crate) tcp_open: u64,
    pub(crate) tcp_opened: u64,
    pub(crate) tcp_failed: u64,
    /// Bytes a second, from the peer and to it.
    pub(crate) read_bps: f64,
    pub(crate) write_bps: f64,
}

impl Numbers {
    /// Of one count.
    pub(crate) fn of(traffic: Option<&Traffic>) -> Self {
        let Some(traffic) = traffic else {
            return Self::default();
        };
        let seconds = traffic.span_ms.max(1) as f64 / 1e3;
        let tcp = traffic.tcp.unwrap_or_default();
        let retried = traffic.retries > 0 || traffic.attempts > traffic.requests;
        Self {
            requests: traffic.requests,
            failures: traffic.requests.saturating_sub(traffic.successes),
            rps: traffic.requests as f64 / seconds,
            success: share(traffic.successes, traffic.requests),
            actual_success: share(traffic.attempt_successes, traffic.attempts).filter(|_| retried),
            p50: traffic.p50_ms,
            p95: traffic.p95_ms,
            p99: traffic.p99_ms,
            retries: traffic.retries,
            retries_refused: traffic.retries_limited + traffic.retries_over_budget,
            mtls: share(traffic.requests_secured, traffic.requests_with_peer)
                .or_else(|| share(traffic.connections_secured, tcp.opened)),
            tcp_open: tcp.open,
            tcp_opened: tcp.opened,
            tcp_failed: tcp.failed,
            read_bps: tcp.read_bytes as f64 / seconds,
            write_bps: tcp.written_bytes as f64 / seconds,
        }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part.min(whole) as f64 / whole as f64)
}

/// The sum of several counts of the same time, its quantiles from the summed histograms.
pub(crate) fn sum<'a>(parts: impl IntoIterator<Item = &'a Traffic>) -> Traffic {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return Traffic::default();
    };
    let mut total = first.clone();
    let mut more = false;
    for part in parts {
        add(&mut total, part);
        more = true;
    }
    if more {
        let latency = total.latency.clone().unwrap_or_default();
        [total.p50_ms, total.p95_ms, total.p99_ms] = [0.5, 0.95, 0.99].map(|q| quantile(&latency, q));
    }
    total
}

fn add(total: &mut Traffic, part: &Traffic) {
    total.span_ms = total.span_ms.max(part.span_ms);
    total.statuses.extend(part.statuses.iter().cloned());
    if let Some(latency) = &part.latency {
        add_latency(total.latency.get_or_insert_default(), latency);
    }
    let tcp = total.tcp.get_or_insert_default();
    let more = part.tcp.unwrap_or_default();
    let counts: [(&mut u64, u64); 15] = [
        (&mut total.requests, part.requests),
        (&mut total.successes, part.successes),
        (&mut total.attempts, part.attempts),
        (&mut total.attempt_successes, part.attempt_successes),
        (&mut total.retries, part.retries),
        (&mut total.retries_limited, part.retries_limited),
        (&mut total.retries_over_budget, part.retries_over_budget),
        (&mut total.requests_secured, part.requests_secured),
        (&mut total.requests_with_peer, part.requests_with_peer),
        (&mut total.connections_secured, part.connections_secured),
        (&mut tcp.opened, more.opened),
        (&mut tcp.closed, more.closed),
        (&mut tcp.failed, more.failed),
        (&mut tcp.open, more.open),
        (&mut tcp.read_bytes, more.read_bytes),
    ];
    for (sum, count) in counts {
        *sum += count;
    }
    tcp.written_bytes += more.written_bytes;
}

fn add_latency(total: &mut LatencyHistogram, part: &LatencyHistogram) {
    total.sum_micros += part.sum_micros;
    if part.counts.is_empty() {
        return;
    }
    if total.counts.is_empty() {
        total.first = part.first;
    }
    if part.first < total.first {
        let before = total.first.abs_diff(part.first) as usize;
        total.counts.splice(0..0, std::iter::repeat_n(0, before));
        total.first = part.first;
    }
    let offset = part.first.abs_diff(total.first) as usize;
    if total.counts.len() < offset + part.counts.len() {
        total.counts.resize(offset + part.counts.len(), 0);
    }
    for (sum, count) in total.counts[offset..].iter_mut().zip(&part.counts) {
        *sum += count;
    }
}

/// Milliseconds within which a share of the requests was answered. As the control plane has it, within a bucket counts are taken for evenly spread.
fn quantile(latency: &LatencyHistogram, q: f64) -> Option<f64> {
    let total: u64 = latency.counts.iter().sum();
    let rank = q * total as f64;
    let mut below = 0.0;
    for (i, count) in latency.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if below + count >= rank {
            let bucket = f64::from(latency.first) + i as f64;
            let end = (bucket / BUCKETS_PER_OCTAVE).exp2();
            let start = if bucket <= FIRST_BUCKET {
                0.0
            } else {
                ((bucket - 1.0) / BUCKETS_PER_OCTAVE).exp2()
            };
            let within = ((rank - below) / count).clamp(0.0, 1.0);
            return Some(start + (end - start) * within);
        }
        below += count;
    }
    None
}

/// How requests ended, the most frequent first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ending {
    /// As `200`, `503`, or the gRPC status as `14 UNAVAILABLE`.
    pub(crate) status: String,
    pub(crate) success: bool,
    /// Why a proxy ended it itself; mostly empty.
    pub(crate) reason: String,
    pub(crate) count: u64,
}

pub(crate) fn endings(statuses: &[StatusCount]) -> Vec<Ending> {
    let mut endings: Vec<Ending> = Vec::new();
    for status in statuses {
        let text = match status.grpc_status {
            Some(code) => format!("{code} {}", grpc_code_name(code).unwrap_or("?")),
            None if status.http_status == 0 => "no answer".to_owned(),
            None => status.http_status.to_string(),
        };
        let same = endings
            .iter_mut()
            .find(|ending| ending.status == text && ending.reason == status.error && ending.success == status.success);
        match same {
            Some(ending) => ending.count += status.count,
            None => endings.push(Ending {
                status: text,
                success: status.success,
                reason: status.error.clone(),
                count: status.count,
            }),
        }
    }
    endings.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.status.cmp(&b.status)));
    endings
}

/// Protocols that were spoken on these edges, each once.
pub(crate) fn protocols(edges: &[Edge]) -> Vec<String> {
    let mut spoken: Vec<String> = edges.iter().flat_map(|edge| edge.protocols.iter().cloned()).collect();
    spoken.sort_unstable();
    spoken.dedup();
    spoken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(requests: u64, successes: u64, first: i32, counts: &[u64]) -> Traffic {
        Traffic {
            span_ms: 10_000,
            requests,
            successes,
            latency: Some(LatencyHistogram {
                first,
                counts: counts.to_vec(),
                sum_micros: 0,
            }),
            ..Traffic::default()
        }
    }

    #[test]
    fn rates_and_shares() {
        let numbers = Numbers::of(Some(&traffic(50, 49, 0, &[50])));
        assert_eq!((numbers.rps, numbers.failures, numbers.success), (5.0, 1, Some(0.98)));
        let silent = Numbers::of(Some(&traffic(0, 0, 0, &[])));
        assert_eq!((silent.success, silent.mtls, silent.rps), (None, None, 0.0));
    }

    #[test]
    fn sums_have_the_quantiles_of_both() {
        // 8 is 2 ms, 80 is 1024 ms.
        let total = sum([&traffic(90, 90, 8, &[90]), &traffic(10, 5, 80, &[10])]);
        assert_eq!((total.requests, total.successes), (100, 95));
        let (p50, p99) = (total.p50_ms.unwrap(), total.p99_ms.unwrap());
        assert!((1.83..=2.0).contains(&p50), "{p50}");
        assert!((939.0..=1024.0).contains(&p99), "{p99}");
        let other_way = sum([&traffic(10, 5, 80, &[10]), &traffic(90, 90, 8, &[90])]);
        assert_eq!(other_way.p99_ms, total.p99_ms);
        assert_eq!(sum([]).p50_ms, None);
    }

    #[test]
    fn endings_are_told_apart_by_status_and_reason() {
        let status = |http_status, grpc_status, error: &str, count| StatusCount {
            http_status,
            grpc_status,
            success: error.is_empty(),
            error: error.to_owned(),
            count,
        };
        let endings = endings(&[
            status(200, None, "", 3),
            status(200, Some(7), "policy-denied", 9),
            status(200, None, "", 4),
        ]);
        let told: Vec<_> = endings
            .iter()
            .map(|e| (e.status.as_str(), e.reason.as_str(), e.count))
            .collect();
        assert_eq!(told, [("7 PERMISSION_DENIED", "policy-denied", 9), ("200", "", 7)]);
    }
}
