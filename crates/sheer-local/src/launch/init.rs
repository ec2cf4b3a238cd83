//! Pid 1 of the mesh: makes the mounts private, starts the supervisor, reaps, and ends with it. The kernel then ends everything else in
//! the pid namespace.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::symlink,
    },
    path::Path,
    process::Stdio,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        stat::{Mode, umask},
        wait::{WaitStatus, wait},
    },
    unistd::{Pid, sethostname},
};

use super::{Role, stage::outer_socket};

/// Where the mesh keeps what lives as long as it: on a file system in memory that nobody outside sees.
pub(crate) const PRIVATE: &str = "/run/sheer";

/// Runs the init process; returns the exit code of the mesh.
pub fn init() -> anyhow::Result<u8> {
    set_pdeathsig(Signal::SIGKILL)?;
    // Sidecars are another user, and what they read is made below: whatever the operator's shell says, as in a container. What is secret
    // has a mode of its own.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    private_mounts()?;
    sethostname("sheer")?;
    let socket = OwnedFd::from(outer_socket()?);
    let child = Role::Supervisor
        .command()
        .stdin(Stdio::from(socket))
        .spawn()
        .context("the mesh's supervisor cannot be started")?;
    Ok(reap_until(Pid::from_raw(child.id() as i32)))
}

/// Waits for the supervisor and, on the way, for every orphan of the mesh.
fn reap_until(supervisor: Pid) -> u8 {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == supervisor => return u8::try_from(code).unwrap_or(1),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == supervisor => {
                eprintln!(
                    "sheer: the mesh's supervisor was ended by {signal}; everything that it ran is gone. Start it again with `sheer up`."
                );
                return 1;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

fn private_mounts() -> anyhow::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("mounts cannot be made private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)
        .context("/proc cannot be mounted anew (in a container, its /proc must not be masked: run it privileged)")?;
    private_run().context("a private /run cannot be made")?;
    complete_etc().context("/etc cannot take the mesh's resolv.conf")
}

/// A file system in memory over `/run`, with everything that was there bound into it again.
fn private_run() -> io::Result<()> {
    let run = Path::new("/run");
    let before = fs::File::open(run)?;
    let entries: Vec<fs::DirEntry> = fs::read_dir(run)?.flatten().collect();
    mount(
        Some("sheer"),
        run,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )?;
    for entry in entries {
        let target = entry.path();
        let source = format!(
            "/proc/self/fd/{}/{}",
            before.as_raw_fd(),
            entry.file_name().to_string_lossy()
        );
        // What cannot be carried over (a socket of another user) is not missed by the mesh.
        let _ = carry_over(Path::new(&source), &target, &entry);
    }
    fs::create_dir_all(PRIVATE)
}

fn carry_over(source: &Path, target: &Path, entry: &fs::DirEntry) -> io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    if kind.is_dir() {
        fs::create_dir(target)?;
    } else {
        fs::write(target, "")?;
    }
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}

/// Pods bind their own `hosts` and `resolv.conf` over those of the machine. Where one is missing (or a link to nowhere), `/etc` gets a
/// layer in memory, and the file in it.
fn complete_etc() -> anyhow::Result<()> {
    let files = ["/etc/hosts", "/etc/resolv.conf"];
    if files.iter().all(|file| Path::new(file).is_file()) {
        return Ok(());
    }
    let layer = Path::new(PRIVATE).join("etc");
    for part in ["upper", "work"] {
        fs::create_dir_all(layer.join(part))?;
    }
    let options = format!("lowerdir=/etc,upperdir={0}/upper,workdir={0}/work", layer.display());
    mount(
        Some("sheer"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    for file in files.iter().filter(|file| !Path::new(file).is_file()) {
        let _ = fs::remove_file(file);
        fs::write(file, "")?;
    }
    Ok(())
}
