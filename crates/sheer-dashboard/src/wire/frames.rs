//! Frames as JSON.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sheer_api::v1::{
    Connection, Disagreement, Failure, Frame, GoAway, HeaderBlock, HeaderField, ShownField, TableState, TcpState,
    TlsSession, frame_event::Event,
};

use super::text::{moment, text};

/// Puts events into objects. What is known of a connection stands in each of its frames.
#[derive(Debug, Default)]
pub struct Lines {
    connections: HashMap<(String, u64), Value>,
    /// The failure that what follows belongs to.
    failure: Option<Value>,
}

impl Lines {
    /// A frame or a failure; none for what is told with the frames after it.
    pub fn event(&mut self, pod: &str, event: &Event) -> Option<Value> {
        Some(match event {
            Event::Connection(connection) => {
                self.connections
                    .insert((pod.to_owned(), connection.id), self::connection(connection));
                return None;
            }
            Event::Failure(failure) => {
                let failure = self::failure(pod, failure);
                self.failure = Some(json!({"pod": pod, "number": failure["number"], "reason": failure["reason"]}));
                failure
            }
            Event::Frame(frame) => {
                let of = self.connections.get(&(pod.to_owned(), frame.connection));
                let mut value = self::frame(pod, frame, of);
                if let (Some(failure), Value::Object(frame)) = (&self.failure, &mut value) {
                    frame.insert("failure".to_owned(), failure.clone());
                }
                value
            }
            Event::Dropped(_) | Event::Note(_) => return None,
        })
    }
}

fn connection(connection: &Connection) -> Value {
    json!({
        "id": connection.id,
        "side": connection.direction,
        "peer": connection.peer,
        "accepted": connection.accepted,
        "local": connection.local,
        "remote": connection.remote,
        "original": connection.original,
        "name": connection.name,
        "remote_pod": connection.remote_pod,
        "protocol": connection.protocol,
        "identity": connection.identity,
        "excerpt": connection.excerpt,
        "connect_us": connection.connect_us,
        "bytes_read": connection.bytes_read,
        "bytes_written": connection.bytes_written,
        "tls": connection.tls.as_ref().map(tls),
        "passed_tls": connection.passed_tls,
        "tcp": connection.tcp.as_ref().map(tcp),
    })
}

fn tls(tls: &TlsSession) -> Value {
    json!({
        "version": tls.version,
        "cipher": tls.cipher,
        "group": tls.group,
        "alpn": tls.alpn,
        "resumed": tls.resumed,
        "handshake_us": tls.handshake_us,
    })
}

/// As the kernel had it last.
fn tcp(tcp: &TcpState) -> Value {
    json!({
        "state": tcp.state,
        "rtt_us": tcp.rtt_us,
        "retransmits": tcp.total_retransmits,
        "unacked": tcp.unacked,
        "congestion_window": tcp.congestion_window,
    })
}

fn failure(pod: &str, failure: &Failure) -> Value {
    json!({
        "type": "FAILURE",
        "pod": pod,
        "time": moment(failure.at_us),
        "number": failure.number,
        "kind": failure.kind,
        "verdict": failure.verdict,
        "reason": failure.reason,
        "message": failure.message,
        "connection": failure.connection,
        "stream": failure.stream,
        "request": failure.exchange.as_ref().map(|exchange| exchange.id).filter(|id| *id > 0),
        "disagreement": failure.disagreement.as_ref().map(disagreement),
    })
}

fn disagreement(disagreement: &Disagreement) -> Value {
    let list = |list: &[HeaderField]| -> Vec<Value> {
        list.iter()
            .map(|field| json!([field.name, text(&field.value)]))
            .collect()
    };
    json!({
        "side": disagreement.side,
        "block": disagreement.kind,
        "wire": list(&disagreement.wire),
        "library": list(&disagreement.library),
        "differs": disagreement.differs,
    })
}

fn frame(pod: &str, frame: &Frame, connection: Option<&Value>) -> Value {
    let mut value = Map::new();
    let mut set = |name: &str, part: Value| {
        value.insert(name.to_owned(), part);
    };
    set("time", json!(moment(frame.at_us)));
    set("pod", json!(pod));
    set(
        "connection",
        connection.cloned().unwrap_or_else(|| json!({"id": frame.connection})),
    );
    set("number", json!(frame.number));
    set("direction", json!(if frame.written { "written" } else { "read" }));
    set("type", json!(frame.r#type));
    set("stream", json!(frame.stream));
    set("length", json!(frame.length));
    set("flags", json!(frame.flag_names));
    if let Some(block) = &frame.block {
        set("block", self::block(block));
    }
    if !frame.settings.is_empty() {
        let settings = frame
            .settings
            .iter()
            .map(|setting| json!({"id": setting.id, "name": setting.name, "value": setting.value}));
        set("settings", settings.collect());
    }
    if !frame.error_code.is_empty() {
        set("error_code", json!(frame.error_code));
    }
    if let Some(GoAway {
        last_stream,
        error_code,
        debug,
    }) = &frame.goaway
    {
        set(
            "goaway",
            json!({"last_stream": last_stream, "error_code": error_code, "debug": text(debug)}),
        );
    }
    if frame.increment > 0 {
        set("increment", json!(frame.increment));
    }
    if !frame.payload.is_empty() {
        let hex: String = frame.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        set("payload", json!(hex));
    }
    if frame.connection_window.is_some() {
        set(
            "windows",
            json!({"stream": frame.stream_window, "connection": frame.connection_window}),
        );
    }
    if let Some(head) = &frame.http1 {
        let fields: Vec<Value> = head.fields.iter().map(field).collect();
        set(
            "http1",
            json!({"line": head.line, "bytes": head.bytes, "fields": fields}),
        );
    }
    if let Some(ending) = &frame.ending {
        set(
            "ending",
            json!({"by": ending.by, "how": ending.how, "clean": ending.clean}),
        );
    }
    set("violations", json!(frame.violations));
    Value::Object(value)
}

fn block(block: &HeaderBlock) -> Value {
    let table = |table: &Option<TableState>| {
        table.as_ref().map(|table| {
            json!({"inserted": table.inserted, "entries": table.entries, "size": table.size, "maximum": table.maximum})
        })
    };
    json!({
        "kind": block.kind,
        "bytes": block.bytes,
        "frames": block.frames,
        "list_size": block.list_size,
        "table_before": table(&block.before),
        "table_after": table(&block.after),
        "size_updates": block.size_updates,
        "error": block.error,
        "fields": block.fields.iter().map(field).collect::<Vec<_>>(),
    })
}

fn field(field: &ShownField) -> Value {
    let mut value = json!({"name": field.name, "value": text(&field.value), "redacted": field.redacted});
    if let (false, Value::Object(value)) = (field.representation.is_empty(), &mut value) {
        let hpack = json!({
            "representation": field.representation,
            "index": field.index,
            "huffman_name": field.huffman_name,
            "huffman_value": field.huffman_value,
            "offset": field.offset,
            "bytes": field.bytes,
            "evicted": field.evicted,
            "table_before": field.table_before,
            "table_after": field.table_after,
        });
        value.insert("hpack".to_owned(), hpack);
    }
    value
}
