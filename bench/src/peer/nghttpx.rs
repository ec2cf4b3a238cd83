//! nghttpx from Debian, one worker. It carries HTTP only.

use std::path::Path;

use anyhow::Result;

use super::{Bring, HTTP_PORT, Held, Pair, Peer, at_server, local, version_of};
use crate::{certs, process::Place};

pub(super) fn up(bring: &Bring<'_>) -> Result<Pair> {
    let half = |name: &str, place: Place, arguments: &[String]| {
        let mut command = bring.proxy(place, "nghttpx");
        command
            .args([
                "--conf=/dev/null",
                "--workers=1",
                "--no-ocsp",
                "--errorlog-file=/dev/stderr",
            ])
            .args(arguments);
        command
            .args(["--log-level=WARN", "--accesslog-file=/dev/null"])
            .current_dir(bring.work);
        bring.spawn(name, &mut command)
    };
    let outbound = [
        "--frontend=127.0.0.1,9021;no-tls".to_owned(),
        format!("--backend={},9022;;proto=h2;tls;sni={}", at_server(0).ip(), certs::NAME),
        "--cacert=ca.pem".into(),
        "--client-cert-file=leaf.pem".into(),
        "--client-private-key-file=leaf.key".into(),
    ];
    let inbound = [
        "--frontend=*,9022".to_owned(),
        format!("--backend=127.0.0.1,{HTTP_PORT};;proto=h2"),
        "--verify-client".into(),
        "--verify-client-cacert=ca.pem".into(),
        "leaf.key".into(),
        "leaf.pem".into(),
    ];
    let held = vec![
        half("nghttpx-outbound", bring.site.client, &outbound)?,
        half("nghttpx-inbound", bring.site.server, &inbound)?,
    ];
    let pid = |n: usize| vec![held[n].pid()];
    Ok(Pair {
        peer: Peer::Nghttpx,
        version: version_of(Path::new("nghttpx"), "--version"),
        client: bring.site.client,
        http: local(9021),
        authority: format!("{}", at_server(HTTP_PORT)),
        tcp: None,
        outbound: pid(0),
        inbound: pid(1),
        tcp_outbound: Vec::new(),
        tcp_inbound: Vec::new(),
        _held: Held::Procs { _procs: held },
    })
}
