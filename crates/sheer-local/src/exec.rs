//! Runs a command inside a pod, with the caller's own terminal: the caller enters the pod's namespaces itself.
//!
//! Must run before the process has a second thread: a user namespace cannot be entered otherwise.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{fd::RawFd, unix::process::ExitStatusExt as _},
    process::ExitStatus,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{
    client::Client,
    protocol::{ExecTarget, Target},
    state::State,
};

/// Exit code for a command that cannot be started, as in a shell.
const CANNOT_RUN: u8 = 126;
/// Exit code for a command that does not exist, as in a shell.
const NOT_FOUND: u8 = 127;

/// Runs the command and returns its exit code (128 + the signal's number where it was killed, as in a shell).
pub fn exec(state: &State, target: Target, container: Option<String>, command: &[String]) -> anyhow::Result<u8> {
    let mut client = Client::connect(state)?;
    let target = client.exec(target, container)?;
    let supervisor = client.supervisor_pid()?;
    enter(supervisor, &target).with_context(|| format!("pod {} cannot be entered", target.pod))?;
    run(&target, command)
}

/// Runs a command of the host in the pod's network, and in nothing else of it: the host's tools and files, the caller's environment and folder, and
/// the pod's interfaces, sockets and rules.
pub fn debug(state: &State, target: Target, command: &[String]) -> anyhow::Result<u8> {
    let mut client = Client::connect(state)?;
    let target = client.exec(target, None)?;
    let supervisor = client.supervisor_pid()?;
    enter_network(supervisor, &target).with_context(|| format!("pod {} cannot be entered", target.pod))?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut call = Command::new(program);
    call.args(arguments)
        .env("SHEER_POD", &target.pod)
        .env("PATH", search_path());
    attend_to(call, program, &target.pod)
}

/// The caller's search path, and where the tools of networks are, which not everybody has in it.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn enter_network(supervisor: i32, target: &ExecTarget) -> anyhow::Result<()> {
    let open = |path: String| File::open(&path).with_context(|| path.clone());
    let users = format!("/proc/{supervisor}/ns/user");
    let foreign_users = fs::read_link(&users)? != fs::read_link("/proc/self/ns/user")?;
    let users = foreign_users.then(|| open(users)).transpose()?;
    let network = open(format!("/proc/{supervisor}/fd/{}", target.namespaces.network))?;
    let hostname = open(format!("/proc/{supervisor}/fd/{}", target.namespaces.hostname))?;
    if let Some(users) = users {
        setns(users, CloneFlags::CLONE_NEWUSER).map_err(explain)?;
    }
    setns(network, CloneFlags::CLONE_NEWNET).map_err(explain)?;
    setns(hostname, CloneFlags::CLONE_NEWUTS).map_err(explain)
}

/// Everything is opened first: after the first step, `/proc` of the host is out of sight.
fn enter(supervisor: i32, target: &ExecTarget) -> anyhow::Result<()> {
    let open = |path: String| File::open(&path).with_context(|| path.clone());
    let descriptor = |fd: RawFd| open(format!("/proc/{supervisor}/fd/{fd}"));
    let users = format!("/proc/{supervisor}/ns/user");
    let foreign_users = fs::read_link(&users)? != fs::read_link("/proc/self/ns/user")?;
    let users = foreign_users.then(|| open(users)).transpose()?;
    let pids = open(format!("/proc/{supervisor}/ns/pid"))?;
    let network = descriptor(target.namespaces.network)?;
    let hostname = descriptor(target.namespaces.hostname)?;
    let mounts = descriptor(target.namespaces.mounts)?;
    if let Some(users) = users {
        setns(users, CloneFlags::CLONE_NEWUSER).map_err(explain)?;
    }
    setns(pids, CloneFlags::CLONE_NEWPID).map_err(explain)?;
    setns(network, CloneFlags::CLONE_NEWNET).map_err(explain)?;
    setns(hostname, CloneFlags::CLONE_NEWUTS).map_err(explain)?;
    unshare(CloneFlags::CLONE_FS).map_err(explain)?;
    setns(mounts, CloneFlags::CLONE_NEWNS).map_err(explain)
}

fn explain(errno: Errno) -> anyhow::Error {
    match errno {
        Errno::EPERM => {
            anyhow::anyhow!("its namespaces may not be entered: run this as the user that started the mesh")
        }
        _ => io::Error::from(errno).into(),
    }
}

fn run(target: &ExecTarget, command: &[String]) -> anyhow::Result<u8> {
    let (program, arguments) = command
        .split_first()
        .context("no command: write it after --, as `sheer exec deploy/web -- ls`")?;
    let mut env = target.env.clone();
    if let Ok(term) = std::env::var("TERM") {
        env.entry("TERM".to_owned()).or_insert(term);
    }
    let mut call = Command::new(program);
    call.args(arguments).env_clear().envs(&env).current_dir(&target.dir);
    attend_to(call, program, &target.pod)
}

/// Runs a command to its end, and says its exit code.
fn attend_to(call: Command, program: &str, pod: &str) -> anyhow::Result<u8> {
    // Made only here: no second thread may exist before, and this runtime has none either.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(attend(call));
    match status {
        Ok(status) => Ok(exit_code(status.code(), status.signal())),
        Err(error) => {
            eprintln!("sheer: {program} cannot be run in pod {pod}: {error}");
            Ok(if error.kind() == io::ErrorKind::NotFound {
                NOT_FOUND
            } else {
                CANNOT_RUN
            })
        }
    }
}

/// Runs the command to its end. Ctrl-C is for the command, which shares the terminal: this process only waits for what the command makes of
/// it. What ends this process alone (a closed terminal, a supervisor of its own) is passed on, so that no command is left behind.
///
/// Handlers, not an ignored or blocked signal: a program inherits those, and would be deaf to Ctrl-C.
async fn attend(mut command: Command) -> io::Result<ExitStatus> {
    let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut child = command.spawn()?;
    loop {
        let passed_on = tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => None,
            _ = quit.recv() => None,
            _ = terminate.recv() => Some(Signal::SIGTERM),
            _ = hangup.recv() => Some(Signal::SIGHUP),
        };
        if let (Some(signal), Some(pid)) = (passed_on, child.id()) {
            // An error means that the command has just ended.
            let _ = kill(Pid::from_raw(pid as i32), signal);
        }
    }
}

fn exit_code(code: Option<i32>, signal: Option<i32>) -> u8 {
    let code = code.or(signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::exit_code;

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(
            [
                exit_code(Some(3), None),
                exit_code(None, Some(15)),
                exit_code(None, None)
            ],
            [3, 143, 1]
        );
    }
}
