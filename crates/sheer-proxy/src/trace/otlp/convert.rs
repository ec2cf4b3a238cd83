//! From our spans and lines to OTLP. Pure.

use bytes::Bytes;
use prost::Message as _;
use sheer_api::{
    opentelemetry::proto::{
        collector::{
            logs::v1::{ExportLogsServiceRequest, LogRecord, ResourceLogs, ScopeLogs},
            trace::v1::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span, Status, span, status::StatusCode},
        },
        common::v1::{AnyValue, InstrumentationScope, KeyValue, Resource, any_value},
    },
    v1::{self, Attribute, attribute::Value},
};

use crate::access_log::Line;

/// The version of the semantic conventions that names of attributes are from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.27.0";

/// Makes requests.
pub(super) struct Converter {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Converter {
    pub(super) fn new(resource: &[Attribute]) -> Self {
        Self {
            resource: Resource {
                attributes: attributes(resource.to_vec()),
            },
            scope: InstrumentationScope {
                name: "sheer-proxy".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
        }
    }

    pub(super) fn traces(&self, spans: Vec<v1::Span>) -> Bytes {
        let spans = ScopeSpans {
            scope: Some(self.scope.clone()),
            spans: spans.into_iter().map(span).collect(),
        };
        let of_resource = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![spans],
            schema_url: SCHEMA.to_owned(),
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![of_resource],
        };
        request.encode_to_vec().into()
    }

    pub(super) fn logs(&self, lines: Vec<Line>) -> Bytes {
        let logs = ScopeLogs {
            scope: Some(self.scope.clone()),
            log_records: lines.into_iter().map(log).collect(),
        };
        let of_resource = ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs: vec![logs],
            schema_url: SCHEMA.to_owned(),
        };
        let request = ExportLogsServiceRequest {
            resource_logs: vec![of_resource],
        };
        request.encode_to_vec().into()
    }
}

fn span(ours: v1::Span) -> Span {
    let status = ours.failed.then(|| Status {
        message: ours.status_message,
        code: StatusCode::Error.into(),
    });
    let events = ours.events.into_iter().map(|event| span::Event {
        time_unix_nano: event.unix_ns,
        name: event.name,
        attributes: attributes(event.attributes),
    });
    Span {
        trace_id: ours.trace_id,
        span_id: ours.span_id,
        trace_state: ours.trace_state,
        parent_span_id: ours.parent_span_id,
        name: ours.name,
        kind: ours.kind,
        start_time_unix_nano: ours.start_unix_ns,
        end_time_unix_nano: ours.end_unix_ns,
        attributes: attributes(ours.attributes),
        events: events.collect(),
        status,
        // The lower byte is W3C's: sampled.
        flags: 1,
    }
}

fn log(line: Line) -> LogRecord {
    let (number, text) = if line.failed { (17, "ERROR") } else { (9, "INFO") };
    LogRecord {
        time_unix_nano: line.unix_ns,
        severity_number: number,
        severity_text: text.to_owned(),
        body: Some(AnyValue {
            value: Some(any_value::Value::StringValue(line.text)),
        }),
        attributes: attributes(line.attributes),
        flags: u32::from(line.span_id.is_some()),
        trace_id: line.trace_id.map_or_else(Vec::new, |id| id.to_vec()),
        span_id: line.span_id.map_or_else(Vec::new, |id| id.to_vec()),
        observed_time_unix_nano: line.unix_ns,
        event_name: "sheer.access".to_owned(),
    }
}

fn attributes(ours: Vec<Attribute>) -> Vec<KeyValue> {
    let convert = |attribute: Attribute| {
        let value = match attribute.value? {
            Value::Text(text) => any_value::Value::StringValue(text),
            Value::Number(number) => any_value::Value::IntValue(number),
            Value::Decimal(number) => any_value::Value::DoubleValue(number),
            Value::Flag(flag) => any_value::Value::BoolValue(flag),
        };
        Some(KeyValue {
            key: attribute.key,
            value: Some(AnyValue { value: Some(value) }),
        })
    };
    ours.into_iter().filter_map(convert).collect()
}
