//! One measurement of one pair. What each figure means is said in `bench/README.md`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    h2load::{self, Load},
    open_loop::Latencies,
    peer::{PATH, Pair},
    process::{LOAD_CORE, Proc, cpu, forget_peak_rss, output, peak_rss_kib, rss_kib},
};

/// A closed-loop run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) cpu_outbound: f64,
    pub(crate) cpu_inbound: f64,
    pub(crate) rps: f64,
    pub(crate) errors: u64,
}

impl Sample {
    /// CPU time of both hops, µs a request.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu_outbound + self.cpu_inbound
    }
}

/// Resident memory of each half, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) outbound: u64,
    pub(crate) inbound: u64,
}

impl Memory {
    pub(crate) fn of(pair: &Pair) -> Self {
        Self {
            outbound: rss_kib(&pair.outbound),
            inbound: rss_kib(&pair.inbound),
        }
    }

    /// The most that each half had since [`Self::forget_peak`].
    pub(crate) fn peak(pair: &Pair) -> Self {
        Self {
            outbound: peak_rss_kib(&pair.outbound),
            inbound: peak_rss_kib(&pair.inbound),
        }
    }

    /// Begins anew to note the most.
    pub(crate) fn forget_peak(pair: &Pair) -> Result<()> {
        forget_peak_rss(&pair.outbound)?;
        forget_peak_rss(&pair.inbound)
    }

    /// The larger half: what one sidecar has to be given.
    pub(crate) fn larger(self) -> u64 {
        self.outbound.max(self.inbound)
    }

    /// The larger of two readings, each half apart.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            outbound: self.outbound.max(other.outbound),
            inbound: self.inbound.max(other.inbound),
        }
    }
}

/// CPU a request and throughput, as fast as the pair answers.
pub(crate) fn closed(pair: &Pair, load: Load, requests: u64) -> Result<Sample> {
    let before = [cpu(&pair.outbound), cpu(&pair.inbound)];
    let closed = h2load::run(pair.client, pair.http, &pair.authority, load, requests)?;
    let after = [cpu(&pair.outbound), cpu(&pair.inbound)];
    let micros = |n: usize| after[n].saturating_sub(before[n]).as_secs_f64() * 1e6 / closed.requests as f64;
    Ok(Sample {
        cpu_outbound: micros(0),
        cpu_inbound: micros(1),
        rps: closed.rps,
        errors: closed.errors,
    })
}

/// Latency at a rate that the pair does not choose.
pub(crate) fn open(pair: &Pair, load: Load, rate: f64, seconds: f64) -> Result<Latencies> {
    let mut command = tool(pair, "open-loop")?;
    command.args([
        "--addr",
        &pair.http.to_string(),
        "--uri",
        &format!("http://{}{PATH}", pair.authority),
    ]);
    command.args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
    command.args(["--connections", &load.connections.to_string()]);
    let text = output(&mut command, Duration::from_secs_f64(seconds + 20.0))?;
    serde_json::from_str(&text).context("output of open-loop")
}

/// Gbit/s through one opaque connection, every byte counted at the other end.
pub(crate) fn tcp_gbit(pair: &Pair, bytes: u64) -> Result<Option<f64>> {
    let Some(addr) = pair.tcp else { return Ok(None) };
    let mut command = tool(pair, "tcp-bulk")?;
    command.args(["--addr", &addr.to_string(), "--bytes", &bytes.to_string()]);
    Ok(Some(output(&mut command, Duration::from_secs(60))?.trim().parse()?))
}

/// Opaque connections a second, each with a full mTLS handshake between the halves.
pub(crate) fn handshakes(pair: &Pair, seconds: f64) -> Result<Option<f64>> {
    let Some(addr) = pair.tcp else { return Ok(None) };
    let mut command = tool(pair, "tcp-connect")?;
    command.args(["--addr", &addr.to_string(), "--seconds", &seconds.to_string()]);
    Ok(Some(
        output(&mut command, Duration::from_secs_f64(seconds + 35.0))?
            .trim()
            .parse()?,
    ))
}

/// Memory of each half with `count` opaque connections open and idle.
pub(crate) fn idle_connections(pair: &Pair, count: usize) -> Result<Option<Memory>> {
    let Some(addr) = pair.tcp.filter(|_| !pair.tcp_outbound.is_empty()) else {
        return Ok(None);
    };
    let mut command = tool(pair, "tcp-idle")?;
    command.args(["--addr", &addr.to_string(), "--count", &count.to_string()]);
    let mut holder = Proc::spawn(command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(holder.stdout()?).read_line(&mut line)?;
    anyhow::ensure!(
        line.trim() == count.to_string(),
        "{count} idle connections could not be opened"
    );
    Ok(Some(Memory {
        outbound: rss_kib(&pair.tcp_outbound),
        inbound: rss_kib(&pair.tcp_inbound),
    }))
}

/// One of this program's own tools, beside the client.
fn tool(pair: &Pair, name: &str) -> Result<std::process::Command> {
    let mut command = pair.client.command(LOAD_CORE, std::env::current_exe()?);
    command.arg(name);
    Ok(command)
}
