//! `sheer demo`: the bank on a mesh on this machine, and a live table of what it does.

mod manifests;
mod rows;
mod screen;
mod watch;

use std::time::Duration;

use anyhow::Context as _;
use sheer_local::launch::{self, Event};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::Global;
use crate::ending::Ending;
use crate::outcome::Outcome;
use crate::output::{Format, print_json, tell};
use crate::page;
use crate::progress::Progress;
use crate::running::Mesh;
use crate::words;
use rows::{Final, Snapshot, Tally};
use screen::Screen;

/// Everything must be ready by then.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Time between two scrapes, and between two tables on a terminal.
const SCRAPE: Duration = Duration::from_secs(1);
/// Time between two tables elsewhere.
const REPRINT: Duration = Duration::from_secs(5);
/// What a live table shows: the last so many scrapes.
const WINDOW: usize = 10;

/// Flags of `sheer demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  sheer demo                        until Ctrl-C, with a table of what goes on
  sheer demo --for 30s              30 seconds from when everything is ready
  sheer demo --for 30s -o json      the same for programs: the final table as JSON; the exit code is 0 if every
                                    service is ready, above 99 % success and fully mTLS

While it runs, in another terminal:
  curl -d '{\"payer\":\"ACC-0001\",\"payee\":\"ACC-0002\",\"amount_minor\":1250,\"currency\":\"EUR\"}' \\
    http://127.0.0.1:18080/v1/payments
  sheer check
  sheer exec -n bank deploy/ledger -- bank fault local --latency 100ms")]
pub(crate) struct Args {
    /// End this long after everything was ready, as 30s or 5m [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = crate::words::duration)]
    lasting: Option<Duration>,
    /// Port of the dashboard on loopback; 0 for any that is free [default: 8084, or any where that is in use]
    #[arg(long)]
    port: Option<u16>,
    /// How the table is printed; `json` prints only the final one
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Starts the bank, shows it, and ends it.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let state = global.state()?;
    state.create()?;
    // The manifests of a demo that runs are its own, perhaps edited.
    launch::refuse_second(&state)?;
    find_bank()?;
    let folder = manifests::write(&state)?;
    let launch = crate::mesh::prepare(&state, std::slice::from_ref(&folder))?;
    crate::running::block_on(async {
        let mut mesh = launch::start(&launch, &state).await?;
        let outcome = Demo::new(Mesh::of(state.clone()), args, folder)
            .run(&mut mesh, global)
            .await;
        mesh.shut_down().await;
        while mesh.next_event().await.is_some() {}
        let code = mesh.finish().await?;
        anyhow::ensure!(
            code == 0 || outcome.is_err(),
            "the mesh has failed; why stands above, and what its control plane said last in `sheer logs control`"
        );
        outcome
    })
}

/// The sample is a program of its own, built beside this one.
fn find_bank() -> anyhow::Result<()> {
    let own = std::env::current_exe().context("this program cannot find itself")?;
    let bank = own.with_file_name("bank");
    anyhow::ensure!(
        bank.is_file(),
        "the sample is not at {}: `make build` builds it beside this program",
        bank.display()
    );
    Ok(())
}

/// A demo that runs.
struct Demo<'a> {
    mesh: Mesh,
    args: &'a Args,
    folder: std::path::PathBuf,
    screen: Screen,
    /// The last scrapes, and when they were.
    scrapes: std::collections::VecDeque<(Instant, Snapshot)>,
    /// Everything since the first scrape with everything ready: what an unattended demo is judged by.
    tally: Option<(Instant, Tally)>,
    /// When a table was shown last.
    drawn: Option<Instant>,
}

impl<'a> Demo<'a> {
    fn new(mesh: Mesh, args: &'a Args, folder: std::path::PathBuf) -> Self {
        let screen = Screen::new(args.output);
        Self {
            mesh,
            args,
            folder,
            screen,
            scrapes: std::collections::VecDeque::new(),
            tally: None,
            drawn: None,
        }
    }

    async fn run(&mut self, mesh: &mut launch::Mesh, global: &Global) -> anyhow::Result<Outcome> {
        let mut ending = Ending::listen()?;
        let limit = Instant::now() + START_LIMIT;
        let mut progress = Progress::new();
        let mut ready = false;
        while !ready {
            tokio::select! {
                biased; // the operator first
                () = ending.asked() => return self.finish(),
                event = mesh.next_event() => ready = starting(event, &mut progress)?,
                () = sleep_until(limit) => return self.never_ready().await,
            }
        }
        drop(progress);
        let page = page::bind(self.args.port).await?;
        let state = global.state.is_some().then(|| self.mesh.state().root());
        self.screen.header(&self.folder, &page.url()?, state);
        let (own, global) = (self.mesh.clone(), global.clone());
        // Ends with the runtime.
        tokio::spawn(async move { page.serve(&own, &global).await });
        let mut ticks = interval(SCRAPE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased; // the operator first
                () = ending.asked() => break,
                () = self.end() => break,
                event = mesh.next_event() => match event {
                    Some(event) => self.running(event)?,
                    None => return self.finish(), // somebody else has ended it
                },
                _ = ticks.tick() => self.scrape().await?,
            }
            anyhow::ensure!(
                self.tally.is_some() || Instant::now() < limit,
                "{}",
                self.missing().join("\n")
            );
        }
        self.scrape().await?;
        self.finish()
    }

    /// Returns at the end of an unattended demo.
    async fn end(&self) {
        match (self.args.lasting, &self.tally) {
            (Some(lasting), Some((start, _))) => sleep_until(*start + lasting).await,
            _ => std::future::pending().await,
        }
    }

    fn running(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Warning { text } | Event::Recovered { text } => self.screen.note(&text),
            Event::Failed { text } => anyhow::bail!("{text}"),
            Event::Progress { .. } | Event::Ready { .. } | Event::Publish { .. } => {}
        }
        Ok(())
    }

    async fn scrape(&mut self) -> anyhow::Result<()> {
        let snapshot = watch::snapshot(&self.mesh).await?;
        let now = Instant::now();
        match &mut self.tally {
            Some((_, tally)) => tally.add(&snapshot),
            None if snapshot.is_ready() => self.tally = Some((now, Tally::since(&snapshot))),
            None => {}
        }
        self.scrapes.push_back((now, snapshot));
        if self.scrapes.len() > WINDOW {
            self.scrapes.pop_front();
        }
        let due = self.screen.is_live() || self.drawn.is_none_or(|drawn| now - drawn >= REPRINT);
        if let (true, Some((since, earlier)), Some((until, later))) = (due, self.scrapes.front(), self.scrapes.back()) {
            let rows = rows::between(earlier, later, (*until - *since).as_secs_f64());
            self.screen.draw(&rows::table(&rows))?;
            self.drawn = Some(now);
        }
        Ok(())
    }

    /// Prints the final table: everything since all was ready. Unattended, it is judged.
    fn finish(&mut self) -> anyhow::Result<Outcome> {
        let (Some((since, tally)), Some((until, latest))) = (&self.tally, self.scrapes.back()) else {
            anyhow::ensure!(
                self.args.lasting.is_none(),
                "the demo was ended before everything was ready"
            );
            return Ok(Outcome::Healthy);
        };
        let duration_s = (*until - *since).as_secs_f64();
        let workloads = tally.rows(latest, duration_s);
        let failures = rows::failures(&workloads);
        if self.args.output == Format::Json {
            print_json(&Final { workloads, duration_s })?;
        } else {
            self.screen.last(&rows::table(&workloads), duration_s)?;
        }
        if self.args.lasting.is_none() {
            return Ok(Outcome::Healthy); // somebody was watching
        }
        for failure in &failures {
            tell(failure);
        }
        Ok(if failures.is_empty() {
            Outcome::Healthy
        } else {
            Outcome::Finding
        })
    }

    async fn never_ready(&mut self) -> anyhow::Result<Outcome> {
        if let Ok(snapshot) = watch::snapshot(&self.mesh).await {
            self.scrapes.push_back((Instant::now(), snapshot));
        }
        anyhow::bail!("{}", self.missing().join("\n"))
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = vec![format!(
            "the bank is not ready after {} s; while it starts, `sheer ps -o wide` says why. What lacks:",
            START_LIMIT.as_secs()
        )];
        if let Some((_, snapshot)) = self.scrapes.back() {
            missing.extend(snapshot.not_ready());
        }
        missing
    }
}

/// Whether the mesh is ready.
fn starting(event: Option<Event>, progress: &mut Progress) -> anyhow::Result<bool> {
    match event.context("the mesh ended while it started")? {
        Event::Progress { text } => progress.report(&text),
        Event::Warning { text } | Event::Recovered { text } => {
            progress.clear();
            tell(text);
        }
        Event::Ready { pods, millis } => {
            progress.done(&format!(
                "{} ready in {:.1} s",
                words::count(pods as u64, "pod"),
                millis as f64 / 1e3
            ));
            return Ok(true);
        }
        Event::Failed { text } => anyhow::bail!("{text}"),
        Event::Publish { .. } => {}
    }
    Ok(false)
}
