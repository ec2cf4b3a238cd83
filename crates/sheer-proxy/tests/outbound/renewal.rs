//! Both sidecars over a renewal of their certificates by the control plane: old connections keep running, new ones show the new one.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use sheer_proxy::{
    identity::{Credentials, Identity, MeshAlpn},
    io::Stream,
    process::Control,
    settings,
};
use sheer_testkit::control::{ControlPlane, Issue};

use crate::{
    inbound::{self, CLIENT, SERVER},
    mesh::meshed,
    support::{Proxy, Server, run},
};

/// A proxy's own half of the control plane, with certificates of a second or two.
async fn control(plane: &ControlPlane, name: &str, dir: &Path) -> Control {
    let mut environment = plane.environment(name, dir);
    environment.insert("SHEER_PROXY_IDENTITY_MIN_REFRESH".to_owned(), "100ms".to_owned());
    let settings = settings::read(environment).map_err(|mistakes| format!("{mistakes:?}"));
    let control = Control::start(settings.unwrap().0, None).await.unwrap();
    control.ready().await;
    control
}

async fn renewed(identity: &Identity, first: &Arc<Credentials>) {
    let other = |now: &Option<Arc<Credentials>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, first));
    identity.watch().wait_for(other).await.unwrap();
}

/// The certificate that the other side showed.
fn shown(stream: &Stream) -> Vec<u8> {
    let Stream::TlsOpened(tls) = stream else {
        panic!("no TLS")
    };
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn h2(stream: Stream) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::task::spawn_local(connection);
    send
}

async fn asks(send: &SendRequest<Bytes>) {
    let mut send = send.clone().ready().await.expect("the connection is open");
    let request = Request::get("http://web.shop/").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    assert_eq!(response.await.expect("answered").status(), StatusCode::OK);
}

#[test]
fn connections_outlive_a_renewal_and_new_ones_show_the_new_certificate() {
    run(async {
        let plane = ControlPlane::start();
        plane.issue(Issue::Valid(Duration::from_secs(3)));
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let theirs = control(&plane, SERVER, dirs.0.path()).await;
        let ours = control(&plane, CLIENT, dirs.1.path()).await;
        let firsts = [&theirs, &ours].map(|control| control.parts.identity.current().unwrap());

        let app = Server::start("app").await;
        let peer = inbound::Proxy::start_as(theirs.parts.identity.clone(), ours.parts.identity.clone()).await;
        let proxy = Proxy::start_as(ours.parts.identity.clone());
        proxy
            .discovery
            .endpoints([meshed(peer.in_front_of(app.addr).await, SERVER)]);
        let through_both = proxy.h2().await;
        assert_eq!(through_both.call().await.expect("answered").server(), "app");
        let old = peer.mesh_to(app.addr, MeshAlpn::H2).await;
        let old_certificate = shown(&old);
        let old = h2(old).await;
        asks(&old).await;

        plane.issue(Issue::Valid(Duration::from_secs(3_600)));
        for (control, first) in [&theirs, &ours].into_iter().zip(&firsts) {
            renewed(&control.parts.identity, first).await;
        }

        asks(&old).await;
        assert_eq!(through_both.call().await.expect("answered").server(), "app");
        assert_eq!(
            proxy.counted("tcp_open_total", "peer=\"dst\""),
            1,
            "the sidecars kept their connection"
        );
        let new = peer.mesh_to(app.addr, MeshAlpn::H2).await;
        assert_ne!(shown(&new), old_certificate);
        asks(&h2(new).await).await;
    });
}
