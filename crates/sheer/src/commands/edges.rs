//! `sheer edges`: who talks to whom, as whom, in which protocol, and how it is secured; and where traces break on the way.
//!
//! * [`traces`]: which edges lose the contexts of traces.

mod traces;

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use serde::Serialize;
use sheer_api::v1::{Edge, EdgesRequest, EdgesResponse, Selector, Tls, Traffic, WorkloadPropagation};

use crate::{
    cli::Global,
    numbers::{ENOUGH, Numbers, Rates as _, millis, percent, rate, resource, rounded, selector},
    outcome::Outcome,
    output::{Format, Table, Tone, again, age, print_json},
    words,
};

const INTERVAL: Duration = Duration::from_secs(1);

/// Flags of `sheer edges`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
An edge has the numbers of the client's sidecar; one from a client without a sidecar has those of the server's. Clients and servers outside of
the mesh go by their name or address. Where an application does not pass on the contexts of traces, that is said below, with what to do.

Examples:
  sheer edges -n bank
  sheer edges deploy/ledger -n bank -o wide
  sheer edges -A --from deploy/payments --window 1h
  sheer edges -n bank -o json | jq '.[] | select(.tls != \"mutual\")'")]
pub(crate) struct Args {
    /// Only edges of this, on either side, as deploy/web
    #[arg(value_name = "RESOURCE")]
    resource: Option<String>,
    /// Namespace of either side; all where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only edges from here
    #[arg(long, value_name = "RESOURCE")]
    from: Option<String>,
    /// Only edges to there
    #[arg(long, value_name = "RESOURCE")]
    to: Option<String>,
    /// How far back edges are known, up to 6h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = words::duration)]
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

/// One edge, as programs read it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    source: Party,
    destination: Party,
    /// The Service that the client addressed, with its port.
    service: Option<String>,
    source_identity: Option<String>,
    destination_identity: Option<String>,
    tls: &'static str,
    /// Why it is not mutual.
    why: Option<String>,
    protocols: Vec<String>,
    last_seen_s: u64,
    success_rate: Option<f64>,
    rps: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    tcp_connections: u64,
    read_bytes: u64,
    written_bytes: u64,
    seen_by: &'static str,
    /// What of the contexts of traces the client passed on; null where there was nothing to pass on.
    traces: Option<traces::Passed>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Party {
    kind: String,
    namespace: String,
    name: String,
}

/// Shows the edges. That some are not secured is no finding: `why` says what is behind it.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = request(args)?;
    crate::running::block_on(async {
        let numbers = Numbers::find(global, args.prometheus.as_deref()).await?;
        if args.watch {
            return watch(args, &numbers, &request).await;
        }
        let answer = numbers.edges(&request).await?;
        let propagation = numbers.propagation().await?;
        match args.output {
            Format::Json => print_json(&rows(&answer, &propagation))?,
            Format::Table | Format::Wide => {
                table(args, &answer, &propagation).print()?;
                write!(std::io::stdout().lock(), "{}", traces::findings(&answer, &propagation))?;
            }
        }
        if answer.edges.is_empty() {
            eprintln!("sheer: nobody that fits has talked to anybody in this time");
        }
        Ok(Outcome::Healthy)
    })
}

fn request(args: &Args) -> anyhow::Result<EdgesRequest> {
    let namespace = args.namespace.as_deref();
    let side = |reference: &Option<String>| -> anyhow::Result<Option<Selector>> {
        Ok(reference
            .as_deref()
            .map(|reference| selector(reference, namespace))
            .transpose()?)
    };
    // A namespace alone means its edges on either side.
    let of_namespace = namespace
        .map(|namespace| selector(&format!("ns/{namespace}"), None))
        .transpose()?;
    Ok(EdgesRequest {
        what: side(&args.resource)?.or(if args.from.is_none() && args.to.is_none() {
            of_namespace
        } else {
            None
        }),
        from: side(&args.from)?,
        to: side(&args.to)?,
        window_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX),
        interval_ms: 0,
    })
}

async fn watch(args: &Args, numbers: &Numbers, request: &EdgesRequest) -> anyhow::Result<Outcome> {
    let is_json = args.output == Format::Json;
    let terminal = std::io::stdout().is_terminal();
    again(INTERVAL, terminal && !is_json, async || {
        let answer = numbers.edges(request).await?;
        let propagation = numbers.propagation().await?;
        if is_json {
            return Ok(serde_json::to_string(&rows(&answer, &propagation))?);
        }
        Ok(table(args, &answer, &propagation).render(terminal) + &traces::findings(&answer, &propagation))
    })
    .await?;
    Ok(Outcome::Healthy)
}

fn rows(answer: &EdgesResponse, propagation: &[WorkloadPropagation]) -> Vec<Row> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let party = |resource: &Option<sheer_api::v1::Resource>| {
        let resource = resource.clone().unwrap_or_default();
        Party {
            kind: resource.kind,
            namespace: resource.namespace,
            name: resource.name,
        }
    };
    let hundredths = |millis: f64| (millis * 100.0).round() / 100.0;
    let row = |edge: &Edge| {
        let traffic = edge.traffic.clone().unwrap_or_default();
        let tcp = traffic.tcp.unwrap_or_default();
        Row {
            source: party(&edge.source),
            destination: party(&edge.destination),
            service: edge.service.as_ref().map(|service| resource(Some(service), true)),
            source_identity: text(&edge.source_identity),
            destination_identity: text(&edge.destination_identity),
            tls: tls(edge.tls()),
            why: text(&edge.why_plain),
            protocols: edge.protocols.clone(),
            last_seen_s: last_seen(answer, edge),
            success_rate: traffic.success_rate().map(|rate| rounded(rate, 4)),
            rps: rounded(traffic.rps(), 2),
            p50_ms: traffic.p50_ms.map(hundredths),
            p99_ms: traffic.p99_ms.map(hundredths),
            tcp_connections: tcp.open,
            read_bytes: tcp.read_bytes,
            written_bytes: tcp.written_bytes,
            seen_by: seen_by(edge),
            traces: traces::passed(edge, propagation),
        }
    };
    answer.edges.iter().map(row).collect()
}

fn seen_by(edge: &Edge) -> &'static str {
    match edge.seen_by() {
        sheer_api::v1::series_key::Direction::Inbound => "server",
        _ => "client",
    }
}

fn tls(tls: Tls) -> &'static str {
    match tls {
        Tls::Mutual => "mutual",
        Tls::Opaque => "application",
        Tls::Plain => "none",
        Tls::Loopback => "loopback",
        Tls::Unspecified => "unknown",
    }
}

/// Seconds between the last that happened and the end of what is answered.
fn last_seen(answer: &EdgesResponse, edge: &Edge) -> u64 {
    let end = answer.window.as_ref().map_or(0, |window| window.to_ms);
    u64::try_from((end - edge.last_seen_ms) / 1_000).unwrap_or(0)
}

/// The table for people.
fn table(args: &Args, answer: &EdgesResponse, propagation: &[WorkloadPropagation]) -> Table {
    let wide = args.output == Format::Wide;
    let namespace = args.namespace.as_deref();
    let columns: [(&str, bool); 15] = [
        ("SOURCE", true),
        ("DESTINATION", true),
        ("SERVICE", true),
        ("CLIENT", true),
        ("SERVER", wide),
        ("TLS", true),
        ("PROTOCOL", true),
        ("SUCCESS", true),
        ("RPS", true),
        ("P50", wide),
        ("P99", true),
        ("TCP", true),
        ("LAST-SEEN", true),
        ("TRACES", wide),
        ("WHY-NOT-MUTUAL", wide),
    ];
    let mut table = Table::default();
    table.toned(
        columns
            .iter()
            .filter(|(_, is_shown)| *is_shown)
            .map(|(title, _)| ((*title).to_owned(), Tone::Dim)),
    );
    for edge in &answer.edges {
        let shown = cells(answer, edge, (namespace, propagation)).into_iter().zip(&columns);
        table.toned(shown.filter(|(_, (_, is_shown))| *is_shown).map(|(cell, _)| cell));
    }
    table
}

fn cells(
    answer: &EdgesResponse,
    edge: &Edge,
    (namespace, propagation): (Option<&str>, &[WorkloadPropagation]),
) -> [(String, Tone); 15] {
    let plain = |text: String| (text, Tone::Plain);
    let none = Traffic::default();
    let traffic = edge.traffic.as_ref().unwrap_or(&none);
    // What is of the namespace that was asked for goes by its name alone.
    let named = |of: &Option<sheer_api::v1::Resource>| {
        let foreign = of.as_ref().is_some_and(|of| Some(of.namespace.as_str()) != namespace);
        plain(resource(of.as_ref(), foreign))
    };
    let tls_tone = match edge.tls() {
        Tls::Mutual => Tone::Good,
        Tls::Opaque | Tls::Loopback => Tone::Plain,
        Tls::Plain | Tls::Unspecified => Tone::Warn,
    };
    let seen = last_seen(answer, edge);
    [
        named(&edge.source),
        named(&edge.destination),
        named(&edge.service),
        plain(words::identity(&edge.source_identity)),
        plain(words::identity(&edge.destination_identity)),
        (tls(edge.tls()).to_owned(), tls_tone),
        plain(words::or_dash(&edge.protocols.join(","))),
        percent(traffic.success_rate(), ENOUGH),
        plain(rate(traffic.rps())),
        millis(traffic.p50_ms),
        millis(traffic.p99_ms),
        plain(traffic.tcp.as_ref().map_or(0, |tcp| tcp.open).to_string()),
        (age(seen), if seen > 60 { Tone::Dim } else { Tone::Plain }),
        traces::word(edge, propagation),
        plain(words::or_dash(&edge.why_plain)),
    ]
}

#[cfg(test)]
mod tests;
