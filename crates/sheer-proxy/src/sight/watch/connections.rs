//! Connections as they stand.

use std::time::Duration;

use sheer_api::v1;
use sheer_lens::{
    h2::{Settings, error_code_name},
    hpack::TableState,
};
use tonic::Status;

use super::{super::service::Sight, Right, allowed, peer};
use crate::{
    record::{About, Clock, Ending, GoAway, How, Peer, Query, RecorderCopy, RecordingCopy, Speaks, Standing, TlsFacts},
    sys::TcpInfo,
    tcp::{PassedTls, Side},
};

/// All connections, by number.
pub(in crate::sight) async fn connections(
    sight: &Sight,
    asked: v1::ConnectionsRequest,
) -> Result<v1::ConnectionsResponse, Status> {
    allowed(asked.rights, Right::Tap)?;
    let query = Query {
        peer: peer(&asked.peer)?,
        ended: asked.ended,
        ..Query::default()
    };
    let halves = sight.workers().recorded(&query, false).await;
    let is_wanted = |connection: &v1::Connection| {
        let is_local = [&connection.local, &connection.original].contains(&&asked.local);
        asked.remote.is_empty() && asked.local.is_empty() || connection.remote == asked.remote && is_local
    };
    let mut connections: Vec<_> = halves
        .iter()
        .flat_map(|half| half.recordings.iter().map(|recording| connection(half, recording)))
        .filter(is_wanted)
        .collect();
    connections.sort_by_key(|connection| connection.id);
    Ok(v1::ConnectionsResponse {
        connections,
        recorder: Some(recorder(&halves)),
    })
}

fn recorder(halves: &[RecorderCopy]) -> v1::RecorderState {
    let sum = |of: fn(&RecorderCopy) -> u64| halves.iter().map(of).sum();
    v1::RecorderState {
        on: !halves.is_empty(),
        memory: sum(|half| half.memory as u64),
        memory_limit: sum(|half| half.limit as u64),
        connections: sum(|half| half.live as u64),
        failures_kept: sum(|half| half.failures_kept as u64),
        failures_total: sum(|half| half.failures_total),
        header_blocks_compared: sum(|half| half.compared),
        disagreements: sum(|half| half.disagreements),
    }
}

/// One connection.
pub(super) fn connection(half: &RecorderCopy, recording: &RecordingCopy) -> v1::Connection {
    let about = &recording.about;
    let now = recording.ending.map_or_else(|| half.clock.now(), |ending| ending.at);
    let address =
        |address: Option<std::net::SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    v1::Connection {
        id: recording.id,
        direction: direction(half).to_owned(),
        peer: peer_name(about.peer).to_owned(),
        accepted: about.accepted,
        local: address(about.local),
        remote: address(about.remote),
        original: address(about.original),
        name: about.name.as_deref().unwrap_or_default().to_owned(),
        remote_pod: String::new(),
        remote_workload: String::new(),
        protocol: speaks(spoken(recording)).to_owned(),
        identity: about.identity.as_deref().unwrap_or_default().to_owned(),
        tls: ended_tls(about).map(|facts| tls(facts, about.took.1)),
        server_name: passed_name(recording).unwrap_or_default().to_owned(),
        passed_tls: recording.passed_tls.as_deref().map(passed_tls),
        opened_us: half.clock.unix(recording.opened),
        age_ms: now.saturating_sub(recording.opened) / 1_000,
        idle_ms: now.saturating_sub(recording.active) / 1_000,
        connect_us: micros(about.took.0),
        bytes_read: recording.bytes[0],
        bytes_written: recording.bytes[1],
        frames_read: recording.frames[0],
        frames_written: recording.frames[1],
        streams: recording.streams,
        streams_total: recording.streams_total,
        http2: recording.standing.as_deref().map(http2),
        tcp: recording.tcp.map(tcp),
        ending: recording
            .ending
            .map(|ended| ending(half.clock, ended, recording.standing.as_deref())),
        forgotten: recording.forgotten(),
        unrecorded: recording.unrecorded.to_owned(),
        excerpt: !recording.excerpts.is_empty(),
    }
}

/// TLS that this proxy ends.
fn ended_tls(about: &About) -> Option<&TlsFacts> {
    about.tls.as_deref().filter(|facts| !facts.version.is_empty())
}

/// The name that the client of TLS asked for which is passed through.
pub(super) fn passed_name(recording: &RecordingCopy) -> Option<&str> {
    let facts = recording.about.tls.as_deref().filter(|facts| facts.version.is_empty());
    let known = facts.map(|facts| facts.server_name.as_str());
    known.or(recording.hello.as_deref())
}

fn passed_tls(seen: &PassedTls) -> v1::PassedTls {
    let (by, alert) = match &seen.alert {
        None => ("", ""),
        Some((Side::Client, alert)) => ("client", &**alert),
        Some((Side::Server, alert)) => ("server", &**alert),
    };
    v1::PassedTls {
        offered_versions: seen.offered_versions.clone(),
        offered_alpn: seen.offered_alpn.clone(),
        version: seen.version.clone(),
        cipher: seen.cipher.clone(),
        group: seen.group.clone(),
        alpn: seen.alpn.clone(),
        alert: alert.to_owned(),
        alert_by: by.to_owned(),
    }
}

/// What is spoken: bytes that nobody looked into may have shown that they are TLS.
fn spoken(recording: &RecordingCopy) -> Speaks {
    match recording.about.speaks {
        Speaks::Tcp if recording.hello.is_some() => Speaks::Tls,
        speaks => speaks,
    }
}

/// Which half.
pub(super) fn direction(half: &RecorderCopy) -> &'static str {
    if half.is_outbound { "outbound" } else { "inbound" }
}

fn peer_name(peer: Peer) -> &'static str {
    match peer {
        Peer::App => "app",
        Peer::Mesh => "mesh",
        Peer::Outside => "outside",
    }
}

/// The protocol by its name.
pub(super) fn speaks(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Http2 => "http/2",
        Speaks::Http1 => "http/1",
        Speaks::Tcp => "tcp",
        Speaks::Tls => "tls",
    }
}

fn tls(facts: &TlsFacts, took: Duration) -> v1::TlsSession {
    v1::TlsSession {
        version: facts.version.clone(),
        cipher: facts.cipher.clone(),
        group: facts.group.clone(),
        alpn: facts.alpn.clone(),
        server_name: facts.server_name.clone(),
        resumed: facts.resumed,
        handshake_us: micros(took),
    }
}

fn http2(standing: &Standing) -> v1::Http2State {
    let goaway = |at: usize| standing.goaway[at].as_ref().map(go_away);
    v1::Http2State {
        remote_settings: settings(&standing.settings[0]),
        local_settings: settings(&standing.settings[1]),
        read_window: standing.windows[0],
        write_window: standing.windows[1],
        read_table: Some(table(standing.tables[0])),
        write_table: Some(table(standing.tables[1])),
        goaway_read: goaway(0),
        goaway_written: goaway(1),
        ping_us: standing.ping,
    }
}

/// Those that differ from what holds without any.
fn settings(settings: &Settings) -> Vec<v1::Setting> {
    let default = Settings::default();
    let mut all = Vec::new();
    let mut add = |id: u16, value: Option<u32>, default: Option<u32>| {
        if let Some(value) = value.filter(|_| value != default) {
            all.push(setting(id, value));
        }
    };
    add(1, Some(settings.header_table_size), Some(default.header_table_size));
    add(2, Some(settings.enable_push.into()), Some(default.enable_push.into()));
    add(3, settings.max_concurrent_streams, default.max_concurrent_streams);
    add(4, Some(settings.initial_window_size), Some(default.initial_window_size));
    add(5, Some(settings.max_frame_size), Some(default.max_frame_size));
    add(6, settings.max_header_list_size, default.max_header_list_size);
    let connect = |settings: &Settings| Some(u32::from(settings.enable_connect_protocol));
    add(8, connect(settings), connect(&default));
    all
}

/// A setting by number and name.
pub(super) fn setting(id: u16, value: u32) -> v1::Setting {
    v1::Setting {
        id: id.into(),
        name: sheer_lens::h2::setting_name(id).unwrap_or_default().to_owned(),
        value,
    }
}

/// A dynamic table in numbers.
pub(super) fn table(state: TableState) -> v1::TableState {
    v1::TableState {
        inserted: state.inserted,
        entries: state.entries,
        size: state.size,
        maximum: state.maximum,
    }
}

/// A GOAWAY.
pub(super) fn go_away(goaway: &GoAway) -> v1::GoAway {
    v1::GoAway {
        last_stream: goaway.last,
        error_code: error_code(goaway.code),
        debug: goaway.debug.clone(),
    }
}

/// An error code by name, or as a number where it has none.
pub(super) fn error_code(code: u32) -> String {
    error_code_name(code).map_or_else(|| format!("{code:#x}"), str::to_owned)
}

fn tcp(info: TcpInfo) -> v1::TcpState {
    v1::TcpState {
        rtt_us: micros(info.rtt),
        rtt_var_us: micros(info.rtt_variation),
        retransmits: info.in_recovery,
        total_retransmits: info.retransmits,
        unacked: info.unacked,
        congestion_window: info.congestion_window,
        state: info.state.as_str().to_owned(),
    }
}

/// How a connection ended, in words.
pub(super) fn ending(clock: Clock, ended: Ending, standing: Option<&Standing>) -> v1::Ending {
    let (by, how) = match ended.how {
        How::PeerClosed => ("peer", "closed (FIN)".to_owned()),
        How::PeerBroke(std::io::ErrorKind::ConnectionReset) => ("peer", "reset (RST)".to_owned()),
        How::PeerBroke(kind) => ("peer", format!("broken: {kind}")),
        How::Closed => ("proxy", "closed (FIN)".to_owned()),
        How::Reset => ("proxy", "reset (RST)".to_owned()),
    };
    // What was said before says more.
    let said = standing.and_then(|standing| {
        let [read, written] = standing.goaway.each_ref().map(Option::as_ref);
        let bad = |goaway: &&GoAway| goaway.code != 0;
        let by = |by: &str, goaway: &GoAway| {
            let debug = String::from_utf8_lossy(&goaway.debug);
            let debug = if debug.is_empty() {
                String::new()
            } else {
                format!(" {debug:?}")
            };
            format!("after GOAWAY {} of {by}{debug}", error_code(goaway.code))
        };
        let written = written.filter(bad).map(|goaway| by("this proxy", goaway));
        written.or_else(|| read.filter(bad).map(|goaway| by("the peer", goaway)))
    });
    let cut = match ended.within {
        [Some(stream), _] => format!(", within a header block that the peer had begun on stream {stream}"),
        [None, Some(stream)] => format!(", within a header block that this proxy had begun on stream {stream}"),
        [None, None] => String::new(),
    };
    v1::Ending {
        at_us: clock.unix(ended.at),
        by: by.to_owned(),
        how: said.map_or(how.clone(), |said| format!("{how}, {said}")) + &cut,
        clean: ended.clean,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
