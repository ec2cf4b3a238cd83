//! `sheer authz`: who may come in at a workload's ports, and how often each rule let somebody in or nobody did.

use std::time::Duration;

use serde::Serialize;
use sheer_api::v1::{ConfigDumpRequest, InboundState, ProxyDump};

use crate::cli::Global;
use crate::outcome::Outcome;
use crate::output::{Format, Table, Tone, print_json};
use crate::running::Mesh;
use crate::scrape::Sample;
use crate::words;

use super::config::told;
use super::rates::{Scrapes, per_second};

/// Flags of `sheer authz`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Rates are of all replicas, measured while the command runs. A port's own line counts what nobody let in.

Examples:
  sheer authz -n bank deploy/ledger
  sheer authz -n bank deploy/ledger --window 10
  sheer authz pod/ledger-6d9f4-0 -o json")]
pub(crate) struct Args {
    /// A workload or pod, as deploy/ledger
    #[arg(value_name = "RESOURCE")]
    resource: String,
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

/// One rule of one port.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    port: u32,
    server: String,
    /// None for what nobody let in.
    authorization: Option<String>,
    /// Whom it lets in, in words.
    lets_in: String,
    allowed_per_second: f64,
    denied_per_second: f64,
}

/// Shows the rules. A port that denies requests is no finding: that is its job.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = ConfigDumpRequest {
        workload: args.resource.clone(),
        namespace: args.namespace.clone().unwrap_or_default(),
    };
    let (proxies, scrapes) = crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let proxies = mesh.config_dump(request).await?;
        let scrapes = Scrapes::take(&mesh, &proxies, Duration::from_secs(args.window)).await?;
        anyhow::Ok((proxies, scrapes))
    })?;
    let rows = rows(&proxies, &scrapes);
    match args.output {
        Format::Json => print_json(&rows)?,
        Format::Table | Format::Wide => table(&rows).print()?,
    }
    Ok(told(&proxies))
}

/// The ports of all replicas: they have the same policy, or soon will have.
fn rows(proxies: &[ProxyDump], scrapes: &Scrapes) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let ports = proxies
        .iter()
        .filter_map(|proxy| proxy.state.as_ref())
        .flat_map(|state| &state.inbound);
    for port in ports {
        for row in of_port(port, scrapes) {
            let same = |known: &&mut Row| known.port == row.port && known.authorization == row.authorization;
            if rows.iter_mut().find(same).is_none() {
                rows.push(row);
            }
        }
    }
    rows.sort_by_key(|row| row.port);
    rows
}

fn of_port(port: &InboundState, scrapes: &Scrapes) -> Vec<Row> {
    let server = words::object(port.server.as_ref());
    let names: Vec<&str> = port.authorizations.iter().map(|text| name_of(text)).collect();
    let row = |name: String, lets_in: String, allowed_per_second| Row {
        port: port.port,
        server: server.clone(),
        authorization: Some(name),
        lets_in,
        allowed_per_second,
        denied_per_second: 0.0,
    };
    let is_allowed = |sample: &Sample<'_>| is_of_port(sample, port.port) && sample.name.ends_with("authz_allow_total");
    let mut rows = Vec::new();
    for text in &port.authorizations {
        let (name, who) = text.split_once(": ").unwrap_or((text, ""));
        let rate = per_second(scrapes, |sample| {
            is_allowed(sample) && sample.label("authz_name") == name_of(text)
        });
        rows.push(row(name.to_owned(), who.to_owned(), rate));
    }
    for route in &port.routes {
        let lets_in = route.actions.split("; ").filter_map(|one| one.strip_prefix("lets in "));
        let lets_in: Vec<_> = lets_in.collect();
        if lets_in.is_empty() {
            continue;
        }
        // Whom the Server lets in anyhow is counted there.
        let object = route.route.clone().unwrap_or_default();
        let rate = per_second(scrapes, |sample| {
            is_allowed(sample)
                && sample.label("route_kind") == object.kind
                && sample.label("route_namespace") == object.namespace
                && sample.label("route_name") == object.name
                && !names.contains(&sample.label("authz_name"))
        });
        let who = format!("{}, for {}", lets_in.join(" or "), route.matches);
        rows.push(row(super::config::route_name(route), who, rate));
    }
    let denied = |sample: &Sample<'_>| is_of_port(sample, port.port) && sample.name.ends_with("authz_deny_total");
    rows.push(Row {
        port: port.port,
        server: server.clone(),
        authorization: None,
        lets_in: "nobody else".to_owned(),
        allowed_per_second: 0.0,
        denied_per_second: per_second(scrapes, denied),
    });
    rows
}

/// The name of an authorization in words: `AuthorizationPolicy bank/callers: …`.
fn name_of(authorization: &str) -> &str {
    let object = authorization
        .split_once(": ")
        .map_or(authorization, |(object, _)| object);
    object.rsplit(['/', ' ']).next().unwrap_or_default()
}

fn is_of_port(sample: &Sample<'_>, port: u32) -> bool {
    sample.name.starts_with("inbound_") && sample.label("target_port") == port.to_string()
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["PORT", "SERVER", "RULE", "LETS IN", "ALLOWED", "DENIED"]);
    for row in rows {
        let denied = if row.denied_per_second > 0.0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        table.toned([
            (row.port.to_string(), Tone::Plain),
            (row.server.clone(), Tone::Plain),
            (row.authorization.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain),
            (row.lets_in.clone(), Tone::Plain),
            (format!("{:.1}/s", row.allowed_per_second), Tone::Plain),
            (format!("{:.1}/s", row.denied_per_second), denied),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheer_api::v1::{ObjectRef, ProxyState, RouteState};

    #[test]
    fn the_table_reads_well() {
        let route = RouteState {
            route: Some(ObjectRef {
                kind: "default".to_owned(),
                name: "probe".to_owned(),
                ..ObjectRef::default()
            }),
            matches: "GET /ready".to_owned(),
            actions: "lets in everybody".to_owned(),
            ..RouteState::default()
        };
        let port = InboundState {
            port: 9000,
            server: Some(ObjectRef {
                kind: "server".to_owned(),
                namespace: "bank".to_owned(),
                name: "ledger".to_owned(),
                ..ObjectRef::default()
            }),
            authorizations: vec!["AuthorizationPolicy bank/callers: web.bank… from 10.0.0.0/8".to_owned()],
            routes: vec![route],
            ..InboundState::default()
        };
        let proxy = ProxyDump {
            state: Some(ProxyState {
                inbound: vec![port],
                ..ProxyState::default()
            }),
            ..ProxyDump::default()
        };
        let before = "inbound_http_authz_allow_total{target_port=\"9000\",authz_name=\"callers\"} 10\n\
            inbound_http_authz_allow_total{target_port=\"9000\",route_kind=\"default\",route_name=\"probe\",authz_name=\"probe\"} 20\n\
            inbound_http_authz_allow_total{target_port=\"9000\",route_kind=\"default\",route_name=\"probe\",authz_name=\"callers\"} 5\n\
            inbound_http_authz_deny_total{target_port=\"9000\",srv_name=\"ledger\"} 4\n\
            inbound_http_authz_deny_total{target_port=\"80\",srv_name=\"other\"} 0\n";
        let after = before
            .replace(" 10\n", " 30\n")
            .replace(" 20\n", " 26\n")
            .replace(" 4\n", " 5\n")
            .replace(" 0\n", " 9\n");
        let scrapes = Scrapes::of(&[(before, &after)], Duration::from_secs(2));
        insta::assert_snapshot!(table(&rows(&[proxy.clone(), proxy], &scrapes)).render(false));
    }
}
