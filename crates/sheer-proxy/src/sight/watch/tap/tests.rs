//! What a proxy refuses before it is a request, through both halves: told to who watches, and kept among failures, without its secrets.

#[expect(dead_code, reason = "shared with the tests of HTTP/1")]
#[path = "../../../../tests/support/pair.rs"]
mod pair;
#[path = "../../../../tests/support/run.rs"]
mod run;

use std::{net::SocketAddr, rc::Rc};

use pair::Pair;
use prost::Message as _;
use run::run;
use sheer_testkit::h2peer::{Block, Peer, code};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{super::show, *};
use crate::{addr::ClientAddr, record::Recorder, tap::Taps};

const LIMIT: &str = "4096";
/// What stands in place of secrets. None of it may show.
const PLANTED: &str = "planted";

/// One half of a proxy, watched.
struct Watched {
    recorder: Recorder,
    receiver: mpsc::Receiver<Event>,
    client: TcpStream,
}

async fn connected() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, from) = listener.accept().await.unwrap();
    (client, accepted, from)
}

fn watch(taps: &Rc<Taps>) -> mpsc::Receiver<Event> {
    let (events, receiver) = mpsc::channel(QUEUE);
    let filter = v1::TapFilter {
        failed_only: true,
        ..v1::TapFilter::default()
    };
    taps.watch(Watcher {
        filter: Arc::new(Filter::read(&filter, Redactor::own()).unwrap()),
        events,
        crowd: Arc::default(),
        losses: Arc::default(),
        rate: Arc::new(Throttle::new(RATE, Instant::now())),
        only_ends: true,
        bodies: 0,
        waiting: Arc::default(),
    });
    receiver
}

impl Watched {
    async fn half(pair: &Pair, outbound: bool) -> Self {
        let (sending, receiving) = pair.halves();
        if outbound {
            return Self {
                recorder: sending.recorder().clone(),
                receiver: watch(sending.taps()),
                client: pair.connect().await,
            };
        }
        let receiving = receiving.unwrap();
        let (client, accepted, from) = connected().await;
        let dst: SocketAddr = "127.0.0.1:80".parse().unwrap();
        tokio::task::spawn_local(Rc::clone(receiving).serve_to(accepted, ClientAddr(from), Some(dst)));
        Self {
            recorder: receiving.recorder().clone(),
            receiver: watch(receiving.taps()),
            client,
        }
    }

    /// What was told of the one request that there was, and what was kept of it. Nothing of it has a secret.
    fn told(&mut self) -> [v1::TappedRequest; 2] {
        let redactor = Redactor::own();
        let copy = self.recorder.copy(&nothing(), true).unwrap();
        let filter = Filter::read(&v1::TapFilter::default(), redactor).unwrap();
        let all = kept(std::slice::from_ref(&copy), &filter, redactor);
        let [kept] = &all[..] else { panic!("kept: {all:?}") };
        let Some(tap_event::Event::Request(kept)) = &kept.event else {
            panic!("kept: {kept:?}")
        };
        let Ok(Event::Request(event)) = self.receiver.try_recv() else {
            panic!("nothing was told")
        };
        assert!(self.receiver.try_recv().is_err(), "it is told once");
        let live = request(&event, redactor);
        let frames: Vec<u8> = copy.failures[0]
            .recordings
            .iter()
            .flat_map(|recording| recording.shown().into_iter().map(|shown| (recording.id, shown)))
            .flat_map(|(id, shown)| show::frame(id, &shown, copy.clock, redactor).encode_to_vec())
            .collect();
        for shown in [&live.encode_to_vec(), &kept.encode_to_vec(), &frames] {
            assert!(memchr::memmem::find(shown, PLANTED.as_bytes()).is_none(), "{live:?}");
        }
        [live, (**kept).clone()]
    }
}

/// A head, its answer, and method and path as far as they can be read.
fn heads() -> Vec<(String, u32, &'static str, [&'static str; 2])> {
    let secret = format!("Host: a\r\nAuthorization: Bearer {PLANTED}");
    let big = "b".repeat(80 * 1024);
    let (large, bad) = ("header-list-too-large", "bad-request");
    vec![
        (
            format!("GET /big HTTP/1.1\r\n{secret}\r\nX-Big: {big}\r\n\r\n"),
            431,
            large,
            ["GET", "/big"],
        ),
        (
            format!("GET /many HTTP/1.1\r\n{secret}\r\n{}\r\n", "a:\r\n".repeat(4097)),
            431,
            large,
            ["GET", "/many"],
        ),
        (
            format!("GET /long?token={PLANTED}{big} HTTP/1.1\r\n{secret}\r\n\r\n"),
            431,
            large,
            ["GET", "/long"],
        ),
        (
            format!(
                "POST /two HTTP/1.1\r\n{secret}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{PLANTED}: {PLANTED}\r\n\r\n"
            ),
            400,
            bad,
            ["POST", "/two"],
        ),
        (
            format!("GET http://ada:{PLANTED}@b/user HTTP/1.1\r\n{secret}\r\nA : b\r\n\r\n"),
            400,
            bad,
            ["GET", "/user"],
        ),
        (
            format!("GET /folded HTTP/1.1\r\nHost: a\r\nAuthorization:\r\n Bearer {PLANTED}: x\r\n\r\n"),
            400,
            bad,
            ["GET", "/folded"],
        ),
    ]
}

#[test]
fn heads_that_cannot_be_read_are_told_and_kept() {
    run(async {
        for outbound in [true, false] {
            for (head, status, reason, [method, path]) in heads() {
                let pair = Pair::with(true, &[("SHEER_PROXY_HEADER_LIST_LIMIT", LIMIT)]).await;
                let mut half = Watched::half(&pair, outbound).await;
                let from = half.client.local_addr().unwrap().to_string();
                half.client.write_all(head.as_bytes()).await.unwrap();
                let mut said = Vec::new();
                half.client.read_to_end(&mut said).await.unwrap();
                for shown in half.told() {
                    assert_eq!((shown.status, &*shown.reason), (status, reason), "{shown:?}");
                    assert_eq!((&*shown.kind, &*shown.end, shown.failed), ("end", "proxy", true));
                    assert_eq!((&*shown.verdict, &*shown.protocol), ("client-config", "http/1"));
                    assert_eq!(shown.client_address, from);
                    assert!(!shown.destination.is_empty());
                    let request = shown.request.unwrap();
                    assert_eq!((&*request.method, &*request.path), (method, path));
                }
            }
        }
    });
}

#[test]
fn a_request_without_a_path_is_told_and_kept() {
    run(async {
        for outbound in [true, false] {
            let pair = Pair::with(true, &[]).await;
            let half = Watched::half(&pair, outbound).await;
            let mut client = Peer::client(half.client).await.unwrap();
            let block = Block::new().literal(":method", "GET").literal(":scheme", "http");
            let block = block.literal("authorization", format!("Bearer {PLANTED}"));
            client.headers_end(1, &block).await.unwrap();
            assert_eq!(client.reset(1).await.unwrap(), code::PROTOCOL_ERROR);
            let mut half = Watched {
                client: connected().await.0,
                ..half
            };
            for shown in half.told() {
                assert_eq!((shown.status, &*shown.reason, &*shown.end), (0, "bad-request", "proxy"));
                assert_eq!((&*shown.protocol, shown.failed), ("http/2", true));
                let request = shown.request.unwrap();
                assert_eq!((&*request.method, &*request.path), ("GET", ""));
                assert!(request.headers[0].value.starts_with(b"hash:"));
            }
        }
    });
}
