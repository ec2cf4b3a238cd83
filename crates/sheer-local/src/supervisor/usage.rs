//! CPU and memory of programs, from `/proc`. A program is its process group: what it starts counts as its own.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use nix::unistd::{SysconfVar, sysconf};
use parking_lot::Mutex;
use tokio::time::{Instant, interval};

/// CPU is averaged over this.
const WINDOW: Duration = Duration::from_secs(2);

/// What a process group used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    /// CPU since its start, in seconds.
    pub(super) cpu_seconds: f64,
    /// CPU over the last window, in cores.
    pub(super) cores: f64,
    /// Resident memory, in bytes.
    pub(super) rss: u64,
}

/// What every process group used, measured again every [`WINDOW`].
#[derive(Clone, Default)]
pub(super) struct Usage(Arc<Mutex<HashMap<u32, Used>>>);

impl Usage {
    /// Of the process group that a program leads.
    pub(super) fn of(&self, pid: u32) -> Used {
        let known = self.0.lock().get(&pid).copied();
        // Started since the last measurement.
        known.or_else(|| measure().get(&pid).copied()).unwrap_or_default()
    }

    /// Measures until the runtime ends.
    pub(super) async fn keep(self) {
        let mut ticks = interval(WINDOW);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let elapsed = last.elapsed().as_secs_f64();
            last = Instant::now();
            let mut measured = measure();
            let mut known = self.0.lock();
            for (group, used) in &mut measured {
                if let Some(before) = known.get(group)
                    && elapsed > 0.0
                {
                    used.cores = ((used.cpu_seconds - before.cpu_seconds) / elapsed).max(0.0);
                }
            }
            *known = measured;
        }
    }
}

fn measure() -> HashMap<u32, Used> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64;
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let mut groups: HashMap<u32, Used> = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return groups;
    };
    for process in processes.flatten() {
        let numeric = process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        // A process may end between the listing and the reading.
        let Some(stat) = numeric
            .then(|| fs::read_to_string(process.path().join("stat")).ok())
            .flatten()
        else {
            continue;
        };
        if let Some(process) = parse_stat(&stat) {
            let group = groups.entry(process.group).or_default();
            group.cpu_seconds += process.ticks as f64 / ticks;
            group.rss += process.pages * page;
        }
    }
    groups
}

struct Stat {
    group: u32,
    ticks: u64,
    pages: u64,
}

/// `man 5 proc_pid_stat`: the name, second, is in parentheses and may hold anything; fields are counted from the one after it.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // utime 14, stime 15, and of children that ended and were waited for, 16 and 17.
    let ticks = (14..=17).map(number).sum::<Option<u64>>()?;
    Some(Stat {
        group: number(5)? as u32,
        ticks,
        pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_trouble() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = parse_stat(&format!("77 (a) b (c) S {}", fields.join(" "))).expect("parsed");
        assert_eq!((stat.group, stat.ticks, stat.pages), (5, 14 + 15 + 16 + 17, 24));
        assert!(parse_stat("77 (x) S 1").is_none());
    }

    #[test]
    fn this_process_uses_memory() {
        let group = nix::unistd::getpgrp().as_raw() as u32;
        assert!(measure()[&group].rss > 100_000);
    }
}
