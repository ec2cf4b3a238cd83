//! `bank fault`: switches faults of a running service on and off.

use std::time::Duration;

use anyhow::Context;
use tonic::Request;

use crate::channel::channel;
use crate::v1::faults_client::FaultsClient;
use crate::v1::{FaultSettings, ShowRequest};

/// Switches faults of a running service on and off; without an option, shows them.
///
/// A name reaches one replica, the one that the balancer picks; it says which. `local` reaches the replica on this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bank fault ledger --latency 100ms                 one replica answers 100 ms later
  bank fault local --errors 0.2 --for 30s           a fifth of the calls to this replica fails, for 30 s
  bank fault fraud --wrong-trailers 1               every answer ends in trailers that no client can read
  bank fault ledger --clear

Beside a pod of `sheer demo`:
  sheer exec -n bank deploy/ledger -- bank fault local --latency 100ms")]
pub struct Args {
    /// Service by name, `local`, or a URL.
    target: String,
    /// Added before each answer, as 100ms or 2s.
    #[arg(long, value_parser = duration)]
    latency: Option<Duration>,
    /// Share of calls that fail with UNAVAILABLE, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    errors: f64,
    /// Share of calls that are never answered, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    hang: f64,
    /// Share of calls whose trailers carry a status that is none, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    wrong_trailers: f64,
    /// Ends by itself after this long.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasting: Option<Duration>,
    /// Switches every fault off.
    #[arg(long, conflicts_with_all = ["latency", "errors", "hang", "wrong_trailers", "lasting"])]
    clear: bool,
}

/// Sets or shows the faults, and prints them as they are then.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let url = url(&args.target);
    let mut faults = FaultsClient::new(channel(&url)?);
    let settings = FaultSettings {
        latency_ms: millis(args.latency)?,
        error_rate: args.errors,
        hang_rate: args.hang,
        wrong_trailers_rate: args.wrong_trailers,
        for_ms: millis(args.lasting)?,
    };
    let answer = if args.clear || settings != FaultSettings::default() {
        faults.set(bounded(settings)).await
    } else {
        faults.show(bounded(ShowRequest {})).await
    };
    let state = answer.with_context(|| format!("{url} did not take it"))?.into_inner();
    println!("{}: {}", state.instance, describe(&state.settings.unwrap_or_default()));
    Ok(())
}

fn bounded<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(5));
    request
}

fn url(target: &str) -> String {
    match target {
        "local" => "http://127.0.0.1:9000".to_owned(),
        url if url.contains("://") => url.to_owned(),
        name if name.contains(':') => format!("http://{name}"),
        name => format!("http://{name}:9000"),
    }
}

fn describe(settings: &FaultSettings) -> String {
    let share = |rate: f64, what: &str| (rate > 0.0).then(|| format!("{:.1} % of calls {what}", rate * 100.0));
    let mut parts = vec![
        (settings.latency_ms > 0).then(|| format!("{} ms later", settings.latency_ms)),
        share(settings.error_rate, "fail"),
        share(settings.hang_rate, "hang"),
        share(settings.wrong_trailers_rate, "end in wrong trailers"),
    ];
    if parts.iter().all(Option::is_none) {
        return "no faults".to_owned();
    }
    parts.push((settings.for_ms > 0).then(|| format!("for {} ms", settings.for_ms)));
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn millis(time: Option<Duration>) -> anyhow::Result<u32> {
    u32::try_from(time.unwrap_or_default().as_millis()).context("that is too long")
}

/// Reads `250ms`, `30s`, `2m` or `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is no time: write it as 250ms, 30s, 2m or 1h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is no time: write it as 250ms, 30s, 2m or 1h"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_targets() {
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("100").is_err() && duration("fast").is_err() && duration("").is_err());
        assert_eq!(url("ledger"), "http://ledger:9000");
        assert_eq!(url("10.77.0.4:9000"), "http://10.77.0.4:9000");
    }

    #[test]
    fn faults_in_words() {
        assert_eq!(describe(&FaultSettings::default()), "no faults");
        let settings = FaultSettings {
            latency_ms: 100,
            error_rate: 0.25,
            for_ms: 5000,
            ..Default::default()
        };
        assert_eq!(describe(&settings), "100 ms later, 25.0 % of calls fail, for 5000 ms");
    }
}
