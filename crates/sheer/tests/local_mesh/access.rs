//! Who may come in, with real sidecars: nobody by default, then by identity, changed under open connections by an edit of a file.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Mesh, User, client, meshed_client, meshed_web};

/// An edit takes effect within a second. The rest is for the commands with which a test on a busy machine finds that out.
const SOON: Duration = Duration::from_secs(5);

const SERVER: &str = "
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, port: http }
";

/// Lets in whom `required` names.
fn policy(name: &str, required: &str) -> String {
    format!(
        "
apiVersion: policy.sheer.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{ name: {name}, namespace: shop }}
spec: {{ targetRef: {{ group: policy.sheer.dev, kind: Server, name: web }}, requiredAuthenticationRefs: [{required}] }}
"
    )
}

const EVERYWHERE: &str = "---
apiVersion: policy.sheer.dev/v1alpha1
kind: NetworkAuthentication
metadata: { name: everywhere, namespace: shop }
spec: { networks: [{ cidr: 0.0.0.0/0 }, { cidr: '::/0' }] }
";

/// Asks for something that is no probe; the status of the answer.
fn status(mesh: &Mesh, workload: &str) -> String {
    mesh.shell(
        workload,
        "curl -s -o /dev/null -w '%{http_code}' --max-time 10 http://web/books",
    )
}

/// Waits until a workload gets a status, which must be soon after an edit.
fn becomes(mesh: &Mesh, workload: &str, expected: &str) {
    let edited = Instant::now();
    mesh.wait(&format!("{workload} gets {expected}"), || {
        (status(mesh, workload) == expected).then_some(())
    });
    let took = edited.elapsed();
    assert!(took < SOON, "{workload} got {expected} only after {took:?}");
}

/// What the sidecar of the server counted, summed over all series with these labels.
fn counted(mesh: &Mesh, name: &str, label: &str) -> u64 {
    let page = mesh.shell("deploy/web", "curl -sS --max-time 5 http://127.0.0.1:4191/metrics");
    let start = format!("{name}{{");
    let lines = page
        .lines()
        .filter(|line| line.starts_with(&start) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn nobody_comes_in_but_by_a_rule_and_an_edit_counts_at_once() {
    let mesh = Mesh::new(User::Current);
    let friend = meshed_client()
        .replace("name: client", "name: friend")
        .replace("spec: { containers", "spec: { serviceAccountName: friend, containers");
    mesh.write("web.yaml", &meshed_web(1))
        .write("server.yaml", SERVER)
        .write("client.yaml", &meshed_client())
        .write("friend.yaml", &friend)
        .up();
    // Ready although nobody is let in: probes are.
    assert_eq!(mesh.ready_pods("deploy/web").len(), 1);
    assert_eq!(
        (status(&mesh, "client"), status(&mesh, "friend")),
        ("403".into(), "403".into())
    );
    let told = mesh
        .shell("friend", "curl -sS -i --max-time 10 http://web/books")
        .to_lowercase();
    assert!(told.contains("sheer-reason: policy-denied"), "{told}");

    mesh.write(
        "policy.yaml",
        &policy("friends", "{ kind: ServiceAccount, name: friend }"),
    );
    becomes(&mesh, "friend", "200");
    assert_eq!(status(&mesh, "client"), "403");
    let by_rule = counted(&mesh, "inbound_http_authz_allow_total", "authz_name=\"friends\"");
    assert!(by_rule >= 1, "{by_rule}");
    assert_eq!(counted(&mesh, "inbound_tcp_authz_terminate_total", ""), 0);

    // The sidecar of the friend has a connection open: it ends with the rule.
    mesh.remove("policy.yaml");
    becomes(&mesh, "friend", "403");
    mesh.wait("the open connection has ended", || {
        (counted(&mesh, "inbound_tcp_authz_terminate_total", "") >= 1).then_some(())
    });
}

#[test]
fn an_open_connection_without_a_sidecar_ends_with_its_rule() {
    let mesh = Mesh::new(User::Current);
    let outside = client().replace("name: client", "name: outside");
    let everybody = policy("everybody", "{ kind: NetworkAuthentication, name: everywhere }") + EVERYWHERE;
    mesh.write("web.yaml", &meshed_web(1))
        .write("server.yaml", SERVER)
        .write("policy.yaml", &everybody)
        .write("outside.yaml", &outside)
        .up();
    assert_eq!(status(&mesh, "outside"), "200");
    let answered = mesh.folder().join("answered");
    let script = format!(
        "python3 -c '
import socket
s = socket.create_connection((\"web\", 80)); s.settimeout(40)
s.sendall(b\"GET /books HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n\")
print(s.recv(4096)[:12].decode()); open(\"{}\", \"w\").close()
while s.recv(4096): pass
print(\"closed\")'",
        answered.display()
    );
    thread::scope(|scope| {
        let open = scope.spawn(|| mesh.shell("outside", &script));
        mesh.wait("the connection is open and answered", || {
            answered.exists().then_some(())
        });
        let edited = Instant::now();
        mesh.remove("policy.yaml");
        let said = open.join().expect("the shell runs");
        assert!(said.contains("HTTP/1.1 200") && said.contains("closed"), "{said}");
        assert!(edited.elapsed() < SOON, "it ended only after {:?}", edited.elapsed());
    });
    assert_eq!(status(&mesh, "outside"), "403");
    assert!(counted(&mesh, "inbound_tcp_authz_terminate_total", "") >= 1);
}

/// A typo in a reference is told with what it does to traffic.
#[test]
fn check_says_whom_a_mistake_shuts_out() {
    let mesh = Mesh::new(User::Current);
    let typo = policy("friends", "{ kind: MeshTLSAuthentication, name: freinds }");
    mesh.write("web.yaml", &meshed_web(1))
        .write("server.yaml", SERVER)
        .write("policy.yaml", &typo)
        .up();
    let checked = mesh.run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(
        said.contains("there is no MeshTLSAuthentication shop/freinds: nobody is let in by this policy, so that all clients of port http are denied"),
        "{said}"
    );
}
