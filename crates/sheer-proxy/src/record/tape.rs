//! What the data path holds of a connection's recording: tells it what the library reported and was given. Without a recorder it does nothing.

use std::{net::SocketAddr, rc::Rc};

use http::{HeaderMap, Response, StatusCode};
use sheer_lens::hpack::ListKind;
use tokio::net::TcpStream;

use super::{
    exchange::Leg,
    heads::{Fields, RequestHead, ResponseHead},
    log::Form,
    opinion::Given,
    recording::{How, Peer, Recording},
};
use crate::{
    error::ProxyError,
    http1::{self, HeaderCase, Unread},
    sys,
    tcp::{Counters, Fault},
};

/// A handle to a connection's recording. Cheap to clone; the default records nothing.
#[derive(Clone, Debug, Default)]
pub struct Tape(Option<Rc<Recording>>);

/// A stream on a recorded connection. The number is kept beside the tape: the library takes a lock to say it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StreamTape {
    tape: Tape,
    stream: u32,
}

impl StreamTape {
    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.stream
    }

    /// The stream as a request's, which is counted as open until that is dropped.
    pub(crate) fn leg(&self) -> Leg {
        Leg::new(&self.tape, self.stream)
    }

    /// The library reports a request.
    pub(crate) fn reported_request(&self, parts: &http::request::Parts) {
        self.tape.reported_request(self.stream, parts);
    }

    /// The library reports a response.
    pub(crate) fn reported_response(&self, status: StatusCode, headers: &HeaderMap) {
        self.tape.reported_response(self.stream, status, headers);
    }

    /// The library reports trailers.
    pub(crate) fn reported_trailers(&self, trailers: &HeaderMap) {
        self.tape.reported_trailers(self.stream, trailers);
    }

    /// The library is about to be given a response.
    pub(crate) fn give_response(&self, response: &Response<()>) -> HeadGiven {
        self.tape.give_response(response)
    }

    /// The library is about to be given trailers.
    pub(crate) fn give_trailers(&self, trailers: &HeaderMap) -> HeadGiven {
        self.tape.give_trailers(trailers)
    }

    /// It took what it was given.
    pub(crate) fn given(&self, given: HeadGiven) {
        self.tape.given(self.stream, given);
    }
}

/// A head that the library was given, before its stream is known.
#[derive(Debug)]
pub(crate) struct HeadGiven(Option<Given>);

impl Tape {
    pub(super) fn new(recording: Rc<Recording>) -> Self {
        Self(Some(recording))
    }

    pub(super) fn recording(&self) -> Option<&Rc<Recording>> {
        self.0.as_ref()
    }

    /// Number of the connection; 0 where it is not recorded.
    pub(crate) fn id(&self) -> u64 {
        self.0.as_ref().map_or(0, |recording| recording.id())
    }

    /// Addresses of this end and of the other, and where an accepted connection was going, as far as they are known.
    pub(crate) fn places(&self) -> (Option<SocketAddr>, Option<SocketAddr>, Option<SocketAddr>) {
        self.0.as_ref().map_or((None, None, None), |recording| {
            let about = recording.about();
            (about.local, about.remote, about.original)
        })
    }

    /// Whether a sidecar of the mesh is at the other end, as far as it is recorded.
    pub(crate) fn is_of_mesh(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|recording| recording.about().peer == Peer::Mesh)
    }

    /// A request's stream on this connection.
    pub(crate) fn leg(&self, stream: u32) -> Leg {
        Leg::new(self, stream)
    }

    /// A stream of this connection, by its number.
    pub fn stream(&self, stream: u32) -> StreamTape {
        StreamTape {
            tape: self.clone(),
            stream,
        }
    }

    /// The library reports a request.
    pub(crate) fn reported_request(&self, stream: u32, parts: &http::request::Parts) {
        let Some(recording) = &self.0 else { return };
        let head = RequestHead {
            method: &parts.method,
            uri: &parts.uri,
            extensions: &parts.extensions,
            headers: &parts.headers,
            written: false,
        };
        recording.reported((stream, ListKind::Request), &head);
    }

    /// The library reports a response.
    pub(crate) fn reported_response(&self, stream: u32, status: StatusCode, headers: &HeaderMap) {
        let Some(recording) = &self.0 else { return };
        let kind = if status.is_informational() {
            ListKind::Informational
        } else {
            ListKind::Response
        };
        recording.reported((stream, kind), &ResponseHead { status, headers });
    }

    /// The library reports trailers.
    pub(crate) fn reported_trailers(&self, stream: u32, trailers: &HeaderMap) {
        let Some(recording) = &self.0 else { return };
        recording.reported((stream, ListKind::Trailers), trailers);
    }

    /// The library is about to be given a request.
    pub(crate) fn give_request(&self, head: &http::Request<()>) -> HeadGiven {
        let head = RequestHead {
            method: head.method(),
            uri: head.uri(),
            extensions: head.extensions(),
            headers: head.headers(),
            written: true,
        };
        self.give(false, &head)
    }

    /// The library is about to be given a response.
    pub(crate) fn give_response(&self, response: &Response<()>) -> HeadGiven {
        let head = ResponseHead {
            status: response.status(),
            headers: response.headers(),
        };
        self.give(false, &head)
    }

    /// The library is about to be given trailers.
    pub(crate) fn give_trailers(&self, trailers: &HeaderMap) -> HeadGiven {
        self.give(true, trailers)
    }

    #[inline]
    fn give(&self, is_trailers: bool, list: &impl Fields) -> HeadGiven {
        HeadGiven(self.0.as_ref().and_then(|recording| recording.give(is_trailers, list)))
    }

    /// It took what it was given, for this stream.
    pub(crate) fn given(&self, stream: u32, given: HeadGiven) {
        if let (Some(recording), HeadGiven(Some(given))) = (&self.0, given) {
            recording.given(stream, given);
        }
    }

    /// The codec of HTTP/1 begins a request on this connection: its number.
    pub(crate) fn http1_request(&self) -> u32 {
        self.0.as_ref().map_or(0, |recording| recording.next_request())
    }

    /// Requests of HTTP/1 that began on this connection so far.
    pub(crate) fn requests(&self) -> u32 {
        self.0.as_ref().map_or(0, |recording| recording.requests())
    }

    /// Bytes of a head of HTTP/1, read or written.
    pub(crate) fn http1_head(&self, written: bool, is_request: bool, head: &[u8]) {
        if let Some(recording) = &self.0 {
            let form = if is_request {
                Form::RequestHead
            } else {
                Form::ResponseHead
            };
            recording.head(written, form, (head, head.len()));
        }
    }

    /// What is known of a request's head that was read, and refused.
    pub(crate) fn http1_unread(&self, head: &Unread) {
        if let Some(recording) = &self.0 {
            recording.head(false, Form::RequestHead, (&head.text, head.length));
        }
    }

    /// The trailer section of a chunked body, read or written.
    pub(crate) fn http1_trailers(&self, written: bool, trailers: &HeaderMap, case: &HeaderCase) {
        if let Some(recording) = &self.0 {
            let section = http1::last_chunk(trailers, case);
            recording.head(written, Form::Trailers, (&section, section.len()));
        }
    }

    /// Its bytes are counted by a relay; `reversed` where it is the server's side.
    pub(crate) fn relayed(self, counters: &Rc<Counters>, reversed: bool) -> RelayTape {
        if let Some(recording) = &self.0 {
            recording.count_with(counters, reversed);
            recording.stream_began(0);
        }
        RelayTape { tape: self }
    }

    /// The proxy refuses the connection, with a reset.
    pub(crate) fn refused(self, error: &ProxyError) {
        self.reset();
        let tape = RelayTape { tape: self };
        tape.judged(None, Some(error.into()));
    }

    /// This proxy is about to break the connection off.
    pub(crate) fn reset(&self) {
        if let Some(recording) = &self.0 {
            recording.sign(How::Reset);
        }
    }
}

/// A relayed connection, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RelayTape {
    tape: Tape,
}

impl RelayTape {
    /// What is wrong with how it ends, or nothing: said once, of both sides, before they end.
    pub(crate) fn judged(&self, server: Option<&Self>, fault: Option<Fault>) {
        let Some(client) = &self.tape.0 else { return };
        let server = server.and_then(|server| server.tape.0.as_ref());
        client.judged();
        server.inspect(|server| server.judged());
        if let Some(fault) = fault {
            client.recorder().relay_failed((client, server), fault);
        }
    }

    /// How it ended, before its socket is closed.
    pub(crate) fn end(&self, how: How, tcp: Option<&TcpStream>) {
        if let Some(recording) = &self.tape.0 {
            recording.sign(how);
            recording.stream_ended(0);
            recording.ended(tcp.and_then(|tcp| sys::tcp_info(tcp).ok()));
        }
    }
}

impl Drop for RelayTape {
    fn drop(&mut self) {
        if let Some(recording) = &self.tape.0 {
            recording.ended(None);
        }
    }
}
