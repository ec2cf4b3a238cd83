use std::{io, sync::Arc};

use rustls::{HandshakeKind, ProtocolVersion};
use sheer_testkit::control::Pki;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::discovery::PeerIdentity;

const LEDGER: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
const GATEWAY: &str = "gateway.bank.serviceaccount.identity.sheer.cluster.local";
const LEDGER_URI: &str = "spiffe://cluster.local/ns/bank/sa/ledger";

fn credentials(pki: &Pki, names: &[&str]) -> Result<Credentials, CredentialsError> {
    let leaf = pki.leaf(names);
    Credentials::new(Material {
        name: names[0].into(),
        server_name: names
            .iter()
            .find_map(|name| (*name).to_owned().try_into().ok())
            .expect("a DNS name"),
        key: rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.key).expect("a key"),
        chain: leaf.chain,
        roots: Arc::new(roots(pki.anchors_pem())),
    })
}

fn peer(id: &str, server_name: &str) -> PeerIdentity {
    PeerIdentity {
        id: id.into(),
        server_name: server_name.to_owned().try_into().expect("a DNS name"),
    }
}

type Ends = (
    tokio_rustls::client::TlsStream<tokio::io::DuplexStream>,
    tokio_rustls::server::TlsStream<tokio::io::DuplexStream>,
);

/// Both ends of a connection after the handshake and one byte each way, so that tickets have arrived.
async fn handshake(client: &Credentials, server: &Credentials, peer: &PeerIdentity) -> io::Result<Ends> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connect = TlsConnector::from(client.client_config(peer, MeshAlpn::H2)).connect(peer.server_name.clone(), near);
    let accept = TlsAcceptor::from(server.server_config()).accept(far);
    let (near, far) = tokio::join!(connect, accept);
    let (mut near, mut far) = (near?, far?);
    far.write_all(b"x").await?;
    far.flush().await?;
    near.read_exact(&mut [0]).await?;
    Ok((near, far))
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let pki = Pki::new();
    let client = credentials(&pki, &[GATEWAY]).expect("valid");
    let server = credentials(&pki, &[LEDGER, LEDGER_URI]).expect("valid");
    for id in [LEDGER, LEDGER_URI] {
        let (near, far) = handshake(&client, &server, &peer(id, LEDGER))
            .await
            .expect("a handshake");
        let (_, far) = far.get_ref();
        assert_eq!(far.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(far.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(far.server_name(), Some(LEDGER));
        let group = far.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
        let names = peer_names(far.peer_certificates().unwrap_or_default()).expect("names");
        assert_eq!(names.primary().map(|name| &**name), Some(GATEWAY));
        assert!(near.get_ref().1.peer_certificates().is_some());
    }
}

#[tokio::test]
async fn wrong_peer_is_refused_and_named() {
    let pki = Pki::new();
    let client = credentials(&pki, &[GATEWAY]).expect("valid");
    let server = credentials(&pki, &[LEDGER]).expect("valid");
    let error = handshake(&client, &server, &peer(GATEWAY, LEDGER))
        .await
        .expect_err("the wrong peer");
    let error = error.downcast::<rustls::Error>().expect("an error of TLS");
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = &error else {
        panic!("{error}")
    };
    let wrong = other.0.downcast_ref::<WrongPeer>().expect("our error");
    assert_eq!((&*wrong.expected, &*wrong.found), (GATEWAY, LEDGER));
}

#[tokio::test]
async fn peers_of_another_mesh_are_refused() {
    let client = credentials(&Pki::new(), &[GATEWAY]).expect("valid");
    let server = credentials(&Pki::new(), &[LEDGER]).expect("valid");
    assert!(handshake(&client, &server, &peer(LEDGER, LEDGER)).await.is_err());
}

/// A session belongs to the identity that was expected when it began: expecting another makes a full handshake, which fails.
#[tokio::test]
async fn sessions_are_resumed_only_for_the_same_identity() {
    let pki = Pki::new();
    let client = credentials(&pki, &[GATEWAY]).expect("valid");
    let server = credentials(&pki, &[LEDGER]).expect("valid");
    let ledger = peer(LEDGER, LEDGER);
    let (first, _) = handshake(&client, &server, &ledger).await.expect("a handshake");
    assert_ne!(first.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let (second, far) = handshake(&client, &server, &ledger).await.expect("a handshake");
    assert_eq!(second.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let names = peer_names(far.get_ref().1.peer_certificates().unwrap_or_default()).expect("names");
    assert!(names.contains(GATEWAY), "a resumed session keeps who the client is");
    assert!(
        handshake(&client, &server, &peer("other.bank.id", LEDGER))
            .await
            .is_err()
    );
    // A renewal begins anew on both sides.
    let renewed = credentials(&pki, &[LEDGER]).expect("valid");
    let (third, _) = handshake(&client, &renewed, &ledger).await.expect("a handshake");
    assert_ne!(third.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

/// Whether such a client may come in is for policy to say.
#[tokio::test]
async fn clients_without_a_certificate_pass_tls() {
    let pki = Pki::new();
    let server = credentials(&pki, &[LEDGER]).expect("valid");
    let config = anonymous_client_config(&Arc::new(roots(pki.anchors_pem())), &peer(LEDGER, LEDGER));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = LEDGER.to_owned().try_into().expect("a DNS name");
    let (near, far) = tokio::join!(
        TlsConnector::from(config).connect(name, near),
        TlsAcceptor::from(server.server_config()).accept(far)
    );
    near.expect("a handshake");
    let far = far.expect("a handshake");
    let names = peer_names(far.get_ref().1.peer_certificates().unwrap_or_default()).expect("no names");
    assert_eq!(names.primary(), None);
}

#[test]
fn suffixes_match_whole_labels() {
    let names = PeerNames {
        dns: vec![LEDGER.into()],
        uris: vec![],
    };
    let suffix = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    assert!(names.ends_in(&[]) && names.ends_in(&suffix("sheer.cluster.local")) && names.ends_in(&suffix(LEDGER)));
    assert!(!names.ends_in(&suffix("eer.cluster.local")));
    assert!(!names.ends_in(&suffix(&format!("x.{LEDGER}"))));
}
