//! Who has a say in an exchange: whether an answer is passed on or the request sent again, and what changes on the way back.
//!
//! The exchange asks and obeys; what is right is decided by the path that made the referee.

use std::{fmt, future::poll_fn, net::SocketAddr, time::Duration};

use http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use super::{
    body::{Body, Frame},
    gone::Gone,
    outcome::Observation,
    reply::Reply,
};

/// How long the head of a response is held back for its trailers: gRPC says only there how a call without messages went. Servers send
/// both at once; one that sends only a head means to send more later, and its head must not wait for that.
const HOLD: Duration = Duration::from_millis(10);

/// Decides about the answers to one request, over all of its attempts.
pub trait Referee: fmt::Debug {
    /// What to do with a response, by its head.
    fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Judgement;
    /// Whether to send the request again, by the trailers of a response without a body.
    fn sends_again_for(&self, trailers: &HeaderMap) -> bool;
    /// Changes the head of a response that is passed on.
    fn amend(&self, headers: &mut HeaderMap);
    /// How much of the request's body is kept for sending it again, bytes.
    fn keeps(&self) -> usize;
    /// The body is larger: there will be no other attempt once it has begun to flow.
    fn body_lost(&self);
}

/// What is done with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes to the client.
    Pass,
    /// The client sees nothing of it; the request goes out again.
    SendAgain,
    /// Its trailers say more, if they come at once.
    SeeTrailers,
}

/// Whether the request is sent again, after a look at the trailers where they matter. What was read of the body is given again.
pub(super) async fn sends_again(
    referee: &dyn Referee,
    reply: &Reply,
    body: &mut Body,
    (observation, attempt, addr): (&Observation, usize, SocketAddr),
) -> Result<bool, Gone> {
    let pass_over = |headers| {
        observation.passed_over((attempt, addr), reply.status, headers);
        true
    };
    match referee.judge(reply.status, &reply.headers) {
        Judgement::Pass => Ok(false),
        Judgement::SendAgain => Ok(pass_over(&reply.headers)),
        Judgement::SeeTrailers if body.is_empty() => Ok(false),
        Judgement::SeeTrailers => match timeout(HOLD, poll_fn(|cx| body.poll_peek(cx))).await {
            Ok(Ok(Frame::Trailers(trailers, _))) => Ok(referee.sends_again_for(&trailers) && pass_over(&trailers)),
            Ok(Ok(Frame::Data { .. } | Frame::End)) | Err(_) => Ok(false),
            Ok(Err(gone)) => Err(gone),
        },
    }
}
