//! Requests, relayed connections and bodies as JSON.

use serde::{Serialize, Serializer};
use serde_json::Value;
use sheer_api::v1::{HeaderField, JoinedBody, JoinedConnection, JoinedRequest, Leg, TappedConnection, TappedRequest};

use super::text::{moment, text};

/// A request at a stage, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    /// Microseconds since the Unix epoch.
    #[serde(skip)]
    started: i64,
    #[serde(skip)]
    called: &'a str,
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
    request_end: Option<u64>,
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

/// An attempt that was followed by another.
#[derive(Debug, Serialize)]
struct PassedOver<'a> {
    endpoint: &'a str,
    status: Option<u32>,
    grpc_status: Option<i32>,
    /// Why nothing answered.
    reason: &'a str,
    time: String,
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
    seen(joined, [joined.outbound.as_deref(), joined.inbound.as_deref()])
}

/// The same after those stages that its end tells of too (`untold_request`, `untold_response`), as they would have been told.
pub fn stages(joined: &JoinedRequest) -> impl Iterator<Item = Request<'_>> {
    let (outbound, inbound) = (joined.outbound.as_deref(), joined.inbound.as_deref());
    let told = |wanted: Stage| {
        let is_untold = |view: &&TappedRequest| match wanted {
            Stage::Request => view.untold_request,
            Stage::Response => view.untold_response,
        };
        let views = [outbound.filter(is_untold), inbound.filter(is_untold)];
        seen(joined, views).map(|whole| whole.at(wanted))
    };
    [told(Stage::Request), told(Stage::Response), request(joined)]
        .into_iter()
        .flatten()
}

/// A stage before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Request,
    Response,
}

impl Request<'_> {
    /// What was known of it then; made of the view of the proxy that would have told of it.
    fn at(self, stage: Stage) -> Self {
        let is_response = stage == Stage::Response;
        let after = self.timing_us.first_byte.filter(|_| is_response).unwrap_or(0);
        let Views { outbound, inbound } = self.views;
        // Before an endpoint was chosen.
        let was_called = !is_response && !self.called.is_empty();
        Self {
            destination: if was_called { self.called } else { self.destination },
            destination_workload: if was_called { "" } else { self.destination_workload },
            time: moment(self.started.saturating_add_unsigned(after)),
            kind: if is_response { "response" } else { "request" },
            status: self.status.filter(|_| is_response),
            grpc_status: None,
            // In the head of an answer that has nothing else.
            grpc_message: if is_response && self.trailers.response.0.is_empty() {
                self.grpc_message
            } else {
                ""
            },
            failed: None,
            verdict: "",
            reason: "",
            message: "",
            end: "",
            reset_code: "",
            request_bytes: 0,
            response_bytes: 0,
            headers: Both {
                response: if is_response {
                    self.headers.response
                } else {
                    Fields(&[])
                },
                ..self.headers
            },
            trailers: Both {
                request: Fields(&[]),
                response: Fields(&[]),
            },
            timing_us: self.timing_us.at(stage),
            views: Views {
                outbound: outbound.map(|view| view.at(stage)),
                inbound: inbound.map(|view| view.at(stage)),
            },
            ..self
        }
    }
}

impl Timing {
    fn at(self, stage: Stage) -> Self {
        let is_response = stage == Stage::Response;
        Self {
            sent: self.sent.filter(|_| is_response),
            // It may have been answered before it had gone out whole.
            request_end: self
                .request_end
                .filter(|end| is_response && self.first_byte.is_some_and(|answered| *end <= answered)),
            first_byte: self.first_byte.filter(|_| is_response),
            end: None,
        }
    }
}

impl View<'_> {
    fn at(self, stage: Stage) -> Self {
        let told = Self {
            grpc_status: None,
            end: "",
            verdict: "",
            reason: "",
            timing_us: self.timing_us.at(stage),
            ..self
        };
        match stage {
            Stage::Response => told,
            // It went nowhere yet.
            Stage::Request => Self {
                endpoint: "",
                attempts: 0,
                passed_over: Vec::new(),
                upstream: None,
                status: None,
                ..told
            },
        }
    }
}

fn seen<'a>(joined: &'a JoinedRequest, [outbound, inbound]: [Option<&'a TappedRequest>; 2]) -> Option<Request<'a>> {
    let main = outbound.or(inbound)?;
    let head = main.request.as_ref();
    // Who answers counts: the side that made something up, or the one nearer to the application.
    let blamed = [outbound, inbound]
        .into_iter()
        .flatten()
        .find(|view| !view.reason.is_empty())
        .unwrap_or(main);
    Some(Request {
        started: main
            .exchange
            .as_ref()
            .map_or(main.at_us, |exchange| exchange.started_us),
        called: &joined.called,
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
        request_end: known(timing.request_end_us),
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
        reason: &one.reason,
        time: moment(one.at_us as i64),
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
        closed_by: closed_by(joined),
        request_bytes: main.bytes_to_server,
        response_bytes: main.bytes_to_client,
        timing_us: relayed_timing(main),
        views: Views {
            outbound: outbound.map(relayed_view),
            inbound: inbound.map(relayed_view),
        },
    })
}

/// Who ended a relayed connection first, by the side that says what is wrong with it; empty where nobody knows.
#[must_use]
pub fn closed_by(joined: &JoinedConnection) -> &str {
    let views = [blamed(joined), joined.outbound.as_ref(), joined.inbound.as_ref()];
    let mut told = views.into_iter().flatten().map(|view| view.closed_by.as_str());
    told.find(|by| !by.is_empty()).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sheer_api::v1::{self, RequestHead};

    use super::*;

    fn field(name: &str, value: &str) -> HeaderField {
        HeaderField {
            name: name.to_owned(),
            value: value.as_bytes().to_vec(),
        }
    }

    /// As a proxy tells of it: `untold` of the stages before its end.
    fn ended(untold: [bool; 2]) -> JoinedRequest {
        let leg = |remote: &str| Leg {
            remote: remote.to_owned(),
            ..Leg::default()
        };
        let own = TappedRequest {
            kind: "end".to_owned(),
            exchange: Some(v1::Exchange {
                id: 9,
                client: Some(leg("10.77.0.9:1")),
                upstream: Some(leg("10.77.0.4:80")),
                started_us: 1_000_000,
                ..v1::Exchange::default()
            }),
            at_us: 1_000_900,
            request: Some(RequestHead {
                method: "POST".to_owned(),
                headers: vec![field("te", "trailers")],
                ..RequestHead::default()
            }),
            status: 200,
            response_headers: vec![field("server", "x")],
            response_trailers: vec![field("grpc-status", "14")],
            grpc_status: 14,
            grpc_message: "away".to_owned(),
            timing: Some(v1::Timing {
                sent_us: 100,
                first_byte_us: 500,
                end_us: 900,
                ..v1::Timing::default()
            }),
            response_bytes: 5,
            end: "complete".to_owned(),
            failed: true,
            endpoint: "10.77.0.4:80".to_owned(),
            attempts: 1,
            untold_request: untold[0],
            untold_response: untold[1],
            ..TappedRequest::default()
        };
        // The other proxy was asked how it ended there.
        let other = TappedRequest {
            untold_request: false,
            untold_response: false,
            ..own.clone()
        };
        JoinedRequest {
            id: "web-0/9".to_owned(),
            outbound: Some(Box::new(other)),
            inbound: Some(Box::new(own)),
            ..JoinedRequest::default()
        }
    }

    fn lines(joined: &JoinedRequest) -> Vec<Value> {
        let lines = stages(joined).map(|line| serde_json::to_value(line).expect("a line"));
        lines.collect()
    }

    #[test]
    fn an_end_tells_of_the_stages_that_nobody_told() {
        let joined = ended([true, true]);
        let [request, response, end] = lines(&joined).try_into().expect("three lines");
        let of = |line: &Value, name: &str| line[name].clone();
        let all = |name: &str| [of(&request, name), of(&response, name), of(&end, name)];
        assert_eq!(all("kind"), ["request", "response", "end"]);
        assert_eq!(
            all("time"),
            ["000000", "000500", "000900"].map(|us| format!("1970-01-01T00:00:01.{us}Z"))
        );
        assert_eq!(all("status"), [Value::Null, json!(200), json!(200)]);
        assert_eq!(all("grpc_status"), [Value::Null, Value::Null, json!(14)]);
        assert_eq!(all("grpc_message"), ["", "", "away"]);
        assert_eq!(all("verdict"), ["", "", "application"]);
        assert_eq!(all("failed"), [Value::Null, Value::Null, json!(true)]);
        assert_eq!(all("response_bytes"), [json!(0), json!(0), json!(5)]);
        let response_head = json!([["server", "x"]]);
        assert_eq!(
            [&request, &response, &end].map(|line| line["headers"]["response"].clone()),
            [json!([]), response_head.clone(), response_head]
        );
        assert_eq!(request["headers"]["request"], json!([["te", "trailers"]]));
        assert_eq!(response["trailers"]["response"], json!([]));
        let timing = |line: &Value| ["sent", "first_byte", "end"].map(|name| line["timing_us"][name].as_u64());
        assert_eq!(
            [timing(&request), timing(&response), timing(&end)],
            [
                [None; 3],
                [Some(100), Some(500), None],
                [Some(100), Some(500), Some(900)]
            ]
        );
        // As the proxy saw it that tells of it; both at the end.
        let view = |line: &Value, name: &str| line["views"]["inbound"][name].clone();
        assert_eq!(view(&request, "attempts"), json!(0));
        assert_eq!(
            (view(&request, "upstream"), view(&response, "endpoint")),
            (Value::Null, json!("10.77.0.4:80"))
        );
        assert_eq!(
            [&request, &response, &end].map(|line| line["views"]["outbound"].is_object()),
            [false, false, true]
        );
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let kinds = |untold| {
            lines(&ended(untold))
                .iter()
                .map(|line| line["kind"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds([false, true]), ["response", "end"]);
        assert_eq!(kinds([false, false]), ["end"]);
        assert_eq!(kinds([true, false]), ["request", "end"]);
        assert!(lines(&JoinedRequest::default()).is_empty());
    }
}
