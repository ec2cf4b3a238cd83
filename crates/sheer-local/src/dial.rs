//! Connections from the host into the mesh. Over the supervisor's forward socket: one line says where to, one byte answers, then bytes
//! flow both ways. And over the control plane's own.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::{socket, state::State};

/// The answer where somebody took the connection.
pub(crate) const CONNECTED: u8 = b'+';
/// The answer where nobody did.
pub(crate) const REFUSED: u8 = b'-';
/// Longest first line.
pub(crate) const LONGEST_LINE: usize = 80;

/// Connects to an address inside the mesh, from its own network namespace: a sidecar's admin port, a pod.
pub async fn address(state: &State, address: SocketAddr) -> io::Result<UnixStream> {
    dial(state, &format!("dial {address}\n")).await
}

/// Connects to the control plane.
pub async fn control(state: &State) -> io::Result<UnixStream> {
    socket::connect(&state.control_socket()).await
}

/// Connects to what a published port leads to.
pub(crate) async fn publication(state: &State, port: u16) -> io::Result<UnixStream> {
    dial(state, &format!("publish {port}\n")).await
}

async fn dial(state: &State, line: &str) -> io::Result<UnixStream> {
    let mut stream = socket::connect(&state.forward_socket()).await?;
    stream.write_all(line.as_bytes()).await?;
    match stream.read_u8().await? {
        CONNECTED => Ok(stream),
        _ => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("nobody in the mesh answers ({})", line.trim()),
        )),
    }
}
