//! Connections to one port of the application.
//!
//! HTTP/2 has one connection a worker (a further one while the application allows no more streams), HTTP/1 a small pool that is
//! emptied after some idle seconds, everything else one connection for each that came in.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{net::TcpStream, sync::oneshot};

use crate::{
    error::{ConnectCause, ProxyError},
    exchange::{GiveBack, Http1Connection, Http1Upstream},
    http2,
    io::Stream,
    settings::Settings,
    sys,
};

/// How long the application may take for its SETTINGS, where a request depends on what they say.
const SETTINGS_WAIT: Duration = Duration::from_secs(5);

/// The application behind one port.
pub(super) struct App {
    addr: SocketAddr,
    settings: Arc<Settings>,
    frames: Rc<http2::FrameMetrics>,
    h2: RefCell<Vec<H2>>,
    /// One attempt to connect at a time: whoever waits uses what it brings, be it the failure.
    connecting: tokio::sync::Mutex<()>,
    /// Attempts begun.
    attempts: Cell<u64>,
    /// The last attempt that failed, and how.
    failed: RefCell<Option<(u64, ProxyError)>>,
    http1: Rc<Idle>,
    returns: Rc<Returns>,
}

#[derive(Clone)]
struct H2 {
    send: SendRequest<Bytes>,
    /// Streams that are open or about to be.
    active: Rc<Cell<usize>>,
}

/// Counts a stream while it lives.
pub(super) struct StreamSlot(Rc<Cell<usize>>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl App {
    pub(super) fn new(addr: SocketAddr, settings: Arc<Settings>, frames: Rc<http2::FrameMetrics>) -> Self {
        let http1 = Rc::new(Idle {
            connections: RefCell::default(),
            limit: settings.inbound.max_idle_connections,
            timeout: settings.inbound.http1_idle_timeout,
            sweeping: Cell::new(false),
        });
        let returns = Rc::new(Returns(Rc::clone(&http1)));
        Self {
            addr,
            settings,
            frames,
            h2: RefCell::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: Cell::new(0),
            failed: RefCell::default(),
            http1,
            returns,
        }
    }

    /// The application's address.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<TcpStream, ProxyError> {
        let inbound = &self.settings.inbound;
        let failed = |cause| ProxyError::Connect { addr: self.addr, cause };
        let connect = sys::connect(self.addr, self.settings.mark);
        let tcp = match tokio::time::timeout(inbound.connect_timeout, connect).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(failed(ConnectCause::of(&error))),
            Err(_) => return Err(failed(ConnectCause::TimedOut(inbound.connect_timeout))),
        };
        let options = inbound.connect;
        let liveness = sys::Liveness {
            keepalive: options.keepalive,
            user_timeout: options.user_timeout,
        };
        sys::set_up(&tcp, liveness).map_err(|error| failed(ConnectCause::of(&error)))?;
        Ok(tcp)
    }

    /// A handle that may open a stream of extended CONNECT, if the application takes such: it says so in its SETTINGS.
    pub(super) async fn h2_connect(&self) -> Result<(SendRequest<Bytes>, StreamSlot), ProxyError> {
        let announced =
            |connection: &&H2| connection.has_room() && connection.send.is_extended_connect_protocol_enabled();
        let known = self.h2.borrow().iter().find(announced).cloned();
        if let Some(connection) = known
            && let Ok(found) = connection.reserve().await
        {
            return Ok(found);
        }
        let (settled, settings) = oneshot::channel();
        let connection = self.open_h2(Some(settled)).await?;
        match tokio::time::timeout(SETTINGS_WAIT, settings).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(self.lost("connection closed".to_owned())),
            Err(_) => return Err(self.lost(format!("no HTTP/2 SETTINGS within {SETTINGS_WAIT:?}"))),
        }
        if connection.send.is_extended_connect_protocol_enabled() {
            self.h2.borrow_mut().push(connection.clone());
        }
        connection.reserve().await.map_err(|error| self.broke(&error))
    }

    /// A handle that may open a stream.
    pub(super) async fn h2(&self) -> Result<(SendRequest<Bytes>, StreamSlot), ProxyError> {
        if let Some(found) = self.find_h2().await {
            return Ok(found);
        }
        let _turn = match self.connecting.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                let awaited = self.attempts.get();
                let turn = self.connecting.lock().await;
                if let Some(found) = self.find_h2().await {
                    return Ok(found);
                }
                if let Some((attempt, error)) = &*self.failed.borrow()
                    && *attempt >= awaited
                {
                    return Err(error.clone());
                }
                turn
            }
        };
        self.attempts.set(self.attempts.get() + 1);
        let connection = self.open_h2(None).await.inspect_err(|error| {
            self.failed.replace(Some((self.attempts.get(), error.clone())));
        })?;
        self.h2.borrow_mut().push(connection.clone());
        connection.reserve().await.map_err(|error| self.broke(&error))
    }

    /// A new connection. Tells `settled`, where somebody waits for that, once the application has sent its SETTINGS.
    async fn open_h2(&self, settled: Option<oneshot::Sender<()>>) -> Result<H2, ProxyError> {
        let io = Stream::Tcp(self.connect().await?);
        let config = http2::Config {
            header_limit: self.settings.http.header_list_limit,
            stream_window: self.settings.http.stream_window,
            connection_window: self.settings.http.connection_window,
            await_settings: settled.is_some(),
            ..http2::Config::default()
        };
        let frames = Some(Rc::clone(&self.frames));
        let (send, drive) = http2::connect(io, config, frames)
            .await
            .map_err(|error| self.broke(&error))?;
        let addr = self.addr;
        let told = settled.map(|settled| (send.clone(), settled));
        tokio::task::spawn_local(async move {
            let ended = match told {
                Some((send, settled)) => drive_and_tell(drive, send, settled).await,
                None => drive.await,
            };
            if let Err(error) = ended {
                tracing::debug!(%addr, %error, "the connection to the application ended");
            }
        });
        Ok(H2 {
            send,
            active: Rc::default(),
        })
    }

    /// A stream on a connection that is there. Connections that have ended, or said GOAWAY, are let go.
    async fn find_h2(&self) -> Option<(SendRequest<Bytes>, StreamSlot)> {
        loop {
            let index = self.h2.borrow().iter().position(H2::has_room)?;
            let connection = self.h2.borrow()[index].clone();
            if let Ok(found) = connection.reserve().await {
                return Some(found);
            }
            self.h2
                .borrow_mut()
                .retain(|other| !Rc::ptr_eq(&other.active, &connection.active));
        }
    }

    fn broke(&self, error: &h2::Error) -> ProxyError {
        self.lost(error.to_string())
    }

    fn lost(&self, why: String) -> ProxyError {
        ProxyError::UpstreamClosed {
            addr: self.addr,
            sidecar: false,
            why,
            unprocessed: true,
        }
    }

    /// A connection for one request of HTTP/1: an idle one, or a new one.
    pub(super) async fn http1(&self) -> Result<Http1Upstream, ProxyError> {
        let connection = match self.http1.take() {
            Some(connection) => connection,
            None => {
                let io = Stream::Tcp(self.connect().await?).io();
                Http1Connection::new(io, self.settings.http.header_list_limit)
            }
        };
        let give_back: Rc<dyn GiveBack> = self.returns.clone();
        Ok(Http1Upstream {
            connection,
            give_back: Some(give_back),
        })
    }
}

/// Drives a connection that opens no stream before the peer's SETTINGS are there, and tells once they are.
async fn drive_and_tell<E>(
    drive: impl Future<Output = Result<(), E>>,
    send: SendRequest<Bytes>,
    settled: oneshot::Sender<()>,
) -> Result<(), E> {
    let mut drive = pin!(drive);
    let mut told = Some((send, settled));
    poll_fn(|cx| {
        let ended = drive.as_mut().poll(cx);
        if let Some((_, settled)) = told.take_if(|(send, _)| send.current_max_send_streams() > 0) {
            // Nobody listens where the wait was over already.
            let _ = settled.send(());
        }
        ended
    })
    .await
}

impl H2 {
    fn has_room(&self) -> bool {
        self.active.get() < self.send.current_max_send_streams()
    }

    async fn reserve(&self) -> Result<(SendRequest<Bytes>, StreamSlot), h2::Error> {
        self.active.set(self.active.get() + 1);
        let slot = StreamSlot(Rc::clone(&self.active));
        let mut send = self.send.clone();
        poll_fn(|cx| send.poll_ready(cx)).await?;
        Ok((send, slot))
    }
}

/// Idle connections of HTTP/1, the last used one on top.
struct Idle {
    connections: RefCell<Vec<(Http1Connection, Instant)>>,
    limit: usize,
    timeout: Duration,
    sweeping: Cell<bool>,
}

impl Idle {
    fn take(&self) -> Option<Http1Connection> {
        let mut connections = self.connections.borrow_mut();
        while let Some((connection, _)) = connections.pop() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes what has been idle for too long, until nothing is left.
    async fn sweep(self: Rc<Self>) {
        loop {
            let Some(oldest) = self.connections.borrow().first().map(|(_, since)| *since) else {
                break;
            };
            tokio::time::sleep_until((oldest + self.timeout).into()).await;
            self.connections
                .borrow_mut()
                .retain(|(_, since)| since.elapsed() < self.timeout);
        }
        self.sweeping.set(false);
    }
}

/// The pool itself, as what takes connections back.
struct Returns(Rc<Idle>);

impl GiveBack for Returns {
    fn give_back(&self, connection: Http1Connection) {
        let idle = &self.0;
        let mut connections = idle.connections.borrow_mut();
        if connections.len() < idle.limit {
            connections.push((connection, Instant::now()));
        }
        if !idle.sweeping.replace(true) {
            tokio::task::spawn_local(Rc::clone(idle).sweep());
        }
    }
}
