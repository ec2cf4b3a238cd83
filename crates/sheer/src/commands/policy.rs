//! `sheer policy`: why a request is treated as it is, and what a changed policy would do.

mod diff;
mod explain;

use clap::Subcommand;

use crate::cli::Global;
use crate::outcome::Outcome;

/// Flags of `sheer policy`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show every decision about a request, with the object and the line that made it, and what lost.
    Explain(explain::Args),
    /// Show what changed manifests would do to the traffic of the last minutes, before they are applied.
    Diff(diff::Args),
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Explain(args) => explain::run(args, global),
        Command::Diff(args) => diff::run(args, global),
    }
}
