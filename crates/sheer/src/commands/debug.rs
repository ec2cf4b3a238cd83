//! `sheer debug`: the host's tools in the network of a workload.

use sheer_local::{protocol::Target, workload::Reference};

use crate::{cli::Global, outcome::Outcome};

/// Flags of `sheer debug`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The command is one of this machine, with your files, environment and folder; its network is the pod's: interfaces, sockets, redirection. The workload
goes on as it was. (`sheer exec` runs inside the pod instead, with its names and files.) What the command sends goes through the sidecar.

Examples:
  sheer debug deploy/web                        a shell
  sheer debug deploy/web -- ss -tnpi
  sheer debug -n bank deploy/ledger -- tshark -i any -f 'port 4143'
  sheer debug deploy/web -- nft list ruleset
  sheer debug deploy/web -- ip -s link")]
pub(crate) struct Args {
    /// Workload or pod, as deploy/web
    workload: Reference,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// Command and arguments, after -- [default: your shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let target = Target {
        namespace: args.namespace.clone(),
        reference: args.workload.clone(),
    };
    let mut command = args.command.clone();
    if command.is_empty() {
        command.push(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
    }
    sheer_local::exec::debug(&global.state()?, target, &command).map(Outcome::Code)
}
