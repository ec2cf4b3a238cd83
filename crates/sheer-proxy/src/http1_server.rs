//! The accepting side of HTTP/1: one request after the other, on one task a connection.
//!
//! The codec is [`crate::http1`]; here is who may speak when. Called by the accept stages of both directions once detection has
//! said HTTP/1.

use std::{rc::Rc, time::Duration};

use http::Version;
use tokio::io::AsyncReadExt;

use crate::{
    error::{Direction, Leg, Part, ProxyError},
    exchange::{
        Body, BodyIn, Fate, Head, Home, Http1Reply, Loan, Observation, Reader, Request, Responder, Spoken, Writer,
        http1_limits, list_size, whole,
    },
    http1::{BodyLength, ParseError, ReadError, RequestHead},
    http2::{Refused, Service},
    io::Io,
    life::Life,
    sys,
    tap::Said,
};

/// How long what a client still sends is read after the last response, so that closing does not destroy it on the way.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_BYTES: usize = 1024 * 1024;

/// What the server loop needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which side of the workload, for messages.
    pub direction: Direction,
    /// Limit of a header list, in bytes.
    pub header_limit: usize,
    /// Whether refusals come without the fields that are Sheer's own.
    pub terse: bool,
}

/// Serves a connection until it ends. In a drain the request that is served is the last.
pub async fn serve<S: Service>(io: Io, config: Config, service: Rc<S>, life: &Life) -> Result<(), ReadError> {
    let home = Home::of(io, http1_limits(config.header_limit));
    loop {
        let Some(mut reader) = home.lend::<Reader>() else {
            return Ok(());
        };
        let head = tokio::select! {
            biased; // a request that is here is served, also in a drain
            head = reader.request_head() => head,
            () = life.draining() => return Ok(()),
            () = service.retired() => return Ok(()),
        };
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(error) => {
                // Boxed: it is rare.
                return Box::pin(refuse((&home, reader), error, config, &*service)).await;
            }
        };
        let fate = Rc::new(Fate::default());
        fate.close.set(!head.keep_alive || life.is_draining());
        fate.unanswered_expect
            .set(head.expects_continue() && head.body != BodyLength::None);
        let Some(writer) = home.lend() else { return Ok(()) };
        let (request, responder) = begin(head, reader, writer, &fate);
        // Boxed: the future of a request is large, and most connections are idle.
        Box::pin(Rc::clone(&service).call(request, responder)).await;
        // Not home again: the connection has become a tunnel, and ended as such.
        let (Some(reader), Some(writer)) = (home.lend::<Reader>(), home.lend::<Writer>()) else {
            return Ok(());
        };
        if fate.abort.get() {
            let io = whole(reader, writer);
            io.io().io().tape().reset();
            // Fails only for a socket that is gone.
            drop(sys::reset_on_close(io.io().io().tcp()));
            return Ok(());
        }
        if fate.close.get() || !reader.is_body_done() {
            close(reader, writer).await;
            return Ok(());
        }
    }
}

fn begin(head: RequestHead, reader: Loan<Reader>, writer: Loan<Writer>, fate: &Rc<Fate>) -> (Request, Responder) {
    let tape = reader.io().tape();
    tape.http1_request();
    tape.http1_head(false, true, &head.raw);
    let http10 = head.version == Version::HTTP_10;
    let head = Box::new(Head::of_http1(head));
    let reply = Http1Reply {
        writer,
        method: head.method.clone(),
        http10,
        fate: Rc::clone(fate),
    };
    let responder = Responder::http1(reply, head.is_grpc());
    (
        Request {
            head,
            body: Body::new(BodyIn::h1(reader)),
        },
        responder,
    )
}

/// Answers what is no request, and closes.
async fn refuse<S: Service>(
    (home, reader): (&Rc<Home>, Loan<Reader>),
    error: ReadError,
    config: Config,
    service: &S,
) -> Result<(), ReadError> {
    let ReadError::Parse(why) = error else {
        return Err(error);
    };
    let refusal = refusal(why, config);
    let Some(writer) = home.lend::<Writer>() else {
        return Ok(());
    };
    let observation = observe(&reader, &writer, &refusal, service);
    let fate = Rc::new(Fate::default());
    fate.close.set(true);
    let reply = Http1Reply {
        writer,
        method: http::Method::GET,
        http10: false,
        fate,
    };
    let mut responder = Responder::http1(reply, false);
    if config.terse {
        responder.terse();
    }
    responder.fail(&refusal, &observation).await;
    drop(observation); // told now, and not once the client has closed as well
    if let Some(writer) = home.lend() {
        close(reader, writer).await;
    }
    Err(error)
}

/// Has everybody told of it who is told of requests.
#[cold]
fn observe<S: Service>(reader: &Reader, writer: &Writer, error: &ProxyError, service: &S) -> Observation {
    let head = reader.unread();
    let tape = reader.io().tape();
    tape.http1_request();
    tape.http1_unread(&head);
    service.refused(Refused {
        error,
        said: Said::of_unread(&head),
        spoken: Spoken::Http1,
        leg: writer.io().leg(),
    })
}

fn refusal(why: ParseError, config: Config) -> ProxyError {
    match list_size(why) {
        Some(size) => ProxyError::HeaderListTooLarge {
            leg: Leg {
                direction: config.direction,
                part: Part::RequestHeaders,
            },
            size,
            limit: config.header_limit,
        },
        None => ProxyError::BadRequest {
            status: why.status(),
            why: why.to_string(),
        },
    }
}

/// Says that nothing more comes, and reads what the client still sends for a while: closing a socket with unread bytes resets it,
/// and a reset may overtake the response.
async fn close(reader: Loan<Reader>, mut writer: Loan<Writer>) {
    // Fails only if the client is gone already.
    drop(writer.shutdown().await);
    let mut io = whole(reader, writer);
    let discard = async {
        let mut buffer = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match io.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    // Past the wait it is the client's loss.
    drop(tokio::time::timeout(LINGER, Box::pin(discard)).await);
}
