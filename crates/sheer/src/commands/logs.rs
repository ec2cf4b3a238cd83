//! `sheer logs`: what workloads and sidecars printed.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use sheer_local::{
    logs::{self, Entry, Follow, LogFile, Selection},
    pod::SIDECAR,
    state::State,
    workload::Reference,
};

use crate::{cli::Global, outcome::Outcome};

/// How often files are looked at for more.
const POLL: Duration = Duration::from_millis(200);

/// Flags of `sheer logs`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Logs stay readable after `sheer down`, until the next `sheer up`. The control plane's is `sheer logs control`.

Examples:
  sheer logs deploy/web
  sheer logs -f --tail 20 deploy/ledger      all replicas, as they print
  sheer logs deploy/ledger --proxy           the sidecars
  sheer logs deploy/ledger --app             all but the sidecars
  sheer logs control")]
pub(crate) struct Args {
    /// Workload or pod, as deploy/web; `control` is the control plane
    workload: Reference,
    /// Go on printing what is added, also by new pods
    #[arg(short, long)]
    follow: bool,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// Container; `sheer-proxy` is the sidecar; all containers where absent
    #[arg(short, long)]
    container: Option<String>,
    /// Only what sidecars wrote
    #[arg(long, conflicts_with_all = ["container", "app"])]
    proxy: bool,
    /// Only what applications wrote
    #[arg(long, conflicts_with = "container")]
    app: bool,
    /// Only the last lines of each log
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Print when each line was written
    #[arg(long)]
    timestamps: bool,
}

/// Prints the logs.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let state = global.state()?;
    let files = find(args, &state);
    anyhow::ensure!(
        !files.is_empty() || args.follow,
        "there is no log of {}: see what runs with `sheer ps`, or wait for it with --follow",
        args.workload
    );
    let mut followed = BTreeMap::new();
    let mut lines = Vec::new();
    for file in &files {
        // The end is taken before the lines are read, so that none falls between.
        if args.follow {
            followed.insert(file.path.clone(), (file.clone(), Follow::from_end(&file.path)?));
        }
        lines.extend(
            logs::read(&file.path, args.tail)?
                .into_iter()
                .map(|entry| (file.clone(), entry)),
        );
    }
    lines.sort_by(|a, b| a.1.time.cmp(&b.1.time));
    let printer = Printer {
        args,
        prefix: files.len() > 1,
    };
    printer.print(&lines)?;
    if args.follow {
        follow(args, &state, printer, followed)?;
    }
    Ok(Outcome::Healthy)
}

fn find(args: &Args, state: &State) -> Vec<LogFile> {
    if args.workload.kind.is_none() && args.workload.name == "control" {
        let path = state.logs().join("control.log");
        let names = ["sheer", "control", "control"].map(str::to_owned);
        let [namespace, pod, program] = names;
        return path
            .exists()
            .then(|| LogFile {
                namespace,
                pod,
                program,
                path: path.clone(),
            })
            .into_iter()
            .collect();
    }
    let selection = Selection {
        namespace: args.namespace.clone(),
        reference: args.workload.clone(),
        container: args
            .proxy
            .then(|| SIDECAR.to_owned())
            .or_else(|| args.container.clone()),
    };
    let mut files = logs::list(&state.logs(), &selection, SIDECAR);
    files.retain(|file| !(args.app && file.program == SIDECAR));
    files
}

fn follow(
    args: &Args,
    state: &State,
    mut printer: Printer<'_>,
    mut followed: BTreeMap<PathBuf, (LogFile, Follow)>,
) -> anyhow::Result<()> {
    loop {
        for file in find(args, state) {
            followed
                .entry(file.path.clone())
                .or_insert_with(|| (file.clone(), Follow::from_start(&file.path)));
        }
        printer.prefix |= followed.len() > 1;
        let mut lines = Vec::new();
        for (file, follow) in followed.values_mut() {
            lines.extend(follow.poll()?.into_iter().map(|entry| (file.clone(), entry)));
        }
        lines.sort_by(|a, b| a.1.time.cmp(&b.1.time));
        printer.print(&lines)?;
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only thread of this command has nothing else to do"
)]
fn pause() {
    std::thread::sleep(POLL);
}

struct Printer<'a> {
    args: &'a Args,
    prefix: bool,
}

impl Printer<'_> {
    fn print(&self, lines: &[(LogFile, Entry)]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (file, entry) in lines {
            if self.prefix {
                write!(out, "[{}/{}] ", file.pod, file.program)?;
            }
            if self.args.timestamps {
                write!(out, "{} ", entry.time)?;
            }
            write!(out, "{}{}", entry.text, if entry.whole { "\n" } else { "" })?;
        }
        out.flush()
    }
}
