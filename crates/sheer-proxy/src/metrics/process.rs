//! What the kernel says of the process itself, read at a scrape, and what never changes: the build.

use std::{fs, sync::OnceLock, time::Duration};

use super::{
    family::{PROXY_BUILD_INFO, RUSTLS_INFO},
    labels::LabelSet,
    registry::Shard,
};

/// A number of the process.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// `counter` or `gauge`.
    pub(super) kind: &'static str,
    pub(super) value: f64,
}

/// Everything that can be read; what cannot is left out.
pub(super) fn samples() -> Vec<Sample> {
    let gauge = |name, help, value: Option<f64>| {
        value.map(|value| Sample {
            name,
            help,
            kind: "gauge",
            value,
        })
    };
    let counter = |name, help, value: Option<f64>| {
        value.map(|value| Sample {
            name,
            help,
            kind: "counter",
            value,
        })
    };
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(Stat::parse);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let kib = |name| field(&status, name).map(|kib| kib * 1_024.0);
    #[expect(clippy::cast_precision_loss, reason = "2^53 is beyond every count here")]
    let panics = crate::worker::panics() as f64;
    [
        counter(
            "process_cpu_seconds_total",
            "CPU time, user and system.",
            stat.as_ref().map(|stat| stat.cpu_seconds),
        ),
        gauge("process_open_fds", "Open file descriptors.", open_fds()),
        gauge(
            "process_max_fds",
            "Limit of open file descriptors.",
            field(&limits, "Max open files"),
        ),
        gauge("process_virtual_memory_bytes", "Virtual memory.", kib("VmSize:")),
        gauge("process_resident_memory_bytes", "Resident memory.", kib("VmRSS:")),
        gauge("process_threads", "Threads.", field(&status, "Threads:")),
        gauge(
            "process_start_time_seconds",
            "When the process started, seconds since the Unix epoch.",
            start_time(&stat),
        ),
        counter("sheer_panics_total", "Panics that the proxy survived.", Some(panics)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sets the metrics of what this proxy is. Once, at the start.
pub(crate) fn describe_build(shard: &Shard) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let build = LabelSet::builder()
        .label("version", env!("CARGO_PKG_VERSION"))
        .label("vendor", "sheer")
        .label("profile", profile)
        .build();
    shard.gauge(&PROXY_BUILD_INFO, &build).set(1);
    let tls = crate::identity::describe_tls();
    let tls = tls
        .iter()
        .fold(LabelSet::builder(), |labels, (name, value)| labels.label(name, value));
    shard.gauge(&RUSTLS_INFO, &tls.build()).set(1);
}

/// Fields of `/proc/self/stat` (proc_pid_stat(5)).
struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
}

/// What the kernel shows to programs in these files is in hundredths of a second, whatever its own clock (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The name of the program may hold spaces and parentheses: fields are counted behind it, from 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds = |number: usize| Some(fields.get(number - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        Some(Self {
            cpu_seconds: seconds(14)? + seconds(15)?,
            start_seconds: seconds(22)?,
        })
    }
}

/// The number behind a name in `/proc/self/status` or `/proc/self/limits`.
fn field(file: &str, name: &str) -> Option<f64> {
    let line = file.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<f64> {
    // One of them is the listing itself.
    let entries = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(entries).ok().map(f64::from)
}

/// Seconds since boot become seconds since the epoch. Read once: the wall clock may be set while the proxy runs.
fn start_time(stat: &Option<Stat>) -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    let boot = BOOT.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse()
            .ok()
    });
    let started = Duration::try_from_secs_f64(stat.as_ref()?.start_seconds).ok()?;
    boot.as_ref().map(|boot| boot + started.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_names_may_hold_anything() {
        let stat = "1 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 7 0 1000 4096000 25 0";
        let stat = Stat::parse(stat).expect("a stat");
        assert_eq!((stat.cpu_seconds, stat.start_seconds), (2.0, 10.0));
        assert!(Stat::parse("").is_none() && Stat::parse("1 (a) S").is_none());
    }

    #[test]
    fn this_process_can_be_read() {
        let names: Vec<_> = samples().iter().map(|sample| sample.name).collect();
        assert_eq!(names.len(), 8, "{names:?}");
    }
}
