//! `sheer exec`: runs a command inside a pod.

use sheer_local::{protocol::Target, workload::Reference};

use crate::{cli::Global, outcome::Outcome};

/// Flags of `sheer exec`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The command has the pod's address, names and rules: what it sends goes through the sidecar. It has the container's environment and folder, and your
terminal. The exit code is the command's.

Examples:
  sheer exec deploy/web -- curl -sv http://ledger:8080/
  sheer exec -n bank deploy/ledger -- bash
  sheer exec pod/web-6d9f4-0 -- nft list ruleset")]
pub(crate) struct Args {
    /// Workload or pod, as deploy/web
    workload: Reference,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// Container whose environment to use; the first where absent
    #[arg(short, long)]
    container: Option<String>,
    /// Command and arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    global.must_own()?;
    let target = Target {
        namespace: args.namespace.clone(),
        reference: args.workload.clone(),
    };
    sheer_local::exec::exec(&global.state()?, target, args.container.clone(), &args.command).map(Outcome::Code)
}
