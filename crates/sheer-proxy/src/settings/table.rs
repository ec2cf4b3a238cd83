//! The table of all settings. `docs/settings.md` is made of it, and the reader takes defaults and formats from it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use rustls_pki_types::ServerName;

use sheer_policy::log_filter::LogFilter;

use super::{
    AccessLogFormat, ExportProtocol, Host, LogFormat,
    format::{self, Format},
};

/// One setting.
#[derive(Debug)]
pub(super) struct Variable<T: 'static> {
    /// Name behind the prefix.
    pub(super) name: &'static str,
    pub(super) format: &'static Format<T>,
    pub(super) default: Fallback,
    pub(super) help: &'static str,
}

/// What holds where a setting is absent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fallback {
    /// It must be set.
    Required,
    /// This value.
    Value(&'static str),
    /// Nothing; the words say what that means.
    Absent(&'static str),
}

/// A row for the documentation and for "did you mean".
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) allowed: &'static str,
    pub(super) default: Fallback,
    pub(super) help: &'static str,
}

use Fallback::{Absent, Required, Value};

macro_rules! table {
    ($($section:literal { $($id:ident: $type:ty, $format:ident, $default:expr, $help:literal;)* })*) => {
        $($(pub(super) static $id: Variable<$type> =
            Variable { name: stringify!($id), format: &format::$format, default: $default, help: $help };)*)*

        /// Every setting by section.
        pub(super) fn sections() -> Vec<(&'static str, Vec<Row>)> {
            vec![$(($section, vec![$(Row {
                name: $id.name, allowed: $id.format.allowed, default: $id.default, help: $id.help,
            }),*])),*]
        }
    };
}

table! {
    "Control plane" {
        DESTINATION_SVC_ADDR: (Host, u16), CONTROL, Required, "Where services are looked up.";
        DESTINATION_SVC_NAME: ServerName<'static>, TLS_NAME, Absent("needed unless the address is loopback: the channel is plaintext there"),
            "Whom to expect there.";
        DESTINATION_CONTEXT: String, TEXT, Value(""), "Context token of look-ups; opaque to the proxy.";
        DESTINATION_PROFILE_INITIAL_TIMEOUT: Duration, DURATION, Value("500ms"),
            "How long the first answer about a destination is waited for; after that its traffic is forwarded as it is: no mTLS, no policy, no balancing. Within the cluster's networks the wait is six times as long, unless the control plane is known to be away.";
        POLICY_SVC_ADDR: (Host, u16), CONTROL, Required, "Where policies are looked up.";
        POLICY_SVC_NAME: ServerName<'static>, TLS_NAME, Absent("needed unless the address is loopback"), "Whom to expect there.";
        POLICY_WORKLOAD: String, TEXT, Required, "Names this workload to the control plane; opaque to the proxy.";
        POLICY_CLUSTER_NETWORKS: Vec<IpNet>, NETWORKS, Value("10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"),
            "Where the mesh's workloads and services are: what the default policies `cluster-*` take for the cluster.";
        CONTROL_STREAM_INITIAL_TIMEOUT: Duration, DURATION, Value("3s"), "How long the first message of a stream may take; 0: for ever.";
        CONTROL_STREAM_IDLE_TIMEOUT: Duration, DURATION, Value("5m"), "How long a stream may be silent before it is opened anew; 0: for ever.";
        CONTROL_STREAM_LIFETIME: Duration, DURATION, Value("1h"), "How long a stream lives before it is opened anew; 0: for ever.";
    }
    "Identity" {
        IDENTITY_LOCAL_NAME: String, IDENTITY, Absent("needed unless IDENTITY_SERVER_ID is set"), "This workload's identity.";
        IDENTITY_SERVER_ID: String, IDENTITY, Absent("IDENTITY_LOCAL_NAME"), "This workload's identity; goes before IDENTITY_LOCAL_NAME.";
        IDENTITY_SERVER_NAME: ServerName<'static>, TLS_NAME, Absent("the identity"), "Name that its certificate answers for in TLS.";
        IDENTITY_DIR: PathBuf, PATH, Required, "Folder of `key.p8` and `csr.der`; both are made where they are missing.";
        IDENTITY_TOKEN_FILE: PathBuf, PATH, Required, "File of the workload's token, read again for every certificate.";
        IDENTITY_TRUST_ANCHORS: String, ANCHORS, Required, "Trust anchors of the mesh.";
        IDENTITY_SVC_ADDR: (Host, u16), CONTROL, Required, "Where certificates are issued.";
        IDENTITY_SVC_NAME: ServerName<'static>, TLS_NAME, Absent("needed unless the address is loopback"), "Whom to expect there.";
        IDENTITY_MIN_REFRESH: Duration, DURATION, Value("10s"), "Shortest time between two certificates.";
        IDENTITY_MAX_REFRESH: Duration, DURATION, Value("1d"), "Longest time between two certificates.";
    }
    "Inbound" {
        INBOUND_LISTEN_ADDR: SocketAddr, ADDRESS, Value("0.0.0.0:4143"), "Where redirection sends what arrives at the workload.";
        INBOUND_PORTS: BTreeSet<u16>, PORTS, Value(""), "Ports of the workload whose policy has to be known before the proxy is ready.";
        INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION: BTreeSet<u16>, PORTS, Value("25,587,3306,4444,5432,6379,9300,11211"),
            "Ports that are never inspected, until the control plane says otherwise.";
        INBOUND_DEFAULT_POLICY: String, DEFAULT_POLICY, Value("all-unauthenticated"), "Policy of a port that the control plane has not spoken of.";
        INBOUND_IPS: BTreeSet<IpAddr>, IPS, Value(""), "The workload's own addresses; empty: any.";
        INBOUND_DETECT_TIMEOUT: Duration, DURATION, Value("10s"), "How long the first bytes of a connection may take.";
        INBOUND_CONNECT_TIMEOUT: Duration, DURATION, Value("300ms"), "How long a connection to the application may take.";
        INBOUND_ACCEPT_KEEPALIVE: Duration, DURATION, Value("10s"), "TCP keepalive of accepted connections; 0: none.";
        INBOUND_ACCEPT_USER_TIMEOUT: Duration, DURATION, Value("30s"), "TCP_USER_TIMEOUT of accepted connections; 0: the system's.";
        INBOUND_CONNECT_KEEPALIVE: Duration, DURATION, Value("10s"), "TCP keepalive of connections to the application; 0: none.";
        INBOUND_CONNECT_USER_TIMEOUT: Duration, DURATION, Value("30s"), "TCP_USER_TIMEOUT of connections to the application; 0: the system's.";
        INBOUND_MAX_IN_FLIGHT: usize, POSITIVE, Value("100000"), "Requests without a response yet; more are refused.";
        MAX_IDLE_CONNS_PER_ENDPOINT: usize, COUNT, Value("10000"), "Idle HTTP/1 connections kept to each port of the application.";
        INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT: Duration, DURATION, Value("3s"), "How long such a connection is kept.";
        INBOUND_DISCOVERY_IDLE_TIMEOUT: Duration, DURATION, Value("90s"), "How long a policy that nobody uses stays subscribed.";
        INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL: Duration, DURATION, Value("10s"),
            "Time between two PINGs to a peer's proxy; 0: none is sent.";
        INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT: Duration, DURATION, Value("3s"), "How long the answer to a PING may take.";
        INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS: u32, STREAMS, Absent("no limit"), "Streams of a connection at once.";
        INBOUND_SERVER_HTTP2_MAX_FRAME_SIZE: u32, FRAME_SIZE, Absent("16384"), "Largest frame that is taken. Above 65536 it counts as 65536, and as less where HEADER_LIST_LIMIT is above its default: how many CONTINUATION frames pass depends on it.";
        INBOUND_SERVER_HTTP2_MAX_SEND_BUF_SIZE: usize, POSITIVE, Value("409600"), "Bytes buffered to write for each stream.";
        INBOUND_SERVER_HTTP2_MAX_PENDING_ACCEPT_RESET_STREAMS: usize, COUNT, Value("4096"), "Streams that a client may reset before they are looked at.";
        INBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE: u32, WINDOW, Absent("HTTP2_INITIAL_STREAM_WINDOW_SIZE"), "Window of a stream.";
        INBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE: u32, WINDOW, Absent("HTTP2_INITIAL_CONNECTION_WINDOW_SIZE"), "Window of a connection.";
    }
    "Outbound" {
        OUTBOUND_LISTEN_ADDR: SocketAddr, ADDRESS, Value("127.0.0.1:4140"), "Where redirection sends what the workload sends.";
        OUTBOUND_LISTEN_ADDRS: Vec<SocketAddr>, ADDRESSES, Absent("OUTBOUND_LISTEN_ADDR"), "The same, for both families.";
        OUTBOUND_DETECT_TIMEOUT: Duration, DURATION, Value("10s"), "How long the first bytes of a connection may take.";
        OUTBOUND_CONNECT_TIMEOUT: Duration, DURATION, Value("1s"), "How long a connection to an endpoint may take.";
        OUTBOUND_CONNECT_EXP_BACKOFF_MIN: Duration, DURATION, Value("100ms"), "First wait between attempts to reach an endpoint.";
        OUTBOUND_CONNECT_EXP_BACKOFF_MAX: Duration, DURATION, Value("60s"), "Longest such wait.";
        OUTBOUND_CONNECT_EXP_BACKOFF_JITTER: f64, RATIO, Value("0.1"), "Share of such a wait that is added at random.";
        OUTBOUND_ACCEPT_KEEPALIVE: Duration, DURATION, Value("10s"), "TCP keepalive of accepted connections; 0: none.";
        OUTBOUND_ACCEPT_USER_TIMEOUT: Duration, DURATION, Value("30s"), "TCP_USER_TIMEOUT of accepted connections; 0: the system's.";
        OUTBOUND_CONNECT_KEEPALIVE: Duration, DURATION, Value("10s"), "TCP keepalive of connections to endpoints; 0: none.";
        OUTBOUND_CONNECT_USER_TIMEOUT: Duration, DURATION, Value("30s"), "TCP_USER_TIMEOUT of connections to endpoints; 0: the system's.";
        OUTBOUND_HTTP_QUEUE_CAPACITY: usize, POSITIVE, Value("10000"), "Requests that may wait for a ready endpoint; more where the policy says more.";
        OUTBOUND_HTTP_FAILFAST_TIMEOUT: Duration, DURATION, Value("3s"), "How long they wait.";
        OUTBOUND_TCP_QUEUE_CAPACITY: usize, POSITIVE, Value("10000"), "Connections that may wait for a ready endpoint.";
        OUTBOUND_TCP_FAILFAST_TIMEOUT: Duration, DURATION, Value("3s"), "How long they wait.";
        OUTBOUND_MAX_IN_FLIGHT: usize, POSITIVE, Value("100000"), "Requests without a response yet; more are refused.";
        OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT: usize, COUNT, Value("10000"), "Idle HTTP/1 connections kept to each endpoint.";
        OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT: Duration, DURATION, Value("3s"), "How long such a connection is kept.";
        OUTBOUND_DISCOVERY_IDLE_TIMEOUT: Duration, DURATION, Value("5s"), "How long a destination that nobody uses stays subscribed.";
        OUTBOUND_DISABLE_INFORMATIONAL_HEADERS: bool, BOOL, Value("false"),
            "Whether what this proxy answers itself reaches the application without `l5d-proxy-error`, `sheer-verdict` and `sheer-reason`.";
        OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL: Duration, DURATION, Value("10s"), "Time between two PINGs; 0: none is sent.";
        OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT: Duration, DURATION, Value("3s"), "How long the answer to a PING may take.";
        OUTBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS: u32, STREAMS, Absent("no limit"), "Streams of a connection at once.";
        OUTBOUND_SERVER_HTTP2_MAX_FRAME_SIZE: u32, FRAME_SIZE, Absent("16384"), "Largest frame that is taken. Above 65536 it counts as 65536, and as less where HEADER_LIST_LIMIT is above its default: how many CONTINUATION frames pass depends on it.";
        OUTBOUND_SERVER_HTTP2_MAX_SEND_BUF_SIZE: usize, POSITIVE, Value("409600"), "Bytes buffered to write for each stream.";
        OUTBOUND_SERVER_HTTP2_MAX_PENDING_ACCEPT_RESET_STREAMS: usize, COUNT, Value("4096"), "Streams that a client may reset before they are looked at.";
        OUTBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE: u32, WINDOW, Absent("HTTP2_INITIAL_STREAM_WINDOW_SIZE"), "Window of a stream.";
        OUTBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE: u32, WINDOW, Absent("HTTP2_INITIAL_CONNECTION_WINDOW_SIZE"), "Window of a connection.";
    }
    "HTTP" {
        HEADER_LIST_LIMIT: usize, HEADER_LIMIT, Value("262144"), "Largest list of header fields or trailers on any leg, counted as RFC 9113, 6.5.2 does. Sheer's own.";
        DETECT_WAIT: Duration, DURATION, Value("250ms"),
            "How long a silent client keeps the server side closed; then whoever speaks first decides. Sheer's own.";
        HTTP2_INITIAL_STREAM_WINDOW_SIZE: u32, WINDOW, Value("65535"), "Window of a stream.";
        HTTP2_INITIAL_CONNECTION_WINDOW_SIZE: u32, WINDOW, Value("1048576"), "Window of a connection.";
    }
    "Traces" {
        TRACE_SAMPLE_RATE: f64, RATIO, Value("1"),
            "Share of the traces that begin at this proxy (requests without a trace context) which is recorded. Requests with a context go by that. Sheer's own.";
        TRACE_SAMPLE_LIMIT: usize, COUNT, Value("10"), "How many traces this proxy begins, a second at the most. Sheer's own.";
        TRACE_SLOW: Duration, DURATION, Value("1s"), "A request that takes this long is kept although it was not drawn; 0: none is. Sheer's own.";
        TRACE_KEEP_LIMIT: usize, COUNT, Value("20"), "How many failed and slow requests that were not drawn are kept, a second at the most. Sheer's own.";
        TRACE_CONTROL_PLANE: bool, BOOL, Value("true"), "Whether the control plane gets spans, where it takes any (`sheer trace`). Sheer's own.";
        TRACE_COLLECTOR_SVC_ADDR: (Host, u16), CONTROL, Absent("no collector"), "A collector of OpenTelemetry.";
        TRACE_COLLECTOR_SVC_NAME: ServerName<'static>, TLS_NAME, Absent("plaintext"), "Whom to expect there, in mutual TLS with this proxy's identity.";
        TRACE_PROTOCOL: ExportProtocol, EXPORT_PROTOCOL, Value("grpc"), "How it is spoken to. Linkerd's `opentelemetry` is gRPC.";
        TRACE_SERVICE_NAME: String, TEXT, Absent("`service.name` of OTEL_RESOURCE_ATTRIBUTES, or the first label of the identity"), "`service.name` of the spans.";
        TRACE_ATTRIBUTES_PATH: PathBuf, PATH, Absent("none"), "File with more attributes of the workload, one `key=\"value\"` a line.";
        TRACE_EXTRA_ATTRIBUTES: String, TEXT, Value(""),
            "More attributes of the workload: `key=value`, one a line or with commas between. OTEL_RESOURCE_ATTRIBUTES (without a prefix) and HOSTNAME are read too.";
    }
    "Access log" {
        ACCESS_LOG: Option<AccessLogFormat>, ACCESS_LOG, Value("off"), "A line for each request, both ways, to standard error.";
        ACCESS_LOG_FILTER: LogFilter, ACCESS_LOG_FILTER, Absent("every request"), "Which requests, as `duration > 200ms`. Sheer's own.";
        ACCESS_LOG_OTLP: bool, BOOL, Value("false"), "Whether the collector gets the log too, as OTLP logs. Sheer's own.";
    }
    "Process" {
        ADMIN_LISTEN_ADDR: SocketAddr, ADDRESS, Value("127.0.0.1:4191"), "Where the admin server listens.";
        CONTROL_LISTEN_ADDR: SocketAddr, ADDRESS, Value("0.0.0.0:4190"),
            "Where the control plane asks what the proxy holds (sight), over mutual TLS. Only the names of its services may: DESTINATION_SVC_NAME, POLICY_SVC_NAME, IDENTITY_SVC_NAME.";
        SIGHT_REDACT: Vec<String>, NAMES, Value(""),
            "Header fields whose values sight and logs show as a keyed hash, beside `authorization`, `proxy-authorization`, `cookie`, `set-cookie`, `api-key`, `apikey`, `*-token`, `*-secret`, `*-password` and `*-api-key`. Sheer's own.";
        SIGHT_REDACT_FIELDS: Vec<String>, FIELDS, Value(""),
            "Fields of bodies and parameters of queries whose values are shown so, beside `password`, `*Token`, `apiKey` and the like. Sheer's own.";
        RECORDER: bool, ON, Value("on"), "Whether the last frames of every connection are kept in memory. Sheer's own.";
        RECORDER_MEMORY: usize, COUNT, Value("4194304"), "Bytes that they may take, over all workers; 0: nothing is kept. Sheer's own.";
        RECORDER_KEEP_ANSWERS: bool, BOOL, Value("true"),
            "Whether an answer that says failure (5xx, a gRPC status other than 0) counts as one, so that its recording is kept. Sheer's own.";
        SHUTDOWN_ENDPOINT_ENABLED: bool, BOOL, Value("false"), "Whether `POST /shutdown` ends the proxy.";
        SHUTDOWN_GRACE_PERIOD: Duration, DURATION, Value("2m"), "Longest drain before everything is cut. Connections on which nobody has spoken, and opaque ones on which no byte moves, end after 3 s of it.";
        METRICS_RETAIN_IDLE: Duration, DURATION, Value("10m"), "How long a metric series that nobody uses is kept.";
        TELEMETRY_ENABLED: bool, BOOL, Value("true"),
            "Whether the control plane is told every second what passed (`sheer stat`, `edges`, `top`). The metrics page is there either way. Sheer's own.";
        LOG: String, LOG_FILTER, Value("warn,sheer_proxy=info"), "What is logged. Linkerd's own targets (`linkerd`) are taken for Sheer's.";
        LOG_FORMAT: LogFormat, LOG_FORMAT, Value("plain"), "Shape of a log line.";
        WORKERS: usize, WORKERS, Absent("CORES"), "Threads of the data path. Sheer's own.";
        CORES: usize, WORKERS, Value("1"), "The same, under Linkerd's name.";
        MARK: u32, MARK, Absent("none"), "SO_MARK of the proxy's own sockets, where redirection exempts them by mark. Sheer's own.";
    }
}

/// What a linkerd2-proxy also knows and Sheer does not act on. Accepted, so that a manifest moves over as it is.
pub(super) static NOT_HONOURED: &[(&str, &str)] = &[
    ("TAP_SVC_NAME", "sight has its own authorization"),
    ("CORES_MIN", "WORKERS is exact"),
    ("CORES_MAX", "WORKERS is exact"),
    ("CORES_MAX_RATIO", "WORKERS is exact"),
    ("DESTINATION_PROFILE_NETWORKS", "every destination is looked up"),
    ("DESTINATION_PROFILE_SUFFIXES", "every destination is looked up"),
    ("DNS_MIN_TTL", "control addresses are resolved for each connection"),
    ("DNS_MAX_TTL", "control addresses are resolved for each connection"),
    (
        "INBOUND_CONNECT_EXP_BACKOFF_MIN",
        "the application is tried again by the next who needs it",
    ),
    (
        "INBOUND_CONNECT_EXP_BACKOFF_MAX",
        "the application is tried again by the next who needs it",
    ),
    (
        "INBOUND_CONNECT_EXP_BACKOFF_JITTER",
        "the application is tried again by the next who needs it",
    ),
    ("INBOUND_GATEWAY_SUFFIXES", "no gateway yet"),
    ("INBOUND_HTTP_FAILFAST_TIMEOUT", "the inbound side has no queue"),
    ("INBOUND_HTTP_QUEUE_CAPACITY", "the inbound side has no queue"),
    ("INBOUND_METRICS_AUTHORITY_LABELS", "authorities are not labels"),
    ("INBOUND_PORTS_REQUIRE_IDENTITY", "policy decides"),
    ("INBOUND_PORTS_REQUIRE_TLS", "policy decides"),
    ("INBOUND_SERVER_HTTP2_ADAPTIVE_FLOW_CONTROL", "windows are fixed"),
    (
        "INBOUND_SERVER_HTTP2_MAX_HEADER_LIST_SIZE",
        "HEADER_LIST_LIMIT holds on every leg",
    ),
    ("INBOUND_TCP_LISTEN_BACKLOG", "the system's is used"),
    ("INGRESS_MODE", "no ingress mode yet"),
    ("OUTBOUND_METRICS_HOSTNAME_LABELS", "authorities are not labels"),
    ("OUTBOUND_SERVER_HTTP2_ADAPTIVE_FLOW_CONTROL", "windows are fixed"),
    (
        "OUTBOUND_SERVER_HTTP2_MAX_HEADER_LIST_SIZE",
        "HEADER_LIST_LIMIT holds on every leg",
    ),
    ("OUTBOUND_TCP_LISTEN_BACKLOG", "the system's is used"),
    (
        "TRACE_ANNOTATIONS_PATH",
        "linkerd2-proxy does not read it either: TRACE_ATTRIBUTES_PATH",
    ),
];
