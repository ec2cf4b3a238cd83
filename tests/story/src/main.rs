//! Peers that are built on `h2` 0.1.18, whose encoder has two faults where a name is repeated:
//!
//! * It writes the further values of a name with the HPACK index that the name had before the first entered the table, also where that evicted it.
//! * Where a header block is continued in a CONTINUATION frame in the middle of such values, it panics.
//!
//! `story client ADDRESS evicted|renamed|continued|plain` sends one request; `story hop LISTEN UPSTREAM` passes requests on, as a proxy on this library would. Sockets
//! are polled in turn, without a runtime: this library's time was before today's.

use std::{
    env,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    process::exit,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Async, Future, Poll, Stream};
use h2::{client, server, RecvStream};
use http::{header::HeaderName, HeaderMap, HeaderValue, Request, Response};
use tokio_io::{AsyncRead, AsyncWrite};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A socket that never blocks.
#[derive(Debug)]
struct Socket(TcpStream);

impl Socket {
    fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        tcp.set_nodelay(true)?;
        Ok(Self(tcp))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl AsyncRead for Socket {}

impl AsyncWrite for Socket {
    fn shutdown(&mut self) -> Poll<(), io::Error> {
        self.0.shutdown(std::net::Shutdown::Write).map(Async::Ready)
    }
}

/// Asks again and again. Whoever is asked does not need to be woken.
fn wait<T>(mut step: impl FnMut() -> Poll<T, h2::Error>) -> Result<T, h2::Error> {
    let begun = Instant::now();
    loop {
        match step()? {
            Async::Ready(done) => return Ok(done),
            Async::NotReady if begun.elapsed() > PATIENCE => {
                eprintln!("story: nothing happened for {:?}", PATIENCE);
                exit(3);
            }
            Async::NotReady => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Runs a step within a task, as this library's futures want it.
fn on_task<T>(step: impl FnMut() -> Poll<T, h2::Error>) -> Result<T, h2::Error> {
    let mut step = step;
    futures::future::poll_fn(move || Ok::<_, ()>(Async::Ready(wait(&mut step))))
        .wait()
        .expect("never an error")
}

fn name(text: &str) -> HeaderName {
    HeaderName::from_bytes(text.as_bytes()).expect("a name")
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a value")
}

/// Header lists of one request after the other, of which the library cannot write the last. What is in them is as ordinary as the payments of a bank.
fn requests(what: &str) -> Vec<HeaderMap> {
    let list = |fields: Vec<(&str, String)>| {
        let mut list = HeaderMap::new();
        for (field, text) in fields {
            list.append(name(field), value(&text));
        }
        list
    };
    let id = |nth: u32| ("x-request-id", format!("payment-{}", nth));
    match what {
        // The new first value of `x-baggage` enters the table of 4096 bytes with the name of the old one, and drives that out, and `x-session` with it. The
        // second value then has the index of an entry that is gone.
        "evicted" => vec![
            list(vec![
                ("x-baggage", "a".repeat(1_500)),
                ("x-session", "s".repeat(1_200)),
            ]),
            list(vec![
                ("x-baggage", "b".repeat(2_900)),
                ("x-baggage", "and another".to_owned()),
                id(2),
            ]),
        ],
        // The same, but a younger entry stays and moves to where the old one was: the second value arrives under its name. Nobody notices.
        "renamed" => vec![
            list(vec![("x-baggage", "a".repeat(1_500)), id(1)]),
            list(vec![
                ("x-baggage", "b".repeat(2_900)),
                ("x-baggage", "and another".to_owned()),
                id(2),
            ]),
        ],
        // 16 KiB are full in the middle of the values of `x-baggage`.
        "continued" => vec![list(
            (0..24)
                .map(|nth| ("x-baggage", format!("{}{}", nth, "c".repeat(1_000))))
                .collect(),
        )],
        _ => vec![list(vec![("x-baggage", "one".to_owned()), id(1)])],
    }
}

fn client(address: &str, what: &str) -> Result<(), Box<dyn std::error::Error>> {
    let socket = Socket::new(TcpStream::connect(address)?)?;
    let mut handshake = client::handshake(socket);
    let (mut send, mut connection) = on_task(|| handshake.poll())?;
    for fields in requests(what) {
        let mut request = Request::post("http://ledger.bank/bank.Ledger/Transfer").body(())?;
        *request.headers_mut() = fields;
        let (mut response, _) = send.send_request(request, true)?;
        let answer = on_task(|| {
            let _ = connection.poll()?;
            response.poll()
        })?;
        println!("{}", answer.status().as_u16());
    }
    Ok(())
}

/// Everything of a request; bodies are not what this is about.
fn forward(
    request: Request<RecvStream>,
    respond: &mut server::SendResponse<Bytes>,
    upstream: &mut client::SendRequest<Bytes>,
    connections: &mut dyn FnMut() -> Poll<(), h2::Error>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    wait(|| {
        let _ = connections()?;
        body.poll().map(|polled| match polled {
            Async::Ready(None) => Async::Ready(()),
            _ => Async::NotReady,
        })
    })?;
    let mut onward = Request::post(head.uri).body(()).expect("it was a request");
    *onward.headers_mut() = head.headers;
    let (mut response, _) = upstream.send_request(onward, true)?;
    let answer = wait(|| {
        let _ = connections()?;
        response.poll()
    })?;
    let mut back = Response::builder()
        .status(answer.status())
        .body(())
        .expect("it was a response");
    *back.headers_mut() = answer.headers().clone();
    respond.send_response(back, true)?;
    Ok(())
}

fn hop(listen: &str, upstream: &str) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(listen)?;
    println!("{}", listener.local_addr()?);
    let (tcp, _) = listener.accept()?;
    let socket = Socket::new(tcp)?;
    let outward = Socket::new(TcpStream::connect(upstream)?)?;
    let run = futures::future::lazy(move || -> Result<(), h2::Error> {
        let mut handshake = server::handshake(socket);
        let mut inward = wait(|| handshake.poll())?;
        let mut handshake = client::handshake(outward);
        let (mut send, mut outward) = wait(|| handshake.poll())?;
        loop {
            let accepted = wait(|| {
                let _ = outward.poll()?;
                inward.poll()
            })?;
            let Some((request, mut respond)) = accepted else {
                return Ok(());
            };
            let mut both = || {
                let _ = inward.poll_close()?;
                outward.poll()
            };
            forward(request, &mut respond, &mut send, &mut both)?;
        }
    });
    run.wait()?;
    Ok(())
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["client", address, what] => client(address, what),
        ["hop", listen, upstream] => hop(listen, upstream),
        _ => {
            eprintln!("usage: story client ADDRESS evicted|renamed|continued|plain | story hop LISTEN UPSTREAM");
            exit(2);
        }
    };
    if let Err(error) = done {
        eprintln!("story: {error}");
        exit(1);
    }
}
