//! `sheer-bench telemetry`: what it costs a request that sidecars tell the control plane of numbers and spans, or that they record frames (`--of recorder`).
//!
//! Two pairs of one mesh, measured in turn: one as sidecars are, one without. Each round gives a ratio, so that what else the machine does
//! falls on both, and rounds are short and many: what falls on one of them alone is then in few.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    h2load::LOADS,
    measure,
    peer::{Alone, sheer},
    runner::median,
};

/// What is left out on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    /// Numbers and spans for the control plane.
    Telemetry,
    /// The flight recorder, and with it the second opinion on every header block.
    Recorder,
}

impl Of {
    /// What it may cost, as a share of CPU a request.
    fn most(self) -> f64 {
        match self {
            Self::Telemetry => 1.10,
            Self::Recorder => 1.05,
        }
    }

    /// The mesh, with one pair that goes without.
    fn mesh(self) -> String {
        let mesh = include_str!("../telemetry.yaml");
        match self {
            Self::Telemetry => mesh.to_owned(),
            Self::Recorder => mesh.replace(
                r#"config.sheer.dev/telemetry: "false", config.sheer.dev/trace-control-plane: "false""#,
                r#"config.sheer.dev/recorder: "off""#,
            ),
        }
    }
}

/// Measures what telemetry and traces, or the recorder, cost in CPU a request.
#[derive(Args)]
pub(crate) struct Telemetry {
    /// What is left out on one side.
    #[arg(long, value_enum, default_value_t = Of::Telemetry)]
    of: Of,
    /// Rounds; each measures every load with and without.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// Requests of each measurement.
    #[arg(long, default_value_t = 12_000)]
    requests: u64,
    /// Folder of the binaries `sheer` and `sheer-proxy`; beside this program by default.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Exit code 1 where it costs more than it may: telemetry a tenth, the recorder a twentieth.
    #[arg(long)]
    check: bool,
}

impl Telemetry {
    pub(crate) fn run(&self) -> Result<()> {
        let alone = Alone::enter(self.bin.as_deref())?;
        let bring = alone.bring();
        let (_mesh, [loud, quiet]) = sheer::loud_and_quiet(&bring, &self.of.mesh())?;
        println!("{}, {} rounds of {} requests", loud.version, self.rounds, self.requests);
        println!("CPU of both sidecars, µs a request, median (the ratio is that of each round)");
        println!("{:<8}{:>8}{:>8}{:>8}{:>18}", "load", "on", "off", "ratio", "ratios");
        let mut missed = false;
        for load in LOADS {
            let (mut on, mut off, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..self.rounds {
                // Whoever is first has a warmer or a colder machine: they take turns.
                let pairs = if round % 2 == 0 {
                    [&loud, &quiet]
                } else {
                    [&quiet, &loud]
                };
                let samples = pairs.map(|pair| measure::closed(pair, load, self.requests));
                let [one, other] = samples;
                let (one, other) = (one?, other?);
                ensure!(one.errors + other.errors == 0, "requests failed");
                let (loud, quiet) = if round % 2 == 0 { (one, other) } else { (other, one) };
                on.push(loud.cpu());
                off.push(quiet.cpu());
                ratios.push(loud.cpu() / quiet.cpu());
            }
            let ratio = median(ratios.iter().copied());
            let (least, most) = ratios.iter().fold((f64::MAX, 0_f64), |(least, most), ratio| {
                (least.min(*ratio), most.max(*ratio))
            });
            println!(
                "{:<8}{:>8.1}{:>8.1}{ratio:>8.3}{:>18}",
                load.name,
                median(on.into_iter()),
                median(off.into_iter()),
                format!("{least:.3} to {most:.3}"),
            );
            missed |= ratio > self.of.most();
        }
        ensure!(
            !self.check || !missed,
            "{:?} costs more than {:.0} % of the CPU of a request",
            self.of,
            (self.of.most() - 1.0) * 100.0
        );
        Ok(())
    }
}
