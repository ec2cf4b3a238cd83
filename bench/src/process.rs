//! Processes of a measurement: started on a core, in a network namespace, and what they have used.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// The core of both proxies of a pair.
pub(crate) const PROXY_CORE: usize = 0;
/// The core of the load generator and of the server.
pub(crate) const LOAD_CORE: usize = 1;

/// A network namespace, by a process that lives in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// That process.
    pub(crate) pid: u32,
}

impl Place {
    /// A command in this namespace, on one core.
    pub(crate) fn command(self, core: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // On a machine with one core both ends share it, and the figures say so by themselves.
        let core = core.min(cores() - 1).to_string();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.pid))
            .args(["taskset", "-c", &core])
            .arg(program);
        command
    }
}

/// How many cores there are.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A process and what it starts; all of it is killed with this value.
#[derive(Debug)]
pub(crate) struct Proc {
    child: Child,
}

impl Proc {
    /// Starts a program that stays.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).stdin(Stdio::piped()).spawn();
        Ok(Self {
            child: child.with_context(|| format!("start {command:?}"))?,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, where it was piped.
    pub(crate) fn stdout(&mut self) -> Result<std::process::ChildStdout> {
        self.child.stdout.take().context("stdout is not piped")
    }

    fn kill(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end and gives its standard output; kills it after `limit`.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.with_context(|| format!("start {command:?}"))?;
    let group = Pid::from_raw(child.id() as i32);
    let waiter = std::thread::spawn(move || child.wait_with_output());
    let end = Instant::now() + limit;
    while !waiter.is_finished() {
        if Instant::now() > end {
            let _ = killpg(group, Signal::SIGKILL);
            bail!("{command:?} took more than {limit:?}");
        }
        pause(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = waiter.join().expect("waiting does not panic")?;
    if !status.success() {
        bail!("{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8(stdout)?)
}

/// Waits, in a program of one thread that has nothing else to do.
#[expect(clippy::disallowed_methods, reason = "the runner has no runtime to block")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// CPU time of processes and their descendants, all threads, kernel time included.
pub(crate) fn cpu(roots: &[u32]) -> Duration {
    let mut nanos = 0;
    for pid in family(roots) {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            nanos += stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

/// Resident memory of processes and their descendants, in KiB.
pub(crate) fn rss_kib(roots: &[u32]) -> u64 {
    family(roots)
        .into_iter()
        .filter_map(|pid| status_kib(pid, "VmRSS:"))
        .sum()
}

/// The most resident memory of processes and their descendants since [`forget_peak_rss`], in KiB. Of several processes the sum of what
/// each had, which they need not have had at once.
pub(crate) fn peak_rss_kib(roots: &[u32]) -> u64 {
    family(roots)
        .into_iter()
        .filter_map(|pid| status_kib(pid, "VmHWM:"))
        .sum()
}

fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Has the kernel note the most resident memory from now on (`proc_pid_clear_refs(5)`).
pub(crate) fn forget_peak_rss(roots: &[u32]) -> Result<()> {
    for pid in family(roots) {
        let path = format!("/proc/{pid}/clear_refs");
        match fs::write(&path, "5") {
            // It may have ended meanwhile.
            Err(error)
                if error.kind() != std::io::ErrorKind::NotFound && error.raw_os_error() != Some(nix::libc::ESRCH) =>
            {
                return Err(error).with_context(|| format!("write {path}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Processes and all their descendants.
pub(crate) fn family(roots: &[u32]) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = roots.to_vec();
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == member)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    family
}

/// All processes that can be seen.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in brackets, may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Puts every thread of processes and their descendants on one core; what they start later inherits it.
pub(crate) fn pin(roots: &[u32], core: usize) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core.min(cores() - 1))?;
    for pid in family(roots) {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let tid: i32 = task.file_name().to_string_lossy().parse()?;
            // The thread may have ended meanwhile.
            let _ = nix::sched::sched_setaffinity(Pid::from_raw(tid), &set);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is freed before the reading still counts, and what was freed before the run does not.
    #[test]
    fn the_peak_is_of_the_time_since_it_was_forgotten() {
        let own = [std::process::id()];
        let base = rss_kib(&own);
        touch::<{ 256 << 20 }>();
        forget_peak_rss(&own).expect("one's own memory");
        touch::<{ 64 << 20 }>();
        let peak = peak_rss_kib(&own);
        assert!(peak >= base + 60 * 1024, "{base} KiB, then a peak of {peak}");
        assert!(peak < base + 200 * 1024, "{base} KiB, then a peak of {peak}");
    }
    /// Uses so much memory, and gives it back at once: a stack, because the allocator keeps what it has.
    fn touch<const BYTES: usize>() {
        let thread = std::thread::Builder::new().stack_size(2 * BYTES).spawn(|| {
            let mut block = [1_u8; BYTES];
            std::hint::black_box(&mut block);
        });
        thread.expect("a thread").join().expect("no panic");
    }
}
