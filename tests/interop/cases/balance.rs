//! Of three replicas one becomes slow: it loses its traffic, and callers hardly notice.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sheer_testkit::mesh::pause;

use crate::{
    load::{Running, Shot, now, quantile},
    setup::Bench,
};

/// Requests a second.
const RATE: u32 = 200;
/// How much slower the slow one becomes.
const SLOWER_MS: u32 = 100;
/// By then it has lost its traffic.
const SETTLE_MS: u64 = 5_000;

pub(crate) fn slow_replica(bench: &mut Bench) -> Result<String> {
    let pods = bench.mesh.pods("deploy/replica")?;
    ensure!(pods.len() == 3, "{} replicas", pods.len());
    let slow = &pods[1];
    let delay = |ms: u32| {
        let url = format!("http://{}:7000/delay?ms={ms}", slow.ip);
        bench.shell(
            "client",
            &format!("curl -sS --fail --max-time 5 --http2-prior-knowledge '{url}'"),
        )
    };
    let load = Running::start(bench, RATE, 20)?;
    pause(Duration::from_secs(7));
    let slowed = now();
    delay(SLOWER_MS)?;
    let shots = load.finish();
    delay(0)?;
    let shots = shots?;
    let slow = slow.app.context("the slow replica does not run")?;
    let between = |from: u64, to: u64| -> Vec<Shot> {
        shots
            .iter()
            .filter(|shot| (from..to).contains(&shot.at))
            .copied()
            .collect()
    };
    // The first two seconds warm up.
    let healthy = between(shots[0].at + 2_000, slowed);
    let settled = between(slowed + SETTLE_MS, u64::MAX);
    let share = |shots: &[Shot]| shots.iter().filter(|shot| shot.pod == slow).count() as f64 / shots.len() as f64;
    let (before, after) = (typical_p99(&healthy), typical_p99(&settled));
    let text = format!(
        "share of the slow one {:.1} % → {:.1} %, p99 {:.1} → {:.1} ms",
        share(&healthy) * 100.0,
        share(&settled) * 100.0,
        before as f64 / 1000.0,
        after as f64 / 1000.0
    );
    let lost = shots.iter().filter(|shot| shot.lost()).count();
    ensure!(lost == 0, "{lost} requests were lost; {text}");
    ensure!(share(&healthy) > 0.15, "the slow one had no traffic to lose: {text}");
    ensure!(share(&settled) < 0.10, "the slow one keeps its traffic: {text}");
    ensure!(
        !settled.is_empty() && after <= 2 * before,
        "p99 more than doubled: {text}"
    );
    Ok(text)
}

/// The median of the p99s of each second, µs: where the slow one still had traffic every second would show it, while one moment in which the
/// machine did something else spoils one second only.
fn typical_p99(shots: &[Shot]) -> u64 {
    let mut seconds: BTreeMap<u64, Vec<Shot>> = BTreeMap::new();
    for shot in shots {
        seconds.entry(shot.at / 1000).or_default().push(*shot);
    }
    let mut p99s: Vec<u64> = seconds.values().map(|shots| quantile(shots, 0.99)).collect();
    p99s.sort_unstable();
    p99s.get(p99s.len() / 2).copied().unwrap_or(0)
}
