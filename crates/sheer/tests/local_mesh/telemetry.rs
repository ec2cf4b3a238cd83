//! Numbers of a running bank: the load generator's own count, the control plane's windows, a Prometheus and the dashboard agree; who talks to whom is known, also
//! outside of the mesh; every metric that a rule or a dashboard names is on a live page.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    dashboard::{Beside, ask},
    harness::{Mesh, User, free_port, pause},
};

/// A client that does nothing by itself, and one without a sidecar.
const CLIENTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: probe, namespace: bank }
spec:
  replicas: 1
  selector: { matchLabels: { app: probe } }
  template:
    metadata: { labels: { app: probe } }
    spec: { containers: [{ name: app, command: [sleep, infinity] }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: outsider, namespace: bank }
spec:
  replicas: 1
  selector: { matchLabels: { app: outsider } }
  template:
    metadata: { labels: { app: outsider }, annotations: { sheer.dev/inject: disabled } }
    spec: { containers: [{ name: app, command: [sleep, infinity] }] }
";

/// Calls of fraud are tried again, so that what is counted of retries is there.
const RETRIES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata:
  name: fraud
  namespace: bank
  annotations: { retry.sheer.dev/grpc: unavailable, retry.sheer.dev/limit: \"1\" }
spec:
  parentRefs: [{ group: \"\", kind: Service, name: fraud, port: 9000 }]
  rules: [{ backendRefs: [{ name: fraud, port: 9000 }] }]
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The bank, clients beside it, and a Prometheus; where that answers.
fn bank() -> (Mesh, String) {
    let mesh = Mesh::new(User::Current);
    assert!(
        mesh.folder().join("bank").exists() && mesh.folder().join("sheer-proxy").exists(),
        "build the sample and the sidecar: cargo build -p bank -p sheer-proxy"
    );
    for entry in fs::read_dir(repository().join("examples/bank/manifests"))
        .expect("the sample")
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).expect("a manifest");
        let published = format!("sheer.dev/publish: \"{}:8080\"", free_port());
        let text = text.replace("sheer.dev/publish: \"18080:8080\"", &published);
        mesh.write(&entry.file_name().to_string_lossy(), &text);
    }
    let port = free_port();
    let prometheus = fs::read_to_string(repository().join("observability/prometheus.yaml")).expect("a manifest");
    mesh.write(
        "prometheus.yaml",
        &prometheus.replace("\"9090:9090\"", &format!("\"{port}:9090\"")),
    );
    mesh.write("clients.yaml", CLIENTS).write("retries.yaml", RETRIES);
    mesh.up();
    (mesh, format!("http://127.0.0.1:{port}"))
}

fn json(mesh: &Mesh, arguments: &[&str]) -> Value {
    let output = mesh.run(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

fn wait_until(from: Instant, since: Duration) {
    while from.elapsed() < since {
        pause();
    }
}

fn close(what: &str, one: f64, other: f64, percent: f64) {
    assert!(
        are_close(what, one, other, percent),
        "{what}: {one} and {other} are more than {percent} % apart"
    );
}

fn are_close(what: &str, one: f64, other: f64, percent: f64) -> bool {
    let off = (one - other).abs() / other.abs().max(f64::MIN_POSITIVE) * 100.0;
    eprintln!("{what}: {one} and {other}, {off:.2} % apart");
    off <= percent
}

/// The row of one workload.
fn row<'a>(rows: &'a Value, name: &str) -> &'a Value {
    let rows = rows.as_array().expect("a list");
    rows.iter()
        .find(|row| row["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

/// A number of a Prometheus, asked with nothing of ours.
fn prometheus(mesh: &Mesh, url: &str, query: &str) -> f64 {
    let curl = ["curl", "-sS", "--fail", "--max-time", "10", "-G", "--data-urlencode"];
    let output = std::process::Command::new(curl[0])
        .args(&curl[1..])
        .arg(format!("query={query}"))
        .arg(format!("{url}/api/v1/query"))
        .output()
        .expect("curl");
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}; {}", mesh.up_log()));
    let values = answer["data"]["result"].as_array().expect("a vector").iter();
    values
        .filter_map(|sample| sample["value"][1].as_str()?.parse::<f64>().ok())
        .sum()
}

/// The metrics page of a workload's sidecar.
fn page(mesh: &Mesh, workload: &str) -> String {
    let output = mesh.run(&[
        "exec",
        "-n",
        "bank",
        workload,
        "--",
        "curl",
        "-sS",
        "http://127.0.0.1:4191/metrics",
    ]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run of the load generator: its own totals.
fn load(mesh: &Mesh, rate: &str, lasting: &str) -> Value {
    let run = [
        "exec",
        "-n",
        "bank",
        "deploy/probe",
        "--",
        "bank",
        "load",
        "--gateway",
        "http://gateway.bank:8080",
        "--rate",
        rate,
        "--for",
        lasting,
        "-o",
        "json",
    ];
    json(mesh, &run)
}

#[test]
fn windows_prometheus_and_the_load_generator_agree() {
    let (mesh, url) = bank();
    let page = Beside::start(&mesh, "page", &["dashboard", "--port", "0"]);
    let page_url = page.url("out");
    // Prometheus has to have seen a series before it grows: what a series begins with is no increase.
    load(&mesh, "20", "2s");
    let quiet = Instant::now();
    wait_until(quiet, Duration::from_secs(10));
    let sent = "sum(response_total{direction=\"outbound\", deployment=\"probe\"})";
    let before = prometheus(&mesh, &url, sent);
    let own = load(&mesh, "40", "25s");
    let ended = Instant::now();
    wait_until(ended, Duration::from_secs(4));
    let scheduled = own["scheduled"].as_f64().expect("a count");
    assert!(scheduled > 900.0, "{own}");

    let window = 36.0;
    let to_gateway = [
        "stat",
        "deploy/probe",
        "-n",
        "bank",
        "--to",
        "svc/gateway",
        "--window",
        "36s",
        "-o",
        "json",
    ];
    let rows = json(&mesh, &to_gateway);
    let told = row(&rows, "probe");
    close(
        "requests by the windows and by the load generator",
        told["rps"].as_f64().expect("a rate") * window,
        scheduled,
        1.0,
    );
    let failures: f64 = own["failed"]
        .as_object()
        .expect("by reason")
        .values()
        .filter_map(Value::as_f64)
        .sum();
    close(
        "successes by the windows and by the load generator",
        told["success_rate"].as_f64().expect("a share"),
        (scheduled - failures) / scheduled,
        1.0,
    );
    the_dashboard_shows_it(&page_url, told, scheduled, (scheduled - failures) / scheduled);
    // Its last scrape may be older than the load's end where the machine is busy.
    let scraped = mesh.wait("Prometheus has scraped the end of the load", || {
        let scraped = prometheus(&mesh, &url, sent) - before;
        (scraped >= scheduled * 0.99).then_some(scraped)
    });
    close(
        "requests by Prometheus and by the load generator",
        scraped,
        scheduled,
        1.0,
    );
    // The generator counts from when a request was due, the proxy from when it came.
    let p50 = told["p50_ms"].as_f64().expect("a latency");
    let own_p50 = own["p50_ms"].as_f64().expect("a latency");
    assert!(
        p50 <= own_p50 * 1.1,
        "{p50} ms in the proxy, {own_p50} ms at the client"
    );

    a_prometheus_that_is_away_is_named(&mesh);
    the_same_numbers_from_a_prometheus(&mesh, &url);
    everybody_is_known(&mesh);
    paths_are_shown(&mesh);
    named_metrics_exist(&mesh, &url);
}

/// What the dashboard shows of the load: the windows' rate, the generator's count and share of successes.
fn the_dashboard_shows_it(url: &str, told: &Value, scheduled: f64, success: f64) {
    let shown = ask(url, "workload?of=bank/deploy/probe&window=36s");
    let of_page = |key: &str| {
        let number = shown["numbers"][key].as_f64();
        number.unwrap_or_else(|| panic!("{key} in {shown:#}"))
    };
    assert_eq!(shown["direction"], "out", "{shown:#}");
    let of_generator = "by the dashboard and by the load generator";
    close(&format!("requests {of_generator}"), of_page("requests"), scheduled, 1.0);
    close(&format!("successes {of_generator}"), of_page("success"), success, 1.0);
    let rate = told["rps"].as_f64().expect("a rate");
    close("rates by the dashboard and by the windows", of_page("rps"), rate, 1.0);
}

/// Who asks a Prometheus that is not there is told so, with what to do.
fn a_prometheus_that_is_away_is_named(mesh: &Mesh) {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for command in ["stat", "edges"] {
        let what: &[&str] = if command == "stat" { &["deploy"] } else { &[] };
        let output = mesh.run(&[&[command], what, &["-n", "bank", "--prometheus", &nowhere]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            said.contains("Prometheus at ") && said.contains(nowhere.trim_start_matches("http://")),
            "{said}"
        );
    }
}

/// `sheer stat` of the steady load, from the windows and from a Prometheus.
fn the_same_numbers_from_a_prometheus(mesh: &Mesh, url: &str) {
    // What the load before did has left both windows.
    wait_until(Instant::now(), Duration::from_secs(22));
    let stat = ["stat", "deploy", "-n", "bank", "--window", "20s", "-o", "json"];
    let promised = [
        "meshed",
        "mtls_share",
        "name",
        "namespace",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "rps",
        "success_rate",
        "tcp_connections",
    ];
    // Windows of two moments are the same only of a load that is steady, which it is not where the machine is busy for a second.
    let windows = mesh.wait("windows and a Prometheus tell the same of a steady load", || {
        let windows = json(mesh, &stat);
        let scraped = json(mesh, &[&stat[..], &["--prometheus", url]].concat());
        let row_of_ledger = row(&windows, "ledger").as_object().expect("an object");
        let mut names: Vec<_> = row_of_ledger.keys().cloned().collect();
        names.sort();
        assert_eq!(names, promised);
        // These get a fixed share of a fixed load; who is asked by chance (fx) is not to be compared over windows of some seconds.
        let all = ["gateway", "payments", "load"];
        let same = all.map(|name| same_numbers(name, row(&windows, name), row(&scraped, name)));
        same.iter().all(|same| *same).then_some(windows)
    });
    assert_eq!(row(&windows, "ledger")["meshed"], "3/3");
    assert_eq!(row(&windows, "outsider")["meshed"], "0/1");
    let edges = [
        "edges",
        "-n",
        "bank",
        "--from",
        "deploy/payments",
        "--window",
        "20s",
        "-o",
        "json",
    ];
    let names = |edges: &Value| -> BTreeSet<String> {
        let edges = edges.as_array().expect("a list").iter();
        edges
            .filter_map(|edge| Some(edge["destination"]["name"].as_str()?.to_owned()))
            .collect()
    };
    let (windows, scraped) = (
        json(mesh, &edges),
        json(mesh, &[&edges[..], &["--prometheus", url]].concat()),
    );
    assert!(names(&windows).contains("ledger"), "{windows:#}");
    assert_eq!(names(&windows), names(&scraped));
    let misuse = mesh.run(&["stat", "deploy/nobody", "-n", "bank"]);
    assert_eq!(misuse.status.code(), Some(2), "{misuse:?}");
}

/// Whether a workload's row from the windows and that from a Prometheus say the same.
fn same_numbers(name: &str, own: &Value, other: &Value) -> bool {
    assert_eq!(own["mtls_share"], 1.0, "{own}");
    assert_eq!(other["mtls_share"], 1.0, "{other}");
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
    let are_close = |key: &str, percent| {
        are_close(
            &format!("{key} of {name}"),
            number(own, key),
            number(other, key),
            percent,
        )
    };
    let (rates, successes) = (are_close("rps", 3.0), are_close("success_rate", 1.0));
    // Prometheus has Linkerd's buckets: a quantile is somewhere between two of their bounds.
    let (p50, bucketed) = (number(own, "p50_ms"), number(other, "p50_ms"));
    eprintln!("p50 of {name}: {p50} and {bucketed}");
    rates && successes && same_bucket(p50, bucketed)
}

/// Whether two latencies are in, or beside, the same of Linkerd's buckets.
fn same_bucket(one: f64, other: f64) -> bool {
    const BOUNDS: [f64; 16] = [
        1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1_000.0,
    ];
    let bucket = |ms: f64| BOUNDS.partition_point(|bound| *bound < ms);
    bucket(one).abs_diff(bucket(other)) <= 1
}

/// Edges: mutual TLS within, a client without a sidecar, an address outside, bytes that are no HTTP.
fn everybody_is_known(mesh: &Mesh) {
    let exec = |workload: &str, script: &str| mesh.run(&["exec", "-n", "bank", workload, "--", "sh", "-c", script]);
    exec("deploy/outsider", "curl -sS http://gateway.bank:8080/healthz");
    // Nobody is there: a host that the mesh does not know, and the proxy's own failure.
    exec(
        "deploy/probe",
        "curl -sS --max-time 3 -H 'host: api.example.org' http://10.77.255.254:81/ || true",
    );
    let edges = mesh.wait("all edges are told", || {
        let edges = json(mesh, &["edges", "-n", "bank", "-o", "json"]);
        let from = |name: &str| {
            edges
                .as_array()
                .is_some_and(|all| all.iter().any(|edge| edge["source"]["name"] == name))
        };
        (from("outsider") && from("payments")).then_some(edges)
    });
    let find = |source: &str, destination: &str| {
        let all = edges.as_array().expect("a list").iter();
        let is = |edge: &&Value| edge["source"]["name"] == source && edge["destination"]["name"] == destination;
        all.into_iter()
            .find(is)
            .unwrap_or_else(|| panic!("{source} → {destination} in {edges:#}"))
    };
    let within = find("payments", "ledger");
    assert_eq!(
        [&within["tls"], &within["protocols"][0], &within["seen_by"]],
        ["mutual", "grpc", "client"]
    );
    let identity = within["source_identity"].as_str().expect("an identity");
    assert!(identity.starts_with("payments.bank.serviceaccount."), "{identity}");
    let plain = find("outsider", "gateway");
    assert_eq!(
        [&plain["tls"], &plain["seen_by"], &plain["why"]],
        ["none", "server", "outsider has no sidecar"]
    );
}

fn paths_are_shown(mesh: &Mesh) {
    let paths = json(mesh, &["top", "-n", "bank", "--window", "4s", "-o", "json"]);
    let all = paths.as_array().expect("a list");
    let find = |path: &str| {
        all.iter()
            .find(|row| row["path"] == path)
            .unwrap_or_else(|| panic!("{path} in {paths:#}"))
    };
    let payments = find("/v1/payments");
    assert_eq!([&payments["method"], &payments["source"]], ["POST", "bank/deploy/load"]);
    assert!(payments["rps"].as_f64().is_some_and(|rps| rps > 5.0), "{payments}");
    assert!(
        all.iter()
            .any(|row| row["path"].as_str().is_some_and(|path| path.starts_with("/bank.v1."))),
        "{paths:#}"
    );
}

/// Every metric that a rule or a dashboard names is on the page of some sidecar.
fn named_metrics_exist(mesh: &Mesh, url: &str) {
    // Failures that are tried again until there is no budget or the limit is reached; calls that a client gives up; a body that waits for a window.
    let exec =
        |workload: &str, script: &str| drop(mesh.run(&["exec", "-n", "bank", workload, "--", "sh", "-c", script]));
    exec("deploy/fraud", "bank fault local --errors 1 --for 8s");
    exec("deploy/accounts", "bank fault local --hang 1 --for 4s");
    let failing = Instant::now();
    exec(
        "deploy/probe",
        "curl -sS --max-time 1 http://gateway.bank:8080/v1/accounts/ACC-0001 || true",
    );
    exec(
        "deploy/probe",
        "head -c 4000000 /dev/zero | curl -sS --max-time 5 --data-binary @- http://gateway.bank:8080/v1/payments || true",
    );
    wait_until(failing, Duration::from_secs(9));
    let pages = [
        "deploy/load",
        "deploy/gateway",
        "deploy/payments",
        "deploy/fraud",
        "deploy/probe",
    ]
    .map(|workload| page(mesh, workload));
    let lines = pages
        .iter()
        .flat_map(|page| page.lines())
        .filter(|line| !line.starts_with('#'));
    let live: BTreeSet<&str> = lines.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let folder = repository().join("observability");
    let mut named = BTreeSet::new();
    for file in [
        "dashboards/mesh.json",
        "dashboards/workload.json",
        "dashboards/service.json",
    ] {
        let board: Value =
            serde_json::from_str(&fs::read_to_string(folder.join(file)).expect("a dashboard")).expect("JSON");
        let panels = board["panels"].as_array().expect("panels").iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let queries: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
        assert!(queries.len() > 10, "{file}");
        queries.iter().for_each(|query| named.extend(families(query)));
    }
    for file in ["rules/recording.yml", "rules/alerts.yml"] {
        named.extend(families(&fs::read_to_string(folder.join(file)).expect("rules")));
    }
    assert!(named.len() > 25, "{named:?}");
    let missing: Vec<&String> = named.iter().filter(|name| !live.contains(name.as_str())).collect();
    assert_eq!(
        missing,
        Vec::<&String>::new(),
        "named by rules or dashboards, and on no page"
    );
    assert!(prometheus(mesh, url, "count(up == 1)") >= 12.0);
}

/// Names of metrics in a query: words that are followed by a selector and begin as families do.
fn families(text: &str) -> BTreeSet<String> {
    const BEGINNINGS: [&str; 12] = [
        "request_",
        "response_",
        "route_",
        "tcp_",
        "inbound_",
        "outbound_",
        "control_",
        "sheer_",
        "process_",
        "proxy_",
        "tokio_",
        "rustls_",
    ];
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    // Labels and texts have none of these; families of ours end as Prometheus wants it.
    let is_family = |word: &&str| {
        BEGINNINGS.iter().any(|beginning| word.starts_with(beginning))
            && [
                "_total",
                "_bucket",
                "_seconds",
                "_bytes",
                "_connections",
                "_endpoints",
                "_info",
                "_connected",
                "_length",
            ]
            .iter()
            .any(|end| word.ends_with(end))
    };
    words.filter(is_family).map(str::to_owned).collect()
}

#[test]
fn rules_are_good_and_fire_where_they_should() {
    let folder = repository().join("observability/rules");
    for arguments in [
        &["check", "rules", "recording.yml", "alerts.yml"][..],
        &["test", "rules", "tests.yml"],
    ] {
        let output = std::process::Command::new("promtool")
            .args(arguments)
            .current_dir(&folder)
            .output();
        let output = output.expect("promtool, of Debian's package prometheus: `make setup-test` installs it");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    // Each rule has a test of its own.
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let (alerts, tests) = (read("alerts.yml"), read("tests.yml"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untested: Vec<&str> = names
        .filter(|name| !tests.contains(&format!("alertname: {name}")))
        .collect();
    assert_eq!(untested, Vec::<&str>::new());
}
