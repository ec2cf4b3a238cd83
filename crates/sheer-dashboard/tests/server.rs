//! The server without a browser: who may ask, what every answer carries, the shapes of the JSON, the events. The control plane is made up.

mod simulated;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheer_dashboard::Dashboard;
use simulated::{MadeUpChecks, Mesh, Running};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Patience with anything that should happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A dashboard that is served, and its control plane.
struct Served {
    address: SocketAddr,
    folder: tempfile::TempDir,
    control: Option<Running>,
    page: JoinHandle<()>,
}

impl Served {
    async fn of(mesh: Option<Mesh>) -> Self {
        Self::with_token(mesh, None).await
    }

    async fn with_token(mesh: Option<Mesh>, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("control.sock");
        let control = mesh.map(|mesh| simulated::serve(mesh, &socket));
        let listener = Dashboard::bind(0).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let dashboard = Dashboard::new(simulated::channel(&socket), Arc::new(MadeUpChecks));
        let dashboard = dashboard.with_token(token).expect("a token");
        let page = tokio::spawn(async move { dashboard.serve(listener).await.expect("it is served") });
        Self {
            address,
            folder,
            control,
            page,
        }
    }

    fn start(&mut self, mesh: Mesh) {
        self.control = Some(simulated::serve(mesh, &self.folder.path().join("control.sock")));
    }

    async fn ask(&self, head: &str) -> Answer {
        let ask = async {
            let mut stream = TcpStream::connect(self.address).await.expect("connected");
            stream.write_all(head.as_bytes()).await.expect("sent");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("read");
            text
        };
        Answer(timeout(PATIENCE, ask).await.expect("the dashboard answers"))
    }

    async fn get(&self, path: &str) -> Answer {
        let host = self.address;
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.0);
        answer.json()
    }

    async fn events(&self, path: &str) -> Events {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        Events {
            lines: BufReader::new(stream),
            waiting: Vec::new(),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.page.abort();
    }
}

struct Answer(String);

impl Answer {
    fn status(&self) -> u16 {
        self.0
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    fn head(&self) -> String {
        self.0.split("\r\n\r\n").next().unwrap_or_default().to_lowercase()
    }

    fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.0))
    }
}

/// Server-sent events. Those of different names come in no certain order: what nobody asked for yet waits.
struct Events {
    lines: BufReader<TcpStream>,
    waiting: Vec<(String, Value)>,
}

impl Events {
    /// The data of the next event of a name.
    async fn next(&mut self, name: &str) -> Value {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| waiting == name) {
            return self.waiting.remove(at).1;
        }
        let read = async {
            loop {
                let (event, data) = self.read().await;
                if event == name {
                    return data;
                }
                self.waiting.push((event, data));
            }
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("no event {name} comes"))
    }

    async fn read(&mut self) -> (String, Value) {
        let (mut line, mut event) = (String::new(), String::new());
        loop {
            line.clear();
            let length = self.lines.read_line(&mut line).await.expect("read");
            assert_ne!(length, 0, "the stream has ended");
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim_end().clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (event, serde_json::from_str(data.trim_end()).expect("JSON"));
            }
        }
    }
}

#[tokio::test]
async fn every_answer_says_what_the_browser_may_do_with_it() {
    let served = Served::of(Some(Mesh::bank())).await;
    for path in [
        "/",
        "/map",
        "/assets/js/main.js",
        "/api/status",
        "/api/nothing",
        "/nothing",
    ] {
        let head = served.get(path).await.head();
        for field in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(field), "{path} lacks {field}: {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
        assert!(!head.contains("access-control"), "{head}");
    }
}

#[tokio::test]
async fn other_names_and_other_pages_are_refused() {
    let served = Served::of(Some(Mesh::bank())).await;
    let (host, port) = (served.address, served.address.port());
    for (request, status) in [
        (format!("GET /api/map HTTP/1.1\r\nhost: {host}\r\n"), 200),
        (
            format!("GET /api/map HTTP/1.1\r\nhost: localhost:{port}\r\norigin: http://localhost:{port}\r\n"),
            200,
        ),
        (
            format!("GET /api/map HTTP/1.1\r\nhost: rebound.example:{port}\r\n"),
            421,
        ),
        (format!("GET /map HTTP/1.1\r\nhost: rebound.example:{port}\r\n"), 421),
        (
            format!("GET /assets/js/main.js HTTP/1.1\r\nhost: rebound.example:{port}\r\n"),
            421,
        ),
        (
            format!("GET /api/map HTTP/1.1\r\nhost: {host}\r\norigin: http://evil.example\r\n"),
            403,
        ),
        (
            format!("GET /api/map/events HTTP/1.1\r\nhost: {host}\r\norigin: null\r\n"),
            403,
        ),
        (
            format!("GET /api/tap/events?ns=bank HTTP/1.1\r\nhost: {host}\r\norigin: http://evil.example\r\n"),
            403,
        ),
        (
            format!("GET /api/request?ns=bank&id=payments-6d9f4-0/3 HTTP/1.1\r\nhost: rebound.example:{port}\r\n"),
            421,
        ),
        (
            format!(
                "GET /api/map HTTP/1.1\r\nhost: {host}\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n"
            ),
            403,
        ),
        (
            format!("POST /api/map HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n"),
            405,
        ),
        (
            format!("OPTIONS /api/map HTTP/1.1\r\nhost: {host}\r\norigin: http://evil.example\r\n"),
            405,
        ),
        ("GET /api/map HTTP/1.0\r\n".to_owned(), 421),
    ] {
        let answer = served.ask(&format!("{request}connection: close\r\n\r\n")).await;
        assert_eq!(answer.status(), status, "{request}: {}", answer.0);
    }
}

#[tokio::test]
async fn nobody_but_this_machine_can_connect() {
    let served = Served::of(Some(Mesh::bank())).await;
    assert!(served.address.ip().is_loopback());
}

#[tokio::test]
async fn pages_are_links_and_files_are_within() {
    let served = Served::of(Some(Mesh::bank())).await;
    for path in [
        "/",
        "/map?focus=bank/deploy/ledger",
        "/workloads/bank/deploy/ledger",
        "/traces/4bf92f3577b34da6a3ce929d0e0e4736",
        "/requests/bank/payments-6d9f4-0/41",
        "/health",
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.body().contains("/assets/js/main.js"), "{path}");
        let inline =
            answer.body().contains("<style") || answer.body().contains("style=") || answer.body().contains("onclick");
        assert!(!inline, "{path}");
    }
    for path in [
        "/etc/passwd",
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/Cargo.toml",
        "/assets/no.js",
        "/api",
        "/api/no",
    ] {
        assert_eq!(served.get(path).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn the_map_has_every_workload_and_every_pair_that_talks() {
    let served = Served::of(Some(Mesh::bank())).await;
    let map = served.json("/api/map?window=1m").await;
    let ids: Vec<&str> = map["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    assert_eq!(ids.len(), 12, "{ids:?}");
    for id in [
        "bank/deploy/ledger",
        "bank/deploy/reports",
        "/address/10.77.0.1",
        "/host/rates.example.com",
    ] {
        assert!(ids.contains(&id), "{id} lacks in {ids:?}");
    }
    let edge = |from: &str, to: &str| {
        let edges = map["edges"].as_array().unwrap().iter();
        let mut edges = edges.filter(|edge| edge["source"] == from && edge["destination"] == to);
        edges
            .next()
            .cloned()
            .unwrap_or_else(|| panic!("no edge from {from} to {to}"))
    };
    let secured = edge("bank/deploy/payments", "bank/deploy/ledger");
    assert_eq!(
        (secured["tls"].as_str(), secured["numbers"]["success"].as_f64()),
        (Some("mutual"), Some(1.0))
    );
    assert_eq!(secured["services"], serde_json::json!(["bank/ledger:8080"]));
    let plain = edge("bank/deploy/reports", "bank/deploy/ledger");
    assert_eq!(
        (plain["tls"].as_str(), plain["numbers"]["mtls"].as_f64()),
        (Some("plain"), Some(0.0))
    );
    assert_eq!(plain["why_plain"], serde_json::json!(["the client has no sidecar"]));
    let only = served.json("/api/map?ns=nowhere").await;
    assert_eq!(only["nodes"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_workload_has_its_history_its_peers_and_its_pods() {
    let served = Served::of(Some(Mesh::bank())).await;
    let page = served.json("/api/workload?of=bank/deploy/payments&window=10m").await;
    let points = page["inbound"]["at"].as_array().unwrap().len();
    assert!((100..=720).contains(&points), "{points}");
    assert_eq!(page["inbound"]["p99"].as_array().unwrap().len(), points);
    assert_eq!(page["outbound"].as_array().unwrap().len(), 5);
    assert_eq!(page["edges"].as_array().unwrap().len(), 6);
    let pod = &page["pods"][0];
    assert_eq!(
        (pod["name"].as_str(), pod["proxy"]["version"].as_str()),
        (Some("payments-6d9f4-0"), Some("0.1.0"))
    );
    let holds = served.json("/api/holds?of=bank/deploy/payments").await;
    assert_eq!(holds["ports"][0]["port"], 8080);
    assert!(holds["targets"].as_array().unwrap().len() >= 5, "{holds}");
    let gone = served.get("/api/workload?of=bank/deploy/nobody").await;
    assert_eq!(
        (gone.status(), gone.json()["problem"]["kind"].as_str()),
        (404, Some("not-found"))
    );
}

#[tokio::test]
async fn policy_names_who_was_denied_and_why_one_would_be() {
    let served = Served::of(Some(Mesh::bank())).await;
    let policy = served.json("/api/policy?window=5m").await;
    let denied = &policy["denied"][0];
    assert_eq!(
        (denied["source"].as_str(), denied["ending"]["reason"].as_str()),
        (Some("bank/deploy/reports"), Some("policy-denied"))
    );
    assert!(policy["ports"].as_array().unwrap().len() >= 9, "{policy}");
    let explained = served.json("/api/explain?from=deploy/reports&to=svc/ledger:8080").await;
    assert_eq!(
        (explained["outcome"].as_str(), explained["status"].as_u64()),
        (Some("denied"), Some(403))
    );
    let lacking = served.get("/api/explain?from=deploy/reports").await;
    assert_eq!(
        (lacking.status(), lacking.json()["problem"]["what"].as_str()),
        (400, Some("`to` is missing"))
    );
}

#[tokio::test]
async fn traces_are_searched_and_shown() {
    let served = Served::of(Some(Mesh::bank())).await;
    let failed = served.json("/api/traces?status=failed&limit=3").await;
    let first = &failed["traces"][0];
    assert_eq!(
        (first["failed"].as_bool(), first["failed_at"].as_str()),
        (Some(true), Some("bank/deploy/notify"))
    );
    assert_eq!(failed["breaks"][0]["workload"], "bank/deploy/fraud");
    let trace = served
        .json(&format!("/api/trace?id={}", first["id"].as_str().unwrap()))
        .await;
    let culprit = trace["culprit"].as_u64().unwrap() as usize;
    assert_eq!(trace["spans"][culprit]["workload"], "bank/deploy/notify");
    assert_eq!(served.get("/api/trace?id=00").await.status(), 404);
    assert_eq!(served.get("/api/traces?status=perhaps").await.status(), 400);
}

#[tokio::test]
async fn the_other_pages_have_their_models() {
    let served = Served::of(Some(Mesh::bank())).await;
    let routes = served.json("/api/routes").await;
    assert_eq!(
        (
            routes["routes"][0]["kind"].as_str(),
            routes["routes"][0]["rules"].as_array().unwrap().len()
        ),
        (Some("HTTPRoute"), 2)
    );
    let live = served.json("/api/live").await;
    assert!(live["paths"].as_array().unwrap().len() > 8, "{live}");
    assert_eq!(live["paths"][0]["requests"].as_array().unwrap().len(), 30);
    let health = served.json("/api/health").await;
    assert_eq!(health["checked"]["categories"][1]["points"][1]["result"], "error");
    assert_eq!(health["control"]["findings"][0]["place"], "bank/ledger.yaml:12");
    let workloads = served.json("/api/workloads").await;
    assert_eq!(workloads["workloads"].as_array().unwrap().len(), 10);
    let status = served.json("/api/status").await;
    assert_eq!(
        (status["proxies"].as_u64(), status["namespaces"][0].as_str()),
        (Some(12), Some("bank"))
    );
}

#[tokio::test]
async fn events_come_by_themselves_with_the_line_below() {
    let served = Served::of(Some(Mesh::bank())).await;
    let mut events = served.events("/api/live/events").await;
    let first = events.next("page").await;
    assert!(events.next("status").await["version"].is_string());
    let second = events.next("page").await;
    assert!(
        second["window"]["to_ms"].as_i64() > first["window"]["to_ms"].as_i64(),
        "{first} {second}"
    );
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_a_problem_with_what_to_do_until_it_is_back() {
    let mut served = Served::of(None).await;
    let answer = served.get("/api/map").await;
    assert_eq!(
        (answer.status(), answer.json()["problem"]["kind"].as_str()),
        (503, Some("control-away"))
    );
    // A page about health must not need health.
    let health = served.json("/api/health").await;
    assert_eq!(
        (health["problem"]["kind"].as_str(), health["control"].is_null()),
        (Some("control-away"), true)
    );
    for page in ["map", "live"] {
        let mut events = served.events(&format!("/api/{page}/events")).await;
        let problem = events.next("problem").await;
        assert!(
            problem["problem"]["todo"].as_str().unwrap().contains("sheer check"),
            "{problem}"
        );
        served.start(Mesh::bank());
        assert!(events.next("page").await["window"].is_object(), "{page}");
        events.waiting.clear();
        served.control = None;
        events.next("problem").await;
    }
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let served = Served::of(Some(Mesh::bank())).await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut events = served.events("/api/status/events").await;
        events.next("page").await;
        open.push(events);
    }
    let refused = served.get("/api/map/events").await;
    assert_eq!(
        (refused.status(), refused.json()["problem"]["kind"].as_str()),
        (429, Some("too-many"))
    );
    drop(open.pop());
    let until = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!("GET /api/map/events HTTP/1.1\r\nhost: {}\r\n\r\n", served.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        if &start == b"HTTP/1.1 200" {
            break;
        }
        assert!(Instant::now() < until, "a closed page is counted for ever");
    }
}

#[tokio::test]
async fn the_map_of_200_services_is_there_at_once_and_not_much() {
    let served = Served::of(Some(Mesh::of(200))).await;
    let start = Instant::now();
    let answer = served.get("/api/map").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let map = answer.json();
    assert_eq!(map["nodes"].as_array().unwrap().len(), 200);
    assert!(answer.body().len() < 512 * 1024, "{} bytes", answer.body().len());
}

/// Lines of the tap until there are so many.
async fn lines(events: &mut Events, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let batch = events.next("page").await;
        lines.extend(batch["lines"].as_array().expect("a list").clone());
    }
    lines
}

#[tokio::test]
async fn requests_come_one_by_one_as_both_proxies_saw_them() {
    let served = Served::of(Some(Mesh::bank())).await;
    let mut events = served.events("/api/tap/events?ns=bank&rate=7").await;
    let first = events.next("page").await;
    assert_eq!((first["number"].as_u64(), first["rate"].as_u64()), (Some(0), Some(7)));
    let (mut lines, mut beyond, mut notes) = (Vec::new(), 0, Vec::new());
    while lines.len() < 60 || beyond == 0 {
        let batch = events.next("page").await;
        beyond += batch["beyond_rate"].as_u64().unwrap();
        notes.extend(batch["notes"].as_array().unwrap().clone());
        lines.extend(batch["lines"].as_array().unwrap().clone());
    }
    assert_eq!(notes, ["bank/reports-6d9f4-0: it has no sidecar"]);
    let failed = lines
        .iter()
        .find(|line| line["failed"] == true)
        .expect("one of seven fails");
    assert_eq!(
        (failed["verdict"].as_str(), failed["reason"].as_str()),
        (Some("capacity"), Some("failfast"))
    );
    assert_eq!(
        (
            failed["namespace"].as_str(),
            failed["views"]["inbound"]["request"].is_u64()
        ),
        (Some("bank"), true)
    );
    assert!(
        lines
            .iter()
            .any(|line| line["kind"] == "tcp" && line["response_bytes"] == 71_680),
        "no connection"
    );
    assert!(events.next("status").await["version"].is_string());
}

#[tokio::test]
async fn filters_are_the_proxies_own_and_kept_failures_come_first() {
    let served = Served::of(Some(Mesh::bank())).await;
    let mut events = served.events("/api/tap/events?of=bank/deploy/payments&failed=1").await;
    let failed = lines(&mut events, 6).await;
    let kept: Vec<bool> = failed.iter().map(|line| line["kept"] == true).collect();
    assert_eq!(kept[..4], [true, true, true, false], "{failed:?}");
    assert!(failed.iter().all(|line| line["failed"] == true));
    let mut events = served
        .events("/api/tap/events?of=bank/deploy/payments&path=/bank.v1.Fraud")
        .await;
    for line in lines(&mut events, 5).await {
        assert_eq!(line["path"], "/bank.v1.Fraud/Score");
    }
    for (path, status) in [
        ("/api/tap", 400),
        ("/api/tap?of=nobody", 400),
        ("/api/tap?ns=bank&over_ms=soon", 400),
        ("/api/tap?of=bank/deploy/secret", 403),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status(), status, "{path}: {}", answer.0);
        assert!(answer.json()["problem"]["todo"].is_string());
    }
}

#[tokio::test]
async fn a_request_has_its_verdict_its_four_views_its_trace_and_its_streams() {
    let served = Served::of(Some(Mesh::bank())).await;
    let page = served.json("/api/request?ns=bank&id=payments-6d9f4-0/3").await;
    assert_eq!(
        (page["summary"]["verdict"].as_str(), page["summary"]["reason"].as_str()),
        (Some("capacity"), Some("failfast"))
    );
    assert_eq!(
        (page["namespace"].as_str(), page["trace"].as_str()),
        (Some("bank"), Some(&*format!("{:032x}", 0x4bfc)))
    );
    let points = page["diff"]["points"].as_object().unwrap();
    assert!(points.values().all(|point| point["protocol"] == "http/2"), "{points:?}");
    let differences = page["diff"]["differences"].as_array().unwrap();
    let documented: Vec<_> = differences
        .iter()
        .map(|one| (one["field"].as_str().unwrap(), one["documented"] == true))
        .collect();
    assert_eq!(documented, [("x-tenant", false), ("l5d-client-id", true)]);
    let legs = page["legs"].as_array().unwrap();
    let named: Vec<_> = legs
        .iter()
        .map(|leg| (leg["point"].as_u64().unwrap(), leg["pod"].as_str().unwrap()))
        .collect();
    assert_eq!(
        named,
        [
            (1, "bank/payments-6d9f4-0"),
            (2, "bank/payments-6d9f4-0"),
            (3, "bank/notify-6d9f4-0"),
            (4, "bank/notify-6d9f4-0")
        ]
    );
    // By the stream that a span names, which is of another workload.
    let span = served
        .json("/api/request?of=bank/pod/ledger-6d9f4-0&wire=10.77.1.1:40000,10.77.7.1:8080,15&trace=ab")
        .await;
    assert_eq!(span["id"], "payments-6d9f4-0/7");
    assert_eq!(
        served
            .get("/api/request?of=bank/pod/ledger-0&wire=nothing")
            .await
            .status(),
        400
    );
}

#[tokio::test]
async fn frames_are_of_the_request_also_where_only_the_failure_kept_them() {
    let served = Served::of(Some(Mesh::bank())).await;
    let asked = "1:bank/payments-6d9f4-0:7:1:15%202:bank/payments-6d9f4-0:7:2:15";
    let well = served.json(&format!("/api/frames?legs={asked}")).await;
    let points = well["points"].as_array().unwrap();
    assert_eq!(points.len(), 2);
    let types: Vec<_> = points[0]["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|frame| frame["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        (types, points[0]["kept"].as_bool()),
        (vec!["SETTINGS", "HEADERS", "DATA", "HEADERS"], Some(false))
    );
    let failed = served.json("/api/frames?legs=2:bank/payments-6d9f4-0:3:2:7").await;
    let point = &failed["points"][0];
    assert_eq!(
        (point["kept"].as_bool(), point["frames"].as_array().unwrap().len()),
        (Some(true), 5)
    );
    let last = point["frames"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (last["type"].as_str(), last["failure"]["reason"].as_str()),
        (Some("RST_STREAM"), Some("failfast"))
    );
    for wrong in ["", "1:web-0:1:1:1", &["1:bank/web-0:1:1:1"; 5].join("%20")] {
        assert_eq!(
            served.get(&format!("/api/frames?legs={wrong}")).await.status(),
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn what_proxies_have_forgotten_is_shown_as_it_was_told() {
    let served = Served::of(Some(Mesh::bank())).await;
    // Every fifth is forgotten at once.
    assert_eq!(
        served
            .get("/api/request?ns=bank&id=payments-6d9f4-0/104")
            .await
            .status(),
        404
    );
    let mut events = served.events("/api/tap/events?of=bank/deploy/payments").await;
    let shown = lines(&mut events, 10).await;
    assert!(
        shown.iter().any(|line| line["id"] == "payments-6d9f4-0/104"),
        "{shown:?}"
    );
    let page = served.json("/api/request?ns=bank&id=payments-6d9f4-0/104").await;
    assert!(
        page["diff"].is_null() && page["notes"][0].as_str().unwrap().contains("forgotten"),
        "{page}"
    );
    assert_eq!(page["summary"]["headers"]["request"][1][0], "authorization");
    assert_eq!(
        served
            .get("/api/request?ns=shop&id=payments-6d9f4-0/104")
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn with_a_token_it_shows_what_the_token_allows_and_says_which_right_lacks() {
    let served = Served::with_token(Some(Mesh::bank()), Some("sheer1.narrow")).await;
    assert_eq!(
        served.get("/api/request?ns=bank&id=payments-6d9f4-0/3").await.status(),
        200
    );
    let frames = served.get("/api/frames?legs=2:bank/payments-6d9f4-0:3:2:7").await;
    let problem = &frames.json()["problem"];
    assert_eq!((frames.status(), problem["kind"].as_str()), (403, Some("forbidden")));
    assert!(problem["what"].as_str().unwrap().contains("`frames`"), "{problem}");
    let map = served.get("/api/map").await;
    assert_eq!(
        (map.status(), map.json()["problem"]["kind"].as_str()),
        (403, Some("forbidden"))
    );
    let mut events = served.events("/api/tap/events?ns=bank").await;
    assert!(lines(&mut events, 3).await.len() >= 3);
}
