//! `sheer trace show`.

use std::io::{IsTerminal as _, Write as _};

use super::{json, waterfall};
use crate::{
    cli::Global,
    outcome::Outcome,
    output::{Format, print_json},
    running::Mesh,
};

/// Flags of `sheer trace show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A row is one hop: the caller's span, and in it what the callee's proxy and application took. -o wide has a row for each span, with times.
Exit code 1 where something in the trace failed.

Examples:
  sheer trace show 4bf92f3577b34da6a3ce929d0e0e4736
  sheer trace show 4bf92f -o wide
  sheer trace show 4bf92f -o json")]
pub(crate) struct Args {
    /// Id of the trace, or the start of it
    #[arg(value_name = "ID")]
    id: String,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Draws it.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let trace = crate::running::block_on(async { Mesh::find(global).await?.trace(&args.id).await })?;
    match args.output {
        Format::Json => print_json(&json::Whole::of(&trace))?,
        format => {
            let mut stdout = std::io::stdout();
            let text = waterfall::draw(&trace, format == Format::Wide, stdout.is_terminal());
            stdout.write_all(text.as_bytes())?;
        }
    }
    Ok(if trace.culprit >= 0 {
        Outcome::Finding
    } else {
        Outcome::Healthy
    })
}
