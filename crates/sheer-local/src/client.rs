//! The command line's side of the supervisor's socket. Blocking: a command asks once, and `exec` must not have a second thread.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::{
    protocol::{ExecTarget, MeshStatus, Request, Response, Target},
    socket,
    state::State,
};

/// Patience with an answer; the supervisor answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the mesh did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None runs.
    #[error(
        "no local mesh runs (looked in {0}). Start one with `sheer up -f DIR`, or name its state directory with --state DIR."
    )]
    NoMesh(String),
    /// It belongs to another user.
    #[error("the mesh in {0} belongs to another user: run this as that user")]
    Forbidden(String),
    /// The connection broke.
    #[error("the mesh's supervisor did not answer")]
    Io(#[from] io::Error),
    /// It said something else than was asked.
    #[error("the mesh was started by another version of sheer: end it with `sheer down` and start it again")]
    Version,
    /// What was asked for makes no sense: there is no such workload, or it cannot have that.
    #[error("{0}")]
    Refused(String),
    /// It cannot do it now.
    #[error("{0}")]
    NotYet(String),
}

/// A connection to a running mesh.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the mesh of a state directory.
    pub fn connect(state: &State) -> Result<Self, ClientError> {
        let place = || state.root().display().to_string();
        let stream = socket::connect_blocking(&state.supervisor_socket()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoMesh(place()),
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(place()),
            _ => ClientError::Io(error),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// What runs.
    pub fn status(&mut self) -> Result<MeshStatus, ClientError> {
        match self.ask(&Request::Status)? {
            Response::Status(status) => Ok(status),
            _ => Err(ClientError::Version),
        }
    }

    /// Where to run a command.
    pub fn exec(&mut self, target: Target, container: Option<String>) -> Result<ExecTarget, ClientError> {
        match self.ask(&Request::Exec { target, container })? {
            Response::Exec(target) => Ok(target),
            _ => Err(ClientError::Version),
        }
    }

    /// Asks for something that is answered with a sentence.
    pub fn command(&mut self, request: &Request) -> Result<String, ClientError> {
        match self.ask(request)? {
            Response::Done { text } => Ok(text),
            _ => Err(ClientError::Version),
        }
    }

    /// Process id of the supervisor, as this process sees it.
    pub fn supervisor_pid(&self) -> Result<i32, ClientError> {
        let credentials = getsockopt(self.stream.get_ref(), PeerCredentials).map_err(io::Error::from)?;
        Ok(credentials.pid())
    }

    fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        let mut line = serde_json::to_string(request).map_err(io::Error::from)?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match serde_json::from_str(&answer) {
            Ok(Response::Refused { text }) => Err(ClientError::Refused(text)),
            Ok(Response::NotYet { text }) => Err(ClientError::NotYet(text)),
            Ok(response) => Ok(response),
            Err(_) => Err(ClientError::Version),
        }
    }
}
