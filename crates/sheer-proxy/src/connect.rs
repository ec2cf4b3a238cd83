//! Opens connections to endpoints: TCP, then mTLS where discovery promised an identity, then the transport header where the
//! peer takes one.
//!
//! Called by `pool` and by the outbound path for connections that are relayed. Decides nothing about which endpoint, keeps no
//! connection, and never falls back to plaintext: an endpoint with an identity proves it or the connection fails.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::AsyncWriteExt as _;

use crate::{
    discovery::{Endpoint, Hint, PeerIdentity},
    error::{ConnectCause, ProxyError},
    identity::{Identity, MeshAlpn},
    io::Stream,
    metrics::HandshakeMetrics,
    settings::TcpOptions,
    sys, tls,
    transport_header::{SessionProtocol, TransportHeader},
};

/// What will be spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speak {
    /// HTTP/2.
    Http2,
    /// HTTP/1 as it is.
    Http1,
    /// Bytes that nobody looks at.
    Opaque,
}

/// How a connection to an endpoint is made: decided before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    addr: SocketAddr,
    tls: Option<(PeerIdentity, MeshAlpn)>,
    header: Option<TransportHeader>,
}

impl Plan {
    fn new(endpoint: &Endpoint, speak: Speak) -> Self {
        let Some(identity) = endpoint.identity.clone() else {
            return Self {
                addr: endpoint.addr,
                tls: None,
                header: None,
            };
        };
        match transport_header(endpoint, speak) {
            Some((port, header)) => Self {
                addr: SocketAddr::new(endpoint.addr.ip(), port),
                tls: Some((identity, MeshAlpn::TransportHeader)),
                header: Some(header),
            },
            None => {
                let alpn = match speak {
                    Speak::Http2 => MeshAlpn::H2,
                    Speak::Http1 => MeshAlpn::Http1,
                    Speak::Opaque => MeshAlpn::None,
                };
                Self {
                    addr: endpoint.addr,
                    tls: Some((identity, alpn)),
                    header: None,
                }
            }
        }
    }
}

/// The header that says where bytes go, and the port of the peer's proxy that reads it. Needed where the peer must not look at
/// the bytes to find out, and where a gateway has to know for whom they are.
fn transport_header(endpoint: &Endpoint, speak: Speak) -> Option<(u16, TransportHeader)> {
    let port = endpoint.transport_port?;
    let gateway = endpoint.authority_override.as_ref();
    if gateway.is_none() && speak != Speak::Opaque && endpoint.hint != Hint::Opaque {
        return None;
    }
    let protocol = match speak {
        Speak::Http2 => Some(SessionProtocol::Http2),
        Speak::Http1 => Some(SessionProtocol::Http1),
        Speak::Opaque => None,
    };
    let header = TransportHeader {
        port: endpoint.addr.port(),
        name: gateway.map(|authority| authority.host().to_owned()),
        // The protocol is for gateways; an opaque port is relayed whatever is spoken on it.
        protocol: protocol.filter(|_| gateway.is_some()),
    };
    Some((port, header))
}

/// A connection, and how it came to be.
#[derive(Debug)]
pub struct Connected {
    /// Ready to be spoken on.
    pub stream: Stream,
    /// What is told of it.
    pub link: Arc<Link>,
}

/// How a connection came to be: for whoever wants to know where the time of a request went that waited for it.
#[derive(Debug)]
pub struct Link {
    /// Unique in this process.
    pub id: u64,
    /// This end.
    pub local: Option<SocketAddr>,
    /// The other end.
    pub peer: SocketAddr,
    /// The attempt began.
    pub began: Instant,
    /// TCP stood.
    pub tcp: Instant,
    /// TLS stood; none without TLS.
    pub tls: Option<Instant>,
}

impl Link {
    /// How long TCP took to connect, and TLS to agree.
    pub(crate) fn took(&self) -> (Duration, Duration) {
        let tls = self
            .tls
            .map_or(Duration::ZERO, |tls| tls.saturating_duration_since(self.tcp));
        (self.tcp.saturating_duration_since(self.began), tls)
    }
}

/// Opens connections for one worker.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Own certificate, and what peers are checked with.
    pub identity: Identity,
    /// Mark that exempts the proxy's sockets from redirection.
    pub mark: Option<u32>,
    /// Keep-alive and user timeout.
    pub tcp: TcpOptions,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Counts TLS.
    pub handshakes: HandshakeMetrics,
}

impl Connector {
    /// Connects to an endpoint, ready to be spoken on.
    pub async fn connect(&self, endpoint: &Endpoint, speak: Speak) -> Result<Connected, ProxyError> {
        let plan = Plan::new(endpoint, speak);
        let addr = plan.addr;
        let timed_out = |_| ProxyError::Connect {
            addr,
            cause: ConnectCause::TimedOut(self.timeout),
        };
        // Boxed: the state of a handshake is large, and every request that may have to connect would carry it.
        tokio::time::timeout(self.timeout, Box::pin(self.carry_out(plan)))
            .await
            .map_err(timed_out)?
    }

    async fn carry_out(&self, plan: Plan) -> Result<Connected, ProxyError> {
        let addr = plan.addr;
        let began = Instant::now();
        let failed = |error: &io::Error| ProxyError::Connect {
            addr,
            cause: ConnectCause::of(error),
        };
        let tcp = sys::connect(addr, self.mark).await.map_err(|error| failed(&error))?;
        sys::set_up(&tcp, liveness(self.tcp)).map_err(|error| failed(&error))?;
        let mut link = Link {
            id: next_id(),
            local: tcp.local_addr().ok().map(sys::canonical),
            peer: addr,
            began,
            tcp: Instant::now(),
            tls: None,
        };
        let Some((peer, alpn)) = plan.tls else {
            return Ok(Connected {
                stream: Stream::Tcp(tcp),
                link: Arc::new(link),
            });
        };
        let credentials = self.identity.current().ok_or(ProxyError::IdentityNotReady)?;
        let connected = tls::connect(tcp, addr, &credentials, &peer, alpn).await;
        self.handshakes.ended(connected.as_ref().err());
        let mut stream = connected?;
        if let Some(header) = plan.header {
            stream
                .write_all(&header.encode())
                .await
                .map_err(|error| failed(&error))?;
            stream.flush().await.map_err(|error| failed(&error))?;
        }
        link.tls = Some(Instant::now());
        Ok(Connected {
            stream,
            link: Arc::new(link),
        })
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The options of a connection, as the system calls take them.
pub(crate) fn liveness(options: TcpOptions) -> sys::Liveness {
    sys::Liveness {
        keepalive: options.keepalive,
        user_timeout: options.user_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Labels;

    fn endpoint(meshed: bool, hint: Hint, transport_port: Option<u16>) -> Endpoint {
        let identity = PeerIdentity {
            id: "a.b".into(),
            server_name: "a.b".try_into().expect("a DNS name"),
        };
        Endpoint {
            addr: "10.1.0.7:8080".parse().expect("an address"),
            weight: 1.0,
            identity: meshed.then_some(identity),
            hint,
            transport_port,
            authority_override: None,
            labels: Labels::default(),
        }
    }

    fn alpn(plan: &Plan) -> Option<MeshAlpn> {
        plan.tls.as_ref().map(|(_, alpn)| *alpn)
    }

    #[test]
    fn an_unmeshed_endpoint_gets_plaintext_whatever_is_spoken() {
        for speak in [Speak::Http2, Speak::Http1, Speak::Opaque] {
            let endpoint = endpoint(false, Hint::Opaque, Some(4143));
            assert_eq!(
                Plan::new(&endpoint, speak),
                Plan {
                    addr: endpoint.addr,
                    tls: None,
                    header: None
                }
            );
        }
    }

    #[test]
    fn a_meshed_endpoint_gets_http_at_its_own_port() {
        let endpoint = endpoint(true, Hint::H2, Some(4143));
        let plan = Plan::new(&endpoint, Speak::Http2);
        assert_eq!(
            (plan.addr, alpn(&plan), plan.header.clone()),
            (endpoint.addr, Some(MeshAlpn::H2), None)
        );
        assert_eq!(alpn(&Plan::new(&endpoint, Speak::Http1)), Some(MeshAlpn::Http1));
    }

    #[test]
    fn opaque_bytes_go_to_the_peers_proxy_with_a_transport_header() {
        let plan = Plan::new(&endpoint(true, Hint::Unknown, Some(4143)), Speak::Opaque);
        assert_eq!(plan.addr.to_string(), "10.1.0.7:4143");
        assert_eq!(alpn(&plan), Some(MeshAlpn::TransportHeader));
        assert_eq!(
            plan.header,
            Some(TransportHeader {
                port: 8080,
                name: None,
                protocol: None
            })
        );

        let without = Plan::new(&endpoint(true, Hint::Unknown, None), Speak::Opaque);
        assert_eq!(
            (without.addr.port(), alpn(&without), without.header),
            (8080, Some(MeshAlpn::None), None)
        );
    }

    #[test]
    fn http_to_an_opaque_port_is_relayed_by_the_peer() {
        let plan = Plan::new(&endpoint(true, Hint::Opaque, Some(4143)), Speak::Http1);
        assert_eq!(
            plan.header,
            Some(TransportHeader {
                port: 8080,
                name: None,
                protocol: None
            })
        );
    }

    #[test]
    fn a_gateway_is_told_for_whom_and_what() {
        let mut gateway = endpoint(true, Hint::H2, Some(4143));
        gateway.authority_override = Some("web.emojivoto.svc.cluster.local:80".parse().expect("an authority"));
        let header = Plan::new(&gateway, Speak::Http2).header.expect("a header");
        assert_eq!(header.name.as_deref(), Some("web.emojivoto.svc.cluster.local"));
        assert_eq!(header.protocol, Some(SessionProtocol::Http2));
    }
}
