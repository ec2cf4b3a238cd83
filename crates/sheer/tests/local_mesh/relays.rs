//! Connections that are relayed as bytes: what is known of TLS within, how their failures are judged, and that the tap and the frames say the same.

use serde_json::Value;

use crate::{
    harness::{Mesh, User, client, meshed_client, meshed_web},
    odd::{BROKEN, CLOSES, GREETS, NOBODY, QUICK, RESETS, call, odd},
};

fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// A port that is marked opaque, and another one that nobody looks into: the ClientHello passes, and the name that it asks for is known at both ends.
#[test]
fn tls_on_an_opaque_port_is_seen_by_its_server_name() {
    let mesh = Mesh::new(User::Current);
    let opaque = format!("config.sheer.dev/opaque-ports: '{CLOSES}'");
    let marked = odd()
        .replace(
            "metadata: { name: odd, namespace: shop }\nspec: { selector",
            &format!("metadata: {{ name: odd, namespace: shop, annotations: {{ {opaque} }} }}\nspec: {{ selector"),
        )
        .replace(
            "labels: { app: odd } }",
            &format!("labels: {{ app: odd }}, annotations: {{ {opaque} }} }}"),
        );
    assert_eq!(marked.matches(&opaque).count(), 2, "{marked}");
    mesh.write("odd.yaml", &marked)
        .write("client.yaml", &meshed_client())
        .up();
    let hello = || {
        let to = format!(
            "curl -sk --max-time 5 -o /dev/null --connect-to ledger.test:443:odd:{CLOSES} https://ledger.test/ || true"
        );
        mesh.shell("client", &to);
        // What is no TLS shows under no name.
        mesh.shell("client", &format!("echo plain | timeout 5 python3 -c 'import socket, sys; s = socket.create_connection((\"odd\", {CLOSES})); s.sendall(sys.stdin.buffer.read()); s.recv(9)'"));
    };
    for workload in ["pod/client", "deploy/odd"] {
        let arguments = [workload, "--authority", "ledger.test"];
        let end = mesh.tap(&arguments, hello, |line| {
            assert_eq!(
                line["server_name"], "ledger.test",
                "what is not asked for does not show: {line:#}"
            );
            line["kind"] == "tcp" && line["event"] == "end"
        });
        assert_eq!(end["protocol"], "tls", "{end:#}");
        assert!(
            end["request_bytes"].as_u64() > Some(200),
            "every byte went through: {end:#}"
        );
        let conns = mesh.sheer(&["conns", "-n", "shop", workload, "--ended", "-o", "json"]);
        let conns: Value = serde_json::from_str(&conns).expect("JSON");
        for peer in ["app", "mesh"] {
            let is =
                |one: &&Value| one["peer"] == peer && one["server_name"] == "ledger.test" && one["protocol"] == "tls";
            let all = conns[0]["connections"].as_array().expect("connections");
            assert!(all.iter().any(|one| is(&one)), "{workload} to {peer}: {conns:#}");
            assert!(
                all.iter().any(|one| one["peer"] == peer && one["protocol"] == "tcp"),
                "{conns:#}"
            );
        }
        let plain = mesh.tap(&[workload], hello, |line| {
            line["event"] == "end" && line["server_name"] == ""
        });
        assert_eq!(plain["protocol"], "tcp", "{plain:#}");
    }
    let table = mesh.sheer(&["conns", "-n", "shop", "pod/client", "--ended"]);
    assert!(table.contains("tls ledger.test"), "{table}");
}

/// Speaks TLS 1.3 and nothing older.
const VAULT: &str = r#"
import socket, ssl, threading
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.minimum_version = ssl.TLSVersion.TLSv1_3
tls.load_cert_chain("vault.pem")
def serve(plain):
    try:
        with tls.wrap_socket(plain, server_side=True) as client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    except OSError:
        plain.close()
listening = socket.create_server(("::", 9443), family=socket.AF_INET6, dualstack_ipv6=True)
while True: threading.Thread(target=serve, args=[listening.accept()[0]]).start()
"#;

fn vault() -> String {
    let server = serde_json::to_string(VAULT).expect("a string");
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: vault, namespace: shop }}
spec: {{ selector: {{ app: vault }}, ports: [{{ name: tls, port: 443, targetPort: 9443 }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: vault, namespace: shop }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: vault }} }}
  template:
    metadata: {{ labels: {{ app: vault }} }}
    spec:
      containers:
        - name: app
          command: [/usr/bin/python3, -c, {server}]
          ports: [{{ containerPort: 9443 }}]
          readinessProbe: {{ tcpSocket: {{ port: 9443 }}, periodSeconds: 1 }}
"
    )
}

/// Who offers less than the application takes is told so by its alert. That passes through with everything else, and says by itself what is wrong.
#[test]
fn the_handshake_of_the_applications_own_tls_is_seen_and_its_alert_is_a_failure() {
    let mesh = Mesh::new(User::Current);
    let key = rcgen::generate_simple_self_signed(["vault".to_owned()]).expect("a certificate");
    let pem = key.signing_key.serialize_pem() + &key.cert.pem();
    std::fs::write(mesh.folder().join("vault.pem"), pem).expect("written");
    mesh.write("vault.yaml", &vault())
        .write("client.yaml", &meshed_client())
        .up();
    let ask = |more: &str| {
        mesh.shell(
            "client",
            &format!("curl -sk --max-time 5 -o /dev/null -w '%{{http_code}}' {more} https://vault/ || true"),
        )
    };
    assert_eq!(ask("").trim(), "200");
    for workload in ["pod/client", "deploy/vault"] {
        let old = || drop(ask("--tls-max 1.2"));
        let end = mesh.tap(&[workload, "--failed-only"], old, |line| line["event"] == "end");
        let told = [&end["reason"], &end["verdict"], &end["closed_by"]];
        assert_eq!(told, ["tls-alert", "application", "server"], "{end:#}");
        let message = end["message"].as_str().unwrap_or_default();
        assert!(
            message.contains("the server ended the applications' own TLS with the alert protocol_version")
                && message.contains("the client offers TLS 1.2"),
            "{end:#}"
        );
        let table = mesh.sheer(&["tap", "-n", "shop", workload, "--failed-only", "--for", "1s"]);
        assert!(
            table.contains("by the server, tls-alert (verdict application)")
                && table.contains("the alert protocol_version"),
            "{table}"
        );
        let conns = mesh.sheer(&["conns", "-n", "shop", workload, "--ended", "-o", "json"]);
        let conns: Value = serde_json::from_str(&conns).expect("JSON");
        let all = conns[0]["connections"].as_array().expect("connections");
        for peer in ["app", "mesh"] {
            let of_peer = || {
                all.iter()
                    .filter(|one| one["peer"] == peer)
                    .map(|one| &one["passed_tls"])
            };
            let refused = of_peer().find(|tls| tls["alert"] == "protocol_version");
            assert!(
                refused.is_some_and(|tls| tls["alert_by"] == "server"),
                "{workload} {peer}: {conns:#}"
            );
            let chosen = of_peer().find(|tls| tls["version"] == "TLS 1.3");
            let chosen = chosen.unwrap_or_else(|| panic!("{workload} {peer}: {conns:#}"));
            let offered = chosen["offered_versions"].as_array().expect("versions");
            assert!(
                offered.contains(&"TLS 1.3".into()) && chosen["cipher"] != "",
                "{chosen:#}"
            );
        }
        let failures = mesh.sheer(&["frames", "-n", "shop", workload, "--last-failures"]);
        assert!(
            failures.contains("tls-alert  verdict application")
                && failures.contains("alert protocol_version by the server"),
            "{failures}"
        );
    }
    let wide = mesh.sheer(&["conns", "-n", "shop", "pod/client", "--ended", "-o", "wide"]);
    assert!(wide.contains("passes through: TLS 1.3"), "{wide}");
}

/// Opens a connection to a port of odd and says a line; `end` is what becomes of it then.
fn talk(mesh: &Mesh, port: u16, end: &str) {
    let script = format!(
        "timeout 10 python3 -c '
import socket, struct, time
s = socket.create_connection((\"odd\", {port}), 5)
try:
    s.sendall(b\"hello\\n\")
    {end}
except OSError: pass'"
    );
    mesh.shell("client", &script);
}

/// How a failure was judged, as the frames of a workload show it.
fn judged(mesh: &Mesh, workload: &str) -> Vec<(String, String)> {
    let failures = mesh.sheer(&["frames", "-n", "shop", workload, "--last-failures", "-o", "json"]);
    let all = lines(&failures);
    let failures = all
        .iter()
        .filter(|line| line["type"] == "FAILURE" && line["kind"] == "connection");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    failures
        .inspect(|failure| assert!(!text(&failure["message"]).is_empty(), "{failure:#}"))
        .map(|failure| (text(&failure["verdict"]), text(&failure["reason"])))
        .collect()
}

#[test]
fn failures_of_relayed_connections_name_verdict_and_reason() {
    let mesh = Mesh::new(User::Current);
    mesh.write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .write("outside.yaml", &client().replace("name: client", "name: outside"))
        .up();
    assert_eq!(judged(&mesh, "pod/client"), []);
    let reset =
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(\"ii\", 1, 0)); time.sleep(0.3); s.close()";
    // By what, seen by whose sidecar, and judged how.
    for (port, end, workload, verdict, reason) in [
        (RESETS, "s.recv(9)", "deploy/odd", "application", "server-reset"),
        (RESETS, "s.recv(9)", "pod/client", "application", "server-reset"),
        (QUICK, reset, "pod/client", "application", "client-reset"),
        (QUICK, reset, "deploy/odd", "application", "client-reset"),
        (NOBODY, "s.recv(9)", "deploy/odd", "application", "connect-refused"),
    ] {
        let arguments = [workload, "--failed-only"];
        let line = mesh.tap(
            &arguments,
            || talk(&mesh, port, end),
            |line| line["event"] == "end" && line["reason"] == reason,
        );
        assert_eq!(
            (&line["verdict"], &line["failed"]),
            (&verdict.into(), &true.into()),
            "{line:#}"
        );
        let kept = judged(&mesh, workload);
        assert!(
            kept.contains(&(verdict.to_owned(), reason.to_owned())),
            "{workload}: {kept:?}"
        );
    }
    // Those of before are shown to who asks later, at either end.
    for workload in ["pod/client", "deploy/odd"] {
        let line = mesh.tap(
            &[workload, "--failed-only"],
            || {},
            |line| line["reason"] == "server-reset",
        );
        assert_eq!(
            (&line["kept"], &line["verdict"], &line["closed_by"], &line["event"]),
            (&true.into(), &"application".into(), &"server".into(), &"end".into()),
            "{line:#}"
        );
        assert!(
            line["request_bytes"].as_u64() > Some(0) && line["message"] != "",
            "{line:#}"
        );
        let source = line["source_workload"].as_str().unwrap_or_default();
        assert_eq!(source, "pod/client", "{line:#}");
    }
    // A client that speaks TLS for the workload's own name and does not trust its certificate.
    let identity = "default.shop.serviceaccount.identity.sheer.cluster.local";
    let bad = || {
        let curl = format!("curl -s --max-time 5 --connect-to {identity}:443:odd:{CLOSES} https://{identity}/ || true");
        mesh.shell("outside", &curl);
    };
    let line = mesh.tap(&["deploy/odd", "--failed-only"], bad, |line| {
        line["reason"] == "tls-accept"
    });
    assert_eq!(line["verdict"], "identity", "{line:#}");
    assert!(judged(&mesh, "deploy/odd").contains(&("identity".to_owned(), "tls-accept".to_owned())));
    // For people: once for both sides of it.
    let page = mesh.sheer(&["frames", "-n", "shop", "deploy/odd", "--last-failures"]);
    let failure = page
        .split("\n\n")
        .find(|part| part.contains("server-reset"))
        .unwrap_or_else(|| panic!("{page}"));
    for part in [
        "verdict application",
        "the server reset the connection, after ",
        "came in on connection ",
        "went out on connection ",
    ] {
        assert!(failure.contains(part), "{part}: {page}");
    }
    // What ends as it should is no failure: both read to the end.
    let before = judged(&mesh, "pod/client").len();
    talk(&mesh, GREETS, "while s.recv(99): pass");
    assert_eq!(judged(&mesh, "pod/client").len(), before);
}

/// The sidecar at the other end made the answer up: the frames of the caller say so as its tap does.
#[test]
fn a_verdict_of_the_other_sidecar_is_the_same_in_tap_and_frames() {
    let mesh = Mesh::new(User::Current);
    mesh.write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .up();
    let ask = || {
        mesh.shell("client", &call(BROKEN, "shop.Odd/Broken", "--data-binary x"));
        mesh.shell(
            "client",
            &format!("curl -sS --max-time 10 -o /dev/null http://odd:{CLOSES}/closed"),
        );
    };
    let failures = || {
        let failures = mesh.sheer(&["frames", "-n", "shop", "pod/client", "--last-failures", "-o", "json"]);
        let all = lines(&failures);
        let failures = all
            .into_iter()
            .filter(|line| line["type"] == "FAILURE" && line["kind"] == "request");
        failures.collect::<Vec<_>>()
    };
    for path in ["/shop.Odd/Broken", "/closed"] {
        let end = mesh.tap(&["pod/client", "--path", path], ask, |line| line["kind"] == "end");
        assert_ne!((&end["verdict"], &end["reason"]), (&"".into(), &"".into()), "{end:#}");
        let id: u64 = end["id"]
            .as_str()
            .and_then(|id| id.rsplit_once('/')?.1.parse().ok())
            .expect("an id");
        let of = failures()
            .into_iter()
            .find(|failure| failure["request"] == id)
            .expect("its frames");
        assert_eq!(
            (&of["verdict"], &of["reason"]),
            (&end["verdict"], &end["reason"]),
            "{of:#} {end:#}"
        );
    }
    // Also when that sidecar is gone: then the answer itself says it.
    let verdicts = |all: Vec<Value>| {
        all.into_iter()
            .map(|one| (one["verdict"].clone(), one["reason"].clone()))
            .collect::<Vec<_>>()
    };
    let before = verdicts(failures());
    mesh.sheer(&["scale", "-n", "shop", "deploy/odd", "--replicas", "0"]);
    mesh.wait("odd is gone", || mesh.ready_pods("deploy/odd").is_empty().then_some(()));
    assert_eq!(verdicts(failures()), before);
}

/// Both connections of a request that failed are gone, and with them their logs: what was kept of it at either end is all four points.
#[test]
#[expect(clippy::too_many_lines, reason = "one failure, from its life to long after")]
fn a_failure_is_compared_when_its_connections_are_gone() {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", &meshed_web(1))
        .write("client.yaml", &meshed_client())
        .write("outside.yaml", &client().replace("name: client", "name: outside"))
        .up();
    mesh.shell("client", "curl -sS --max-time 10 -o /dev/null http://web/unseen");
    let unseen = mesh.wait("it is over", || {
        let last = mesh.sheer(&["diff", "-n", "shop", "pod/client", "-o", "json"]);
        let last: Value = serde_json::from_str(&last).ok()?;
        last.to_string()
            .contains("/unseen")
            .then(|| last["request_id"].as_str().expect("an id").to_owned())
    });
    mesh.shell(
        "client",
        "curl -sS --max-time 10 -o /dev/null -X DELETE -H 'x-note: of-the-failure' http://web/gone",
    );
    let end_of = |path: &str, more: &[&str]| {
        let ask = || {
            if more.is_empty() {
                mesh.shell(
                    "client",
                    &format!("curl -sS --max-time 10 -o /dev/null http://web{path}"),
                );
            }
        };
        mesh.tap(&[&["pod/client", "--path", path], more].concat(), ask, |line| {
            line["kind"] == "end"
        })
    };
    let id_of = |line: &Value| line["id"].as_str().expect("an id").to_owned();
    let well = id_of(&end_of("/well", &[]));
    let failure = end_of("/gone", &["--failed-only"]);
    let failed = id_of(&failure);
    let connection = |view: &str, side: &str| {
        failure["views"][view][side]["connection"]
            .as_u64()
            .expect("a connection")
    };
    let legs = [
        ("pod/client", connection("outbound", "client")),
        ("pod/client", connection("outbound", "upstream")),
        ("deploy/web", connection("inbound", "client")),
        ("deploy/web", connection("inbound", "upstream")),
    ];
    // Whether it is open, if it is known at all.
    let is_open = |(workload, id): (&str, u64)| {
        let conns = mesh.sheer(&["conns", "-n", "shop", workload, "--ended", "-o", "json"]);
        let conns: Value = serde_json::from_str(&conns).expect("JSON");
        let all = conns[0]["connections"].as_array().expect("connections");
        let found = all.iter().find(|one| one["id"] == id);
        found.map(|one| one["ending"].is_null())
    };
    // The mesh's connection is replaced, and that to the application is closed as it is idle; then so many end on either side that they are none of the last.
    let file = mesh.folder().join("web.pcapng").display().to_string();
    mesh.sheer(&[
        "capture",
        "-n",
        "shop",
        "deploy/web",
        "--fresh",
        "--for",
        "1s",
        "-o",
        &file,
    ]);
    mesh.wait("all four connections have ended", || {
        legs.iter().all(|leg| is_open(*leg) != Some(true)).then_some(())
    });
    for from in ["client", "outside"] {
        mesh.shell(
            from,
            "for nth in $(seq 40); do curl -sS --max-time 10 -o /dev/null http://web/other; done",
        );
    }
    mesh.wait("they are forgotten", || {
        legs.iter().all(|leg| is_open(*leg).is_none()).then_some(())
    });
    let diff_of = |which: &[&str]| {
        let output = mesh.run(&[&["diff", "-n", "shop", "pod/client", "-o", "json"], which].concat());
        let parsed = serde_json::from_slice::<Value>(&output.stdout);
        (
            parsed.unwrap_or_else(|error| panic!("{error}: {output:?}")),
            output.status,
        )
    };
    for which in [&["--request", &*failed][..], &["--failed"]] {
        let (diff, status) = diff_of(which);
        assert_eq!(diff["request_id"], *failed, "{diff:#}");
        for point in ["1", "2", "3", "4"] {
            let has = |part: &str, name: &str, value: &str| {
                let fields = diff["points"][point][part].as_array().cloned().unwrap_or_default();
                fields.iter().any(|field| field[0] == name && field[1] == value)
            };
            assert!(
                has("request", ":path", "/gone") && has("request", "x-note", "of-the-failure"),
                "{point}: {diff:#}"
            );
            assert!(has("response", ":status", "501"), "{point}: {diff:#}");
        }
        assert!(status.success(), "nothing is unexplained: {diff:#}");
    }
    // From the other end, too.
    let diff = mesh.sheer(&["diff", "-n", "shop", "deploy/web", "--failed"]);
    assert_eq!(diff.matches("DELETE /gone").count(), 4, "{diff}");
    // So is what a tap has shown. Of what nobody was shown, and went well, nothing is kept, and that is said.
    let diff = mesh.sheer(&["diff", "-n", "shop", "pod/client", "--request", &well]);
    assert_eq!(diff.matches("GET /well").count(), 4, "{diff}");
    let said = mesh.run(&["diff", "-n", "shop", "pod/client", "--request", &unseen]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("its connection is gone: frames are kept of ") && said.contains("is not known any more"),
        "{said}"
    );
}

/// Its caller has `sheer.dev/sight: disabled`: what it sends does not show at the callee either, where requests of all share connections to the application.
#[test]
fn requests_of_a_hidden_caller_do_not_show_at_its_callee() {
    const PLANTED: &str = "planted-by-quiet";
    let mesh = Mesh::new(User::Current);
    let quiet = meshed_client()
        .replace("name: client", "name: quiet")
        .replace("annotations: {", "annotations: { sheer.dev/sight: disabled,");
    mesh.write("web.yaml", &meshed_web(1))
        .write("odd.yaml", &odd())
        .write("client.yaml", &meshed_client())
        .write("quiet.yaml", &quiet)
        .up();
    let get = |note: &str| format!("curl -sS --max-time 10 -o /dev/null -H 'x-note: {note}' http://web/{note}");
    let from = |pod: &str, note: &str| {
        for (to, method) in [("web", "GET"), ("web", "DELETE"), ("odd:9005", "GET")] {
            mesh.shell(
                pod,
                &format!("curl -sS --max-time 10 -o /dev/null -X {method} -H 'x-note: {note}' http://{to}/{note}"),
            );
        }
        mesh.shell(
            pod,
            &call(BROKEN, note, &format!("-H 'x-note: {note}' --data-binary x")),
        );
    };
    for _ in 0..3 {
        from("quiet", PLANTED);
        from("client", "seen");
    }
    for (workload, more) in [
        ("deploy/web", &[][..]),
        ("deploy/web", &["--peer", "app"]),
        ("deploy/web", &["--last-failures"]),
        ("deploy/odd", &["--last-failures"]),
    ] {
        for format in ["wide", "json"] {
            // A connection to the application that is idle is closed soon.
            for (pod, note) in [("quiet", PLANTED), ("client", "seen")] {
                mesh.shell(pod, &get(note));
            }
            let arguments = [&["frames", "-n", "shop", workload, "-o", format], more].concat();
            let text = mesh.sheer(&arguments);
            assert!(!text.contains(PLANTED), "{arguments:?} shows it: {text}");
            assert!(text.contains("/seen"), "{arguments:?} shows the other one: {text}");
        }
    }
    for arguments in [
        &["diff", "deploy/web"][..],
        &["diff", "deploy/web", "--failed"],
        &["tap", "deploy/web", "--failed-only", "--for", "1s"],
        &["conns", "deploy/web", "--ended", "-o", "json"],
    ] {
        let output = mesh.run(&[arguments, &["-n", "shop"]].concat());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!text.contains(PLANTED), "{arguments:?} shows it: {text}");
    }
}
