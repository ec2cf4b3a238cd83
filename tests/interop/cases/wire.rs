//! What can be read on the link between two pods: nothing but TLS 1.3.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sheer_testkit::mesh::{finish, pause};

use crate::setup::Bench;

/// In every request and answer of the case; never on the wire.
const MARKER: &str = "sheer-marker-in-plain-text";

/// Records what passes the link of a pod while `traffic` is made.
fn capture(bench: &Bench, pod: &str, seconds: u32, traffic: impl FnOnce() -> Result<()>) -> Result<PathBuf> {
    let file = bench.work().join(format!("{pod}.pcapng"));
    let path = file.display();
    // The admin port is scraped from outside the mesh, in plain text; it carries nothing of workloads.
    let script = format!(
        "touch {path}; chmod 666 {path}; exec tshark -q -i eth0 -a duration:{seconds} -w {path} -f 'tcp and not port 4191' 2>&1"
    );
    let mut command = bench.mesh.exec(&format!("deploy/{pod}"), &["sh", "-c", &script]);
    let mut capture = command.stdout(Stdio::null()).spawn()?;
    pause(Duration::from_secs(2));
    let made = traffic();
    ensure!(capture.wait()?.success(), "tshark could not capture");
    made.map(|()| file)
}

/// Lines that tshark prints of a recording.
fn read(file: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-r")
        .arg(file)
        .args(["-d", "tcp.port==1-65535,tls"])
        .args(arguments);
    let text = finish(&mut tshark, Duration::from_secs(60)).context("tshark")?;
    Ok(text
        .lines()
        .map(ToOwned::to_owned)
        .filter(|line| !line.is_empty())
        .collect())
}

fn marked(file: &Path) -> Result<Vec<String>> {
    read(file, &["-Y", &format!("frame contains \"{MARKER}\"")])
}

fn none(what: &str, lines: &[String]) -> Result<()> {
    let some: Vec<&str> = lines.iter().take(5).map(String::as_str).collect();
    ensure!(lines.is_empty(), "{what}:\n{}", some.join("\n"));
    Ok(())
}

pub(crate) fn only_tls13(bench: &mut Bench) -> Result<String> {
    let curl = format!("curl -sS --fail --max-time 5 -H 'x-marker: {MARKER}'");
    let file = capture(bench, "client", 8, || {
        bench.shell("client", &format!("{curl} http://web.interop:8080/echo?{MARKER}"))?;
        bench.shell(
            "client",
            &format!("{curl} --http2-prior-knowledge http://web.interop:8082/echo"),
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
        Ok(())
    })?;
    none("plain text on the link", &marked(&file)?)?;
    let not_tls = "tcp.len > 0 && !tls && !tcp.reassembled_in && !tcp.analysis.retransmission";
    none("segments that are not TLS", &read(&file, &["-Y", not_tls])?)?;
    none(
        "records that are not TLS",
        &read(&file, &["-Y", "_ws.malformed || tls.ignored_unknown_record"])?,
    )?;
    let mut streams = read(&file, &["-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.stream"])?;
    streams.sort();
    streams.dedup();
    let hello = [
        "-Y",
        "tls.handshake.type == 2",
        "-T",
        "fields",
        "-e",
        "tls.handshake.extensions.supported_version",
    ];
    let versions = read(&file, &hello)?;
    ensure!(versions.len() >= 4, "{} handshakes were captured", versions.len());
    ensure!(
        versions.iter().all(|version| version.contains("0x0304")),
        "versions {versions:?}"
    );
    // The same eyes see plain text where there is some.
    let file = capture(bench, "plain-client", 4, || {
        bench
            .shell("plain-client", &format!("{curl} http://web.interop:8080/echo?{MARKER}"))
            .map(drop)
    })?;
    ensure!(
        !marked(&file)?.is_empty(),
        "the plain text of an unmeshed client was not seen: this case sees nothing"
    );
    Ok(format!("{} connections, {} handshakes", streams.len(), versions.len()))
}
