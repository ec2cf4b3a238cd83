//! Unix sockets by path, however long it is.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use sheer_control::socket::shorten;
use tokio::net::{UnixListener, UnixStream};

/// Connects to a socket.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _folder) = shorten(path)?;
    UnixStream::connect(short).await
}

/// Connects to a socket, blocking.
pub(crate) fn connect_blocking(path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let (short, _folder) = shorten(path)?;
    std::os::unix::net::UnixStream::connect(short)
}

/// Listens on a socket that only its owner may use. One of a process that ended is replaced.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (short, _folder) = shorten(path)?;
    let listener = UnixListener::bind(short)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_works_however_deep_it_lies() {
        let dir = tempfile::tempdir().expect("a folder");
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).expect("a folder");
        let path = deep.join("sheer.sock");
        let listener = listen(&path).expect("listens");
        assert_eq!(fs::metadata(&path).expect("meta").permissions().mode() & 0o777, 0o600);
        let (connected, accepted) = tokio::join!(connect(&path), listener.accept());
        connected.expect("connected");
        accepted.expect("accepted");
    }
}
