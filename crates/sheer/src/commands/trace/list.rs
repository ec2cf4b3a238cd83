//! `sheer trace list`.

use sheer_api::v1::{ListTracesRequest, ListTracesResponse, TraceStatus, TraceSummary};

use super::{json, words};
use crate::{
    cli::Global,
    outcome::{Misuse, Outcome},
    output::{Format, Table, Tone, print_json},
    running::Mesh,
    words::or_dash,
};

/// Flags of `sheer trace list`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
What is recorded: requests whose trace context says so, a share of the traces that begin at a proxy, and whatever failed or was slow.

Examples:
  sheer trace list -n bank
  sheer trace list --failed --within 10m
  sheer trace list --service ledger --min-duration 200ms
  sheer trace list --status UNAVAILABLE -o json")]
pub(crate) struct Args {
    /// Traces in which this workload or Service took part, as ledger, deploy/ledger or bank/ledger
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Traces in which a workload of this namespace took part
    #[arg(short, long)]
    namespace: Option<String>,
    /// Traces with this HTTP status, gRPC code, verdict or reason on any span, as 503, UNAVAILABLE or capacity; `ok` and `failed` too
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Traces in which something failed
    #[arg(long)]
    failed: bool,
    /// Traces that took this long at least, as 200ms or 1.5s
    #[arg(long, value_name = "TIME", value_parser = crate::words::duration)]
    min_duration: Option<std::time::Duration>,
    /// Traces not older than this, as 10m
    #[arg(long, value_name = "TIME", value_parser = crate::words::duration)]
    within: Option<std::time::Duration>,
    /// Traces whose id begins so
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Args {
    fn request(&self) -> anyhow::Result<ListTracesRequest> {
        let (status, code) = match self.status.as_deref() {
            Some("ok") => (TraceStatus::Ok, None),
            Some("failed") => (TraceStatus::Failed, None),
            code => (TraceStatus::Unspecified, code),
        };
        if self.failed && status == TraceStatus::Ok {
            return Err(Misuse("--failed and --status ok: no trace is both".to_owned()).into());
        }
        let status = if self.failed { TraceStatus::Failed } else { status };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(ListTracesRequest {
            service: text(&self.service),
            namespace: text(&self.namespace),
            status: status.into(),
            min_duration_us: self.min_duration.map_or(0, |time| whole(time.as_micros())),
            within_ms: self.within.map_or(0, |time| whole(time.as_millis())),
            id: text(&self.id),
            limit: self.limit,
            code: code.unwrap_or_default().to_owned(),
        })
    }
}

/// Lists.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = args.request()?;
    let answer = crate::running::block_on(async { Mesh::find(global).await?.traces(request).await })?;
    match args.output {
        Format::Json => print_json(&json::List::of(&answer))?,
        format => table(&answer.traces, format == Format::Wide).print()?,
    }
    if answer.traces.is_empty() {
        eprintln!("sheer: {}", why_none(&answer));
    }
    Ok(Outcome::Healthy)
}

fn why_none(answer: &ListTracesResponse) -> String {
    let store = answer.store.unwrap_or_default();
    match (store.traces, store.proxies) {
        (0, 0) => "no proxy pushes spans: is a meshed workload running, and SHEER_PROXY_TRACE_CONTROL_PLANE not false?"
            .to_owned(),
        (0, _) => "nothing was recorded yet: traces come with requests".to_owned(),
        (traces, _) => format!("none of the {traces} traces that are kept is like that"),
    }
}

pub(super) fn table(traces: &[TraceSummary], wide: bool) -> Table {
    let mut table = if wide {
        Table::new([
            "TRACE",
            "STARTED",
            "DURATION",
            "SPANS",
            "REQUEST",
            "FROM",
            "TO",
            "STATUS",
            "FAILED AT",
            "KEPT",
            "WORKLOADS",
        ])
    } else {
        Table::new([
            "TRACE",
            "STARTED",
            "DURATION",
            "SPANS",
            "REQUEST",
            "FROM",
            "TO",
            "STATUS",
            "FAILED AT",
        ])
    };
    for trace in traces {
        let tone = if trace.failed { Tone::Bad } else { Tone::Good };
        let status = words::status(trace.http_status, trace.grpc_status);
        let mut row = vec![
            (trace.trace_id.clone(), Tone::Plain),
            (words::clock(trace.start_unix_ns), Tone::Dim),
            (words::micros(trace.duration_us), Tone::Plain),
            (trace.spans.to_string(), Tone::Plain),
            (trace.name.clone(), Tone::Plain),
            (or_dash(&trace.source), Tone::Plain),
            (or_dash(&trace.target), Tone::Plain),
            (or_dash(&status), tone),
            (or_dash(&failed_at(trace)), tone),
        ];
        if wide {
            row.push((words::kept(trace.kept()).to_owned(), Tone::Dim));
            row.push((trace.workloads.join(", "), Tone::Plain));
        }
        table.toned(row);
    }
    table
}

/// `bank/deploy/ledger: capacity (failfast)`.
pub(super) fn failed_at(trace: &TraceSummary) -> String {
    match (trace.failed_at.as_str(), trace.verdict.as_str(), trace.reason.as_str()) {
        (at, "", "") => at.to_owned(),
        (at, "", reason) => format!("{at}: {reason}"),
        (at, verdict, reason) => format!("{at}: {verdict} ({reason})"),
    }
}
