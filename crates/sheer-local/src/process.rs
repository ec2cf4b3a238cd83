//! Starts programs inside a pod and ends them.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{
    launch::PRIVATE,
    namespaces::{Namespaces, bind},
};

/// A program to start in a pod.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Program and arguments; never empty.
    pub(crate) command: Vec<String>,
    /// Its whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Folder to start in.
    pub(crate) dir: PathBuf,
    /// User and group of that number, without privileges.
    pub(crate) uid: Option<u32>,
    /// Where the program is mounted before it starts, so that another user can reach it whatever folder it lies in.
    pub(crate) mounted_at: Option<PathBuf>,
    /// Whether what it prints is thrown away.
    pub(crate) quiet: bool,
}

/// Starts the program on a thread inside the pod.
pub(crate) async fn spawn(namespaces: &Namespaces, program: Program) -> io::Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    namespaces
        .run(move || {
            let _guard = runtime.enter();
            if program.uid.is_some() {
                nix::sys::prctl::set_no_new_privs()?;
            }
            spawn_here(&program)
        })
        .await?
}

/// Starts the program in the namespaces of the calling thread. It leads a process group of its own; stdout and stderr are pipes.
pub(crate) fn spawn_here(program: &Program) -> io::Result<Child> {
    let path = match &program.mounted_at {
        Some(target) => mount_program(Path::new(&program.command[0]), target)?,
        None => resolve(program)?,
    };
    let mut command = Command::new(&path);
    command
        .args(&program.command[1..])
        .env_clear()
        .envs(&program.env)
        .current_dir(&program.dir)
        .process_group(0);
    if path == Path::new("/proc/self/exe") {
        command.arg0("sheer");
    }
    let output = || if program.quiet { Stdio::null() } else { Stdio::piped() };
    command.stdin(Stdio::null()).stdout(output()).stderr(output());
    if let Some(uid) = program.uid {
        command.uid(uid).gid(uid);
    }
    command.spawn().map_err(|error| explain(error, &path, &program.dir))
}

/// A command with a slash is relative to the folder; one without is looked up in the program's own `PATH`.
fn resolve(program: &Program) -> io::Result<PathBuf> {
    let name = &program.command[0];
    if name.contains('/') {
        return Ok(program.dir.join(name));
    }
    let path = program.env.get("PATH").map(String::as_str).unwrap_or_default();
    std::env::split_paths(OsStr::new(path))
        .map(|folder| program.dir.join(folder).join(name))
        .find(|candidate| {
            candidate
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{name}` is in no folder of PATH ({path})"),
            )
        })
}

/// `execve` says "not found" for a missing folder, a missing program and a missing interpreter alike.
fn explain(error: io::Error, path: &Path, dir: &Path) -> io::Error {
    let why = if !dir.is_dir() {
        format!("the folder {} does not exist", dir.display())
    } else if !path.exists() {
        format!("{} does not exist", path.display())
    } else {
        format!("{}: {error}", path.display())
    };
    io::Error::new(error.kind(), why)
}

/// Mounts a program's file where everyone may reach it. The mount before it (an earlier start) is let go of.
fn mount_program(file: &Path, target: &Path) -> io::Result<PathBuf> {
    if !target.exists() {
        fs::write(target, "")?;
    }
    let _ = umount2(target, MntFlags::MNT_DETACH);
    bind(&executable_by_all(file)?, target).map_err(|errno| {
        let why = if errno == Errno::ENOENT {
            "does not exist".to_owned()
        } else {
            io::Error::from(errno).to_string()
        };
        io::Error::new(io::ErrorKind::NotFound, format!("{} {why}", file.display()))
    })?;
    Ok(target.to_owned())
}

/// The file, or where only its owner may run it (it was built with a strict umask), a copy of it that everyone may. One copy a build.
fn executable_by_all(file: &Path) -> io::Result<PathBuf> {
    let Ok(meta) = file.metadata() else {
        return Ok(file.to_owned()); // mounting it says what is wrong
    };
    if meta.permissions().mode() & 0o005 == 0o005 {
        return Ok(file.to_owned());
    }
    let folder = Path::new(PRIVATE).join("programs");
    let copy = folder.join(format!("{}-{}-{}", meta.dev(), meta.ino(), meta.mtime()));
    if !copy.exists() {
        fs::create_dir_all(&folder)?;
        // Under a name of its own until it is whole: another pod may start at the same time.
        let new = folder.join(format!(".{:032x}", rand::random::<u128>()));
        fs::copy(file, &new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(&new, &copy)?;
    }
    Ok(copy)
}

/// Signals the process group that a program leads.
pub(crate) fn signal_group(pid: u32, signal: Signal) {
    // ESRCH: gone already, which is what the caller wants.
    let _ = killpg(Pid::from_raw(pid as i32), signal);
}

/// Kills whatever is left in a pod.
pub(crate) fn kill_all(namespaces: &Namespaces) {
    for pid in namespaces.processes().unwrap_or_default() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// How a program ended, in the operator's words.
pub(crate) fn describe_exit(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (
        status.code(),
        status.signal().and_then(|signal| Signal::try_from(signal).ok()),
    ) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Kills a process group when it goes out of scope: for programs whose run may be abandoned.
pub(crate) struct KillGroup(Option<u32>);

impl KillGroup {
    pub(crate) fn new(child: &Child) -> Self {
        Self(child.id())
    }
}

impl Drop for KillGroup {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            signal_group(pid, Signal::SIGKILL);
        }
    }
}
