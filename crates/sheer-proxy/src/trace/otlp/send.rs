//! One batch to the collector: over gRPC or HTTP, and what its answer means (OTLP specification, "Failures").

use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use http::{StatusCode, header::RETRY_AFTER, uri::PathAndQuery};
use prost::Message as _;
use sheer_api::opentelemetry::proto::collector::{
    logs::v1::ExportLogsServiceResponse, trace::v1::ExportTraceServiceResponse,
};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{Signal, http::Http1};
use crate::{control::Channel, settings::ExportProtocol};

/// Patience with one attempt, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time that a collector may ask to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends batches.
pub(super) enum Sender {
    Grpc(Channel),
    Http(Http1),
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(super) enum Unsent {
    /// It may be taken later, after this time where the collector says one.
    Later { why: String, after: Option<Duration> },
    /// It will not be.
    Never { why: String },
}

impl Sender {
    pub(super) fn new(protocol: ExportProtocol, channel: Channel) -> Self {
        match protocol {
            ExportProtocol::Grpc => Self::Grpc(channel),
            ExportProtocol::Http => Self::Http(Http1::new(channel)),
        }
    }

    /// Sends a batch. How much of it the collector does not want although it took it.
    pub(super) async fn send(&mut self, signal: Signal, body: Bytes) -> Result<u64, Unsent> {
        let sent = async {
            match self {
                Self::Grpc(channel) => grpc(channel.clone(), signal, body).await,
                Self::Http(client) => over_http(client, signal, body).await,
            }
        };
        match timeout(PATIENCE, sent).await {
            Ok(sent) => sent,
            Err(_) => {
                if let Self::Http(client) = self {
                    client.forget();
                }
                Err(Unsent::Later {
                    why: format!("no answer within {PATIENCE:?}"),
                    after: None,
                })
            }
        }
    }
}

async fn grpc(channel: Channel, signal: Signal, body: Bytes) -> Result<u64, Unsent> {
    let path = PathAndQuery::from_static(match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    });
    let origin = channel.origin();
    let mut client = Grpc::with_origin(channel, origin);
    let never_waits = client.ready().await;
    never_waits.map_err(|error| later(error.to_string()))?;
    let answer = client.unary(Request::new(body), path, Encoded).await;
    answer
        .map(|answer| rejected(signal, &answer.into_inner()))
        .map_err(|status| of_status(&status))
}

fn later(why: String) -> Unsent {
    Unsent::Later { why, after: None }
}

fn of_status(status: &Status) -> Unsent {
    let why = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::ResourceExhausted => Unsent::Later { why, after: None },
        // A connection that broke is no answer.
        Code::Unknown if std::error::Error::source(status).is_some() => Unsent::Later { why, after: None },
        _ => Unsent::Never { why },
    }
}

async fn over_http(client: &mut Http1, signal: Signal, body: Bytes) -> Result<u64, Unsent> {
    let path = match signal {
        Signal::Traces => "/v1/traces",
        Signal::Logs => "/v1/logs",
    };
    let (head, answer) = client.post(path, body).await.map_err(later)?;
    let status = head.status;
    if status.is_success() {
        return Ok(rejected(signal, &answer));
    }
    let why = format!("HTTP status {status}");
    let retryable = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if !retryable.contains(&status) {
        return Err(Unsent::Never { why });
    }
    let after = head
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
    Err(Unsent::Later { why, after })
}

/// What the collector took and does not want. An answer that cannot be read took everything.
fn rejected(signal: Signal, answer: &[u8]) -> u64 {
    let rejected = match signal {
        Signal::Traces => ExportTraceServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| Some(answer.partial_success?.rejected_spans)),
        Signal::Logs => ExportLogsServiceResponse::decode(answer)
            .ok()
            .and_then(|answer| Some(answer.partial_success?.rejected_log_records)),
    };
    rejected.map_or(0, |rejected| rejected.try_into().unwrap_or(0))
}

/// A batch is encoded once, however often it is sent.
#[derive(Clone, Copy, Debug, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf as _;
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
