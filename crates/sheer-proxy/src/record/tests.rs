//! The recorder in a proxy made of the product's own parts, between a client and a server that speak HTTP/2 by the library, by a scripted peer, or through
//! something that lies.

mod broken;
mod cost;
mod honest;
mod kept;
mod story;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::client;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

use super::{About, Peer, Query, Recorder, RecorderCopy, Speaks, Tape};
use crate::{
    error::{Direction, ProxyError},
    exchange::{self, Context, Limits, Observation, Outcome, Responder, Sink, Upstream, exchange},
    http2,
    io::Stream,
    life::LifeControl,
};

struct Nobody;

impl Sink for Nobody {
    fn end(&self, _outcome: &Outcome) {}
}

/// Sends every request on to one connection.
struct Relay {
    send: client::SendRequest<Bytes>,
    tape: Tape,
    recorder: Recorder,
}

impl http2::Service for Relay {
    async fn call(self: Rc<Self>, request: exchange::Request, responder: Responder) {
        let observation = Observation::start(Rc::new(Nobody));
        observation.recorded(&self.recorder, responder.leg());
        let cx = Context {
            direction: Direction::Inbound,
            addr: ([127, 0, 0, 1], 80).into(),
            header_limit: 256 * 1024,
            limits: Limits::default(),
            referee: None,
            replay: false,
            attempt: 0,
        };
        let Ok(send) = self.send.clone().ready().await else {
            let error = ProxyError::ShuttingDown;
            return responder.fail(&error, &observation).await;
        };
        let upstream = Upstream::H2 {
            send,
            mesh: false,
            tape: self.tape.clone(),
        };
        let ended = Box::pin(exchange(request, upstream, responder, &cx, &observation)).await;
        if let Err(failed) = ended {
            failed.responder.fail(&failed.error, &observation).await;
        }
    }

    fn refused(&self, _refused: http2::Refused<'_>) -> Observation {
        Observation::start(Rc::new(Nobody))
    }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    let (opened, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    let (opened, accepted) = (opened.expect("a connection"), accepted.expect("its other end").0);
    opened.set_nodelay(true).expect("an option");
    accepted.set_nodelay(true).expect("an option");
    (opened, accepted)
}

/// Changes what passes: the first appearance of some bytes into others.
struct Lie<T> {
    io: T,
    read: Option<(&'static [u8], &'static [u8])>,
    write: Option<(&'static [u8], &'static [u8])>,
}

fn replace(bytes: &mut [u8], lie: &mut Option<(&'static [u8], &'static [u8])>) {
    let Some((truth, other)) = *lie else { return };
    if let Some(at) = bytes.windows(truth.len()).position(|window| window == truth) {
        bytes[at..at + other.len()].copy_from_slice(other);
        *lie = None;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lie<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Task<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        replace(&mut buf.filled_mut()[before..], &mut self.read);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lie<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Task<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut data = data.to_vec();
        replace(&mut data, &mut self.write);
        Pin::new(&mut self.io).poll_write(cx, &data)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Task<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = data.iter().flat_map(|slice| slice.to_vec()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What a proxy's library is told otherwise than the wire has it, on its client's side.
#[derive(Default)]
struct Lies {
    read: Option<(&'static [u8], &'static [u8])>,
    write: Option<(&'static [u8], &'static [u8])>,
}

/// A recorded proxy, and the other ends of its connections.
async fn proxy(recorder: &Recorder, lies: Lies) -> (TcpStream, TcpStream, LifeControl) {
    let (client, from_client) = sockets().await;
    let (server, control) = proxy_for(recorder, lies, from_client).await;
    (client, server, control)
}

/// A recorded proxy for a client that has connected, and the server's end of its other connection.
async fn proxy_for(recorder: &Recorder, lies: Lies, from_client: TcpStream) -> (TcpStream, LifeControl) {
    let (to_server, server) = sockets().await;
    let about = |accepted| About::new(if accepted { Peer::Mesh } else { Peer::App }, accepted, Speaks::Http2);
    let (io, tape) = recorder.http(about(false), Stream::Tcp(to_server).io());
    let (send, drive) = http2::connect(io, http2::Config::default(), None)
        .await
        .expect("a connection");
    tokio::task::spawn_local(drive);
    let (io, own) = recorder.http(about(true), Stream::Tcp(from_client).io());
    let relay = Rc::new(Relay {
        send,
        tape,
        recorder: recorder.clone(),
    });
    let control = LifeControl::default();
    let life = control.life();
    let io = Lie {
        io,
        read: lies.read,
        write: lies.write,
    };
    tokio::task::spawn_local(async move {
        let _ = http2::serve((io, own), &http2::Config::default(), relay, &life).await;
    });
    (server, control)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let patient = async { tokio::time::timeout(Duration::from_secs(600), test).await };
    LocalSet::new().block_on(&runtime, async { patient.await.expect("in time") });
}

fn everything(recorder: &Recorder) -> RecorderCopy {
    let query = Query {
        ended: true,
        records: Some(Vec::new()),
        ..Query::default()
    };
    recorder.copy(&query, true).expect("a recorder that is on")
}
