//! What an earlier mesh left on disk. Processes, namespaces, links and rules are never left: the kernel removes them with the init process.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{socket, state::State};

/// What was found and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Nothing.
    Nothing,
    /// Sockets or status files of a mesh that did not end in order.
    Removed,
}

/// Waits until nothing of a mesh runs any more: neither its first process, which holds the lock, nor its supervisor. `false` where the
/// patience ends first.
pub fn wait_for_end(state: &State, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if !is_locked(state)? && socket::connect_blocking(&state.supervisor_socket()).is_err() {
            return Ok(true);
        }
        pause();
    }
    Ok(false)
}

#[expect(
    clippy::disallowed_methods,
    reason = "for commands with a single thread, which has nothing else to do"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

pub(super) fn is_locked(state: &State) -> io::Result<bool> {
    match OpenOptions::new().append(true).open(state.lock()) {
        Ok(file) => Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes sockets and status files. Only for whoever holds the lock, or knows that nobody does. Logs and the identity stay.
pub fn clean_up(state: &State) -> io::Result<Stale> {
    let mut found = Stale::Nothing;
    for folder in [
        state.run(),
        state.status().join("pods"),
        state.status().join("services"),
    ] {
        if empty(&folder)? {
            found = Stale::Removed;
        }
    }
    match fs::remove_file(state.description()) {
        Ok(()) => found = Stale::Removed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

fn empty(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut any = false;
    for entry in entries {
        fs::remove_file(entry?.path())?;
        any = true;
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_status_go_keys_and_logs_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::locate(Some(dir.path().join("state"))).expect("state");
        assert_eq!(clean_up(&state).expect("nothing to do"), Stale::Nothing);
        state.create().expect("created");
        for file in [
            state.supervisor_socket(),
            state.status().join("pods/bank.fx.json"),
            state.identity().join("ca.key"),
            state.description(),
        ] {
            fs::write(file, "x").expect("written");
        }
        assert_eq!(clean_up(&state).expect("removed"), Stale::Removed);
        assert!(!state.supervisor_socket().exists() && !state.status().join("pods/bank.fx.json").exists());
        assert!(state.identity().join("ca.key").exists());
        assert_eq!(clean_up(&state).expect("idempotent"), Stale::Nothing);
    }
}
