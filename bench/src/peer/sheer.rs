//! Sheer as it ships: a local mesh with its control plane, discovery, identity, policy, balancing and metrics, redirection and all. Load comes
//! from inside a meshed pod and goes to the virtual addresses of Services.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use sheer_testkit::mesh::Mesh;

use super::{Bring, HTTP_PORT, Held, Pair, Peer, TCP_PORT};
use crate::process::{self, LOAD_CORE, PROXY_CORE, Place};

pub(super) fn up(bring: &Bring<'_>) -> Result<Pair> {
    let template = include_str!("../../mesh.yaml").replace("@SELF@", &std::env::current_exe()?.display().to_string());
    let mesh = Mesh::up_with(bring.bin, &bring.config("mesh.yaml", &template)?)?;
    let proxy = |workload: &str| -> Result<u32> {
        let pod = mesh
            .pods(workload)?
            .into_iter()
            .next()
            .with_context(|| format!("no pod of {workload}"))?;
        mesh.host_pid(pod.proxy.with_context(|| format!("{workload} has no proxy"))?)
    };
    let (outbound, web, tcp) = (proxy("deploy/load")?, proxy("deploy/web")?, proxy("deploy/tcp")?);
    process::pin(&[mesh.supervisor()], LOAD_CORE)?;
    process::pin(&[outbound, web, tcp], PROXY_CORE)?;
    let address = |service: &str, port: u16| -> Result<SocketAddr> {
        let said = mesh.inside("deploy/load", &["getent", "ahostsv4", &format!("{service}.bench")])?;
        let ip: IpAddr = said
            .split_whitespace()
            .next()
            .with_context(|| format!("{service} has no address"))?
            .parse()?;
        Ok(SocketAddr::new(ip, port))
    };
    let version = mesh.run(&["version"])?.lines().next().unwrap_or_default().to_owned();
    Ok(Pair {
        peer: Peer::Sheer,
        version,
        client: Place { pid: outbound },
        http: address("web", HTTP_PORT)?,
        authority: format!("web.bench:{HTTP_PORT}"),
        tcp: Some(address("tcp", TCP_PORT)?),
        outbound: vec![outbound],
        inbound: vec![web],
        tcp_outbound: vec![outbound],
        tcp_inbound: vec![tcp],
        _held: Held::Mesh { _mesh: Box::new(mesh) },
    })
}
