//! The accepting side of HTTP/2: one task drives the connection, one task serves each stream.

use std::{future::Future, pin::pin, rc::Rc};

use bytes::Bytes;
use h2::server::SendResponse;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Config, FrameMetrics, frames::Counted, keep_alive::peer_lost};
use crate::{
    error::ProxyError,
    exchange::{Body, BodyIn, Head, Observation, Request, Responder, Rest, Spoken},
    life::Life,
    record::{Leg, StreamTape, Tape},
    tap::Said,
    worker,
};

/// What serves the requests of a connection.
pub trait Service: 'static {
    /// Serves one request. Dropped when the process is stopped, or if it panics; the stream is then reset. Not to be inlined
    /// ([`worker::spawn_stream`]).
    fn call(self: Rc<Self>, request: Request, responder: Responder) -> impl Future<Output = ()> + 'static;

    /// Returns once the connection should take no more requests: it then ends as in a drain.
    fn retired(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }

    /// Counts the frames of the connection, where somebody does.
    fn frames(&self) -> Option<Rc<FrameMetrics>> {
        None
    }

    /// Observes something that came instead of a request.
    fn refused(&self, refused: Refused<'_>) -> Observation;
}

/// Something that came instead of a request.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Why it is none, and what it is answered with.
    pub error: &'a ProxyError,
    /// As far as it could be read.
    pub(crate) said: Said<'a>,
    pub(crate) spoken: Spoken,
    /// Where it came in.
    pub(crate) leg: Leg,
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The peer, the codec or the network ended it.
    #[error("{0}")]
    H2(#[from] h2::Error),
    /// The peer did not answer a PING.
    #[error("no answer to PING within {0:?}")]
    PeerLost(std::time::Duration),
}

/// Serves a connection until it ends. In a drain it says GOAWAY, serves the streams that are open and ends. `tape` is what records it.
pub async fn serve<T, S>((io, tape): (T, Tape), config: &Config, service: Rc<S>, life: &Life) -> Result<(), ServeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let io = Counted::server(io, service.frames());
    let mut connection = config.server().handshake::<_, Bytes>(io).await?;
    let mut lost = pin!(peer_lost(config.keep_alive, connection.ping_pong()));
    let retiring = Rc::clone(&service);
    let mut draining = pin!(async {
        tokio::select! {
            () = life.draining() => {}
            () = retiring.retired() => {}
        }
    });
    let mut drained = false;
    loop {
        let accepted = tokio::select! {
            biased; // rare things first: `accept` may be ready for ever
            () = &mut draining, if !drained => {
                drained = true;
                connection.graceful_shutdown();
                continue;
            }
            () = &mut lost => {
                return Err(ServeError::PeerLost(config.keep_alive.map(|times| times.timeout).unwrap_or_default()));
            }
            accepted = connection.accept() => accepted,
        };
        let Some(accepted) = accepted else { return Ok(()) };
        let (request, respond) = accepted?;
        let stream = tape.stream(request.body().stream_id().as_u32());
        let (request, rest) = request_of(request, &stream);
        if is_without_path(&request.head) {
            refuse(&request.head, respond, &stream, &*service);
            continue;
        }
        let responder = Responder::h2(respond, request.head.is_grpc(), stream);
        let service = Rc::clone(&service);
        worker::spawn_stream(move || service.call(request, responder), rest.take_in());
    }
}

/// Malformed, and yet the codec passes it where there is no `:authority` either.
fn is_without_path(head: &Head) -> bool {
    head.method != http::Method::CONNECT && head.uri.path().is_empty()
}

/// Resets the stream of what is no request.
fn refuse<S: Service>(head: &Head, mut respond: SendResponse<Bytes>, stream: &StreamTape, service: &S) {
    let error = ProxyError::BadRequest {
        why: "a request without :path is malformed (RFC 9113 8.3.1)".to_owned(),
        status: StatusCode::BAD_REQUEST,
    };
    let observation = service.refused(Refused {
        error: &error,
        said: Said::of(head),
        spoken: Spoken::of(head),
        leg: stream.leg(),
    });
    observation.error(&error);
    respond.send_reset(h2::Reason::PROTOCOL_ERROR);
}

/// The request, and where what is not read of it is left.
fn request_of(request: http::Request<h2::RecvStream>, tape: &StreamTape) -> (Request, Rest) {
    let (parts, body) = request.into_parts();
    tape.reported_request(&parts);
    let body = BodyIn::h2(body, tape);
    let rest = Rest::of(&body);
    let request = Request {
        head: Box::new(Head::of_h2(parts)),
        body: Body::new(body).leaving(&rest),
    };
    (request, rest)
}
