//! `Traces`: requests through the bank, one in seven of which fails at `notify`.

use sheer_api::v1::attribute::Value;
use sheer_api::v1::traces_server::Traces;
use sheer_api::v1::{
    Attribute, ListTracesRequest, ListTracesResponse, PropagationCount, PropagationRequest, PropagationResponse,
    ShowTraceRequest, Span, SpanEvent, SpanKept, SpanKind, SpanWire, TimeShares, Trace, TraceSpan, TraceStatus,
    TraceStoreState, TraceSummary, WorkloadPropagation,
};
use tonic::{Request, Response, Status};

use super::Simulated;
use super::meshes::now_ms;

/// Who calls whom: depth, client, server, start, length (µs).
const HOPS: [(u32, &str, &str, i64, u64); 8] = [
    (0, "load", "gateway", 0, 31_000),
    (1, "gateway", "payments", 1_400, 28_600),
    (2, "payments", "accounts", 2_600, 1_900),
    (2, "payments", "fraud", 4_900, 4_300),
    (3, "fraud", "fx", 6_300, 1_700),
    (2, "payments", "ledger", 9_800, 1_300),
    (2, "payments", "audit", 11_600, 2_000),
    (2, "payments", "notify", 14_200, 14_900),
];

fn id(nth: u64) -> [u8; 16] {
    (u128::from(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1).to_be_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fails(nth: u64) -> bool {
    nth % 7 == 3
}

fn summary(nth: u64) -> TraceSummary {
    let failed = fails(nth);
    TraceSummary {
        trace_id: hex(&id(nth)),
        start_unix_ns: (now_ms() as u64 / 5_000 * 5_000 - nth * 5_000) * 1_000_000,
        duration_us: 31_000 + nth % 11 * 2_700,
        name: "POST /v1/payments".to_owned(),
        source: "bank/load".to_owned(),
        target: "bank/gateway".to_owned(),
        workloads: [
            "load", "gateway", "payments", "accounts", "fraud", "fx", "ledger", "audit", "notify",
        ]
        .map(|name| format!("bank/deploy/{name}"))
        .to_vec(),
        spans: 16,
        failed,
        failed_at: if failed {
            "bank/deploy/notify".to_owned()
        } else {
            String::new()
        },
        verdict: if failed {
            "application".to_owned()
        } else {
            String::new()
        },
        reason: if failed {
            "upstream-reset".to_owned()
        } else {
            String::new()
        },
        http_status: if failed { 502 } else { 200 },
        grpc_status: -1,
        kept: if failed { SpanKept::Failed } else { SpanKept::Sampled }.into(),
    }
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Text(value.to_owned())),
    }
}

#[expect(clippy::too_many_lines, reason = "one span, field after field")]
fn span(nth: u64, hop: usize, server: bool) -> TraceSpan {
    let (depth, from, to, offset, length) = HOPS[hop];
    let failed = fails(nth) && (to == "notify" || depth < 2);
    let start = summary(nth).start_unix_ns;
    let offset_us = offset + if server { 350 } else { 0 };
    let duration_us = length - if server { 700 } else { 0 };
    let at = |us: u64| start + (offset_us as u64 + us) * 1_000;
    let event = |name: &str, us: u64| SpanEvent {
        name: name.to_owned(),
        unix_ns: at(us),
        attributes: Vec::new(),
    };
    let index = hop * 2 + usize::from(server);
    let parent = match (server, HOPS[..hop].iter().rposition(|above| above.0 < depth)) {
        (true, _) => index as i32 - 1,
        (false, Some(above)) => above as i32 * 2 + 1,
        (false, None) => -1,
    };
    TraceSpan {
        span: Some(Span {
            trace_id: id(nth).to_vec(),
            span_id: (nth * 64 + index as u64).to_be_bytes().to_vec(),
            kind: if server { SpanKind::Server } else { SpanKind::Client }.into(),
            name: if hop == 0 {
                "POST /v1/payments".to_owned()
            } else {
                format!("POST /bank.v1.{to}/Call")
            },
            start_unix_ns: at(0),
            end_unix_ns: at(duration_us),
            failed,
            status_message: if failed {
                "UNAVAILABLE: the server reset the stream".to_owned()
            } else {
                String::new()
            },
            attributes: vec![
                text("http.request.method", "POST"),
                text("network.protocol.version", "2"),
                text("server.address", to),
            ],
            events: if server {
                vec![event("sent", 120), event("first byte", duration_us * 4 / 5)]
            } else {
                vec![
                    event("queue", 20),
                    event("connected", 60),
                    event("sent", 140),
                    event("first byte", duration_us * 9 / 10),
                ]
            },
            kept: if failed { SpanKept::Failed } else { SpanKept::Sampled }.into(),
            wire: Some(SpanWire {
                client: format!("10.77.0.{}:51234", hop + 2),
                server: format!("10.77.0.{}:4143", hop + 3),
                stream: 5,
            }),
            verdict: if failed {
                "application".to_owned()
            } else {
                String::new()
            },
            reason: if failed {
                "upstream-reset".to_owned()
            } else {
                String::new()
            },
            ..Span::default()
        }),
        parent,
        depth: depth * 2 + u32::from(server),
        namespace: "bank".to_owned(),
        pod: format!("{}-6d9f4-0", if server { to } else { from }),
        workload: format!("deploy/{}", if server { to } else { from }),
        service: if server { to } else { from }.to_owned(),
        offset_us,
        duration_us,
        shares: Some(TimeShares {
            caller_proxy_us: if server { 0 } else { 160 },
            network_us: if server { 0 } else { 540 },
            callee_proxy_us: 90,
            application_us: duration_us - 790.min(duration_us),
        }),
        joined_by_wire: false,
    }
}

#[tonic::async_trait]
impl Traces for Simulated {
    async fn list(&self, request: Request<ListTracesRequest>) -> Result<Response<ListTracesResponse>, Status> {
        let request = request.into_inner();
        let wanted = |summary: &TraceSummary| {
            let service = summary.workloads.iter().any(|name| name.contains(&request.service));
            let status = match request.status() {
                TraceStatus::Unspecified => true,
                TraceStatus::Failed => summary.failed,
                TraceStatus::Ok => !summary.failed,
            };
            service
                && status
                && summary.duration_us >= request.min_duration_us
                && summary.trace_id.starts_with(&request.id)
        };
        let all = (1..61).map(summary).filter(wanted);
        let limit = if request.limit == 0 { 50 } else { request.limit as usize };
        Ok(Response::new(ListTracesResponse {
            traces: all.take(limit).collect(),
            store: Some(TraceStoreState {
                traces: 60,
                spans: 960,
                bytes: 1_400_000,
                max_traces: 10_000,
                max_bytes: 64 << 20,
                proxies: 11,
                ..TraceStoreState::default()
            }),
        }))
    }

    async fn show(&self, request: Request<ShowTraceRequest>) -> Result<Response<Trace>, Status> {
        let wanted = request.into_inner().trace_id;
        let nth = (1..61).find(|nth| hex(&id(*nth)).starts_with(&wanted) && !wanted.is_empty());
        let nth = nth.ok_or_else(|| Status::not_found(format!("there is no trace {wanted}")))?;
        let spans = (0..HOPS.len()).flat_map(|hop| [span(nth, hop, false), span(nth, hop, true)]);
        Ok(Response::new(Trace {
            summary: Some(summary(nth)),
            spans: spans.collect(),
            culprit: if fails(nth) { 15 } else { -1 },
            notes: vec!["the clocks of bank/fx-6d9f4-0 and bank/fraud-6d9f4-0 differ by 0.4 ms".to_owned()],
        }))
    }

    async fn propagation(&self, _: Request<PropagationRequest>) -> Result<Response<PropagationResponse>, Status> {
        Ok(Response::new(PropagationResponse {
            workloads: vec![WorkloadPropagation {
                namespace: "bank".to_owned(),
                workload: "deploy/fraud".to_owned(),
                with_context: 3,
                without_context: 412,
                targets: vec![PropagationCount {
                    target: "fx.bank.svc.cluster.local:8080".to_owned(),
                    with_context: 3,
                    without_context: 412,
                }],
                breaks: true,
                finding: "deploy/fraud does not pass on the trace context of the requests that it serves: traces end there. Copy `traceparent` and \
                          `tracestate` from each request to those that it causes, or use an OpenTelemetry library."
                    .to_owned(),
            }],
        }))
    }
}
