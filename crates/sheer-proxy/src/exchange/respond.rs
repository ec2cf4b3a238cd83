//! The way back to the client, and the responses that the proxy makes up.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::{
    gone::Gone,
    http1_reply::Http1Reply,
    outcome::{End, Observation},
    reply::Reply,
    sink::{self, BodyOut},
    synthesize::{self, Style},
};
use crate::{
    error::{Injected, ProxyError, ResetCode},
    headers,
    http1::{HeaderCase, strip_hop_by_hop},
    record::{Leg, StreamTape},
};

/// The way back to the client: used once.
#[derive(Debug)]
pub struct Responder {
    wire: Wire,
    style: Style,
}

#[derive(Debug)]
enum Wire {
    /// HTTP/2, no final head yet.
    H2 {
        send: h2::server::SendResponse<Bytes>,
        /// The request was HTTP/1, carried by another sidecar.
        mesh_http1: bool,
        /// What records it.
        tape: StreamTape,
    },
    /// HTTP/1, no final head yet.
    H1(Http1Reply),
    /// One of several attempts: the first that has a head takes the way.
    Raced(Rc<RefCell<Option<Wire>>>),
    /// The head is out.
    Body(BodyOut),
    /// Between two states; never seen.
    Moving,
}

/// The way back to a client for whoever of several attempts has an answer first.
#[derive(Debug)]
pub(crate) struct Race {
    wire: Rc<RefCell<Option<Wire>>>,
    style: Style,
}

impl Race {
    /// For one more attempt.
    pub(crate) fn responder(&self) -> Responder {
        Responder {
            wire: Wire::Raced(Rc::clone(&self.wire)),
            style: self.style,
        }
    }

    /// Whether an attempt has taken the way: the others are in vain.
    pub(crate) fn is_won(&self) -> bool {
        self.wire.borrow().is_none()
    }

    /// The way back, where no attempt has taken it.
    pub(crate) fn end(self) -> Option<Responder> {
        let wire = self.wire.take()?;
        let style = self.style;
        Some(Responder { wire, style })
    }
}

impl Responder {
    /// Lets several attempts race for the way back.
    pub(crate) fn race(self) -> Race {
        Race {
            wire: Rc::new(RefCell::new(Some(self.wire))),
            style: self.style,
        }
    }

    /// For a stream of HTTP/2, which `tape` records.
    pub fn h2(send: h2::server::SendResponse<Bytes>, grpc: bool, tape: StreamTape) -> Self {
        Self {
            wire: Wire::H2 {
                send,
                mesh_http1: false,
                tape,
            },
            style: Style {
                grpc,
                ..Style::default()
            },
        }
    }

    /// For a connection of HTTP/1.
    pub(crate) fn http1(reply: Http1Reply, grpc: bool) -> Self {
        Self {
            wire: Wire::H1(reply),
            style: Style {
                grpc,
                ..Style::default()
            },
        }
    }

    /// The client's stream, as the recorder counts it.
    pub(crate) fn leg(&self) -> Leg {
        self.wire.leg()
    }

    /// The stream of HTTP/2 on which the request came; 0 for HTTP/1.
    pub(crate) fn stream(&self) -> u32 {
        match &self.wire {
            Wire::H2 { tape, .. } => tape.number(),
            Wire::H1(_) | Wire::Raced(_) | Wire::Body(_) | Wire::Moving => 0,
        }
    }

    /// The request turned out to be HTTP/1 that another sidecar carries: its response is carried back likewise.
    pub(crate) fn carry_http1(&mut self) {
        if let Wire::H2 { mesh_http1, .. } = &mut self.wire {
            *mesh_http1 = true;
        }
    }

    /// The client is another sidecar: what it may send elsewhere is told it.
    pub(crate) fn for_sidecar(&mut self) {
        self.style.for_sidecar = true;
    }

    /// Leaves out of made-up responses the fields that are Sheer's own.
    pub(crate) fn terse(&mut self) {
        self.style.terse = true;
    }

    /// Has the client's connection end after this response, where its protocol says that with the response.
    pub(crate) fn last(&self) {
        if let Wire::H1(reply) = &self.wire {
            reply.fate.close.set(true);
        }
    }

    /// Ready once the client reset the stream or its connection ended.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.wire.poll_gone(cx)
    }

    /// Waits until the client left, for as long as nothing was sent to it; HTTP/1 does not tell.
    pub(crate) async fn client_gone(&mut self) -> ResetCode {
        poll_fn(|cx| self.poll_gone(cx)).await.code()
    }

    /// Waits before a request is sent; an error where the client left meanwhile, which is noted.
    pub(crate) async fn pause(&mut self, wait: Duration, observation: &Observation) -> Result<(), ()> {
        // Boxed: few requests wait, and all would carry the timer.
        let wait = Box::pin(tokio::time::sleep(wait));
        let gone: ResetCode = tokio::select! {
            biased; // a client that left wants nothing any more
            gone = self.client_gone() => gone,
            () = wait => return Ok(()),
        };
        observation.client_left(gone);
        Err(())
    }

    /// How an error is said: an injected failure is what the operator says, to whomever.
    fn style_for(&self, error: &ProxyError) -> Style {
        let grpc = match error {
            ProxyError::Injected { answer, .. } => matches!(answer, Injected::Grpc(_)),
            _ => self.style.grpc,
        };
        Style { grpc, ..self.style }
    }

    /// Sends an interim response (1xx).
    pub(super) async fn interim(&mut self, mut reply: Reply) -> Result<(), Gone> {
        match &mut self.wire {
            Wire::H2 { send, mesh_http1, tape } => {
                prepare_h2(&mut reply, *mesh_http1);
                let interim = reply.into_h2();
                let given = tape.give_response(&interim);
                send.send_informational(interim).map_err(Gone::of)?;
                tape.given(given);
                Ok(())
            }
            Wire::H1(http1) => http1.interim(reply).await,
            // Of several attempts none speaks before it has won.
            Wire::Raced(_) | Wire::Body(_) | Wire::Moving => Ok(()),
        }
    }

    /// Sends the final head; `end` if nothing follows. Gives where the body goes.
    pub(super) fn head(&mut self, mut reply: Reply, end: bool) -> Result<&mut BodyOut, Gone> {
        if let Wire::Raced(way) = &self.wire {
            let taken = way.take().ok_or_else(|| Gone::Closed {
                why: "another attempt answered first".to_owned(),
            })?;
            self.wire = taken;
        }
        self.wire = Wire::Body(match std::mem::replace(&mut self.wire, Wire::Moving) {
            Wire::H2 {
                mut send,
                mesh_http1,
                tape,
            } => {
                prepare_h2(&mut reply, mesh_http1);
                let response = reply.into_h2();
                let given = tape.give_response(&response);
                let stream = send.send_response(response, end).map_err(Gone::of)?;
                tape.given(given);
                BodyOut::H2 {
                    stream,
                    mesh: mesh_http1,
                    tape,
                }
            }
            Wire::H1(http1) => http1.head(reply, end),
            Wire::Body(out) => out,
            Wire::Raced(_) | Wire::Moving => unreachable!("taken above, and only within this function"),
        });
        match &mut self.wire {
            Wire::Body(out) => Ok(out),
            Wire::H2 { .. } | Wire::H1(_) | Wire::Raced(_) | Wire::Moving => unreachable!("the head was just sent"),
        }
    }

    /// Whether both sides leave HTTP with this reply.
    pub(super) fn switches_with(&self, reply: &Reply) -> bool {
        match &self.wire {
            Wire::H1(http1) => {
                let connected = http1.method == Method::CONNECT && reply.status.is_success();
                reply.status == StatusCode::SWITCHING_PROTOCOLS || connected
            }
            Wire::H2 { .. } | Wire::Raced(_) | Wire::Body(_) | Wire::Moving => false,
        }
    }

    /// Whether the client has seen a final head.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.wire, Wire::Body(_))
    }

    /// Where the body goes, to take its connection.
    pub(super) fn into_body_out(self) -> Option<BodyOut> {
        match self.wire {
            Wire::Body(out) => Some(out),
            Wire::H2 { .. } | Wire::H1(_) | Wire::Raced(_) | Wire::Moving => None,
        }
    }

    /// Ends the exchange with a response that a route asked for (a redirect): status and fields, no body.
    pub(crate) async fn answer(mut self, answer: (StatusCode, HeaderMap), observation: &Observation) {
        let reply = synthesize::answer(answer);
        observation.response_head(reply.status, &reply.headers);
        if let Ok(out) = self.head(reply, true) {
            // Fails only if the client is gone, and then nobody wants to know.
            drop(out.no_body().await);
        }
        observation.end(End::Complete);
    }

    /// Ends the exchange with an error of the proxy, in the client's protocol: as a response where none has begun, in the trailers
    /// where the client is gRPC, else by breaking the stream off.
    pub async fn fail(mut self, error: &ProxyError, observation: &Observation) {
        self.fail_in_place(error, observation).await;
    }

    pub(super) async fn fail_in_place(&mut self, error: &ProxyError, observation: &Observation) {
        let reset = match error {
            ProxyError::UpstreamReset { code, .. } => Some(*code),
            _ => None,
        };
        match (&mut self.wire, reset) {
            // A reset of the server stays a reset, with its code: the client's library knows what it means.
            (Wire::H2 { send, .. }, Some(code)) => {
                observation.end(End::ServerReset(code));
                send.send_reset(code.0);
            }
            (Wire::Body(out), Some(code)) => {
                observation.end(End::ServerReset(code));
                break_off(out, code).await;
            }
            (Wire::H2 { .. } | Wire::H1(_), _) => {
                observation.error(error);
                let reply = synthesize::reply(error, self.style_for(error));
                observation.response_head(reply.status, &reply.headers);
                if let Ok(out) = self.head(reply, true) {
                    // Fails only if the client is gone, and then nobody wants to know.
                    drop(out.no_body().await);
                }
            }
            (Wire::Body(out), None) => {
                observation.error(error);
                match synthesize::trailers(error, self.style) {
                    Some(trailers) => {
                        observation.trailers(&trailers);
                        drop(out.trailers(trailers, Some(HeaderCase::title())).await);
                    }
                    None => break_off(out, ResetCode(h2::Reason::INTERNAL_ERROR)).await,
                }
            }
            // What becomes of the client is decided where the race is held.
            (Wire::Raced(_) | Wire::Moving, _) => {}
        }
    }
}

impl Wire {
    fn leg(&self) -> Leg {
        match self {
            Self::H2 { tape, .. } => tape.leg(),
            Self::H1(reply) => reply.writer.io().leg(),
            Self::Body(out) => out.leg(),
            Self::Raced(way) => way.borrow().as_ref().map(Self::leg).unwrap_or_default(),
            Self::Moving => Leg::default(),
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Self::H2 { send, .. } => send.poll_reset(cx).map(sink::gone),
            Self::Body(out) => out.poll_gone(cx),
            Self::Raced(way) => match &mut *way.borrow_mut() {
                Some(wire) => wire.poll_gone(cx),
                None => Poll::Pending,
            },
            // HTTP/1 learns that where it reads the request.
            Self::H1(_) | Self::Moving => Poll::Pending,
        }
    }
}

/// Breaks a body off. A reset discards what the codec has not written yet: what the server sent before it left goes first.
async fn break_off(out: &mut BodyOut, code: ResetCode) {
    tokio::task::yield_now().await;
    out.reset(code);
}

/// Makes a head fit for HTTP/2.
fn prepare_h2(reply: &mut Reply, mesh_http1: bool) {
    if reply.http1.is_some() {
        strip_hop_by_hop(&mut reply.headers);
        if mesh_http1 {
            headers::carry_reply(reply);
        }
    }
}
