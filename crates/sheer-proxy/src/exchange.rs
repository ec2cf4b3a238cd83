//! One request, carried from a server side to a client side and its response back: the heart of both data paths.
//!
//! The server loops (`http2::server`, `inbound::http1`) make a [`Request`] and a [`Responder`] for every request. The path
//! decides where it goes, gets an [`Upstream`], and calls [`exchange`]. Nothing here decides: no policy, no balancing, no
//! metrics; what happened is told once, to the [`Sink`] of the [`Observation`].
//!
//! * Bodies go both ways at once, chunk by chunk. A chunk is taken from one side only as the other side takes it, so the memory of
//!   a stream is bounded by its windows, and a slow reader slows the writer.
//! * Ends are exact: END_STREAM, trailers, interim responses, RST_STREAM and its code arrive as they were sent.
//! * A request that had no effect comes back whole in [`Failed`], to be sent elsewhere; so does one whose answer the [`Referee`] refuses.

mod body;
mod clock;
mod copy;
mod gone;
mod hint;
mod http1_reply;
mod http1_upstream;
mod loan;
mod outcome;
mod pump;
mod referee;
mod relay;
mod reply;
mod request;
mod respond;
mod sink;
mod synthesize;
mod tunnel;
mod upstream;

pub(crate) use body::Rest;
pub use body::{Body, BodyIn};
pub use clock::{Limits, Until};
pub use http1_upstream::{GiveBack, Http1Connection, Http1Upstream};
pub use outcome::{End, Observation, Outcome, PassedOver, Sink, Spoken};
pub use referee::{Judgement, Referee};
pub use relay::exchange;
pub use request::{Head, Origin, Request};
pub use respond::Responder;

pub(crate) use copy::{BodyCopy, CopyState, send_copy};
pub(crate) use gone::list_size;
pub(crate) use hint::Hint;
pub(crate) use http1_reply::{Fate, Http1Reply};
pub(crate) use http1_upstream::limits as http1_limits;
pub(crate) use loan::{Home, Loan, Reader, Writer, whole};
pub(crate) use outcome::Way;
pub(crate) use reply::{Http1Line, Reply};
pub(crate) use respond::Race;

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;

use self::gone::Gone;
use crate::{
    error::{Direction, Leg, ListSize, Part, ProxyError},
    http1::ParseError,
    record::Tape,
};

/// Where a request goes: a stream that may be opened now.
#[derive(Debug)]
pub enum Upstream {
    /// A connection of HTTP/2 that is ready to open a stream.
    H2 {
        /// Handle to the connection, after `ready()`.
        send: h2::client::SendRequest<Bytes>,
        /// `true` if the peer is a proxy of the mesh: HTTP/1 is then carried with `l5d-orig-proto`.
        mesh: bool,
        /// What records the connection.
        tape: Tape,
    },
    /// A connection of HTTP/1 that carries no request now.
    H1(Http1Upstream),
}

/// What an exchange has to know besides the request.
#[derive(Clone, Debug)]
pub struct Context {
    /// Which side of the workload, for messages.
    pub direction: Direction,
    /// The endpoint, for messages.
    pub addr: SocketAddr,
    /// Limit of a header list, and of trailers, in bytes.
    pub header_limit: usize,
    /// How long it may take.
    pub limits: Limits,
    /// Who has a say in it; nobody, and every answer is passed on as it is.
    pub referee: Option<Rc<dyn Referee>>,
    /// Keep the start of the request's body until the response starts, so that [`Failed::request`] can be whole.
    pub replay: bool,
    /// Which attempt at the request this is, from 0, for its trace.
    pub attempt: usize,
}

impl Context {
    pub(crate) fn too_large(&self, part: Part, size: ListSize) -> ProxyError {
        ProxyError::HeaderListTooLarge {
            leg: Leg {
                direction: self.direction,
                part,
            },
            size,
            limit: self.header_limit,
        }
    }

    /// Why a request ends whose body or trailers broke HTTP/1.
    fn bad_request(&self, why: ParseError) -> ProxyError {
        match list_size(why) {
            Some(size) => self.too_large(Part::RequestTrailers, size),
            None => ProxyError::BadRequest {
                why: why.to_string(),
                status: why.status(),
            },
        }
    }

    /// Why a request ends whose server left while this part of its response was read.
    fn server_left(&self, gone: Gone, part: Part) -> ProxyError {
        match &gone {
            Gone::Malformed(why) => list_size(*why).map(|size| self.too_large(part, size)),
            Gone::Reset(_) | Gone::GoAway(_) | Gone::Broke { .. } | Gone::Closed { .. } => None,
        }
        .unwrap_or_else(|| gone.server_error(self.addr))
    }
}

/// An exchange that ended before the client saw anything of a response.
#[derive(Debug)]
pub struct Failed {
    /// The request, whole again, where it may be sent elsewhere: it certainly had no effect (or a referee wants it sent again) and
    /// its body could be kept.
    pub request: Option<Request>,
    /// The request, whole again, where the server may have acted on it: for rules that say when it is sent again nevertheless.
    pub unsure: Option<Request>,
    /// Still unused: send the request elsewhere, or [`Responder::fail`].
    pub responder: Responder,
    /// Why.
    pub error: ProxyError,
}
