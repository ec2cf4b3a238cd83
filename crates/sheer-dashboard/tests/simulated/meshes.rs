//! Made-up meshes: a bank of eight services, and 200 services in twelve namespaces. The same each time, with rates that move a little.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sheer_api::v1::{LatencyHistogram, Resource, StatusCount, TcpCounts, Tls, Traffic};

/// Something that runs.
#[derive(Clone, Debug)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
    pub pods: u32,
    pub meshed: bool,
}

/// An end of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Index of a workload.
    Workload(usize),
    Address(&'static str),
    Host(&'static str),
}

/// Who calls whom, how often and how well.
#[derive(Clone, Debug)]
pub struct Call {
    pub from: End,
    pub to: End,
    pub rps: f64,
    pub success: f64,
    pub ms: f64,
    pub tls: Tls,
    pub why_plain: &'static str,
    pub protocol: &'static str,
    /// Share that policy denies.
    pub denied: f64,
    pub paths: Vec<(&'static str, &'static str)>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Mesh {
    pub workloads: Vec<Workload>,
    pub calls: Vec<Call>,
}

impl Call {
    fn new(from: End, to: End, rps: f64, ms: f64) -> Self {
        Self {
            from,
            to,
            rps,
            success: 1.0,
            ms,
            tls: Tls::Mutual,
            why_plain: "",
            protocol: "grpc",
            denied: 0.0,
            paths: Vec::new(),
        }
    }
}

impl Mesh {
    /// Eight services, their load, a job without a sidecar, somebody outside and a host on the internet.
    pub fn bank() -> Self {
        let names = [
            ("gateway", 1),
            ("payments", 1),
            ("accounts", 1),
            ("fraud", 1),
            ("fx", 1),
            ("ledger", 3),
            ("audit", 1),
            ("notify", 2),
            ("load", 1),
            ("reports", 1),
        ];
        let workloads = names.map(|(name, pods)| Workload {
            namespace: "bank".to_owned(),
            name: name.to_owned(),
            pods,
            meshed: name != "reports",
        });
        let of = |name: &str| {
            End::Workload(
                names
                    .iter()
                    .position(|(known, _)| *known == name)
                    .expect("a name of the bank"),
            )
        };
        let call = |from: &str, to: &str, rps, ms, path| Call {
            paths: vec![("POST", path)],
            ..Call::new(of(from), of(to), rps, ms)
        };
        let calls = vec![
            Call {
                protocol: "http/1",
                paths: vec![
                    ("POST", "/v1/payments"),
                    ("GET", "/v1/accounts/ACC-0001"),
                    // A path is whatever a client makes of it.
                    ("GET", "/v1/<img src=x onerror=alert(1)>"),
                    ("GET", "/healthz"),
                ],
                ..call("load", "gateway", 20.0, 31.0, "")
            },
            call("gateway", "payments", 18.0, 27.0, "/bank.v1.Payments/Pay"),
            call("gateway", "accounts", 2.0, 1.6, "/bank.v1.Accounts/Describe"),
            call("payments", "accounts", 18.0, 1.5, "/bank.v1.Accounts/Debit"),
            call("payments", "fraud", 18.0, 3.6, "/bank.v1.Fraud/Score"),
            call("payments", "ledger", 36.0, 1.0, "/bank.v1.Ledger/Post"),
            call("payments", "audit", 36.0, 1.5, "/bank.v1.Audit/Record"),
            Call {
                success: 0.93,
                ..call("payments", "notify", 18.0, 11.8, "/bank.v1.Notify/Deliver")
            },
            call("fraud", "fx", 18.0, 1.3, "/bank.v1.Rates/Quote"),
            Call {
                tls: Tls::Opaque,
                protocol: "tcp",
                ..Call::new(of("fx"), End::Host("rates.example.com"), 0.0, 40.0)
            },
            Call {
                tls: Tls::Plain,
                why_plain: "the client has no sidecar",
                protocol: "http/1",
                denied: 1.0,
                success: 0.0,
                paths: vec![("GET", "/v1/journal")],
                ..Call::new(of("reports"), of("ledger"), 0.5, 0.3)
            },
            Call {
                tls: Tls::Plain,
                why_plain: "the client is outside of the mesh",
                protocol: "http/1",
                paths: vec![("GET", "/healthz")],
                ..Call::new(End::Address("10.77.0.1"), of("gateway"), 1.0, 0.8)
            },
        ];
        Self {
            workloads: workloads.to_vec(),
            calls,
        }
    }

    /// `count` services in twelve namespaces: an edge, domains that call one another and their stores.
    pub fn of(count: usize) -> Self {
        const DOMAINS: [&str; 12] = [
            "edge",
            "accounts",
            "payments",
            "cards",
            "lending",
            "risk",
            "ledger",
            "identity",
            "notify",
            "reporting",
            "search",
            "platform",
        ];
        const PARTS: [&str; 18] = [
            "api", "worker", "store", "cache", "events", "sync", "rules", "quotes", "audit", "batch", "export",
            "import", "limits", "scoring", "index", "mail", "sessions", "tokens",
        ];
        let mut random = StdRng::seed_from_u64(200);
        let workloads: Vec<Workload> = (0..count)
            .map(|i| Workload {
                namespace: DOMAINS[i % DOMAINS.len()].to_owned(),
                name: format!(
                    "{}-{}",
                    DOMAINS[i % DOMAINS.len()],
                    PARTS[(i / DOMAINS.len()) % PARTS.len()]
                ),
                pods: random.random_range(1..6),
                meshed: i % 29 != 7,
            })
            .collect();
        let mut calls = Vec::new();
        for to in 1..count {
            let callers = random.random_range(1..4);
            for _ in 0..callers {
                // Mostly within the domain, else from the front parts of another.
                let same = random.random_bool(0.6) && to >= DOMAINS.len();
                let from = if same {
                    to % DOMAINS.len() + DOMAINS.len() * random.random_range(0..to / DOMAINS.len())
                } else {
                    random.random_range(0..to.min(40))
                };
                if calls
                    .iter()
                    .any(|call: &Call| call.from == End::Workload(from) && call.to == End::Workload(to))
                {
                    continue;
                }
                let plain = !workloads[from].meshed || !workloads[to].meshed;
                calls.push(Call {
                    success: if random.random_bool(0.05) {
                        random.random_range(0.85..0.99)
                    } else {
                        1.0
                    },
                    tls: if plain { Tls::Plain } else { Tls::Mutual },
                    why_plain: if plain { "one side has no sidecar" } else { "" },
                    protocol: ["grpc", "http/2", "http/1"][random.random_range(0..3)],
                    paths: vec![("POST", "/v1/do")],
                    ..Call::new(
                        End::Workload(from),
                        End::Workload(to),
                        f64::from(random.random_range(1..400)) / 2.0,
                        f64::from(random.random_range(5..400)) / 10.0,
                    )
                });
            }
        }
        Self { workloads, calls }
    }

    pub fn resource(&self, end: &End) -> Resource {
        let (kind, namespace, name) = match end {
            End::Workload(i) => (
                "deploy",
                self.workloads[*i].namespace.as_str(),
                self.workloads[*i].name.as_str(),
            ),
            End::Address(address) => ("address", "", *address),
            End::Host(host) => ("host", "", *host),
        };
        Resource {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            part: String::new(),
        }
    }
}

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the wire has times of day")]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is past 1970")
        .as_millis() as i64
}

/// A call's rate at a time: slow waves, another phase for each call.
pub fn rate(call: &Call, index: usize, at_ms: i64) -> f64 {
    let phase = at_ms as f64 / 47_000.0 + index as f64;
    call.rps * (1.0 + 0.18 * phase.sin() + 0.07 * (phase * 5.3).sin())
}

/// What a call did within a time.
pub fn traffic(call: &Call, index: usize, end_ms: i64, span_ms: u64) -> Traffic {
    let requests = (rate(call, index, end_ms) * span_ms as f64 / 1e3).round() as u64;
    let denied = (requests as f64 * call.denied).round() as u64;
    let failures = ((requests - denied) as f64 * (1.0 - call.success.max(call.denied))).round() as u64;
    let successes = requests - denied - failures;
    let grpc = call.protocol == "grpc";
    let status = |http_status, grpc_status: u32, success, error: &str, count| StatusCount {
        http_status,
        grpc_status: grpc.then_some(grpc_status),
        success,
        error: error.to_owned(),
        count,
    };
    let statuses = vec![
        status(200, 0, true, "", successes),
        status(if grpc { 200 } else { 503 }, 14, false, "upstream-reset", failures),
        status(if grpc { 200 } else { 403 }, 7, false, "policy-denied", denied),
    ];
    let secured = call.tls == Tls::Mutual;
    let wave = 1.0 + 0.1 * (end_ms as f64 / 31_000.0 + index as f64).sin();
    let times = |share: f64| (requests > 0).then_some(call.ms * wave * share);
    Traffic {
        span_ms,
        requests,
        successes,
        statuses: statuses.into_iter().filter(|status| status.count > 0).collect(),
        latency: Some(latency(call.ms * wave, requests)),
        p50_ms: times(1.0),
        p95_ms: times(2.3),
        p99_ms: times(4.1),
        attempts: requests,
        attempt_successes: successes,
        requests_secured: if secured { requests } else { 0 },
        requests_with_peer: requests,
        connections_secured: u64::from(secured),
        tcp: Some(TcpCounts {
            opened: 1,
            open: 1,
            read_bytes: requests * 900 + 4_000,
            written_bytes: requests * 6_400 + 2_000,
            ..TcpCounts::default()
        }),
        ..Traffic::default()
    }
}

/// Around `ms`, with a tail.
fn latency(ms: f64, requests: u64) -> LatencyHistogram {
    const SHARES: [f64; 24] = [
        0.02, 0.04, 0.07, 0.1, 0.12, 0.13, 0.11, 0.09, 0.07, 0.06, 0.05, 0.03, 0.025, 0.02, 0.015, 0.01, 0.01, 0.01,
        0.005, 0.005, 0.004, 0.003, 0.002, 0.001,
    ];
    let middle = (ms.log2() * 8.0).round() as i32;
    LatencyHistogram {
        first: middle - 6,
        counts: SHARES
            .iter()
            .map(|share| (share * requests as f64).round() as u64)
            .collect(),
        sum_micros: (ms * 1e3) as u64 * requests,
    }
}
