//! System calls that no safe crate has in the form needed: the only module with `unsafe`.
//!
//! Linux only. Every function borrows its socket and never closes it. Called by listeners, connectors and the TCP relay.
#![expect(
    unsafe_code,
    reason = "splice, pipe sizes and TCP_INFO have no safe wrapper among the crates we use"
)]

pub mod text;

use std::{
    io::{self, PipeReader, PipeWriter},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::addr::OrigDst;

/// How long a connection may be silent between two keep-alive probes once they have begun.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Where the client wanted to go before redirection. `None` where the connection was not redirected, or nobody tracks connections here.
pub fn original_dst(stream: &TcpStream) -> io::Result<Option<OrigDst>> {
    let socket = SockRef::from(stream);
    // An IPv4 connection on a listener for both families has mapped addresses; conntrack knows it as IPv4.
    let local = canonical(stream.local_addr()?);
    let found = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    match found {
        Ok(addr) => Ok(original(&addr, local)),
        // No entry in conntrack, or no conntrack at all.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A destination that is not the listener itself. Without redirection conntrack answers with where the connection went anyway.
fn original(addr: &SockAddr, local: SocketAddr) -> Option<OrigDst> {
    addr.as_socket().map(canonical).filter(|dst| *dst != local).map(OrigDst)
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

/// A listener that shares its port with those of other workers (`SO_REUSEPORT`). One on `::` takes IPv4 too.
pub fn listen(addr: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
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
        let interval = PROBE_INTERVAL.min(idle.max(Duration::from_secs(1)));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))?;
    }
    if liveness.user_timeout.is_some() {
        socket.set_tcp_user_timeout(liveness.user_timeout)?;
    }
    Ok(())
}

/// Connects, with a mark (`SO_MARK`) that exempts the socket from redirection where there is one.
pub async fn connect(addr: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    socket.connect(addr).await
}

/// Makes closing this connection a reset (`SO_LINGER` 0).
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// An address without the IPv4-mapped form.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V6(ip) => match ip.to_canonical() {
            mapped @ IpAddr::V4(_) => SocketAddr::new(mapped, addr.port()),
            IpAddr::V6(_) => addr,
        },
        IpAddr::V4(_) => addr,
    }
}

/// What the kernel knows of a connection (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpInfo {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// How far round-trip times lie apart.
    pub rtt_variation: Duration,
    /// Segments that were sent again, in all.
    pub retransmits: u32,
    /// How often the oldest segment that nobody acknowledged was sent again.
    pub in_recovery: u32,
    /// The state of the connection.
    pub state: TcpState,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Congestion window, in segments.
    pub congestion_window: u32,
    /// Neither side can say anything any more: it was reset, or timed out.
    pub dead: bool,
}

/// State of a connection, as the kernel numbers it (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpState(pub u8);

impl TcpState {
    const CLOSE: Self = Self(7);

    /// Its name, as `ss` and RFC 9293 have it.
    pub fn as_str(self) -> &'static str {
        const NAMES: [&str; 13] = [
            "UNKNOWN",
            "ESTABLISHED",
            "SYN-SENT",
            "SYN-RECEIVED",
            "FIN-WAIT-1",
            "FIN-WAIT-2",
            "TIME-WAIT",
            "CLOSED",
            "CLOSE-WAIT",
            "LAST-ACK",
            "LISTEN",
            "CLOSING",
            "SYN-RECEIVED",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or("UNKNOWN")
    }
}

/// Reads [`TcpInfo`].
pub fn tcp_info(stream: &TcpStream) -> io::Result<TcpInfo> {
    tcp_info_of(stream.as_raw_fd())
}

/// The same by descriptor, for who knows that it is still open. Of another socket it would tell that one's, of none it is an error.
pub fn tcp_info_of(socket: RawFd) -> io::Result<TcpInfo> {
    // SAFETY: the struct is plain numbers, for which zeroes are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel checks the descriptor, and writes at most `length` bytes, the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpInfo {
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        rtt_variation: Duration::from_micros(info.tcpi_rttvar.into()),
        in_recovery: info.tcpi_retransmits.into(),
        state: TcpState(info.tcpi_state),
        retransmits: info.tcpi_total_retrans,
        unacked: info.tcpi_unacked,
        congestion_window: info.tcpi_snd_cwnd,
        dead: TcpState(info.tcpi_state) == TcpState::CLOSE,
    })
}

/// A pipe through which the kernel moves bytes between two sockets without copying them.
#[derive(Debug)]
pub struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    /// Bytes that it holds.
    held: usize,
    /// Bytes that it can hold.
    capacity: usize,
}

impl Pipe {
    /// A pipe that holds `capacity` bytes, or what the system grants: an ordinary user's pipes have a budget in all.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let wanted = i32::try_from(capacity).unwrap_or(i32::MAX);
        // SAFETY: the descriptor is open, the argument is a number.
        let granted = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
        // 64 KiB is what a pipe has without asking; one page where the budget is used up, which is correct, only slower.
        Ok(Self {
            reader,
            writer,
            held: 0,
            capacity: usize::try_from(granted).unwrap_or(64 * 1024),
        })
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves bytes from a socket into the pipe, which must be empty; 0 at the socket's end. Never blocks: `WouldBlock` where there are none.
    pub fn fill(&mut self, from: &impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a pipe that holds bytes says WouldBlock for two reasons");
        let moved = splice(from, &self.writer, self.capacity)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves bytes that the pipe holds into a socket. Never blocks: `WouldBlock` where it takes none.
    pub fn drain(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.reader, to, self.held)?;
        self.held -= moved;
        Ok(moved)
    }
}

/// One `splice(2)`, of which one side is a pipe.
fn splice(from: &impl AsFd, to: &impl AsFd, length: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK);
    // SAFETY: both descriptors are open while they are borrowed; without offsets no memory of ours is touched.
    let moved = unsafe { libc::splice(from, none, to, none, length, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = listen(loopback, ListenOptions::default()).expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(connect(addr, None), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn workers_share_a_port() {
        let any = SocketAddr::from(([0; 16], 0));
        let first = listen(any, ListenOptions::default()).expect("IPv6");
        let addr = first.local_addr().expect("bound");
        listen(addr, ListenOptions::default()).expect("a second worker");
        let alone = ListenOptions {
            reuse_port: false,
            ..ListenOptions::default()
        };
        assert_eq!(listen(addr, alone).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        // One listener takes both families, and a mapped address is IPv4 to everybody else.
        drop(listen(addr, ListenOptions::default()));
        let v4 = SocketAddr::from(([127, 0, 0, 1], addr.port()));
        let (client, accepted) = tokio::join!(connect(v4, None), first.accept());
        let (stream, peer) = accepted.expect("accepted");
        assert!(peer.is_ipv6() && canonical(peer) == client.expect("connected").local_addr().expect("bound"));
        assert_eq!(original_dst(&stream).expect("no redirection"), None);
    }

    #[tokio::test]
    async fn a_connection_that_was_not_redirected_has_no_original_destination() {
        let (_client, server) = pair().await;
        assert_eq!(original_dst(&server).expect("no redirection"), None);
    }

    #[tokio::test]
    async fn settings_reach_the_socket() {
        let (client, _server) = pair().await;
        let (idle, timeout) = (Duration::from_secs(30), Duration::from_secs(20));
        set_up(
            &client,
            Liveness {
                keepalive: Some(idle),
                user_timeout: Some(timeout),
            },
        )
        .expect("open");
        let socket = SockRef::from(&client);
        assert!(client.nodelay().expect("open") && socket.keepalive().expect("open"));
        assert_eq!(socket.tcp_keepalive_time().expect("open"), idle);
        assert_eq!(socket.tcp_user_timeout().expect("open"), Some(timeout));
    }

    #[tokio::test]
    async fn the_kernel_tells_of_a_connection() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"ping").await.expect("open");
        server.read_exact(&mut [0; 4]).await.expect("sent");
        let info = tcp_info(&client).expect("open");
        assert!(info.rtt > Duration::ZERO && info.congestion_window > 0, "{info:?}");
    }

    #[tokio::test]
    async fn the_kernel_tells_a_dead_connection_from_a_half_closed_one() {
        let (mut client, mut server) = pair().await;
        client.shutdown().await.expect("open");
        assert_eq!(server.read(&mut [0]).await.expect("the end"), 0);
        assert!(!tcp_info(&server).expect("open").dead, "the other half is open");
        reset_on_close(&client).expect("open");
        drop(client);
        assert_eq!(server.read(&mut [0]).await.expect("reading tells nothing"), 0);
        assert!(tcp_info(&server).expect("open").dead);
    }

    #[tokio::test]
    async fn a_pipe_moves_bytes() {
        let (mut client, inner) = pair().await;
        let (outer, mut server) = pair().await;
        let mut pipe = Pipe::new(128 * 1024).expect("descriptors");
        assert!(pipe.capacity() >= 4096);
        client.write_all(b"through the kernel").await.expect("open");
        client.shutdown().await.expect("open");
        inner.readable().await.expect("bytes");
        assert_eq!(
            inner.try_io(Interest::READABLE, || pipe.fill(&inner)).expect("bytes"),
            18
        );
        assert_eq!(pipe.held(), 18);
        assert_eq!(pipe.drain(&outer).expect("room"), 18);
        assert_eq!(pipe.held(), 0);
        assert_eq!(pipe.fill(&inner).expect("the end"), 0);
        drop(outer);
        let mut text = String::new();
        server.read_to_string(&mut text).await.expect("an orderly end");
        assert_eq!(text, "through the kernel");
        let idle = pair().await;
        assert_eq!(
            pipe.fill(&idle.0).expect_err("nothing there").kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
