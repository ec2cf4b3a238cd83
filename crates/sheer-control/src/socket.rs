//! Paths of unix sockets. The kernel limits one to 107 bytes; state directories may be deeper.
//!
//! Called by whatever binds or connects: the server here, and those who start and ask a control plane.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// Longest path that fits `sockaddr_un`.
const LONGEST: usize = 107;

/// A path to the same socket that fits. A long one goes through a descriptor of its folder, which must stay open until it was used.
pub fn shorten(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= LONGEST {
        return Ok((path.to_owned(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let folder = File::open(folder)?;
    Ok((
        PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name),
        Some(folder),
    ))
}
