//! A panic within the data path: it ends what it happened in, is counted, and nothing else notices. In a program of its own, because
//! the hook that counts is the process'.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[expect(dead_code, reason = "shared with the tests of the inbound half")]
#[path = "support/inbound.rs"]
mod inbound;
#[path = "support/run.rs"]
mod run;

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use run::run;
use sheer_proxy::{
    addr::OrigDst,
    discovery::{Budgets, Discovery, EndpointSet, InboundPolicy, Lookup, OutboundTarget},
    error::ProxyError,
    exchange::{self, Observation, Outcome, Responder, Sink},
    http2, identity,
    io::Stream,
    life::{Drained, Life, LifeControl},
    metrics::{Format, Registry},
    outbound::Outbound,
    record::Tape,
    worker,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// `sheer_panics_total` as the metrics page has it.
fn panics(registry: &Registry) -> u64 {
    let page = registry.render(Format::Prometheus);
    let value = page.lines().find_map(|line| line.strip_prefix("sheer_panics_total "));
    value.expect("the page has it").parse().unwrap()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Panics in requests for `/panic`, answers others.
struct Fragile;

struct Untold;

impl Sink for Untold {
    fn end(&self, _outcome: &Outcome) {}
}

impl http2::Service for Fragile {
    async fn call(self: Rc<Self>, request: exchange::Request, responder: Responder) {
        assert!(request.head.uri.path() != "/panic", "a test's panic in a stream");
        let observation = Observation::start(Rc::new(Untold));
        responder.fail(&ProxyError::ShuttingDown, &observation).await;
    }

    fn refused(&self, refused: http2::Refused<'_>) -> Observation {
        panic!("{}", refused.error)
    }
}

async fn ask(send: &SendRequest<Bytes>, path: &str) -> Result<StatusCode, h2::Error> {
    let mut send = send.clone().ready().await?;
    let request = Request::get(format!("http://web.shop{path}")).body(()).unwrap();
    Ok(send.send_request(request, true)?.0.await?.status())
}

/// A discovery in which one destination is a trap.
struct Trap {
    trap: SocketAddr,
    budgets: Budgets,
}

impl Discovery for Trap {
    fn outbound(&self, dst: OrigDst) -> watch::Receiver<Lookup<OutboundTarget>> {
        assert!(dst.0 != self.trap, "a test's panic in a connection");
        watch::Sender::new(Lookup::Unknown).subscribe()
    }

    fn endpoints(&self, _path: &str) -> watch::Receiver<Lookup<EndpointSet>> {
        unreachable!("nothing is balanced here")
    }

    fn inbound(&self, _port: u16) -> watch::Receiver<Lookup<InboundPolicy>> {
        unreachable!("nothing comes in here")
    }

    fn budgets(&self) -> &Budgets {
        &self.budgets
    }
}

/// One after the other: both count on the same counter.
#[test]
fn a_panic_ends_only_what_it_happened_in() {
    // The hook logs what the test's own would print.
    tracing_subscriber::fmt().with_test_writer().init();
    worker::catch_panics();
    run(async {
        let registry = Registry::new(Duration::from_secs(600));
        assert_eq!(panics(&registry), 0);
        in_a_stream(&registry).await;
        assert_eq!(panics(&registry), 1);
        in_a_connection(&registry).await;
        assert_eq!(panics(&registry), 2);
    });
}

async fn in_a_stream(registry: &Registry) {
    let life = LifeControl::default();
    let (client, server) = sockets().await;
    let serving = life.life();
    worker::spawn_connection(&life.life(), async move {
        let _ = http2::serve(
            (Stream::Tcp(server), Tape::default()),
            &http2::Config::default(),
            Rc::new(Fragile),
            &serving,
        )
        .await;
    });
    let (send, connection) = h2::client::handshake(client).await.unwrap();
    tokio::task::spawn_local(connection);
    assert_eq!(ask(&send, "/before").await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    let (sibling, lost) = tokio::join!(ask(&send, "/sibling"), ask(&send, "/panic"));
    assert!(lost.unwrap_err().is_reset(), "the stream is reset");
    assert_eq!(sibling.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&send, "/after").await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(panics(registry), 1);
    drop(send);
    assert!(matches!(life.drain(Duration::from_secs(10)).await, Drained::Clean));
}

async fn in_a_connection(registry: &Registry) {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dst = app.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut tcp, _)) = app.accept().await {
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let trap = "10.9.8.7:80".parse().unwrap();
    let life = LifeControl::default();
    let (_publish, identity) = identity::channel();
    let settings = Arc::new(inbound::settings("127.0.0.1:1".parse().unwrap()));
    let discovery = Arc::new(Trap {
        trap,
        budgets: Budgets::default(),
    });
    let outbound = Outbound::new(settings, discovery, identity, life.life(), registry.shard());

    let mut sibling = connect(&outbound, &life.life(), dst).await;
    echo(&mut sibling).await;
    let mut lost = connect(&outbound, &life.life(), trap).await;
    let read = lost.read(&mut [0]).await;
    assert!(!matches!(read, Ok(1..)), "the connection ends: {read:?}");
    echo(&mut sibling).await;
    echo(&mut connect(&outbound, &life.life(), dst).await).await;
    drop(sibling);
    assert!(matches!(life.drain(Duration::from_secs(10)).await, Drained::Clean));
}

/// A connection of an application to `dst`.
async fn connect(outbound: &Rc<Outbound>, life: &Life, dst: SocketAddr) -> TcpStream {
    let (client, accepted) = sockets().await;
    worker::spawn_connection(life, Rc::clone(outbound).serve_to(accepted, OrigDst(dst)));
    client
}

async fn echo(tcp: &mut TcpStream) {
    tcp.write_all(b"\0\x01").await.unwrap();
    let mut back = [0; 2];
    tcp.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"\0\x01");
}
