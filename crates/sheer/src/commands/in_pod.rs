//! What `sheer exec` and `sheer debug` are inside a pod, for the moment before they are the command (hidden: nobody else calls it).

use crate::outcome::Outcome;

/// What to become.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Pod, for messages
    pod: String,
    /// Command and arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Becomes the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    sheer_local::exec::become_command(&args.pod, &args.command).map(Outcome::Code)
}
