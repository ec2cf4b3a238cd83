//! `sheer down`: ends a local mesh, and removes what one that did not end in order left on disk.

use std::time::{Duration, Instant};

use sheer_local::{
    client::{Client, ClientError},
    launch::{Stale, clean_up, wait_for_end},
    protocol::Request,
};

use crate::{cli::Global, outcome::Outcome, progress::Progress};

/// Flags of `sheer down`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Workloads get SIGTERM, then SIGKILL after five seconds. Nothing is left: no process, namespace, link, rule or socket. Logs and the mesh's
identity stay in the state directory.

Examples:
  sheer down
  sheer --state /tmp/second down")]
pub(crate) struct Args {}

/// Longest wait for a mesh that was told to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the mesh.
pub(crate) fn run(_args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let state = global.state()?;
    let mut progress = Progress::new();
    let started = Instant::now();
    match Client::connect(&state).and_then(|mut client| client.command(&Request::Down)) {
        Ok(_) => {
            progress.step("ending the mesh");
            anyhow::ensure!(
                wait_for_end(&state, PATIENCE)?,
                "the mesh has not ended after {} s: look at it with `sheer ps`, or kill its `sheer up`, with which everything ends",
                PATIENCE.as_secs()
            );
            say(
                &mut progress,
                &format!("the mesh has ended after {:.1} s", started.elapsed().as_secs_f64()),
            );
        }
        // A connection that broke: it is dying. One that was killed may be, too: its lock says so.
        Err(ClientError::NoMesh(_) | ClientError::Io(_)) => {
            anyhow::ensure!(
                wait_for_end(&state, PATIENCE)?,
                "the mesh in {} neither answers nor ends: kill its `sheer up`, with which everything ends",
                state.root().display()
            );
            let text = match clean_up(&state)? {
                Stale::Nothing => "no mesh was running",
                Stale::Removed => "no mesh was running; what the last one left was removed",
            };
            say(&mut progress, text);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Outcome::Healthy)
}

fn say(progress: &mut Progress, text: &str) {
    progress.done(text);
    if !crate::output::stderr_is_terminal() {
        eprintln!("sheer: {text}");
    }
}
