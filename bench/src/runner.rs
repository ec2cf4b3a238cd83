//! `sheer-bench run`: brings every pair up, measures them in turn (so that noise of the machine falls on all alike), writes the results.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    certs,
    h2load::{LOADS, Load},
    marks,
    measure::{self, Memory, Sample},
    open_loop::Latencies,
    peer::{Bring, Pair, Peer},
    process, report, site,
};

/// Share of the closed-loop throughput at which latency is measured.
const OF_THE_KNEE: f64 = 0.5;
/// The open-loop generator's own limit: it shares a core with the server, and above this it measures itself.
const RATE_LIMIT: f64 = 15_000.0;

/// Runs the benchmark and writes its results.
#[derive(Args)]
pub(crate) struct Run {
    /// Fewer and shorter rounds, for development: under three minutes.
    #[arg(long)]
    quick: bool,
    /// What to measure; everything by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Folder of the binaries `sheer` and `sheer-proxy`; beside this program by default.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Envoy's binary.
    #[arg(long, default_value = "envoy")]
    envoy: PathBuf,
    /// Where to write the results.
    #[arg(long, default_value = "bench/results")]
    out: PathBuf,
    /// Exit code 1 where Sheer misses its marks.
    #[arg(long)]
    check: bool,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) requests: u64,
    pub(crate) open_seconds: f64,
    pub(crate) tcp_bytes: u64,
    pub(crate) connect_seconds: f64,
    pub(crate) idle: usize,
}

const FULL: Plan = Plan {
    rounds: 3,
    requests: 60_000,
    open_seconds: 4.0,
    tcp_bytes: 4 << 30,
    connect_seconds: 3.0,
    idle: 10_000,
};
const QUICK: Plan = Plan {
    rounds: 1,
    requests: 20_000,
    open_seconds: 2.0,
    tcp_bytes: 1 << 30,
    connect_seconds: 1.0,
    idle: 2_000,
};

/// All that was measured of one pair.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) peer: Peer,
    pub(crate) version: String,
    pub(crate) idle: Memory,
    pub(crate) busy: Memory,
    pub(crate) loads: Vec<Loaded>,
    pub(crate) tcp_gbit: Option<f64>,
    pub(crate) handshakes: Option<f64>,
    pub(crate) idle_connections: Option<Memory>,
}

/// One load on one pair.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) load: Load,
    pub(crate) samples: Vec<Sample>,
    /// Requests a second of the latency measurement.
    pub(crate) rate: f64,
    pub(crate) latencies: Latencies,
}

impl Loaded {
    /// Middle value of a figure over the rounds.
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of))
    }

    pub(crate) fn errors(&self) -> u64 {
        self.samples.iter().map(|sample| sample.errors).sum::<u64>() + self.latencies.errors()
    }
}

/// Middle value; 0 of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Run {
    pub(crate) fn run(&self) -> Result<()> {
        site::enter()?;
        let connections = raise_file_limit()?;
        let mut plan = if self.quick { QUICK } else { FULL };
        plan.idle = plan.idle.min(connections);
        let work = tempfile::Builder::new().prefix("sheer-bench.").tempdir()?;
        certs::write(work.path())?;
        std::fs::create_dir(work.path().join("www"))?;
        std::fs::write(work.path().join("www/f128"), [b'x'; 128])?;
        let site = site::Site::new()?;
        let bin = self
            .bin
            .clone()
            .or_else(|| Some(std::env::current_exe().ok()?.parent()?.to_owned()));
        let bin = bin.context("no folder of binaries")?;
        let bring = Bring {
            site: &site,
            work: work.path(),
            bin: &bin,
            envoy: &self.envoy,
        };
        let outcome = self.measure(&bring, plan);
        if outcome.is_err() {
            // The logs say why; the folder would go with this value.
            eprintln!("logs: {}", work.keep().display());
        }
        let measured = outcome?;
        report::write(&self.out, plan, &measured)?;
        let missed = marks::of(&measured).iter().filter(|mark| !mark.is_met()).count();
        ensure!(!self.check || missed == 0, "marks missed: {missed}");
        Ok(())
    }

    fn peers(&self) -> Vec<Peer> {
        if self.peers.is_empty() {
            return vec![Peer::Direct, Peer::Floor, Peer::Sheer, Peer::Envoy, Peer::Nghttpx];
        }
        self.peers.clone()
    }

    fn measure(&self, bring: &Bring<'_>, plan: Plan) -> Result<Vec<Measured>> {
        let _servers = bring.servers()?;
        let mut pairs = Vec::new();
        for peer in self.peers() {
            say(&format!("bringing up {}", peer.name()));
            pairs.push(bring.up(peer)?);
        }
        let mut measured: Vec<Measured> = pairs.iter().map(Measured::new).collect();
        for round in 1..=plan.rounds {
            for (n, load) in LOADS.iter().enumerate() {
                for (pair, measured) in pairs.iter().zip(&mut measured) {
                    say(&format!(
                        "round {round}/{}: {} {}",
                        plan.rounds,
                        load.name,
                        pair.peer.name()
                    ));
                    measured.closed(pair, n, plan)?;
                }
            }
        }
        for (n, load) in LOADS.iter().enumerate() {
            for (pair, measured) in pairs.iter().zip(&mut measured) {
                say(&format!("latency: {} {}", load.name, pair.peer.name()));
                measured.open(pair, n, plan)?;
            }
        }
        for (pair, measured) in pairs.iter().zip(&mut measured) {
            say(&format!("tcp: {}", pair.peer.name()));
            measured.tcp(pair, plan)?;
        }
        Ok(measured)
    }
}

impl Measured {
    fn new(pair: &Pair) -> Self {
        let loads = LOADS.map(|load| Loaded {
            load,
            samples: Vec::new(),
            rate: 0.0,
            latencies: Latencies::default(),
        });
        Self {
            peer: pair.peer,
            version: pair.version.clone(),
            idle: Memory::of(pair),
            busy: Memory::default(),
            loads: loads.into(),
            tcp_gbit: None,
            handshakes: None,
            idle_connections: None,
        }
    }

    fn closed(&mut self, pair: &Pair, load: usize, plan: Plan) -> Result<()> {
        let loaded = &mut self.loads[load];
        if loaded.samples.is_empty() {
            measure::closed(pair, loaded.load, plan.requests / 20)?; // warm
        }
        Memory::forget_peak(pair)?;
        loaded.samples.push(measure::closed(pair, loaded.load, plan.requests)?);
        self.busy = self.busy.max(Memory::peak(pair));
        Ok(())
    }

    fn open(&mut self, pair: &Pair, load: usize, plan: Plan) -> Result<()> {
        let loaded = &mut self.loads[load];
        loaded.rate = (loaded.median(|sample| sample.rps) * OF_THE_KNEE).min(RATE_LIMIT);
        Memory::forget_peak(pair)?;
        let rounds = (0..plan.rounds).map(|_| measure::open(pair, loaded.load, loaded.rate, plan.open_seconds));
        loaded.latencies = Latencies::pool(&rounds.collect::<Result<Vec<_>>>()?);
        for (what, count) in &loaded.latencies.failures {
            say(&format!("{count} failed: {what}"));
        }
        self.busy = self.busy.max(Memory::peak(pair));
        Ok(())
    }

    fn tcp(&mut self, pair: &Pair, plan: Plan) -> Result<()> {
        let rounds = (0..plan.rounds).map(|_| measure::tcp_gbit(pair, plan.tcp_bytes));
        let rounds = rounds.collect::<Result<Option<Vec<f64>>>>()?;
        self.tcp_gbit = rounds.map(|rounds| median(rounds.into_iter()));
        self.handshakes = measure::handshakes(pair, plan.connect_seconds)?;
        self.idle_connections = measure::idle_connections(pair, plan.idle)?;
        Ok(())
    }
}

/// Ten thousand connections are twenty thousand files in a proxy. Root may ask for them; others get what they may have, and so fewer
/// connections: the number that is returned.
fn raise_file_limit() -> Result<usize> {
    const WANTED: u64 = 65_536;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = if hard >= WANTED || setrlimit(Resource::RLIMIT_NOFILE, WANTED, WANTED).is_err() {
        hard
    } else {
        WANTED
    };
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    Ok((files as usize / 2).saturating_sub(200))
}

fn say(what: &str) {
    eprintln!("bench: {what} ({} cores)", process::cores());
}
