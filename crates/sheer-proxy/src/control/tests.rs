//! The channel over TLS, as it is where the control plane is on another machine. (What goes over it is in `tests/control_plane.rs`.)

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use sheer_testkit::control::Pki;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    identity::{self, Credentials, Material, PeerNames, peer_names, roots},
    metrics::{Registry, family},
    settings::Host,
};

const CONTROL: &str = "sheer-control.sheer.serviceaccount.identity.sheer.cluster.local";
const LEDGER: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
const PATIENCE: Duration = Duration::from_secs(30);

fn credentials(pki: &Pki, name: &str) -> Credentials {
    let leaf = pki.leaf(&[name]);
    let material = Material {
        name: name.into(),
        server_name: name.to_owned().try_into().expect("a DNS name"),
        key: rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.key).expect("a key"),
        chain: leaf.chain,
        roots: Arc::new(roots(pki.anchors_pem())),
    };
    Credentials::new(material).expect("valid")
}

/// A service that tells who connected, and whether the handshake was good.
async fn service(pki: &Pki) -> (SocketAddr, mpsc::UnboundedReceiver<Result<PeerNames, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(credentials(pki, CONTROL).server_config());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = match acceptor.accept(tcp).await {
                Ok(tls) => tls,
                Err(error) => {
                    let _ = tell.send(Err(error.to_string()));
                    continue;
                }
            };
            let peer = peer_names(tls.get_ref().1.peer_certificates().unwrap_or_default());
            let _ = tell.send(peer.map_err(|error| error.to_string()));
            let answer =
                service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello")))) });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), answer));
        }
    });
    (addr, told)
}

fn channel(addr: SocketAddr, pki: &Pki, expected: &str, identity: Identity, wait_for_identity: bool) -> Channel {
    let name = ServerName::try_from(expected.to_owned()).expect("a DNS name");
    let options = ChannelOptions {
        service: "test",
        whose: "the control plane",
        connected: &family::CONTROL_CONNECTED,
        addr: ControlAddr {
            host: Host::Ip(addr.ip()),
            port: addr.port(),
            name: Some(name),
        },
        mark: None,
        roots: Arc::new(roots(pki.anchors_pem())),
        identity,
        wait_for_identity,
    };
    Channel::new(options, Registry::new(Duration::from_secs(600)).control())
}

#[tokio::test]
async fn issuer_is_asked_without_a_certificate_and_the_rest_with_one() {
    let pki = Pki::new();
    let (addr, mut told) = service(&pki).await;
    let (publisher, identity) = identity::channel();
    let mut issuer = channel(addr, &pki, CONTROL, identity.clone(), false);
    let request = Request::builder()
        .uri(issuer.origin())
        .body(Body::empty())
        .expect("a request");
    let response = timeout(PATIENCE, issuer.call(request))
        .await
        .expect("in time")
        .expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(told.recv().await, Some(Ok(PeerNames::default())));

    let policy = channel(addr, &pki, CONTROL, identity, true);
    let ready = tokio::spawn(async move { policy.ready().await });
    tokio::task::yield_now().await;
    assert!(told.try_recv().is_err(), "it waits for the certificate");
    publisher.publish(credentials(&pki, LEDGER));
    timeout(PATIENCE, ready).await.expect("in time").expect("connected");
    let peer = told.recv().await.expect("connected").expect("a good handshake");
    assert!(peer.contains(LEDGER));
}

/// Whoever else has a certificate of the mesh is not the control plane.
#[tokio::test]
async fn another_workload_cannot_play_the_control_plane() {
    let pki = Pki::new();
    let (addr, mut told) = service(&pki).await;
    let (_publisher, identity) = identity::channel();
    let issuer = channel(addr, &pki, LEDGER, identity, false);
    tokio::spawn(async move { issuer.ready().await });
    let error = timeout(PATIENCE, told.recv())
        .await
        .expect("in time")
        .expect("tried")
        .expect_err("refused");
    assert!(error.contains("alert") || error.contains("eof"), "{error}");
}
