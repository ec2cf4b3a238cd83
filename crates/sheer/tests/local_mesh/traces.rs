//! Traces of the bank, from end to end: one payment over all services, the hop that failed, retries, the collector, the access log, and an
//! application that loses contexts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Mesh, User, meshed_client, meshed_web};

/// What a payment crosses.
pub(crate) const BANK: [&str; 8] = [
    "accounts", "audit", "fraud", "fx", "gateway", "ledger", "notify", "payments",
];

/// Where `tools/setup.sh test` puts what tests need.
pub(crate) fn tool(name: &str) -> PathBuf {
    let cache = std::env::var_os("SHEER_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"))
            .join("sheer")
    });
    let path = cache.join("tools/bin").join(name);
    assert!(
        path.exists(),
        "{} is not there: run tools/setup.sh test",
        path.display()
    );
    path
}

/// The bank without its own load, in a namespace with these annotations.
pub(crate) fn bank(mesh: &Mesh, annotations: &[&str]) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bank/manifests");
    for name in BANK {
        let text = fs::read_to_string(from.join(format!("{name}.yaml"))).expect("a manifest of the bank");
        // Nobody calls from outside, and another mesh may have the port.
        let text: String = text
            .lines()
            .filter(|line| !line.contains("sheer.dev/publish"))
            .map(|line| format!("{line}\n"))
            .collect();
        let text = if name == "ledger" {
            text.replacen(
                "kind: Service\nmetadata:\n",
                "kind: Service\nmetadata:\n  annotations: { retry.sheer.dev/grpc: unavailable, retry.sheer.dev/limit: \"3\" }\n",
                1,
            )
        } else {
            text.replace("      annotations:\n    spec:", "    spec:")
        };
        mesh.write(&format!("{name}.yaml"), &text);
    }
    mesh.write("bank.yaml", &namespace("bank", annotations));
}

/// A namespace whose sidecars are told something.
pub(crate) fn namespace(name: &str, annotations: &[&str]) -> String {
    let annotations: String = annotations
        .iter()
        .map(|annotation| format!("    config.sheer.dev/{annotation}\n"))
        .collect();
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  annotations:\n{annotations}")
}

fn collector(mesh: &Mesh, program: &Path) {
    let text = format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: collector, namespace: tracing }}
spec: {{ selector: {{ app: collector }}, ports: [{{ name: grpc, port: 4317 }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: collector, namespace: tracing }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: collector }} }}
  template:
    metadata: {{ labels: {{ app: collector }}, annotations: {{ sheer.dev/inject: disabled }} }}
    spec:
      containers:
        - name: collector
          command: [{program}, -grpc, "0.0.0.0:4317", -http, "0.0.0.0:4318", -out, {out}]
          ports: [{{ name: grpc, containerPort: 4317 }}]
"#,
        program = program.display(),
        out = mesh.folder().join("otlp.json").display(),
    );
    mesh.write("collector.yaml", &text);
}

/// Pays, from a pod with a sidecar; the HTTP status.
fn pay(mesh: &Mesh, key: &str) -> String {
    let order = r#"{"payer":"ACC-0001","payee":"ACC-0002","amount_minor":1500,"currency":"USD"}"#;
    let curl = format!(
        "curl -s -o /dev/null -w '%{{http_code}}' -X POST -H 'content-type: application/json' -H 'idempotency-key: {key}' \
         -d '{order}' http://gateway.bank:8080/v1/payments"
    );
    mesh.shell("client", &curl)
}

pub(crate) fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

/// Ids of the traces that a search finds.
fn ids(mesh: &Mesh, search: &[&str]) -> Vec<String> {
    let list = [&["trace", "list", "-o", "json", "--limit", "200"], search].concat();
    let found = json(mesh.sheer(&list).as_bytes());
    let traces = found["traces"].as_array().expect("a list");
    traces
        .iter()
        .map(|trace| trace["trace_id"].as_str().expect("an id").to_owned())
        .collect()
}

pub(crate) fn show(mesh: &Mesh, id: &str) -> Value {
    json(&mesh.run(&["trace", "show", id, "-o", "json"]).stdout)
}

pub(crate) fn tree(trace: &Value) -> &Vec<Value> {
    trace["tree"].as_array().expect("spans")
}

/// A trace that is whole: every call of a caller's proxy has the callee's span below it, from another pod.
fn is_joined(trace: &Value) -> bool {
    let spans = tree(trace);
    let parent = |span: &Value| span["parent"].as_u64().map(|at| &spans[at as usize]);
    let roots = spans.iter().filter(|span| span["parent"].is_null()).count();
    let answered = |at: usize| {
        let mut below = spans.iter().filter(|span| span["parent"].as_u64() == Some(at as u64));
        below.any(|span| span["kind"] == "server" && span["pod"] != spans[at]["pod"])
    };
    let servers = spans.iter().filter(|span| span["kind"] == "server");
    roots == 1
        && (0..spans.len()).all(|at| spans[at]["kind"] != "client" || answered(at))
        && servers
            .into_iter()
            .all(|span| parent(span).is_some_and(|parent| parent["kind"] == "client"))
}

/// How long spans of one trace may be apart on their way to the control plane.
const WHOLE: Duration = Duration::from_secs(10);

/// Pays until a payment has a trace that is like that, and whole.
pub(crate) fn payment(mesh: &Mesh, what: &str, search: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
    let (mut number, mut seen) = (0, BTreeMap::new());
    mesh.wait(what, || {
        number += 1;
        pay(mesh, &format!("{what}-{number}"));
        ids(mesh, search).into_iter().find_map(|id| {
            // What does not fit may do so once all of it is there.
            let first = *seen.entry(id.clone()).or_insert_with(Instant::now);
            let trace = (first.elapsed() < WHOLE).then(|| show(mesh, &id))?;
            (is_so(&trace) && is_joined(&trace)).then_some(trace)
        })
    })
}

/// The pod that answered in a trace.
pub(crate) fn pod<'a>(trace: &'a Value, workload: &str) -> &'a str {
    let mut spans = tree(trace).iter();
    let answered = spans.find(|span| span["kind"] == "server" && span["workload"] == workload);
    answered.and_then(|span| span["pod"].as_str()).expect("a pod")
}

fn workloads(trace: &Value) -> BTreeSet<String> {
    let names = trace["workloads"].as_array().expect("a list").iter();
    names
        .map(|name| {
            name.as_str()
                .expect("a name")
                .rsplit('/')
                .next()
                .expect("a part")
                .to_owned()
        })
        .collect()
}

fn a_payment_is_one_trace(mesh: &Mesh) -> String {
    let all: BTreeSet<String> = BANK
        .iter()
        .map(|name| (*name).to_owned())
        .chain(["client".to_owned()])
        .collect();
    let trace = payment(
        mesh,
        "a payment over all services",
        &["--service", "gateway"],
        |trace| workloads(trace) == all,
    );
    let spans = tree(&trace);
    assert_eq!(spans[0]["workload"], "pod/client", "{trace:#}");
    assert_eq!(
        (&spans[0]["kind"], &spans[1]["workload"]),
        (&"client".into(), &"deploy/gateway".into())
    );
    assert_eq!((&trace["failed"], &trace["culprit"]), (&false.into(), &Value::Null));
    // Who called whom.
    let calls: BTreeSet<(&str, &str)> = spans
        .iter()
        .filter(|span| span["kind"] == "server")
        .map(|span| {
            let parent = &spans[span["parent"].as_u64().expect("a parent") as usize];
            let short = |span: &'_ Value| {
                span["workload"]
                    .as_str()
                    .expect("a name")
                    .rsplit('/')
                    .next()
                    .map(str::to_owned)
            };
            (short(parent).expect("a part"), short(span).expect("a part"))
        })
        .map(|(from, to)| (&*from.leak(), &*to.leak()))
        .collect();
    let expected = BTreeSet::from([
        ("client", "gateway"),
        ("gateway", "payments"),
        ("payments", "accounts"),
        ("payments", "fraud"),
        ("fraud", "fx"),
        ("payments", "ledger"),
        ("payments", "audit"),
        ("payments", "notify"),
    ]);
    assert_eq!(calls, expected);
    let whole = trace["duration_ms"].as_f64().expect("a time");
    for span in spans {
        let shares = &span["shares"];
        let sum: u64 = ["caller_proxy_us", "network_us", "callee_proxy_us", "application_us"]
            .iter()
            .map(|part| shares[*part].as_u64().expect("a time"))
            .sum();
        let long = span["duration_ms"].as_f64().expect("a time");
        assert!(
            long <= whole && (span["kind"] == "internal" || (sum as f64 / 1e3 - long).abs() < 0.02),
            "{span:#}"
        );
        assert_eq!(span["attributes"]["sheer.mtls"], true, "{span:#}");
    }
    let drawn = mesh.sheer(&["trace", "show", trace["trace_id"].as_str().expect("an id")]);
    assert!(
        drawn.contains("payments → ledger  bank.v1.Ledger/Post") && !drawn.contains('\x1b'),
        "{drawn}"
    );
    trace["trace_id"].as_str().expect("an id").to_owned()
}

fn the_failing_hop_is_named(mesh: &Mesh) {
    let fault = |arguments: &str| {
        mesh.shell(
            "deploy/fx",
            &format!("{}/bank fault local {arguments}", mesh.folder().display()),
        )
    };
    assert!(fault("--errors 1").contains("fx"), "the fault is on");
    let trace = payment(
        mesh,
        "a payment that fails at fx",
        &["--failed", "--service", "gateway"],
        |trace| trace["failed_at"] == "bank/deploy/fx",
    );
    let culprit = &tree(&trace)[trace["culprit"].as_u64().expect("a culprit") as usize];
    assert_eq!(
        (&culprit["workload"], &culprit["kind"]),
        (&"deploy/fx".into(), &"server".into()),
        "{trace:#}"
    );
    assert_eq!(culprit["attributes"]["rpc.grpc.status_code"], 14);
    let shown = mesh.run(&["trace", "show", trace["trace_id"].as_str().expect("an id")]);
    assert_eq!(shown.status.code(), Some(1), "a finding");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("◀ failed here"));
    assert!(!ids(mesh, &["--status", "UNAVAILABLE", "--within", "5m"]).is_empty());
    fault("--clear");
}

fn retries_are_children(mesh: &Mesh) {
    // A pod that payments go to: one that was slow to start may have no traffic for a while.
    let before = payment(mesh, "a payment", &["--service", "ledger"], |trace| {
        trace["http_status"] == 201
    });
    let pod = pod(&before, "deploy/ledger");
    let fault = |arguments: &str| {
        mesh.shell(
            &format!("pod/{pod}"),
            &format!("{}/bank fault local {arguments}", mesh.folder().display()),
        )
    };
    assert!(fault("--errors 1").contains(pod), "the fault is on");
    let several = |trace: &Value| {
        let mut spans = tree(trace).iter();
        trace["http_status"] == 201 && spans.any(|span| span["kind"] == "internal")
    };
    let trace = payment(
        mesh,
        "a payment whose posting was tried again",
        &["--service", "ledger"],
        several,
    );
    let spans = tree(&trace);
    let at = spans
        .iter()
        .position(|span| span["kind"] == "internal")
        .expect("a request of several attempts");
    assert_eq!(
        (&spans[at]["workload"], &spans[at]["failed"]),
        (&"deploy/payments".into(), &false.into()),
        "{trace:#}"
    );
    let attempts: Vec<&Value> = spans
        .iter()
        .filter(|span| span["parent"].as_u64() == Some(at as u64))
        .collect();
    assert!(attempts.len() >= 2, "{trace:#}");
    let (last, before) = attempts.split_last().expect("some");
    assert!(
        before
            .iter()
            .all(|attempt| attempt["failed"] == true && attempt["attributes"]["rpc.grpc.status_code"] == 14)
    );
    assert_eq!(
        (&last["failed"], &last["attributes"]["http.request.resend_count"]),
        (&false.into(), &(attempts.len() - 1).into())
    );
    fault("--clear");
}

fn the_collector_has_it_too(mesh: &Mesh, id: &str) {
    let names = mesh.wait("the collector has the trace", || {
        let text = fs::read_to_string(mesh.folder().join("otlp.json")).unwrap_or_default();
        let mut names = BTreeSet::new();
        for line in text.lines().filter(|line| line.contains(id)) {
            let request: Value = serde_json::from_str(line).ok()?;
            for of_resource in request["resourceSpans"].as_array()? {
                let attributes = of_resource["resource"]["attributes"].as_array()?;
                let name = attributes.iter().find(|attribute| attribute["key"] == "service.name")?;
                names.insert(name["value"]["stringValue"].as_str()?.to_owned());
            }
        }
        (names.len() >= BANK.len()).then_some(names)
    });
    assert!(BANK.iter().all(|name| names.contains(*name)), "{names:?}");
}

fn the_access_log_names_the_trace(mesh: &Mesh, id: &str) {
    let log = mesh.sheer(&[
        "logs",
        "-n",
        "bank",
        "-c",
        "sheer-proxy",
        "deploy/payments",
        "--tail",
        "10000",
    ]);
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok())
        .filter(|line: &Value| line["direction"].is_string())
        .collect();
    assert!(
        lines.iter().all(|line| line["direction"] == "inbound"),
        "the filter holds: {log}"
    );
    let line = lines.iter().find(|line| line["trace_id"] == id);
    let line = line.unwrap_or_else(|| panic!("{id} is not in the access log:\n{log}"));
    assert_eq!(
        (&line["uri"], &line["grpc_status"]),
        (&"/bank.v1.Payments/Pay".into(), &0.into())
    );
    assert_eq!(
        line["client.id"],
        "gateway.bank.serviceaccount.identity.sheer.cluster.local"
    );
    assert!(
        line["total_ns"].as_u64() > line["first_byte_ns"].as_u64() || line["total_ns"] == line["first_byte_ns"],
        "{line}"
    );
}

#[test]
fn a_payment_is_one_trace_over_all_services() {
    let mesh = Mesh::new(User::Current);
    collector(&mesh, &tool("otel-receiver"));
    bank(
        &mesh,
        &[
            "trace-collector: collector.tracing:4317",
            "access-log: json",
            r#"access-log-filter: direction == inbound && path != "/healthz""#,
        ],
    );
    mesh.write("client.yaml", &meshed_client()).up();
    let id = a_payment_is_one_trace(&mesh);
    the_access_log_names_the_trace(&mesh, &id);
    the_collector_has_it_too(&mesh, &id);
    the_failing_hop_is_named(&mesh);
    retries_are_children(&mesh);
}

/// Asks another service for each request, and passes nothing on.
const RELAY: &str = r#"
import http.server, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = urllib.request.urlopen("http://web.shop/").read()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

fn relay() -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: relay, namespace: shop }}
spec: {{ selector: {{ app: relay }}, ports: [{{ name: http, port: 80, targetPort: 8080 }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: relay, namespace: shop }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: relay }} }}
  template:
    metadata: {{ labels: {{ app: relay }} }}
    spec:
      containers:
        - name: relay
          command: [/usr/bin/python3, -c, {script}]
          ports: [{{ name: http, containerPort: 8080 }}]
"#,
        script = serde_json::to_string(RELAY).expect("a string"),
    )
}

#[test]
fn who_loses_contexts_is_named_and_the_mesh_is_well_all_the_same() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("relay.yaml", &relay())
        .write("client.yaml", &meshed_client())
        .up();
    let traced = "curl -s -o /dev/null -H 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' http://relay.shop/";
    let ask =
        format!("until curl -s -o /dev/null http://relay.shop/; do :; done; for i in $(seq 40); do {traced}; done");
    mesh.shell("client", &ask);
    let found = mesh.wait("the finding", || {
        let check = mesh.run(&["check", "-o", "json"]);
        assert_eq!(check.status.code(), Some(0), "a warning is no failure");
        let text = String::from_utf8_lossy(&check.stdout).into_owned();
        text.contains("traces break in").then_some(text)
    });
    assert!(
        found.contains("traces break in shop/deploy/relay") && found.contains("web.shop"),
        "{found}"
    );
    assert!(!found.contains("traces break in shop/deploy/web"), "{found}");
    // The trace ends where the context was lost.
    let trace = show(&mesh, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(
        workloads(&trace),
        BTreeSet::from(["client".to_owned(), "relay".to_owned()])
    );
}
