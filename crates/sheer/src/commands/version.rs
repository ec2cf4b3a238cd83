//! `sheer version`.

use std::io::Write as _;

use crate::outcome::Outcome;

/// Flags of `sheer version`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  sheer version")]
pub(crate) struct Args {}

/// Prints the version of this binary.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Outcome> {
    writeln!(std::io::stdout(), "sheer {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Outcome::Healthy)
}
