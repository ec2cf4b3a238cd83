//! `sheer restart`: new pods in the place of those that run.

use sheer_local::{
    client::Client,
    protocol::{Request, Target},
    workload::Reference,
};

use crate::{cli::Global, outcome::Outcome};

/// Flags of `sheer restart`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A new pod is started and ready before an old one ends, so no request is lost.

Examples:
  sheer restart deploy/ledger
  sheer restart -n bank deploy/web")]
pub(crate) struct Args {
    /// Workload, as deploy/web
    workload: Reference,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Restarts the workload.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let target = Target {
        namespace: args.namespace.clone(),
        reference: args.workload.clone(),
    };
    let done = Client::connect(&global.state()?)?.command(&Request::Restart { target })?;
    eprintln!("sheer: {done}; follow it with `sheer ps`");
    Ok(Outcome::Healthy)
}
