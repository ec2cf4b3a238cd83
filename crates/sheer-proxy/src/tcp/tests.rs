//! Relays between real sockets (spliced), and between a socket and a stream that only looks like one (copied).

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{detect::Rewind, sys};

/// Two ends of a connection over loopback.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let addr = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

/// A socket through which the kernel must not move bytes, as if TLS were in it.
struct Opaque(TcpStream);

impl Duplex for Opaque {
    fn socket(&self) -> Option<&TcpStream> {
        Some(&self.0)
    }
}

mod delegate {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Opaque;

    impl AsyncRead for Opaque {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, out)
        }
    }

    impl AsyncWrite for Opaque {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, data)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }
}

/// A client and a server with a relay between them.
struct Relayed {
    client: TcpStream,
    server: TcpStream,
    counters: std::sync::Arc<Counters>,
    outcome: JoinHandle<Outcome>,
}

async fn relayed(plain: bool) -> Relayed {
    let (client, inner_client) = pair().await;
    let (inner_server, server) = pair().await;
    let counters = std::sync::Arc::new(Counters::default());
    let shared = counters.clone();
    let outcome = tokio::spawn(async move {
        if plain {
            relay(inner_client, inner_server, &shared).await
        } else {
            relay(inner_client, Opaque(inner_server), &shared).await
        }
    });
    Relayed {
        client,
        server,
        counters,
        outcome,
    }
}

async fn outcome(task: JoinHandle<Outcome>) -> Outcome {
    timeout(Duration::from_secs(10), task)
        .await
        .expect("the relay ends")
        .expect("without panic")
}

/// Bytes that repeat late, so that a piece lost, doubled or out of place shows.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

#[tokio::test]
async fn each_half_closes_by_itself() {
    for plain in [true, false] {
        let mut relayed = relayed(plain).await;
        relayed.client.write_all(b"question").await.expect("open");
        relayed.client.shutdown().await.expect("open");
        let mut question = Vec::new();
        relayed.server.read_to_end(&mut question).await.expect("an orderly end");
        assert_eq!(question, b"question");
        // The other half is still open.
        relayed.server.write_all(b"answer").await.expect("open");
        let mut answer = [0; 6];
        relayed.client.read_exact(&mut answer).await.expect("the answer");
        assert_eq!(
            (relayed.counters.to_server(), relayed.counters.to_client()),
            (8, 6),
            "told while it runs"
        );
        drop(relayed.server);
        assert_eq!(relayed.client.read(&mut answer).await.expect("an orderly end"), 0);
        let outcome = outcome(relayed.outcome).await;
        assert!(
            matches!(
                (&outcome.to_server.end, &outcome.to_client.end),
                (End::Closed, End::Closed)
            ),
            "{outcome:?}"
        );
        assert_eq!(
            (outcome.to_server.bytes, outcome.to_client.bytes, outcome.first),
            (8, 6, Side::Client)
        );
    }
}

#[tokio::test]
async fn bulk_arrives_whole_both_ways_at_once() {
    for plain in [true, false] {
        let relayed = relayed(plain).await;
        let (up, down) = (content(24 << 20), content((16 << 20) + 1));
        let (mut client_read, mut client_write) = relayed.client.into_split();
        let (mut server_read, mut server_write) = relayed.server.into_split();
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let (a, b, c, d) = tokio::join!(
            async {
                client_write.write_all(&up).await?;
                client_write.shutdown().await
            },
            async {
                server_write.write_all(&down).await?;
                server_write.shutdown().await
            },
            server_read.read_to_end(&mut got_up),
            client_read.read_to_end(&mut got_down),
        );
        a.and(b).and(c).and(d).expect("nothing fails");
        assert!(got_up == up && got_down == down, "plain: {plain}");
        let outcome = outcome(relayed.outcome).await;
        assert_eq!(
            (outcome.to_server.bytes, outcome.to_client.bytes),
            (up.len() as u64, down.len() as u64)
        );
    }
}

#[tokio::test]
async fn a_reset_passes_on_both_ways() {
    for plain in [true, false] {
        for client_resets in [true, false] {
            let mut relayed = relayed(plain).await;
            relayed.client.write_all(b"x").await.expect("open");
            let mut byte = [0];
            relayed.server.read_exact(&mut byte).await.expect("relayed");
            let (resetting, mut other) = if client_resets {
                (relayed.client, relayed.server)
            } else {
                (relayed.server, relayed.client)
            };
            sys::reset_on_close(&resetting).expect("open");
            drop(resetting);
            let seen = other.read(&mut byte).await;
            assert_eq!(seen.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
            let outcome = outcome(relayed.outcome).await;
            let (from, to) = if client_resets {
                (outcome.to_server, outcome.to_client)
            } else {
                (outcome.to_client, outcome.to_server)
            };
            assert!(
                matches!((&from.end, &to.end), (End::SenderReset, End::Abandoned)),
                "{from:?} {to:?}"
            );
            assert_eq!(outcome.first, if client_resets { Side::Client } else { Side::Server });
        }
    }
}

#[tokio::test]
async fn an_answer_before_a_reset_still_arrives() {
    // A server that refuses an upload: it answers, and closes without having read, which is a reset.
    let mut relayed = relayed(true).await;
    relayed.client.write_all(&content(100_000)).await.expect("open");
    relayed.server.readable().await.expect("some of it");
    relayed.server.write_all(b"too large").await.expect("open");
    let mut answer = [0; 9];
    relayed.client.read_exact(&mut answer).await.expect("the answer");
    drop(relayed.server);
    let mut rest = [0; 1];
    let end = timeout(Duration::from_secs(10), relayed.client.read(&mut rest))
        .await
        .expect("an end");
    assert_eq!(end.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(&answer, b"too large");
    let outcome = outcome(relayed.outcome).await;
    assert_eq!(outcome.first, Side::Server);
    assert!(!matches!(outcome.to_client.end, End::Closed), "{outcome:?}");
}

#[tokio::test]
async fn what_was_read_before_comes_first() {
    let (mut client, inner_client) = pair().await;
    let (inner_server, mut server) = pair().await;
    client.write_all(b"def").await.expect("open");
    client.shutdown().await.expect("open");
    server.write_all(b"456").await.expect("open");
    server.shutdown().await.expect("open");
    let counters = Counters::default();
    let inner_client = Rewind::new(inner_client, Bytes::from_static(b"bc"));
    let inner_client = Rewind::new(inner_client, Bytes::from_static(b"a"));
    let inner_server = Rewind::new(inner_server, Bytes::from_static(b"123"));
    let outcome = relay(inner_client, inner_server, &counters).await;
    let (mut up, mut down) = (String::new(), String::new());
    server.read_to_string(&mut up).await.expect("an orderly end");
    client.read_to_string(&mut down).await.expect("an orderly end");
    assert_eq!((up.as_str(), down.as_str()), ("abcdef", "123456"));
    assert_eq!((outcome.to_server.bytes, outcome.to_client.bytes), (6, 6));
}

/// A ClientHello for `ledger.bank`, as a client writes it.
fn client_hello() -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "ledger.bank".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory");
    hello
}

/// Whatever its pieces, and however it is moved: the name is known, and every byte arrives.
#[tokio::test]
async fn the_server_name_of_tls_is_noted_from_what_passes() {
    let hello = client_hello();
    for plain in [true, false] {
        for cuts in [vec![], vec![1], vec![3, 6, 200], vec![5], vec![hello.len() - 1]] {
            let mut relayed = relayed(plain).await;
            let mut from = 0;
            for until in cuts.into_iter().chain([hello.len()]) {
                relayed.client.write_all(&hello[from..until]).await.expect("open");
                let mut piece = vec![0; until - from];
                relayed.server.read_exact(&mut piece).await.expect("relayed");
                assert_eq!(piece, hello[from..until], "nothing waits for the rest");
                assert_eq!(relayed.counters.hello().is_some(), until == hello.len());
                from = until;
            }
            assert_eq!(relayed.counters.hello(), Some("ledger.bank"));
            // What comes behind is nobody's business.
            relayed.client.write_all(&hello).await.expect("open");
            relayed.client.shutdown().await.expect("open");
            let mut rest = Vec::new();
            relayed.server.read_to_end(&mut rest).await.expect("an orderly end");
            assert_eq!(rest, hello);
        }
    }
    // Read by detection, in part.
    let (mut client, inner_client) = pair().await;
    let (inner_server, mut server) = pair().await;
    client.write_all(&hello[100..]).await.expect("open");
    client.shutdown().await.expect("open");
    server.shutdown().await.expect("open");
    let counters = Counters::default();
    let inner_client = Rewind::new(inner_client, Bytes::copy_from_slice(&hello[..100]));
    relay(inner_client, inner_server, &counters).await;
    let mut whole = Vec::new();
    server.read_to_end(&mut whole).await.expect("an orderly end");
    assert_eq!((counters.hello(), whole == hello), (Some("ledger.bank"), true));
}

/// What is no ClientHello, and what becomes none: a server's, one behind other bytes, one without end.
#[tokio::test]
async fn what_is_no_hello_is_relayed_as_it_is() {
    let hello = client_hello();
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xff][..], &content(100_000)].concat();
    for first in [[b"EHLO x\r\n", &hello[..]].concat(), endless, vec![22, 22, 22]] {
        let mut relayed = relayed(true).await;
        let writing = async {
            relayed.client.write_all(&first).await.expect("open");
            relayed.client.shutdown().await.expect("open");
        };
        let mut arrived = Vec::new();
        let (read, ()) = tokio::join!(relayed.server.read_to_end(&mut arrived), writing);
        read.expect("an orderly end");
        assert!(arrived == first);
        relayed.server.write_all(&hello).await.expect("open");
        relayed.server.shutdown().await.expect("open");
        let mut back = Vec::new();
        relayed.client.read_to_end(&mut back).await.expect("an orderly end");
        assert!(back == hello);
        assert_eq!(relayed.counters.hello(), None);
    }
}

#[tokio::test]
async fn a_slow_reader_slows_its_writer() {
    for plain in [true, false] {
        let mut relayed = relayed(plain).await;
        let piece = content(1 << 20);
        // Nobody reads: the kernel's buffers of four sockets fill, and then nothing more is taken.
        let mut written = 0;
        while let Ok(result) = timeout(Duration::from_millis(300), relayed.client.write(&piece)).await {
            written += result.expect("open");
            assert!(written < 200 << 20, "the relay buffers without end");
        }
        let moved = relayed.counters.to_server();
        assert!(moved > 0 && moved <= written as u64);
        // Once somebody reads, everything that was taken arrives.
        relayed.client.shutdown().await.expect("open");
        let mut read = Vec::new();
        relayed.server.read_to_end(&mut read).await.expect("an orderly end");
        assert_eq!(read.len(), written);
        drop(relayed.server);
        outcome(relayed.outcome).await;
    }
}

#[tokio::test]
async fn dropping_a_relay_closes_both_connections() {
    let mut relayed = relayed(true).await;
    relayed.outcome.abort();
    let mut byte = [0];
    assert_eq!(relayed.client.read(&mut byte).await.expect("an end"), 0);
    assert_eq!(relayed.server.read(&mut byte).await.expect("an end"), 0);
}

#[tokio::test]
async fn a_relay_that_was_hot_and_is_idle_holds_nothing() {
    let (mut client, inner_client) = pair().await;
    let (inner_server, mut server) = pair().await;
    let counters = Counters::default();
    let mut relay = std::pin::pin!(relay(inner_client, inner_server, &counters));
    let bulk = content(8 << 20);
    let mut read = vec![0; bulk.len()];
    tokio::select! {
        biased;
        _ = &mut relay => panic!("nobody closed"),
        _ = async {
            let (written, read) = tokio::join!(client.write_all(&bulk), server.read_exact(&mut read));
            written.and(read.map(drop)).expect("relayed");
            tokio::task::yield_now().await;
        } => {}
    }
    assert!(read == bulk);
    assert!(
        half::spare_pipes() > 0,
        "the kernel moved the bytes, and the pipe is free for others"
    );
    assert!(relay.holds_nothing());
}

#[test]
fn an_idle_relay_is_small() {
    // 10,000 idle connections hold this 10,000 times.
    let size = size_of::<Relay<'static, TcpStream, TcpStream>>() - 2 * size_of::<TcpStream>();
    assert!(size <= 320, "{size} bytes");
}

/// As [`pair`], with TLS: the client's end and the server's.
async fn tls_pair() -> (
    tokio_rustls::client::TlsStream<TcpStream>,
    tokio_rustls::server::TlsStream<TcpStream>,
) {
    let made = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a key of the certificate");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = pair().await;
    let name = "peer.test".try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
    let (near, far) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    (near.expect("shaken hands"), far.expect("shaken hands"))
}

#[tokio::test]
async fn tls_is_relayed_with_its_half_closes() {
    let (mut client, inner_client) = pair().await;
    let (inner_server, mut server) = tls_pair().await;
    let relay = tokio::spawn(async move { relay(inner_client, inner_server, &Counters::default()).await });
    let bulk = content(3 << 20);
    let mut question = Vec::new();
    let (wrote, read) = tokio::join!(
        async {
            client.write_all(&bulk).await?;
            client.shutdown().await
        },
        server.read_to_end(&mut question),
    );
    wrote.and(read.map(drop)).expect("relayed");
    assert!(question == bulk);
    server.write_all(b"answer").await.expect("the other half is open");
    server.shutdown().await.expect("open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an orderly end");
    assert_eq!(answer, "answer");
    let outcome = outcome(relay).await;
    assert!(
        matches!(
            (&outcome.to_server.end, &outcome.to_client.end),
            (End::Closed, End::Closed)
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn tls_that_is_cut_off_is_no_orderly_end() {
    let (mut client, inner_client) = pair().await;
    let (inner_server, mut server) = tls_pair().await;
    let relay = tokio::spawn(async move { relay(inner_client, inner_server, &Counters::default()).await });
    server.write_all(b"half of it").await.expect("open");
    let mut half = [0; 10];
    client.read_exact(&mut half).await.expect("relayed");
    drop(server); // a FIN without close_notify
    assert_eq!(
        client.read(&mut half).await.expect_err("a reset").kind(),
        io::ErrorKind::ConnectionReset
    );
    let outcome = outcome(relay).await;
    assert!(matches!(outcome.to_client.end, End::SenderReset), "{outcome:?}");
    assert_eq!(outcome.first, Side::Server);
}
