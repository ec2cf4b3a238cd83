//! Requests, relayed connections and bodies as JSON.

use serde::{Serialize, Serializer};
use serde_json::Value;
use sheer_api::v1::{HeaderField, JoinedBody, JoinedConnection, JoinedRequest, Leg, TappedConnection, TappedRequest};

use super::text::{moment, text};

/// A request at a stage, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    time: String,
    kind: &'a str,
    id: &'a str,
    source: &'a str,
    source_workload: &'a str,
    destination: &'a str,
    destination_workload: &'a str,
    protocol: &'a str,
    method: &'a str,
    authority: &'a str,
    path: &'a str,
    status: Option<u32>,
    grpc_status: Option<i32>,
    grpc_message: &'a str,
    /// Known at the end.
    failed: Option<bool>,
    kept: bool,
    verdict: &'a str,
    reason: &'a str,
    message: &'a str,
    end: &'a str,
    reset_code: &'a str,
    request_bytes: u64,
    response_bytes: u64,
    headers: Both<'a>,
    trailers: Both<'a>,
    timing_us: Timing,
    views: Views<View<'a>>,
}

/// Fields of the request and of its answer.
#[derive(Debug, Serialize)]
struct Both<'a> {
    request: Fields<'a>,
    response: Fields<'a>,
}

/// Names and values in order: a name may come twice.
#[derive(Debug)]
struct Fields<'a>(&'a [HeaderField]);

/// Microseconds since it began; none where it did not happen.
#[derive(Debug, Serialize)]
struct Timing {
    sent: Option<u64>,
    first_byte: Option<u64>,
    end: Option<u64>,
}

/// By the sidecar that saw it.
#[derive(Debug, Serialize)]
struct Views<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    outbound: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound: Option<T>,
}

/// What one proxy saw that the line does not say already.
#[derive(Debug, Serialize)]
struct View<'a> {
    request: u64,
    destination: &'a str,
    endpoint: &'a str,
    attempts: u32,
    passed_over: Vec<PassedOver<'a>>,
    client_identity: &'a str,
    client_address: &'a str,
    mutual_tls: bool,
    client: Option<Place<'a>>,
    upstream: Option<Place<'a>>,
    status: Option<u32>,
    grpc_status: Option<i32>,
    end: &'a str,
    verdict: &'a str,
    reason: &'a str,
    timing_us: Timing,
}

/// An answer that the client did not see.
#[derive(Debug, Serialize)]
struct PassedOver<'a> {
    endpoint: &'a str,
    status: Option<u32>,
    grpc_status: Option<i32>,
}

/// Where one side of it was.
#[derive(Debug, Serialize)]
struct Place<'a> {
    connection: u64,
    stream: u32,
    local: &'a str,
    remote: &'a str,
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|field| (&field.name, text(&field.value))))
    }
}

/// A request at a stage; none where neither proxy saw it.
#[must_use]
pub fn request(joined: &JoinedRequest) -> Option<Request<'_>> {
    let (outbound, inbound) = (joined.outbound.as_deref(), joined.inbound.as_deref());
    let main = outbound.or(inbound)?;
    let head = main.request.as_ref();
    // Who answers counts: the side that made something up, or the one nearer to the application.
    let blamed = [outbound, inbound]
        .into_iter()
        .flatten()
        .find(|view| !view.reason.is_empty())
        .unwrap_or(main);
    Some(Request {
        time: moment(main.at_us),
        kind: &main.kind,
        id: &joined.id,
        source: &joined.source,
        source_workload: &joined.source_workload,
        destination: &joined.destination,
        destination_workload: &joined.destination_workload,
        protocol: &main.protocol,
        method: head.map_or("", |head| &head.method),
        authority: head.map_or("", |head| &head.authority),
        path: head.map_or("", |head| &head.path),
        status: status(main.status),
        grpc_status: grpc(main.grpc_status),
        grpc_message: &main.grpc_message,
        failed: (main.kind == "end").then_some(main.failed),
        kept: is_kept(joined),
        verdict: verdict(main, blamed),
        reason: &blamed.reason,
        message: &blamed.message,
        end: &main.end,
        reset_code: &main.reset_code,
        request_bytes: main.request_bytes,
        response_bytes: main.response_bytes,
        headers: Both {
            request: Fields(head.map_or(&[], |head| &head.headers)),
            response: Fields(&main.response_headers),
        },
        trailers: Both {
            request: Fields(&main.request_trailers),
            response: Fields(&main.response_trailers),
        },
        timing_us: timing(main),
        views: Views {
            outbound: outbound.map(view),
            inbound: inbound.map(view),
        },
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

fn status(status: u32) -> Option<u32> {
    (status > 0).then_some(status)
}

fn grpc(status: i32) -> Option<i32> {
    (status >= 0).then_some(status)
}

fn known(us: u64) -> Option<u64> {
    (us > 0).then_some(us)
}

fn timing(view: &TappedRequest) -> Timing {
    let timing = view.timing.unwrap_or_default();
    Timing {
        sent: known(timing.sent_us),
        first_byte: known(timing.first_byte_us),
        end: known(timing.end_us),
    }
}

fn view(view: &TappedRequest) -> View<'_> {
    let exchange = view.exchange.as_ref();
    let passed_over = view.passed_over.iter().map(|one| PassedOver {
        endpoint: &one.endpoint,
        status: status(one.status),
        grpc_status: grpc(one.grpc_status),
    });
    View {
        request: exchange.map_or(0, |exchange| exchange.id),
        destination: &view.destination,
        endpoint: &view.endpoint,
        attempts: view.attempts,
        passed_over: passed_over.collect(),
        client_identity: &view.client_identity,
        client_address: &view.client_address,
        mutual_tls: view.mutual_tls,
        client: place(exchange.and_then(|exchange| exchange.client.as_ref())),
        upstream: place(exchange.and_then(|exchange| exchange.upstream.as_ref())),
        status: status(view.status),
        grpc_status: grpc(view.grpc_status),
        end: &view.end,
        verdict: &view.verdict,
        reason: &view.reason,
        timing_us: timing(view),
    }
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

fn place(leg: Option<&Leg>) -> Option<Place<'_>> {
    leg.map(|leg| Place {
        connection: leg.connection,
        stream: leg.stream,
        local: &leg.local,
        remote: &leg.remote,
    })
}

/// A message of a body, or a whole body, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Body<'a> {
    time: String,
    kind: &'static str,
    id: &'a str,
    of: &'static str,
    number: u32,
    format: &'a str,
    #[serde(rename = "type")]
    type_name: &'a str,
    bytes: u64,
    body: Option<Value>,
    note: &'a str,
}

/// A message of a body, or a body; none where it has neither.
#[must_use]
pub fn body(joined: &JoinedBody) -> Option<Body<'_>> {
    let body = joined.body.as_ref()?;
    Some(Body {
        time: moment(body.at_us),
        kind: "body",
        id: &joined.id,
        of: if body.response { "response" } else { "request" },
        number: body.number,
        format: &body.format,
        type_name: &body.type_name,
        bytes: body.bytes,
        body: serde_json::from_str(&body.text).ok(),
        note: &body.note,
    })
}

/// A relayed connection, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Relayed<'a> {
    time: String,
    kind: &'static str,
    event: &'a str,
    id: &'a str,
    source: &'a str,
    source_workload: &'a str,
    destination: &'a str,
    destination_workload: &'a str,
    protocol: &'a str,
    server_name: &'a str,
    /// What requests have, and connections never do: a reader need not ask first which of them a line is.
    method: (),
    path: (),
    status: (),
    grpc_status: (),
    /// Known at the end.
    failed: Option<bool>,
    kept: bool,
    verdict: &'a str,
    reason: &'a str,
    message: &'a str,
    closed_by: &'a str,
    request_bytes: u64,
    response_bytes: u64,
    timing_us: RelayedTiming,
    views: Views<RelayedView<'a>>,
}

/// Microseconds since the connection was here; none where it did not happen.
#[derive(Debug, Serialize)]
struct RelayedTiming {
    connect: Option<u64>,
    first_byte: Option<u64>,
    end: Option<u64>,
}

/// A relayed connection as one proxy saw it.
#[derive(Debug, Serialize)]
struct RelayedView<'a> {
    request: u64,
    destination: &'a str,
    client_identity: &'a str,
    request_bytes: u64,
    response_bytes: u64,
    closed_by: &'a str,
    how: &'a str,
    timing_us: RelayedTiming,
    client: Option<Place<'a>>,
    upstream: Option<Place<'a>>,
}

/// A relayed connection; none where neither proxy saw it.
#[must_use]
pub fn connection(joined: &JoinedConnection) -> Option<Relayed<'_>> {
    let (outbound, inbound) = (joined.outbound.as_ref(), joined.inbound.as_ref());
    let main = outbound.or(inbound)?;
    let blamed = blamed(joined).unwrap_or(main);
    Some(Relayed {
        time: moment(main.at_us),
        kind: "tcp",
        event: &main.kind,
        id: &joined.id,
        source: &joined.source,
        source_workload: &joined.source_workload,
        destination: &joined.destination,
        destination_workload: &joined.destination_workload,
        protocol: &main.protocol,
        server_name: &main.server_name,
        method: (),
        path: (),
        status: (),
        grpc_status: (),
        failed: (main.kind == "end").then_some(main.failed),
        kept: is_kept_connection(joined),
        verdict: &blamed.verdict,
        reason: &blamed.reason,
        message: if blamed.message.is_empty() {
            &main.how
        } else {
            &blamed.message
        },
        closed_by: &main.closed_by,
        request_bytes: main.bytes_to_server,
        response_bytes: main.bytes_to_client,
        timing_us: relayed_timing(main),
        views: Views {
            outbound: outbound.map(relayed_view),
            inbound: inbound.map(relayed_view),
        },
    })
}

/// The side that says what is wrong with a relayed connection.
#[must_use]
pub fn blamed(joined: &JoinedConnection) -> Option<&TappedConnection> {
    let mut views = [&joined.outbound, &joined.inbound].into_iter().flatten();
    views.find(|view| !view.reason.is_empty())
}

fn relayed_timing(view: &TappedConnection) -> RelayedTiming {
    RelayedTiming {
        connect: known(view.connected_us),
        first_byte: known(view.first_byte_us),
        end: known(view.duration_us),
    }
}

fn relayed_view(view: &TappedConnection) -> RelayedView<'_> {
    RelayedView {
        request: view.id,
        destination: &view.destination,
        client_identity: &view.client_identity,
        request_bytes: view.bytes_to_server,
        response_bytes: view.bytes_to_client,
        closed_by: &view.closed_by,
        how: &view.how,
        timing_us: relayed_timing(view),
        client: place(view.client.as_ref()),
        upstream: place(view.upstream.as_ref()),
    }
}
