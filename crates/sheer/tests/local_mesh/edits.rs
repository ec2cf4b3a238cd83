//! An edit of a manifest takes effect within a second in every proxy, without losing a request: measured at a client, from the time that
//! the file system has for the edit.

use std::{fs, time::UNIX_EPOCH};

use crate::harness::{Mesh, User, meshed_client, meshed_web};

/// What an edit may take until a client sees it.
const LIMIT_MS: u64 = 1_000;

/// Answers with the port on which it was asked, on two of them.
const SERVER: &str = r#"
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = str(self.server.server_port).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
servers = [http.server.ThreadingHTTPServer(("", port), Handler) for port in (8080, 8081)]
threading.Thread(target=servers[0].serve_forever, daemon=True).start()
servers[1].serve_forever()
"#;

/// Asks without end, each time over a new connection, and writes when, the status and the body.
const ASK: &str = r#"exec /usr/bin/python3 -c '
import http.client, os, time
out = open("asked", "w", buffering=1)
while not os.path.exists("stop"):
    try:
        connection = http.client.HTTPConnection("web", 80, timeout=5)
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read().decode()
        said = f"{response.status} {body}" if response.status == 200 else str(response.status)
        connection.close()
    except Exception as error:
        said = f"failed {type(error).__name__}: {error}"
    print(int(time.time() * 1000), said, file=out)
    time.sleep(0.005)
'"#;

fn service(target: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: shop }}\nspec: {{ selector: {{ app: web }}, ports: [{{ port: 80, targetPort: {target} }}] }}\n"
    )
}

fn server(policy: &str) -> String {
    format!(
        "apiVersion: policy.sheer.dev/v1beta3\nkind: Server\nmetadata: {{ name: web, namespace: shop }}\nspec: {{ podSelector: {{ matchLabels: {{ app: web }} }}, port: 8080, accessPolicy: {policy} }}\n"
    )
}

/// Lets in whoever has this service account, and all of them besides.
fn policy(account: &str) -> String {
    format!(
        "apiVersion: policy.sheer.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  targetRef: {{ group: policy.sheer.dev, kind: Server, name: web }}\n  \
         requiredAuthenticationRefs: [{{ kind: ServiceAccount, name: {account} }}]\n"
    )
}

fn workload() -> String {
    // Of the harness's: that the sidecar is there.
    drop(meshed_web(1));
    let server = serde_json::to_string(SERVER).expect("a string");
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  replicas: 2\n  selector: {{ matchLabels: {{ app: web }} }}\n  \
         template:\n    metadata: {{ labels: {{ app: web }} }}\n    spec:\n      containers:\n        - name: app\n          \
         command: [/usr/bin/python3, -c, {server}]\n          ports: [{{ containerPort: 8080 }}, {{ containerPort: 8081 }}]\n          \
         readinessProbe: {{ tcpSocket: {{ port: 8081 }}, periodSeconds: 1 }}\n"
    )
}

/// What the client was told since a time, in milliseconds since 1970.
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

/// Makes an edit, and waits until the client sees `after` where it saw `before`. Everything that it was told meanwhile must be one of the two.
fn edit(mesh: &Mesh, file: &str, text: &str, [before, after]: [&str; 2]) {
    mesh.write(file, text);
    let written = fs::metadata(mesh.manifests().join(file)).and_then(|meta| meta.modified());
    let since = written.expect("written").duration_since(UNIX_EPOCH).expect("a time");
    let since = since.as_millis() as u64;
    // Two replicas have two sidecars: the last answer of the old kind counts.
    let seen = mesh.wait(&format!("{file}: {before} becomes {after}"), || {
        let told = told(mesh, since);
        let last = told.iter().rposition(|(_, said)| said == before).map_or(0, |at| at + 1);
        let settled = told.len() >= last + 20 && told[last..].iter().all(|(_, said)| said == after);
        (settled || told.iter().any(|(_, said)| said != before && said != after)).then_some(told)
    });
    let wrong: Vec<_> = seen
        .iter()
        .filter(|(_, said)| said != before && said != after)
        .collect();
    assert!(wrong.is_empty(), "{file}: {before} becomes {after}: {wrong:?}");
    let last = seen.iter().rev().find(|(_, said)| said == before);
    let took = last.map_or(0, |(time, _)| time - since);
    eprintln!("{file}: {before} becomes {after}: {took} ms, {} requests", seen.len());
    assert!(took < LIMIT_MS, "{file}: {before} becomes {after} took {took} ms");
}

#[test]
fn an_edit_takes_effect_within_a_second_and_loses_no_request() {
    let mesh = Mesh::new(User::Current);
    mesh.write("workload.yaml", &workload())
        .write("service.yaml", &service(8080))
        .write("server.yaml", &server("all-unauthenticated"))
        .write("client.yaml", &meshed_client())
        .up();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| mesh.shell("client", ASK));
        mesh.wait("requests are answered", || (told(&mesh, 0).len() > 20).then_some(()));
        edit(&mesh, "service.yaml", &service(8081), ["200 8080", "200 8081"]);
        edit(&mesh, "service.yaml", &service(8080), ["200 8081", "200 8080"]);
        edit(&mesh, "server.yaml", &server("deny"), ["200 8080", "403"]);
        edit(&mesh, "policy.yaml", &policy("default"), ["403", "200 8080"]);
        edit(&mesh, "policy.yaml", &policy("somebody"), ["200 8080", "403"]);
        edit(
            &mesh,
            "server.yaml",
            &server("all-unauthenticated"),
            ["403", "200 8080"],
        );
        fs::write(mesh.folder().join("stop"), "").expect("written");
        assert_eq!(asking.join().expect("asked"), "");
    });
}
