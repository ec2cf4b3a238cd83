//! What users of service meshes have asked for in vain for years, by number, each on a real mesh through the command line alone.
//!
//! All of them look at one mesh, which lives as long as one of them runs.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;

use crate::{
    harness::{Mesh, User, client, meshed_client, meshed_web, pause},
    looking::tshark,
    odd::{BROKEN, CALM, CLOSES, GREETS, LARGE, QUICK, call, odd},
};

/// Nobody is let in but the probes of its readiness.
const CLOSED: &str = "
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: { name: vault, namespace: shop }
spec: { podSelector: { matchLabels: { app: vault } }, port: http }
";
/// A Service that nothing stands behind.
const EMPTY: &str = "
apiVersion: v1
kind: Service
metadata: { name: empty, namespace: shop }
spec: { selector: { app: empty }, ports: [{ name: http, port: 80 }] }
";

fn mesh() -> Arc<Mesh> {
    static SHARED: Mutex<Weak<Mesh>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(mesh) = shared.upgrade() {
        return mesh;
    }
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("pool.yaml", &meshed_web(1).replace("web", "pool"))
        .write("vault.yaml", &meshed_web(1).replace("web", "vault"))
        .write("closed.yaml", CLOSED)
        .write("empty.yaml", EMPTY)
        .write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .write("outside.yaml", &client().replace("name: client", "name: outside"))
        .up();
    let mesh = Arc::new(mesh);
    *shared = Arc::downgrade(&mesh);
    mesh
}

/// What a command prints as JSON, whatever its exit code.
fn json(mesh: &Mesh, arguments: &[&str]) -> Value {
    let output = mesh.run(&[arguments, &["-o", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!(
            "{arguments:?}: {error} {stderr}{}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

/// Sends bytes to a port from the client, and prints what comes back, and after how many milliseconds.
fn send(mesh: &Mesh, to: &str, port: u16, python: &str) -> String {
    let script = format!(
        "python3 -c '
import socket, time
began = time.time(); s = socket.create_connection((\"{to}\", {port}), 20)
s.sendall({python}); print(s.recv(4096).decode()); print(\"ms\", int((time.time() - began) * 1000))'"
    );
    mesh.shell("client", &script)
}

fn curl(mesh: &Mesh, arguments: &str) -> String {
    mesh.shell("client", &format!("curl -sS --max-time 10 {arguments}"))
}

fn explain(mesh: &Mesh, to: &str, request: &[&str]) -> Value {
    let from = ["policy", "explain", "-n", "shop", "--from", "pod/client", "--to", to];
    json(mesh, &[&from, request].concat())
}

/// A failure that a sidecar has kept, asked for when it is long over.
fn kept(mesh: &Mesh, path: &str) -> Value {
    let arguments = ["pod/client", "--failed-only", "--path", path];
    mesh.tap(&arguments, || {}, |line| line["kind"] == "end")
}

#[test]
fn wish_01_bodies_are_seen_in_the_tap() {
    let mesh = mesh();
    let pay = r#"-o /dev/null -H 'content-type: application/json' -d '{"payer":"ada","cents":1250}' http://web/wish-1"#;
    for of in ["request", "response"] {
        let body = mesh.tap(
            &["pod/client", "--to", "svc/web", "--path", "/wish-1", "--body"],
            || drop(curl(&mesh, pay)),
            |line| line["kind"] == "body" && line["of"] == of,
        );
        assert_eq!(
            body["body"],
            serde_json::json!({"payer": "ada", "cents": 1250}),
            "{body:#}"
        );
    }
}

/// Captures of the server while the client asks.
fn capture(mesh: &Mesh, file: &str, more: &[&str], ask: &str) -> String {
    let path = mesh.folder().join(file).display().to_string();
    let base = ["capture", "-n", "shop", "deploy/web", "--for", "2s", "-o", &path];
    let capturing = mesh
        .command(&[&base[..], more].concat())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("sheer runs");
    let ended = std::thread::spawn(move || capturing.wait_with_output().expect("it ends"));
    while !ended.is_finished() {
        curl(mesh, ask);
        pause();
    }
    let output = ended.join().expect("no panic");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn wish_02_packets_come_out_as_a_file_that_opens_decrypted() {
    let mesh = mesh();
    let said = capture(&mesh, "wish-2.pcapng", &["--fresh"], "-o /dev/null http://web/wish-2");
    let between = "!(ip.addr == 127.0.0.0/8) && http2.headers.path";
    let file = mesh.folder().join("wish-2.pcapng");
    let paths = tshark(&file, &["-Y", between, "-T", "fields", "-e", "http2.headers.path"]);
    assert!(paths.contains("/wish-2"), "{paths}{said}");
}

#[test]
fn wish_03_mutual_tls_can_be_proven_and_looked_into() {
    let mesh = mesh();
    let planted = "cleartext-of-wish-3";
    let ask = format!("-o /dev/null -H 'x-planted: {planted}' http://web/wish-3");
    curl(&mesh, &ask);
    // What the sidecar says of the connection, and what the network says of the same.
    let conns = json(&mesh, &["conns", "-n", "shop", "pod/client"]);
    let all = conns[0]["connections"].as_array().expect("connections");
    let to_web = all
        .iter()
        .find(|one| {
            one["peer"] == "mesh"
                && one["remote_pod"]
                    .as_str()
                    .is_some_and(|pod| pod.starts_with("shop/web-"))
        })
        .unwrap_or_else(|| panic!("{conns:#}"));
    assert_eq!(to_web["tls"]["version"], "TLSv1.3");
    for field in ["cipher", "group", "alpn"] {
        assert!(to_web["tls"][field].as_str().is_some_and(|said| !said.is_empty()));
    }
    assert_eq!(
        to_web["identity"],
        "default.shop.serviceaccount.identity.sheer.cluster.local"
    );
    capture(&mesh, "wish-3.pcapng", &["--no-secrets"], &ask);
    let file = mesh.folder().join("wish-3.pcapng");
    let seen = |interface: &str, what: &str| {
        let filter = format!("frame.interface_name matches \"/{interface}$\" && {what}");
        tshark(&file, &["-Y", &filter]).lines().count()
    };
    let planted = format!("frame contains \"{planted}\"");
    assert!(seen("eth0", "tls") > 2, "TLS is on the network");
    assert_eq!(seen("eth0", &planted), 0, "and nothing in the clear");
    assert!(seen("lo", &planted) > 0, "which within the pod can be seen to be there");
}

#[test]
fn wish_04_one_request_is_explained_step_by_step() {
    let mesh = mesh();
    let explained = explain(&mesh, "svc/web:80", &["--protocol", "http1", "--path", "/wish-4"]);
    assert_eq!(explained["outcome"], "forwarded", "{explained:#}");
    let decisions = explained["decisions"].as_array().expect("decisions");
    let stages: Vec<&str> = decisions
        .iter()
        .filter_map(|decision| decision["stage"].as_str())
        .collect();
    let order = [
        "service", "route", "rule", "backend", "endpoint", "tls", "server", "policy",
    ];
    let mut rest = stages.iter();
    for stage in order {
        assert!(rest.any(|seen| *seen == stage), "{stage} in {stages:?}");
    }
    let choice = |stage: &str| {
        let decision = decisions.iter().find(|decision| decision["stage"] == stage);
        decision.expect("the stage")["choice"].to_string()
    };
    assert!(choice("service").contains("web.shop.svc.cluster.local:80"));
    assert!(choice("tls").contains("default.shop"), "the identity is named");
    assert!(
        decisions.iter().all(|one| one["why"] != ""),
        "each says why: {explained:#}"
    );
}

#[test]
fn wish_05_what_a_proxy_holds_is_shown_and_whether_it_is_stale() {
    let mesh = mesh();
    let held = || {
        curl(&mesh, "-o /dev/null http://pool/");
        let dump = json(&mesh, &["config", "dump", "-n", "shop", "pod/client"]);
        let state = dump[0]["state"].clone();
        let outbound = state["outbound"].as_array().expect("destinations").clone();
        let of_pool = outbound
            .iter()
            .find(|one| one["name"] == "pool.shop.svc.cluster.local:80");
        let endpoints = of_pool.and_then(|one| one["backends"][0]["endpoints"].as_array().cloned());
        let mut pods: Vec<String> = endpoints
            .unwrap_or_default()
            .iter()
            .filter_map(|one| Some(one["pod"].as_str()?.to_owned()))
            .collect();
        pods.sort();
        (pods, state)
    };
    for replicas in ["2", "1"] {
        mesh.sheer(&["scale", "-n", "shop", "deploy/pool", "--replicas", replicas]);
        let state = mesh.wait("the client's sidecar holds the pods that there are", || {
            let mut there = mesh.ready_pods("deploy/pool");
            there.sort();
            let (pods, state) = held();
            (there.len().to_string() == replicas && pods == there).then_some(state)
        });
        // How old each thing is, and whether its stream is alive.
        let streams = state["control_streams"].as_array().expect("streams");
        let of_pool = streams
            .iter()
            .find(|one| one["method"] == "Destination.Get" && one["target"] == "pool.shop.svc.cluster.local:80");
        let of_pool = of_pool.unwrap_or_else(|| panic!("{streams:#?}"));
        assert_eq!(of_pool["connected"], true);
        assert!(of_pool["last_update_age_ms"].is_u64());
    }
}

#[test]
fn wish_06_headers_that_are_too_large_say_so() {
    let mesh = mesh();
    let head = |path: &str, bytes: u32| {
        let python =
            format!("b\"GET {path} HTTP/1.1\\r\\nHost: web\\r\\nx-big: \" + b\"a\" * {bytes} + b\"\\r\\n\\r\\n\"");
        send(&mesh, "web", 80, &python)
    };
    let said = head("/wish-6", 300_000).to_lowercase();
    assert!(said.starts_with("http/1.1 431 "), "{said}");
    for part in [
        "the limit is 262144",
        "sheer-verdict: client-config",
        "sheer-reason: header-list-too-large",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let line = kept(&mesh, "/wish-6");
    assert_eq!(
        (&line["status"], &line["reason"], &line["verdict"]),
        (
            &Value::from(431),
            &Value::from("header-list-too-large"),
            &Value::from("client-config")
        )
    );
    // The same status of an application is its own.
    let said = head("/wish-6-of-the-application", 70_000).to_lowercase();
    assert!(
        said.starts_with("http/1.1 431 ") && !said.contains("sheer-verdict"),
        "{said}"
    );
    let line = mesh.tap(
        &["pod/client", "--path", "/wish-6-of-the-application"],
        || drop(head("/wish-6-of-the-application", 70_000)),
        |line| line["kind"] == "end",
    );
    assert_eq!((&line["status"], &line["reason"]), (&Value::from(431), &"".into()));
}

#[test]
fn wish_07_large_errors_in_trailers_arrive() {
    let mesh = mesh();
    let said = mesh.shell("client", &call(LARGE, "shop.Odd/Wish7", "--data-binary x"));
    let message = said.lines().find_map(|line| line.strip_prefix("grpc-message: "));
    assert_eq!(message.map(|message| message.trim_end().len()), Some(40_000), "{said}");
    assert!(said.contains("grpc-status: 3"), "{said}");
    let seen = mesh.tap(
        &["pod/client", "--path", "/shop.Odd/Wish7"],
        || drop(mesh.shell("client", &call(LARGE, "shop.Odd/Wish7", "--data-binary x"))),
        |line| line["kind"] == "end",
    );
    assert_eq!((&seen["grpc_status"], &seen["reason"]), (&Value::from(3), &"".into()));
}

#[test]
fn wish_08_protocol_errors_and_goaways_name_the_rule_and_who_broke_it() {
    let mesh = mesh();
    let said = mesh.shell("client", &call(BROKEN, "shop.Odd/Wish8", "--data-binary x"));
    assert!(said.contains("sheer-verdict: application-library"), "{said}");
    mesh.shell("client", &call(CALM, "shop.Odd/Wish8", "--data-binary x"));
    let frames = mesh.sheer(&["frames", "-n", "shop", "deploy/odd", "--last-failures", "--peer", "app"]);
    let rule = frames
        .lines()
        .find(|line| line.contains("RFC 9113, 6.9"))
        .unwrap_or_else(|| panic!("{frames}"));
    assert!(rule.contains("WINDOW_UPDATE"), "{rule}");
    let goaway = frames
        .lines()
        .find(|line| line.contains("←") && line.contains("GOAWAY"))
        .unwrap_or_else(|| panic!("{frames}"));
    assert!(
        goaway.contains("ENHANCE_YOUR_CALM") && goaway.contains("too_many_pings"),
        "{goaway}"
    );
}

#[test]
fn wish_09_it_is_said_whether_proxy_or_application_failed() {
    let mesh = mesh();
    let ask = |to: &str, more: &str| {
        let said = curl(&mesh, &format!("-D - -o /dev/null {more} http://{to}"));
        let field = |name: &str| {
            let lower = said.to_lowercase();
            let value = lower
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.unwrap_or_default().trim().to_owned()
        };
        let status = said.split(' ').nth(1).unwrap_or_default().to_owned();
        (status, field("sheer-verdict"), field("sheer-reason"))
    };
    let told = |status: &str, verdict: &str, reason: &str| (status.to_owned(), verdict.to_owned(), reason.to_owned());
    assert_eq!(
        ask(&format!("odd:{CLOSES}/wish-9-closed"), ""),
        told("502", "application", "upstream-closed")
    );
    assert_eq!(ask("empty/wish-9-empty", ""), told("503", "capacity", "failfast"));
    assert_eq!(
        ask("web/wish-9-unsupported", "-X DELETE"),
        told("501", "", ""),
        "the application's own"
    );
    for (path, verdict, reason) in [
        ("/wish-9-closed", "application", "upstream-closed"),
        ("/wish-9-empty", "capacity", "failfast"),
        ("/wish-9-unsupported", "application", ""),
    ] {
        let line = kept(&mesh, path);
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&verdict.into(), &reason.into()),
            "{line:#}"
        );
    }
}

#[test]
fn wish_10_a_fast_failure_says_what_it_waited_for_and_where() {
    let mesh = mesh();
    let said = curl(&mesh, "-D - http://empty/wish-10");
    let error = said
        .lines()
        .find(|line| line.to_lowercase().starts_with("l5d-proxy-error: "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(
        error.contains("empty.shop") && error.contains("endpoint"),
        "the service, and what it lacks: {error}"
    );
    let explained = explain(&mesh, "svc/empty:80", &[]);
    assert_ne!(explained["outcome"], "forwarded", "{explained:#}");
    assert_eq!(explained["reason"], "failfast", "{explained:#}");
}

#[test]
fn wish_11_a_connection_that_closed_says_who_closed_it_and_how() {
    let mesh = mesh();
    mesh.shell("client", &call(CALM, "shop.Odd/Wish11", "--data-binary x"));
    let told = curl(&mesh, &format!("-D - -o /dev/null http://odd:{CLOSES}/wish-11"));
    assert!(
        told.contains(&format!(
            ":{CLOSES} closed the connection before the response was complete"
        )),
        "{told}"
    );
    let conns = json(&mesh, &["conns", "-n", "shop", "deploy/odd", "--ended"]);
    let all = conns[0]["connections"].as_array().expect("connections");
    let ending = |port: u16| {
        let to_app = all.iter().find(|one| {
            one["peer"] == "app"
                && one["remote"]
                    .as_str()
                    .is_some_and(|remote| remote.ends_with(&format!(":{port}")))
        });
        to_app.unwrap_or_else(|| panic!("no connection to {port}: {conns:#}"))["ending"].clone()
    };
    for (port, how) in [(CALM, "ENHANCE_YOUR_CALM of the peer"), (CLOSES, "closed (FIN)")] {
        let ending = ending(port);
        assert_eq!((&ending["by"], &ending["clean"]), (&"peer".into(), &false.into()));
        assert!(
            ending["how"].as_str().is_some_and(|said| said.contains(how)),
            "{ending:#}"
        );
    }
}

#[test]
fn wish_12_a_server_that_speaks_first_is_not_waited_out() {
    let mesh = mesh();
    let said = send(&mesh, "odd", GREETS, "b\"\"");
    assert!(said.starts_with("220 ready"), "{said}");
    let took: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("ms ")?.parse().ok())
        .expect("a time");
    assert!(took < 5_000, "it took {took} ms, and nobody should wait ten seconds");
    let conns = json(&mesh, &["conns", "-n", "shop", "pod/client", "--ended"]);
    let all = conns[0]["connections"].as_array().expect("connections");
    let name = format!("odd.shop.svc.cluster.local:{GREETS}");
    let relayed = all.iter().find(|one| one["name"] == *name);
    assert_eq!(relayed.unwrap_or_else(|| panic!("{conns:#}"))["protocol"], "tcp");
}

#[test]
fn wish_13_failures_are_seen_after_the_fact_and_by_status() {
    let mesh = mesh();
    // Nobody watches.
    curl(&mesh, &format!("-o /dev/null http://odd:{CLOSES}/wish-13"));
    curl(&mesh, "-o /dev/null -X DELETE http://web/wish-13-other");
    curl(&mesh, "-o /dev/null http://web/wish-13-well");
    let arguments = ["pod/client", "--failed-only", "--path", "/wish-13", "--status"];
    for (status, path) in [("502", "/wish-13"), ("501", "/wish-13-other")] {
        let line = mesh.tap(&[&arguments[..], &[status]].concat(), || {}, |_| true);
        assert_eq!((&line["path"], &line["kept"]), (&path.into(), &true.into()), "{line:#}");
    }
    let frames = mesh.sheer(&["frames", "-n", "shop", "pod/client", "--last-failures"]);
    assert!(
        frames.contains("GET /wish-13 HTTP/1.1") && !frames.contains("/wish-13-well"),
        "the frames before it are there: {frames}"
    );
}

#[test]
fn wish_14_a_denial_is_explained_and_a_policy_can_be_tried_first() {
    let mesh = mesh();
    let said = curl(&mesh, "-D - -o /dev/null http://vault/wish-14").to_lowercase();
    assert!(
        said.starts_with("http/1.1 403 ") && said.contains("sheer-reason: policy-denied"),
        "{said}"
    );
    let explained = explain(&mesh, "svc/vault:80", &["--protocol", "http1", "--path", "/wish-14"]);
    assert_eq!(
        (&explained["outcome"], &explained["verdict"]),
        (&"denied".into(), &"policy".into())
    );
    let decisions = explained["decisions"].as_array().expect("decisions");
    let server = decisions
        .iter()
        .find(|one| one["stage"] == "server")
        .expect("the server");
    assert!(
        server["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("closed.yaml"))
            && server["line"].as_u64() > Some(0),
        "{server:#}"
    );
    // Who would be denied if web were closed too, before it is.
    for _ in 0..5 {
        curl(&mesh, "-o /dev/null http://web/wish-14");
    }
    std::fs::write(mesh.folder().join("wish-14.yaml"), CLOSED.replace("vault", "web")).expect("written");
    let diff = mesh.wait("what passed is known", || {
        let diff = json(&mesh, &["policy", "diff", "-f", "wish-14.yaml"]);
        let denied = diff["changes"]
            .as_array()
            .is_some_and(|changes| changes.iter().any(|one| one["kind"] == "denied"));
        denied.then_some(diff)
    });
    assert_eq!(diff["changes"][0]["workload"], "shop/deploy/web", "{diff:#}");
    let said = curl(&mesh, "-D - -o /dev/null http://web/wish-14");
    assert!(said.starts_with("HTTP/1.1 200 "), "nothing was applied: {said}");
}

#[test]
fn wish_15_fallbacks_headers_restarts_audit_and_streams_of_bytes() {
    let mesh = mesh();
    // Why a connection is not mutual TLS, and edges of TCP.
    let edges = mesh.wait("edges are known", || {
        mesh.shell("outside", "curl -sS --max-time 10 -o /dev/null http://web/wish-15");
        send(&mesh, "odd", GREETS, "b\"\"");
        let edges = json(&mesh, &["edges", "-n", "shop"]);
        let all = edges.as_array().expect("edges").clone();
        let find = |from: &str, to: &str, is: &dyn Fn(&Value) -> bool| {
            let edge = all
                .iter()
                .find(|one| one["source"]["name"] == from && one["destination"]["name"] == to && is(one));
            edge.cloned()
        };
        let bare = find("outside", "web", &|_| true)?;
        let bytes = find("client", "odd", &|one| one["protocols"] == serde_json::json!(["tcp"]))?;
        Some((bare, bytes))
    });
    assert_eq!(
        (&edges.0["tls"], &edges.0["why"]),
        (&"none".into(), &"outside has no sidecar".into())
    );
    assert_eq!(edges.1["tls"], "mutual");
    // Headers arrive as they were sent, and who changed one is said.
    let head = "b\"GET /wish-15 HTTP/1.1\\r\\nHost: web\\r\\nX-WiSh-15: kept\\r\\n\\r\\n\"";
    send(&mesh, "web", 80, head);
    let frames = mesh.sheer(&["frames", "-n", "shop", "deploy/web", "--peer", "app"]);
    assert!(frames.contains("X-WiSh-15: kept"), "{frames}");
    // Tools beside a running workload, which goes on as it was.
    let pids = mesh.pids("deploy/web");
    let listening = mesh.sheer(&["debug", "-n", "shop", "deploy/web", "--", "ss", "-Htln"]);
    assert!(listening.contains(":8080"), "{listening}");
    assert_eq!(mesh.pids("deploy/web"), pids);
    // Who looked.
    let audit = mesh.sheer(&["logs", "control"]);
    let line = audit
        .lines()
        .find(|line| line.contains("audit:") && line.contains("what=\"frames\""))
        .unwrap_or_else(|| panic!("{audit}"));
    assert!(line.contains("caller=\"uid "), "{line}");
    let quick = curl(&mesh, &format!("-o /dev/null -w '%{{http_code}}' http://odd:{QUICK}/"));
    assert_eq!(quick, "200", "and all goes on");
}
