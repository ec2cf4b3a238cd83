//! Garbage on every port, from inside and outside the mesh: whoever sent it gets an end or an error, nobody else notices.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::setup::Bench;

/// Sends each piece to each port of a host, and waits for the end of the connection at most a second.
const SCRIPT: &str = r#"
import os, socket, struct, sys
host, ports = sys.argv[1], [int(port) for port in sys.argv[2].split(",")]
preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
settings = b"\0\0\0\4\0\0\0\0\0"
pieces = [
    os.urandom(4096), b"", b"\0" * 100, preface[:10], preface + settings + os.urandom(500),
    preface + settings + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 2000,
    preface + settings + b"\0\0\1\1\5\0\0\0\1\xff",
    b"\x16\x03\x01\xff\xff" + os.urandom(200), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", 0xffffffff),
]
for port in ports:
    for piece in pieces:
        try:
            with socket.create_connection((host, port), timeout=2) as connection:
                connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(1)
                while connection.recv(65536):
                    pass
        except OSError:
            pass
print(len(ports) * len(pieces))
"#;

pub(crate) fn everywhere(bench: &mut Bench) -> Result<String> {
    let restarts = |bench: &Bench| -> Result<Vec<Value>> {
        let status = bench.mesh.status()?;
        let pods = status["pods"].as_array().context("no pods")?;
        let pods = pods.iter().map(|pod| pod["sidecar"]["restarts"].clone());
        Ok(pods.chain([status["control"]["restarts"].clone()]).collect())
    };
    let before = restarts(bench)?;
    let web = bench
        .mesh
        .pods("deploy/web")?
        .first()
        .context("no pod of deploy/web")?
        .ip
        .to_string();
    let route = bench.shell("client", "ip -4 route show default")?;
    let gateway = route
        .split_whitespace()
        .nth(2)
        .with_context(|| format!("no default route: {route:?}"))?;
    let mut sent = 0;
    for from in ["client", "plain-client"] {
        for (host, ports) in [(&*web, "4140,4143,4190,4191,8080,8082"), (gateway, "8080,8086,8090")] {
            let count = bench.run(from, &["python3", "-c", SCRIPT, host, ports])?;
            sent += count.trim().parse::<u32>()?;
        }
    }
    let count = bench.run("client", &["python3", "-c", SCRIPT, "127.0.0.1", "4140,4143,4191"])?;
    sent += count.trim().parse::<u32>()?;
    for (options, port) in [("", 8080), ("--http2-prior-knowledge", 8082)] {
        bench.shell(
            "client",
            &format!("curl -sS --fail --max-time 5 {options} http://web.interop:{port}/echo"),
        )?;
    }
    let after = restarts(bench)?;
    ensure!(
        before == after,
        "restarts of proxies and control plane: {before:?} before, {after:?} after"
    );
    Ok(format!("{sent} connections of garbage, nothing restarted"))
}
