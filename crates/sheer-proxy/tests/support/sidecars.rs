//! Messages sent through the inbound proxy alone, or through an outbound one, made of the exchange, in front of it.

use std::{net::SocketAddr, rc::Rc};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use sheer_proxy::{
    error::Direction,
    exchange::{self, Context, Observation, Outcome, Responder, Sink, Upstream, exchange},
    http1_server, http2,
    identity::MeshAlpn,
    io::Stream,
    life::LifeControl,
    record::Tape,
    transport_header::{SessionProtocol, TransportHeader},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    inbound::{CLIENT, Proxy},
    same,
};

/// Fields in the order and spelling of the wire.
#[derive(Clone, Debug)]
pub(crate) struct Fields(pub(crate) Vec<(String, Vec<u8>)>);

/// Everything that has headers in an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) request: Fields,
    pub(crate) response: Fields,
    /// Trailers of the request.
    pub(crate) up: Fields,
    /// Trailers of the response.
    pub(crate) down: Fields,
}

/// Which proxies a message goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// An outbound and an inbound one, with mutual TLS between.
    Both,
    /// The inbound one, from a client without a sidecar.
    Inbound,
}

impl Fields {
    fn map(&self) -> HeaderMap {
        let field = |(name, value): &(String, Vec<u8>)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            )
        };
        self.0.iter().map(field).collect()
    }

    fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, value) in &self.0 {
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        lines
    }
}

/// An outbound proxy with one way to go.
struct Outbound {
    send: SendRequest<Bytes>,
}

struct Untold;

impl Sink for Untold {
    fn end(&self, _outcome: &Outcome) {}
}

impl http2::Service for Outbound {
    async fn call(self: Rc<Self>, request: exchange::Request, responder: Responder) {
        let cx = Context {
            direction: Direction::Outbound,
            addr: "10.0.0.9:8080".parse().unwrap(),
            header_limit: 256 * 1024,
            limits: exchange::Limits::default(),
            referee: None,
            replay: true,
            attempt: 0,
        };
        let send = self.send.clone().ready().await.unwrap();
        let observation = Observation::start(Rc::new(Untold));
        let upstream = Upstream::H2 {
            send,
            mesh: true,
            tape: Tape::default(),
        };
        if let Err(failed) = exchange(request, upstream, responder, &cx, &observation).await {
            panic!("{failed:?}");
        }
    }

    fn refused(&self, refused: http2::Refused<'_>) -> Observation {
        panic!("{}", refused.error);
    }
}

/// A client's connection towards `app`.
async fn connect(proxy: &Proxy, way: Way, app: SocketAddr, h1: bool) -> TcpStream {
    if way == Way::Inbound {
        return proxy.plain(app).await;
    }
    let mut io = proxy.mesh(MeshAlpn::TransportHeader).await;
    let header = TransportHeader {
        port: app.port(),
        name: None,
        protocol: Some(SessionProtocol::Http2),
    };
    io.write_all(&header.encode()).await.unwrap();
    let (send, drive) = http2::connect(io, http2::Config::default(), None).await.unwrap();
    tokio::task::spawn_local(drive);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = Stream::Tcp(listener.accept().await.unwrap().0);
    let outbound = Rc::new(Outbound { send });
    tokio::task::spawn_local(async move {
        let life = LifeControl::default();
        if h1 {
            let config = http1_server::Config {
                direction: Direction::Outbound,
                header_limit: 256 * 1024,
                terse: false,
            };
            let _ = http1_server::serve(accepted.io(), config, outbound, &life.life()).await;
        } else {
            let _ = http2::serve(
                (accepted, Tape::default()),
                &http2::Config::default(),
                outbound,
                &life.life(),
            )
            .await;
        }
    });
    client
}

/// Sends a message as HTTP/2 and checks every part of it where it arrives.
pub(crate) async fn http2(proxy: &Proxy, way: Way, message: &Message) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let expected = message.clone();
    let server = tokio::task::spawn_local(async move {
        let mut server = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
        let (request, mut respond) = server.accept().await.unwrap().unwrap();
        let answer = tokio::task::spawn_local(async move {
            let mut got = request.headers().clone();
            let client = got.remove("l5d-client-id");
            assert_eq!(
                client.as_ref().map(HeaderValue::as_bytes),
                (way == Way::Both).then_some(CLIENT.as_bytes())
            );
            same(&expected.request.map(), &got, "request");
            let mut response = Response::new(());
            *response.headers_mut() = expected.response.map();
            let mut out = respond.send_response(response, false).unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                out.send_data(data.unwrap(), false).unwrap();
            }
            let up = body.trailers().await.unwrap().unwrap_or_default();
            same(&expected.up.map(), &up, "request trailers");
            out.send_trailers(expected.down.map()).unwrap();
        });
        while server.accept().await.is_some() {}
        answer.await.unwrap();
    });
    let (mut client, connection) = h2::client::handshake(connect(proxy, way, app, false).await)
        .await
        .unwrap();
    let connection = tokio::task::spawn_local(connection);
    let mut request = Request::post("http://app.bank/path").body(()).unwrap();
    *request.headers_mut() = message.request.map();
    let (response, mut out) = client.send_request(request, false).unwrap();
    out.send_data(Bytes::from_static(b"body"), false).unwrap();
    out.send_trailers(message.up.map()).unwrap();
    let response = response.await.unwrap();
    same(&message.response.map(), response.headers(), "response");
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        data.unwrap();
    }
    let down = body.trailers().await.unwrap().unwrap_or_default();
    same(&message.down.map(), &down, "response trailers");
    drop((client, body, out));
    connection.abort();
    server.abort();
    // Aborted after its checks, unless one of them failed.
    assert!(server.await.is_err_and(|error| !error.is_panic()));
}

/// Reads a message with a chunked body: its first line, its fields, its trailers.
async fn read_http1(io: &mut TcpStream) -> (Vec<u8>, Lines, Lines) {
    let mut read = BytesMut::new();
    let whole = |read: &[u8]| {
        let body = find(read, b"\r\n\r\n")?;
        let end = body + find(&read[body..], b"\r\n0\r\n")?;
        // The last line of the trailers, or of the body where there are none, is empty.
        read.ends_with(b"\r\n\r\n").then_some((body, end))
    };
    let (body, end) = loop {
        if let Some(found) = whole(&read) {
            break found;
        }
        assert!(
            io.read_buf(&mut read).await.unwrap() > 0,
            "closed after {}",
            read.escape_ascii()
        );
    };
    let first = find(&read, b"\r\n").unwrap();
    let fields = lines(&read[(first + 2).min(body)..body + 2]);
    (read[..first].to_vec(), fields, lines(&read[end + 5..read.len() - 2]))
}

/// Name as spelt and value, sorted by the name in lower case; those of one name in their order.
type Lines = Vec<(String, Vec<u8>)>;

fn lines(section: &[u8]) -> Lines {
    let mut lines: Lines = Vec::new();
    let mut rest = section;
    while let Some(end) = find(rest, b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        let colon = find(line, b":").unwrap();
        let name = String::from_utf8(line[..colon].to_vec()).unwrap();
        lines.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    sorted(lines)
}

fn sorted(mut lines: Lines) -> Lines {
    let of_connection = |name: &str| ["host", "transfer-encoding", "l5d-client-id"].contains(&name);
    lines.retain(|(name, _)| !of_connection(&name.to_lowercase()));
    lines.sort_by_key(|(name, _)| name.to_lowercase());
    lines
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn chunked(first: &str, fields: &Fields, trailers: &Fields) -> Vec<u8> {
    let mut message = first.as_bytes().to_vec();
    message.extend(fields.lines());
    message.extend(b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n");
    message.extend(trailers.lines());
    message.extend(b"\r\n");
    message
}

/// Sends a message as HTTP/1 and checks every part of it where it arrives, the spelling of names included.
pub(crate) async fn http1(proxy: &Proxy, way: Way, message: &Message) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let expected = message.clone();
    let server = tokio::task::spawn_local(async move {
        let mut io = listener.accept().await.unwrap().0;
        let (first, fields, trailers) = read_http1(&mut io).await;
        assert_eq!(first, b"POST /path HTTP/1.1");
        assert_eq!(fields, sorted(expected.request.0), "request");
        assert_eq!(trailers, sorted(expected.up.0), "request trailers");
        io.write_all(&chunked(
            "HTTP/1.1 202 As You Like\r\n",
            &expected.response,
            &expected.down,
        ))
        .await
        .unwrap();
        // Until the proxy closes.
        let _ = io.read(&mut [0]).await;
    });
    let mut client = connect(proxy, way, app, true).await;
    client
        .write_all(&chunked(
            "POST /path HTTP/1.1\r\nHost: app.bank\r\n",
            &message.request,
            &message.up,
        ))
        .await
        .unwrap();
    let (first, fields, trailers) = tokio::select! {
        answer = read_http1(&mut client) => answer,
        failed = server => panic!("{failed:?}"),
    };
    assert_eq!(first, b"HTTP/1.1 202 As You Like");
    assert_eq!(fields, sorted(message.response.0.clone()), "response");
    assert_eq!(trailers, sorted(message.down.0.clone()), "response trailers");
}
