//! From variables to [`Settings`]: one function a group, in the order of the struct.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use rustls_pki_types::ServerName;

use super::{
    Admin, Backoff, ControlAddr, ControlStreams, DefaultPolicy, Host, Http, Http2Server, Identity, Inbound, Logs,
    Outbound, Recorder, Settings, Sight, TcpOptions,
    source::{OWN, Source},
    table::{self as t, Variable},
    trace,
};
use crate::redact::Redactor;

/// `None` where a required setting is missing or wrong; `source.mistakes` says which, and may also hold others.
pub(super) fn settings(source: &mut Source) -> Option<Settings> {
    let http = http(source);
    let cluster_networks = source.value(&t::POLICY_CLUSTER_NETWORKS);
    let inbound = inbound(source, &http, &cluster_networks);
    let outbound = outbound(source, &http);
    let identity = identity(source);
    let destination = control(source, &t::DESTINATION_SVC_ADDR, &t::DESTINATION_SVC_NAME);
    let policy = control(source, &t::POLICY_SVC_ADDR, &t::POLICY_SVC_NAME);
    let workload = source.required(&t::POLICY_WORKLOAD);
    let control_streams = control_streams(source);
    let cores = source.value(&t::CORES);
    let admin = Admin {
        listen: source.value(&t::ADMIN_LISTEN_ADDR),
        shutdown_endpoint: source.value(&t::SHUTDOWN_ENDPOINT_ENABLED),
    };
    let sight = sight(source);
    let recorder = Recorder {
        memory: if source.value(&t::RECORDER) {
            source.value(&t::RECORDER_MEMORY)
        } else {
            0
        },
        keep_answers: source.value(&t::RECORDER_KEEP_ANSWERS),
    };
    let logs = Logs {
        filter: source.value(&t::LOG),
        format: source.value(&t::LOG_FORMAT),
    };
    let (trace, access_log) = (trace::trace(source), trace::access_log(source));
    let workers = source.optional(&t::WORKERS).unwrap_or(cores);
    let mark = source.optional(&t::MARK);
    let shutdown_grace = source.value(&t::SHUTDOWN_GRACE_PERIOD);
    let metrics_retain_idle = source.value(&t::METRICS_RETAIN_IDLE);
    let telemetry = source.value(&t::TELEMETRY_ENABLED);
    let destination_context = source.value(&t::DESTINATION_CONTEXT);
    Some(Settings {
        inbound,
        outbound,
        http,
        admin,
        sight,
        recorder,
        logs,
        trace,
        access_log,
        identity: identity?,
        destination: destination?,
        policy: policy?,
        workload: workload?,
        cluster_networks,
        destination_context,
        control_streams,
        workers,
        mark,
        shutdown_grace,
        metrics_retain_idle,
        telemetry,
    })
}

/// The names are taken as they were set, also where the channel to a service is plaintext because it is on loopback.
fn sight(source: &mut Source) -> Sight {
    let names = [&t::DESTINATION_SVC_NAME, &t::POLICY_SVC_NAME, &t::IDENTITY_SVC_NAME];
    let mut clients: Vec<Arc<str>> = names
        .into_iter()
        .filter_map(|name| source.optional(name))
        .map(|name| name.to_str().as_ref().into())
        .collect();
    clients.sort_unstable();
    clients.dedup();
    let (redact, redact_fields) = (source.value(&t::SIGHT_REDACT), source.value(&t::SIGHT_REDACT_FIELDS));
    Sight {
        listen: source.value(&t::CONTROL_LISTEN_ADDR),
        clients,
        redactor: Redactor::new(&[], &redact).with_fields(&redact_fields),
        redact,
        redact_fields,
    }
}

fn http(source: &mut Source) -> Http {
    Http {
        header_list_limit: source.value(&t::HEADER_LIST_LIMIT),
        detect_wait: source.value(&t::DETECT_WAIT),
        stream_window: source.value(&t::HTTP2_INITIAL_STREAM_WINDOW_SIZE),
        connection_window: source.value(&t::HTTP2_INITIAL_CONNECTION_WINDOW_SIZE),
    }
}

fn inbound(source: &mut Source, http: &Http, cluster: &[IpNet]) -> Inbound {
    Inbound {
        listen: source.value(&t::INBOUND_LISTEN_ADDR),
        accept: tcp(source, &t::INBOUND_ACCEPT_KEEPALIVE, &t::INBOUND_ACCEPT_USER_TIMEOUT),
        connect: tcp(source, &t::INBOUND_CONNECT_KEEPALIVE, &t::INBOUND_CONNECT_USER_TIMEOUT),
        connect_timeout: source.value(&t::INBOUND_CONNECT_TIMEOUT),
        detect_timeout: source.value(&t::INBOUND_DETECT_TIMEOUT),
        ports: source.value(&t::INBOUND_PORTS),
        opaque_ports: source.value(&t::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION),
        default_policy: default_policy(source, cluster),
        ips: source.value(&t::INBOUND_IPS),
        max_in_flight: source.value(&t::INBOUND_MAX_IN_FLIGHT),
        max_idle_connections: source.value(&t::MAX_IDLE_CONNS_PER_ENDPOINT),
        http1_idle_timeout: source.value(&t::INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT),
        discovery_idle: source.value(&t::INBOUND_DISCOVERY_IDLE_TIMEOUT),
        http2: Http2Server {
            keep_alive_interval: unless_zero(source.value(&t::INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL)),
            keep_alive_timeout: source.value(&t::INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT),
            max_concurrent_streams: source.optional(&t::INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS),
            max_frame_size: source.optional(&t::INBOUND_SERVER_HTTP2_MAX_FRAME_SIZE),
            max_send_buffer: source.value(&t::INBOUND_SERVER_HTTP2_MAX_SEND_BUF_SIZE),
            max_pending_accept_reset_streams: source.value(&t::INBOUND_SERVER_HTTP2_MAX_PENDING_ACCEPT_RESET_STREAMS),
            stream_window: source
                .optional(&t::INBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE)
                .unwrap_or(http.stream_window),
            connection_window: source
                .optional(&t::INBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE)
                .unwrap_or(http.connection_window),
        },
    }
}

fn outbound(source: &mut Source, http: &Http) -> Outbound {
    let listen = source.value(&t::OUTBOUND_LISTEN_ADDR);
    Outbound {
        listen: source
            .optional(&t::OUTBOUND_LISTEN_ADDRS)
            .unwrap_or_else(|| vec![listen]),
        accept: tcp(source, &t::OUTBOUND_ACCEPT_KEEPALIVE, &t::OUTBOUND_ACCEPT_USER_TIMEOUT),
        connect: tcp(
            source,
            &t::OUTBOUND_CONNECT_KEEPALIVE,
            &t::OUTBOUND_CONNECT_USER_TIMEOUT,
        ),
        connect_timeout: source.value(&t::OUTBOUND_CONNECT_TIMEOUT),
        detect_timeout: source.value(&t::OUTBOUND_DETECT_TIMEOUT),
        http_failfast: source.value(&t::OUTBOUND_HTTP_FAILFAST_TIMEOUT),
        http_queue: source.value(&t::OUTBOUND_HTTP_QUEUE_CAPACITY),
        tcp_failfast: source.value(&t::OUTBOUND_TCP_FAILFAST_TIMEOUT),
        tcp_queue: source.value(&t::OUTBOUND_TCP_QUEUE_CAPACITY),
        max_in_flight: source.value(&t::OUTBOUND_MAX_IN_FLIGHT),
        max_idle_connections: source.value(&t::OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT),
        http1_idle_timeout: source.value(&t::OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT),
        discovery_idle: source.value(&t::OUTBOUND_DISCOVERY_IDLE_TIMEOUT),
        first_answer: source.value(&t::DESTINATION_PROFILE_INITIAL_TIMEOUT),
        http2: Http2Server {
            keep_alive_interval: unless_zero(source.value(&t::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL)),
            keep_alive_timeout: source.value(&t::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT),
            max_concurrent_streams: source.optional(&t::OUTBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS),
            max_frame_size: source.optional(&t::OUTBOUND_SERVER_HTTP2_MAX_FRAME_SIZE),
            max_send_buffer: source.value(&t::OUTBOUND_SERVER_HTTP2_MAX_SEND_BUF_SIZE),
            max_pending_accept_reset_streams: source.value(&t::OUTBOUND_SERVER_HTTP2_MAX_PENDING_ACCEPT_RESET_STREAMS),
            stream_window: source
                .optional(&t::OUTBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE)
                .unwrap_or(http.stream_window),
            connection_window: source
                .optional(&t::OUTBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE)
                .unwrap_or(http.connection_window),
        },
        backoff: backoff(
            source,
            &t::OUTBOUND_CONNECT_EXP_BACKOFF_MIN,
            &t::OUTBOUND_CONNECT_EXP_BACKOFF_MAX,
            &t::OUTBOUND_CONNECT_EXP_BACKOFF_JITTER,
        ),
        informational_headers: !source.value(&t::OUTBOUND_DISABLE_INFORMATIONAL_HEADERS),
    }
}

fn identity(source: &mut Source) -> Option<Identity> {
    let name = source.optional(&t::IDENTITY_SERVER_ID);
    let name = name.or_else(|| source.optional(&t::IDENTITY_LOCAL_NAME));
    if name.is_none() && !source.is_set(&t::IDENTITY_SERVER_ID) && !source.is_set(&t::IDENTITY_LOCAL_NAME) {
        source.mistake(
            format!("{OWN}{}", t::IDENTITY_LOCAL_NAME.name),
            None,
            "is not set",
            t::IDENTITY_LOCAL_NAME.format.allowed,
        );
    }
    let server_name = source.optional(&t::IDENTITY_SERVER_NAME);
    let server_name = server_name.or_else(|| ServerName::try_from(name.clone()?).ok());
    if name.is_some() && server_name.is_none() && !source.is_set(&t::IDENTITY_SERVER_NAME) {
        source.mistake(
            format!("{OWN}{}", t::IDENTITY_SERVER_NAME.name),
            None,
            "is not set, and the identity is a URI",
            t::IDENTITY_SERVER_NAME.format.allowed,
        );
    }
    let dir = source.required(&t::IDENTITY_DIR);
    let token_file = source.required(&t::IDENTITY_TOKEN_FILE);
    let trust_anchors = source.required(&t::IDENTITY_TRUST_ANCHORS);
    let service = control(source, &t::IDENTITY_SVC_ADDR, &t::IDENTITY_SVC_NAME);
    let (min_refresh, max_refresh) = rising(
        source,
        (&t::IDENTITY_MIN_REFRESH, false),
        (&t::IDENTITY_MAX_REFRESH, false),
    );
    Some(Identity {
        name: Arc::from(name?),
        server_name: server_name?,
        dir: dir?,
        token_file: token_file?,
        trust_anchors: trust_anchors?,
        service: service?,
        min_refresh,
        max_refresh,
    })
}

fn control(
    source: &mut Source,
    addr: &Variable<(Host, u16)>,
    name: &Variable<ServerName<'static>>,
) -> Option<ControlAddr> {
    let addr = source.required(addr);
    let expected = source.optional(name);
    let (host, port) = addr?;
    let loopback = host.is_loopback();
    if expected.is_none() && !loopback && !source.is_set(name) {
        let variable = format!("{OWN}{}", name.name);
        source.mistake(
            variable,
            None,
            "is not set, and the address is not loopback",
            name.format.allowed,
        );
    }
    // Linkerd ignores the name of a loopback address.
    Some(ControlAddr {
        host,
        port,
        name: expected.filter(|_| !loopback),
    })
}

fn control_streams(source: &mut Source) -> ControlStreams {
    let (initial, idle) = rising(
        source,
        (&t::CONTROL_STREAM_INITIAL_TIMEOUT, true),
        (&t::CONTROL_STREAM_IDLE_TIMEOUT, true),
    );
    let (_, lifetime) = rising(
        source,
        (&t::CONTROL_STREAM_IDLE_TIMEOUT, true),
        (&t::CONTROL_STREAM_LIFETIME, true),
    );
    ControlStreams {
        initial_timeout: unless_zero(initial),
        idle_timeout: unless_zero(idle),
        lifetime: unless_zero(lifetime),
    }
}

fn default_policy(source: &mut Source, cluster: &[IpNet]) -> DefaultPolicy {
    let name = source.value(&t::INBOUND_DEFAULT_POLICY);
    let everywhere = || vec![super::EVERY_V4, super::EVERY_V6];
    let (name, networks, authenticated) = match name.as_str() {
        "audit" => ("audit", everywhere(), false),
        "all-authenticated" => ("all-authenticated", everywhere(), true),
        "all-unauthenticated" => ("all-unauthenticated", everywhere(), false),
        "cluster-authenticated" => ("cluster-authenticated", cluster.to_vec(), true),
        "cluster-unauthenticated" => ("cluster-unauthenticated", cluster.to_vec(), false),
        _ => return DefaultPolicy::Deny,
    };
    if networks.is_empty() {
        let variable = format!("{OWN}{}", t::POLICY_CLUSTER_NETWORKS.name);
        source.mistake(
            variable,
            Some(""),
            "is empty, so the default policy would let nobody in",
            "networks",
        );
    }
    DefaultPolicy::Allow {
        name,
        networks,
        authenticated,
    }
}

fn tcp(source: &mut Source, keepalive: &Variable<Duration>, user_timeout: &Variable<Duration>) -> TcpOptions {
    TcpOptions {
        keepalive: unless_zero(source.value(keepalive)),
        user_timeout: unless_zero(source.value(user_timeout)),
    }
}

fn backoff(source: &mut Source, min: &Variable<Duration>, max: &Variable<Duration>, jitter: &Variable<f64>) -> Backoff {
    let (min, max) = rising(source, (min, false), (max, false));
    Backoff {
        min,
        max,
        jitter: source.value(jitter),
    }
}

/// Reads two durations of which the first may not be the longer. The flag says that 0 stands for ever.
fn rising(
    source: &mut Source,
    (short, short_for_ever): (&Variable<Duration>, bool),
    (long, long_for_ever): (&Variable<Duration>, bool),
) -> (Duration, Duration) {
    let pair = (source.value(short), source.value(long));
    let for_ever = |flag: bool, value: Duration| flag && value.is_zero();
    if pair.0 > pair.1 && !for_ever(short_for_ever, pair.0) && !for_ever(long_for_ever, pair.1) {
        let problem = format!("is longer than {OWN}{} ({:?})", long.name, pair.1);
        source.mistake(
            format!("{OWN}{}", short.name),
            Some(&format!("{:?}", pair.0)),
            &problem,
            "at most that",
        );
    }
    pair
}

fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
