//! `sheer dashboard`: serves the web page of the mesh that runs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Global;
use crate::outcome::Outcome;
use crate::page;
use crate::running::Mesh;

/// Flags of `sheer dashboard`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It listens on loopback only, changes nothing, and answers no other web page. From another machine: ssh -L 8084:127.0.0.1:8084 HOST.
The mesh may end and start again meanwhile. With a token (SHEER_TOKEN, --token) it shows the requests that the token allows, and nothing else.

Examples:
  sheer dashboard                 http://127.0.0.1:8084/ until Ctrl-C
  sheer dashboard --open          and show it in the browser
  sheer dashboard --port 0        at a port that is free; stdout says which")]
pub(crate) struct Args {
    /// Port of loopback; 0 for any that is free [default: 8084, or any where that is in use]
    #[arg(short, long)]
    port: Option<u16>,
    /// Show it in the browser
    #[arg(long)]
    open: bool,
}

/// Serves until it is told to end.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let served = page::bind(args.port).await?;
        let url = served.url()?;
        writeln!(std::io::stdout(), "{url}")?;
        eprintln!(
            "sheer: this is the dashboard of the mesh in {}; Ctrl-C ends it",
            mesh.state().root().display()
        );
        if args.open {
            open(&url);
        }
        tokio::select! {
            biased; // the operator first
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            ended = served.serve(&mesh, global) => ended.context("the dashboard has ended")?,
        }
        Ok(Outcome::Healthy)
    })
}

/// Asks the desktop to show an address. Where there is none, the address that was printed has to do.
fn open(url: &str) {
    let mut desktop = Command::new("xdg-open");
    desktop
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = desktop.spawn() {
        eprintln!("sheer: no browser can be opened (xdg-open: {error}); open {url} yourself");
    }
}
