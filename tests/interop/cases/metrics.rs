//! The metrics page of a sidecar that has seen every kind of traffic, by Prometheus' own eyes.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::setup::Bench;

/// What `promtool` says against names that are Linkerd's and have to stay.
const LINKERDS: &[&str] = &[
    "response_latency_ms metric names should not contain abbreviated units",
    "control_response_latency_ms metric names should not contain abbreviated units",
    "route_response_latency_ms metric names should not contain abbreviated units",
    "route_actual_response_latency_ms metric names should not contain abbreviated units",
];

/// Families that this much traffic must have filled, with a label of each.
const FILLED: &[(&str, &str)] = &[
    ("request_total", "direction=\"outbound\""),
    ("response_total", "grpc_status=\"0\""),
    ("response_total", "status_code=\"200\""),
    ("response_latency_ms_bucket", "direction=\"outbound\""),
    ("tcp_open_total", "peer=\"dst\""),
    ("tcp_read_bytes_total", "tls=\"true\""),
    ("outbound_http_balancer_endpoints", "endpoint_state=\"ready\""),
    ("outbound_tcp_balancer_endpoints", "endpoint_state=\"ready\""),
    ("control_identity_cert_expiration_timestamp_seconds", ""),
    ("process_cpu_seconds_total", ""),
];

pub(crate) fn promtool(bench: &mut Bench) -> Result<String> {
    bench.shell("client", "curl -sS --fail --max-time 5 http://web.interop:8080/echo")?;
    bench.run(
        "client",
        &["@PYTHON@", "@PEERS@/grpc_peer.py", "call", "grpc-python.interop:50051"],
    )?;
    bench.shell("client", "redis-cli -h redis.interop PING")?;
    // A failure by the proxy itself: nothing listens there.
    bench.shell("client", "curl -sS --max-time 5 http://127.0.0.2:9/ || true")?;
    let (mut pages, mut lines) = (0, 0);
    for workload in ["client", "web", "redis"] {
        let pods = bench.mesh.pods(&format!("deploy/{workload}"))?;
        let pod = pods.first().with_context(|| format!("no pod of {workload}"))?;
        let page = bench.metrics(&pod.name)?;
        if workload == "client" {
            filled(&page)?;
        }
        check(&page).with_context(|| format!("the page of {workload}'s sidecar"))?;
        pages += 1;
        lines += page.lines().count();
    }
    Ok(format!("{lines} lines of {pages} pages"))
}

fn filled(page: &str) -> Result<()> {
    for (family, label) in FILLED {
        let mut series = page.lines().filter(|line| {
            let rest = line.strip_prefix(family);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label) && !line.ends_with(" 0")
        });
        ensure!(
            series.next().is_some(),
            "no series of {family} with {label:?} counted anything"
        );
    }
    Ok(())
}

fn check(page: &str) -> Result<()> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool, of Debian's package prometheus: `make setup-test` installs it")?;
    promtool.stdin.take().context("piped")?.write_all(page.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().filter(|line| !LINKERDS.contains(line)).collect();
    ensure!(lines.is_empty(), "{lines:#?}");
    Ok(())
}
