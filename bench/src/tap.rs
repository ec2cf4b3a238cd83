//! `sheer-bench tap`: what it costs that somebody watches with `sheer tap`. One pair of a mesh under closed load, in turn with a watcher that takes one request in
//! a hundred and without: its filter looks at all of them. What the control plane fetches of the other sidecar for each that is shown is in it. Then the same at
//! a rate that comes whatever happens, as a service's own requests do: how many of them are answered, and how late.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use sheer_testkit::mesh::Mesh;

use crate::{
    h2load::{LOADS, Load},
    measure::{self, Sample},
    open_loop::Latencies,
    peer::{Alone, Pair, sheer},
    process::{LOAD_CORE, Proc, pause, pin},
    runner::median,
};

/// What watching may cost, in CPU a request and in throughput.
const MOST: f64 = 1.05;
/// Of the requests.
const SHARE: f64 = 0.01;
/// Of those that are shown, as both sidecars saw them.
const JOINED: f64 = 0.95;
/// Seconds' worth of its rate that a watcher may be shown at once.
const AT_ONCE: f64 = 1.0;
/// Requests a second that come whatever happens, and for how many seconds.
const RATE: f64 = 20_000.0;
const SECONDS: f64 = 5.0;
/// Before each measurement: longer than that.
const REST: Duration = Duration::from_millis(1_200);
/// Requests that warm a measurement up, and that a watcher shows first.
const WARM_UP: u64 = 2_000;
/// Without a line when all are there.
const SETTLED: Duration = Duration::from_millis(300);
/// Until a watcher shows something.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures what `sheer tap` costs the requests of which it shows one in a hundred.
#[derive(Args)]
pub(crate) struct Tap {
    /// Rounds; each measures every load with and without.
    #[arg(long, default_value_t = 13)]
    rounds: usize,
    /// Requests of each measurement: some seconds of them, as the first of its seconds shows twice the rate.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Folder of the binaries `sheer` and `sheer-proxy`; beside this program by default.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Exit code 1 where it costs more than a twentieth.
    #[arg(long)]
    check: bool,
}

/// What one load showed, round by round.
struct Rounds<T> {
    watched: Vec<T>,
    alone: Vec<T>,
    shown: Vec<f64>,
    joined: Vec<f64>,
}

impl Tap {
    pub(crate) fn run(&self) -> Result<()> {
        let alone = Alone::enter(self.bin.as_deref())?;
        let bring = alone.bring();
        let (mesh, [pair, _]) = sheer::loud_and_quiet(&bring, include_str!("../telemetry.yaml"))?;
        println!("{}, {} rounds of {} requests", pair.version, self.rounds, self.requests);
        println!(
            "CPU of both sidecars, µs a request, and requests a second; medians (the ratios are those of each round)"
        );
        println!(
            "{:<8}{:>9}{:>9}{:>8}{:>10}{:>10}{:>8}{:>9}{:>9}",
            "load", "CPU tap", "CPU", "ratio", "rps tap", "rps", "ratio", "shown", "joined"
        );
        let mut missed = false;
        for load in LOADS {
            missed |= !self.as_fast_as_answered(&mesh, &pair, load)?.print(load.name);
        }
        println!(
            "{RATE} requests a second, answered or not, for {SECONDS} s on {} connections: how many were answered a second, and after how many µs; all rounds",
            LOADS[0].connections
        );
        println!(
            "{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "", "rps", "p50", "p99", "p99.9", "shown", "joined"
        );
        missed |= !self.as_they_come(&mesh, &pair, LOADS[0])?.print_latencies();
        ensure!(
            !self.check || !missed,
            "a tap of 1 % of the requests costs more than {:.0} % of their CPU, or of their throughput, or shows fewer than {:.0} % of them as both sidecars saw them",
            (MOST - 1.0) * 100.0,
            JOINED * 100.0
        );
        Ok(())
    }

    fn as_fast_as_answered(&self, mesh: &Mesh, pair: &Pair, load: Load) -> Result<Rounds<Sample>> {
        measure::closed(pair, load, self.requests)?;
        let rps = measure::closed(pair, load, self.requests)?.rps;
        self.in_turn((mesh, pair, load), (rps, self.requests), || {
            let sample = measure::closed(pair, load, self.requests)?;
            ensure!(sample.errors == 0, "requests failed");
            Ok(sample)
        })
    }

    fn as_they_come(&self, mesh: &Mesh, pair: &Pair, load: Load) -> Result<Rounds<Latencies>> {
        self.in_turn((mesh, pair, load), (RATE, (RATE * SECONDS) as u64), || {
            let latencies = measure::open(pair, load, RATE, SECONDS)?;
            ensure!(latencies.errors() == 0, "requests failed: {:?}", latencies.failures);
            Ok(latencies)
        })
    }

    /// Measures with a watcher and without in turn; so many requests, which come at about that rate.
    fn in_turn<T>(
        &self,
        (mesh, pair, load): (&Mesh, &Pair, Load),
        (rps, requests): (f64, u64),
        measure: impl Fn() -> Result<T>,
    ) -> Result<Rounds<T>> {
        let mut rounds = Rounds {
            watched: Vec::new(),
            alone: Vec::new(),
            shown: Vec::new(),
            joined: Vec::new(),
        };
        for round in 0..self.rounds {
            // Whoever is first has a warmer or a colder machine: they take turns.
            let order = if round % 2 == 0 { [true, false] } else { [false, true] };
            for is_watched in order {
                let watcher = Watcher::start(mesh, pair, load, (rps, requests))?;
                watcher.settled();
                // One that is gone by then leaves the same behind: a machine that has worked and waited.
                let watcher = is_watched.then_some(watcher);
                // All of its rate may come at once again.
                pause(REST);
                let before = watcher.as_ref().map(Watcher::shown).unwrap_or_default();
                let measured = measure()?;
                let Some(watcher) = watcher else {
                    rounds.alone.push(measured);
                    continue;
                };
                let Shown { ends, joined } = watcher.settled();
                let (ends, joined) = (ends - before.ends, joined - before.joined);
                let shown = ends as f64 / requests as f64;
                // A machine that is faster than it was has fewer seconds, and shows fewer.
                ensure!(shown > SHARE * 0.75, "only {:.2} % were shown", shown * 100.0);
                rounds.shown.push(shown);
                rounds.joined.push(joined as f64 / ends as f64);
                rounds.watched.push(measured);
            }
        }
        Ok(rounds)
    }
}

impl<T> Rounds<T> {
    /// Medians, in percent.
    fn shown_and_joined(&self) -> (f64, f64) {
        let percent = |of: &[f64]| median(of.iter().copied()) * 100.0;
        (percent(&self.shown), percent(&self.joined))
    }
}

impl Rounds<Sample> {
    /// Whether it is within what it may cost.
    fn print(&self, load: &str) -> bool {
        let of = |samples: &[Sample], figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        let pairs = || self.watched.iter().zip(&self.alone);
        let cpu = median(pairs().map(|(watched, alone)| watched.cpu() / alone.cpu()));
        let rps = median(pairs().map(|(watched, alone)| alone.rps / watched.rps));
        let (shown, joined) = self.shown_and_joined();
        println!(
            "{load:<8}{:>9.1}{:>9.1}{cpu:>8.3}{:>10.0}{:>10.0}{rps:>8.3}{shown:>8.2}%{joined:>8.1}%",
            of(&self.watched, Sample::cpu),
            of(&self.alone, Sample::cpu),
            of(&self.watched, |sample| sample.rps),
            of(&self.alone, |sample| sample.rps),
        );
        cpu <= MOST && rps <= MOST && joined >= JOINED * 100.0
    }
}

impl Rounds<Latencies> {
    /// The same of requests that came whatever happened.
    fn print_latencies(&self) -> bool {
        // Those that are answered late are answered in more time.
        let rps = |runs: &[Latencies]| {
            let a_second = |run: &Latencies| run.micros.len() as f64 / (SECONDS + f64::from(run.quantile(1.0)) / 1e6);
            median(runs.iter().map(a_second))
        };
        let print = |name: &str, runs: &[Latencies], rest: &str| {
            let all = Latencies::pool(runs);
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| all.quantile(q));
            println!("{name:<8}{:>9.0}{p50:>9}{p99:>9}{p999:>9}{rest}", rps(runs));
        };
        let (shown, joined) = self.shown_and_joined();
        print("tap", &self.watched, &format!("{shown:>8.2}%{joined:>8.1}%"));
        print("alone", &self.alone, "");
        rps(&self.alone) / rps(&self.watched) <= MOST && joined >= JOINED * 100.0
    }
}

/// `sheer tap`, whose output is read.
struct Watcher {
    _tap: Proc,
    ends: Arc<AtomicU64>,
    joined: Arc<AtomicU64>,
}

/// Requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    ends: u64,
    /// Of these, as both sidecars saw them.
    joined: u64,
}

impl Watcher {
    /// Takes one in a hundred of so many requests, which come at that rate, and has shown some.
    fn start(mesh: &Mesh, pair: &Pair, load: Load, (rps, requests): (f64, u64)) -> Result<Self> {
        let seconds = requests as f64 / rps;
        let rate = (requests as f64 * SHARE / (seconds + AT_ONCE)).ceil().to_string();
        let mut command = mesh.sheer(&["tap", "-n", "bench", "deploy/load", "-o", "json", "--rate", &rate]);
        let mut tap = Proc::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        pin(&[tap.pid()], LOAD_CORE)?;
        let out = BufReader::new(tap.stdout()?);
        let (ends, joined) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let counted = (Arc::clone(&ends), Arc::clone(&joined));
        std::thread::spawn(move || {
            // Three lines a request: its head, the head of the answer, the end.
            let lines = out.lines().map_while(Result::ok);
            for end in lines.filter(|line| line.contains(r#""kind":"end""#)) {
                counted.0.fetch_add(1, Relaxed);
                let is_joined = [r#""inbound":{"#, r#""outbound":{"#]
                    .iter()
                    .all(|view| end.contains(view));
                counted.1.fetch_add(u64::from(is_joined), Relaxed);
            }
        });
        let watcher = Self {
            _tap: tap,
            ends,
            joined,
        };
        let until = Instant::now() + PATIENCE;
        while watcher.shown() == Shown::default() {
            ensure!(Instant::now() < until, "`sheer tap` shows nothing within {PATIENCE:?}");
            measure::closed(pair, load, WARM_UP)?;
            pause(Duration::from_millis(50));
        }
        Ok(watcher)
    }

    fn shown(&self) -> Shown {
        Shown {
            ends: self.ends.load(Relaxed),
            joined: self.joined.load(Relaxed),
        }
    }

    /// The same when nothing comes any more: what is shown of a request waits for the other sidecar's view of it.
    fn settled(&self) -> Shown {
        loop {
            let shown = self.shown();
            pause(SETTLED);
            if self.shown() == shown {
                return shown;
            }
        }
    }
}
