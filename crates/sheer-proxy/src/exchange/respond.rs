//! The way back to the client, and the responses that the proxy makes up.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;

use super::{
    gone::Gone,
    outcome::{End, Observation},
    sink::{self, BodyOut},
    synthesize,
};
use crate::error::{ProxyError, ResetCode};

/// The way back to the client: used once.
#[derive(Debug)]
pub struct Responder {
    wire: Wire,
    /// The request was gRPC: errors are said in its terms.
    grpc: bool,
}

#[derive(Debug)]
enum Wire {
    /// HTTP/2, no final head yet.
    H2(h2::server::SendResponse<Bytes>),
    /// The head is out.
    Body(BodyOut),
}

impl Responder {
    /// For a stream of HTTP/2.
    pub fn h2(send: h2::server::SendResponse<Bytes>, grpc: bool) -> Self {
        Self {
            wire: Wire::H2(send),
            grpc,
        }
    }

    /// Ready once the client reset the stream or its connection ended.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        match &mut self.wire {
            Wire::H2(send) => send.poll_reset(cx).map(sink::gone),
            Wire::Body(out) => out.poll_gone(cx),
        }
    }

    /// Sends an interim response (1xx).
    pub(super) async fn interim(&mut self, response: Response<()>) -> Result<(), Gone> {
        match &mut self.wire {
            Wire::H2(send) => send.send_informational(response).map_err(Gone::of),
            Wire::Body(_) => Ok(()),
        }
    }

    /// Sends the final head; `end` if nothing follows. Gives where the body goes.
    pub(super) async fn head(&mut self, response: Response<()>, end: bool) -> Result<&mut BodyOut, Gone> {
        if let Wire::H2(send) = &mut self.wire {
            let stream = send.send_response(response, end).map_err(Gone::of)?;
            self.wire = Wire::Body(BodyOut::H2(stream));
        }
        match &mut self.wire {
            Wire::Body(out) => Ok(out),
            Wire::H2(_) => unreachable!("the head was just sent"),
        }
    }

    /// Whether the client has seen a final head.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.wire, Wire::Body(_))
    }

    /// Ends the exchange with an error of the proxy, in the client's protocol: as a response where none has begun, in the trailers
    /// where the client is gRPC, else by breaking the stream off.
    pub async fn fail(mut self, error: &ProxyError, observation: &Observation) {
        self.fail_in_place(error, observation).await;
    }

    pub(super) async fn fail_in_place(&mut self, error: &ProxyError, observation: &Observation) {
        match (&mut self.wire, error) {
            // A reset of the server stays a reset, with its code: the client's library knows what it means.
            (Wire::H2(send), ProxyError::UpstreamReset { code, .. }) => {
                observation.end(End::ServerReset(*code));
                send.send_reset(code.0);
            }
            (Wire::H2(send), _) => {
                observation.error(error);
                let response = synthesize::response(error, self.grpc);
                observation.response_head(response.status(), response.headers());
                // Fails only if the client is gone, and then nobody wants to know.
                drop(send.send_response(response, true));
            }
            (Wire::Body(out), ProxyError::UpstreamReset { code, .. }) => {
                observation.end(End::ServerReset(*code));
                // A reset discards what the codec has not written yet. What the server sent before it reset goes first.
                tokio::task::yield_now().await;
                out.reset(*code);
            }
            (Wire::Body(out), _) => {
                observation.error(error);
                match synthesize::trailers(error, self.grpc) {
                    Some(trailers) => {
                        observation.trailers(&trailers);
                        drop(out.trailers(trailers).await);
                    }
                    None => out.reset(ResetCode(h2::Reason::INTERNAL_ERROR)),
                }
            }
        }
    }
}
