//! What sidecars keep for whoever looks later: failures, and requests that a tap has shown.

use serde_json::Value;

use crate::{
    harness::{Mesh, meshed_client, meshed_web},
    wire::{ASK, assert_no_secret, lines, mesh, mesh_with, shown, tapped},
};

/// The request of a tap's line is known at all four points, with this path.
fn assert_at_all_points(mesh: &Mesh, line: &Value, path: &str) {
    let id = line["id"].as_str().expect("an id");
    let diff = shown(
        mesh,
        &["diff", "-n", "shop", "pod/client", "--request", id, "-o", "json"],
    );
    let diff: Value = serde_json::from_str(&diff).expect("JSON");
    for point in ["1", "2", "3", "4"] {
        let request = diff["points"][point]["request"].as_array();
        let is_path = |field: &Value| field[1] == path;
        assert!(
            request.is_some_and(|fields| fields.iter().any(is_path)),
            "{point}: {diff:#}"
        );
    }
}

#[test]
fn failures_are_kept_and_what_is_disabled_is_not_shown() {
    let mesh = mesh();
    // Nothing stands behind the service any more: the client's own proxy answers.
    mesh.sheer(&["scale", "-n", "shop", "deploy/web", "--replicas", "0"]);
    let status = mesh.wait("the proxy answers by itself", || {
        let status = mesh.shell("client", ASK);
        (status.trim() == "503").then_some(status)
    });
    assert_eq!(status.trim(), "503");
    let output = tapped(&mesh, &["pod/client", "--failed-only", "-o", "json"], || {});
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_no_secret("tap", &text);
    let kept = lines(&text);
    let last = kept
        .last()
        .unwrap_or_else(|| panic!("nothing kept: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(
        (&last["kept"], &last["status"], &last["reason"]),
        (&Value::from(true), &Value::from(503), &Value::from("failfast"))
    );
    assert_eq!(last["method"], "GET");
    let failures = shown(&mesh, &["frames", "-n", "shop", "pod/client", "--last-failures"]);
    assert!(
        failures.contains("failfast") && failures.contains("verdict capacity"),
        "{failures}"
    );

    mesh.write(
        "client.yaml",
        &meshed_client().replace("annotations: {", "annotations: { sheer.dev/sight: disabled,"),
    );
    for command in [&["frames"][..], &["conns"], &["tap", "--for", "2s"], &["diff"]] {
        mesh.wait("sight is off", || {
            let arguments = [&command[..1], &["-n", "shop", "pod/client"], &command[1..]].concat();
            let output = mesh.run(&arguments);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code() == Some(1) && stderr.contains("sight is disabled")).then_some(())
        });
    }
}

#[test]
fn the_last_failures_keep_their_frames_whatever_passes() {
    const FAILURES: usize = 205;
    let mesh = mesh_with(&meshed_web(1).replace("env: [{", "env: [{ name: QUICK, value: \"1\" }, {"));
    // Between two that fail, so much passes that no log has the first any more, and no faster than sidecars look at what they let go: 50 times a second.
    let script = format!(
        r#"python3 -c '
import http.client, time
def ask(connection, method, path, fields):
    connection.request(method, path, headers=fields); connection.getresponse().read()
for nth in range(1, {FAILURES} + 1):
    for asks in ([("DELETE", f"/fails-{{nth}}", {{"authorization": "Bearer planted-bearer"}})], [("GET", f"/well-{{well}}", {{"x-pad": "x" * 13000}}) for well in range(12)]):
        connection = http.client.HTTPConnection("web", 80, timeout=60)
        for one in asks:
            due = time.monotonic() + 0.0048
            ask(connection, *one)
            time.sleep(max(0, due - time.monotonic()))
        connection.close()
print("all of them")'"#
    );
    let said = mesh.shell("client", &script);
    assert_eq!(said.trim(), "all of them");
    let frames = shown(&mesh, &["frames", "-n", "shop", "pod/client", "--last-failures"]);
    let oldest = FAILURES - 200 + 1;
    for nth in oldest..=FAILURES {
        for leg in [format!("DELETE /fails-{nth} HTTP/1.1"), format!(":path: /fails-{nth} ")] {
            assert!(frames.contains(&leg), "{leg:?} is lost:\n{frames}");
        }
    }
    assert!(frames.matches(":status: 501").count() >= 200, "{frames}");
    let of = |which: &[&str]| {
        let all = ["frames", "-n", "shop", "pod/client", "--last-failures"];
        shown(&mesh, &[&all[..], which].concat())
    };
    let path = format!("/fails-{FAILURES}");
    let [app, others] = [of(&["--peer", "app"]), of(&["--peer", "mesh"])];
    assert!(
        app.contains(&format!("DELETE {path} HTTP/1.1")) && !app.contains(":path: "),
        "{app}"
    );
    assert!(
        others.contains(&format!(":path: {path} ")) && !others.contains("DELETE /"),
        "{others}"
    );
    assert_eq!(of(&["--conn", "99999"]), "");
    assert_eq!(of(&["--stream", "99999"]), "");
    assert!(!frames.contains(&format!("/fails-{} ", oldest - 1)), "{frames}");
    assert!(
        frames.contains("excerpt: frames of other streams are no longer kept"),
        "{frames}"
    );
    let path = format!("/fails-{oldest}");
    let line = mesh.tap(
        &["pod/client", "--failed-only", "--path", &path],
        || {},
        |line| line["kept"] == true,
    );
    assert_eq!(
        (&line["path"], &line["status"]),
        (&path.clone().into(), &501.into()),
        "{line:#}"
    );
    assert_at_all_points(&mesh, &line, &path);
}

#[test]
fn what_a_tap_has_shown_can_be_looked_at_after_much_else_has_passed() {
    let mesh = mesh();
    let line = mesh.tap(
        &["pod/client", "--path", "/looked-at"],
        || drop(mesh.shell("client", "curl -s http://web/looked-at")),
        |line| line["kind"] == "end" && !line["views"]["inbound"].is_null(),
    );
    // More than the sidecars remember, and more than logs hold.
    let script = r#"python3 -c '
import http.client
for _ in range(60):
    connection = http.client.HTTPConnection("web", 80, timeout=60)
    for well in range(10):
        connection.request("GET", f"/well-{well}", headers={"x-pad": "x" * 13000}); connection.getresponse().read()
    connection.close()
print("all of them")'"#;
    assert_eq!(mesh.shell("client", script).trim(), "all of them");
    assert_at_all_points(&mesh, &line, "/looked-at");
    // Nobody was shown another: it is as gone as its connection is busy.
    let frames = shown(&mesh, &["frames", "-n", "shop", "pod/client", "--peer", "mesh"]);
    assert!(
        frames.contains(":path: /well-9") && !frames.contains("/looked-at"),
        "{frames}"
    );
    let view = &line["views"]["inbound"]["client"];
    let [connection, stream] = ["connection", "stream"].map(|name| view[name].to_string());
    let server = line["destination"].as_str().expect("a pod").to_owned();
    let frames = shown(
        &mesh,
        &[
            "frames",
            "-n",
            "shop",
            &format!("pod/{}", server.rsplit('/').next().expect("a name")),
            "--conn",
            &connection,
            "--stream",
            &stream,
        ],
    );
    assert!(
        frames.contains(":path: /looked-at") && frames.contains(":status: 200") && !frames.contains("/well-"),
        "{frames}"
    );
    // It did not fail.
    let failures = shown(&mesh, &["frames", "-n", "shop", "pod/client", "--last-failures"]);
    assert!(!failures.contains("/looked-at"), "{failures}");
}
