//! `sheer routes`: the routes that proxies follow, rule by rule, with live rates.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;
use sheer_api::v1::{ConfigDumpRequest, ObjectRef, OutboundState, ProxyDump, RouteState, RouteStatus};

use super::config::{route_name, told};
use super::rates::{Scrapes, per_second};
use crate::cli::Global;
use crate::outcome::Outcome;
use crate::output::{Format, Table, Tone, print_json};
use crate::running::Mesh;
use crate::scrape::Sample;
use crate::words;

/// Flags of `sheer routes`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Of a service, the routes that the proxies of its callers follow; of a workload, those that its own proxies follow. Rates are of each
rule, over the proxies that are looked at, measured while the command runs: requests, or connections where they are not looked into.

Examples:
  sheer routes -n bank svc/ledger
  sheer routes -n bank
  sheer routes -n bank deploy/web
  sheer routes -n bank svc/ledger -o json")]
pub(crate) struct Args {
    /// A service or a workload, as svc/ledger or deploy/web [default: all of the namespace]
    #[arg(value_name = "RESOURCE")]
    resource: Option<String>,
    /// Namespace of a name that has none
    #[arg(short, long)]
    namespace: Option<String>,
    /// How many seconds rates are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    window: u64,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One rule of one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    parent: String,
    route: String,
    takes: String,
    does: String,
    sends_to: Vec<String>,
    /// Proxies that follow it.
    proxies: usize,
    /// Of this rule; connections of one that looks at no requests.
    requests_per_second: f64,
    /// Since the proxies counted first.
    requests: u64,
}

/// What the control plane says of one route at one parent (`status.parents` of Gateway API).
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Status {
    route: String,
    file: String,
    line: u32,
    parent: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Condition {
    r#type: String,
    status: bool,
    reason: String,
    message: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    rules: &'a [Row],
    status: &'a [Status],
}

/// What is looked at.
enum Meant {
    /// Callers of a service, by name.
    Service(String),
    /// A workload's own proxies.
    Workload,
}

/// Shows the rules.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let resource = args.resource.clone().unwrap_or_default();
    let (meant, workload) = match resource.split_once('/') {
        Some(("svc" | "service" | "services", name)) => (Meant::Service(name.to_owned()), String::new()),
        _ => (Meant::Workload, resource.clone()),
    };
    // The callers of a service may be in any namespace.
    let namespace = match meant {
        Meant::Service(_) => None,
        Meant::Workload => args.namespace.clone(),
    };
    let request = ConfigDumpRequest {
        workload,
        namespace: namespace.unwrap_or_default(),
    };
    let (proxies, scrapes, written) = crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let proxies = mesh.config_dump(request).await?;
        let scrapes = Scrapes::take(&mesh, &proxies, Duration::from_secs(args.window)).await?;
        anyhow::Ok((proxies, scrapes, mesh.routes().await?))
    })?;
    let rows = rows(&proxies, &scrapes, |parent| match &meant {
        Meant::Service(name) => is_named(parent, name, args.namespace.as_deref()),
        Meant::Workload => true,
    });
    let status = status(&written, |route, parent| match &meant {
        Meant::Service(name) => is_named(parent, name, args.namespace.as_deref()),
        Meant::Workload => rows.iter().any(|row| row.route.starts_with(route)),
    });
    match args.output {
        Format::Json => print_json(&Shown {
            rules: &rows,
            status: &status,
        })?,
        Format::Table | Format::Wide => {
            table(&rows).print()?;
            if !status.is_empty() {
                writeln!(std::io::stdout())?;
                status_table(&status).print()?;
            }
        }
    }
    if rows.is_empty() {
        eprintln!(
            "sheer: no proxy follows a route of {} now: proxies ask for one when traffic needs it",
            if resource.is_empty() {
                args.namespace.as_deref().unwrap_or("the mesh")
            } else {
                &resource
            }
        );
    }
    Ok(told(&proxies))
}

/// Whether an object is the one that a user names: `ledger`, `ledger.bank`, `ledger:9000`.
fn is_named(parent: Option<&ObjectRef>, name: &str, namespace: Option<&str>) -> bool {
    let (name, port) = match name.rsplit_once(':').map(|(name, port)| (name, port.parse::<u32>())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (name, None),
    };
    let (name, namespace) = match name.split_once('.') {
        Some((name, own)) => (name, Some(own.trim_end_matches(".svc.cluster.local"))),
        None => (name, namespace),
    };
    parent.is_some_and(|parent| {
        // The parent of a route may be every port of its service: it has none then.
        let has_port = port.is_none_or(|port| parent.port == 0 || parent.port == port);
        parent.name == name && has_port && namespace.is_none_or(|namespace| parent.namespace == namespace)
    })
}

fn rows(proxies: &[ProxyDump], scrapes: &Scrapes, is_meant: impl Fn(Option<&ObjectRef>) -> bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for proxy in proxies {
        let states = proxy.state.iter().flat_map(|state| &state.outbound);
        // Each proxy counts once for a rule, however many addresses lead to it.
        let mut counted: Vec<usize> = Vec::new();
        for (row, requests) in states
            .filter(|state| is_meant(state.parent.as_ref()))
            .flat_map(|state| of_destination(state, scrapes))
        {
            let same =
                |known: &Row| (&known.parent, &known.route, &known.takes) == (&row.parent, &row.route, &row.takes);
            let at = match rows.iter().position(same) {
                Some(at) => at,
                None => {
                    rows.push(row);
                    rows.len() - 1
                }
            };
            if !counted.contains(&at) {
                counted.push(at);
                rows[at].proxies += 1;
                rows[at].requests += requests;
            }
        }
    }
    rows.sort_by(|a, b| (&a.parent, &a.route).cmp(&(&b.parent, &b.route)));
    rows
}

/// The rules of a destination, each with the requests that one proxy has counted for it.
fn of_destination<'a>(state: &'a OutboundState, scrapes: &'a Scrapes) -> impl Iterator<Item = (Row, u64)> + use<'a> {
    let parent = state.parent.clone().unwrap_or_default();
    state.routes.iter().map(move |route| {
        let row = Row {
            parent: words::object(Some(&parent)),
            route: route_name(route),
            takes: route.matches.clone(),
            does: route.actions.clone(),
            sends_to: route.backends.clone(),
            proxies: 0,
            requests_per_second: per_second(scrapes, |sample| counts(sample, &parent, route)),
            requests: 0,
        };
        (row, route.requests)
    })
}

/// Whether a counter is of this rule. Those of connections know only the route.
fn counts(sample: &Sample<'_>, parent: &ObjectRef, route: &RouteState) -> bool {
    let object = route.route.clone().unwrap_or_default();
    let of_rule =
        sample.name.ends_with("_route_request_statuses_total") && sample.label("route_rule") == route.rule.to_string();
    let is_stream = matches!(
        sample.name,
        "outbound_tcp_route_open_total" | "outbound_tls_route_open_total"
    );
    let is = |prefix: &str, object: &ObjectRef| {
        [
            ("kind", &object.kind),
            ("group", &object.group),
            ("namespace", &object.namespace),
            ("name", &object.name),
            ("section_name", &object.section),
        ]
        .iter()
        .all(|(label, value)| sample.label(&format!("{prefix}_{label}")) == **value)
    };
    let is_port = parent.port == 0 || sample.label("parent_port") == parent.port.to_string();
    (of_rule || is_stream) && is_port && is("parent", parent) && is("route", &object)
}

fn status(routes: &[RouteStatus], is_meant: impl Fn(&str, Option<&ObjectRef>) -> bool) -> Vec<Status> {
    let mut all = Vec::new();
    for route in routes {
        let name = words::object(route.route.as_ref());
        for parent in route
            .parents
            .iter()
            .filter(|parent| is_meant(&name, parent.parent.as_ref()))
        {
            let conditions = parent.conditions.iter().map(|said| Condition {
                r#type: said.r#type.clone(),
                status: said.status,
                reason: said.reason.clone(),
                message: said.message.clone(),
            });
            all.push(Status {
                route: name.clone(),
                file: route.file.clone(),
                line: route.line,
                parent: words::object(parent.parent.as_ref()),
                conditions: conditions.collect(),
            });
        }
    }
    all
}

fn status_table(status: &[Status]) -> Table {
    let mut table = Table::new([
        "ROUTE",
        "WRITTEN IN",
        "PARENT",
        "CONDITION",
        "STATUS",
        "REASON",
        "MESSAGE",
    ]);
    for one in status {
        for condition in &one.conditions {
            // A part that is invalid is bad news where it holds; the others where they do not.
            let good = condition.status != (condition.r#type == "PartiallyInvalid");
            let tone = if good { Tone::Good } else { Tone::Bad };
            table.toned([
                (one.route.clone(), Tone::Plain),
                (words::place(&one.file, one.line), Tone::Plain),
                (one.parent.clone(), Tone::Plain),
                (condition.r#type.clone(), Tone::Plain),
                (condition.status.to_string(), tone),
                (condition.reason.clone(), Tone::Plain),
                (words::or_dash(&condition.message), Tone::Plain),
            ]);
        }
    }
    table
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["PARENT", "ROUTE", "TAKES", "DOES", "SENDS TO", "PROXIES", "REQUESTS"]);
    for row in rows {
        table.row([
            row.parent.clone(),
            row.route.clone(),
            row.takes.clone(),
            words::or_dash(&row.does),
            words::or_dash(&row.sends_to.join(", ")),
            row.proxies.to_string(),
            format!("{:.1}/s", row.requests_per_second),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheer_api::v1::{ProxyState, RouteCondition, RouteParent, RouteState};

    fn object(kind: &str, name: &str) -> Option<ObjectRef> {
        Some(ObjectRef {
            kind: kind.to_owned(),
            namespace: "bank".to_owned(),
            name: name.to_owned(),
            ..ObjectRef::default()
        })
    }

    #[test]
    fn services_are_named_with_and_without_a_port() {
        let parent = ObjectRef {
            name: "ledger".to_owned(),
            namespace: "bank".to_owned(),
            port: 9000,
            ..ObjectRef::default()
        };
        let named = |name, namespace| is_named(Some(&parent), name, namespace);
        assert!(named("ledger", None) && named("ledger:9000", Some("bank")) && named("ledger.bank:9000", None));
        assert!(!named("ledger:80", None) && !named("ledger.shop:9000", None) && !named("ledger", Some("shop")));
    }

    #[test]
    fn the_table_reads_well() {
        let rule = |index, matches: &str| RouteState {
            route: object("HTTPRoute", "canary"),
            rule: index,
            matches: matches.to_owned(),
            backends: vec!["Service bank/ledger:80 90".to_owned()],
            ..RouteState::default()
        };
        let bytes = RouteState {
            route: object("TCPRoute", "bytes"),
            matches: "connections".to_owned(),
            requests: 12,
            ..RouteState::default()
        };
        let state = |address: &str| OutboundState {
            address: address.to_owned(),
            parent: object("Service", "ledger"),
            routes: vec![rule(0, "GET /api/*"), rule(1, "every request"), bytes.clone()],
            ..OutboundState::default()
        };
        let proxy = ProxyDump {
            state: Some(ProxyState {
                outbound: vec![state("10.0.0.1:80"), state("[fd00::1]:80")],
                ..ProxyState::default()
            }),
            ..ProxyDump::default()
        };
        let page = |count: u32| {
            format!(
                "outbound_http_route_request_statuses_total{{parent_kind=\"Service\",parent_name=\"ledger\",parent_namespace=\"bank\",\
                route_kind=\"HTTPRoute\",route_name=\"canary\",route_namespace=\"bank\",route_rule=\"1\",http_status=\"200\"}} {count}\n\
                outbound_tcp_route_open_total{{parent_kind=\"Service\",parent_name=\"ledger\",parent_namespace=\"bank\",\
                route_kind=\"TCPRoute\",route_name=\"bytes\",route_namespace=\"bank\"}} {count}\n"
            )
        };
        let (before, after) = (page(0), page(8));
        let scrapes = Scrapes::of(&[(&before, &after)], Duration::from_secs(2));
        let of = |name: &str| {
            rows(&[proxy.clone(), proxy.clone()], &scrapes, |parent| {
                is_named(parent, name, Some("bank"))
            })
        };
        insta::assert_snapshot!(table(&of("ledger")).render(false));
        let condition = RouteCondition {
            r#type: "ResolvedRefs".to_owned(),
            status: false,
            reason: "BackendNotFound".to_owned(),
            message: "there is no Service bank/fx".to_owned(),
            field: String::new(),
        };
        let written = RouteStatus {
            route: object("HTTPRoute", "canary"),
            file: "/m/routes.yaml".to_owned(),
            line: 3,
            parents: vec![RouteParent {
                parent: object("Service", "ledger"),
                conditions: vec![condition],
            }],
            rank: 0,
        };
        let status = status(&[written], |route, parent| {
            route == "HTTPRoute bank/canary" && is_named(parent, "ledger", None)
        });
        insta::assert_snapshot!(status_table(&status).render(false));
        assert_eq!(of("ledger.bank").len(), 3);
        assert_eq!(of("ledger")[2].requests, 24, "of two proxies, each once");
        assert!(of("ledger.shop").is_empty() && of("fx").is_empty());
    }
}
