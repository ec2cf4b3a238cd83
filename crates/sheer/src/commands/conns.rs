//! `sheer conns`: every connection of a workload's proxies, as it stands.

use std::io::{IsTerminal as _, Write as _};

use sheer_api::v1::{Connection, ConnectionsRequest, ProxyConnections, WatchConnectionsRequest};

use crate::{
    cli::Global,
    outcome::Outcome,
    output::{Format, Table, Tone, paint, print_json, size},
    running::Mesh,
    watching::{self, Of, PeerKind},
    words,
};

/// Flags of `sheer conns`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
STREAMS are those open now and those ever opened (requests, of HTTP/1). WINDOWS are what the other end may still send, and what the proxy may. RETRANS are
segments that were sent again. A connection that has ended says who ended it and how.

Exit code 1 if a proxy does not answer.

Examples:
  sheer conns -n bank deploy/ledger
  sheer conns deploy/web --peer mesh --ended
  sheer conns pod/web-0 -o wide
  sheer conns deploy/web -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only those with this at the other end
    #[arg(long, value_enum)]
    peer: Option<PeerKind>,
    /// Also those that have ended lately
    #[arg(long)]
    ended: bool,
    /// How it is printed; `wide` has both addresses, TLS, settings and tables
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let request = WatchConnectionsRequest {
        of: Some(args.of.selection()),
        asked: Some(ConnectionsRequest {
            rights: None,
            peer: PeerKind::name(args.peer),
            ended: args.ended,
            ..ConnectionsRequest::default()
        }),
    };
    let proxies = crate::running::block_on(async { Mesh::find(global).await?.connections(request).await })?;
    match args.output {
        Format::Json => print_json(&proxies)?,
        format => {
            let mut stdout = std::io::stdout();
            let text = pages(&proxies, format == Format::Wide, stdout.is_terminal());
            stdout.write_all(text.as_bytes())?;
        }
    }
    let mut outcome = Outcome::Healthy;
    for proxy in proxies.iter().filter(|proxy| !proxy.error.is_empty()) {
        eprintln!("sheer: {}: {}", proxy.pod, proxy.error);
        outcome = Outcome::Finding;
    }
    Ok(outcome)
}

fn pages(proxies: &[ProxyConnections], wide: bool, colour: bool) -> String {
    let answered = proxies.iter().filter(|proxy| proxy.error.is_empty());
    let pages: Vec<String> = answered.map(|proxy| page(proxy, wide, colour)).collect();
    pages.join("\n")
}

fn page(proxy: &ProxyConnections, wide: bool, colour: bool) -> String {
    let title = format!("{} ({})", proxy.pod, proxy.workload);
    let mut text = format!("{}{}\n", paint(&title, Tone::Good, colour), recorder(proxy));
    if proxy.connections.is_empty() {
        return text + "no connection\n";
    }
    let mut table = if wide {
        Table::new([
            "ID", "SIDE", "PEER", "LOCAL", "REMOTE", "FOR", "PROTOCOL", "IDENTITY", "TLS", "AGE", "IDLE", "CONNECT",
            "STREAMS", "WINDOWS", "TABLES", "RTT", "RETRANS", "READ", "WRITTEN", "STATE",
        ])
    } else {
        Table::new([
            "ID", "SIDE", "PEER", "REMOTE", "PROTOCOL", "IDENTITY", "AGE", "STREAMS", "WINDOWS", "RTT", "RETRANS",
            "READ", "WRITTEN", "STATE",
        ])
    };
    for connection in &proxy.connections {
        table.toned(if wide { wide_row(connection) } else { row(connection) });
    }
    text += &table.render(colour);
    text
}

fn recorder(proxy: &ProxyConnections) -> String {
    match &proxy.recorder {
        Some(recorder) if recorder.on => format!(
            ": recorder {} of {}, {} failures kept, {} header blocks compared, {} disagreements",
            size(recorder.memory),
            size(recorder.memory_limit),
            recorder.failures_kept,
            recorder.header_blocks_compared,
            recorder.disagreements,
        ),
        _ => ": nothing is recorded (SHEER_PROXY_RECORDER is off)".to_owned(),
    }
}

type Cells = Vec<(String, Tone)>;

fn plain(cells: impl IntoIterator<Item = String>) -> Cells {
    cells.into_iter().map(|cell| (cell, Tone::Plain)).collect()
}

/// With the server name of TLS that is passed through.
fn protocol(connection: &Connection) -> String {
    match connection.server_name.as_str() {
        "" => connection.protocol.clone(),
        name => format!("{} {name}", connection.protocol),
    }
}

fn row(connection: &Connection) -> Cells {
    let mut cells = plain([
        connection.id.to_string(),
        connection.direction.clone(),
        connection.peer.clone(),
        remote(connection),
        protocol(connection),
        words::identity(&connection.identity),
        words::age_ms(connection.age_ms),
        streams(connection),
        windows(connection),
        rtt(connection),
        retransmits(connection),
        size(connection.bytes_read),
        size(connection.bytes_written),
    ]);
    cells.push(state(connection));
    cells
}

fn wide_row(connection: &Connection) -> Cells {
    let tls = connection.tls.as_ref().map(|tls| {
        let resumed = if tls.resumed { ", resumed" } else { "" };
        format!("{} {} {}{resumed}", tls.version, tls.cipher, tls.group)
    });
    let tls = tls.or_else(|| connection.passed_tls.as_ref().map(words::passed_tls));
    let table = |table: &Option<sheer_api::v1::TableState>| table.as_ref().map_or(0, |table| table.size);
    let tables = connection
        .http2
        .as_ref()
        .map(|http2| format!("{}/{}", table(&http2.read_table), table(&http2.write_table)));
    let took = connection.connect_us + connection.tls.as_ref().map_or(0, |tls| tls.handshake_us);
    let mut cells = plain([
        connection.id.to_string(),
        connection.direction.clone(),
        connection.peer.clone(),
        connection.local.clone(),
        remote(connection),
        words::or_dash(if connection.name.is_empty() {
            &connection.original
        } else {
            &connection.name
        }),
        protocol(connection),
        words::or_dash(&connection.identity),
        words::or_dash(&tls.unwrap_or_default()),
        words::age_ms(connection.age_ms),
        words::age_ms(connection.idle_ms),
        watching::micros(took),
        streams(connection),
        windows(connection),
        words::or_dash(&tables.unwrap_or_default()),
        rtt(connection),
        retransmits(connection),
        size(connection.bytes_read),
        size(connection.bytes_written),
    ]);
    cells.push(state(connection));
    cells
}

/// The other end; of the application beside the proxy nobody needs the address.
fn remote(connection: &Connection) -> String {
    match (connection.peer.as_str(), connection.remote_pod.as_str()) {
        ("app", _) if !connection.original.is_empty() => format!("app, to {}", short(connection)),
        ("app", _) => format!("app, {}", connection.remote),
        (_, "") => connection.remote.clone(),
        (_, pod) => format!("{pod} ({})", connection.remote),
    }
}

fn short(connection: &Connection) -> String {
    if connection.name.is_empty() {
        return connection.original.clone();
    }
    connection.name.replace(".svc.cluster.local", "")
}

fn streams(connection: &Connection) -> String {
    match connection.protocol.as_str() {
        "http/2" | "http/1" => format!("{}/{}", connection.streams, connection.streams_total),
        _ => "-".to_owned(),
    }
}

fn windows(connection: &Connection) -> String {
    let http2 = connection.http2.as_ref();
    http2.map_or_else(
        || "-".to_owned(),
        |http2| format!("{}/{}", http2.read_window, http2.write_window),
    )
}

fn rtt(connection: &Connection) -> String {
    connection
        .tcp
        .as_ref()
        .map_or_else(|| "-".to_owned(), |tcp| watching::micros(tcp.rtt_us))
}

fn retransmits(connection: &Connection) -> String {
    connection
        .tcp
        .as_ref()
        .map_or_else(|| "-".to_owned(), |tcp| tcp.total_retransmits.to_string())
}

fn state(connection: &Connection) -> (String, Tone) {
    match &connection.ending {
        None if connection.unrecorded.is_empty() => ("open".to_owned(), Tone::Good),
        None => (
            format!("open, frames not recorded: {}", connection.unrecorded),
            Tone::Warn,
        ),
        Some(ending) => {
            let tone = if ending.clean { Tone::Dim } else { Tone::Bad };
            (format!("{} by the {}", ending.how, ending.by), tone)
        }
    }
}
