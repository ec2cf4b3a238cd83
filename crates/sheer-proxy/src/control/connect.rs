//! One connection to a service of the control plane.

use std::{io, net::SocketAddr, time::Duration};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::channel::ChannelOptions;
use crate::{
    discovery::PeerIdentity,
    identity::{MeshAlpn, anonymous_client_config},
    metrics::{LabelSet, Shard, family},
    settings::{ControlAddr, Host},
};

/// Time for TCP, and again for TLS and HTTP/2. A control plane in the same mesh answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A control plane that is gone without a word is noticed after the sum of the two.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Endpoints of a large service come in one message; streams of hundreds of services share the connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why there is no connection. Words for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{host} cannot be resolved: {error}")]
    Resolve { host: String, error: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("{addr}: {error}")]
    Tcp { addr: SocketAddr, error: io::Error },
    #[error("{addr}: no answer within {CONNECT_TIMEOUT:?}")]
    Timeout { addr: SocketAddr },
    #[error("{addr}: TLS: {error}")]
    Tls { addr: SocketAddr, error: io::Error },
    #[error("{addr}: HTTP/2: {error}")]
    Http2 { addr: SocketAddr, error: hyper::Error },
}

/// Tries each address of the service in turn.
pub(super) async fn connect(
    options: &ChannelOptions,
    shard: &Shard,
) -> Result<(SocketAddr, SendRequest<Body>), ConnectError> {
    let mut last = None;
    let count = |result: &str| {
        let labels = LabelSet::builder()
            .label("client", options.service)
            .label("result", result);
        shard
            .counter(&family::CONTROL_DNS_RESOLUTIONS_TOTAL, &labels.build())
            .inc();
    };
    for addr in resolve(&options.addr, &count).await? {
        match connect_to(addr, options).await {
            Ok(connection) => return Ok((addr, connection)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::NoAddress {
        host: options.addr.to_string(),
    }))
}

async fn resolve(addr: &ControlAddr, count: &impl Fn(&str)) -> Result<Vec<SocketAddr>, ConnectError> {
    match &addr.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, addr.port)]),
        Host::Name(name) => {
            let resolved = tokio::net::lookup_host((name.as_str(), addr.port)).await;
            count(if resolved.is_ok() { "ok" } else { "error" });
            Ok(resolved
                .map_err(|error| ConnectError::Resolve {
                    host: name.clone(),
                    error,
                })?
                .collect())
        }
    }
}

async fn connect_to(addr: SocketAddr, options: &ChannelOptions) -> Result<SendRequest<Body>, ConnectError> {
    let io = open_to(addr, options, MeshAlpn::H2).await?;
    timeout(CONNECT_TIMEOUT, handshake(addr, io))
        .await
        .map_err(|_| ConnectError::Timeout { addr })?
}

/// Bytes both ways, in TLS or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection on which nothing was said yet, for HTTP/1.
pub(super) async fn open(options: &ChannelOptions) -> Result<Box<dyn Duplex>, ConnectError> {
    let mut last = None;
    for addr in resolve(&options.addr, &|_: &str| {}).await? {
        match open_to(addr, options, MeshAlpn::Http1).await {
            Ok(io) => return Ok(io),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::NoAddress {
        host: options.addr.to_string(),
    }))
}

async fn open_to(addr: SocketAddr, options: &ChannelOptions, alpn: MeshAlpn) -> Result<Box<dyn Duplex>, ConnectError> {
    let tcp = timeout(CONNECT_TIMEOUT, tcp(addr, options.mark))
        .await
        .map_err(|_| ConnectError::Timeout { addr })?;
    let tcp = tcp.map_err(|error| ConnectError::Tcp { addr, error })?;
    let secured = async {
        let Some(name) = &options.addr.name else {
            return Ok(Box::new(tcp) as Box<dyn Duplex>);
        };
        let peer = PeerIdentity {
            id: name.to_str().as_ref().into(),
            server_name: name.clone(),
        };
        let config = match options.identity.current() {
            Some(credentials) => credentials.client_config(&peer, alpn),
            None => anonymous_client_config(&options.roots, &peer),
        };
        let tls = TlsConnector::from(config).connect(name.clone(), tcp).await;
        let tls = tls.map_err(|error| ConnectError::Tls { addr, error })?;
        Ok(Box::new(tls) as Box<dyn Duplex>)
    };
    timeout(CONNECT_TIMEOUT, secured)
        .await
        .map_err(|_| ConnectError::Timeout { addr })?
}

async fn tcp(addr: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(addr).await
}

async fn handshake<I>(addr: SocketAddr, io: I) -> Result<SendRequest<Body>, ConnectError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| ConnectError::Http2 { addr, error })?;
    // Ends with the connection; its streams learn the reason themselves.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%addr, %error, "connection to the control plane ended");
        }
    });
    Ok(send)
}
