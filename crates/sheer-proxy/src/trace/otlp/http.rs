//! HTTP/1.1 to the collector, one request after the other on one connection.

use bytes::Bytes;
use http::{Request, header, response::Parts};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

use crate::control::Channel;

/// No answer of a collector is longer than this.
const ANSWER: usize = 1024 * 1024;

/// A collector, and the connection to it.
pub(super) struct Http1 {
    channel: Channel,
    send: Option<SendRequest<Full<Bytes>>>,
}

impl Http1 {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, send: None }
    }

    /// Lets go of the connection, on which an answer may be under way.
    pub(super) fn forget(&mut self) {
        self.send = None;
    }

    /// Posts protobuf. Why there is no answer, in words.
    pub(super) async fn post(&mut self, path: &str, body: Bytes) -> Result<(Parts, Bytes), String> {
        let answered = self.try_post(path, body).await;
        if answered.is_err() {
            self.send = None;
        }
        answered
    }

    async fn try_post(&mut self, path: &str, body: Bytes) -> Result<(Parts, Bytes), String> {
        let request = Request::post(path)
            .header(header::HOST, self.channel.host())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("sheer-proxy/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let send = self.connection().await?;
        let answer = send.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok((head, body.to_bytes()))
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        let ready = match &mut self.send {
            Some(send) => send.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            let io = self.channel.open().await.map_err(|error| error.to_string())?;
            let (send, connection) = handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
            // Ends with the connection; whoever sends learns the reason.
            tokio::spawn(async move { drop(connection.await) });
            self.send = Some(send);
        }
        Ok(self.send.as_mut().expect("just made, or found ready"))
    }
}
