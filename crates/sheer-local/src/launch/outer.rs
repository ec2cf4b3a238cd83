//! The first process: starts the stage, maps users for it, publishes ports on the host, and passes events on.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    process::Stdio,
};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Interval, interval},
};

use super::{
    Event, Launch, Role,
    ports::{self, Ports},
    stage::{ASK_FOR_MAP, MAPPED, NOT_MAPPED},
    stale,
};
use crate::{state::State, tools, userns};

/// Why a mesh does not start.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// One runs already.
    #[error(
        "a mesh runs already (its state is in {0}). See it with `sheer ps`, end it with `sheer down`, or start a second one with --state DIR."
    )]
    Running(String),
    /// Tools are missing.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tools(Vec<tools::ToolError>),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// A mesh that was started by this process and ends with it.
pub struct Mesh {
    events: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    child: tokio::process::Child,
    ports: Ports,
    /// What is to be said of ports.
    news: VecDeque<Event>,
    /// When ports that were taken are tried again.
    retry: Interval,
    state: State,
    _lock: Flock<File>,
}

/// Starts a mesh. Must be called on the main thread of a current-thread runtime: the mesh ends when the thread that started it does.
pub async fn start(launch: &Launch, state: &State) -> Result<Mesh, UpError> {
    tools::check().map_err(UpError::Tools)?;
    state.create().map_err(anyhow::Error::from)?;
    let lock = lock(state)?;
    stale::clean_up(state).context("what an earlier mesh left cannot be removed")?;
    let (ours, theirs) = StdUnixStream::pair().context("a pair of sockets")?;
    let mut command = tokio::process::Command::from(Role::Stage.command());
    // A process group of its own: Ctrl-C is for the outer process, which ends the mesh in order.
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn().context("the mesh's processes cannot be started")?;
    drop(command);
    let pid = child.id().context("the mesh ended at once")?;
    ours.set_nonblocking(true).context("a socket")?;
    let (reader, writer) = UnixStream::from_std(ours).context("a socket")?.into_split();
    let mut mesh = Mesh {
        events: BufReader::new(reader).lines(),
        writer,
        child,
        ports: Ports::new(state.clone()),
        news: VecDeque::new(),
        retry: interval(ports::RETRY),
        state: state.clone(),
        _lock: lock,
    };
    mesh.hand_over(pid, launch).await?;
    Ok(mesh)
}

/// An error where a mesh runs in this place: for what must not be touched then. [`start`] looks again.
pub fn refuse_second(state: &State) -> Result<(), UpError> {
    if stale::is_locked(state).context("the lock of the state directory")? {
        return Err(UpError::Running(state.root().display().to_string()));
    }
    Ok(())
}

fn lock(state: &State) -> Result<Flock<File>, UpError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(state.lock())
        .context("the lock of the state directory")?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| UpError::Running(state.root().display().to_string()))
}

impl Mesh {
    async fn hand_over(&mut self, stage: u32, launch: &Launch) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(launch)?;
        line.push(b'\n');
        // The stage asks for a map only without root; with it, the first byte is the supervisor's first event.
        let events = self.events.get_mut();
        let first = events.fill_buf().await?.first().copied();
        anyhow::ensure!(
            first.is_some(),
            "the mesh ended before it began; the reason stands above"
        );
        if first == Some(ASK_FOR_MAP) {
            events.consume(1);
            let mapped = userns::map_subordinate_ids(stage).await;
            self.writer
                .write_all(&[if mapped { MAPPED } else { NOT_MAPPED }])
                .await?;
        }
        self.writer.write_all(&line).await?;
        Ok(())
    }

    /// The next event, or `None` when the mesh has ended. Ports are published on the way. Nothing is lost where this is not waited for to the
    /// end.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            let line = tokio::select! {
                line = self.events.next_line() => line.ok()??,
                _ = self.retry.tick(), if !self.ports.refusals().0.is_empty() => {
                    self.publish();
                    continue;
                }
            };
            match serde_json::from_str(&line) {
                Ok(Event::Publish { ports }) => {
                    self.ports.want(ports);
                    self.publish();
                }
                Ok(event) => return Some(event),
                // The greeting of the supervisor.
                Err(_) => {}
            }
        }
    }

    /// Opens the ports that are wanted, and tells the mesh which cannot be had.
    fn publish(&mut self) {
        let before = self.ports.refusals().clone();
        self.news.extend(self.ports.open());
        if *self.ports.refusals() != before {
            let mut line = serde_json::to_vec(self.ports.refusals()).expect("refusals are plain data");
            line.push(b'\n');
            // Where the mesh does not read, it ends: `ps` has nobody to ask then.
            let _ = self.writer.try_write(&line);
        }
    }

    /// Asks the mesh to end in order. [`Self::next_event`] returns `None` once it has.
    pub async fn shut_down(&mut self) {
        // An error means that it has ended already.
        let _ = self.writer.shutdown().await;
    }

    /// Waits for the last process, removes what the mesh left on disk, and returns its exit code.
    pub async fn finish(mut self) -> anyhow::Result<u8> {
        let status = self.child.wait().await?;
        drop(self.ports);
        stale::clean_up(&self.state)?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}
