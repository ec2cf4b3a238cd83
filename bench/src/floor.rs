//! The floor: what the same libraries cost with nothing on top. hyper takes HTTP/2 in and sends HTTP/2 out, rustls stands between the
//! two halves, and nothing is looked at: no policy, no metrics, no balancing, no discovery, no check of a header.

use std::{cell::RefCell, net::SocketAddr, path::PathBuf, pin::Pin, rc::Rc, sync::Arc};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use hyper::{Request, body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ServerConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::spawn_local,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs;

/// Which half of the pair.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Side {
    /// Plain in, mTLS out.
    Outbound,
    /// mTLS in, plain out.
    Inbound,
}

/// One half of the floor's pair.
#[derive(Args)]
pub(crate) struct Floor {
    /// Which half.
    #[arg(long)]
    side: Side,
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where to forward to.
    #[arg(long)]
    connect: SocketAddr,
    /// Folder with `ca.pem`, `leaf.pem`, `leaf.key`.
    #[arg(long)]
    certs: PathBuf,
    /// Copies bytes instead of requests.
    #[arg(long)]
    tcp: bool,
}

trait Io: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Io for T {}
type BoxIo = Box<dyn Io>;

/// hyper's tasks stay on this thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// The way out, shared by every connection that came in.
struct Upstream {
    side: Side,
    connect: SocketAddr,
    tls: Arc<ClientConfig>,
    http2: RefCell<Option<SendRequest<Incoming>>>,
}

impl Floor {
    pub(crate) async fn run(self) -> Result<()> {
        let (client, server) = certs::load(&self.certs, b"h2")?;
        let upstream = Rc::new(Upstream {
            side: self.side,
            connect: self.connect,
            tls: client,
            http2: RefCell::new(None),
        });
        let listener = TcpListener::bind(self.listen).await.context("listen")?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(connection(
                stream,
                self.side,
                self.tcp,
                server.clone(),
                upstream.clone(),
            ));
        }
    }
}

async fn connection(stream: TcpStream, side: Side, tcp: bool, tls: Arc<ServerConfig>, upstream: Rc<Upstream>) {
    let _ = stream.set_nodelay(true);
    let io: BoxIo = match side {
        Side::Outbound => Box::new(stream),
        Side::Inbound => match TlsAcceptor::from(tls).accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(error) => return eprintln!("handshake: {error}"),
        },
    };
    let served = if tcp {
        relay(io, &upstream).await
    } else {
        requests(io, upstream).await
    };
    if let Err(error) = served {
        eprintln!("connection: {error:#}");
    }
}

async fn relay(mut io: BoxIo, upstream: &Upstream) -> Result<()> {
    let mut out = upstream.open().await?;
    tokio::io::copy_bidirectional_with_sizes(&mut io, &mut out, 65_536, 65_536).await?;
    Ok(())
}

async fn requests(io: BoxIo, upstream: Rc<Upstream>) -> Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let upstream = upstream.clone();
        async move {
            let mut send = upstream.sender().await?;
            send.ready().await?;
            Ok::<_, anyhow::Error>(send.send_request(request).await?)
        }
    });
    hyper::server::conn::http2::Builder::new(Here)
        .serve_connection(TokioIo::new(io), service)
        .await?;
    Ok(())
}

impl Upstream {
    async fn open(&self) -> Result<BoxIo> {
        let stream = TcpStream::connect(self.connect)
            .await
            .with_context(|| format!("connect {}", self.connect))?;
        stream.set_nodelay(true)?;
        Ok(match self.side {
            Side::Inbound => Box::new(stream),
            Side::Outbound => {
                let name = certs::NAME.try_into()?;
                Box::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await?)
            }
        })
    }

    /// The one connection, opened again where it died.
    async fn sender(&self) -> Result<SendRequest<Incoming>> {
        if let Some(open) = self.http2.borrow().as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let io: Pin<BoxIo> = Pin::new(self.open().await?);
        let (send, connection) = hyper::client::conn::http2::handshake(Here, TokioIo::new(io)).await?;
        spawn_local(async move {
            if let Err(error) = connection.await {
                eprintln!("upstream: {error}");
            }
        });
        *self.http2.borrow_mut() = Some(send.clone());
        Ok(send)
    }
}
