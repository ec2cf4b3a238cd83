//! Closed-loop load by h2load (nghttp2), which nobody here wrote.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};

use crate::process::{LOAD_CORE, Place, output};

/// How requests are spread over connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
}

/// The loads that are measured.
pub(crate) const LOADS: [Load; 2] = [
    Load {
        name: "c4m25",
        connections: 4,
        streams: 25,
    },
    Load {
        name: "c16m1",
        connections: 16,
        streams: 1,
    },
];

/// What h2load said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) requests: u64,
    pub(crate) rps: f64,
    pub(crate) errors: u64,
}

/// Sends `requests` as fast as they are answered.
pub(crate) fn run(from: Place, to: SocketAddr, authority: &str, load: Load, requests: u64) -> Result<Closed> {
    let mut command = from.command(LOAD_CORE, "h2load");
    command.args(["-t", "1", "-n", &requests.to_string()]);
    command.args(["-c", &load.connections.to_string(), "-m", &load.streams.to_string()]);
    command
        .args(["-H", &format!(":authority: {authority}")])
        .arg(format!("http://{to}{}", crate::peer::PATH));
    parse(&output(&mut command, Duration::from_secs(90))?, requests)
}

fn parse(text: &str, requests: u64) -> Result<Closed> {
    let number = |line: &str, before: &str| -> Option<f64> {
        let line = text.lines().find(|l| l.starts_with(line))?;
        line.split(before)
            .next()?
            .rsplit([' ', ','])
            .find(|word| !word.is_empty())?
            .parse()
            .ok()
    };
    let rps = number("finished in", " req/s").context("h2load said no rate")?;
    let good = number("status codes:", " 2xx").context("h2load said no status codes")? as u64;
    Ok(Closed {
        requests,
        rps,
        errors: requests.saturating_sub(good),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_h2load_prints() {
        let text = "progress: 100% done\n\nfinished in 1.23s, 48700.12 req/s, 9.12MB/s\n\
            requests: 60000 total, 60000 started, 60000 done, 59998 succeeded, 2 failed, 0 errored, 0 timeout\n\
            status codes: 59998 2xx, 0 3xx, 0 4xx, 2 5xx\n";
        let closed = parse(text, 60_000).unwrap();
        assert!((closed.rps - 48_700.12).abs() < 0.001);
        assert_eq!(closed.errors, 2);
    }
}
