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
    process::pin(&[mesh.supervisor()], LOAD_CORE)?;
    let (of_http, tcp) = (http(&mesh, "load", "web")?, proxy(&mesh, "tcp")?);
    Ok(Pair {
        tcp: Some(address(&mesh, "load", "tcp", TCP_PORT)?),
        tcp_outbound: of_http.outbound.clone(),
        tcp_inbound: vec![tcp],
        _held: Held::Mesh { _mesh: Box::new(mesh) },
        ..of_http
    })
}

/// One mesh with two pairs, that differ in what their sidecars do: everything, and all but what is measured.
pub(crate) fn loud_and_quiet(bring: &Bring<'_>, manifests: &str) -> Result<(Mesh, [Pair; 2])> {
    let mesh = Mesh::up_with(bring.bin, &bring.config("telemetry.yaml", manifests)?)?;
    process::pin(&[mesh.supervisor()], LOAD_CORE)?;
    let pairs = [http(&mesh, "load", "web")?, http(&mesh, "quiet-load", "quiet-web")?];
    pairs.iter().try_for_each(Pair::wait_until_it_answers)?;
    Ok((mesh, pairs))
}

/// A client and a server of HTTP; the mesh is held by whoever asks.
fn http(mesh: &Mesh, client: &str, server: &str) -> Result<Pair> {
    let (outbound, inbound) = (proxy(mesh, client)?, proxy(mesh, server)?);
    Ok(Pair {
        peer: Peer::Sheer,
        version: mesh.run(&["version"])?.lines().next().unwrap_or_default().to_owned(),
        client: Place { pid: outbound },
        http: address(mesh, client, server, HTTP_PORT)?,
        authority: format!("{server}.bench:{HTTP_PORT}"),
        tcp: None,
        outbound: vec![outbound],
        inbound: vec![inbound],
        tcp_outbound: Vec::new(),
        tcp_inbound: Vec::new(),
        _held: Held::Nothing,
    })
}

/// The sidecar of a Deployment, on the proxies' core.
fn proxy(mesh: &Mesh, name: &str) -> Result<u32> {
    let pod = mesh.pods(&format!("deploy/{name}"))?.into_iter().next();
    let pod = pod.with_context(|| format!("no pod of {name}"))?;
    let pid = mesh.host_pid(pod.proxy.with_context(|| format!("{name} has no proxy"))?)?;
    process::pin(&[pid], PROXY_CORE)?;
    Ok(pid)
}

/// Where a client finds a Service.
fn address(mesh: &Mesh, client: &str, service: &str, port: u16) -> Result<SocketAddr> {
    let said = mesh.inside(
        &format!("deploy/{client}"),
        &["getent", "ahostsv4", &format!("{service}.bench")],
    )?;
    let ip: IpAddr = said
        .split_whitespace()
        .next()
        .with_context(|| format!("{service} has no address"))?
        .parse()?;
    Ok(SocketAddr::new(ip, port))
}
