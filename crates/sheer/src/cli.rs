//! The tree of commands and what all of them take. To add a command: a module in `commands/`, a variant here, an arm in
//! [`Cli::run`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{commands, outcome::Outcome};

/// What to try first, below `sheer --help`.
const EXAMPLES: &str = "\
Examples:
  sheer demo                       the bank sample: the first thing to run
  sheer up -f manifests/           run manifests on this machine, with a sidecar beside each workload
  sheer ps                         what runs
  sheer exec deploy/web -- curl http://ledger:8080/
  sheer stat deploy -n bank          how each workload does
  sheer edges -n bank                who talks to whom
  sheer logs -f deploy/web
  sheer dashboard --open           the mesh as a web page
  sheer trace list --failed        requests that failed, each with its waterfall
  sheer policy explain --from deploy/web --to svc/ledger:8080
  sheer down                       end the mesh; nothing is left behind";

/// A service mesh that you can see through.
#[derive(Parser, Debug)]
#[command(name = "sheer", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// Directory of the local mesh's state, sockets and logs [default: $XDG_STATE_HOME/sheer or ~/.local/state/sheer]
    #[arg(long, global = true, env = "SHEER_STATE", value_name = "DIR", hide_env_values = true)]
    pub(crate) state: Option<PathBuf>,
    /// Token with which to look at traffic, narrower than what the mesh's owner may do (`sheer token`)
    #[arg(
        long,
        global = true,
        env = "SHEER_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
}

impl Global {
    /// The state directory that the flags, the environment and the defaults name.
    pub(crate) fn state(&self) -> anyhow::Result<sheer_local::state::State> {
        sheer_local::state::State::locate(self.state.clone()).map_err(Into::into)
    }

    /// For what a token never allows.
    pub(crate) fn must_own(&self) -> anyhow::Result<()> {
        crate::running::must_own(self.token.as_deref())
    }
}

/// Every command.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the bank sample on a mesh on this machine, with a live table of its services.
    Demo(commands::demo::Args),
    /// Run manifests on this machine, with a sidecar beside each workload.
    Up(commands::up::Args),
    /// End the local mesh; nothing is left behind.
    Down(commands::down::Args),
    /// Show what runs in the local mesh.
    Ps(commands::ps::Args),
    /// Run a command inside a pod of the local mesh.
    Exec(commands::exec::Args),
    /// Run a tool of this machine in the network of a pod.
    Debug(commands::debug::Args),
    /// Show and change what sidecars log.
    LogLevel(commands::log_level::Args),
    /// Print what workloads and sidecars wrote.
    Logs(commands::logs::Args),
    /// Replace the pods of a workload by new ones, without losing a request.
    Restart(commands::restart::Args),
    /// Change the number of replicas of a workload.
    Scale(commands::scale::Args),
    /// Look at the mesh point by point.
    Check(commands::check::Args),
    /// Serve the web page of the mesh: who calls whom, how it does, traces, policy.
    Dashboard(commands::dashboard::Args),
    /// Show the certificates that sidecars serve.
    Identity(commands::identity::Args),
    /// Show where traffic for a service may go.
    Endpoints(commands::endpoints::Args),
    /// Show why a request is treated as it is, and what a changed policy would do.
    Policy(commands::policy::Args),
    /// Show the routes that proxies follow, rule by rule, with live rates.
    Routes(commands::routes::Args),
    /// Show who may come in at a workload's ports, with live rates.
    Authz(commands::authz::Args),
    /// Write the packets of a workload to a file that Wireshark opens decrypted.
    Capture(commands::capture::Args),
    /// Show traces: where the time of a request went, and which hop failed.
    Trace(commands::trace::Args),
    /// Show how workloads, pods, services and routes do: success, rates, latencies, connections, mTLS.
    Stat(commands::stat::Args),
    /// Show who talks to whom, as whom, in which protocol, and how it is secured.
    Edges(commands::edges::Args),
    /// Watch requests by path, live.
    Top(commands::top::Args),
    /// Show what proxies hold.
    Config(commands::config::Args),
    /// Show every connection of a workload's proxies.
    Conns(commands::conns::Args),
    /// Show requests as they pass, as both proxies see them.
    Tap(commands::tap::Args),
    /// Show a request at the four points, and where they differ.
    Diff(commands::diff::Args),
    /// Show what connections said, frame by frame, also before a failure.
    Frames(commands::frames::Args),
    /// Make a token with which somebody may see a part, for a while.
    Token(commands::token::Args),
    /// Run the control plane.
    Control(commands::control::Args),
    /// Print a script that completes commands in a shell.
    Completion(commands::completion::Args),
    /// Print the versions of this command, the control plane and the proxies.
    Version(commands::version::Args),
    /// One of the processes of a local mesh.
    #[command(hide = true)]
    MeshProcess(commands::mesh_process::Args),
    /// What `sheer exec` is inside a pod, until it is the command.
    #[command(hide = true)]
    InPod(commands::in_pod::Args),
    /// The reader of `sheer capture` inside a pod.
    #[command(hide = true)]
    Packets(commands::packets::Args),
}

impl Command {
    /// What the command logs unless `SHEER_LOG` says otherwise.
    pub(crate) fn default_log(&self) -> &'static str {
        match self {
            Self::Control(_) => "info",
            _ => "warn",
        }
    }
}

impl Command {
    /// Name of the process, 15 bytes at most.
    pub(crate) fn process(&self) -> &'static str {
        match self {
            Self::Control(_) => "sheer-control",
            Self::MeshProcess(args) => args.process(),
            _ => "sheer",
        }
    }
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let Self { global, command } = self;
        match command {
            Command::Up(args) => commands::up::run(&args, &global),
            Command::Down(args) => commands::down::run(&args, &global),
            Command::Ps(args) => commands::ps::run(&args, &global),
            Command::Exec(args) => commands::exec::run(&args, &global),
            Command::Debug(args) => commands::debug::run(&args, &global),
            Command::LogLevel(args) => commands::log_level::run(&args, &global),
            Command::Logs(args) => commands::logs::run(&args, &global),
            Command::Restart(args) => commands::restart::run(&args, &global),
            Command::Scale(args) => commands::scale::run(&args, &global),
            Command::Control(args) => commands::control::run(args),
            Command::MeshProcess(args) => commands::mesh_process::run(&args),
            Command::Demo(args) => commands::demo::run(&args, &global),
            Command::Check(args) => commands::check::run(&args, &global),
            Command::Dashboard(args) => commands::dashboard::run(&args, &global),
            Command::Identity(args) => commands::identity::run(&args, &global),
            Command::Endpoints(args) => commands::endpoints::run(&args, &global),
            Command::Policy(args) => commands::policy::run(&args, &global),
            Command::Routes(args) => commands::routes::run(&args, &global),
            Command::Authz(args) => commands::authz::run(&args, &global),
            Command::Capture(args) => commands::capture::run(&args, &global),
            Command::InPod(args) => commands::in_pod::run(&args),
            Command::Packets(args) => commands::packets::run(&args),
            Command::Trace(args) => commands::trace::run(&args, &global),
            Command::Stat(args) => commands::stat::run(&args, &global),
            Command::Edges(args) => commands::edges::run(&args, &global),
            Command::Top(args) => commands::top::run(&args, &global),
            Command::Config(args) => commands::config::run(&args, &global),
            Command::Conns(args) => commands::conns::run(&args, &global),
            Command::Tap(args) => commands::tap::run(&args, &global),
            Command::Diff(args) => commands::diff::run(&args, &global),
            Command::Frames(args) => commands::frames::run(&args, &global),
            Command::Token(args) => commands::token::run(&args, &global),
            Command::Completion(args) => commands::completion::run(&args),
            Command::Version(args) => commands::version::run(&args, &global),
        }
    }
}
