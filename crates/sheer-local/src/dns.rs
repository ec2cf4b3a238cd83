//! The mesh's DNS server: answers for the services and pods of the mesh, forwards nothing.
//!
//! The supervisor runs it on the bridge's addresses and replaces the [`Zone`] as services and pods come and go. What an answer says is
//! decided in [`answer`], without I/O.

mod answer;
mod zone;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

pub use zone::{Host, ServiceNames, Zone};

/// A connection over TCP that asks nothing for so long is closed (RFC 7766, 6.2.3: a few seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Longest query over UDP that is looked at: what EDNS clients announce at most.
const UDP_QUERY: usize = 4096;

/// The zone in force, shared between the supervisor, which writes it, and the servers.
#[derive(Clone, Default)]
pub struct SharedZone(Arc<RwLock<Arc<Zone>>>);

impl SharedZone {
    /// Puts a new zone in force.
    pub fn replace(&self, zone: Zone) {
        *self.0.write() = Arc::new(zone);
    }

    fn current(&self) -> Arc<Zone> {
        self.0.read().clone()
    }
}

/// Listens on port 53 of an address, over UDP and TCP, until the runtime ends.
pub async fn serve(address: IpAddr, zone: SharedZone) -> io::Result<()> {
    let address = SocketAddr::new(address, 53);
    let udp = UdpSocket::bind(address).await?;
    let tcp = TcpListener::bind(address).await?;
    tokio::spawn(serve_udp(udp, zone.clone()));
    tokio::spawn(serve_tcp(tcp, zone));
    Ok(())
}

async fn serve_udp(socket: UdpSocket, zone: SharedZone) {
    let mut query = vec![0; UDP_QUERY];
    loop {
        // An error here belongs to one datagram (a client that went away), never to the socket.
        let Ok((length, client)) = socket.recv_from(&mut query).await else {
            continue;
        };
        if let Some(answer) = answer::to_datagram(&zone.current(), client.ip(), &query[..length]) {
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: SharedZone) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                tokio::spawn(serve_connection(stream, client.ip(), zone.clone()));
            }
            // Out of descriptors: those that are open must end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Queries one after the other, each with its length before it (RFC 1035, 4.2.2).
async fn serve_connection(mut stream: TcpStream, client: IpAddr, zone: SharedZone) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut query)).await??;
        let Some(answer) = answer::to_stream(&zone.current(), client, &query) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::Error::other("an answer above 64 KiB"))?;
        stream
            .write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())
            .await?;
    }
}
