//! What passes and passed on the wire: requests through the bank, one in seven of which fails at `notify`; of the others every fifth is forgotten at once.
//! Whoever comes with a token may tap and nothing else.

use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use sheer_api::v1::frame_event::Event;
use sheer_api::v1::tap_line::Line;
use sheer_api::v1::{
    Connection, Difference, Ending, Exchange, ExchangeView, Failure, Frame, FrameEvent, HeaderBlock, HeaderField,
    JoinedConnection, JoinedRequest, Leg, PointView, RequestDiff, RequestHead, Setting, ShownField, TableState,
    TapFilter, TapLine, TapLoss, TappedConnection, TappedRequest, Timing, TlsSession, WatchDiffRequest,
    WatchDiffResponse, WatchFramesRequest, WatchTapRequest,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::meshes::now_ms;

/// Requests a second.
const EVERY: Duration = Duration::from_millis(50);
/// Failures that are kept from before.
const KEPT: u64 = 3;
const CLIENT: &str = "10.77.1.1:40000";
const SERVER: &str = "10.77.7.1:8080";
/// Requests from here on were never recorded.
const UNKNOWN_FROM: u64 = 1_000_000;

fn fails(nth: u64) -> bool {
    nth % 7 == 3
}

fn is_forgotten(nth: u64) -> bool {
    !fails(nth) && nth % 5 == 4
}

fn target(nth: u64) -> (&'static str, &'static str) {
    match nth % 7 {
        3 => ("notify", "/bank.v1.Notify/Deliver"),
        0 | 1 => ("ledger", "/bank.v1.Ledger/Post"),
        2 => ("accounts", "/bank.v1.Accounts/Debit"),
        // A path is whatever a client makes of it.
        4 => ("audit", "/bank.v1.Audit/<img src=x onerror=alert(1)>"),
        _ => ("fraud", "/bank.v1.Fraud/Score"),
    }
}

fn trace(nth: u64) -> String {
    format!("00-{:032x}-00f067aa0ba902b7-01", nth + 0x4bf9)
}

fn exchange(nth: u64, direction: &str) -> Exchange {
    let leg = |connection, local: &str, remote: &str| {
        Some(Leg {
            connection,
            stream: (nth * 2 + 1) as u32,
            local: local.to_owned(),
            remote: remote.to_owned(),
            original: String::new(),
            mesh: true,
        })
    };
    let outbound = direction == "outbound";
    Exchange {
        id: nth,
        direction: direction.to_owned(),
        client: if outbound {
            leg(1, "127.0.0.1:4140", "127.0.0.1:50000")
        } else {
            leg(3, SERVER, CLIENT)
        },
        upstream: if outbound {
            leg(2, CLIENT, SERVER)
        } else {
            leg(4, "127.0.0.1:50001", "127.0.0.1:8080")
        },
        started_us: now_ms() * 1_000,
        duration_us: 4_200,
    }
}

fn tapped(nth: u64, direction: &str) -> TappedRequest {
    let field = |name: &str, value: &str| HeaderField {
        name: name.to_owned(),
        value: value.as_bytes().to_vec(),
    };
    let failed = fails(nth);
    TappedRequest {
        kind: "end".to_owned(),
        exchange: Some(exchange(nth, direction)),
        at_us: now_ms() * 1_000 + (nth % 1_000) as i64,
        request: Some(RequestHead {
            method: "POST".to_owned(),
            authority: format!("{}.bank:8080", target(nth).0),
            path: target(nth).1.to_owned(),
            headers: vec![
                field("content-type", "application/grpc"),
                field("authorization", "sha256:6f1e0c9a"),
                field("traceparent", &trace(nth)),
            ],
        }),
        protocol: "http/2".to_owned(),
        status: 200,
        response_headers: vec![field("content-type", "application/grpc")],
        response_trailers: vec![field("grpc-status", if failed { "14" } else { "0" })],
        grpc_status: if failed { 14 } else { 0 },
        grpc_message: if failed { "no connection to the provider" } else { "" }.to_owned(),
        timing: Some(Timing {
            sent_us: 210,
            first_byte_us: 3_900,
            end_us: 4_200 + nth % 9 * 700,
            ..Timing::default()
        }),
        request_bytes: 118,
        response_bytes: 64,
        end: if failed { "proxy" } else { "complete" }.to_owned(),
        verdict: if failed && direction == "outbound" {
            "capacity"
        } else {
            ""
        }
        .to_owned(),
        reason: if failed && direction == "outbound" {
            "failfast"
        } else {
            ""
        }
        .to_owned(),
        message: if failed && direction == "outbound" {
            "no endpoint of notify was ready for 3 s"
        } else {
            ""
        }
        .to_owned(),
        failed,
        attempts: if failed { 3 } else { 1 },
        ..TappedRequest::default()
    }
}

fn id(nth: u64) -> String {
    format!("payments-6d9f4-0/{nth}")
}

fn joined(nth: u64, kept: bool) -> JoinedRequest {
    let view = |direction| TappedRequest {
        kept,
        ..tapped(nth, direction)
    };
    JoinedRequest {
        id: id(nth),
        source: "bank/payments-6d9f4-0".to_owned(),
        destination: format!("bank/{}-6d9f4-0", target(nth).0),
        source_workload: "deploy/payments".to_owned(),
        destination_workload: format!("deploy/{}", target(nth).0),
        outbound: Some(Box::new(view("outbound"))),
        inbound: Some(Box::new(view("inbound"))),
        called: String::new(),
    }
}

fn connection_line(nth: u64) -> Line {
    Line::Connection(JoinedConnection {
        id: id(nth),
        source: "bank/payments-6d9f4-0".to_owned(),
        destination: "10.77.0.1:5432".to_owned(),
        outbound: Some(TappedConnection {
            kind: "end".to_owned(),
            id: nth,
            at_us: now_ms() * 1_000,
            direction: "outbound".to_owned(),
            protocol: "tcp".to_owned(),
            destination: "postgres.bank:5432".to_owned(),
            bytes_to_server: 4_096,
            bytes_to_client: 71_680,
            duration_us: 1_300_000,
            closed_by: "client".to_owned(),
            how: "FIN".to_owned(),
            ..TappedConnection::default()
        }),
        ..JoinedConnection::default()
    })
}

/// A token may tap.
fn refused(metadata: &MetadataMap, right: &str) -> Option<Status> {
    let is_narrow = metadata.get("authorization").is_some();
    let refused = || Status::permission_denied(format!("the token does not allow `{right}`, only tap"));
    (is_narrow && right != "tap").then(refused)
}

pub(super) fn tap(request: &Request<WatchTapRequest>) -> Result<BoxStream<'static, Result<TapLine, Status>>, Status> {
    if let Some(refused) = refused(request.metadata(), "tap") {
        return Err(refused);
    }
    let asked = request.get_ref();
    let of = asked.of.clone().unwrap_or_default();
    if of.workload == "deploy/secret" {
        return Err(Status::permission_denied("sight is disabled for deploy/secret"));
    }
    let question = asked.asked.clone().unwrap_or_default();
    let filter = question.filter.clone().unwrap_or_default();
    let line = |line| Ok(TapLine { line: Some(line) });
    let before = (0..if question.kept { KEPT } else { 0 })
        .map(move |nth| line(Line::Request(Box::new(joined(nth * 7 + 3, true)))));
    let note =
        (of.workload == "ns/bank").then(|| line(Line::Note("bank/reports-6d9f4-0: it has no sidecar".to_owned())));
    Ok(stream::iter(note.into_iter().chain(before))
        .chain(later(filter))
        .boxed())
}

/// What comes, without end: as filters of proxies would let it pass.
fn later(filter: TapFilter) -> impl Stream<Item = Result<TapLine, Status>> + Send {
    let ticks = stream::unfold((tokio::time::interval(EVERY), 100_u64), |(mut ticks, nth)| async move {
        ticks.tick().await;
        Some((nth, (ticks, nth + 1)))
    });
    ticks.filter_map(move |nth| {
        let fits = (!filter.failed_only || fails(nth)) && target(nth).1.starts_with(&filter.path);
        let line = match nth % 40 {
            20 => Line::Loss(TapLoss { slow: 0, rate: 12 }),
            30 if !filter.failed_only && filter.path.is_empty() => connection_line(nth),
            _ => Line::Request(Box::new(joined(nth, false))),
        };
        let shown = fits || matches!(line, Line::Loss(_));
        futures::future::ready(shown.then_some(Ok(TapLine { line: Some(line) })))
    })
}

fn shown(name: &str, value: &str, representation: &str, index: u32) -> ShownField {
    ShownField {
        name: name.to_owned(),
        value: value.as_bytes().to_vec(),
        representation: representation.to_owned(),
        index,
        bytes: 12,
        table_before: 380,
        table_after: 431,
        ..ShownField::default()
    }
}

/// A point; the proxy of the caller adds who calls, and at the third point a failing request has lost a field.
fn point(nth: u64, point: u32) -> PointView {
    let mut request = vec![
        shown(":method", "POST", "indexed", 3),
        shown(":path", target(nth).1, "literal, indexed", 4),
        shown("content-type", "application/grpc", "indexed", 63),
        shown("authorization", "sha256:6f1e0c9a", "never indexed", 23),
        shown("traceparent", &trace(nth), "literal", 0),
    ];
    if point < 3 || !fails(nth) {
        request.push(shown("x-tenant", "acme", "indexed", 64));
    }
    if point == 4 {
        request.push(shown("l5d-client-id", "payments.bank", "literal", 0));
    }
    PointView {
        request,
        response: vec![shown(":status", "200", "indexed", 8)],
        response_trailers: vec![shown("grpc-status", if fails(nth) { "14" } else { "0" }, "literal", 0)],
        protocol: "http/2".to_owned(),
        ..PointView::default()
    }
}

fn view(nth: u64, direction: &str) -> ExchangeView {
    let first = if direction == "outbound" { 1 } else { 3 };
    let connection = |id, mesh: bool| {
        Some(Connection {
            id,
            protocol: "http/2".to_owned(),
            identity: if mesh {
                "ledger.bank.serviceaccount.identity.sheer.cluster.local"
            } else {
                ""
            }
            .to_owned(),
            tls: mesh.then(|| TlsSession {
                version: "TLSv1.3".to_owned(),
                cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
                group: "X25519MLKEM768".to_owned(),
                ..TlsSession::default()
            }),
            ..Connection::default()
        })
    };
    ExchangeView {
        exchange: Some(exchange(nth, direction)),
        client_connection: connection(first, first == 3),
        upstream_connection: connection(first + 1, first == 1),
        client: Some(point(nth, first as u32)),
        upstream: Some(point(nth, first as u32 + 1)),
        failed: fails(nth),
        tapped: Some(tapped(nth, direction)),
        ..ExchangeView::default()
    }
}

fn differences(nth: u64) -> Vec<Difference> {
    let added = Difference {
        part: "request".to_owned(),
        field: "l5d-client-id".to_owned(),
        first_seen_at: 4,
        documented: true,
        after: vec![b"payments.bank".to_vec()],
        why: "the callee's proxy tells its application who calls".to_owned(),
        ..Difference::default()
    };
    let lost = Difference {
        part: "request".to_owned(),
        field: "x-tenant".to_owned(),
        first_seen_at: 3,
        documented: false,
        before: vec![b"acme".to_vec()],
        why: "nobody says that it removes this field".to_owned(),
        ..Difference::default()
    };
    if fails(nth) { vec![lost, added] } else { vec![added] }
}

pub(super) fn diff(request: &Request<WatchDiffRequest>) -> Result<WatchDiffResponse, Status> {
    if let Some(refused) = refused(request.metadata(), "tap") {
        return Err(refused);
    }
    let asked = request.get_ref();
    // By id, by the stream of a span, or the last.
    let by_id = asked.request_id.rsplit_once('/').and_then(|(_, nth)| nth.parse().ok());
    let by_wire = asked.wire.as_ref().map(|wire| u64::from(wire.stream) / 2);
    let nth: u64 = by_id.or(by_wire).unwrap_or(if asked.failed { 3 } else { 1 });
    if nth >= UNKNOWN_FROM || is_forgotten(nth) {
        return Ok(WatchDiffResponse {
            notes: vec!["no such request is recorded".to_owned()],
            ..WatchDiffResponse::default()
        });
    }
    let joined = joined(nth, false);
    Ok(WatchDiffResponse {
        requests: vec![RequestDiff {
            missing: String::new(),
            request_id: joined.id,
            source: joined.source,
            destination: joined.destination,
            outbound: Some(view(nth, "outbound")),
            inbound: Some(view(nth, "inbound")),
            differences: differences(nth),
        }],
        ..WatchDiffResponse::default()
    })
}

fn frame(connection: u64, number: u64, stream: u32, kind: &str) -> Frame {
    Frame {
        connection,
        number,
        at_us: 1_795_687_445_123_456 + number as i64 * 410,
        written: number.is_multiple_of(2),
        r#type: kind.to_owned(),
        stream,
        length: 40,
        ..Frame::default()
    }
}

fn block(kind: &str, fields: Vec<ShownField>) -> Option<HeaderBlock> {
    let table = |entries, size| {
        Some(TableState {
            inserted: 40,
            entries,
            size,
            maximum: 4_096,
        })
    };
    Some(HeaderBlock {
        kind: kind.to_owned(),
        bytes: 61,
        frames: 1,
        before: table(6, 380),
        after: table(7, 431),
        fields,
        ..HeaderBlock::default()
    })
}

/// Frames of a connection: its settings, a request, its end.
fn frames_of(connection: u64, stream: u32, failed: bool) -> Vec<Event> {
    let nth = u64::from(stream) / 2;
    let mut frames = vec![
        Frame {
            settings: vec![Setting {
                id: 4,
                name: "INITIAL_WINDOW_SIZE".to_owned(),
                value: 65_535,
            }],
            ..frame(connection, 0, 0, "SETTINGS")
        },
        Frame {
            flag_names: vec!["END_HEADERS".to_owned()],
            block: block("request", point(nth, connection as u32).request),
            ..frame(connection, 2, stream, "HEADERS")
        },
        Frame {
            flag_names: vec!["END_STREAM".to_owned()],
            stream_window: Some(65_495),
            connection_window: Some(1_048_000),
            ..frame(connection, 4, stream, "DATA")
        },
        Frame {
            flag_names: vec!["END_HEADERS".to_owned(), "END_STREAM".to_owned()],
            block: block("trailers", point(nth, connection as u32).response_trailers),
            ..frame(connection, 5, stream, "HEADERS")
        },
    ];
    if failed {
        frames.push(Frame {
            error_code: "CANCEL".to_owned(),
            violations: vec!["a frame after END_STREAM (RFC 9113, 5.1)".to_owned()],
            ending: Some(Ending::default()),
            ..frame(connection, 6, stream, "RST_STREAM")
        });
    }
    frames.into_iter().map(Event::Frame).collect()
}

pub(super) fn frames(
    request: &Request<WatchFramesRequest>,
) -> Result<BoxStream<'static, Result<FrameEvent, Status>>, Status> {
    if let Some(refused) = refused(request.metadata(), "frames") {
        return Err(refused);
    }
    let of = request.get_ref().of.clone().unwrap_or_default();
    let asked = request.get_ref().asked.clone().unwrap_or_default();
    let stream = asked.stream.unwrap_or_default();
    let nth = u64::from(stream) / 2;
    let mut events = Vec::new();
    // What failed is kept, and gone from the connection.
    if asked.last_failures && fails(nth) {
        for (id, connection) in [(nth + 7, asked.connection), (nth, asked.connection)] {
            events.push(Event::Failure(Failure {
                exchange: Some(Exchange {
                    id,
                    ..Exchange::default()
                }),
                reason: "failfast".to_owned(),
                ..Failure::default()
            }));
            events.extend(frames_of(connection, if id == nth { stream } else { 1 }, true));
        }
    } else if !asked.last_failures && !fails(nth) {
        events.extend(frames_of(asked.connection, stream, false));
    }
    let pod = format!("{}/{}", of.namespace, of.workload.trim_start_matches("pod/"));
    let events = events.into_iter().map(move |event| {
        Ok(FrameEvent {
            event: Some(event),
            pod: pod.clone(),
        })
    });
    Ok(stream::iter(events.collect::<Vec<_>>()).boxed())
}
