//! What an earlier mesh left on disk. Processes, namespaces, links and rules are never left: the kernel removes them with the init process.

use std::{fs, io, path::Path};

use crate::state::State;

/// What was found and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Nothing.
    Nothing,
    /// Sockets or status files of a mesh that did not end in order.
    Removed,
}

/// Removes sockets and status files. Only for whoever holds the lock, or knows that nobody does. Logs and the identity stay.
pub fn clean_up(state: &State) -> io::Result<Stale> {
    let mut found = Stale::Nothing;
    for folder in [state.run(), state.status().join("pods"), state.status().join("services")] {
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
        for file in [state.supervisor_socket(), state.status().join("pods/bank.fx.json"), state.identity().join("ca.key"), state.description()] {
            fs::write(file, "x").expect("written");
        }
        assert_eq!(clean_up(&state).expect("removed"), Stale::Removed);
        assert!(!state.supervisor_socket().exists() && !state.status().join("pods/bank.fx.json").exists());
        assert!(state.identity().join("ca.key").exists());
        assert_eq!(clean_up(&state).expect("idempotent"), Stale::Nothing);
    }
}
