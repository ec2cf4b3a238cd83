//! The reader of packets that `sheer capture` runs inside pods (hidden).

use std::io::{self, BufWriter};

use sheer_local::packets::{self, Filter};

use crate::outcome::{Misuse, Outcome};

/// What is kept of them.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Bytes of each packet
    #[arg(long)]
    snap: usize,
    /// Which packets
    #[arg(long, default_value = "")]
    filter: String,
}

/// Writes records to stdout until it is ended.
pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let filter: Filter = args.filter.parse().map_err(|error| Misuse(format!("{error}")))?;
    // Unlocked: this is the only thread.
    let out = BufWriter::with_capacity(256 * 1024, io::stdout());
    packets::read_all(args.snap, &filter, out)?;
    Ok(Outcome::Healthy)
}
