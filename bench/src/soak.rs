//! `sheer-bench soak`: many requests through one pair of sidecars, and what memory they hold after every 250,000.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{
    h2load::LOADS,
    measure::{self, Memory},
    peer::{Alone, Peer},
    runner::median,
};

/// Requests between two readings.
const STEP: u64 = 250_000;
/// Readings at either end that are compared; those at the beginning after as many more, in which caches and windows fill.
const ENDS: usize = 3;
/// What memory may differ by from beginning to end, in KiB: what an allocator gives back a little sooner or later.
const FLAT: f64 = 1024.0;

/// Sends many requests through a pair of sidecars: memory stays, and none fails.
#[derive(Args)]
pub(crate) struct Soak {
    /// Requests, in steps of 250,000; at least nine of them.
    #[arg(long, default_value_t = 10_000_000)]
    requests: u64,
    /// Folder of the binaries `sheer` and `sheer-proxy`; beside this program by default.
    #[arg(long)]
    bin: Option<PathBuf>,
}

impl Soak {
    pub(crate) fn run(&self) -> Result<()> {
        let steps = usize::try_from(self.requests / STEP)?;
        ensure!(
            steps >= 3 * ENDS,
            "too few requests to tell: at least {}",
            STEP * 3 * ENDS as u64
        );
        let alone = Alone::enter(self.bin.as_deref())?;
        let bring = alone.bring();
        let pair = bring.up(Peer::Sheer)?;
        println!("{}, {} requests", pair.version, STEP * steps as u64);
        println!(
            "{:>10}{:>12}{:>20}{:>20}",
            "requests", "requests/s", "outbound RSS MiB", "inbound RSS MiB"
        );
        let mut readings = Vec::new();
        for step in 0..steps {
            // Both loads in turn: connections come and go, few streams and many.
            let load = LOADS[step % LOADS.len()];
            let sample = measure::closed(&pair, load, STEP)?;
            ensure!(sample.errors == 0, "{} requests failed", sample.errors);
            let memory = Memory::of(&pair);
            println!(
                "{:>10}{:>12.0}{:>20.1}{:>20.1}",
                STEP * (step as u64 + 1),
                sample.rps,
                memory.outbound as f64 / 1024.0,
                memory.inbound as f64 / 1024.0
            );
            readings.push(memory);
        }
        for (half, of) in [
            ("outbound", (|memory| memory.outbound) as fn(&Memory) -> u64),
            ("inbound", |memory| memory.inbound),
        ] {
            let middle = |readings: &[Memory]| median(readings.iter().map(|memory| of(memory) as f64));
            let (begin, end) = (middle(&readings[ENDS..2 * ENDS]), middle(&readings[steps - ENDS..]));
            println!(
                "{half}: {:+.0} KiB from {ENDS} readings at the beginning to {ENDS} at the end",
                end - begin
            );
            ensure!(end - begin <= FLAT, "the {half} proxy's memory grows");
        }
        Ok(())
    }
}
