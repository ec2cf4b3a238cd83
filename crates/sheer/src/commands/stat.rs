//! `sheer stat`: how workloads, pods, services and routes do.

use std::{io::IsTerminal as _, time::Duration};

use serde::Serialize;
use sheer_api::names::grpc_code_name;
use sheer_api::v1::{Selector, Stat, StatRequest, StatResponse, Traffic, selector::Kind, series_key::Direction};

use crate::{
    cli::Global,
    numbers::{ENOUGH, Numbers, Rates as _, millis, percent, rate, resource, rounded, selector},
    outcome::Outcome,
    output::{Format, Table, Tone, again, print_json, size},
    words,
};

/// Time between two tables of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Flags of `sheer stat`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Of workloads, pods and namespaces: what arrived at them, as their own sidecars saw it; of one at which nothing arrives (marked >), what it sent.
Of services and routes, and with --to: what clients saw. SUCCESS and RPS are effective there, after retries; ACTUAL counts every attempt.

Exit code 1 where less than 99 % of some resource's requests went well, or a sidecar does not report.

Examples:
  sheer stat deploy -n bank
  sheer stat deploy/ledger -n bank --from deploy/payments
  sheer stat deploy/payments -n bank --to svc/fraud --window 10m
  sheer stat routes -n bank -o wide
  sheer stat pods -A --watch
  sheer stat svc -n bank -o json
  sheer stat deploy -n bank --prometheus http://localhost:9090")]
pub(crate) struct Args {
    /// deploy, sts, workloads, pods, svc, routes or ns; or one of them, as deploy/web
    #[arg(value_name = "RESOURCE", default_value = "workloads")]
    resource: String,
    /// Namespace; all where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only what comes from here
    #[arg(long, value_name = "RESOURCE")]
    from: Option<String>,
    /// Only what goes there
    #[arg(long, value_name = "RESOURCE")]
    to: Option<String>,
    /// How far back numbers go, up to 6h
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = words::duration)]
    window: Duration,
    /// Again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Ask this Prometheus instead of the control plane
    #[arg(long, value_name = "URL", env = "SHEER_PROMETHEUS")]
    prometheus: Option<String>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One resource, as programs read it. Null where nothing was asked of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    namespace: String,
    name: String,
    /// Pods with a sidecar, of all pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    meshed: Option<String>,
    /// Of a route: which of its rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    success_rate: Option<f64>,
    rps: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    tcp_connections: u64,
    mtls_share: Option<f64>,
    /// What clients saw, attempt by attempt.
    #[serde(flatten)]
    attempts: Option<Attempts>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Attempts {
    actual_success_rate: Option<f64>,
    actual_rps: f64,
    retries_per_second: f64,
}

/// Shows the numbers.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = request(args)?;
    crate::running::block_on(async {
        let numbers = Numbers::find(global, args.prometheus.as_deref()).await?;
        if args.watch {
            return watch(args, &numbers, &request).await;
        }
        let answer = numbers.stat(&request).await?;
        show(args, &request, &answer)?;
        for note in &answer.notes {
            eprintln!("sheer: {note}");
        }
        if answer.stats.is_empty() {
            eprintln!("sheer: nothing that fits has done anything in this time");
        }
        Ok(outcome(&answer))
    })
}

fn request(args: &Args) -> anyhow::Result<StatRequest> {
    let namespace = args.namespace.as_deref();
    let side = |reference: &Option<String>| -> anyhow::Result<Option<Selector>> {
        Ok(reference
            .as_deref()
            .map(|reference| selector(reference, namespace))
            .transpose()?)
    };
    Ok(StatRequest {
        what: Some(selector(&args.resource, namespace)?),
        from: side(&args.from)?,
        to: side(&args.to)?,
        window_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX),
        interval_ms: 0,
        only_active: args.from.is_some() || args.to.is_some(),
    })
}

fn outcome(answer: &StatResponse) -> Outcome {
    let traffic = answer.stats.iter().filter_map(|stat| stat.traffic.as_ref());
    let well = traffic
        .into_iter()
        .all(|traffic| traffic.success_rate().is_none_or(|rate| rate >= ENOUGH));
    if well && answer.notes.is_empty() {
        Outcome::Healthy
    } else {
        Outcome::Finding
    }
}

/// Shows the numbers again and again: on a terminal in place, for programs as a line of JSON each time.
async fn watch(args: &Args, numbers: &Numbers, request: &StatRequest) -> anyhow::Result<Outcome> {
    let is_json = args.output == Format::Json;
    let terminal = std::io::stdout().is_terminal();
    again(INTERVAL, terminal && !is_json, async || {
        let answer = numbers.stat(request).await?;
        if is_json {
            return Ok(serde_json::to_string(&rows(request, &answer))?);
        }
        Ok(table(request, &answer, args.output == Format::Wide).render(terminal))
    })
    .await?;
    Ok(Outcome::Healthy)
}

fn show(args: &Args, request: &StatRequest, answer: &StatResponse) -> anyhow::Result<()> {
    match args.output {
        Format::Json => print_json(&rows(request, answer))?,
        Format::Table | Format::Wide => table(request, answer, args.output == Format::Wide).print()?,
    }
    Ok(())
}

/// Whether numbers are of clients.
fn is_of_clients(request: &StatRequest) -> bool {
    let kind = request.what.as_ref().map(Selector::kind);
    request.to.is_some() || request.from.is_some() || matches!(kind, Some(Kind::Service | Kind::Route))
}

fn has_pods(request: &StatRequest) -> bool {
    let kind = request.what.as_ref().map(Selector::kind);
    !matches!(kind, Some(Kind::Service | Kind::Route))
}

fn rows(request: &StatRequest, answer: &StatResponse) -> Vec<Row> {
    let (clients, pods) = (is_of_clients(request), has_pods(request));
    let row = |stat: &Stat| {
        let resource = stat.resource.clone().unwrap_or_default();
        let traffic = stat.traffic.clone().unwrap_or_default();
        let share = |share: Option<f64>| share.map(|share| rounded(share, 4));
        let millis = |millis: Option<f64>| millis.map(|millis| (millis * 100.0).round() / 100.0);
        Row {
            namespace: resource.namespace,
            name: resource.name,
            meshed: pods.then(|| format!("{}/{}", stat.pods_meshed, stat.pods)),
            rule: (!resource.part.is_empty()).then_some(resource.part),
            success_rate: share(traffic.success_rate()),
            rps: rounded(traffic.rps(), 2),
            p50_ms: millis(traffic.p50_ms),
            p95_ms: millis(traffic.p95_ms),
            p99_ms: millis(traffic.p99_ms),
            tcp_connections: traffic.tcp.as_ref().map_or(0, |tcp| tcp.open),
            mtls_share: share(traffic.mtls_share()),
            attempts: clients.then(|| Attempts {
                actual_success_rate: share(traffic.actual_success_rate()),
                actual_rps: rounded(traffic.actual_rps(), 2),
                retries_per_second: rounded(traffic.per_second(traffic.retries), 2),
            }),
        }
    };
    answer.stats.iter().map(row).collect()
}

/// The table for people. Columns that a question does not have are left out.
fn table(request: &StatRequest, answer: &StatResponse, wide: bool) -> Table {
    let (clients, pods) = (is_of_clients(request), has_pods(request));
    let kind = request.what.as_ref().map(Selector::kind);
    // A namespace is in none.
    let with_namespace =
        kind != Some(Kind::Namespace) && request.what.as_ref().is_none_or(|what| what.namespace.is_empty());
    let columns: [(&str, bool); 17] = [
        ("NAMESPACE", with_namespace),
        ("NAME", true),
        ("MESHED", pods),
        ("SUCCESS", true),
        ("ACTUAL", clients),
        ("RPS", true),
        ("ACTUAL-RPS", clients),
        ("RETRIES/S", clients),
        ("P50", true),
        ("P95", true),
        ("P99", true),
        ("TCP", true),
        ("MTLS", true),
        ("READ/S", wide),
        ("WRITTEN/S", wide),
        ("FAILED-CONNS", wide),
        ("ANSWERS", wide),
    ];
    let mut table = Table::default();
    table.toned(
        columns
            .iter()
            .filter(|(_, is_shown)| *is_shown)
            .map(|(title, _)| ((*title).to_owned(), Tone::Dim)),
    );
    for stat in &answer.stats {
        let cells = cells(stat, clients);
        let shown = cells.into_iter().zip(&columns).filter(|(_, (_, is_shown))| *is_shown);
        table.toned(shown.map(|(cell, _)| cell));
    }
    table
}

fn cells(stat: &Stat, clients: bool) -> [(String, Tone); 17] {
    let plain = |text: String| (text, Tone::Plain);
    let none = Traffic::default();
    let traffic = stat.traffic.as_ref().unwrap_or(&none);
    let tcp = traffic.tcp.unwrap_or_default();
    let of = stat.resource.as_ref();
    let is_route = of.is_some_and(|of| !of.part.is_empty());
    // Nothing arrives there: these numbers are of what it sent.
    let sent = !clients && stat.direction() == Direction::Outbound;
    let silent = traffic.requests == 0;
    let quiet = |text: String| (text, if silent { Tone::Dim } else { Tone::Plain });
    let bytes = |count: u64| plain(size(traffic.per_second(count) as u64));
    [
        plain(of.map_or_else(String::new, |of| of.namespace.clone())),
        plain(resource(of, false) + if sent { " >" } else { "" }),
        (
            format!("{}/{}", stat.pods_meshed, stat.pods),
            if stat.pods_meshed == stat.pods {
                Tone::Plain
            } else {
                Tone::Warn
            },
        ),
        percent(traffic.success_rate(), ENOUGH),
        percent(traffic.actual_success_rate(), ENOUGH),
        quiet(rate(traffic.rps())),
        // Not known of these: no attempts are counted.
        traffic
            .actual_success_rate()
            .map_or_else(|| plain("-".to_owned()), |_| quiet(rate(traffic.actual_rps()))),
        quiet(rate(traffic.per_second(traffic.retries))),
        millis(traffic.p50_ms),
        millis(traffic.p95_ms),
        millis(traffic.p99_ms),
        // Of a route nobody counts connections.
        plain(if is_route { "-".to_owned() } else { tcp.open.to_string() }),
        percent(traffic.mtls_share(), 1.0),
        bytes(tcp.read_bytes),
        bytes(tcp.written_bytes),
        (
            tcp.failed.to_string(),
            if tcp.failed > 0 { Tone::Warn } else { Tone::Plain },
        ),
        plain(answers(traffic)),
    ]
}

/// Statuses with their counts, the most first: `OK: 431, UNAVAILABLE: 3 (failfast)`.
fn answers(traffic: &Traffic) -> String {
    let mut statuses: Vec<_> = traffic.statuses.iter().collect();
    statuses.sort_by_key(|status| std::cmp::Reverse(status.count));
    let words: Vec<_> = statuses
        .iter()
        .filter(|status| status.count > 0)
        .take(4)
        .map(|status| {
            let code = match status.grpc_status {
                Some(code) => grpc_code_name(code).map_or_else(|| format!("gRPC {code}"), str::to_owned),
                None => status.http_status.to_string(),
            };
            let why = if status.error.is_empty() {
                String::new()
            } else {
                format!(" ({})", status.error)
            };
            format!("{code}: {}{why}", status.count)
        })
        .collect();
    words::or_dash(&words.join(", "))
}

#[cfg(test)]
mod tests;
