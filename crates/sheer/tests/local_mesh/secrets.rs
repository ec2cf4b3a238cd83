//! What is secret in traffic, in headers, metadata, trailers, queries and bodies, shows in no output, no log and no file of the mesh.
//!
//! The one exception is what it says: a capture has packets as they are, is a right of its own, and belongs to whoever reads them. A capture above TLS has none.

use std::{fs, path::Path};

use crate::{
    harness::{Mesh, User, meshed_client, meshed_web},
    odd::{CLOSES, SECRET, call, odd},
};

/// As they were planted, and as they are in transit.
const PLANTED: [&str; 17] = [
    "planted-bearer",
    "planted-cookie",
    "planted-token",
    // `planted-bytes`
    "cGxhbnRlZC1ieXRlcw",
    "planted-bytes",
    "planted-query",
    "planted-set-cookie",
    "planted-answer",
    "planted-trailer",
    "planted-upload",
    "planted-body",
    "planted-nested",
    "planted-form",
    "planted-text",
    "planted-password",
    // `planted-user:planted-password`
    "cGxhbnRlZC11c2VyOnBsYW50ZWQtcGFzc3dvcmQ",
    "planted-user",
];
const METADATA: &str = "-H 'authorization: Bearer planted-bearer' -H 'cookie: s=planted-cookie' -H 'x-api-token: planted-token' \
    -H 'x-key-secret-bin: cGxhbnRlZC1ieXRlcw' -H 'x-tenant: acme'";
const UPLOAD: &str = r#"python3 -c '
import socket
s = socket.create_connection(("web", 80), 10)
s.sendall(b"POST /chunked HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: x-upload-token\r\n\r\n5\r\nhello\r\n0\r\nx-upload-token: planted-upload\r\n\r\n")
print(s.recv(99)[:12].decode())'"#;

/// Everything that is planted, once.
fn plant(mesh: &Mesh) {
    let query = "bank.Secret/Tell?access_token=planted-query&page=2";
    // The query has an `&`.
    let told = mesh.shell("client", &call(SECRET, "bank.Secret/Tell", METADATA));
    assert!(
        told.contains("planted-set-cookie") && told.contains("planted-trailer"),
        "who asks gets it: {told}"
    );
    let post = |arguments: &str| mesh.shell("client", &format!("curl -sS --max-time 10 {arguments}"));
    post(&format!("-o /dev/null {METADATA} 'http://odd:{CLOSES}/{query}'"));
    let echoed = post(
        r#"-H 'content-type: application/json' -d '{"payer":"ada","password":"planted-body","card":{"apiToken":"planted-nested"}}' http://web/pay"#,
    );
    assert!(echoed.contains("planted-nested"), "{echoed}");
    post("-o /dev/null -u planted-user:planted-password -d 'password=planted-form&page=2' http://web/form");
    post("-o /dev/null -H 'content-type: text/plain' -d 'the pin is planted-text' http://web/note");
    assert!(mesh.shell("client", UPLOAD).contains("HTTP/1.1 "));
}

fn assert_none(what: &str, bytes: &[u8]) {
    for secret in PLANTED {
        let seen = bytes.windows(secret.len()).position(|seen| seen == secret.as_bytes());
        if let Some(at) = seen {
            let around = &bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())];
            panic!("{what} shows {secret}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// What a command prints, on both streams.
fn shows_none(mesh: &Mesh, arguments: &[&str]) -> String {
    let output = mesh.run(arguments);
    let all = [output.stdout, output.stderr].concat();
    assert_none(&arguments.join(" "), &all);
    String::from_utf8_lossy(&all).into_owned()
}

/// Every file below a folder.
fn files(folder: &Path, look: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            files(&entry.path(), look);
        } else if kind.is_file() {
            look(&entry.path());
        }
    }
}

#[test]
fn secrets_show_in_no_output_no_log_and_no_file() {
    let mesh = Mesh::new(User::Current);
    let logged = meshed_client().replace("annotations: {", "annotations: { config.sheer.dev/access-log: json,");
    assert_ne!(logged, meshed_client());
    mesh.write("web.yaml", &meshed_web(1))
        .write("odd.yaml", &odd())
        .write("client.yaml", &logged)
        .up();
    // As much as can be logged.
    for workload in ["pod/client", "deploy/web", "deploy/odd"] {
        mesh.sheer(&["log-level", "-n", "shop", workload, "trace", "--for", "10m"]);
    }
    watched(&mesh);
    looked_back_at(&mesh);
    // The files of the mesh, but for those that an application may write itself.
    let mut looked_at = 0;
    files(&mesh.state(), &mut |path| {
        if let Ok(bytes) = fs::read(path) {
            assert_none(&path.display().to_string(), &bytes);
            looked_at += 1;
        }
    });
    assert!(looked_at > 10, "{looked_at} files");
    a_capture_is_raw_and_says_so(&mesh);
}

/// While it passes.
fn watched(mesh: &Mesh) {
    let outputs: [&[&str]; 4] = [&["-o", "json", "--body"], &["-o", "wide"], &["--body"], &["-o", "json"]];
    std::thread::scope(|scope| {
        let tap = |workload: &'static str, how: &'static [&'static str]| {
            scope.spawn(move || {
                let arguments = [&["tap", "-n", "shop", workload, "--for", "4s", "--rate", "10000"], how].concat();
                shows_none(mesh, &arguments)
            })
        };
        let mut taps = Vec::new();
        for how in outputs {
            taps.push(tap("pod/client", how));
        }
        taps.push(tap("deploy/web", &["--body", "-o", "json"]));
        taps.push(tap("deploy/odd", &["--body", "-o", "wide"]));
        for workload in ["pod/client", "deploy/web", "deploy/odd"] {
            taps.push(scope.spawn(move || plaintext(mesh, workload)));
        }
        while taps.iter().any(|tap| !tap.is_finished()) {
            plant(mesh);
        }
        for tap in taps {
            let said = tap.join().expect("no secret");
            assert!(
                said.contains("Secret/Tell") || said.contains("/pay"),
                "something was seen: {said}"
            );
        }
    });
}

/// A file of what passes above TLS: what of it is text, for the check that something was seen.
fn plaintext(mesh: &Mesh, workload: &str) -> String {
    let file = mesh.folder().join(workload.replace('/', "-"));
    let path = file.display().to_string();
    shows_none(
        mesh,
        &[
            "capture",
            "-n",
            "shop",
            workload,
            "--plaintext",
            "--for",
            "4s",
            "-o",
            &path,
        ],
    );
    let bytes = fs::read(&file).expect("the file");
    assert_none(&format!("capture --plaintext {workload}"), &bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// When it has passed.
fn looked_back_at(mesh: &Mesh) {
    let hashed = ["frames", "diff", "tap"];
    for workload in ["pod/client", "deploy/web", "deploy/odd"] {
        let commands: [&[&str]; 13] = [
            &["frames", workload, "-o", "json"],
            &["frames", workload, "-o", "wide"],
            &["frames", workload, "--last-failures"],
            &["frames", workload, "--last-failures", "-o", "json"],
            &["diff", workload, "-o", "json"],
            &["diff", workload, "-o", "wide"],
            &["diff", workload, "--failed"],
            &["conns", workload, "-o", "json"],
            &["conns", workload, "--ended", "-o", "wide"],
            &["tap", workload, "--failed-only", "--for", "1s", "-o", "json"],
            &["config", "dump", workload, "-o", "json"],
            &["logs", workload],
            &["logs", workload, "--proxy"],
        ];
        for command in commands {
            let said = shows_none(mesh, &[command, &["-n", "shop"]].concat());
            let is_about_it = hashed.contains(&command[0]) && workload == "pod/client" && command.len() == 4;
            assert!(
                !is_about_it || said.contains("hash:"),
                "{command:?} shows a hash instead: {said}"
            );
        }
    }
    let log = shows_none(mesh, &["logs", "-n", "shop", "pod/client", "--proxy"]);
    assert!(
        log.contains("TRACE") && log.contains("\"/pay\""),
        "traces and the access log: {log}"
    );
    let audit = shows_none(mesh, &["logs", "control"]);
    assert!(audit.contains("what=\"tap\" right=\"bodies\""), "{audit}");
    let traces = shows_none(mesh, &["trace", "list", "-o", "json"]);
    let traces: serde_json::Value = serde_json::from_str(&traces).expect("JSON");
    let traces = traces["traces"].as_array().expect("traces");
    let ids: Vec<&str> = traces
        .iter()
        .filter_map(|one| one["trace_id"].as_str())
        .take(20)
        .collect();
    assert!(!ids.is_empty());
    for id in ids {
        shows_none(mesh, &["trace", "show", id, "-o", "json"]);
    }
    // What was asked lately is replayed against a new policy.
    fs::write(mesh.folder().join("closed.yaml"), CLOSED).expect("written");
    for format in ["json", "wide"] {
        shows_none(mesh, &["policy", "diff", "-f", "closed.yaml", "-o", format]);
    }
    shows_none(mesh, &["debug", "-n", "shop", "deploy/web", "--", "ss", "-tanp"]);
    shows_none(mesh, &["edges", "-n", "shop", "-o", "json"]);
    shows_none(mesh, &["routes", "-n", "shop", "svc/web", "-o", "json"]);
    // What a scrape takes away.
    for workload in ["client", "deploy/web", "deploy/odd"] {
        let page = mesh.shell(workload, "curl -sS --max-time 5 http://127.0.0.1:4191/metrics");
        assert_none("the metrics page", page.as_bytes());
    }
}

const CLOSED: &str = "
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, port: http }
";

/// Packets are shown as they are: that is what the right `capture` is for, which the other rights do not include, and every use of it is said.
fn a_capture_is_raw_and_says_so(mesh: &Mesh) {
    let token = mesh.sheer(&[
        "token",
        "--allow",
        "tap,bodies,frames",
        "--on",
        "deploy/web",
        "-n",
        "shop",
        "--for",
        "5m",
    ]);
    let file = mesh.folder().join("raw.pcapng").display().to_string();
    let capture = ["capture", "-n", "shop", "deploy/web", "--for", "1s", "-o", &file];
    let refused = mesh.run(&[&["--token", token.trim()], &capture[..]].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("capture"), "{said}");
    assert!(!Path::new(&file).exists());
    let said = shows_none(mesh, &capture);
    assert!(Path::new(&file).exists(), "{said}");
    let audit = shows_none(mesh, &["logs", "control"]);
    assert!(
        audit
            .lines()
            .any(|line| line.contains("audit:") && line.contains("capture")),
        "{audit}"
    );
}
