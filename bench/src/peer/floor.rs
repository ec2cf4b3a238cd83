//! The floor: this program's own bare forwarder, a pair for requests and a pair for bytes.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Bring, HTTP_PORT, Held, Pair, Peer, TCP_PORT, at_server, local};
use crate::process::{Place, Proc};

pub(super) fn up(bring: &Bring<'_>) -> Result<Pair> {
    let half = |name: &str, place: Place, listen: SocketAddr, connect: SocketAddr| -> Result<Proc> {
        let side = if place.pid == bring.site.client.pid {
            "outbound"
        } else {
            "inbound"
        };
        let mut command = bring.proxy(place, std::env::current_exe()?);
        command.args([
            "floor",
            "--side",
            side,
            "--listen",
            &listen.to_string(),
            "--connect",
            &connect.to_string(),
        ]);
        command.arg("--certs").arg(bring.work);
        if name.contains("tcp") {
            command.arg("--tcp");
        }
        bring.spawn(name, &mut command)
    };
    let site = bring.site;
    let held = vec![
        half("floor-outbound", site.client, local(9011), at_server(9012))?,
        half("floor-inbound", site.server, at_server(9012), local(HTTP_PORT))?,
        half("floor-tcp-outbound", site.client, local(9013), at_server(9014))?,
        half("floor-tcp-inbound", site.server, at_server(9014), local(TCP_PORT))?,
    ];
    let pid = |n: usize| vec![held[n].pid()];
    Ok(Pair {
        peer: Peer::Floor,
        version: "hyper 1.12, rustls 0.23".into(),
        client: site.client,
        http: local(9011),
        authority: format!("{}", at_server(HTTP_PORT)),
        tcp: Some(local(9013)),
        outbound: pid(0),
        inbound: pid(1),
        tcp_outbound: pid(2),
        tcp_inbound: pid(3),
        _held: Held::Procs { _procs: held },
    })
}
