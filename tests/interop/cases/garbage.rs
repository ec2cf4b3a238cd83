//! Garbage on every port, from inside and outside the mesh: whoever sent it gets the answer that its protocol has for it, or an end;
//! nobody else notices, which honest load beside it proves.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{load::Running, setup::Bench};

/// Sends every piece to every port of a host at once, and prints by port and piece what came back: the statuses of HTTP/1 and who answered
/// last, the code of a GOAWAY, or how the connection ended.
const SCRIPT: &str = r#"
import concurrent.futures, json, os, re, socket, struct, sys
host, ports = sys.argv[1], [int(port) for port in sys.argv[2].split(",")]
preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
opened = preface + b"\0\0\0\4\0\0\0\0\0"
post = b"POST / HTTP/1.1\r\nHost: a\r\n"
pieces = {
    "random": os.urandom(4096), "nothing": b"", "zeros": b"\0" * 100, "half a preface": preface[:10],
    "random frames": opened + os.urandom(500),
    "oversized frame": opened + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 2000,
    "broken HPACK": opened + b"\0\0\1\1\5\0\0\0\1\xff",
    "ClientHello of 64 KiB": b"\x16\x03\x01\xff\xff" + os.urandom(200),
    "empty ClientHello": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "HTTP/9.9 later": b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "long target": b"GET /" + b"a" * 400000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "two lengths": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "transport header": b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", 0xffffffff),
}

def said(answer, end):
    if answer.startswith(b"HTTP/1."):
        by = " by proxy" if b"l5d-proxy-error" in answer.lower() else ""
        return " ".join(status.decode() for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)) + by
    rest = answer
    while len(rest) >= 9:
        length, kind = int.from_bytes(rest[:3], "big"), rest[3]
        if kind == 7 and len(rest) >= 17:
            return "GOAWAY %d" % int.from_bytes(rest[13:17], "big")
        rest = rest[9 + length:]
    return end

def send(port, piece):
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.settimeout(2)
            connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while True:
                read = connection.recv(65536)
                if not read:
                    return said(answer, "closed")
                answer += read
    except TimeoutError:
        return said(answer, "open")
    except OSError:
        return said(answer, "reset")

with concurrent.futures.ThreadPoolExecutor(8) as pool:
    shots = {(port, name): pool.submit(send, port, piece) for port in ports for name, piece in pieces.items()}
    print(json.dumps([[str(port), name, shot.result()] for (port, name), shot in shots.items()]))
"#;

/// What a sidecar itself answers, whatever application is behind it.
const ANSWERS: &[(&str, &[&str])] = &[
    // FRAME_SIZE_ERROR; COMPRESSION_ERROR, for which the codec says PROTOCOL_ERROR.
    ("oversized frame", &["GOAWAY 6"]),
    ("broken HPACK", &["GOAWAY 9", "GOAWAY 1"]),
    ("long target", &["414 by proxy", "431 by proxy"]),
    ("two lengths", &["400 by proxy"]),
    ("folded field", &["400 by proxy"]),
];

/// The same before an application of HTTP/1: what it was sent, or has answered, already. A first line of `HTTP/9.9` is no HTTP that the
/// mesh knows, and so the application's to answer.
const ANSWERS_HTTP1: &[(&str, &[&str])] = &[
    ("HTTP/9.9", &["400"]),
    ("HTTP/9.9 later", &["200 505 by proxy"]),
    ("bad chunk size", &["400 by proxy"]),
];

/// Requests a second, beside the garbage.
const RATE: u32 = 100;
/// Longer than the garbage takes on a slow machine.
const SECONDS: u32 = 60;

type Answers = Vec<(String, String, String)>;

pub(crate) fn everywhere(bench: &mut Bench) -> Result<String> {
    let before = restarts(bench)?;
    let load = Running::start(bench, RATE, SECONDS)?;
    let sent = all(bench);
    let shots = load.finish()?;
    let sent = sent?;
    let lost: Vec<_> = shots.iter().filter(|shot| shot.lost()).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} honest requests were lost, first {:?}",
        lost.len(),
        shots.len(),
        lost.first()
    );
    let after = restarts(bench)?;
    ensure!(
        before == after,
        "restarts of proxies and control plane: {before:?} before, {after:?} after"
    );
    let sidecars = panics(bench)?;
    Ok(format!(
        "{sent} connections of garbage; nothing restarted, no panic in {sidecars} sidecars, {} honest requests answered beside",
        shots.len()
    ))
}

/// Every piece to every port, from everywhere. How many connections that were.
fn all(bench: &Bench) -> Result<usize> {
    let ip = |workload: &str| -> Result<String> {
        let pods = bench.mesh.pods(&format!("deploy/{workload}"))?;
        Ok(pods
            .first()
            .with_context(|| format!("no pod of {workload}"))?
            .ip
            .to_string())
    };
    let route = bench.shell("client", "ip -4 route show default")?;
    let gateway = route
        .split_whitespace()
        .nth(2)
        .with_context(|| format!("no default route: {route:?}"))?;
    let (web, replica) = (ip("web")?, ip("replica")?);
    let mut sent = 0;
    for from in ["client", "plain-client"] {
        let answers = garbage(bench, from, &web, "4140,4143,4190,4191,8080,8082")?;
        for (port, wanted) in [("8080", ANSWERS), ("8080", ANSWERS_HTTP1), ("8082", ANSWERS)] {
            check(&answers, port, wanted).with_context(|| format!("from {from}"))?;
        }
        sent += answers.len();
        sent += garbage(bench, from, &replica, "4143,7000")?.len();
        sent += garbage(bench, from, gateway, "8080,8086,8090")?.len();
    }
    sent += garbage(bench, "client", "127.0.0.1", "4140,4143,4191")?.len();
    Ok(sent)
}

fn garbage(bench: &Bench, from: &str, host: &str, ports: &str) -> Result<Answers> {
    let printed = bench.run(from, &["python3", "-c", SCRIPT, host, ports])?;
    serde_json::from_str(&printed).with_context(|| format!("answers: {printed}"))
}

/// Whether a port answered as it should.
fn check(answers: &Answers, port: &str, all: &[(&str, &[&str])]) -> Result<()> {
    let answers: BTreeMap<&str, &str> = answers
        .iter()
        .filter(|(at, ..)| at == port)
        .map(|(_, piece, said)| (&**piece, &**said))
        .collect();
    for (piece, wanted) in all {
        let said = answers.get(piece).copied().unwrap_or("nothing");
        ensure!(
            wanted.contains(&said),
            "port {port} answers {said:?} to {piece:?} where it should {wanted:?}; all answers: {answers:?}"
        );
    }
    Ok(())
}

fn restarts(bench: &Bench) -> Result<Vec<Value>> {
    let status = bench.mesh.status()?;
    let pods = status["pods"].as_array().context("no pods")?;
    let pods = pods.iter().map(|pod| pod["sidecar"]["restarts"].clone());
    Ok(pods.chain([status["control"]["restarts"].clone()]).collect())
}

/// Sees to it that no sidecar has panicked. How many there are.
fn panics(bench: &Bench) -> Result<usize> {
    let status = bench.mesh.status()?;
    let pods = status["pods"].as_array().context("no pods")?;
    let meshed = pods.iter().filter(|pod| pod["sidecar"]["pid"].is_u64());
    let names: Vec<&str> = meshed.filter_map(|pod| pod["name"].as_str()).collect();
    for name in &names {
        let page = bench.metrics(name)?;
        ensure!(
            page.lines().any(|line| line == "sheer_panics_total 0"),
            "{name}: {:?}",
            page.lines().find(|line| line.starts_with("sheer_panics_total"))
        );
    }
    ensure!(!names.is_empty(), "no pod has a sidecar");
    Ok(names.len())
}
