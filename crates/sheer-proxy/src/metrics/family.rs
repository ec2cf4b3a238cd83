//! The table of all metric families. A family that is not here cannot be recorded, so names cannot be misspelt.

/// A metric family.
#[derive(Debug)]
pub struct Family {
    /// Full name, with the suffix `_total` where it is a counter.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its kind.
    pub kind: Kind,
}

/// Kind of a family.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram(&'static Bounds),
}

/// Upper bounds of a histogram.
#[derive(Debug)]
pub struct Bounds {
    /// Rising, in microseconds (or in the unit itself, where that is no time); the bucket without bound is implied.
    pub micros: &'static [u64],
    /// Microseconds in the unit that is shown; 1 where it is no time.
    pub unit_micros: u64,
}

/// Linkerd's latency buckets, shown in milliseconds.
pub static LATENCY_MS: Bounds = Bounds {
    micros: &[
        1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 100_000, 200_000, 300_000, 400_000,
        500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 40_000_000,
        50_000_000,
    ],
    unit_micros: 1_000,
};

/// Linkerd's buckets of the durations of requests by route: few, as there are many routes.
pub static ROUTE_SECONDS: Bounds = Bounds {
    micros: &[50_000, 500_000, 1_000_000, 10_000_000],
    unit_micros: 1_000_000,
};

/// Linkerd's buckets of the durations of responses by backend.
pub static BACKEND_SECONDS: Bounds = Bounds {
    micros: &[25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 10_000_000],
    unit_micros: 1_000_000,
};

/// Waits: for a first byte, for a ready endpoint.
pub static WAIT_SECONDS: Bounds = Bounds {
    micros: &[100, 1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000],
    unit_micros: 1_000_000,
};

/// Sizes of header lists, in bytes.
pub static HEADER_BYTES: Bounds = Bounds {
    micros: &[
        256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144,
    ],
    unit_micros: 1,
};

macro_rules! families {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $kind:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            $(#[$doc])*
            pub static $id: Family = Family { name: $name, help: $help, kind: $kind };
        )*
        /// Every family, in the order in which a scrape shows them.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    REQUEST_TOTAL = "request_total", Kind::Counter, "Requests that the proxy forwarded or answered.";
    RESPONSE_TOTAL = "response_total", Kind::Counter, "Responses that ended, by status and classification.";
    RESPONSE_LATENCY_MS = "response_latency_ms", Kind::Histogram(&LATENCY_MS),
        "Time from a request's head to its response's head, or to its end without one.";
    ROUTE_REQUEST_TOTAL = "route_request_total", Kind::Counter, "Requests by route, each once.";
    ROUTE_RESPONSE_TOTAL = "route_response_total", Kind::Counter, "Ends of requests by route, as their callers saw them.";
    ROUTE_RESPONSE_LATENCY_MS = "route_response_latency_ms", Kind::Histogram(&LATENCY_MS),
        "Time from a request's head to its response's head by route, retries included.";
    ROUTE_ACTUAL_REQUEST_TOTAL = "route_actual_request_total", Kind::Counter, "Attempts by route, retries among them.";
    ROUTE_ACTUAL_RESPONSE_TOTAL = "route_actual_response_total", Kind::Counter, "Ends of attempts by route.";
    ROUTE_ACTUAL_RESPONSE_LATENCY_MS = "route_actual_response_latency_ms", Kind::Histogram(&LATENCY_MS),
        "Time from an attempt's head to its response's head by route.";
    ROUTE_RETRYABLE_TOTAL = "route_retryable_total", Kind::Counter,
        "Requests that their route would have had sent again, by why they were not (`skipped`).";
    TCP_OPEN_TOTAL = "tcp_open_total", Kind::Counter, "Connections that were opened.";
    TCP_OPEN_CONNECTIONS = "tcp_open_connections", Kind::Gauge, "Connections that are open.";
    TCP_READ_BYTES_TOTAL = "tcp_read_bytes_total", Kind::Counter, "Bytes read from the peer.";
    TCP_WRITE_BYTES_TOTAL = "tcp_write_bytes_total", Kind::Counter, "Bytes written to the peer.";
    TCP_CLOSE_TOTAL = "tcp_close_total", Kind::Counter, "Connections that were closed, by error.";
    INBOUND_HTTP_AUTHZ_ALLOW_TOTAL = "inbound_http_authz_allow_total", Kind::Counter, "Requests that policy allowed.";
    INBOUND_HTTP_AUTHZ_DENY_TOTAL = "inbound_http_authz_deny_total", Kind::Counter, "Requests that policy denied.";
    INBOUND_HTTP_ROUTE_NOT_FOUND_TOTAL = "inbound_http_route_not_found_total", Kind::Counter,
        "Requests that no route of the port takes.";
    INBOUND_HTTP_LOCAL_RATELIMIT_TOTAL = "inbound_http_local_ratelimit_total", Kind::Counter,
        "Requests past a rate limit, by policy and scope.";
    INBOUND_TCP_AUTHZ_ALLOW_TOTAL = "inbound_tcp_authz_allow_total", Kind::Counter, "Connections that policy allowed.";
    INBOUND_TCP_AUTHZ_DENY_TOTAL = "inbound_tcp_authz_deny_total", Kind::Counter, "Connections that policy denied.";
    INBOUND_TCP_AUTHZ_TERMINATE_TOTAL = "inbound_tcp_authz_terminate_total", Kind::Counter,
        "Open connections that a change of policy ended.";
    INBOUND_HTTP_ERRORS_TOTAL = "inbound_http_errors_total", Kind::Counter, "Inbound requests that the proxy itself failed.";
    INBOUND_TCP_ERRORS_TOTAL = "inbound_tcp_errors_total", Kind::Counter, "Inbound connections that the proxy itself failed.";
    OUTBOUND_HTTP_ERRORS_TOTAL = "outbound_http_errors_total", Kind::Counter, "Outbound requests that the proxy itself failed.";
    OUTBOUND_TCP_ERRORS_TOTAL = "outbound_tcp_errors_total", Kind::Counter,
        "Outbound connections that the proxy itself failed.";
    INBOUND_TCP_DETECT_HTTP_RESULTS_TOTAL = "inbound_tcp_detect_http_results_total", Kind::Counter,
        "Results of protocol detection on inbound connections.";
    OUTBOUND_TCP_DETECT_HTTP_RESULTS_TOTAL = "outbound_tcp_detect_http_results_total", Kind::Counter,
        "Results of protocol detection on outbound connections.";
    INBOUND_TCP_DETECT_HTTP_DURATION_SECONDS = "inbound_tcp_detect_http_duration_seconds", Kind::Histogram(&WAIT_SECONDS),
        "Time that protocol detection took on inbound connections.";
    OUTBOUND_TCP_DETECT_HTTP_DURATION_SECONDS = "outbound_tcp_detect_http_duration_seconds", Kind::Histogram(&WAIT_SECONDS),
        "Time that protocol detection took on outbound connections.";
    OUTBOUND_TCP_PROTOCOL_CONNECTIONS_TOTAL = "outbound_tcp_protocol_connections_total", Kind::Counter,
        "Outbound connections by what they speak.";
    INBOUND_HTTP_REQUESTS_TOTAL = "inbound_http_requests_total", Kind::Counter, "Inbound requests by route, but for gRPC.";
    INBOUND_GRPC_REQUESTS_TOTAL = "inbound_grpc_requests_total", Kind::Counter, "Inbound calls by route.";
    INBOUND_HTTP_REQUEST_DURATION_SECONDS = "inbound_http_request_duration_seconds", Kind::Histogram(&ROUTE_SECONDS),
        "Time from the start of an inbound request to its end, by route, but for gRPC.";
    INBOUND_GRPC_REQUEST_DURATION_SECONDS = "inbound_grpc_request_duration_seconds", Kind::Histogram(&ROUTE_SECONDS),
        "Time from the start of an inbound call to its end, by route.";
    INBOUND_HTTP_STATUSES_TOTAL = "inbound_http_statuses_total", Kind::Counter,
        "Ends of inbound requests by route, status and error, but for gRPC.";
    INBOUND_GRPC_STATUSES_TOTAL = "inbound_grpc_statuses_total", Kind::Counter, "Ends of inbound calls by route, status and error.";
    INBOUND_TCP_TRANSPORT_HEADER_CONNECTIONS_TOTAL = "inbound_tcp_transport_header_connections_total", Kind::Counter,
        "Connections that began with a transport header.";
    OUTBOUND_HTTP_BALANCER_ENDPOINTS = "outbound_http_balancer_endpoints", Kind::Gauge,
        "Endpoints of an HTTP balancer, by state.";
    OUTBOUND_TCP_BALANCER_ENDPOINTS = "outbound_tcp_balancer_endpoints", Kind::Gauge, "Endpoints of a TCP balancer, by state.";
    OUTBOUND_HTTP_BALANCER_P2C_ENDPOINTS = "outbound_http_balancer_p2c_endpoints", Kind::Gauge,
        "Endpoints that an HTTP balancer draws from, by state.";
    OUTBOUND_TCP_BALANCER_P2C_ENDPOINTS = "outbound_tcp_balancer_p2c_endpoints", Kind::Gauge,
        "Endpoints that a TCP balancer draws from, by state.";
    OUTBOUND_HTTP_BALANCER_P2C_UPDATES_TOTAL = "outbound_http_balancer_p2c_updates_total", Kind::Counter,
        "Changes of an HTTP balancer's endpoints.";
    OUTBOUND_TCP_BALANCER_P2C_UPDATES_TOTAL = "outbound_tcp_balancer_p2c_updates_total", Kind::Counter,
        "Changes of a TCP balancer's endpoints.";
    OUTBOUND_HTTP_BALANCER_QUEUE_LENGTH = "outbound_http_balancer_queue_length", Kind::Gauge,
        "Requests that wait for a ready endpoint of an HTTP balancer.";
    OUTBOUND_TCP_BALANCER_QUEUE_LENGTH = "outbound_tcp_balancer_queue_length", Kind::Gauge,
        "Connections that wait for a ready endpoint of a TCP balancer.";
    OUTBOUND_HTTP_BALANCER_QUEUE_REQUESTS_TOTAL = "outbound_http_balancer_queue_requests_total", Kind::Counter,
        "Requests that had to wait for a ready endpoint of an HTTP balancer.";
    OUTBOUND_TCP_BALANCER_QUEUE_REQUESTS_TOTAL = "outbound_tcp_balancer_queue_requests_total", Kind::Counter,
        "Connections that had to wait for a ready endpoint of a TCP balancer.";
    OUTBOUND_HTTP_BALANCER_QUEUE_LATENCY_SECONDS = "outbound_http_balancer_queue_latency_seconds", Kind::Histogram(&WAIT_SECONDS),
        "How long requests waited for a ready endpoint of an HTTP balancer.";
    OUTBOUND_TCP_BALANCER_QUEUE_LATENCY_SECONDS = "outbound_tcp_balancer_queue_latency_seconds", Kind::Histogram(&WAIT_SECONDS),
        "How long connections waited for a ready endpoint of a TCP balancer.";
    OUTBOUND_HTTP_BALANCER_QUEUE_GATE_OPEN_TOTAL = "outbound_http_balancer_queue_gate_open_total", Kind::Counter,
        "Times that an HTTP balancer had a ready endpoint again.";
    OUTBOUND_TCP_BALANCER_QUEUE_GATE_OPEN_TOTAL = "outbound_tcp_balancer_queue_gate_open_total", Kind::Counter,
        "Times that a TCP balancer had a ready endpoint again.";
    OUTBOUND_HTTP_BALANCER_QUEUE_GATE_SHUT_TOTAL = "outbound_http_balancer_queue_gate_shut_total", Kind::Counter,
        "Times that an HTTP balancer lost its last ready endpoint.";
    OUTBOUND_TCP_BALANCER_QUEUE_GATE_SHUT_TOTAL = "outbound_tcp_balancer_queue_gate_shut_total", Kind::Counter,
        "Times that a TCP balancer lost its last ready endpoint.";
    OUTBOUND_HTTP_ROUTE_REQUEST_DURATION_SECONDS = "outbound_http_route_request_duration_seconds", Kind::Histogram(&ROUTE_SECONDS),
        "Time from the start of a request of an HTTP route to its end.";
    OUTBOUND_GRPC_ROUTE_REQUEST_DURATION_SECONDS = "outbound_grpc_route_request_duration_seconds", Kind::Histogram(&ROUTE_SECONDS),
        "Time from the start of a request of a gRPC route to its end.";
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS = "outbound_http_route_backend_response_duration_seconds",
        Kind::Histogram(&BACKEND_SECONDS), "Time from the start of a request of an HTTP route to the end of its response, by backend.";
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_DURATION_SECONDS = "outbound_grpc_route_backend_response_duration_seconds",
        Kind::Histogram(&BACKEND_SECONDS), "Time from the start of a request of a gRPC route to the end of its response, by backend.";
    OUTBOUND_HTTP_ROUTE_REQUEST_STATUSES_TOTAL = "outbound_http_route_request_statuses_total", Kind::Counter,
        "Ends of requests of an HTTP route, by status and error.";
    OUTBOUND_GRPC_ROUTE_REQUEST_STATUSES_TOTAL = "outbound_grpc_route_request_statuses_total", Kind::Counter,
        "Ends of requests of a gRPC route, by status and error.";
    OUTBOUND_HTTP_ROUTE_BACKEND_REQUESTS_TOTAL = "outbound_http_route_backend_requests_total", Kind::Counter,
        "Requests of an HTTP route that went to a backend.";
    OUTBOUND_GRPC_ROUTE_BACKEND_REQUESTS_TOTAL = "outbound_grpc_route_backend_requests_total", Kind::Counter,
        "Requests of a gRPC route that went to a backend.";
    OUTBOUND_HTTP_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL = "outbound_http_route_backend_response_statuses_total", Kind::Counter,
        "Ends of requests of an HTTP route at a backend, by status and error.";
    OUTBOUND_GRPC_ROUTE_BACKEND_RESPONSE_STATUSES_TOTAL = "outbound_grpc_route_backend_response_statuses_total", Kind::Counter,
        "Ends of requests of a gRPC route at a backend, by status and error.";
    OUTBOUND_HTTP_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL = "outbound_http_route_retry_limit_exceeded_total", Kind::Counter,
        "Requests that were not tried again because of the route's limit.";
    OUTBOUND_HTTP_ROUTE_RETRY_OVERFLOW_TOTAL = "outbound_http_route_retry_overflow_total", Kind::Counter,
        "Requests that were not tried again because the destination's retry budget was spent.";
    OUTBOUND_HTTP_ROUTE_RETRY_REQUESTS_TOTAL = "outbound_http_route_retry_requests_total", Kind::Counter,
        "Attempts beyond the first.";
    OUTBOUND_HTTP_ROUTE_RETRY_SUCCESSES_TOTAL = "outbound_http_route_retry_successes_total", Kind::Counter,
        "Requests that an attempt beyond the first answered well.";
    OUTBOUND_GRPC_ROUTE_RETRY_LIMIT_EXCEEDED_TOTAL = "outbound_grpc_route_retry_limit_exceeded_total", Kind::Counter,
        "Requests that were not tried again because of the route's limit.";
    OUTBOUND_GRPC_ROUTE_RETRY_OVERFLOW_TOTAL = "outbound_grpc_route_retry_overflow_total", Kind::Counter,
        "Requests that were not tried again because the destination's retry budget was spent.";
    OUTBOUND_GRPC_ROUTE_RETRY_REQUESTS_TOTAL = "outbound_grpc_route_retry_requests_total", Kind::Counter,
        "Attempts beyond the first.";
    OUTBOUND_GRPC_ROUTE_RETRY_SUCCESSES_TOTAL = "outbound_grpc_route_retry_successes_total", Kind::Counter,
        "Requests that an attempt beyond the first answered well.";
    OUTBOUND_TCP_ROUTE_OPEN_TOTAL = "outbound_tcp_route_open_total", Kind::Counter,
        "Connections that a TCP route took.";
    OUTBOUND_TCP_ROUTE_CLOSE_TOTAL = "outbound_tcp_route_close_total", Kind::Counter,
        "Connections of a TCP route that ended, by error.";
    OUTBOUND_TLS_ROUTE_OPEN_TOTAL = "outbound_tls_route_open_total", Kind::Counter,
        "Connections that a TLS route took.";
    OUTBOUND_TLS_ROUTE_CLOSE_TOTAL = "outbound_tls_route_close_total", Kind::Counter,
        "Connections of a TLS route that ended, by error.";
    SHEER_RETRIES_TOTAL = "sheer_retries_total", Kind::Counter, "Attempts beyond the first, by reason.";
    SHEER_HEDGES_TOTAL = "sheer_hedges_total", Kind::Counter, "Attempts beside another that has not answered, by result.";
    SHEER_MIRRORED_REQUESTS_TOTAL = "sheer_mirrored_requests_total", Kind::Counter, "Copies of requests, by result.";
    SHEER_EGRESS_REQUESTS_TOTAL = "sheer_egress_requests_total", Kind::Counter,
        "Requests that leave the mesh, by host (a bounded number of them).";
    SHEER_EGRESS_CONNECTIONS_TOTAL = "sheer_egress_connections_total", Kind::Counter,
        "Connections that leave the mesh uninspected, by server name of TLS (a bounded number of them).";
    CONTROL_REQUEST_TOTAL = "control_request_total", Kind::Counter, "Requests to the control plane.";
    CONTROL_RESPONSE_TOTAL = "control_response_total", Kind::Counter,
        "Ends of requests and streams to the control plane, by classification.";
    CONTROL_RESPONSE_LATENCY_MS = "control_response_latency_ms", Kind::Histogram(&LATENCY_MS),
        "Time from a request to the control plane to its first message.";
    CONTROL_CONNECTED = "control_connected", Kind::Gauge, "1 while the connection to a control service stands.";
    CONTROL_IDENTITY_CERT_EXPIRATION_TIMESTAMP_SECONDS = "control_identity_cert_expiration_timestamp_seconds", Kind::Gauge,
        "When the workload's certificate ends, seconds since the Unix epoch.";
    CONTROL_IDENTITY_CERT_REFRESH_TIMESTAMP_SECONDS = "control_identity_cert_refresh_timestamp_seconds", Kind::Gauge,
        "When the workload's certificate was last issued, seconds since the Unix epoch.";
    CONTROL_IDENTITY_CERT_REFRESHES_TOTAL = "control_identity_cert_refreshes_total", Kind::Counter,
        "Attempts to have a certificate issued, by result.";
    SHEER_ERRORS_TOTAL = "sheer_errors_total", Kind::Counter,
        "Requests and connections that the proxy itself ended, by verdict and reason.";
    SHEER_BREAKER_TRIPS_TOTAL = "sheer_breaker_trips_total", Kind::Counter,
        "Times that an endpoint of a service began to sit out, by each worker's judgement.";
    SHEER_BREAKER_REOPENINGS_TOTAL = "sheer_breaker_reopenings_total", Kind::Counter,
        "Times that an endpoint failed its probe and sits out again.";
    SHEER_BREAKER_CLOSINGS_TOTAL = "sheer_breaker_closings_total", Kind::Counter,
        "Times that an endpoint that sat out takes requests again.";
    SHEER_BREAKER_ENDPOINTS = "sheer_breaker_endpoints", Kind::Gauge,
        "Endpoints that sit out (state open) or are probed (state probation), each once for each worker.";
    SHEER_REQUEST_FURTHER_ATTEMPTS_TOTAL = "sheer_request_further_attempts_total", Kind::Counter,
        "Attempts at another endpoint after one that did not serve the request.";
    SHEER_LIBRARY_DISAGREEMENTS_TOTAL = "sheer_library_disagreements_total", Kind::Counter,
        "Header blocks in which the HTTP library and the bytes on the wire say different things, by side: `read`, `written`.";
    SHEER_TRACE_SPANS_TOTAL = "sheer_trace_spans_total", Kind::Counter, "Spans that were recorded, by why they were.";
    SHEER_TRACE_SPANS_DROPPED_TOTAL = "sheer_trace_spans_dropped_total", Kind::Counter,
        "Requests that were not recorded, and spans that reached nobody, by reason.";
    SHEER_TRACE_EXPORTS_TOTAL = "sheer_trace_exports_total", Kind::Counter,
        "Attempts to send a batch to the collector, by signal and result.";
    SHEER_TRACE_EXPORTED_TOTAL = "sheer_trace_exported_total", Kind::Counter,
        "Spans and log records that the collector took, by signal.";
    SHEER_TRACE_COLLECTOR_CONNECTED = "sheer_trace_collector_connected", Kind::Gauge,
        "Whether there is a connection over gRPC to the collector of traces.";
    SHEER_ACCESS_LOG_LINES_TOTAL = "sheer_access_log_lines_total", Kind::Counter, "Lines of the access log.";
    SHEER_ACCESS_LOG_LINES_DROPPED_TOTAL = "sheer_access_log_lines_dropped_total", Kind::Counter,
        "Lines of the access log that were dropped, as nobody read the ones before.";
    SHEER_HTTP2_FRAMES_TOTAL = "sheer_http2_frames_total", Kind::Counter,
        "Frames of HTTP/2, by type and by who sent them.";
    SHEER_HTTP2_RESETS_TOTAL = "sheer_http2_resets_total", Kind::Counter, "RST_STREAM frames, by reason and by who sent them.";
    SHEER_HTTP2_GOAWAYS_TOTAL = "sheer_http2_goaways_total", Kind::Counter, "GOAWAY frames, by reason and by who sent them.";
    SHEER_HEADER_LIST_BYTES = "sheer_header_list_bytes", Kind::Histogram(&HEADER_BYTES),
        "Sizes of requests' header lists, as HTTP/2 counts them (RFC 9113, 6.5.2).";
    SHEER_FLOW_CONTROL_STALLS_TOTAL = "sheer_flow_control_stalls_total", Kind::Counter,
        "Times that a body waited for its receiver's HTTP/2 window.";
    SHEER_TLS_HANDSHAKES_TOTAL = "sheer_tls_handshakes_total", Kind::Counter,
        "TLS handshakes between proxies, by result and reason.";
    SHEER_IDENTITY_CERT_AGE_SECONDS = "sheer_identity_cert_age_seconds", Kind::Gauge, "Since the workload's certificate was issued.";
    SHEER_CONTROL_STREAM_AGE_SECONDS = "sheer_control_stream_age_seconds", Kind::Gauge,
        "Since the last message of the streams of each kind from the control plane: of the one that is silent for longest.";
    SHEER_CONTROL_STREAMS = "sheer_control_streams", Kind::Gauge, "Streams from the control plane, by kind and whether they stand.";
    CONTROL_DNS_RESOLUTIONS_TOTAL = "control_dns_resolutions_total", Kind::Counter,
        "Look-ups of the control plane's names, by client and result.";
    SHEER_SIGHT_CONNECTIONS_TOTAL = "sheer_sight_connections_total", Kind::Counter,
        "Connections to the sight port, by result: `allowed`, `refused` (not the control plane), `failed` (no TLS).";
    SHEER_METRICS_OVERFLOW_TOTAL = "sheer_metrics_overflow_total", Kind::Counter,
        "Look-ups of series that were counted under `overflow` because their family has as many as it may, by family.";
    PROXY_BUILD_INFO = "proxy_build_info", Kind::Gauge, "The proxy's build.";
    RUSTLS_INFO = "rustls_info", Kind::Gauge, "The TLS library and what it may negotiate.";
}
