//! `sheer trace`: traces that the control plane keeps, and one of them as a waterfall.

mod json;
mod list;
mod show;
mod waterfall;
mod words;

use crate::{cli::Global, outcome::Outcome};

/// Flags of `sheer trace`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List traces, the latest first.
    List(list::Args),
    /// Draw one trace as a waterfall.
    Show(show::Args),
}

/// Runs one of them.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::List(args) => list::run(args, global),
        Command::Show(args) => show::run(args, global),
    }
}

#[cfg(test)]
mod tests;
