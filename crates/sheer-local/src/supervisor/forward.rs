//! The mesh's end of connections from the host (see [`crate::dial`]).

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rand::seq::IndexedRandom as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpStream, UnixListener, UnixStream},
    time::timeout,
};

use crate::dial::{CONNECTED, LONGEST_LINE, REFUSED};

/// Patience with the first line and with a pod that does not accept.
const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses that each published port leads to now.
#[derive(Clone, Default)]
pub(super) struct Routes(Arc<RwLock<BTreeMap<u16, Vec<SocketAddr>>>>);

impl Routes {
    pub(super) fn replace(&self, routes: BTreeMap<u16, Vec<SocketAddr>>) {
        *self.0.write() = routes;
    }

    /// One of them: connections spread by chance, requests by the sidecars behind them.
    fn choose(&self, port: u16) -> Option<SocketAddr> {
        self.0.read().get(&port)?.choose(&mut rand::rng()).copied()
    }
}

/// Serves connections until the runtime ends.
pub(super) async fn serve(listener: UnixListener, routes: Routes) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move { relay(stream, &routes).await });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn relay(mut host: UnixStream, routes: &Routes) -> io::Result<()> {
    let line = timeout(PATIENCE, read_line(&mut host)).await??;
    let address = match line.split_once(' ') {
        Some(("publish", port)) => port.parse().ok().and_then(|port| routes.choose(port)),
        Some(("dial", address)) => address.parse().ok(),
        _ => None,
    };
    let pod = match address {
        Some(address) => timeout(PATIENCE, TcpStream::connect(address))
            .await
            .ok()
            .and_then(Result::ok),
        None => None,
    };
    let Some(mut pod) = pod else {
        return host.write_u8(REFUSED).await;
    };
    pod.set_nodelay(true)?;
    host.write_u8(CONNECTED).await?;
    copy_bidirectional(&mut host, &mut pod).await?;
    Ok(())
}

async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into()),
            _ if line.len() == LONGEST_LINE => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}
