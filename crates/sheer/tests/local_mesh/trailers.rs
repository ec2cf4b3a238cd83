//! What follows a body of HTTP/1: trailers of a chunked upload are seen where heads are, in frames, tap and diff.

use serde_json::Value;

use crate::{
    harness::meshed_web,
    wire::{lines, mesh_with, shown, tapped},
};

/// Sends a body in two chunks, the second a while after the first, with trailers that say its case and one that is secret.
const UPLOAD: &str = r#"python3 -c '
import socket, time
s = socket.create_connection(("web", 80), 10)
s.sendall(b"POST /upload HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n")
time.sleep(0.05)
s.sendall(b"5\r\nagain\r\n0\r\nX-Sum: 1\r\nx-upload-token: planted-token\r\n\r\n")
print(s.recv(99)[:12].decode())'"#;

/// The test's server, which reads to the end of the trailers.
fn reads_trailers() -> String {
    let reads = meshed_web(1).replace(
        r#"self.rfile.read(int(self.headers.get(\"content-length\", 0)))"#,
        r#"b\"\".join(iter(self.rfile.readline, b\"\\r\\n\"))"#,
    );
    assert_ne!(reads, meshed_web(1), "the server reads bodies otherwise");
    reads
}

#[test]
fn trailers_of_an_upload_are_seen_at_all_four_points() {
    let mesh = mesh_with(&reads_trailers());
    let output = tapped(&mesh, &["pod/client", "--path", "/upload", "-o", "json"], || {
        assert_eq!(mesh.shell("client", UPLOAD).trim(), "HTTP/1.1 200");
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("planted-token"), "{text}");
    let lines_of_tap = lines(&text);
    let end = lines_of_tap.iter().rfind(|line| line["kind"] == "end");
    let end = end.unwrap_or_else(|| panic!("nothing seen: {text}"));
    let trailers = end["trailers"]["request"].as_array().expect("trailers");
    assert!(trailers.contains(&serde_json::json!(["x-sum", "1"])), "{end:#}");
    let [sent, whole, answered] = ["sent", "request_end", "first_byte"].map(|name| end["timing_us"][name].as_u64());
    assert!(sent < whole && whole <= answered && whole >= Some(40_000), "{end:#}");

    let id = end["id"].as_str().expect("an id");
    let diff = shown(
        &mesh,
        &["diff", "-n", "shop", "pod/client", "--request", id, "-o", "json"],
    );
    let diff: Value = serde_json::from_str(&diff).expect("JSON");
    for point in ["1", "2", "3", "4"] {
        let trailers = diff["points"][point]["request_trailers"].as_array().expect("trailers");
        let is_sum = |field: &&Value| {
            let name = field[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("x-sum"));
            name && field[1] == "1"
        };
        assert!(trailers.iter().any(|field| is_sum(&field)), "at {point}: {diff:#}");
    }
    let differences = diff["differences"].as_array().expect("differences");
    assert!(differences.iter().all(|one| one["documented"] == true), "{diff:#}");

    let frames = shown(
        &mesh,
        &["frames", "-n", "shop", "pod/client", "--peer", "app", "-o", "json"],
    );
    let frames = if frames.is_empty() {
        // The application's connection has ended.
        shown(
            &mesh,
            &["frames", "-n", "shop", "deploy/web", "--peer", "app", "-o", "json"],
        )
    } else {
        frames
    };
    let trailers = lines(&frames).into_iter().find(|frame| frame["type"] == "TRAILERS");
    let trailers = trailers.unwrap_or_else(|| panic!("{frames}"));
    assert!(
        trailers["http1"]["fields"]
            .as_array()
            .is_some_and(|fields| fields.len() == 2),
        "{trailers:#}"
    );
}
