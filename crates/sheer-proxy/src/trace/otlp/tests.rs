//! Export to the OpenTelemetry Collector's own receiver, well, full, slow and away; and what Python's OpenTelemetry reads in the bytes.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::Value as Json;
use sheer_api::v1::{SpanEvent, SpanKept, SpanKind, attribute::Value};

use super::*;
use crate::{
    control::ChannelOptions,
    identity,
    metrics::Registry,
    settings::{ControlAddr, Host},
    trace::collector::Outbox,
};

/// No test needs a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
const QUICK: Times = Times {
    collect: Duration::from_millis(20),
    tried: Duration::from_millis(400),
    again: Backoff {
        min: Duration::from_millis(20),
        max: Duration::from_millis(100),
        jitter: 0.0,
    },
};

/// Where `tools/setup.sh test` puts what tests need.
fn tool(name: &str) -> PathBuf {
    let cache = std::env::var_os("SHEER_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        home.map(|home| home.join("sheer"))
    });
    let path = cache.expect("SHEER_CACHE or HOME").join(name);
    assert!(
        path.exists(),
        "{} is not there: run tools/setup.sh test",
        path.display()
    );
    path
}

/// The collector's receiver, until dropped.
struct Receiver {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    folder: tempfile::TempDir,
}

impl Receiver {
    fn start(arguments: &[&str]) -> Self {
        let [grpc, http] = [free(), free()];
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new(tool("tools/bin/otel-receiver"))
            .args(["-grpc", &grpc.to_string(), "-http", &http.to_string(), "-out"])
            .arg(folder.path().join("out"))
            .args(arguments)
            .stderr(Stdio::null())
            .spawn();
        Self {
            process: process.expect("it starts"),
            grpc,
            http,
            folder,
        }
    }

    /// What came, one request a line.
    fn lines(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port on which nothing listens.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

struct Exporting {
    outbox: Outbox<Export>,
    registry: Registry,
}

impl Exporting {
    fn start(protocol: ExportProtocol, addr: SocketAddr, capacity: usize, times: Times) -> Self {
        let registry = Registry::new(Duration::from_secs(600));
        let shard = registry.control().clone();
        let options = ChannelOptions {
            service: "trace-collector",
            whose: "the collector",
            connected: &family::SHEER_TRACE_COLLECTOR_CONNECTED,
            addr: ControlAddr {
                host: Host::Ip(addr.ip()),
                port: addr.port(),
                name: None,
            },
            mark: None,
            roots: Arc::new(rustls::RootCertStore::empty()),
            identity: identity::channel().1,
            wait_for_identity: false,
        };
        let channel = Channel::new(options, &shard);
        let (outbox, waiting) = Outbox::new(&shard, "otlp", capacity);
        tokio::spawn(run((protocol, times), channel, resource(), waiting, shard));
        Self { outbox, registry }
    }

    async fn flush(&self) {
        let flushed = self.outbox.flush(Export::Flush);
        tokio::time::timeout(PATIENCE, flushed).await.expect("in time");
    }

    fn counted(&self, family: &str, label: &str) -> u64 {
        let page = self.registry.render(crate::metrics::Format::Prometheus);
        let lines = page
            .lines()
            .filter(|line| line.starts_with(family) && line.contains(label));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Value::Text(value.to_owned())),
    }
}

fn resource() -> Vec<Attribute> {
    vec![text("service.name", "ledger"), text("k8s.pod.name", "ledger-0")]
}

fn span(id: u8) -> Span {
    let typed = [Value::Number(503), Value::Decimal(0.5), Value::Flag(true)];
    let typed = typed
        .into_iter()
        .zip(["http.response.status_code", "share", "sheer.mtls"]);
    let mut attributes = vec![text("url.path", "/bank.v1.Ledger/Post")];
    attributes.extend(typed.map(|(value, key)| Attribute {
        key: key.to_owned(),
        value: Some(value),
    }));
    Span {
        trace_id: vec![0xab; 16],
        span_id: vec![id; 8],
        parent_span_id: vec![9; 8],
        kind: SpanKind::Server.into(),
        name: "bank.v1.Ledger/Post".to_owned(),
        start_unix_ns: 1_795_703_467_000_000_000,
        end_unix_ns: 1_795_703_467_020_000_000,
        failed: true,
        status_message: "no endpoint is ready".to_owned(),
        attributes,
        events: vec![SpanEvent {
            name: "sent".to_owned(),
            unix_ns: 1_795_703_467_001_000_000,
            attributes: Vec::new(),
        }],
        kept: SpanKept::Parent.into(),
        trace_state: "a=1".to_owned(),
        ..Span::default()
    }
}

fn line() -> Line {
    Line {
        unix_ns: 1_795_703_467_000_000_000,
        text: "{\"status\":503}".to_owned(),
        attributes: vec![text("direction", "inbound")],
        failed: true,
        trace_id: Some([0xab; 16]),
        span_id: Some([1; 8]),
    }
}

/// An attribute in OTLP JSON.
fn attribute<'a>(of: &'a Json, key: &str) -> &'a Json {
    let all = of["attributes"].as_array().expect("attributes");
    let found = all.iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("{key} in {of}"))["value"]
}

async fn what_is_sent_arrives(protocol: ExportProtocol) {
    let receiver = Receiver::start(&[]);
    let addr = match protocol {
        ExportProtocol::Grpc => receiver.grpc,
        ExportProtocol::Http => receiver.http,
    };
    // It may take a while to listen: batches are tried again until then.
    let patient = Times {
        tried: PATIENCE,
        ..QUICK
    };
    let exporting = Exporting::start(protocol, addr, 16, patient);
    for id in 1..4 {
        exporting.outbox.put(Export::Span(Box::new(span(id))));
    }
    exporting.outbox.put(Export::Log(Box::new(line())));
    exporting.flush().await;
    let lines = receiver.lines();
    let (mut spans, mut logs) = (Vec::new(), Vec::new());
    for line in &lines {
        for of_resource in line["resourceSpans"].as_array().into_iter().flatten() {
            assert_eq!(
                attribute(&of_resource["resource"], "service.name")["stringValue"],
                "ledger"
            );
            assert_eq!(of_resource["scopeSpans"][0]["scope"]["name"], "sheer-proxy");
            spans.extend(of_resource["scopeSpans"][0]["spans"].as_array().expect("spans"));
        }
        for of_resource in line["resourceLogs"].as_array().into_iter().flatten() {
            logs.extend(of_resource["scopeLogs"][0]["logRecords"].as_array().expect("logs"));
        }
    }
    assert_eq!((spans.len(), logs.len()), (3, 1), "{lines:?}");
    let [first, ..] = &spans[..] else { panic!() };
    assert_eq!(first["traceId"], "ab".repeat(16));
    assert_eq!(
        (&first["spanId"], &first["parentSpanId"]),
        (&"01".repeat(8).into(), &"09".repeat(8).into())
    );
    assert_eq!((&first["kind"], &first["traceState"]), (&2.into(), &"a=1".into()));
    assert_eq!(
        (&first["status"]["code"], &first["status"]["message"]),
        (&2.into(), &"no endpoint is ready".into())
    );
    assert_eq!(attribute(first, "http.response.status_code")["intValue"], "503");
    assert_eq!(attribute(first, "share")["doubleValue"], 0.5);
    assert_eq!(attribute(first, "sheer.mtls")["boolValue"], true);
    assert_eq!(first["events"][0]["name"], "sent");
    assert_eq!(logs[0]["traceId"], "ab".repeat(16));
    assert_eq!(
        (&logs[0]["severityText"], &logs[0]["body"]["stringValue"]),
        (&"ERROR".into(), &"{\"status\":503}".into())
    );
    assert_eq!(exporting.counted("sheer_trace_exported_total", "signal=\"traces\""), 3);
    assert_eq!(exporting.counted("sheer_trace_exported_total", "signal=\"logs\""), 1);
    assert_eq!(exporting.counted("sheer_trace_spans_dropped_total", ""), 0);
}

#[tokio::test]
async fn the_collector_takes_spans_and_logs_over_grpc() {
    what_is_sent_arrives(ExportProtocol::Grpc).await;
}

#[tokio::test]
async fn the_collector_takes_spans_and_logs_over_http() {
    what_is_sent_arrives(ExportProtocol::Http).await;
}

#[tokio::test]
async fn a_full_collector_is_asked_again_and_then_left_alone() {
    let receiver = Receiver::start(&["-refuse"]);
    // However long a busy machine takes for the first time, there is a second.
    let patient = Times {
        tried: Duration::from_secs(2),
        ..QUICK
    };
    for (protocol, addr) in [
        (ExportProtocol::Grpc, receiver.grpc),
        (ExportProtocol::Http, receiver.http),
    ] {
        let exporting = Exporting::start(protocol, addr, 16, patient);
        exporting.outbox.put(Export::Span(Box::new(span(1))));
        exporting.flush().await;
        assert!(exporting.counted("sheer_trace_exports_total", "result=\"retried\"") > 0);
        assert_eq!(exporting.counted("sheer_trace_exports_total", "result=\"failed\""), 1);
        assert_eq!(
            exporting.counted("sheer_trace_spans_dropped_total", "otlp-unreachable"),
            1
        );
    }
    assert!(receiver.lines().is_empty());
}

#[tokio::test]
async fn nobody_waits_for_a_collector_that_is_away_or_slow() {
    let slow = Receiver::start(&["-delay", "30s"]);
    let away = free();
    let cases = [
        (ExportProtocol::Grpc, away),
        (ExportProtocol::Http, away),
        (ExportProtocol::Grpc, slow.grpc),
        (ExportProtocol::Http, slow.http),
    ];
    for (protocol, addr) in cases {
        let patient = Times {
            tried: PATIENCE,
            ..QUICK
        };
        let exporting = Exporting::start(protocol, addr, 8, patient);
        // The first is on its way, or is being tried.
        exporting.outbox.put(Export::Span(Box::new(span(200))));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        for id in 0..100 {
            exporting.outbox.put(Export::Span(Box::new(span(id))));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let dropped = exporting.counted("sheer_trace_spans_dropped_total", "otlp-queue-full");
        assert_eq!(dropped, 92, "{protocol:?} {addr}");
        assert_eq!(exporting.counted("sheer_trace_exported_total", ""), 0);
    }
}

/// The same bytes, read by OpenTelemetry's own messages for Python.
#[test]
fn pythons_opentelemetry_reads_the_same() {
    const SCRIPT: &str = "
import json, sys
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Traces
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest as Logs
kind = {'traces': Traces, 'logs': Logs}[sys.argv[1]]
request = kind.FromString(sys.stdin.buffer.read())
def known(message):
    assert len(UnknownFieldSet(message)) == 0, message
    for _, value in message.ListFields():
        for one in [value] if isinstance(value, Message) else value if hasattr(value, 'MergeFrom') else []:
            if isinstance(one, Message): known(one)
known(request)
json.dump(MessageToDict(request), sys.stdout)
";
    let read = |kind: &str, bytes: &[u8]| -> Json {
        let mut python = Command::new(tool("interop-python/bin/python"))
            .args(["-c", SCRIPT, kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python");
        python.stdin.take().expect("piped").write_all(bytes).expect("written");
        let output = python.wait_with_output().expect("it ends");
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let converter = Converter::new(&resource());
    let traces = read("traces", &converter.traces(vec![span(1)]));
    let of_resource = &traces["resourceSpans"][0];
    assert_eq!(
        attribute(&of_resource["resource"], "k8s.pod.name")["stringValue"],
        "ledger-0"
    );
    let span = &of_resource["scopeSpans"][0]["spans"][0];
    assert_eq!(span["kind"], "SPAN_KIND_SERVER");
    assert_eq!(span["name"], "bank.v1.Ledger/Post");
    assert_eq!(span["status"]["code"], "STATUS_CODE_ERROR");
    assert_eq!(
        (&span["startTimeUnixNano"], &span["flags"]),
        (&"1795703467000000000".into(), &1.into())
    );
    assert_eq!(
        span["traceId"], "q6urq6urq6urq6urq6urqw==",
        "bytes, which JSON has in base64"
    );
    assert_eq!(attribute(span, "http.response.status_code")["intValue"], "503");
    let logs = read("logs", &converter.logs(vec![line()]));
    let log = &logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(log["severityNumber"], "SEVERITY_NUMBER_ERROR");
    assert_eq!(
        (&log["eventName"], &log["spanId"]),
        (&"sheer.access".into(), &"AQEBAQEBAQE=".into())
    );
    assert_eq!(attribute(log, "direction")["stringValue"], "inbound");
}
