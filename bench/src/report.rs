//! The results as people read them (`latest.md`, `latest.svg`) and as programs do (`latest.json`).

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde::Serialize;

use crate::{
    marks,
    measure::{Memory, Sample},
    plot, process,
    runner::{Loaded, Measured, Plan},
};

/// `latest.json`.
#[derive(Serialize)]
struct Results<'a> {
    machine: String,
    runs: Vec<Entry<'a>>,
}

/// One peer under one load.
#[derive(Serialize)]
struct Entry<'a> {
    peer: &'a str,
    load: &'a str,
    cpu_us_outbound: f64,
    cpu_us_inbound: f64,
    rps: f64,
    p50_us: u32,
    p99_us: u32,
    p999_us: u32,
    rss_kib: u64,
    errors: u64,
}

/// Writes all three files and prints the table.
pub(crate) fn write(out: &Path, plan: Plan, measured: &[Measured]) -> Result<()> {
    fs::create_dir_all(out)?;
    let entries = measured
        .iter()
        .flat_map(|peer| peer.loads.iter().map(move |load| entry(peer, load)));
    let results = Results {
        machine: machine(),
        runs: entries.collect(),
    };
    fs::write(out.join("latest.json"), serde_json::to_string_pretty(&results)? + "\n")?;
    fs::write(out.join("latest.svg"), plot::draw(measured))?;
    let table = markdown(plan, measured);
    fs::write(out.join("latest.md"), &table)?;
    println!("{table}");
    Ok(())
}

fn entry<'a>(peer: &Measured, loaded: &'a Loaded) -> Entry<'a> {
    let round = |value: f64| (value * 100.0).round() / 100.0;
    Entry {
        peer: peer.peer.name(),
        load: loaded.load.name,
        cpu_us_outbound: round(loaded.median(|s| s.cpu_outbound)),
        cpu_us_inbound: round(loaded.median(|s| s.cpu_inbound)),
        rps: round(loaded.median(|s| s.rps)),
        p50_us: loaded.latencies.quantile(0.5),
        p99_us: loaded.latencies.quantile(0.99),
        p999_us: loaded.latencies.quantile(0.999),
        rss_kib: peer.busy.larger(),
        errors: loaded.errors(),
    }
}

fn markdown(plan: Plan, measured: &[Measured]) -> String {
    let mut text = format!("# Pairs of proxies, side by side\n\n{}\n\n", machine());
    let _ = writeln!(
        text,
        "Both proxies of a pair on one core, load generator and server on another; {} rounds of {} requests, interleaved; \
         128-byte responses; HTTP/2 in, mTLS HTTP/2 between, HTTP/2 out. Median, and lowest–highest of the rounds.\n",
        plan.rounds, plan.requests
    );
    for n in 0..measured.first().map_or(0, |m| m.loads.len()) {
        load_table(&mut text, n, measured);
    }
    memory_table(&mut text, plan, measured);
    text.push_str(&marks::table(&marks::of(measured)));
    text
}

fn load_table(text: &mut String, n: usize, measured: &[Measured]) {
    let Some(load) = measured.first().map(|m| m.loads[n].load) else {
        return;
    };
    let _ = writeln!(
        text,
        "## {}: {} connections, {} streams each\n\n\
         | pair | CPU µs a request, both hops | outbound | inbound | requests/s | rate of latency | p50 µs | p99 µs | p99.9 µs | max µs | errors |\n\
         |---|---|---|---|---|---|---|---|---|---|---|",
        load.name, load.connections, load.streams
    );
    for peer in measured {
        let loaded = &peer.loads[n];
        let range = |of: fn(&Sample) -> f64, digits: usize| {
            let values = loaded.samples.iter().map(of);
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
            format!("{:.digits$} ({low:.digits$}–{high:.digits$})", loaded.median(of))
        };
        let quantile = |q| loaded.latencies.quantile(q);
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {} | {:.0} | {} | {} | {} | {} | {} |",
            peer.peer.name(),
            range(Sample::cpu, 1),
            loaded.median(|s| s.cpu_outbound),
            loaded.median(|s| s.cpu_inbound),
            range(|s| s.rps, 0),
            loaded.rate,
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            loaded.errors()
        );
    }
    text.push('\n');
    for peer in measured {
        for (what, count) in &peer.loads[n].latencies.failures {
            let _ = writeln!(text, "Of {}'s errors {count}: {what}\n", peer.peer.name());
        }
    }
}

fn memory_table(text: &mut String, plan: Plan, measured: &[Measured]) {
    let _ = writeln!(
        text,
        "## Memory and opaque TCP\n\n\
         | pair | version | RSS idle MiB (out, in) | RSS busy MiB (out, in) | TCP Gbit/s | handshakes/s | RSS with {} idle connections MiB (out, in) |\n\
         |---|---|---|---|---|---|---|",
        plan.idle
    );
    let mib = |m: Memory| format!("{:.1}, {:.1}", m.outbound as f64 / 1024.0, m.inbound as f64 / 1024.0);
    for peer in measured {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            peer.peer.name(),
            peer.version,
            mib(peer.idle),
            mib(peer.busy),
            peer.tcp_gbit.map_or("–".into(), |gbit| format!("{gbit:.1}")),
            peer.handshakes.map_or("–".into(), |rate| format!("{rate:.0}")),
            peer.idle_connections.map_or("–".into(), mib)
        );
    }
    text.push('\n');
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, m)| m);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} cores {}, Linux {}", process::cores(), model, kernel.trim())
}
