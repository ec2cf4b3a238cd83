//! `sheer debug`: the host's tools in the network of a workload.

use sheer_api::v1::EnterRequest;
use sheer_local::{protocol::Target, workload::Reference};

use crate::{cli::Global, outcome::Outcome, running::Mesh};

/// Flags of `sheer debug`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The command is one of this machine, with your files, environment and folder; its network is the pod's: interfaces, sockets, redirection. The workload
goes on as it was, and names of services are resolved as in the pod. (`sheer exec` runs inside the pod instead, with its files.) What the command sends goes
through the sidecar. Every use is in the audit record; a workload with sheer.dev/sight: disabled is not entered.

Examples:
  sheer debug deploy/web                        a shell
  sheer debug deploy/web -- ss -tnpi
  sheer debug -n bank deploy/ledger -- tshark -i any -f 'port 4143'
  sheer debug deploy/web -- nft list ruleset
  sheer debug deploy/web -- curl -sv http://ledger:8080/
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
    global.must_own()?;
    let mut command = args.command.clone();
    if command.is_empty() {
        command.push(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
    }
    let request = EnterRequest {
        workload: args.workload.to_string(),
        namespace: args.namespace.clone().unwrap_or_default(),
        command: command.first().cloned().unwrap_or_default(),
    };
    let state = global.state()?;
    sheer_local::exec::find(&state, target.clone())?;
    // Asked in a runtime that has ended before the pod is entered, which no process with a second thread can.
    crate::running::block_on(async { Mesh::find(global).await?.enter(request).await })?;
    sheer_local::exec::debug(&state, target, &command).map(Outcome::Code)
}
