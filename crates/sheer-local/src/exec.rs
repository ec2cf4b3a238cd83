//! Runs a command inside a pod, with the caller's own terminal: the caller enters the pod's namespaces itself.
//!
//! The command is begun by this very program, which has the kernel kill it with its parent and then becomes it ([`become_command`]): a
//! `sheer exec` that is killed leaves no command behind.
//!
//! Must run before the process has a second thread: a user namespace cannot be entered otherwise.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::{
            fs::OpenOptionsExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
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

/// The hidden subcommand under which the command line calls [`become_command`].
pub const COMMAND: &str = "in-pod";

/// Exit code for a command that cannot be started, as in a shell.
const CANNOT_RUN: u8 = 126;
/// Exit code for a command that does not exist, as in a shell.
const NOT_FOUND: u8 = 127;

/// Runs the command and returns its exit code (128 + the signal's number where it was killed, as in a shell).
pub fn exec(state: &State, target: Target, container: Option<String>, command: &[String]) -> anyhow::Result<u8> {
    let mut client = Client::connect(state)?;
    let target = client.exec(target, container)?;
    let supervisor = client.supervisor_pid()?;
    let own = own_program()?;
    enter(supervisor, &target).with_context(|| format!("pod {} cannot be entered", target.pod))?;
    run(&own, &target, command)
}

/// Whether there is such a pod to enter: an error says what there is instead.
pub fn find(state: &State, target: Target) -> anyhow::Result<()> {
    Client::connect(state)?.exec(target, None)?;
    Ok(())
}

/// Runs a command of the host in the pod's network, and in nothing else of it: the host's tools and files, the caller's environment and folder, and
/// the pod's interfaces, sockets, rules and names.
pub fn debug(state: &State, target: Target, command: &[String]) -> anyhow::Result<u8> {
    let mut client = Client::connect(state)?;
    let target = client.exec(target, None)?;
    let supervisor = client.supervisor_pid()?;
    let own = own_program()?;
    let names = Names::new(&target.resolv_conf).context("the pod's resolv.conf")?;
    enter_network(supervisor, &target).with_context(|| format!("pod {} cannot be entered", target.pod))?;
    names
        .lay()
        .context("the pod's resolv.conf cannot be laid over that of the machine")?;
    drop(names);
    let mut call = call(&own, &target.pod, command);
    call.env("SHEER_POD", &target.pod).env("PATH", search_path());
    attend_to(call, &target.pod)
}

/// Becomes a command inside the pod that this process was started in; returns only where that cannot be, with the exit code to end with.
///
/// The kernel keeps the wish over `execve`, and forgets it in what the command itself starts: those are the command's.
pub fn become_command(pod: &str, command: &[String]) -> anyhow::Result<u8> {
    set_pdeathsig(Signal::SIGKILL)?;
    let (program, arguments) = command.split_first().context("no command")?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Ok(cannot_run(program, pod, &error))
}

/// This program's file, opened while the machine's `/proc` is in sight.
fn own_program() -> anyhow::Result<File> {
    File::open("/proc/self/exe").context("this program cannot find itself")
}

/// This program again, to become a command inside.
fn call(own: &File, pod: &str, command: &[String]) -> Command {
    // Found by whoever is started: its own `/proc/self` has the descriptor until it has become another program.
    let mut call = Command::new(format!("/proc/self/fd/{}", own.as_raw_fd()));
    call.arg0("sheer").args([COMMAND, pod, "--"]).args(command);
    call
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

/// A pod's `resolv.conf` in a file of its own, until it is laid over the machine's.
struct Names(PathBuf);

impl Names {
    fn new(text: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("sheer-debug-{}.conf", std::process::id()));
        // Never through a link that somebody else left there.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)?;
        let names = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(names)
    }

    /// For this process and what it starts: the machine's file stays as it is for all others.
    fn lay(&self) -> nix::Result<()> {
        const OVER: &str = "/etc/resolv.conf";
        let none = None::<&str>;
        if !Path::new(OVER).exists() {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(&self.0), OVER, none, MsFlags::MS_BIND, none)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // What is laid over another file stays there without its name.
        let _ = fs::remove_file(&self.0);
    }
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

fn run(own: &File, target: &ExecTarget, command: &[String]) -> anyhow::Result<u8> {
    let mut env = target.env.clone();
    if let Ok(term) = std::env::var("TERM") {
        env.entry("TERM".to_owned()).or_insert(term);
    }
    let mut call = call(own, &target.pod, command);
    call.env_clear().envs(&env).current_dir(&target.dir);
    attend_to(call, &target.pod)
}

/// Runs a command to its end, and says its exit code.
fn attend_to(call: Command, pod: &str) -> anyhow::Result<u8> {
    // Made only here: no second thread may exist before, and this runtime has none either.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(attend(call));
    let status = status.with_context(|| format!("no command can be run in pod {pod}"))?;
    Ok(exit_code(status.code(), status.signal()))
}

fn cannot_run(program: &str, pod: &str, error: &io::Error) -> u8 {
    eprintln!("sheer: {program} cannot be run in pod {pod}: {error}");
    if error.kind() == io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT_RUN
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
