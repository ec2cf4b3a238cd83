//! The two kinds of server connections, opened for one exchange.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use http::{Method, Response, StatusCode};

use super::{
    Upstream,
    body::BodyIn,
    gone::Gone,
    http1_upstream::{self, GiveBack, Http1Connection, Http1Upstream},
    loan::{Home, Loan, Reader},
    reply::Reply,
    request::{Head, Origin},
    sink::BodyOut,
};
use crate::{connect::Link, error::ProxyError, headers, record::StreamTape};

/// What comes of a response.
pub(super) enum Event {
    /// An interim response (1xx).
    Interim(Reply),
    /// The head, and where its body comes from.
    Final(Reply, BodyIn),
}

/// Where the response comes from.
pub(super) enum ResponseIn {
    H2 {
        response: h2::client::ResponseFuture,
        /// The request was HTTP/1 that another sidecar carries, and so is its response.
        carried: bool,
        /// What records the stream.
        tape: StreamTape,
    },
    H1 {
        /// Until the final head.
        reader: Option<Loan<Reader>>,
        method: Method,
        /// The server will answer another request, as its head says.
        keep_alive: bool,
    },
}

/// A stream that carries the request now.
pub(super) struct Opened {
    pub(super) response: ResponseIn,
    pub(super) out: BodyOut,
    /// A failure before the response may be the innocent end of an idle connection, and the method says that trying again does
    /// no harm (RFC 9110 9.2.2).
    pub(super) repeatable: bool,
    lent: Option<Lent>,
}

/// An HTTP/1 connection in use.
struct Lent {
    home: Rc<Home>,
    served: usize,
    link: Option<Arc<Link>>,
    give_back: Option<Rc<dyn GiveBack>>,
}

impl Upstream {
    /// Sends the head. `end` if no body follows.
    pub(super) fn open(self, mut head: Head, end: bool, addr: SocketAddr) -> Result<Opened, ProxyError> {
        match self {
            Self::H2 { mut send, mesh, tape } => {
                let carried = mesh && head.origin != Origin::Http2;
                if head.protocol.is_some() && !send.is_extended_connect_protocol_enabled() {
                    return Err(ProxyError::BadRequest {
                        why: format!(
                            "{addr} does not take extended CONNECT (its SETTINGS have no ENABLE_CONNECT_PROTOCOL)"
                        ),
                        status: StatusCode::NOT_IMPLEMENTED,
                    });
                }
                let request = headers::h2_request(head, mesh)?;
                let given = tape.give_request(&request);
                let (response, stream) = send
                    .send_request(request, end)
                    .map_err(|error| Gone::of(error).server_error(addr).with_sidecar(mesh))?;
                let tape = tape.stream(stream.stream_id().as_u32());
                tape.given(given);
                Ok(Opened {
                    response: ResponseIn::H2 {
                        response,
                        carried,
                        tape: tape.clone(),
                    },
                    out: BodyOut::H2 { stream, mesh, tape },
                    repeatable: false,
                    lent: None,
                })
            }
            Self::H1(Http1Upstream {
                connection: Http1Connection { home, served, link },
                give_back,
            }) => {
                let (Some(reader), Some(mut writer)) = (home.lend(), home.lend()) else {
                    return Err(ProxyError::Internal {
                        what: "an HTTP/1 connection was used twice",
                    });
                };
                http1_upstream::write_head(&mut head, end, &mut writer).map_err(|gone| gone.server_error(addr))?;
                let repeatable = served > 0 && head.method.is_idempotent();
                Ok(Opened {
                    response: ResponseIn::H1 {
                        reader: Some(reader),
                        method: head.method,
                        keep_alive: false,
                    },
                    out: BodyOut::H1 { writer, fate: None },
                    repeatable,
                    lent: Some(Lent {
                        home,
                        served,
                        link,
                        give_back,
                    }),
                })
            }
        }
    }
}

impl Opened {
    /// Whether it goes to a sidecar.
    pub(super) fn to_sidecar(&self) -> bool {
        matches!(self.out, BodyOut::H2 { mesh: true, .. })
    }

    /// The stream of HTTP/2; 0 for HTTP/1.
    pub(super) fn stream(&self) -> u32 {
        match &self.response {
            ResponseIn::H2 { tape, .. } => tape.number(),
            ResponseIn::H1 { .. } => 0,
        }
    }

    /// After an exchange that came to its end: gives an HTTP/1 connection back where it may carry another request.
    pub(super) fn settle(self) {
        let keep_alive = matches!(self.response, ResponseIn::H1 { keep_alive: true, .. });
        // Both halves go home.
        drop((self.response, self.out));
        if let Some(Lent {
            home,
            served,
            link,
            give_back: Some(pool),
        }) = self.lent
            && keep_alive
            && home.lend::<Reader>().is_some_and(|reader| reader.is_body_done())
        {
            pool.give_back(Http1Connection {
                home,
                served: served + 1,
                link,
            });
        }
    }
}

impl ResponseIn {
    /// What comes next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Event, Gone> {
        match self {
            Self::H2 {
                response,
                carried,
                tape,
            } => next_h2(response, *carried, tape).await,
            Self::H1 {
                reader: lent,
                method,
                keep_alive,
            } => {
                let Some(reader) = lent else {
                    return Err(Gone::Closed {
                        why: "the response was read already".to_owned(),
                    });
                };
                let head = reader
                    .response_head(method)
                    .await
                    .map_err(|error| Gone::of_read(&error))?;
                reader.io().tape().http1_head(false, false, &head.raw);
                if head.is_interim() {
                    return Ok(Event::Interim(Reply::of_http1(head)));
                }
                *keep_alive = head.keep_alive;
                let body = lent.take().map_or(BodyIn::Empty, BodyIn::h1);
                Ok(Event::Final(Reply::of_http1(head), body))
            }
        }
    }
}

async fn next_h2(response: &mut h2::client::ResponseFuture, carried: bool, tape: &StreamTape) -> Result<Event, Gone> {
    let reply = |head: Response<()>| {
        tape.reported_response(head.status(), head.headers());
        let mut reply = Reply::of_h2(head);
        if carried {
            headers::restore_reply(&mut reply);
        }
        reply
    };
    poll_fn(|task| {
        match response.poll_informational(task) {
            Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Event::Interim(reply(interim)))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Gone::of(error))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        Pin::new(&mut *response).poll(task).map(|result| {
            let (head, body) = result.map_err(Gone::of)?.into_parts();
            Ok(Event::Final(
                reply(Response::from_parts(head, ())),
                BodyIn::h2(body, tape),
            ))
        })
    })
    .await
}
