//! `sheer scale`: another number of replicas.

use sheer_local::{
    client::Client,
    protocol::{Request, Target},
    workload::Reference,
};

use crate::{cli::Global, outcome::Outcome};

/// Flags of `sheer scale`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The number lasts until the manifest's own number changes, or the mesh ends.

Examples:
  sheer scale deploy/ledger --replicas 5
  sheer scale -n bank deploy/fx --replicas 0")]
pub(crate) struct Args {
    /// Workload, as deploy/web
    workload: Reference,
    /// How many
    #[arg(long)]
    replicas: u32,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Scales the workload.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let target = Target {
        namespace: args.namespace.clone(),
        reference: args.workload.clone(),
    };
    let done = Client::connect(&global.state()?)?.command(&Request::Scale {
        target,
        replicas: args.replicas,
    })?;
    eprintln!("sheer: {done}; follow it with `sheer ps`");
    Ok(Outcome::Healthy)
}
