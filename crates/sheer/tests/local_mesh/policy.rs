//! Explaining policy on a real mesh: what sidecars hold and would do, and what a changed policy would do to what they saw.

use std::process::Output;

use serde_json::Value;

use crate::harness::{Mesh, User, client, meshed_client, meshed_web};

/// Not the path of the probe, which everybody may ask for.
const GET: &str = "curl -sS --max-time 10 -w '%{http_code}\\n' http://web/x";
const EXPLAIN: [&str; 15] = [
    "policy",
    "explain",
    "-n",
    "shop",
    "--from",
    "pod/client",
    "--to",
    "svc/web:80",
    "--protocol",
    "http1",
    "--path",
    "/x",
    "-o",
    "json",
    "--method=get",
];

/// Lets nobody in: no AuthorizationPolicy is for it.
const CLOSED: &str = "# The shop is closed.
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, port: http }
";

fn mesh() -> Mesh {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .up();
    assert!(mesh.shell("client", GET).contains("web-"));
    mesh
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// The decision of a stage.
fn decision<'a>(explained: &'a Value, stage: &str) -> &'a Value {
    let decisions = explained["decisions"].as_array().expect("decisions");
    let mut found = decisions.iter().filter(|decision| decision["stage"] == stage);
    found
        .next_back()
        .unwrap_or_else(|| panic!("no {stage} in {explained:#}"))
}

#[test]
fn explain_follows_a_request_through_both_sidecars() {
    let mesh = mesh();
    let output = mesh.run(&EXPLAIN);
    let explained = json(&output);
    assert_eq!(explained["outcome"], "forwarded", "{explained:#}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(explained["differences"], Value::Array(Vec::new()));
    assert!(
        decision(&explained, "backend")["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("web.yaml"))
    );
    assert_eq!(decision(&explained, "backend")["line"], 2);
    assert!(
        decision(&explained, "tls")["choice"]
            .as_str()
            .is_some_and(|choice| choice.starts_with("mutual TLS"))
    );
    assert_eq!(decision(&explained, "server")["object"], "default all-unauthenticated");

    mesh.write("closed.yaml", CLOSED);
    let (denied, code) = mesh.wait("the sidecar denies", || {
        let output = mesh.run(&EXPLAIN);
        let explained = json(&output);
        (explained["outcome"] == "denied" && explained["differences"] == Value::Array(Vec::new()))
            .then(|| (explained, output.status.code()))
    });
    assert_eq!((denied["status"].as_u64(), code), (Some(403), Some(1)));
    let policy = decision(&denied, "policy");
    assert_eq!(policy["object"], "Server shop/web", "{denied:#}");
    assert!(
        policy["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("closed.yaml"))
    );
    assert_eq!(policy["line"], 2);
    assert!(
        mesh.shell("client", GET).ends_with("403\n"),
        "what was explained happens"
    );
    let misuse = mesh.run(&["policy", "explain", "--from", "deploy/nobody", "--to", "svc/web:80"]);
    assert_eq!(misuse.status.code(), Some(2));
}

#[test]
fn explain_works_where_a_side_has_no_sidecar() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", client())
        .up();
    let explained = json(&mesh.run(&EXPLAIN));
    assert_eq!(explained["outcome"], "forwarded", "{explained:#}");
    assert!(
        explained["notes"][0]
            .as_str()
            .is_some_and(|note| note.contains("has no sidecar"))
    );
    assert!(
        decision(&explained, "policy")["why"]
            .as_str()
            .is_some_and(|why| why.starts_with("10.77.")),
        "a client without identity is its address: {explained:#}"
    );
}

/// The control plane has another policy than the sidecar, which it cannot reach: what the sidecar does counts, and both are told.
#[test]
fn explain_says_where_a_sidecar_is_behind() {
    let mesh = mesh();
    let web = mesh.ready_pods("deploy/web").remove(0);
    let cut = "nft add table inet cut && \
        nft add chain inet cut in '{ type filter hook input priority 0 ; }' && \
        nft add rule inet cut in tcp sport '{ 8086, 8090 }' drop && echo cut";
    assert_eq!(mesh.shell(&web, cut), "cut\n");
    mesh.write("closed.yaml", CLOSED);
    let (behind, code) = mesh.wait("the difference is told", || {
        let output = mesh.run(&EXPLAIN);
        let explained = json(&output);
        (explained["differences"] != Value::Array(Vec::new())).then(|| (explained, output.status.code()))
    });
    assert_eq!((behind["outcome"].as_str(), code), (Some("forwarded"), Some(1)));
    let told = behind["differences"].to_string();
    assert!(
        told.contains(&format!("the proxy of shop/{web}")) && told.contains("the control plane has denied"),
        "{told}"
    );
    assert!(
        behind["proxy_state_age_ms"].as_u64() > behind["control_state_age_ms"].as_u64(),
        "{behind:#}"
    );
    assert!(
        mesh.shell("client", GET).ends_with("200\n"),
        "what was explained happens"
    );
}

#[test]
fn diff_tries_a_change_on_what_passed() {
    let mesh = mesh();
    assert_eq!(
        mesh.shell("client", &format!("for i in $(seq 20); do {GET}; done"))
            .matches("200")
            .count(),
        20
    );
    std::fs::write(mesh.folder().join("new.yaml"), CLOSED).expect("written");
    let output = mesh.run(&["policy", "diff", "-f", "new.yaml", "-o", "json"]);
    let diff = json(&output);
    assert_eq!(output.status.code(), Some(1), "{diff:#}");
    assert_eq!(diff["objects"], serde_json::json!(["Server shop/web"]));
    let changes = diff["changes"].as_array().expect("changes");
    let denied: Vec<_> = changes.iter().filter(|change| change["kind"] == "denied").collect();
    assert!(
        denied.iter().any(|change| change["requests"].as_u64() >= Some(20)),
        "{diff:#}"
    );
    assert_eq!(denied[0]["workload"], "shop/deploy/web");
    assert!(mesh.shell("client", GET).ends_with("200\n"), "nothing was applied");

    let same = mesh.folder().join("manifests/web.yaml").display().to_string();
    let output = mesh.run(&["policy", "diff", "-f", &same]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("none would be treated otherwise"), "{text}");
    std::fs::write(mesh.folder().join("broken.yaml"), "kind: Server\n").expect("written");
    let broken = mesh.run(&["policy", "diff", "-f", "broken.yaml"]);
    assert_eq!((broken.status.code(), broken.stdout.len()), (Some(1), 0));
}

#[test]
fn dump_authz_routes_and_endpoints_show_what_sidecars_hold() {
    let mesh = mesh();
    let dump: Value =
        serde_json::from_str(&mesh.sheer(&["config", "dump", "-n", "shop", "pod/client", "-o", "json"])).expect("JSON");
    let state = &dump[0]["state"];
    let ledger = &state["outbound"][0];
    assert_eq!(ledger["name"], "web.shop.svc.cluster.local:80", "{dump:#}");
    let endpoint = &ledger["backends"][0]["endpoints"][0];
    assert_eq!(
        (endpoint["ready"].as_bool(), endpoint["breaker"].as_str()),
        (Some(true), Some("closed"))
    );
    assert!(endpoint["rtt_ms"].as_f64() > Some(0.0), "{endpoint:#}");
    let streams = state["control_streams"].as_array().expect("streams");
    assert!(
        streams
            .iter()
            .all(|stream| stream["connected"] == true || stream["last_error"] != ""),
        "{dump:#}"
    );
    assert!(streams.iter().any(|stream| stream["method"] == "Destination.Get"));

    let authz = mesh.sheer(&["authz", "-n", "shop", "deploy/web", "--window", "1"]);
    assert!(authz.contains("default all-unauthenticated"), "{authz}");
    let routes = mesh.sheer(&["routes", "-n", "shop", "svc/web", "--window", "1"]);
    assert!(routes.contains("Service shop/web:80"), "{routes}");
    let endpoints: Value =
        serde_json::from_str(&mesh.sheer(&["endpoints", "-n", "shop", "web:80", "-o", "json"])).expect("JSON");
    assert_eq!(endpoints[0]["callers"]["ready"], 1, "{endpoints:#}");
}
