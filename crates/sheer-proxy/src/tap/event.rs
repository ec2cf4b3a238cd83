//! What a watcher is told: owned parts, shared between the events of one request. Nothing is redacted yet; sight does that before it leaves the proxy.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method};
use sheer_api::Verdict;

use crate::{
    exchange::{PassedOver, Way},
    record::{Clock, LegId, Tape},
};

/// Something happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Request(Box<RequestEvent>),
    Connection(Box<ConnectionEvent>),
    Body(Box<BodyEvent>),
}

/// A piece of a body, as it went by.
#[derive(Clone, Debug)]
pub(crate) struct BodyEvent {
    /// Of the request.
    pub(crate) id: u64,
    pub(crate) is_outbound: bool,
    pub(crate) clock: Clock,
    pub(crate) way: Way,
    pub(crate) at: u64,
    pub(crate) head: Arc<Head>,
    pub(crate) answer: Option<Arc<Answer>>,
    /// Bytes of the body before it.
    pub(crate) offset: usize,
    pub(crate) data: Bytes,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Request,
    Response,
    End,
}

/// A stream of a connection, with the addresses of both ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LegFacts {
    pub(crate) id: LegId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) original: Option<SocketAddr>,
    /// The other end is a sidecar of the mesh.
    pub(crate) is_mesh: bool,
}

impl LegFacts {
    pub(crate) fn new(id: LegId, tape: &Tape) -> Self {
        let (local, remote, original) = tape.places();
        Self {
            id,
            local,
            remote,
            original,
            is_mesh: tape.is_of_mesh(),
        }
    }
}

/// The head of a request, and what is known when it comes.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// None where it could not be read.
    pub(crate) method: Option<Method>,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) is_http1: bool,
    /// Outbound: the service or address that it is for.
    pub(crate) destination: String,
    /// Inbound: who asks.
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) client: LegFacts,
    pub(crate) mutual_tls: bool,
}

#[cfg(test)]
impl Head {
    pub(crate) fn for_tests(path: &str, headers: HeaderMap) -> Self {
        Self {
            method: Some(Method::POST),
            authority: String::new(),
            path: path.to_owned(),
            headers,
            is_http1: false,
            destination: String::new(),
            identity: None,
            client: LegFacts::default(),
            mutual_tls: false,
        }
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Microseconds after the request's head.
    pub(crate) after: u64,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// "complete", "client-reset", "server-reset", "proxy", "dropped".
    pub(crate) how: &'static str,
    pub(crate) reset: &'static str,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) failed: bool,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) trailers: HeaderMap,
    pub(crate) request_trailers: HeaderMap,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// Microseconds after the request's head.
    pub(crate) after: u64,
}

/// A request at a stage.
#[derive(Clone, Debug)]
pub(crate) struct RequestEvent {
    pub(crate) stage: Stage,
    pub(crate) id: u64,
    pub(crate) is_outbound: bool,
    pub(crate) clock: Clock,
    /// When its head was here, on the clock.
    pub(crate) started: u64,
    pub(crate) at: u64,
    pub(crate) head: Arc<Head>,
    pub(crate) upstream: LegFacts,
    /// Microseconds after the request's head until it went out last.
    pub(crate) sent: Option<u64>,
    /// The same until all of it had.
    pub(crate) sent_whole: Option<u64>,
    pub(crate) attempts: u32,
    pub(crate) passed_over: Vec<PassedOver>,
    pub(crate) answer: Option<Arc<Answer>>,
    pub(crate) end: Option<End>,
}

/// A connection that is relayed as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) is_tls: bool,
    pub(crate) server_name: String,
    pub(crate) destination: String,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) client: LegFacts,
}

/// A relayed connection, opened or ended.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionEvent {
    pub(crate) id: u64,
    pub(crate) is_end: bool,
    pub(crate) is_outbound: bool,
    pub(crate) clock: Clock,
    pub(crate) started: u64,
    pub(crate) at: u64,
    pub(crate) stream: Arc<Stream>,
    pub(crate) upstream: LegFacts,
    /// Microseconds until the server's side was open, and until its first byte went to the client; 0 where that did not happen.
    pub(crate) connected: u64,
    pub(crate) first_byte: u64,
    pub(crate) to_server: u64,
    pub(crate) to_client: u64,
    /// "client", "server" or "proxy".
    pub(crate) closed_by: &'static str,
    pub(crate) how: String,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) reason: &'static str,
    /// What is wrong with it, in words.
    pub(crate) message: String,
    pub(crate) failed: bool,
}

#[cfg(test)]
impl RequestEvent {
    /// A request that is over, with bodies of so many bytes.
    pub(crate) fn over_for_tests(id: u64, (request_bytes, response_bytes): (u64, u64)) -> Self {
        let end = End {
            how: "complete",
            reset: "",
            verdict: None,
            reason: "",
            message: String::new(),
            failed: false,
            grpc_status: None,
            trailers: HeaderMap::new(),
            request_trailers: HeaderMap::new(),
            request_bytes,
            response_bytes,
            after: 1,
        };
        Self {
            stage: Stage::End,
            id,
            is_outbound: true,
            clock: Clock::new(),
            started: 0,
            at: 0,
            head: Arc::new(Head::for_tests("/", HeaderMap::new())),
            upstream: LegFacts::default(),
            sent: None,
            sent_whole: None,
            attempts: 1,
            passed_over: Vec::new(),
            answer: None,
            end: Some(end),
        }
    }
}
