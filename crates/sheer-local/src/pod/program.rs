//! One program of a pod (a container, the sidecar) or of the mesh (the control plane): started, attended, started again.

use std::{process::ExitStatus, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    process::Child,
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::readiness::Readiness;
use crate::{
    logs::LogWriter,
    namespaces::Namespaces,
    process::{self, Program, describe_exit},
};

/// Patience with the end of a program's stderr after its own.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What is known of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgramState {
    /// Name.
    pub(crate) name: String,
    /// Process id, while it runs.
    pub(crate) pid: Option<u32>,
    /// Whether it may get traffic.
    pub(crate) ready: bool,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// How it ended the last time.
    pub(crate) last_exit: Option<String>,
    /// What is waited for before the next start, as `CrashLoopBackOff`.
    pub(crate) waiting: Option<String>,
    /// Why it is not ready, as its probe says.
    pub(crate) unready: Option<String>,
    /// What it wrote to stderr of its end, the last time.
    pub(crate) last_words: Option<String>,
    /// Ports of its manifest on which it does not listen, though it counts as ready.
    pub(crate) silent_ports: Vec<u16>,
}

/// A program's state, with whom to tell of changes.
pub(crate) struct ProgramCell {
    state: watch::Sender<ProgramState>,
    changed: Arc<Notify>,
}

impl ProgramCell {
    pub(crate) fn new(name: &str, changed: Arc<Notify>) -> Arc<Self> {
        let state = ProgramState {
            name: name.to_owned(),
            ..ProgramState::default()
        };
        Arc::new(Self {
            state: watch::Sender::new(state),
            changed,
        })
    }

    /// The state now.
    pub(crate) fn state(&self) -> ProgramState {
        self.state.borrow().clone()
    }

    /// Waits until the program is ready.
    pub(crate) async fn wait_ready(&self) {
        // The sender lives as long as this cell.
        let _ = self.state.subscribe().wait_for(|state| state.ready).await;
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ProgramState)) {
        let changed = self.state.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
        if changed {
            self.changed.notify_one();
        }
    }
}

/// Waits between restarts: the first is at once, then they double. Kubernetes' rule, with the bounds of its reduced decay
/// (KEP-4603: 1 s to 1 min), because somebody sits in front of a local mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Second wait.
    pub(crate) first: Duration,
    /// Longest wait.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// Of applications.
    pub(crate) const CONTAINER: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
    };
    /// Of the mesh's own programs: while one is away, its pod is.
    pub(crate) const OWN: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(5),
    };

    fn wait(self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            n => self.first.saturating_mul(1 << (n - 2).min(16)).min(self.longest),
        }
    }

    /// A program that ran for so long has its failures forgotten, as in Kubernetes.
    fn forget_after(self) -> Duration {
        self.longest * 2
    }
}

/// Makes a program anew for each start.
pub(crate) type MakeProgram = Box<dyn Fn() -> anyhow::Result<Program> + Send + Sync>;

/// Everything that starting and attending a program takes.
pub(crate) struct Runner {
    /// State to keep.
    pub(crate) cell: Arc<ProgramCell>,
    /// Where it runs; in the mesh's own namespaces where absent.
    pub(crate) namespaces: Option<Arc<Namespaces>>,
    /// What it is.
    pub(crate) make: MakeProgram,
    /// When it is ready.
    pub(crate) readiness: Readiness,
    /// Waits between restarts.
    pub(crate) backoff: Backoff,
    /// Its log.
    pub(crate) log: LogWriter,
    /// Turns true when it shall end.
    pub(crate) stop: watch::Receiver<bool>,
    /// From SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
}

impl Runner {
    /// Runs the program until it is told to stop; returns once it has ended.
    pub(crate) async fn run(mut self) {
        let mut failures = 0_u32;
        while !*self.stop.borrow() {
            let started = Instant::now();
            let (ended, last_words) = match self.start().await {
                Ok((child, stderr)) => match self.attend(child).await {
                    Some(status) => (describe_exit(status), last_words(stderr).await),
                    None => return,
                },
                Err(error) => (format!("cannot be started: {error:#}"), None),
            };
            self.cell.update(|state| state.last_words = last_words);
            failures = if started.elapsed() > self.backoff.forget_after() {
                1
            } else {
                failures + 1
            };
            self.back_off(&ended, failures).await;
        }
    }

    /// The program, and what copies its stderr.
    async fn start(&self) -> anyhow::Result<(Child, Option<Copying>)> {
        let program = (self.make)()?;
        let mut child = match &self.namespaces {
            Some(namespaces) => process::spawn(namespaces, program).await?,
            None => process::spawn_here(&program)?,
        };
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(self.log.clone().copy("stdout", stdout));
        }
        let stderr = child.stderr.take();
        let copying = stderr.map(|stderr| tokio::spawn(self.log.clone().copy("stderr", stderr)));
        let ready = matches!(self.readiness, Readiness::Running);
        self.cell.update(|state| {
            state.pid = child.id();
            state.ready = ready;
            state.waiting = None;
            state.silent_ports.clear();
        });
        Ok((child, copying))
    }

    /// Watches a running program: `None` where it was told to end and did, otherwise how it ended.
    async fn attend(&mut self, mut child: Child) -> Option<ExitStatus> {
        let group = child.id();
        let probing = self.readiness.keep(self.namespaces.as_ref(), &self.cell);
        let ended = tokio::select! {
            biased; // a program that ended while it was told to end has simply ended
            status = child.wait() => Some(status),
            _ = self.stop.wait_for(|stop| *stop) => None,
            () = probing => unreachable!("probing never ends"),
        };
        match ended {
            Some(status) => {
                // What it left behind would meet its successor: on a port, in a file.
                if let Some(group) = group {
                    process::signal_group(group, Signal::SIGKILL);
                }
                self.cell.update(|state| (state.pid, state.ready) = (None, false));
                status.ok()
            }
            None => {
                self.end(&mut child).await;
                self.cell.update(|state| (state.pid, state.ready) = (None, false));
                None
            }
        }
    }

    async fn end(&self, child: &mut Child) {
        let Some(pid) = child.id() else { return };
        process::signal_group(pid, Signal::SIGTERM);
        if timeout(self.grace, child.wait()).await.is_err() {
            self.log.write(
                "stderr",
                format!("sheer: still running {:?} after SIGTERM: killed", self.grace).as_bytes(),
                true,
            );
        }
        // Also for what the program left behind in its group.
        process::signal_group(pid, Signal::SIGKILL);
        let _ = child.wait().await;
    }

    async fn back_off(&mut self, ended: &str, failures: u32) {
        let wait = self.backoff.wait(failures);
        let line = format!(
            "sheer: {}: {ended}; started again {}",
            self.cell.state().name,
            after(wait)
        );
        self.log.write("stderr", line.as_bytes(), true);
        self.cell.update(|state| {
            state.last_exit = Some(ended.to_owned());
            state.waiting = (wait > Duration::ZERO).then(|| "CrashLoopBackOff".to_owned());
        });
        tokio::select! {
            biased; // an end that comes during the wait must not start the program once more
            _ = self.stop.wait_for(|stop| *stop) => return,
            () = sleep(wait) => {}
        }
        self.cell.update(|state| state.restarts += 1);
    }
}

/// When something happens that comes after a wait.
fn after(wait: Duration) -> String {
    if wait.is_zero() {
        "at once".to_owned()
    } else {
        format!("in {wait:?}")
    }
}

/// Copies a program's stderr to its log, and then has its last words.
type Copying = JoinHandle<Option<String>>;

/// What a program that has ended said of it.
async fn last_words(copying: Option<Copying>) -> Option<String> {
    // Whatever else holds the pipe open was not in its group, and may write for ever.
    timeout(LAST_WORDS, copying?).await.ok()?.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_then_waits_double() {
        let waits = [1, 2, 3, 4, 9, 1000].map(|failures| Backoff::CONTAINER.wait(failures).as_secs());
        assert_eq!(waits, [0, 1, 2, 4, 60, 60]);
        let said = [1, 2, 3].map(|failures| after(Backoff::OWN.wait(failures)));
        assert_eq!(said, ["at once", "in 200ms", "in 400ms"]);
    }
}
