//! gRPC in every kind of call, with metadata compared, between grpcio and grpc-js. The peers' scripts do the comparing.

use anyhow::{Result, ensure};

use crate::setup::Bench;

/// The script, and how much metadata it may send: Node's HTTP/2 sends at most 64 KiB in one block.
fn call(bench: &Bench, from: &str, script: &str, to: &str) -> Result<String> {
    let target = format!(
        "{to}.interop:{}",
        if to.contains("node") {
            50052
        } else if to.contains("plain") {
            50053
        } else {
            50051
        }
    );
    let (command, kib): (&[&str], &str) = match script {
        "python" => (&["@PYTHON@", "@PEERS@/grpc_peer.py"], "60"),
        _ => (&["node", "@PEERS@/grpc_peer.mjs"], "50"),
    };
    let printed = bench.run(from, &[command, &["call", &target, kib]].concat())?;
    ensure!(printed.trim().ends_with("ok"), "{printed}");
    Ok(format!("{kib} KiB of metadata both ways"))
}

pub(crate) fn python_to_python(bench: &mut Bench) -> Result<String> {
    call(bench, "client", "python", "grpc-python")
}

pub(crate) fn python_to_node(bench: &mut Bench) -> Result<String> {
    call(bench, "client", "python", "grpc-node")
}

pub(crate) fn node_to_python(bench: &mut Bench) -> Result<String> {
    call(bench, "client", "node", "grpc-python")
}

pub(crate) fn node_to_node(bench: &mut Bench) -> Result<String> {
    call(bench, "client", "node", "grpc-node")
}

pub(crate) fn from_unmeshed(bench: &mut Bench) -> Result<String> {
    call(bench, "plain-client", "python", "grpc-python")?;
    call(bench, "plain-client", "node", "grpc-node")
}

pub(crate) fn to_unmeshed(bench: &mut Bench) -> Result<String> {
    call(bench, "client", "python", "plain-grpc")?;
    call(bench, "client", "node", "plain-grpc")
}
