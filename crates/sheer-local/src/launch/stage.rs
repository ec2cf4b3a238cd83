//! The second process: leaves the host's namespaces and starts the init process in the new ones.
//!
//! Must run before the process has a second thread: a user namespace cannot be entered otherwise.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::Stdio,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{getgid, getuid},
};

use super::Role;

/// Asks the outer process to map the users of the new namespace.
pub(super) const ASK_FOR_MAP: u8 = b'm';
/// The outer process mapped the user's subordinate ids too.
pub(super) const MAPPED: u8 = b'y';
/// The stage has to map its own user, alone.
pub(super) const NOT_MAPPED: u8 = b'n';

/// Runs the stage; returns the exit code of the mesh.
pub fn stage() -> anyhow::Result<u8> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut outer = outer_socket()?;
    leave_host(&mut outer)?;
    let mut init = Role::Init.command();
    let status = init
        .stdin(Stdio::from(OwnedFd::from(outer)))
        .status()
        .context("the mesh's init process cannot be started")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The socket to the outer process, which is stdin.
pub(crate) fn outer_socket() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn leave_host(outer: &mut UnixStream) -> anyhow::Result<()> {
    let mesh = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS;
    match unshare(mesh) {
        Ok(()) => return Ok(()),
        // Not root, or root of a container without the right to make namespaces.
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(refused(errno)),
    }
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    outer.write_all(&[ASK_FOR_MAP])?;
    let mut answer = [0];
    outer.read_exact(&mut answer)?;
    if answer[0] != MAPPED {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("this user cannot be mapped into a namespace")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
            .context("this group cannot be mapped into a namespace")?;
    }
    unshare(mesh).map_err(refused)
}

fn refused(errno: Errno) -> anyhow::Error {
    let hint = match errno {
        Errno::EPERM => {
            "the system forbids it: run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
                         kernel.apparmor_restrict_unprivileged_userns=0; in a container, run it privileged)"
        }
        Errno::ENOSPC => {
            "the limit of namespaces is reached: raise user.max_user_namespaces and user.max_net_namespaces"
        }
        Errno::EINVAL => {
            "the kernel lacks user, network or pid namespaces: use one that has CONFIG_USER_NS, CONFIG_NET_NS and CONFIG_PID_NS"
        }
        _ => "see dmesg",
    };
    anyhow::anyhow!("the mesh cannot have namespaces of its own ({}): {hint}", errno.desc())
}
