//! No proxy: what the load generator and the server cost by themselves.

use std::path::Path;

use anyhow::Result;

use super::{Bring, HTTP_PORT, Held, Pair, Peer, TCP_PORT, at_server, version_of};

pub(super) fn up(bring: &Bring<'_>) -> Result<Pair> {
    Ok(Pair {
        peer: Peer::Direct,
        version: version_of(Path::new("nghttpd"), "--version"),
        client: bring.site.client,
        http: at_server(HTTP_PORT),
        authority: format!("{}", at_server(HTTP_PORT)),
        tcp: Some(at_server(TCP_PORT)),
        outbound: Vec::new(),
        inbound: Vec::new(),
        tcp_outbound: Vec::new(),
        tcp_inbound: Vec::new(),
        _held: Held::Nothing,
    })
}
