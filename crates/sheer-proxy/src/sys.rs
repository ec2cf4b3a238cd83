//! System calls that no safe crate has in the form needed: the only module with `unsafe`.
//!
//! Linux only. Every function takes a borrowed socket and never closes it. Called by listeners, connectors, and the TCP relay.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::addr::OrigDst;

/// Where the client wanted to go before redirection. `None` where the connection was not redirected.
pub fn original_dst(_stream: &TcpStream) -> io::Result<Option<OrigDst>> {
    unimplemented!()
}

/// A listener that shares its port with those of other workers (`SO_REUSEPORT`); IPv6 ones take IPv4 too.
pub fn listen(_addr: SocketAddr, _options: ListenOptions) -> io::Result<TcpListener> {
    let _ = (Domain::IPV4, Protocol::TCP, Type::STREAM);
    let _: Option<Socket> = None;
    unimplemented!()
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Length of the accept queue.
    pub backlog: u32,
    /// Whether other workers listen on the same port.
    pub reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_port: true,
        }
    }
}

/// How long TCP trusts a silent peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    /// Idle time before keep-alive probes (`TCP_KEEPIDLE`); none without.
    pub keepalive: Option<Duration>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`); the kernel's without.
    pub user_timeout: Option<Duration>,
}

/// Sets `TCP_NODELAY`, keep-alive and user timeout.
pub fn set_up(stream: &TcpStream, liveness: Liveness) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(idle) = liveness.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
    }
    if liveness.user_timeout.is_some() {
        socket.set_tcp_user_timeout(liveness.user_timeout)?;
    }
    Ok(())
}

/// Connects, with a mark that exempts the socket from redirection where there is one.
pub async fn connect(_addr: SocketAddr, _mark: Option<u32>) -> io::Result<TcpStream> {
    unimplemented!()
}

/// Makes closing this connection a reset (`SO_LINGER` 0).
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// An address without the IPv4-mapped form.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), addr.port()),
        IpAddr::V4(_) => addr,
    }
}

/// What the kernel knows of a connection (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpInfo {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Segments that were sent again, in all.
    pub retransmits: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Congestion window, in segments.
    pub congestion_window: u32,
}

/// Reads [`TcpInfo`].
pub fn tcp_info(_stream: &TcpStream) -> io::Result<TcpInfo> {
    unimplemented!()
}
