//! What can be read on the link between two pods: nothing but TLS 1.3.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sheer_testkit::mesh::{finish, pause};

use crate::setup::Bench;

/// In every request and answer of the case; never on the wire.
const MARKER: &str = "sheer-marker-in-plain-text";

pub(crate) fn only_tls13(bench: &mut Bench) -> Result<String> {
    let file = bench.work().join("link.pcapng");
    let file = file.display();
    // The admin port is scraped from outside the mesh, in plain text; it carries nothing of workloads.
    let filter = "tcp and not port 4191";
    let capture =
        format!("touch {file}; chmod 666 {file}; exec tshark -q -i eth0 -a duration:8 -w {file} -f '{filter}' 2>&1");
    let mut capture = bench.mesh.exec("deploy/client", &["sh", "-c", &capture]);
    let mut capture = capture.stdout(std::process::Stdio::null()).spawn()?;
    pause(Duration::from_secs(2));
    let header = format!("-H 'x-marker: {MARKER}'");
    bench.shell(
        "client",
        &format!("curl -sS --fail --max-time 5 {header} http://web.interop:8080/echo?{MARKER}"),
    )?;
    bench.shell(
        "client",
        &format!("curl -sS --fail --max-time 5 {header} --http2-prior-knowledge http://web.interop:8082/echo"),
    )?;
    bench.shell("client", &format!("redis-cli -h redis.interop SET marker {MARKER}"))?;
    bench.run(
        "client",
        &["python3", "@PEERS@/greeter.py", "call", "greeter.interop", "2525"],
    )?;
    bench.run(
        "client",
        &["@PYTHON@", "@PEERS@/grpc_peer.py", "call", "grpc-python.interop:50051"],
    )?;
    ensure!(capture.wait()?.success(), "tshark could not capture");
    let read = |arguments: &[&str]| -> Result<Vec<String>> {
        let mut tshark = std::process::Command::new("tshark");
        tshark
            .args(["-r", &file.to_string(), "-d", "tcp.port==1-65535,tls"])
            .args(arguments);
        let text = finish(&mut tshark, Duration::from_secs(60)).context("tshark")?;
        Ok(text
            .lines()
            .map(ToOwned::to_owned)
            .filter(|line| !line.is_empty())
            .collect())
    };
    let plain = read(&["-Y", &format!("frame contains \"{MARKER}\"")])?;
    ensure!(plain.is_empty(), "plain text on the link:\n{}", plain.join("\n"));
    let mut streams = read(&["-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.stream"])?;
    streams.sort();
    streams.dedup();
    ensure!(!streams.is_empty(), "nothing was captured");
    // A connection from before the capture shows no handshake: then every record has to be TLS all the same.
    let records = read(&[
        "-Y",
        "tcp.len > 0 && !tls && !tcp.reassembled_in && !tcp.analysis.retransmission",
    ])?;
    ensure!(
        records.is_empty(),
        "segments that are not TLS:\n{}",
        records.iter().take(5).cloned().collect::<Vec<_>>().join("\n")
    );
    let broken = read(&["-Y", "_ws.malformed || tls.ignored_unknown_record"])?;
    ensure!(
        broken.is_empty(),
        "records that are not TLS:\n{}",
        broken.iter().take(5).cloned().collect::<Vec<_>>().join("\n")
    );
    let hello = [
        "-Y",
        "tls.handshake.type == 2",
        "-T",
        "fields",
        "-e",
        "tls.handshake.extensions.supported_version",
    ];
    let versions = read(&hello)?;
    ensure!(!versions.is_empty(), "no handshake was captured");
    ensure!(
        versions.iter().all(|version| version.contains("0x0304")),
        "versions {versions:?}"
    );
    Ok(format!("{} connections, {} handshakes", streams.len(), versions.len()))
}
