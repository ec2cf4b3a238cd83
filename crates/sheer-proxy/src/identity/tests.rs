use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use rustls::{HandshakeKind, ProtocolVersion};
use sheer_testkit::control::{Leaf, Pki};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{detect::Rewind, discovery::PeerIdentity, io::Stream, tls};

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

/// Seconds within the tolerated skew of 20, with some left for a slow machine, and beyond it.
const WITHIN: i64 = 18;
const BEYOND: i64 = 25;
const DAY: i64 = 86_400;

/// A peer that checks nobody, and whose certificate begins and ends so many seconds from now: no proxy of ours would use it.
struct Skewed {
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
}

impl Skewed {
    fn new(pki: &Pki, name: &str, begins: i64, ends: i64) -> Self {
        let Leaf { chain, key } = pki.leaf_between(&[name], begins, ends);
        let roots = Arc::new(roots(pki.anchors_pem()));
        let provider = crypto::provider();
        let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .expect("a pair");
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        server.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }

    async fn accepts(&self, tcp: TcpStream) -> io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = TlsAcceptor::from(Arc::clone(&self.server)).accept(tcp).await?;
        stream.write_all(b"x").await?;
        stream.flush().await
    }

    async fn connects(&self, tcp: TcpStream) -> io::Result<()> {
        use tokio::io::AsyncReadExt as _;
        let name = LEDGER.to_owned().try_into().expect("a DNS name");
        let mut stream = TlsConnector::from(Arc::clone(&self.client)).connect(name, tcp).await?;
        stream.read_exact(&mut [0]).await.map(drop)
    }
}

/// How a handshake went, or why it failed.
type Said = Result<Option<HandshakeKind>, String>;

/// A proxy connects to a server.
async fn connects(client: &Credentials, tcp: TcpStream) -> Said {
    use tokio::io::AsyncReadExt as _;
    let addr = tcp.peer_addr().expect("connected");
    let connected = tls::connect(tcp, addr, client, &peer(LEDGER, LEDGER), MeshAlpn::H2).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    // Tickets come before the first byte.
    stream.read_exact(&mut [0]).await.map_err(|error| error.to_string())?;
    let Stream::TlsOpened(tls) = &stream else {
        unreachable!("TLS was opened")
    };
    Ok(tls.get_ref().1.handshake_kind())
}

/// A proxy is connected to.
async fn accepts(server: &Credentials, tcp: TcpStream) -> Said {
    use tokio::io::AsyncWriteExt as _;
    let addr = tcp.peer_addr().expect("connected");
    let accepted = tls::accept(Rewind::new(tcp, Bytes::new()), addr, server).await;
    let mut stream = accepted.map_err(|error| error.to_string())?.stream;
    stream.write_all(b"x").await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    Ok(stream.get_ref().1.handshake_kind())
}

/// Both ends of a connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).await;
    (near.expect("loopback"), listener.accept().await.expect("a client").0)
}

/// A proxy, and the skewed peer that it meets again and again.
struct Meeting {
    ours: Credentials,
    skewed: Skewed,
}

impl Meeting {
    fn new(our_name: &str, their_name: &str, begins: i64, ends: i64) -> Self {
        let pki = Pki::new();
        Self {
            ours: credentials(&pki, &[our_name]).expect("valid"),
            skewed: Skewed::new(&pki, their_name, begins, ends),
        }
    }

    /// What our client says of a server with such a certificate.
    async fn server(&self) -> Said {
        let (near, far) = sockets().await;
        tokio::join!(connects(&self.ours, near), self.skewed.accepts(far)).0
    }

    /// What our server says of a client with such a certificate.
    async fn client(&self) -> Said {
        let (near, far) = sockets().await;
        tokio::join!(accepts(&self.ours, far), self.skewed.connects(near)).0
    }
}

/// A proxy meets a server with such a certificate, twice unless it refuses it.
async fn server_with(begins: i64, ends: i64) -> Said {
    let meeting = Meeting::new(GATEWAY, LEDGER, begins, ends);
    meeting.server().await?;
    meeting.server().await
}

/// A proxy meets a client with such a certificate, twice unless it refuses it.
async fn client_with(begins: i64, ends: i64) -> Said {
    let meeting = Meeting::new(LEDGER, GATEWAY, begins, ends);
    meeting.client().await?;
    meeting.client().await
}

#[tokio::test]
async fn clocks_may_differ_by_20_seconds_also_where_sessions_are_resumed() {
    for (begins, ends) in [(WITHIN, DAY), (-DAY, -WITHIN)] {
        let resumed = Ok(Some(HandshakeKind::Resumed));
        assert_eq!(server_with(begins, ends).await, resumed, "server, {begins} to {ends}");
        assert_eq!(client_with(begins, ends).await, resumed, "client, {begins} to {ends}");
    }
}

#[tokio::test]
async fn certificates_beyond_the_skew_are_refused_and_that_is_said() {
    for (begins, ends, why) in [
        (BEYOND, DAY, "not valid yet"),
        (-DAY, -BEYOND, "expired"),
        (-2 * DAY, -DAY, "expired"),
    ] {
        let server = server_with(begins, ends).await.expect_err("refused");
        assert!(server.contains(why), "server, {begins} to {ends}: {server}");
        let client = client_with(begins, ends).await.expect_err("refused");
        assert!(client.contains(why), "client, {begins} to {ends}: {client}");
    }
}

/// TLS looks at certificates at a full handshake only: the last two seconds of the tolerance pass while sessions are resumed.
#[tokio::test]
async fn a_session_is_not_resumed_once_the_peers_certificate_has_ended() {
    let meeting = Meeting::new(GATEWAY, LEDGER, -DAY, -WITHIN);
    let why = until_refused(async || meeting.server().await).await;
    assert!(why.contains("has ended"), "{why}");
    let meeting = Meeting::new(LEDGER, GATEWAY, -DAY, -WITHIN);
    let why = until_refused(async || meeting.client().await).await;
    assert!(why.contains("has ended"), "{why}");
}

/// Why a peer was refused that was first met in full, and then as one who is known.
async fn until_refused(meet: impl AsyncFn() -> Said) -> String {
    assert!(meet().await.is_ok());
    for _ in 0..100 {
        match meet().await {
            Ok(kind) => assert_eq!(kind, Some(HandshakeKind::Resumed)),
            Err(why) => return why,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("resumed for ten seconds")
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
