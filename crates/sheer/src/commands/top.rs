//! `sheer top`: requests by path, live. On a terminal a screen that is sorted, filtered and drilled into; elsewhere one table.
//!
//! * [`state`]: what is shown, and what keys do to it: pure.
//! * [`draw`]: how it looks.

mod draw;
mod state;

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde::Serialize;
use sheer_api::v1::{PathStat, TopRequest, TopResponse};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::{
    cli::Global,
    numbers::{ENOUGH, Rates as _, millis, percent, rate, resource, rounded, selector},
    outcome::Outcome,
    output::{Format, Table, Tone, print_json},
    running::{Mesh, proxies_asked},
    words,
};
use state::{Next, Top};

/// How long the keyboard is waited for before it is seen whether anybody still wants to know.
const KEYBOARD: Duration = Duration::from_millis(200);

/// Flags of `sheer top`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Sidecars look at paths only while this runs. Each request is shown once: as its client's sidecar saw it, or its server's where the client has none;
of a resource that is named, what goes out of it and what comes into it.

Keys: ↑ ↓ select · Enter look into a path · Esc back · ← → or s sort by another column · r reverse · / filter · p pause · q quit
Not on a terminal, one table of the last --window is printed.

Examples:
  sheer top -n bank
  sheer top deploy/gateway -n bank
  sheer top deploy/payments -n bank --to svc/ledger
  sheer top -n bank --window 5s -o json | jq '.[0]'")]
pub(crate) struct Args {
    /// What is looked at, as deploy/web; all where absent
    #[arg(value_name = "RESOURCE")]
    resource: Option<String>,
    /// Namespace; all where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only requests that go there
    #[arg(long, value_name = "RESOURCE")]
    to: Option<String>,
    /// What rates are of, up to 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = words::duration)]
    window: Duration,
    /// Only requests whose path, source or destination has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// How it is printed, where not on a terminal
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// One path, as programs read it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    source: String,
    destination: String,
    method: String,
    path: String,
    rps: f64,
    success_rate: Option<f64>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Shows requests.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = request(args)?;
    crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let mut client = mesh.stats().await?;
        let answers = proxies_asked(client.top(request)).await?;
        if args.output.is_none() && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            return watch(args, answers).await;
        }
        once(args, answers).await
    })
}

fn request(args: &Args) -> anyhow::Result<TopRequest> {
    let namespace = args.namespace.as_deref();
    let side = |reference: &Option<String>| -> anyhow::Result<_> {
        Ok(reference
            .as_deref()
            .map(|reference| selector(reference, namespace))
            .transpose()?)
    };
    let of_namespace = namespace
        .map(|namespace| selector(&format!("ns/{namespace}"), None))
        .transpose()?;
    Ok(TopRequest {
        what: side(&args.resource)?.or(of_namespace),
        to: side(&args.to)?,
        interval_ms: 0,
        window_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX),
    })
}

/// One table, once a whole window was looked at.
async fn once(args: &Args, mut answers: Streaming<TopResponse>) -> anyhow::Result<Outcome> {
    // Reports of the last second are still on their way.
    let until = tokio::time::Instant::now() + args.window + Duration::from_secs(3);
    let mut last = TopResponse::default();
    while let Some(answer) = answers
        .message()
        .await
        .map_err(|status| anyhow::anyhow!("{}", status.message()))?
    {
        last = answer;
        if tokio::time::Instant::now() >= until {
            break;
        }
    }
    let paths: Vec<_> = last
        .paths
        .iter()
        .filter(|path| state::fits(path, &args.filter))
        .collect();
    match args.output.unwrap_or_default() {
        Format::Json => print_json(&paths.iter().map(|path| row(path)).collect::<Vec<_>>())?,
        Format::Table | Format::Wide => table(&paths).print()?,
    }
    if paths.is_empty() {
        eprintln!(
            "sheer: no request went through in {}",
            crate::output::age(args.window.as_secs())
        );
    }
    Ok(Outcome::Healthy)
}

fn row(path: &PathStat) -> Row {
    let traffic = path.traffic.clone().unwrap_or_default();
    let hundredths = |millis: f64| (millis * 100.0).round() / 100.0;
    Row {
        source: resource(path.source.as_ref(), true),
        destination: resource(path.destination.as_ref(), true),
        method: path.method.clone(),
        path: path.path.clone(),
        rps: rounded(traffic.rps(), 2),
        success_rate: traffic.success_rate().map(|rate| rounded(rate, 4)),
        p50_ms: traffic.p50_ms.map(hundredths),
        p95_ms: traffic.p95_ms.map(hundredths),
        p99_ms: traffic.p99_ms.map(hundredths),
    }
}

/// A dash where nobody may see it.
fn method(path: &PathStat) -> &str {
    if path.method.is_empty() { "-" } else { &path.method }
}

fn table(paths: &[&PathStat]) -> Table {
    let mut table = Table::new([
        "SOURCE",
        "DESTINATION",
        "METHOD",
        "PATH",
        "RPS",
        "SUCCESS",
        "P50",
        "P95",
        "P99",
    ]);
    for path in paths {
        let traffic = path.traffic.clone().unwrap_or_default();
        let plain = |text: String| (text, Tone::Plain);
        table.toned([
            plain(resource(path.source.as_ref(), true)),
            plain(resource(path.destination.as_ref(), true)),
            plain(method(path).to_owned()),
            plain(path.path.clone()),
            plain(rate(traffic.rps())),
            percent(traffic.success_rate(), ENOUGH),
            millis(traffic.p50_ms),
            millis(traffic.p95_ms),
            millis(traffic.p99_ms),
        ]);
    }
    table
}

/// The live screen, until the operator has seen enough.
async fn watch(args: &Args, mut answers: Streaming<TopResponse>) -> anyhow::Result<Outcome> {
    let mut top = Top::new(args.filter.clone(), args.window);
    let mut events = keyboard();
    let mut terminal = ratatui::try_init().context("this terminal cannot be drawn on")?;
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| draw::draw(frame, &mut top)) {
            break Err(error.into());
        }
        tokio::select! {
            biased; // the operator first
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release && top.key(key) == Next::Quit => break Ok(()),
                Some(_) => {}
                None => break Ok(()),
            },
            answer = answers.message() => match answer {
                Ok(Some(answer)) => top.take(answer),
                Ok(None) => break Err(anyhow::anyhow!("the control plane has ended")),
                Err(status) => break Err(anyhow::anyhow!("the control plane says: {}", status.message())),
            },
        }
    };
    ratatui::restore();
    ended.map(|()| Outcome::Healthy)
}

/// Events of the terminal, read by a thread: it can only be waited for.
fn keyboard() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEYBOARD) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(event) => {
                        if sender.blocking_send(event).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    });
    receiver
}
