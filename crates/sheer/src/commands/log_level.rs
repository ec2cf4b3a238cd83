//! `sheer log-level`: what sidecars log.

use std::time::Duration;

use serde::Serialize;
use sheer_api::v1::{LogLevelRequest, ProxyLogLevel, WorkloadLogLevelRequest};

use crate::{
    cli::Global,
    outcome::{Misuse, Outcome},
    output::{Format, Table, Tone, print_json},
    running::Mesh,
    words::duration,
};

/// Flags of `sheer log-level`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A level is a filter as RUST_LOG has it: error, warn, info, debug, trace, or one for parts of the proxy. With --for the one that held before comes back by
itself, in the proxy, also if this command is long gone.

Examples:
  sheer log-level deploy/web                         what its sidecars log now
  sheer log-level deploy/web debug --for 10m
  sheer log-level -n bank deploy/ledger warn,sheer_proxy::inbound=trace --for 1m
  sheer logs -f deploy/web --proxy                   what they say")]
pub(crate) struct Args {
    /// Workload or pod, as deploy/web
    workload: String,
    /// New filter; without it the present one is shown
    filter: Option<String>,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// How long it holds, as 10m [default: until it is changed or the proxy ends]
    #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "filter")]
    lasting: Option<Duration>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Row<'a> {
    namespace: &'a str,
    pod: &'a str,
    before: &'a str,
    filter: &'a str,
    error: &'a str,
}

/// Shows or changes it. A sidecar that does not answer is a finding.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let change = LogLevelRequest {
        filter: args.filter.clone().unwrap_or_default(),
        for_ms: args
            .lasting
            .map_or(0, |lasting| u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX)),
    };
    let request = WorkloadLogLevelRequest {
        workload: args.workload.clone(),
        namespace: args.namespace.clone().unwrap_or_default(),
        change: Some(change),
    };
    let proxies = crate::running::block_on(async { Mesh::find(global).await?.log_level(request).await })?;
    anyhow::ensure!(!proxies.is_empty(), "{} has no sidecar", args.workload);
    // The mistake is the same for every sidecar, and no answer.
    if let Some(wrong) = proxies.iter().find(|proxy| proxy.error.contains("is not a filter")) {
        return Err(Misuse(wrong.error.clone()).into());
    }
    let rows: Vec<Row<'_>> = proxies.iter().map(row).collect();
    match args.output {
        Format::Json => print_json(&rows)?,
        Format::Table | Format::Wide => table(&rows).print()?,
    }
    let failed = rows.iter().any(|row| !row.error.is_empty());
    Ok(if failed { Outcome::Finding } else { Outcome::Healthy })
}

fn row(proxy: &ProxyLogLevel) -> Row<'_> {
    let (before, filter) = proxy
        .level
        .as_ref()
        .map_or(("", ""), |level| (level.before.as_str(), level.now.as_str()));
    Row {
        namespace: &proxy.namespace,
        pod: &proxy.pod,
        before,
        filter,
        error: &proxy.error,
    }
}

fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::new(["NAMESPACE", "POD", "FILTER", "BEFORE"]);
    for row in rows {
        let (filter, tone) = if row.error.is_empty() {
            (row.filter, Tone::Plain)
        } else {
            (row.error, Tone::Bad)
        };
        let before = if row.before == row.filter { "-" } else { row.before };
        table.toned([
            (row.namespace.to_owned(), Tone::Plain),
            (row.pod.to_owned(), Tone::Plain),
            (filter.to_owned(), tone),
            (before.to_owned(), Tone::Plain),
        ]);
    }
    table
}
