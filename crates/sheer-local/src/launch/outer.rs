//! The first process: starts the stage, maps users for it, publishes ports on the host, and passes events on.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    net::Ipv4Addr,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    process::Stdio,
};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, UnixStream, unix::OwnedReadHalf},
    task::JoinHandle,
};

use super::{
    Event, Launch, Role,
    stage::{ASK_FOR_MAP, MAPPED, NOT_MAPPED},
    stale,
};
use crate::{dial, state::State, tools, userns};

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
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// A mesh that was started by this process and ends with it.
pub struct Mesh {
    events: BufReader<OwnedReadHalf>,
    writer: tokio::net::unix::OwnedWriteHalf,
    child: tokio::process::Child,
    ports: BTreeMap<u16, JoinHandle<()>>,
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
        events: BufReader::new(reader),
        writer,
        child,
        ports: BTreeMap::new(),
        state: state.clone(),
        _lock: lock,
    };
    mesh.hand_over(pid, launch).await?;
    Ok(mesh)
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
        let first = self.events.fill_buf().await?.first().copied();
        anyhow::ensure!(
            first.is_some(),
            "the mesh ended before it began; the reason stands above"
        );
        if first == Some(ASK_FOR_MAP) {
            self.events.consume(1);
            let mapped = userns::map_subordinate_ids(stage).await;
            self.writer
                .write_all(&[if mapped { MAPPED } else { NOT_MAPPED }])
                .await?;
        }
        self.writer.write_all(&line).await?;
        Ok(())
    }

    /// The next event, or `None` when the mesh has ended. Ports are published on the way.
    pub async fn next_event(&mut self) -> Option<Event> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.events.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            match serde_json::from_str(&line) {
                Ok(Event::Publish { ports }) => {
                    if let Some(warning) = self.publish(&ports).await {
                        return Some(warning);
                    }
                }
                Ok(event) => return Some(event),
                // The greeting of the supervisor.
                Err(_) => {}
            }
        }
    }

    /// Listens on exactly these ports of 127.0.0.1.
    async fn publish(&mut self, ports: &[u16]) -> Option<Event> {
        for port in self
            .ports
            .keys()
            .copied()
            .filter(|port| !ports.contains(port))
            .collect::<Vec<_>>()
        {
            self.ports.remove(&port).expect("just listed").abort();
        }
        let mut refused = Vec::new();
        for &port in ports {
            if self.ports.contains_key(&port) {
                continue;
            }
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                Ok(listener) => {
                    self.ports.insert(port, tokio::spawn(forward(listener, port, self.state.clone())));
                }
                Err(error) => refused.push(format!("127.0.0.1:{port} cannot be published: {error}. Free the port, or change its annotation sheer.dev/publish.")),
            }
        }
        (!refused.is_empty()).then(|| Event::Warning {
            text: refused.join("\n"),
        })
    }

    /// Asks the mesh to end in order. [`Self::next_event`] returns `None` once it has.
    pub async fn shut_down(&mut self) {
        // An error means that it has ended already.
        let _ = self.writer.shutdown().await;
    }

    /// Waits for the last process, removes what the mesh left on disk, and returns its exit code.
    pub async fn finish(mut self) -> anyhow::Result<u8> {
        let status = self.child.wait().await?;
        for (_, listener) in std::mem::take(&mut self.ports) {
            listener.abort();
        }
        stale::clean_up(&self.state)?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

/// Passes connections on to the mesh, over its unix socket.
async fn forward(listener: TcpListener, port: u16, state: State) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = state.clone();
                tokio::spawn(async move { pass(stream, port, &state).await });
            }
            // Out of descriptors: connections that are open must end first.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn pass(mut stream: tokio::net::TcpStream, port: u16, state: &State) -> io::Result<()> {
    let Ok(mut mesh) = dial::publication(state, port).await else {
        // Closing resets the client, as a closed port would.
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
        return Ok(());
    };
    stream.set_nodelay(true)?;
    copy_bidirectional(&mut stream, &mut mesh).await?;
    Ok(())
}
