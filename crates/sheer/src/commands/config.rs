//! `sheer config dump`: everything that the proxies of a workload hold.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use clap::Subcommand;
use sheer_api::v1::{
    ConfigDumpRequest, ControlStream, EndpointState, InboundState, OutboundState, ProxyDump, ProxyState, RouteState,
};

use crate::certificate::moment;
use crate::cli::Global;
use crate::outcome::Outcome;
use crate::output::{Format, Table, Tone, paint, print_json};
use crate::running::Mesh;
use crate::words;

/// Flags of `sheer config`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show everything that the proxies of a workload hold: listeners, routes, endpoints, policies, streams.
    Dump(DumpArgs),
}

/// Flags of `sheer config dump`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
What is shown is what the proxy has, not what the control plane hopes: `sheer policy explain` compares the two.

Exit code 1 if a proxy does not answer.

Examples:
  sheer config dump -n bank deploy/ledger
  sheer config dump pod/ledger-6d9f4-0
  sheer config dump -n bank deploy/ledger -o json")]
struct DumpArgs {
    /// A workload or pod, as deploy/ledger or pod/ledger-6d9f4-0
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// Namespace of a name that has none
    #[arg(short, long)]
    namespace: Option<String>,
    /// How it is printed; `wide` has the address of each destination and whole identities
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let Command::Dump(args) = &args.command;
    let request = ConfigDumpRequest {
        workload: args.workload.clone(),
        namespace: args.namespace.clone().unwrap_or_default(),
    };
    let proxies = crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        mesh.config_dump(request).await
    })?;
    match args.output {
        Format::Json => print_json(&proxies)?,
        format => {
            let mut stdout = std::io::stdout();
            let colour = stdout.is_terminal();
            let pages: Vec<String> = proxies
                .iter()
                .filter_map(|dump| page(dump, format == Format::Wide, colour))
                .collect();
            stdout.write_all(pages.join("\n").as_bytes())?;
        }
    }
    Ok(told(&proxies))
}

/// Says which proxies did not answer.
pub(crate) fn told(proxies: &[ProxyDump]) -> Outcome {
    let mut outcome = Outcome::Healthy;
    for ProxyDump {
        namespace,
        pod,
        state,
        error,
        ..
    } in proxies
    {
        if state.is_none() {
            eprintln!("sheer: {namespace}/{pod}: {error}");
            outcome = Outcome::Finding;
        }
    }
    outcome
}

fn page(dump: &ProxyDump, wide: bool, colour: bool) -> Option<String> {
    let state = dump.state.as_ref()?;
    let mut text = head(dump, state, wide);
    let mut section = |title: &str, table: Option<Table>| {
        let _ = write!(text, "\n{}\n", paint(title, Tone::Good, colour));
        match table {
            Some(table) => text += &table.render(colour),
            None => text += "none\n",
        }
    };
    section("Listeners", Some(listeners(state)));
    section("Routes of what it sends", routes(&state.outbound, wide));
    section("Endpoints of what it sends to", endpoints(&state.outbound, wide));
    section("Policies of its ports", inbound(&state.inbound));
    section("Streams from the control plane", streams(&state.control_streams));
    Some(text)
}

fn head(dump: &ProxyDump, state: &ProxyState, wide: bool) -> String {
    let ProxyDump {
        namespace,
        pod,
        workload,
        ..
    } = dump;
    let identity = if wide {
        state.identity.clone()
    } else {
        words::identity(&state.identity)
    };
    let certificate = if state.certificate_not_after == 0 {
        "none yet".to_owned()
    } else {
        format!(
            "{identity}, from {} to {}",
            moment(state.certificate_not_before),
            moment(state.certificate_not_after)
        )
    };
    format!(
        "{namespace}/{pod} ({workload}): sheer-proxy {}, up {}\nCertificate: {certificate}\n",
        state.version,
        words::age_ms(state.uptime_ms)
    )
}

fn listeners(state: &ProxyState) -> Table {
    let mut table = Table::new(["NAME", "ADDRESS"]);
    for listener in &state.listeners {
        table.row([listener.name.clone(), listener.address.clone()]);
    }
    table
}

/// What a destination is called: its service, or its address.
fn destination(state: &OutboundState, wide: bool) -> String {
    let name = state.name.strip_suffix(".svc.cluster.local").unwrap_or(&state.name);
    let short = name.replace(".svc.cluster.local:", ":");
    if wide && state.name != state.address {
        format!("{short} ({})", state.address)
    } else {
        short
    }
}

fn routes(outbound: &[OutboundState], wide: bool) -> Option<Table> {
    let mut table = Table::new(["DESTINATION", "PROTOCOL", "ROUTE", "TAKES", "DOES", "SENDS TO", "AGE"]);
    for state in outbound {
        let name = [
            destination(state, wide),
            state.protocol.clone(),
            words::age_ms(state.age_ms),
        ];
        if state.routes.is_empty() {
            let [name, protocol, age] = name;
            let cells = [
                name,
                protocol,
                "-".into(),
                "-".into(),
                "as it is".into(),
                "-".into(),
                age,
            ];
            table.row(cells);
            continue;
        }
        for route in &state.routes {
            let [name, protocol, age] = name.clone();
            table.row([
                name,
                protocol,
                route_name(route),
                route.matches.clone(),
                words::or_dash(&route.actions),
                words::or_dash(&route.backends.join(", ")),
                age,
            ]);
        }
    }
    (!outbound.is_empty()).then_some(table)
}

/// The route and which of its rules, as `HTTPRoute bank/canary 2`.
pub(crate) fn route_name(route: &RouteState) -> String {
    let object = words::object(route.route.as_ref());
    let is_default = route.route.as_ref().is_some_and(|route| route.kind == "default");
    if is_default {
        object
    } else {
        format!("{object} {}", route.rule + 1)
    }
}

fn endpoints(outbound: &[OutboundState], wide: bool) -> Option<Table> {
    let mut table = Table::new([
        "BACKEND",
        "ADDRESS",
        "POD",
        "READY",
        "BREAKER",
        "FAILURES",
        "EWMA",
        "UNDER WAY",
        "WEIGHT",
        "MTLS",
        "WHY NOT",
    ]);
    let mut known = Vec::new();
    for backend in outbound.iter().flat_map(|state| &state.backends) {
        for endpoint in &backend.endpoints {
            let name = words::object(backend.backend.as_ref());
            // A service that is reached by several addresses has its endpoints once.
            if known.contains(&(name.clone(), &endpoint.address)) {
                continue;
            }
            table.toned(endpoint_cells(&name, endpoint, wide));
            known.push((name, &endpoint.address));
        }
    }
    (!known.is_empty()).then_some(table)
}

/// One endpoint, as the proxy has it.
pub(crate) fn endpoint_cells(backend: &str, endpoint: &EndpointState, wide: bool) -> [(String, Tone); 11] {
    let (ready, tone) = match (endpoint.ready, endpoint.failures) {
        (true, 0) => ("yes", Tone::Good),
        (true, _) => ("yes", Tone::Warn),
        // Nothing ever went there: no sign of trouble.
        (false, 0) if endpoint.breaker == "closed" => ("no", Tone::Dim),
        (false, _) => ("no", Tone::Bad),
    };
    let breaker = if endpoint.breaker == "closed" {
        Tone::Plain
    } else {
        Tone::Bad
    };
    let ewma = if endpoint.rtt_ms > 0.0 {
        format!("{:.1}ms", endpoint.rtt_ms)
    } else {
        "-".to_owned()
    };
    let identity = if wide && !endpoint.identity.is_empty() {
        endpoint.identity.clone()
    } else {
        words::identity(&endpoint.identity)
    };
    let plain = |text: String| (text, Tone::Plain);
    [
        plain(backend.to_owned()),
        plain(endpoint.address.clone()),
        plain(words::or_dash(&endpoint.pod)),
        (ready.to_owned(), tone),
        (endpoint.breaker.clone(), breaker),
        plain(endpoint.failures.to_string()),
        plain(ewma),
        plain(endpoint.pending.to_string()),
        plain(endpoint.weight.to_string()),
        plain(identity),
        plain(words::or_dash(&endpoint.why)),
    ]
}

fn inbound(ports: &[InboundState]) -> Option<Table> {
    let mut table = Table::new(["PORT", "SERVER", "PROTOCOL", "LETS IN", "LIMIT", "AGE"]);
    for port in ports {
        let lets_in = if port.authorizations.is_empty() {
            "nobody".to_owned()
        } else {
            port.authorizations.join(" | ")
        };
        table.row([
            port.port.to_string(),
            words::object(port.server.as_ref()),
            port.protocol.clone(),
            lets_in,
            words::or_dash(&port.rate_limit),
            words::age_ms(port.age_ms),
        ]);
        for route in &port.routes {
            table.row([
                String::new(),
                format!("  {}", route_name(route)),
                String::new(),
                format!("{}: {}", route.matches, words::or_dash(&route.actions)),
                String::new(),
                String::new(),
            ]);
        }
    }
    (!ports.is_empty()).then_some(table)
}

fn streams(streams: &[ControlStream]) -> Option<Table> {
    let mut table = Table::new(["STREAM", "OF", "OPEN", "LAST MESSAGE", "MESSAGES", "LAST ERROR"]);
    for stream in streams {
        let (open, tone) = if stream.connected {
            ("yes", Tone::Good)
        } else {
            ("no", Tone::Bad)
        };
        let last = if stream.messages == 0 {
            "never".to_owned()
        } else {
            format!("{} ago", words::age_ms(stream.last_update_age_ms))
        };
        table.toned([
            (stream.method.clone(), Tone::Plain),
            (stream.target.clone(), Tone::Plain),
            (open.to_owned(), tone),
            (last, Tone::Plain),
            (stream.messages.to_string(), Tone::Plain),
            (words::or_dash(&stream.last_error), Tone::Plain),
        ]);
    }
    (!streams.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheer_api::v1::{BackendState, Listener, ObjectRef};

    fn object(kind: &str, name: &str) -> Option<ObjectRef> {
        Some(ObjectRef {
            kind: kind.to_owned(),
            namespace: if kind == "default" {
                String::new()
            } else {
                "bank".to_owned()
            },
            name: name.to_owned(),
            ..ObjectRef::default()
        })
    }

    fn state() -> ProxyState {
        let endpoint = |address: &str, ready, failures| EndpointState {
            address: address.to_owned(),
            weight: 1.0,
            identity: "ledger.bank.serviceaccount.identity.sheer.cluster.local".to_owned(),
            ready,
            breaker: if failures > 4 { "open" } else { "closed" }.to_owned(),
            failures,
            rtt_ms: 2.25,
            pending: 1,
            why: if ready {
                ""
            } else {
                "sits out after 5 failures in a row"
            }
            .to_owned(),
            pod: "ledger-0".to_owned(),
            ..EndpointState::default()
        };
        let route = RouteState {
            route: object("HTTPRoute", "canary"),
            rule: 0,
            matches: "GET /api/*".to_owned(),
            actions: "the whole request within 2s".to_owned(),
            backends: vec!["Service bank/ledger:8080 90".to_owned()],
            requests: 0,
        };
        let ledger = OutboundState {
            address: "10.78.0.3:8080".to_owned(),
            name: "ledger.bank.svc.cluster.local:8080".to_owned(),
            parent: object("Service", "ledger"),
            protocol: "detect".to_owned(),
            age_ms: 12_000,
            routes: vec![route],
            backends: vec![BackendState {
                backend: object("Service", "ledger"),
                endpoints: vec![
                    endpoint("10.77.0.5:9000", true, 0),
                    endpoint("10.77.0.6:9000", false, 5),
                ],
                ..BackendState::default()
            }],
        };
        let unknown = OutboundState {
            address: "1.1.1.1:53".to_owned(),
            name: "1.1.1.1:53".to_owned(),
            protocol: "unknown".to_owned(),
            ..OutboundState::default()
        };
        ProxyState {
            version: "0.1.0".to_owned(),
            identity: "web.bank.serviceaccount.identity.sheer.cluster.local".to_owned(),
            certificate_not_before: 1_790_000_000,
            certificate_not_after: 1_790_086_400,
            listeners: vec![Listener {
                name: "inbound".to_owned(),
                address: "[::]:4143".to_owned(),
            }],
            control_streams: vec![ControlStream {
                method: "Destination.Get".to_owned(),
                target: "ledger.bank.svc.cluster.local:8080".to_owned(),
                last_error: "gone".to_owned(),
                ..ControlStream::default()
            }],
            outbound: vec![ledger, unknown],
            inbound: vec![InboundState {
                port: 8080,
                server: object("default", "all-unauthenticated"),
                protocol: "detect".to_owned(),
                age_ms: 500,
                ..InboundState::default()
            }],
            uptime_ms: 180_000,
            ..ProxyState::default()
        }
    }

    #[test]
    fn the_page_reads_well() {
        let dump = ProxyDump {
            namespace: "bank".to_owned(),
            pod: "web-0".to_owned(),
            workload: "deploy/web".to_owned(),
            state: Some(state()),
            error: String::new(),
        };
        insta::assert_snapshot!(page(&dump, false, false).unwrap());
        let silent = ProxyDump { state: None, ..dump };
        assert!(page(&silent, false, false).is_none());
        assert_eq!(told(&[silent]), Outcome::Finding);
    }
}
