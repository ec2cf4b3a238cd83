//! Looking at the wire of a real mesh: connections, frames, requests as both sidecars see them, a request at its four points; and that no secret shows.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::harness::{Mesh, User, meshed_client, meshed_web};

/// What must not be seen anywhere: in a field that is always hidden, in two that look like secrets, in the query, and in bodies.
const SECRETS: [&str; 6] = [
    "planted-bearer",
    "planted-cookie",
    "planted-token",
    "planted-query",
    "planted-body",
    "planted-text",
];
const PAY: &str = r#"curl -sS --max-time 10 -o /dev/null -H 'content-type: application/json' -d '{"payer":"ada","card":{"apiToken":"planted-body"}}' http://web/pay"#;
const NOTE: &str =
    "curl -sS --max-time 10 -o /dev/null -H 'content-type: text/plain' -d 'the pin is planted-text' http://web/note";
pub(crate) const ASK: &str = "curl -sS --max-time 10 -o /dev/null -w '%{http_code}' -H 'authorization: Bearer planted-bearer' -H 'cookie: s=planted-cookie' \
    -H 'x-api-token: planted-token' -H 'x-tenant: acme' 'http://web/pay?access_token=planted-query&page=2'";

pub(crate) fn mesh() -> Mesh {
    mesh_with(&meshed_web(1))
}

pub(crate) fn mesh_with(web: &str) -> Mesh {
    let mesh = Mesh::new(User::Current);
    mesh.write("web.yaml", web).write("client.yaml", &meshed_client()).up();
    assert_eq!(mesh.shell("client", ASK).trim(), "200");
    mesh
}

pub(crate) fn assert_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
    }
}

/// What a command printed, which holds no secret.
pub(crate) fn shown(mesh: &Mesh, arguments: &[&str]) -> String {
    let output = mesh.run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "sheer {arguments:?}: {} {stderr}{text}",
        output.status
    );
    assert_no_secret(&arguments.join(" "), &(text.clone() + &stderr));
    text
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Runs a tap while something happens again and again.
pub(crate) fn tapped(mesh: &Mesh, arguments: &[&str], happens: impl Fn()) -> Output {
    meanwhile(
        mesh,
        &[&["tap", "-n", "shop"], arguments, &["--for", "4s"]].concat(),
        happens,
    )
}

/// Runs a command to its end while something happens again and again.
fn meanwhile(mesh: &Mesh, arguments: &[&str], happens: impl Fn()) -> Output {
    let mut command = mesh.command(arguments);
    let running = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sheer runs");
    // Read as it comes: what is said fills a pipe.
    let reading = std::thread::spawn(move || running.wait_with_output());
    while !reading.is_finished() {
        happens();
        crate::harness::pause();
    }
    reading.join().expect("no panic").expect("its output")
}

#[test]
#[expect(clippy::too_many_lines, reason = "one mesh, looked at from one end to the other")]
fn connections_and_frames_of_a_live_mesh() {
    let mesh = mesh();
    let conns: Value =
        serde_json::from_str(&shown(&mesh, &["conns", "-n", "shop", "pod/client", "-o", "json"])).expect("JSON");
    let all = conns[0]["connections"].as_array().expect("connections");
    let to_web = all.iter().find(|one| one["peer"] == "mesh").unwrap_or_else(|| {
        panic!(
            "{conns:#}\n{}",
            shown(&mesh, &["logs", "-n", "shop", "client", "--proxy"])
        )
    });
    assert_eq!(
        (&to_web["protocol"], &to_web["direction"]),
        (&Value::from("http/2"), &Value::from("outbound"))
    );
    assert!(
        to_web["remote_pod"]
            .as_str()
            .is_some_and(|pod| pod.starts_with("shop/web-")),
        "{to_web:#}"
    );
    assert!(
        to_web["identity"]
            .as_str()
            .is_some_and(|name| name.contains(".serviceaccount.identity.")),
        "{to_web:#}"
    );
    assert_eq!(to_web["tls"]["version"], "TLSv1.3");
    assert!(
        to_web["tcp"]["rtt_us"].as_u64().is_some_and(|rtt| rtt > 0),
        "{to_web:#}"
    );
    assert_eq!(to_web["streams_total"], 1);
    let table = shown(&mesh, &["conns", "-n", "shop", "pod/client"]);
    assert!(table.contains("header blocks compared, 0 disagreements"), "{table}");
    shown(&mesh, &["conns", "-n", "shop", "pod/client", "--ended", "-o", "wide"]);

    let id = to_web["id"].to_string();
    let json = shown(
        &mesh,
        &["frames", "-n", "shop", "pod/client", "--conn", &id, "-o", "json"],
    );
    let frames = lines(&json);
    let request = frames
        .iter()
        .find(|frame| frame["block"]["kind"] == "request")
        .unwrap_or_else(|| panic!("{json}"));
    assert_eq!(
        (&request["direction"], &request["connection"]["peer"]),
        (&Value::from("written"), &Value::from("mesh"))
    );
    let field = |name: &str| {
        let fields = request["block"]["fields"].as_array().expect("fields");
        fields
            .iter()
            .find(|field| field["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {request:#}"))
    };
    assert_eq!(field("x-tenant")["value"], "acme");
    assert_eq!(field("x-tenant")["hpack"]["representation"], "literal, indexed");
    for hidden in ["authorization", "cookie", "x-api-token"] {
        assert_eq!(field(hidden)["redacted"], true);
        assert!(
            field(hidden)["value"]
                .as_str()
                .is_some_and(|value| value.starts_with("hash:"))
        );
    }
    assert!(
        field(":path")["value"]
            .as_str()
            .is_some_and(|path| path.starts_with("/pay?access_token=hash:") && path.ends_with("&page=2"))
    );
    assert!(
        frames
            .iter()
            .any(|frame| frame["type"] == "SETTINGS" && frame["direction"] == "read")
    );
    let all = shown(&mesh, &["frames", "-n", "shop", "deploy/web", "-o", "wide"]);
    assert!(
        all.contains("GET /pay?access_token=hash:") && all.contains(" HTTP/1.1"),
        "{all}"
    );

    // Equal secrets are seen to be equal, whichever proxy shows them.
    let at_web = lines(&shown(
        &mesh,
        &["frames", "-n", "shop", "deploy/web", "--peer", "mesh", "-o", "json"],
    ));
    let there = at_web
        .iter()
        .find(|frame| frame["block"]["kind"] == "request")
        .expect("the request");
    let there = there["block"]["fields"]
        .as_array()
        .expect("fields")
        .iter()
        .find(|field| field["name"] == "authorization");
    assert_eq!(there.expect("the field")["value"], field("authorization")["value"]);
    for sidecar in ["client", "deploy/web"] {
        shown(&mesh, &["logs", "-n", "shop", sidecar, "--proxy"]);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one mesh, looked at from one end to the other")]
fn a_request_is_one_line_with_both_views_and_four_points() {
    let mesh = mesh();
    let output = tapped(
        &mesh,
        &[
            "pod/client",
            "--to",
            "svc/web",
            "--header",
            "x-tenant=acme",
            "-o",
            "json",
        ],
        || {
            assert_eq!(mesh.shell("client", ASK).trim(), "200");
            mesh.shell("client", "curl -sS --max-time 10 -o /dev/null http://web/other");
        },
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_no_secret("tap", &(text.clone() + &String::from_utf8_lossy(&output.stderr)));
    let lines = lines(&text);
    assert!(lines.iter().all(|line| line["path"] != "/other"), "{text}");
    // The last whole one: both proxies still have it.
    let end = lines
        .iter()
        .rfind(|line| line["kind"] == "end")
        .unwrap_or_else(|| panic!("nothing seen: {text}"));
    let of_end = lines.iter().filter(|line| line["id"] == end["id"]);
    let kinds: Vec<&str> = of_end.filter_map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds, ["request", "response", "end"], "{text}");
    assert_eq!(
        (&end["method"], &end["status"], &end["failed"]),
        (&Value::from("GET"), &Value::from(200), &Value::from(false))
    );
    assert_eq!(end["source"], "shop/client");
    assert!(
        end["destination"]
            .as_str()
            .is_some_and(|pod| pod.starts_with("shop/web-")),
        "{end:#}"
    );
    let (outbound, inbound) = (&end["views"]["outbound"], &end["views"]["inbound"]);
    assert_eq!(outbound["upstream"]["stream"], inbound["client"]["stream"], "{end:#}");
    assert!(
        outbound["timing_us"]["end"].as_u64() >= inbound["timing_us"]["end"].as_u64(),
        "{end:#}"
    );
    assert!(
        inbound["client_identity"]
            .as_str()
            .is_some_and(|name| name.contains("serviceaccount")),
        "{end:#}"
    );

    let id = end["id"].as_str().expect("an id").to_owned();
    let diff: Value = serde_json::from_str(&shown(
        &mesh,
        &["diff", "-n", "shop", "pod/client", "--request", &id, "-o", "json"],
    ))
    .expect("JSON");
    for point in ["1", "2", "3", "4"] {
        assert!(
            diff["points"][point]["request"]
                .as_array()
                .is_some_and(|fields| fields.len() > 4),
            "{diff:#}"
        );
        assert!(
            diff["points"][point]["response"]
                .as_array()
                .is_some_and(|fields| !fields.is_empty()),
            "{diff:#}"
        );
    }
    let differences = diff["differences"].as_array().expect("differences");
    assert!(differences.iter().all(|one| one["documented"] == true), "{diff:#}");
    let identity = differences
        .iter()
        .find(|one| one["field"] == "l5d-client-id")
        .expect("the inbound proxy says who asks");
    assert_eq!(
        (&identity["first_seen_at"], &identity["part"]),
        (&Value::from(4), &Value::from("request"))
    );
    shown(&mesh, &["diff", "-n", "shop", "pod/client", "-o", "wide"]);
    let misuse = mesh.run(&["diff", "-n", "shop", "pod/client", "--request", "nonsense"]);
    assert_eq!(misuse.status.code(), Some(2));
}

/// Adds a field, takes one away, and has another host and path: of HTTP/1, which says both in other fields than HTTP/2 between the sidecars.
const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: moved, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: web }]
  rules:
    - matches: [{ path: { type: PathPrefix, value: /pay } }]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: { add: [{ name: x-team, value: books }], remove: [x-tenant] }
        - type: URLRewrite
          urlRewrite: { hostname: inner.shop, path: { type: ReplacePrefixMatch, replacePrefixMatch: /v2 } }
        - type: ResponseHeaderModifier
          responseHeaderModifier: { set: [{ name: x-answered, value: moved }] }
      backendRefs: [{ name: web, port: 80 }]
    - backendRefs: [{ name: web, port: 80 }]
";

#[test]
fn what_a_route_changes_is_explained_with_the_route() {
    let mesh = mesh();
    mesh.write("route.yaml", ROUTE);
    let diff = mesh.wait("the route is in force", || {
        mesh.shell("client", ASK);
        let diff: Value =
            serde_json::from_str(&shown(&mesh, &["diff", "-n", "shop", "pod/client", "-o", "json"])).ok()?;
        diff.to_string().contains("x-team").then_some(diff)
    });
    let why = |part: &str, field: &str| {
        let all = diff["differences"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|one| one["part"] == part && one["field"] == field);
        found.unwrap_or_else(|| panic!("{part} {field}: {diff:#}"))["why"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for (part, field, filter) in [
        ("request", "x-team", "RequestHeaderModifier"),
        ("request", "x-tenant", "RequestHeaderModifier"),
        ("request", ":path", "URLRewrite"),
        ("request", ":authority", "URLRewrite"),
        ("response", "x-answered", "ResponseHeaderModifier"),
    ] {
        let expected = format!("HTTPRoute shop/moved, rule 1, does it: its {filter}");
        assert_eq!(why(part, field), expected, "{field}");
    }

    // Nothing that is in force explains it any more: the layer and the hop are named.
    mesh.remove("route.yaml");
    let id = diff["request_id"].as_str().expect("an id");
    let ask = ["diff", "-n", "shop", "pod/client", "--request", id];
    let (code, page) = mesh.wait("the route is gone", || {
        let output = mesh.run(&ask);
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        (!page.contains("HTTPRoute")).then_some((output.status.code(), page))
    });
    assert_eq!(code, Some(1), "{page}");
    let expected = "UNEXPLAINED  x-tenant at point 2: acme → (absent)\n    nothing that is documented does this: it happened in the outbound proxy";
    assert!(page.contains(expected), "{page}");
}

/// By the context that a client sends, and by the request's id that applications pass on.
#[test]
fn requests_are_found_by_their_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mesh = mesh();
    let asks = || {
        mesh.shell(
            "client",
            &format!(
                "curl -sS --max-time 10 -o /dev/null -H 'traceparent: 00-{TRACE}-00f067aa0ba902b7-01' http://web/traced"
            ),
        );
        mesh.shell(
            "client",
            "curl -sS --max-time 10 -o /dev/null -H 'X-Request-Id: an-order-17' http://web/ordered",
        );
        mesh.shell("client", "curl -sS --max-time 10 -o /dev/null http://web/other");
    };
    for (trace, path) in [(TRACE, "/traced"), ("an-order-17", "/ordered")] {
        for workload in ["pod/client", "deploy/web"] {
            let end = mesh.tap(&[workload, "--trace", trace], asks, |line| {
                assert_eq!(line["path"], path, "{line:#}");
                line["kind"] == "end"
            });
            assert_eq!(end["status"], 200, "{end:#}");
            let ask = ["diff", "-n", "shop", workload, "--trace", trace, "-o", "json"];
            let diff: Value = serde_json::from_str(&shown(&mesh, &ask)).expect("JSON");
            for point in ["1", "2", "3", "4"] {
                let request = diff["points"][point]["request"].to_string();
                assert!(request.contains(path), "{workload} at {point}: {diff:#}");
            }
        }
    }
    let nowhere = mesh.run(&["diff", "-n", "shop", "pod/client", "--trace", "nobody-sent-this"]);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert_eq!(nowhere.status.code(), Some(1), "{said}");
    assert!(said.contains("no such request is recorded"), "{said}");
}

/// The test's server answers with a phrase of its own and names in a case of their own.
#[test]
fn what_http1_alone_has_arrives_as_it_was_written() {
    let answer = r#"self.path == "/odd" and self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLiNK: </a>\r\n\r\n"); self.send_response(200, "All Fine"); self.send_header("x-ODD", "1")"#;
    // The manifest has the program as a string of JSON.
    let answer = serde_json::to_string(answer).expect("a string");
    let odd = meshed_web(1).replace("self.send_response(200)", answer.trim_matches('"'));
    assert_ne!(odd, meshed_web(1), "the server answers otherwise");
    let mesh = mesh_with(&odd);
    mesh.shell(
        "client",
        "curl -sS --max-time 10 -o /dev/null -H 'x-TEnant: acme' http://web/odd",
    );
    let ask = ["diff", "-n", "shop", "pod/client", "-o", "json"];
    let diff: Value = serde_json::from_str(&shown(&mesh, &ask)).expect("JSON");
    for point in ["1", "4"] {
        let at = &diff["points"][point];
        assert_eq!(at["reason_phrase"], "All Fine", "{diff:#}");
        for (part, field) in [("request", "x-TEnant"), ("interim", "LiNK"), ("response", "x-ODD")] {
            let fields = at[part].as_array().expect("fields");
            assert!(fields.iter().any(|one| one[0] == field), "{part} at {point}: {diff:#}");
        }
    }
    let differences = diff["differences"].as_array().expect("differences");
    assert!(differences.iter().all(|one| one["documented"] == true), "{diff:#}");
    assert_eq!(diff["compared"], serde_json::json!([1, 2, 3, 4]), "{diff:#}");
}

#[test]
fn bodies_are_shown_without_what_is_secret() {
    let mesh = mesh();
    let output = tapped(&mesh, &["pod/client", "--body", "-o", "json"], || {
        mesh.shell("client", PAY);
        mesh.shell("client", NOTE);
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_no_secret("tap --body", &(text.clone() + &String::from_utf8_lossy(&output.stderr)));
    let lines = lines(&text);
    let bodies: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "body").collect();
    let of = |side: &str, format: &str| {
        let found = bodies
            .iter()
            .find(|line| line["of"] == side && line["format"] == format);
        *found.unwrap_or_else(|| panic!("no {format} of a {side}: {text}"))
    };
    let (asked, answered) = (of("request", "json"), of("response", "json"));
    assert_eq!(asked["body"]["payer"], "ada");
    let hidden = &asked["body"]["card"]["apiToken"];
    assert!(
        hidden.as_str().is_some_and(|hash| hash.starts_with("hash:")),
        "{asked:#}"
    );
    // The application gave back what it got, and that can be seen.
    assert_eq!(hidden, &answered["body"]["card"]["apiToken"]);
    assert_eq!(asked["id"], answered["id"]);
    let note = of("request", "hidden");
    assert_eq!((&note["body"], &note["bytes"]), (&Value::Null, &Value::from(23)));
    assert!(
        note["note"].as_str().is_some_and(|note| note.contains("text/plain")),
        "{note:#}"
    );
    // For people, too.
    let output = tapped(&mesh, &["pod/client", "--body"], || {
        mesh.shell("client", PAY);
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_no_secret("tap --body", &text);
    assert!(text.contains(r#""payer":"ada""#), "{text}");
}

#[test]
fn a_token_shows_what_it_was_made_for_and_nothing_else() {
    let mesh = mesh();
    let made = mesh.run(&[
        "token",
        "--allow",
        "tap",
        "--on",
        "pod/client",
        "-n",
        "shop",
        "--for",
        "1m",
    ]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!String::from_utf8_lossy(&made.stderr).contains("runs"), "{made:?}");
    // Of what does not run, a token is made and said to reach nothing yet; of what is no workload, none.
    let early = mesh.run(&["token", "--allow", "tap", "--on", "deploy/wbe", "-n", "shop"]);
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(early.status.success() && !early.stdout.is_empty(), "{said}");
    assert!(said.contains("no pod of deploy/wbe runs in namespace shop"), "{said}");
    let wrong = mesh.run(&["token", "--allow", "tap", "--on", "svc/web", "-n", "shop"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && wrong.stdout.is_empty(), "{said}");
    assert!(said.contains("names no workload"), "{said}");
    let token = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let with = |arguments: &[&str]| {
        let output = mesh.run(&[&["--token", &token], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains(&token), "{stderr}");
        (output.status.code(), stderr)
    };
    assert_eq!(with(&["conns", "-n", "shop", "pod/client"]).0, Some(0));
    for (arguments, why) in [
        (&["frames", "-n", "shop", "pod/client"][..], "does not allow `frames`"),
        (&["conns", "-n", "shop", "deploy/web"], "is for pod/client in shop"),
        (
            &["tap", "-n", "shop", "pod/client", "--body", "--for", "1s"],
            "does not allow `bodies`",
        ),
        (
            &["token", "--allow", "frames", "--on", "pod/client", "-n", "shop"],
            "only the mesh's owner may",
        ),
        (&["log-level", "-n", "shop", "pod/client"], "only the mesh's owner may"),
        (
            &["exec", "-n", "shop", "pod/client", "--", "true"],
            "only the mesh's owner may",
        ),
        (
            &["debug", "-n", "shop", "pod/client", "--", "true"],
            "only the mesh's owner may",
        ),
    ] {
        let (code, stderr) = with(arguments);
        assert!(
            code == Some(1) && stderr.contains(why),
            "{arguments:?}: {code:?} {stderr}"
        );
    }
    // It reaches one end, and the other one is not called forgotten.
    let output = mesh.run(&["--token", &token, "diff", "-n", "shop", "pod/client"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("the token is for pod/client in shop, not for shop/web-"),
        "{said}"
    );
    assert!(mesh.run(&["token", "--revoke-all"]).status.success());
    let (code, stderr) = with(&["conns", "-n", "shop", "pod/client"]);
    assert!(code == Some(1) && stderr.contains("revoked"), "{code:?} {stderr}");
    assert_eq!(mesh.run(&["conns", "-n", "shop", "pod/client"]).status.code(), Some(0));
    // Who looked, and who was refused.
    let log = mesh.run(&["logs", "control"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(
        log.contains("a token for sight is made") && log.contains("audit: refused"),
        "{log}"
    );
    assert!(!log.contains(&token), "a token is a secret");
}

/// A workload with `sheer.dev/sight: disabled`, looked at from its caller, with everything that looks.
#[test]
#[expect(clippy::too_many_lines, reason = "one mesh, looked at with every command")]
fn what_is_sent_to_a_hidden_workload_is_seen_nowhere() {
    const PLANTED: &str = "planted-for-quiet";
    const TO_QUIET: &str = "curl -sS --max-time 10 -o /dev/null -H 'content-type: application/json' -H 'x-note: planted-for-quiet' \
        -d '{\"note\":\"planted-for-quiet\"}' http://quiet/planted-for-quiet";
    const TO_WEB: &str = "curl -sS --max-time 10 -o /dev/null -H 'content-type: application/json' -d '{\"note\":\"seen\"}' http://web/seen";
    let mesh = Mesh::new(User::Current);
    let quiet = meshed_web(1)
        .replace("name: web,", "name: quiet,")
        .replace("app: web ", "app: quiet ")
        .replace("annotations: {  }", "annotations: { sheer.dev/sight: disabled }");
    assert!(quiet.contains("sight: disabled") && !quiet.contains("web"), "{quiet}");
    mesh.write("web.yaml", &meshed_web(1))
        .write("quiet.yaml", &quiet)
        .write("client.yaml", &meshed_client())
        .up();
    let both = || {
        mesh.shell("client", TO_QUIET);
        mesh.shell("client", TO_WEB);
    };
    both();
    let clean = |what: &str, output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains(PLANTED), "{what} shows it:\n{text}");
        text
    };
    for arguments in [
        &["pod/client"][..],
        &["pod/client", "-o", "wide"],
        &["pod/client", "-o", "json"],
        &["pod/client", "--body", "-o", "json"],
    ] {
        let text = clean("tap", &tapped(&mesh, arguments, both));
        assert!(text.contains("/seen"), "{arguments:?} shows the other one: {text}");
    }
    // What the caller's own proxy answers goes nowhere, and shows no more.
    mesh.sheer(&["scale", "-n", "shop", "deploy/quiet", "--replicas", "0"]);
    let failing = tapped(&mesh, &["pod/client", "--failed-only", "-o", "json"], || {
        mesh.shell("client", TO_QUIET);
    });
    clean("tap --failed-only", &failing);
    for arguments in [
        &["frames", "-n", "shop", "pod/client", "-o", "wide"][..],
        &["frames", "-n", "shop", "pod/client", "--last-failures"],
        &["conns", "-n", "shop", "pod/client", "--ended", "-o", "json"],
        &["diff", "-n", "shop", "pod/client", "-o", "json"],
        &["diff", "-n", "shop", "pod/client", "--failed"],
    ] {
        let text = clean(arguments[0], &mesh.run(arguments));
        assert!(!text.contains("quiet."), "{arguments:?}: {text}");
    }
    mesh.sheer(&["scale", "-n", "shop", "deploy/quiet", "--replicas", "1"]);
    mesh.wait("it runs again", || {
        (mesh.ready_pods("deploy/quiet").len() == 1).then_some(())
    });

    let top = meanwhile(&mesh, &["top", "-n", "shop", "--window", "2s", "-o", "json"], both);
    let text = clean("top", &top);
    assert!(
        text.contains("/seen") && text.contains("hidden (sheer.dev/sight: disabled)"),
        "{text}"
    );
    let verbose = mesh.run(&["log-level", "-n", "shop", "deploy/quiet", "debug"]);
    assert!(!verbose.status.success(), "{verbose:?}");
    assert!(
        clean("log-level", &verbose).contains("sheer.dev/sight: disabled"),
        "{verbose:?}"
    );
    mesh.sheer(&["log-level", "-n", "shop", "deploy/quiet", "info"]);

    let file = mesh.folder().join("client.pcapng");
    let path = file.display().to_string();
    let capturing = mesh
        .command(&[
            "capture",
            "-n",
            "shop",
            "pod/client",
            "--fresh",
            "--for",
            "3s",
            "-o",
            &path,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sheer runs");
    let capturing = std::thread::spawn(move || capturing.wait_with_output());
    while !capturing.is_finished() {
        both();
        crate::harness::pause();
    }
    let output = capturing.join().expect("no panic").expect("its output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("are left out"), "{said}");
    let bytes = std::fs::read(&file).expect("the file");
    let holds = |text: &str| bytes.windows(text.len()).any(|piece| piece == text.as_bytes());
    assert!(!holds(PLANTED), "in plain, from the application to its sidecar");
    assert!(holds("POST /seen"), "what may be seen is there");

    let refused = mesh.run(&["debug", "-n", "shop", "deploy/quiet", "--", "true"]);
    assert!(
        refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("sight is disabled"),
        "{refused:?}"
    );
    mesh.sheer(&["debug", "-n", "shop", "deploy/web", "--", "true"]);
    mesh.sheer(&["log-level", "-n", "shop", "deploy/web"]);
    let log = String::from_utf8_lossy(&mesh.run(&["logs", "control"]).stdout).into_owned();
    let audited = |words: &[&str]| {
        log.lines()
            .any(|line| line.contains("audit:") && words.iter().all(|word| line.contains(word)))
    };
    for words in [
        &["audit: refused", "debug", "deploy/quiet"][..],
        &["is entered", "deploy/web"],
        &["log-level", "deploy/web"],
        &["right=\"bodies\"", "pod/client"],
    ] {
        assert!(audited(words), "{words:?}: {log}");
    }
}

/// What the callee's proxy is asked has the whole request too, and what a name hides anywhere is hidden everywhere.
#[test]
fn a_callee_is_tapped_in_full_and_its_redaction_holds_at_its_caller() {
    let mesh = Mesh::new(User::Current);
    let web = meshed_web(1).replace(
        "annotations: {  }",
        "annotations: { sheer.dev/redact-headers: x-tenant }",
    );
    mesh.write("web.yaml", &web).write("client.yaml", &meshed_client()).up();
    let ask = || {
        mesh.shell("client", ASK);
    };
    ask();
    let ends = |workload: &str| {
        let text = String::from_utf8_lossy(&tapped(&mesh, &[workload, "-o", "json"], ask).stdout).into_owned();
        assert_no_secret("tap", &text);
        let end = lines(&text)
            .into_iter()
            .rfind(|line| line["kind"] == "end" && line["method"] == "GET");
        end.unwrap_or_else(|| panic!("nothing seen at {workload}: {text}"))
    };
    let (callee, caller) = (ends("deploy/web"), ends("pod/client"));
    assert!(
        callee["path"].as_str().is_some_and(|path| path.starts_with("/pay")),
        "{callee:#}"
    );
    assert!(
        !callee["authority"].as_str().unwrap_or_default().is_empty(),
        "{callee:#}"
    );
    assert!(
        callee["views"]["outbound"].is_object() && callee["views"]["inbound"].is_object(),
        "{callee:#}"
    );
    let tenant = |line: &Value| {
        let fields = line["headers"]["request"].as_array().cloned().unwrap_or_default();
        let found = fields.into_iter().find(|field| field[0] == "x-tenant");
        found.unwrap_or_else(|| panic!("no x-tenant: {line:#}"))[1].clone()
    };
    assert!(
        tenant(&caller).as_str().is_some_and(|value| value.starts_with("hash:")),
        "{caller:#}"
    );
    assert_eq!(tenant(&caller), tenant(&callee));
    let diff = shown(&mesh, &["diff", "-n", "shop", "pod/client", "-o", "json"]);
    assert!(!diff.contains("\"acme\"") && diff.contains("x-tenant"), "{diff}");
    let frames = shown(&mesh, &["frames", "-n", "shop", "pod/client", "-o", "wide"]);
    assert!(!frames.contains("acme"), "{frames}");
}

/// The other sidecar is asked for many requests together, and each line gets its own half.
#[test]
fn each_of_many_requests_at_once_is_shown_as_both_sidecars_saw_it() {
    let mesh = mesh();
    let many = || {
        let load = "curl -sS -Z --parallel-max 50 --max-time 20 -o /dev/null 'http://web/many?[1-300]'";
        mesh.shell("client", load);
    };
    for (workload, other) in [("pod/client", "inbound"), ("deploy/web", "outbound")] {
        let output = tapped(&mesh, &[workload, "--rate", "100000", "-o", "json"], many);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ends: Vec<_> = lines(&text).into_iter().filter(|line| line["kind"] == "end").collect();
        assert!(ends.len() >= 300, "{} shown at {workload}", ends.len());
        let alone: Vec<_> = ends
            .iter()
            .filter(|end| !end["views"][other].is_object())
            .map(|end| end["path"].to_string())
            .collect();
        assert!(
            alone.is_empty(),
            "{} of {} at {workload}: {alone:?}",
            alone.len(),
            ends.len()
        );
        for end in &ends {
            let (out, into) = (
                &end["views"]["outbound"]["upstream"],
                &end["views"]["inbound"]["client"],
            );
            assert_eq!(
                (&out["local"], &out["stream"]),
                (&into["remote"], &into["stream"]),
                "{end:#}"
            );
        }
    }
}

/// TLS that nobody ends on the way: who it is for is known, also where no route asks, and both sidecars tell of it.
#[test]
fn tls_that_passes_through_is_seen_by_its_server_name() {
    let mesh = mesh();
    // The application speaks no TLS; the ClientHello gets there all the same.
    let hello = || {
        mesh.shell("client", "curl -sk --max-time 5 -o /dev/null https://web:80/ || true");
    };
    let output = tapped(&mesh, &["pod/client", "--authority", "web", "-o", "json"], hello);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = lines(&text);
    let end = all
        .iter()
        .rfind(|line| line["kind"] == "tcp" && line["event"] == "end")
        .unwrap_or_else(|| panic!("nothing seen: {text}"));
    assert_eq!(
        (&end["protocol"], &end["server_name"]),
        (&Value::from("tls"), &Value::from("web"))
    );
    assert!(end["timing_us"]["connect"].as_u64().is_some(), "{end:#}");
    let inbound = &end["views"]["inbound"];
    assert_eq!(inbound["request_bytes"], end["request_bytes"], "{end:#}");
    let conns = shown(&mesh, &["conns", "-n", "shop", "pod/client", "--ended", "-o", "json"]);
    assert!(conns.contains("\"server_name\": \"web\""), "{conns}");
    let table = shown(&mesh, &["conns", "-n", "shop", "pod/client", "--ended"]);
    assert!(table.contains("tls web"), "{table}");
    let lines = tapped(&mesh, &["pod/client"], hello);
    assert!(String::from_utf8_lossy(&lines.stdout).contains("TLS web"));
}
