//! Names and ports that several parts must agree on. Linkerd's, where Linkerd has one.

/// The proxy's outbound listener: the target of the redirection of what an application sends.
pub const OUTBOUND_PORT: u16 = 4140;
/// The proxy's inbound listener: the target of the redirection of what arrives at a workload.
pub const INBOUND_PORT: u16 = 4143;
/// Sight (tap, frames, probe), for the control plane only.
pub const SIGHT_PORT: u16 = 4190;
/// The proxy's admin server: `/live`, `/ready`, `/metrics`, `/proxy-log-level`, `/shutdown`.
pub const ADMIN_PORT: u16 = 4191;
/// The control plane's identity service.
pub const IDENTITY_PORT: u16 = 8080;
/// The control plane's destination service.
pub const DESTINATION_PORT: u16 = 8086;
/// The control plane's policy service.
pub const POLICY_PORT: u16 = 8090;
/// Dashboard, on loopback of the machine that it runs on.
pub const DASHBOARD_PORT: u16 = 8084;

/// The user that a sidecar runs as, exempt from redirection.
pub const PROXY_UID: u32 = 2102;
/// Mark of the proxy's own sockets (`SO_MARK`), exempt from redirection where a second uid cannot be had: "SHEE".
pub const PROXY_MARK: u32 = 0x5348_4545;

/// ALPN of a meshed connection that starts with a transport header.
pub const TRANSPORT_HEADER_ALPN: &[u8] = b"transport.l5d.io/v1";
/// ALPN of HTTP/2.
pub const H2_ALPN: &[u8] = b"h2";

/// Marks HTTP/1 carried over HTTP/2 between sidecars; its value is `HTTP/1.1` or `HTTP/1.0`, and may end in `; absolute-form`.
pub const ORIG_PROTO: &str = "l5d-orig-proto";
/// The verified identity of the client, added by the inbound proxy for the application.
pub const CLIENT_ID: &str = "l5d-client-id";
/// Text of an error that a proxy, not the application, answered with.
pub const PROXY_ERROR: &str = "l5d-proxy-error";
/// `close` where the caller should open a new connection before it tries again.
pub const PROXY_CONNECTION: &str = "l5d-proxy-connection";
/// Who is at fault for a response that a proxy made up: a `Verdict`.
pub const VERDICT: &str = "sheer-verdict";
/// Stable reason code of a response that a proxy made up, as `failfast`.
pub const REASON: &str = "sheer-reason";
/// Between two sidecars only: the response was made up, its reason is this, and no application has seen the request.
pub const UNSERVED: &str = "sheer-unserved";

/// Ports that are never inspected unless a Service or Server says otherwise: Linkerd's defaults (SMTP, MySQL, Galera, PostgreSQL,
/// Redis, Elasticsearch and memcached: the server speaks first, or the protocol confuses detection).
pub const DEFAULT_OPAQUE_PORTS: &[u16] = &[25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// Domain of cluster-local names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Namespace of the control plane, a part of every identity.
pub const CONTROL_NAMESPACE: &str = "sheer";
/// Audience of the workload tokens that the identity service accepts.
pub const TOKEN_AUDIENCE: &str = "identity.l5d.io";

/// Buckets of latencies (`sheer.v1.LatencyHistogram`): bucket `i` ends at 2^(i / this) ms, as in Prometheus' native histograms of schema 3.
pub const LATENCY_BUCKETS_A_DOUBLING: i16 = 8;
/// The bucket of everything that is faster: up to 2^-6 ms.
pub const LATENCY_FIRST_BUCKET: i16 = -48;
/// The bucket of everything that is slower: beyond 2^(135/8) ms.
pub const LATENCY_LAST_BUCKET: i16 = 136;

/// Names of gRPC's status codes, by code.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a status code of gRPC, where there is such a code.
pub fn grpc_code_name(code: u32) -> Option<&'static str> {
    GRPC_CODES.get(usize::try_from(code).ok()?).copied()
}

/// The status code of gRPC that is called so, in whatever case: `NOT_FOUND`, `not-found`.
pub fn grpc_code(name: &str) -> Option<u16> {
    let is_called = |known: &&str| {
        let same = |(known, own): (u8, u8)| known == own.to_ascii_uppercase() || known == b'_' && own == b'-';
        known.len() == name.len() && known.bytes().zip(name.bytes()).all(same)
    };
    let code = GRPC_CODES.iter().position(is_called);
    code.and_then(|code| u16::try_from(code).ok())
}

/// DNS identity of a ServiceAccount: `SA.NS.serviceaccount.identity.CONTROL-NS.TRUST-DOMAIN`.
pub fn dns_identity(service_account: &str, namespace: &str, control_namespace: &str, trust_domain: &str) -> String {
    format!("{service_account}.{namespace}.serviceaccount.identity.{control_namespace}.{trust_domain}")
}

/// SPIFFE identity of a ServiceAccount: `spiffe://TRUST-DOMAIN/ns/NS/sa/SA`.
pub fn spiffe_identity(service_account: &str, namespace: &str, trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
}
