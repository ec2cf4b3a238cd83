//! Requests, relayed connections and bodies as JSON.

use serde_json::{Map, Value, json};
use sheer_api::v1::{HeaderField, JoinedBody, JoinedConnection, JoinedRequest, Leg, TappedConnection, TappedRequest};

use super::text::{moment, text};

/// A request at a stage; null where neither proxy saw it.
#[must_use]
pub fn request(joined: &JoinedRequest) -> Value {
    let Some(main) = joined.outbound.as_ref().or(joined.inbound.as_ref()) else {
        return Value::Null;
    };
    let head = main.request.clone().unwrap_or_default();
    let ended = main.kind == "end";
    // Who answers counts: the side that made something up, or the one nearer to the application.
    let blamed = [&joined.outbound, &joined.inbound]
        .into_iter()
        .flatten()
        .find(|view| !view.reason.is_empty())
        .unwrap_or(main);
    let mut views = Map::new();
    for (name, side) in [("outbound", &joined.outbound), ("inbound", &joined.inbound)] {
        if let Some(side) = side {
            views.insert(name.to_owned(), view(side));
        }
    }
    json!({
        "time": moment(main.at_us),
        "kind": main.kind,
        "id": joined.id,
        "source": joined.source,
        "source_workload": joined.source_workload,
        "destination": joined.destination,
        "destination_workload": joined.destination_workload,
        "protocol": main.protocol,
        "method": head.method,
        "authority": head.authority,
        "path": head.path,
        "status": status(main.status),
        "grpc_status": grpc(main.grpc_status),
        "grpc_message": main.grpc_message,
        "failed": if ended { json!(main.failed) } else { Value::Null },
        "kept": is_kept(joined),
        "verdict": verdict(main, blamed),
        "reason": blamed.reason,
        "message": blamed.message,
        "end": main.end,
        "reset_code": main.reset_code,
        "request_bytes": main.request_bytes,
        "response_bytes": main.response_bytes,
        "headers": {"request": fields(&head.headers), "response": fields(&main.response_headers)},
        "trailers": {"request": fields(&main.request_trailers), "response": fields(&main.response_trailers)},
        "timing_us": timing(main),
        "views": views,
    })
}

/// It failed before this tap began.
#[must_use]
pub fn is_kept(joined: &JoinedRequest) -> bool {
    [&joined.outbound, &joined.inbound]
        .into_iter()
        .flatten()
        .any(|view| view.kept)
}

/// Whether a relayed connection failed before the tap began.
#[must_use]
pub fn is_kept_connection(joined: &JoinedConnection) -> bool {
    let mut views = [&joined.outbound, &joined.inbound].into_iter().flatten();
    views.any(|view| view.kept)
}

fn status(status: u32) -> Value {
    if status == 0 { Value::Null } else { json!(status) }
}

fn grpc(status: i32) -> Value {
    if status < 0 { Value::Null } else { json!(status) }
}

/// Names and values in order: a name may come twice.
fn fields(fields: &[HeaderField]) -> Value {
    fields
        .iter()
        .map(|field| json!([field.name, text(&field.value)]))
        .collect()
}

fn timing(view: &TappedRequest) -> Value {
    let timing = view.timing.unwrap_or_default();
    let known = |us: u64| if us == 0 { Value::Null } else { json!(us) };
    json!({
        "sent": known(timing.sent_us),
        "first_byte": known(timing.first_byte_us),
        "end": known(timing.end_us),
    })
}

/// What one proxy saw that the line does not say already.
fn view(view: &TappedRequest) -> Value {
    let exchange = view.exchange.clone().unwrap_or_default();
    let passed_over: Vec<Value> = view
        .passed_over
        .iter()
        .map(
            |one| json!({"endpoint": one.endpoint, "status": status(one.status), "grpc_status": grpc(one.grpc_status)}),
        )
        .collect();
    json!({
        "request": exchange.id,
        "destination": view.destination,
        "endpoint": view.endpoint,
        "attempts": view.attempts,
        "passed_over": passed_over,
        "client_identity": view.client_identity,
        "client_address": view.client_address,
        "mutual_tls": view.mutual_tls,
        "client": leg(exchange.client.as_ref()),
        "upstream": leg(exchange.upstream.as_ref()),
        "status": status(view.status),
        "grpc_status": grpc(view.grpc_status),
        "end": view.end,
        "verdict": view.verdict,
        "reason": view.reason,
        "timing_us": timing(view),
    })
}

/// Who is at fault: as the proxy says that made the answer up; a failure that no proxy made up is the application's own.
fn verdict<'a>(main: &'a TappedRequest, blamed: &'a TappedRequest) -> &'a str {
    let is_made_up = |field: &HeaderField| field.name == "l5d-proxy-error";
    let is_answered = matches!(main.end.as_str(), "complete" | "server-reset") && main.failed;
    if blamed.verdict.is_empty() && is_answered && !main.response_headers.iter().any(is_made_up) {
        return "application";
    }
    &blamed.verdict
}

fn leg(leg: Option<&Leg>) -> Value {
    leg.map_or(
        Value::Null,
        |leg| json!({"connection": leg.connection, "stream": leg.stream, "local": leg.local, "remote": leg.remote}),
    )
}

/// A message of a body, or a body.
#[must_use]
pub fn body(joined: &JoinedBody) -> Value {
    let body = joined.body.clone().unwrap_or_default();
    let shown: Value = serde_json::from_str(&body.text).unwrap_or(Value::Null);
    json!({
        "time": moment(body.at_us),
        "kind": "body",
        "id": joined.id,
        "of": if body.response { "response" } else { "request" },
        "number": body.number,
        "format": body.format,
        "type": body.type_name,
        "bytes": body.bytes,
        "body": shown,
        "note": body.note,
    })
}

/// A relayed connection; null where neither proxy saw it.
#[must_use]
pub fn connection(joined: &JoinedConnection) -> Value {
    let Some(main) = joined.outbound.as_ref().or(joined.inbound.as_ref()) else {
        return Value::Null;
    };
    let blamed = blamed(joined).unwrap_or(main);
    let mut views = Map::new();
    for (name, side) in [("outbound", &joined.outbound), ("inbound", &joined.inbound)] {
        if let Some(side) = side {
            views.insert(name.to_owned(), connection_view(side));
        }
    }
    json!({
        "time": moment(main.at_us),
        "kind": "tcp",
        "event": main.kind,
        "id": joined.id,
        "source": joined.source,
        "source_workload": joined.source_workload,
        "destination": joined.destination,
        "destination_workload": joined.destination_workload,
        "protocol": main.protocol,
        "server_name": main.server_name,
        "method": Value::Null,
        "path": Value::Null,
        "status": Value::Null,
        "grpc_status": Value::Null,
        "failed": if main.kind == "end" { json!(main.failed) } else { Value::Null },
        "kept": is_kept_connection(joined),
        "verdict": blamed.verdict,
        "reason": blamed.reason,
        "message": if blamed.message.is_empty() { &main.how } else { &blamed.message },
        "closed_by": main.closed_by,
        "request_bytes": main.bytes_to_server,
        "response_bytes": main.bytes_to_client,
        "timing_us": connection_timing(main),
        "views": views,
    })
}

/// The side that says what is wrong with a relayed connection.
#[must_use]
pub fn blamed(joined: &JoinedConnection) -> Option<&TappedConnection> {
    let mut views = [&joined.outbound, &joined.inbound].into_iter().flatten();
    views.find(|view| !view.reason.is_empty())
}

fn connection_timing(view: &TappedConnection) -> Value {
    let known = |us: u64| if us == 0 { Value::Null } else { json!(us) };
    json!({"connect": known(view.connected_us), "first_byte": known(view.first_byte_us), "end": known(view.duration_us)})
}

fn connection_view(view: &TappedConnection) -> Value {
    json!({
        "request": view.id,
        "destination": view.destination,
        "client_identity": view.client_identity,
        "request_bytes": view.bytes_to_server,
        "response_bytes": view.bytes_to_client,
        "closed_by": view.closed_by,
        "how": view.how,
        "timing_us": connection_timing(view),
        "client": leg(view.client.as_ref()),
        "upstream": leg(view.upstream.as_ref()),
    })
}
