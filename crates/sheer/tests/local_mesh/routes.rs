//! Routes that users write, with real sidecars: what a route says happens, counted by the applications and by the sidecars alike; what the commands
//! say of it; and an edit under load.

use std::{
    collections::BTreeMap,
    fs,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Mesh, User, meshed_client, meshed_web};

/// What an edit may take until a client sees it.
const LIMIT_MS: u64 = 1_000;
/// How long the kernel's and the sidecars' part of a fast answer may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Answers with its version, and notes every request in a file of that name. `/slow` takes its time, `/flaky` answers well the third time.
const SERVER: &str = r#"
import http.server, json, os, socket, threading, time
version = os.environ["VERSION"]
out = open("served-" + version, "a", buffering=1)
tries, lock = {}, threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = 200
        if self.path.startswith("/slow"): time.sleep(3)
        if self.path.startswith("/flaky"):
            with lock:
                tries[self.path] = tries.get(self.path, 0) + 1
                status = 200 if tries[self.path] > 2 else 503
        if self.path != "/healthz": print(self.path, status, file=out)
        body = json.dumps({"version": version, "path": self.path, "team": self.headers.get("x-team"), "host": self.headers.get("host")}).encode()
        try:
            self.send_response(status); self.send_header("content-length", str(len(body))); self.send_header("x-server", version)
            self.end_headers(); self.wfile.write(body)
        except OSError: pass
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # Of both families.
    address_family = socket.AF_INET6
Server(("::", 8080), Handler).serve_forever()
"#;

/// Asks for paths one after the other over one connection, and prints status, time and what came of each, as JSON.
const ASK: &str = r#"
import http.client, json, sys, time
connection, answers = None, []
for line in sys.argv[2:]:
    path, _, headers = line.partition(" ")
    headers = dict(pair.split("=", 1) for pair in headers.split()) if headers else {}
    if connection is None: connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=20)
    began = time.time()
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
    except Exception as error:
        answers.append({"status": 0, "error": repr(error)}); connection = None
        continue
    try: said = json.loads(body)
    except ValueError: said = {}
    answers.append({"status": response.status, "ms": int((time.time() - began) * 1000), "headers": {k.lower(): v for k, v in response.getheaders()}, **said})
    if (response.getheader("connection") or "").lower() == "close": connection = None
print(json.dumps(answers))
"#;

/// The workload of one version, and its Service.
fn version(version: &str) -> String {
    let server = serde_json::to_string(SERVER).expect("a string");
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: {version}, namespace: shop }}
spec: {{ selector: {{ app: {version} }}, ports: [{{ name: http, port: 80, targetPort: http }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {version}, namespace: shop }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: {version} }} }}
  template:
    metadata: {{ labels: {{ app: {version} }} }}
    spec:
      containers:
        - name: app
          command: [/usr/bin/python3, -c, {server}]
          env: [{{ name: VERSION, value: {version} }}]
          ports: [{{ name: http, containerPort: 8080 }}]
          readinessProbe: {{ httpGet: {{ path: /healthz, port: http }}, periodSeconds: 1 }}
"#
    )
}

/// The Service that clients ask for: `web-v1` stands behind it.
const WEB: &str = "---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web-v1 }, ports: [{ name: http, port: 80, targetPort: http }] }
";

/// `edited` is where `/edit` goes.
fn routes(edited: &str) -> String {
    format!(
        "# Of the shop.
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: shop, namespace: shop }}
spec:
  parentRefs: [{{ group: '', kind: Service, name: web }}]
  rules:
  - matches: [{{ headers: [{{ name: x-canary, value: 'yes' }}] }}]
    filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {{ set: [{{ name: x-team, value: canary }}] }} }}]
    backendRefs: [{{ name: web-v2, port: 80 }}]
  - matches: [{{ path: {{ value: /split }} }}]
    backendRefs: [{{ name: web-v1, port: 80, weight: 3 }}, {{ name: web-v2, port: 80, weight: 1 }}]
  - matches: [{{ path: {{ value: /slow }} }}]
    timeouts: {{ request: 300ms }}
    backendRefs: [{{ name: web-v1, port: 80 }}]
  - matches: [{{ path: {{ value: /flaky }} }}]
    retry: {{ codes: [503], attempts: 3, backoff: 10ms }}
    backendRefs: [{{ name: web-v1, port: 80 }}]
  - matches: [{{ path: {{ value: /old }} }}]
    filters: [{{ type: RequestRedirect, requestRedirect: {{ statusCode: 301, path: {{ type: ReplacePrefixMatch, replacePrefixMatch: /new }} }} }}]
  - matches: [{{ path: {{ value: /back-door }} }}]
    filters: [{{ type: URLRewrite, urlRewrite: {{ path: {{ type: ReplacePrefixMatch, replacePrefixMatch: /admin }} }} }}]
    backendRefs: [{{ name: web-v1, port: 80 }}]
  - matches: [{{ path: {{ value: /edit }} }}]
    backendRefs: [{{ name: {edited}, port: 80 }}]
  - backendRefs: [{{ name: web-v1, port: 80 }}]
"
    )
}

/// Everybody may ask for everything of `web-v1` but `/admin`, which is for the friend.
const ACCESS: &str = "
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web-v1 } }, port: http }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: admin, namespace: shop }
spec:
  parentRefs: [{ group: policy.sheer.dev, kind: Server, name: web }]
  rules: [{ matches: [{ path: { value: /admin } }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: open, namespace: shop }
spec:
  parentRefs: [{ group: policy.sheer.dev, kind: Server, name: web }]
  rules:
  - filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-guarded, value: by-sheer }], remove: [x-server] } }]
---
apiVersion: policy.sheer.dev/v1alpha1
kind: NetworkAuthentication
metadata: { name: everywhere, namespace: shop }
spec: { networks: [{ cidr: 0.0.0.0/0 }, { cidr: '::/0' }] }
---
apiVersion: policy.sheer.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: everybody, namespace: shop }
spec:
  targetRef: { group: gateway.networking.k8s.io, kind: HTTPRoute, name: open }
  requiredAuthenticationRefs: [{ group: policy.sheer.dev, kind: NetworkAuthentication, name: everywhere }]
---
apiVersion: policy.sheer.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: friends, namespace: shop }
spec:
  targetRef: { group: gateway.networking.k8s.io, kind: HTTPRoute, name: admin }
  requiredAuthenticationRefs: [{ kind: ServiceAccount, name: friend }]
";

fn mesh() -> Mesh {
    let mesh = Mesh::new(User::Current);
    // Of the harness's: that the sidecar is there.
    drop(meshed_web(1));
    let friend = meshed_client()
        .replace("name: client", "name: friend")
        .replace("spec: { containers", "spec: { serviceAccountName: friend, containers");
    mesh.write("v1.yaml", &version("web-v1"))
        .write("v2.yaml", &version("web-v2"))
        .write("web.yaml", WEB)
        .write("routes.yaml", &routes("web-v1"))
        .write("access.yaml", ACCESS)
        .write("client.yaml", &meshed_client())
        .write("friend.yaml", &friend)
        .up();
    fs::write(mesh.folder().join("ask.py"), ASK).expect("written");
    mesh
}

/// What comes of requests for paths, each with headers behind it, from a pod.
fn ask(mesh: &Mesh, from: &str, asked: &[&str]) -> Vec<Value> {
    let quoted: Vec<String> = asked.iter().map(|line| format!("'{line}'")).collect();
    let said = mesh.shell(from, &format!("/usr/bin/python3 ask.py web {}", quoted.join(" ")));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// How many requests for paths that begin so a version has served, by its own notes.
fn served(mesh: &Mesh, version: &str, path: &str) -> u64 {
    let notes = fs::read_to_string(mesh.folder().join(format!("served-{version}"))).unwrap_or_default();
    notes.lines().filter(|line| line.starts_with(path)).count() as u64
}

/// What the sidecar of a pod counted, over all series that have these labels.
fn counted(mesh: &Mesh, pod: &str, name: &str, labels: &[&str]) -> u64 {
    let page = mesh.shell(pod, "curl -sS --max-time 5 http://127.0.0.1:4191/metrics");
    let start = format!("{name}{{");
    let lines = page
        .lines()
        .filter(|line| line.starts_with(&start) && labels.iter().all(|label| line.contains(label)));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

#[test]
fn what_a_route_says_happens() {
    let mesh = mesh();

    // A header, and what the rule's filter makes of the request.
    let canary = ask(
        &mesh,
        "client",
        &["/a x-canary=yes", "/a x-canary=no", "/a x-canary=yes"],
    );
    let said: Vec<_> = canary
        .iter()
        .map(|one| (one["version"].clone(), one["team"].clone()))
        .collect();
    assert_eq!(
        said,
        [
            ("web-v2".into(), "canary".into()),
            ("web-v1".into(), Value::Null),
            ("web-v2".into(), "canary".into())
        ]
    );

    // A split, by the applications' count and the sidecar's.
    const SPLIT: usize = 400;
    let split = ask(&mesh, "client", &["/split"; SPLIT]);
    assert!(split.iter().all(|one| one["status"] == 200), "{split:?}");
    let by = ["web-v1", "web-v2"].map(|version| served(&mesh, version, "/split"));
    assert_eq!(by[0] + by[1], SPLIT as u64);
    // A quarter of 400 is 100, give or take 8.7: six times that happens to nobody.
    assert!((48..=152).contains(&by[1]), "{by:?}");
    for (version, served) in ["web-v1", "web-v2"].into_iter().zip(by) {
        let labels = [
            "route_name=\"shop\"",
            "route_rule=\"1\"",
            &format!("backend_name=\"{version}\""),
        ];
        let sent = counted(&mesh, "client", "outbound_http_route_backend_requests_total", &labels);
        assert_eq!(sent, served, "{version}");
    }

    // A timeout, a retry, a redirect.
    let [slow, flaky, old] = &ask(&mesh, "client", &["/slow", "/flaky", "/old/a?b=c"])[..] else {
        panic!()
    };
    assert_eq!(
        (&slow["status"], &slow["headers"]["sheer-reason"]),
        (&504.into(), &"timeout-request".into())
    );
    assert!((300..2_500).contains(&slow["ms"].as_u64().expect("a time")), "{slow}");
    assert_eq!((&flaky["status"], served(&mesh, "web-v1", "/flaky")), (&200.into(), 3));
    let of_rule = ["route_name=\"shop\"", "route_rule=\"3\""];
    let retries = counted(&mesh, "client", "outbound_http_route_retry_requests_total", &of_rule);
    let well = counted(&mesh, "client", "outbound_http_route_retry_successes_total", &of_rule);
    assert_eq!((retries, well), (2, 1));
    assert_eq!(
        (&old["status"], &old["headers"]["location"]),
        (&301.into(), &"http://web/new/a?b=c".into())
    );
    assert_eq!(served(&mesh, "web-v1", "/old"), 0);

    // Who may ask for what, by route; and what the receiving side's filter makes of a response.
    let open = &ask(&mesh, "client", &["/books"])[0];
    assert_eq!(
        (
            &open["status"],
            &open["headers"]["x-guarded"],
            &open["headers"]["x-server"]
        ),
        (&200.into(), &"by-sheer".into(), &Value::Null)
    );
    for (from, path, status) in [
        ("client", "/admin/x", 403),
        ("friend", "/admin/x", 200),
        ("client", "/back-door/x", 403),
        ("friend", "/back-door/x", 200),
    ] {
        assert_eq!(ask(&mesh, from, &[path])[0]["status"], status, "{from} {path}");
    }
    assert_eq!(served(&mesh, "web-v1", "/admin"), 2);
    let denied = counted(
        &mesh,
        "deploy/web-v1",
        "inbound_http_authz_deny_total",
        &["route_name=\"admin\""],
    );
    assert_eq!(denied, 2);
}

/// The decision of a stage.
fn decision<'a>(explained: &'a Value, stage: &str, last: bool) -> &'a Value {
    let decisions = explained["decisions"].as_array().expect("decisions");
    let mut found = decisions.iter().filter(|decision| decision["stage"] == stage);
    let found = if last { found.next_back() } else { found.next() };
    found.unwrap_or_else(|| panic!("no {stage} in {explained:#}"))
}

fn is_written_in(decision: &Value, file: &str, line: u64) {
    let named = decision["file"].as_str().is_some_and(|name| name.ends_with(file));
    assert!(named && decision["line"] == line, "{decision:#}");
}

#[test]
fn commands_explain_a_users_route() {
    let mesh = mesh();
    let explain = |from: &str, path: &str, more: &[&str]| {
        let start = ["policy", "explain", "-n", "shop", "--from", from, "--to", "svc/web:80"];
        let rest = ["--protocol", "http1", "--path", path, "-o", "json"];
        let output = mesh.run(&[&start[..], &rest, more].concat());
        (json(&output), output.status.code())
    };
    // So that the sidecars hold what is asked about.
    assert_eq!(ask(&mesh, "client", &["/split"])[0]["status"], 200);
    let (canary, code) = explain("pod/client", "/split", &["-H", "x-canary: yes"]);
    assert_eq!(
        (canary["outcome"].as_str(), code),
        (Some("forwarded"), Some(0)),
        "{canary:#}"
    );
    assert_eq!(canary["differences"], Value::Array(Vec::new()));
    let rule = decision(&canary, "rule", false);
    is_written_in(rule, "routes.yaml", 11);
    assert_eq!(rule["object"], "HTTPRoute shop/shop");
    // A path is more specific than a header: the specification's order.
    assert!(
        rule["choice"].as_str().is_some_and(|choice| choice.contains("/split")),
        "{rule:#}"
    );
    let losers = rule["losers"].as_array().expect("losers");
    assert!(
        losers.iter().any(|loser| loser["why"]
            .as_str()
            .is_some_and(|why| why.contains("longer path prefix"))),
        "{rule:#}"
    );
    let backend = decision(&canary, "backend", false);
    assert!(backend.to_string().contains("web-v2"), "{backend:#}");
    is_written_in(decision(&canary, "policy", true), "access.yaml", 27);

    let (plain, _) = explain("pod/client", "/a", &["-H", "x-canary: yes"]);
    assert!(
        decision(&plain, "backend", false)["choice"]
            .to_string()
            .contains("web-v2"),
        "{plain:#}"
    );
    assert!(
        decision(&plain, "filter", false)["choice"]
            .to_string()
            .contains("x-team"),
        "{plain:#}"
    );

    // What a filter makes of a request is what the receiver is asked about.
    for (from, outcome, expected) in [("pod/client", "denied", Some(1)), ("pod/friend", "forwarded", Some(0))] {
        let (explained, code) = explain(from, "/back-door/x", &[]);
        assert_eq!(
            (explained["outcome"].as_str(), code),
            (Some(outcome), expected),
            "{explained:#}"
        );
        let route = decision(&explained, "route", true);
        assert_eq!(route["object"], "HTTPRoute shop/admin", "{route:#}");
        is_written_in(route, "access.yaml", 7);
    }

    let routes = json(&mesh.run(&["routes", "-n", "shop", "svc/web", "--window", "1", "-o", "json"]));
    let rules = routes["rules"].as_array().expect("rules");
    let split = rules
        .iter()
        .find(|rule| rule["takes"] == "/split/*")
        .unwrap_or_else(|| panic!("{routes:#}"));
    assert_eq!(split["requests"], 1, "{split:#}");
    assert_eq!(
        split["sends_to"],
        serde_json::json!(["Service shop/web-v1:80 3", "Service shop/web-v2:80 1"]),
        "{split:#}"
    );
    let accepted = routes["status"].as_array().expect("status");
    let accepted = accepted
        .iter()
        .find(|one| one["route"] == "HTTPRoute shop/shop")
        .unwrap_or_else(|| panic!("{routes:#}"));
    is_written_in(accepted, "routes.yaml", 2);
    let conditions = accepted["conditions"].as_array().expect("conditions");
    assert!(conditions.iter().all(|one| one["status"] == true), "{accepted:#}");

    // What passed, tried on changed routes, on no routes, and on a mistake.
    assert!(
        ask(&mesh, "client", &["/split"; 50])
            .iter()
            .all(|one| one["status"] == 200)
    );
    fs::write(
        mesh.folder().join("new.yaml"),
        self::routes("web-v1").replace("weight: 1", "weight: 0"),
    )
    .expect("written");
    let output = mesh.run(&["policy", "diff", "-f", "new.yaml", "-o", "json"]);
    let diff = json(&output);
    assert_eq!(
        (output.status.code(), &diff["objects"]),
        (Some(1), &serde_json::json!(["HTTPRoute shop/shop"]))
    );
    let changes = diff["changes"].as_array().expect("changes");
    let routed = changes
        .iter()
        .find(|change| change["kind"] == "routed")
        .unwrap_or_else(|| panic!("{diff:#}"));
    assert!(routed["requests"].as_u64() >= Some(51), "{diff:#}");
    assert_eq!(routed["target"], "web.shop:80", "{diff:#}");
    assert!(
        routed["workload"]
            .as_str()
            .is_some_and(|workload| workload.contains("client")),
        "{diff:#}"
    );
    let output = mesh.run(&[
        "policy",
        "diff",
        "--delete",
        "authorizationpolicy/everybody.shop",
        "-o",
        "json",
    ]);
    let diff = json(&output);
    let changes = diff["changes"].as_array().expect("changes");
    assert!(changes.iter().any(|change| change["kind"] == "denied"), "{diff:#}");
    let wrong = mesh.run(&["policy", "diff", "--delete", "httproute/absent.shop"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("there is no httproute/absent"));
}

/// Asks for `/edit` without end, and writes when, the status and the version.
const LOAD: &str = r#"exec /usr/bin/python3 -c '
import http.client, json, os, threading, time
out, lock = open("asked", "w", buffering=1), threading.Lock()
def run():
    connection = None
    while not os.path.exists("stop"):
        began = int(time.time() * 1000)
        try:
            connection = connection or http.client.HTTPConnection("web", 80, timeout=5)
            connection.request("GET", "/edit")
            response = connection.getresponse()
            body = response.read()
            said = f"{response.status} " + json.loads(body)["version"] if response.status == 200 else f"{response.status} {response.getheaders()}"
        except Exception as error:
            said, connection = f"failed {error!r}", None
        with lock: print(began, said, file=out)
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
'"#;

/// What the client was told of requests that began since a time, in milliseconds since 1970.
fn told(mesh: &Mesh, since: u64) -> Vec<(u64, String)> {
    let text = fs::read_to_string(mesh.folder().join("asked")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| {
        let (time, said) = line.split_once(' ')?;
        Some((time.parse().ok()?, said.to_owned()))
    };
    whole
        .lines()
        .filter_map(line)
        .filter(|(time, _)| *time >= since)
        .collect()
}

#[test]
fn an_edited_route_takes_effect_within_a_second_under_load_and_rates_are_live() {
    let mesh = mesh();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| mesh.shell("client", LOAD));
        mesh.wait("requests are answered", || (told(&mesh, 0).len() > 50).then_some(()));
        for (from, to) in [("web-v1", "web-v2"), ("web-v2", "web-v1")] {
            mesh.write("routes.yaml", &routes(to));
            let written = fs::metadata(mesh.manifests().join("routes.yaml")).and_then(|meta| meta.modified());
            let since = written
                .expect("written")
                .duration_since(std::time::UNIX_EPOCH)
                .expect("a time");
            let since = since.as_millis() as u64;
            let (before, after) = (format!("200 {from}"), format!("200 {to}"));
            let seen = mesh.wait(&format!("{from} becomes {to}"), || {
                let told = told(&mesh, since);
                let last = told
                    .iter()
                    .rposition(|(_, said)| *said == before)
                    .map_or(0, |at| at + 1);
                let settled = told.len() >= last + 50;
                (settled || told.iter().any(|(_, said)| *said != before && *said != after)).then_some(told)
            });
            let wrong: Vec<_> = seen
                .iter()
                .filter(|(_, said)| *said != before && *said != after)
                .collect();
            assert!(wrong.is_empty(), "{from} becomes {to}: {wrong:?}");
            let last = seen.iter().rev().find(|(_, said)| *said == before);
            let took = last.map_or(0, |(time, _)| time - since);
            eprintln!("{from} becomes {to}: {took} ms, {} requests", seen.len());
            assert!(took < LIMIT_MS, "{from} becomes {to} took {took} ms");
        }
        rates_are_live(&mesh);
        fs::write(mesh.folder().join("stop"), "").expect("written");
        assert_eq!(asking.join().expect("asked"), "");
    });
    let lost: Vec<_> = told(&mesh, 0)
        .into_iter()
        .filter(|(_, said)| !said.starts_with("200 "))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let asked = told(&mesh, 0).len() as u64;
    assert_eq!(
        ["web-v1", "web-v2"]
            .map(|version| served(&mesh, version, "/edit"))
            .iter()
            .sum::<u64>(),
        asked
    );
}

/// While requests for `/edit` flow, and for nothing else.
fn rates_are_live(mesh: &Mesh) {
    let run = |words: &[&str]| json(&mesh.run(&[words, &["-n", "shop", "--window", "1", "-o", "json"]].concat()));
    let routes = run(&["routes", "svc/web"]);
    let rates: BTreeMap<&str, f64> = routes["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .filter_map(|rule| Some((rule["takes"].as_str()?, rule["requests_per_second"].as_f64()?)))
        .collect();
    assert!(rates["/edit/*"] > 1.0 && rates["/split/*"] == 0.0, "{rates:?}");
    let authz = run(&["authz", "deploy/web-v1"]);
    let allowed = |what: &str| -> f64 {
        let rows = authz.as_array().expect("rows").iter();
        let meant = rows.filter(|row| row["authorization"].as_str().is_some_and(|name| name.contains(what)));
        meant.filter_map(|row| row["allowed_per_second"].as_f64()).sum()
    };
    assert!(allowed("open") > 1.0 && allowed("admin") == 0.0, "{authz:#}");
    let endpoints = run(&["endpoints", "web-v1:80"]);
    let callers = &endpoints[0]["callers"];
    assert!(callers["requests_per_second"].as_f64() > Some(1.0), "{endpoints:#}");
    assert_eq!(callers["success_rate"], 1.0, "{endpoints:#}");
}

/// An address outside of the mesh's networks, at a workload that has no sidecar and nothing to do with the mesh.
const OUTSIDE: &str = "198.51.100.7";

/// Counts its connections.
const FOREIGN: &str = r#"
import http.server, socketserver
out = open("connections", "w", buffering=1)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def setup(self):
        print(self.client_address[0], file=out); super().setup()
    def do_GET(self):
        body = b"outside"
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

/// Two connections at once, three requests each.
const TWICE: &str = r#"
import http.client
both = [http.client.HTTPConnection("198.51.100.7", 8080, timeout=10) for _ in range(2)]
for _ in range(3):
    for connection in both:
        connection.request("GET", "/")
        print(connection.getresponse().read().decode())
"#;

/// The control plane says of every address outside that it is forwarded as it is: each client connection has its own server connection all the same.
#[test]
fn what_is_outside_of_the_mesh_is_reached_over_connections_of_ones_own() {
    let mesh = Mesh::new(User::Current);
    let server = serde_json::to_string(FOREIGN).expect("a string");
    let outside = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: outside, namespace: shop, annotations: {{ sheer.dev/inject: disabled }} }}\n\
         spec: {{ containers: [{{ name: app, command: [/usr/bin/python3, -c, {server}] }}] }}\n"
    );
    drop(meshed_web(1));
    mesh.write("outside.yaml", &outside)
        .write("client.yaml", &meshed_client())
        .up();
    fs::write(mesh.folder().join("twice.py"), TWICE).expect("written");
    let ps = mesh.ps();
    let pods = ps["pods"].as_array().expect("pods");
    let pod = pods.iter().find(|pod| pod["name"] == "outside").expect("the pod");
    let address = pod["ips"]
        .as_array()
        .and_then(|ips| ips.iter().filter_map(Value::as_str).find(|ip| ip.contains('.')))
        .unwrap_or_else(|| panic!("{pod:#}"));
    let set = mesh.shell("outside", &format!("ip addr add {OUTSIDE}/32 dev eth0 && echo set"));
    assert_eq!(set, "set\n");
    let set = mesh.shell(
        "client",
        &format!("ip route add {OUTSIDE}/32 via {address} && echo set"),
    );
    assert_eq!(set, "set\n");

    let began = Instant::now();
    let said = mesh.shell("client", "/usr/bin/python3 twice.py");
    assert_eq!(said, "outside\n".repeat(6));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let connections = fs::read_to_string(mesh.folder().join("connections")).expect("written");
    assert_eq!(connections.lines().count(), 2, "{connections}");
    // Through the sidecar, and by a policy that somebody sent.
    let labels = [&*format!("target_addr=\"{OUTSIDE}:8080\""), "direction=\"outbound\""];
    assert_eq!(counted(&mesh, "client", "request_total", &labels), 6);
    let dump = json(&mesh.run(&["config", "dump", "-n", "shop", "pod/client", "-o", "json"]));
    assert!(dump.to_string().contains("egress-fallback"), "{dump:#}");
}

/// A tap of the client's sidecar shows the end of a request for a path, with what else was asked for meanwhile.
fn end_of(mesh: &Mesh, filters: &[&str], path: &str) -> Value {
    let asked = std::cell::Cell::new(0);
    mesh.tap(
        &[&["pod/client"], filters].concat(),
        || {
            asked.set(asked.get() + 1);
            ask(mesh, "client", &[&format!("{path}?{}", asked.get()), "/books"]);
        },
        |line| {
            let asked = line["path"].as_str().is_some_and(|asked| asked.starts_with(path));
            assert!(asked || filters.is_empty(), "{filters:?} take it: {line:#}");
            line["kind"] == "end" && asked
        },
    )
}

/// Attempts whose answers the client did not see are told with the request; denials and what took long are found by their filters.
#[test]
fn a_tap_tells_what_was_passed_over_denied_and_slow() {
    let mesh = mesh();
    let line = end_of(&mesh, &[], "/flaky");
    let view = &line["views"]["outbound"];
    assert_eq!(
        (&line["status"], &view["attempts"]),
        (&200.into(), &3.into()),
        "{line:#}"
    );
    let before = view["passed_over"].as_array().expect("attempts");
    assert_eq!(before.len(), 2, "{line:#}");
    for one in before {
        assert_eq!((&one["status"], &one["reason"]), (&503.into(), &"".into()), "{line:#}");
        let endpoint = one["endpoint"].as_str().expect("an address");
        assert!(endpoint.contains(':'), "{line:#}");
    }
    assert!(before[0]["time"].as_str() < before[1]["time"].as_str(), "{line:#}");
    let [sent, whole, answered] = ["sent", "request_end", "first_byte"].map(|name| line["timing_us"][name].as_u64());
    assert!(sent.is_some() && sent <= whole && whole <= answered, "{line:#}");

    let denied = end_of(&mesh, &["--method", "GET", "--status", "403"], "/admin");
    assert_eq!(
        (&denied["status"], &denied["verdict"], &denied["reason"]),
        (&403.into(), &"policy".into(), &"policy-denied".into()),
        "{denied:#}"
    );
    let slow = end_of(&mesh, &["--latency", ">250ms"], "/slow");
    assert_eq!(
        (&slow["status"], &slow["reason"]),
        (&504.into(), &"timeout-request".into()),
        "{slow:#}"
    );
}
