//! A mesh of a thousand workloads, for six hours: what it costs to keep, and how long answers take.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use sheer_api::v1::{self, selector, series_key};

use super::super::{
    Windows, edges,
    row::{Party, RowKey, When},
    stat,
    time::{LONG, now_ms},
    windows::LIMIT,
};
use crate::{config::MeshConfig, store::Snapshot};

const WORKLOADS: usize = 1_000;
/// Services that each of them calls.
const CALLS: usize = 3;
const MIB: u64 = 1024 * 1024;

/// A report of requests at ten a second, with latencies as a service has them: most near the middle, some far off.
fn report(seed: u64, seconds: u64) -> v1::SeriesDelta {
    let requests = 10 * seconds;
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut counts = vec![0_u64; 64];
    for _ in 0..requests {
        // The sum of several dice is as good as a bell.
        let bucket: u64 = (0..6).map(|_| next() % 6).sum();
        let tail = if next() % 50 == 0 { 20 } else { 0 };
        counts[(bucket + tail) as usize % 64] += 1;
    }
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
    v1::SeriesDelta {
        statuses: vec![v1::StatusCount {
            http_status: 200,
            grpc_status: Some(0),
            success: true,
            count: requests,
            ..v1::StatusCount::default()
        }],
        latency: Some(v1::LatencyHistogram {
            first: first as i32 - 8,
            counts: counts[first..=last].to_vec(),
            sum_micros: 0,
        }),
        requests: Some(v1::RequestCounts {
            grpc: requests,
            attempts: requests,
            attempt_successes: requests,
            ..v1::RequestCounts::default()
        }),
        tcp: Some(v1::TcpCounts {
            read_bytes: 2_000 * requests,
            written_bytes: 1_500 * requests,
            open: 1,
            ..v1::TcpCounts::default()
        }),
        ..v1::SeriesDelta::default()
    }
}

fn workload(number: usize) -> Party {
    Party::new("deploy", &format!("team-{}", number % 20), &format!("service-{number}"))
}

/// What the proxy of a workload tells of: its clients, its servers, and the routes to those.
fn keys(number: usize) -> Vec<RowKey> {
    let peer = |direction, other: usize, tls| RowKey {
        direction,
        route: None,
        peer: Some(workload(other)),
        identity: format!("service-{other}.team.serviceaccount.identity.sheer.cluster.local").into(),
        tls,
        service: (direction == series_key::Direction::Outbound).then(|| (workload(other), 8080)),
    };
    (1..=CALLS)
        .flat_map(|step| {
            let (to, from) = (
                (number + step * 7) % WORKLOADS,
                (number + WORKLOADS - step * 7) % WORKLOADS,
            );
            let out = peer(series_key::Direction::Outbound, to, v1::Tls::Mutual);
            let route = RowKey {
                route: Some(super::super::row::RouteOf {
                    route: None,
                    rule: 0,
                    backend: Some(workload(to)),
                }),
                peer: None,
                tls: v1::Tls::Unspecified,
                ..out.clone()
            };
            [out, route, peer(series_key::Direction::Inbound, from, v1::Tls::Mutual)]
        })
        .collect()
}

/// Bytes that this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * 4096
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one scene: six hours of a large mesh, then the questions"
)]
fn a_thousand_busy_workloads_for_six_hours_are_kept_and_answered() {
    let (before, now) = (resident(), now_ms());
    let start = now - LONG.ms * i64::from(LONG.kept);
    let windows = Windows::new(LIMIT, start);
    let snapshot = Snapshot::of("", "");
    for number in 0..WORKLOADS {
        let source = windows.source(
            &snapshot,
            &format!("team-{}", number % 20),
            &format!("service-{number}-0"),
        );
        let mut source = source.lock();
        source.place.workload = Some(workload(number));
        source.streams = 1;
        for (place, key) in keys(number).iter().enumerate() {
            let seed = (number * 16 + place) as u64;
            // Six hours: up to the last ten minutes by the long windows alone, as their short ones are gone by now.
            for slot in 0..i64::from(LONG.kept) {
                let when = When {
                    at_ms: start + (slot + 1) * LONG.ms,
                    span_ms: 10_000,
                };
                source.add_long(key, &report(seed + slot as u64, 10), when);
            }
            let row = source.row(key).expect("room");
            for second in 0..600 {
                let at_ms = now - (600 - second) * 1_000;
                row.add_short(&report(seed + second as u64, 1), When { at_ms, span_ms: 1_000 });
            }
        }
    }
    windows.sweep(now);
    // To make it up took a while.
    windows.stopped_ms.store(now, Relaxed);
    let (held, grown) = (windows.bytes(), resident().saturating_sub(before));
    eprintln!(
        "{WORKLOADS} workloads, {} rows: {} MiB by the windows' own count, {} MiB resident; 10 s windows reach back {:.1} h",
        WORKLOADS * CALLS * 3,
        held / MIB,
        grown / MIB,
        (now - windows.known_from_ms()[1]) as f64 / 3.6e6,
    );
    assert!(held <= LIMIT, "{held}");
    assert!(grown < 500 * MIB, "{} MiB", grown / MIB);
    assert!(windows.known_from_ms()[1] <= start + 60_000, "six hours are kept");

    let config = MeshConfig::for_tests();
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let began = Instant::now();
        let found = work();
        let took = began.elapsed();
        eprintln!("{what}: {found} in {took:?}");
        // A debug build, and a machine that does other things too, may take some times as long.
        let patience = if cfg!(debug_assertions) { 10 } else { 1 };
        assert!(took < Duration::from_secs(patience), "{what} took {took:?}");
        found
    };
    let stat_of = |window_ms: u64| {
        let what = v1::Selector {
            kind: selector::Kind::Workload.into(),
            ..v1::Selector::default()
        };
        let request = v1::StatRequest {
            what: Some(what),
            window_ms,
            ..v1::StatRequest::default()
        };
        let stats = stat::stat(&windows, &snapshot, &config, &request)
            .expect("answered")
            .stats;
        let requests: u64 = stats
            .iter()
            .filter_map(|stat| stat.traffic.as_ref())
            .map(|traffic| traffic.requests)
            .sum();
        let seconds = window_ms / 1_000;
        let expected = (WORKLOADS * CALLS) as u64 * 10 * seconds;
        assert!(
            requests.abs_diff(expected) * 100 <= expected,
            "{requests} of {expected}"
        );
        stats.len()
    };
    assert_eq!(timed("stat of a minute", &|| stat_of(60_000)), WORKLOADS);
    assert_eq!(timed("stat of ten minutes", &|| stat_of(590_000)), WORKLOADS);
    assert_eq!(timed("stat of six hours", &|| stat_of(21_500_000)), WORKLOADS);
    let edges_of = || {
        let request = v1::EdgesRequest::default();
        edges::edges(&windows, &snapshot, &config, &request)
            .expect("answered")
            .edges
            .len()
    };
    assert_eq!(timed("edges of ten minutes", &edges_of), WORKLOADS * CALLS);
}

#[test]
fn where_memory_does_not_suffice_the_oldest_windows_go_and_answers_say_so() {
    let now = now_ms();
    let start = now - LONG.ms * i64::from(LONG.kept);
    let limit = 200 * 1024;
    let windows = Windows::new(limit, start);
    let snapshot = Snapshot::of("", "");
    let source = windows.source(&snapshot, "bank", "web-0");
    for key in keys(1) {
        for slot in 0..i64::from(LONG.kept) {
            let at_ms = start + (slot + 1) * LONG.ms;
            let when = When { at_ms, span_ms: 10_000 };
            source.lock().add_long(&key, &report(slot as u64, 10), when);
        }
    }
    windows.sweep(now);
    assert!(windows.bytes() <= limit, "{}", windows.bytes());
    let [_, known_from] = windows.known_from_ms();
    assert!(known_from > start + 3_600_000 && known_from < now, "{known_from}");
}

#[test]
fn what_is_over_is_forgotten() {
    let windows = Windows::new(LIMIT, 0);
    let snapshot = Arc::new(Snapshot::of("", ""));
    let (now, key) = (now_ms(), keys(1)[0].clone());
    {
        let source = windows.source(&snapshot, "bank", "gone-0");
        let mut closed = report(1, 1);
        closed.tcp = None;
        source.lock().add(
            &key,
            &closed,
            When {
                at_ms: now,
                span_ms: 1_000,
            },
        );
    }
    windows.sweep(now);
    assert_eq!(windows.sources().len(), 1);
    windows.sweep(now + LONG.ms * i64::from(LONG.kept) + 20_000);
    assert_eq!(windows.sources().len(), 0);
}
