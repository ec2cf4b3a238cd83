//! TLS between proxies: both handshakes, and who the peer proved to be.
//!
//! The configurations, with the checks of certificates in them, are [`crate::identity`]'s; here they are put to use.

use std::{
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConnection, HandshakeKind};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};

use crate::{
    detect::Rewind,
    discovery::PeerIdentity,
    error::{ConnectCause, ProxyError},
    identity::{Credentials, MeshAlpn, PeerError, PeerNames, WrongPeer, peer_names, with_remote},
    io::Stream,
};

/// How long a handshake may take: some round trips and a few milliseconds of arithmetic, also on a busy machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that a peer of the mesh opened.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Box<TlsStream<Rewind<TcpStream>>>,
    /// Who the peer is; none where it showed no certificate.
    pub peer: Option<PeerNames>,
    /// What it carries.
    pub alpn: Option<MeshAlpn>,
}

/// Ends the TLS of a peer that asked for our own name.
pub async fn accept(
    tcp: Rewind<TcpStream>,
    client: SocketAddr,
    credentials: &Credentials,
) -> Result<Accepted, ProxyError> {
    let failed = |why: String| ProxyError::TlsAccept { client, why };
    let mut handshake = pin!(TlsAcceptor::from(credentials.server_config()).accept(tcp));
    let handshake = poll_fn(|cx| with_remote(client, || handshake.as_mut().poll(cx)));
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("not finished within {HANDSHAKE_TIMEOUT:?}"))),
    };
    let session = stream.get_ref().1;
    let peer = match session.peer_certificates() {
        Some(chain) => Some(peer_names(chain).map_err(|error| failed(error.to_string()))?),
        None => None,
    };
    let alpn = session.alpn_protocol().and_then(alpn_of);
    Ok(Accepted {
        stream: Box::new(stream),
        peer,
        alpn,
    })
}

/// Opens TLS to a peer that must prove to be `peer`.
pub async fn connect(
    tcp: TcpStream,
    addr: SocketAddr,
    credentials: &Credentials,
    peer: &PeerIdentity,
    alpn: MeshAlpn,
) -> Result<Stream, ProxyError> {
    let connector = TlsConnector::from(credentials.client_config(peer, alpn));
    let mut handshake = pin!(connector.connect(peer.server_name.clone(), tcp));
    let handshake = poll_fn(|cx| with_remote(addr, || handshake.as_mut().poll(cx)));
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            still_valid(stream.get_ref().1).map_err(|error| ProxyError::TlsConnect {
                addr,
                why: error.to_string(),
            })?;
            Ok(Stream::TlsOpened(Box::new(stream)))
        }
        Ok(Err(error)) => Err(connect_error(addr, &error)),
        Err(_) => Err(ProxyError::Connect {
            addr,
            cause: ConnectCause::TimedOut(HANDSHAKE_TIMEOUT),
        }),
    }
}

/// A resumed session proves what was proved when it began: the certificate may have ended since.
fn still_valid(session: &ClientConnection) -> Result<(), PeerError> {
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        peer_names(session.peer_certificates().unwrap_or_default())?;
    }
    Ok(())
}

fn connect_error(addr: SocketAddr, error: &std::io::Error) -> ProxyError {
    use rustls::{CertificateError, Error};
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return ProxyError::Connect {
            addr,
            cause: ConnectCause::of(error),
        };
    };
    if let Error::InvalidCertificate(CertificateError::Other(other)) = tls
        && let Some(wrong) = other.0.downcast_ref::<WrongPeer>()
    {
        let expected = Arc::clone(&wrong.expected);
        return ProxyError::IdentityMismatch {
            addr,
            expected,
            found: wrong.found.to_string(),
        };
    }
    ProxyError::TlsConnect {
        addr,
        why: tls.to_string(),
    }
}

fn alpn_of(protocol: &[u8]) -> Option<MeshAlpn> {
    match protocol {
        sheer_api::names::H2_ALPN => Some(MeshAlpn::H2),
        sheer_api::names::TRANSPORT_HEADER_ALPN => Some(MeshAlpn::TransportHeader),
        b"http/1.1" => Some(MeshAlpn::Http1),
        _ => None,
    }
}
