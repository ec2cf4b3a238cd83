//! What follows a 101 or a CONNECT: bytes both ways, until both sides are done.

use super::{
    body::{Body, BodyIn, Http1Body},
    loan,
    outcome::{Observation, Way},
    respond::Responder,
    sink::BodyOut,
};
use crate::tcp;

/// Relays between two connections of HTTP/1 that have left HTTP.
pub(super) async fn run(client: (Body, Responder), server: (BodyIn, BodyOut), observation: &Observation) {
    let (request, responder) = client;
    let client = (request.into_source(), responder.into_body_out());
    let (
        (BodyIn::H1(Http1Body(from_client)), Some(BodyOut::H1 { writer: to_client, .. })),
        (BodyIn::H1(Http1Body(from_server)), BodyOut::H1 { writer: to_server, .. }),
    ) = (client, server)
    else {
        return;
    };
    let client = loan::whole(from_client, to_client);
    let server = loan::whole(from_server, to_server);
    let counters = tcp::Counters::default();
    // Boxed: few requests come here, and all would carry its size.
    Box::pin(tcp::relay(client, server, &counters)).await;
    observation.bytes(
        Way::Request,
        usize::try_from(counters.to_server()).unwrap_or(usize::MAX),
    );
    observation.bytes(
        Way::Response,
        usize::try_from(counters.to_client()).unwrap_or(usize::MAX),
    );
}
