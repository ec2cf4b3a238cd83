//! `sheer up`: starts a local mesh and stays with it, or leaves it running.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    cli::Global,
    ending::Ending,
    mesh,
    outcome::Outcome,
    output::{self, tell},
    progress::Progress,
    words,
};
use anyhow::Context as _;
use sheer_local::{
    launch::{self, Event},
    state::State,
};

/// Flags of `sheer up`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Each replica of a Deployment, StatefulSet or Pod becomes a process in a network namespace of its own, with an address, DNS and a sidecar.
Images are not pulled: containers need a `command`, which starts in the current folder. Edits of the manifests take effect at once.

Examples:
  sheer up -f examples/bank/manifests/       run the sample; Ctrl-C ends it, and so does the end of its terminal
  sheer up -f bank/ -f extra.yaml --detach   come back when everything is ready; `sheer down` ends it
  sheer --state /tmp/second up -f web.yaml   a second mesh beside the first")]
pub(crate) struct Args {
    /// Manifest or folder of manifests; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "DIR|FILE", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Come back when everything is ready, and leave the mesh running
    #[arg(short, long)]
    detach: bool,
    /// With --detach: how many seconds to wait for everything to be ready
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "detach")]
    wait: u64,
    /// The half of --detach that stays
    #[arg(long, hide = true, conflicts_with = "detach")]
    background: bool,
}

/// Starts the mesh.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let state = global.state()?;
    if args.detach {
        return detach(args, &state);
    }
    if args.background {
        // Away from the terminal: its end must not be the mesh's.
        nix::unistd::setsid()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(attend(args, &state))
}

/// Starts the mesh and stays with it until it ends.
async fn attend(args: &Args, state: &State) -> anyhow::Result<Outcome> {
    let mut ending = Ending::listen()?;
    let launch = mesh::prepare(state, &args.filename)?;
    let mut mesh = launch::start(&launch, state).await?;
    let mut report = Reporter::new(args.background);
    let mut failed = false;
    let mut interrupts = 0;
    loop {
        tokio::select! {
            biased; // what the mesh says comes before what is done about it
            event = mesh.next_event() => match event {
                Some(event) => {
                    failed |= matches!(event, Event::Failed { .. });
                    report.show(&event)?;
                }
                None => break,
            },
            () = ending.asked() => interrupts += 1,
        }
        match interrupts {
            0 => {}
            1 => {
                report.say("ending the mesh (Ctrl-C again ends it at once)");
                mesh.shut_down().await;
            }
            // Dropping it kills its processes.
            _ => anyhow::bail!("the mesh was ended at once; `sheer down` removes what it left on disk"),
        }
    }
    let code = mesh.finish().await?;
    report.say("the mesh has ended");
    Ok(if failed || code != 0 {
        Outcome::Finding
    } else {
        Outcome::Healthy
    })
}

/// Says what happens: to people on stderr, to the waiting half of `--detach` as JSON on stdout.
struct Reporter {
    json: bool,
    progress: Progress,
}

impl Reporter {
    fn new(json: bool) -> Self {
        Self {
            json,
            progress: Progress::new(),
        }
    }

    fn show(&mut self, event: &Event) -> anyhow::Result<()> {
        if self.json {
            let mut line = serde_json::to_vec(event)?;
            line.push(b'\n');
            // Nobody reads any more once the other half has come back.
            let _ = std::io::stdout().write_all(&line);
        }
        match event {
            Event::Progress { text } => self.progress.report(text),
            Event::Warning { text } | Event::Recovered { text } => self.line(text),
            Event::Ready { pods, millis } => {
                self.say(&format!(
                    "{} {} ready after {:.1} s; see them with `sheer ps`",
                    words::count(*pods as u64, "pod"),
                    if *pods == 1 { "is" } else { "are" },
                    *millis as f64 / 1000.0
                ));
            }
            Event::Failed { text } => self.line(&format!("the mesh cannot run: {text}")),
            Event::Publish { .. } => {}
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.progress.done(text);
        if !output::stderr_is_terminal() {
            tell(text);
        }
    }

    fn line(&mut self, text: &str) {
        self.progress.clear();
        tell(text);
    }
}

/// Starts this program again in the background and waits until it says that everything is ready.
fn detach(args: &Args, state: &State) -> anyhow::Result<Outcome> {
    mesh::prepare(state, &args.filename)?;
    state.create()?;
    // Its log is the running mesh's.
    launch::refuse_second(state)?;
    let log = state.logs().join("supervisor.log");
    let stderr = std::fs::File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("sheer")
        .arg("--state")
        .arg(state.root())
        .args(["up", "--background"]);
    for path in &args.filename {
        command.arg("-f").arg(path);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .context("the mesh cannot be started")?;
    let stdout = child.stdout.take().context("a pipe to the mesh")?;
    let (sender, events) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str::<Event>(&line)
                && sender.send(event).is_err()
            {
                return;
            }
        }
    });
    wait(&events, Duration::from_secs(args.wait), &log)
}

fn wait(
    events: &std::sync::mpsc::Receiver<Event>,
    patience: Duration,
    log: &std::path::Path,
) -> anyhow::Result<Outcome> {
    let (mut report, until) = (Reporter::new(false), std::time::Instant::now() + patience);
    let mut waiting = String::from("the mesh starts");
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        match events.recv_timeout(left) {
            Ok(event) => {
                report.show(&event)?;
                match event {
                    Event::Ready { .. } => return Ok(Outcome::Healthy),
                    Event::Failed { .. } => return Ok(Outcome::Finding),
                    Event::Progress { text } => waiting = text,
                    Event::Warning { .. } | Event::Recovered { .. } | Event::Publish { .. } => {}
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                report.line(&format!("not everything is ready after {} s ({waiting}). The mesh runs on: `sheer ps` shows why, `sheer down` ends it.", patience.as_secs()));
                return Ok(Outcome::Finding);
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                report.progress.clear();
                let text = std::fs::read_to_string(log).unwrap_or_default();
                anyhow::bail!("the mesh ended while it started:\n{}", text.trim_end());
            }
        }
    }
}
