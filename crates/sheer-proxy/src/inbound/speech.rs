//! Who says what first on a connection, and what that means.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::{
    Inbound, Protocol,
    policy::{self, Client},
    port::Port,
};
use crate::{
    detect::{self, FirstSpeaker, Wait},
    discovery::ProtocolPlan,
    error::ProxyError,
    io::Stream,
    metrics::DetectResult,
    sys,
};

/// A connection while it is being found out what it is.
pub(super) struct Conversation {
    pub(super) stream: Stream,
    /// Read already.
    pub(super) buf: BytesMut,
    pub(super) client: Client,
    /// The application's side, where it had to be opened to see who speaks first, and what it has said.
    pub(super) app: Option<(TcpStream, BytesMut)>,
    /// How long its TLS took to agree.
    pub(super) handshake: Duration,
    /// What the application's own TLS asks for.
    pub(super) server_name: Option<String>,
}

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// TLS for this workload's own name: mutual TLS of the mesh.
    OwnTls,
    /// TLS for another name: the application's own.
    OtherTls,
    /// Other bytes of the client.
    Client,
    /// The server has spoken, or one side has closed: the connection is opaque and the application's side is open.
    Server,
}

impl Inbound {
    /// Waits for the first bytes, and tells TLS from other things. A connection that came straight to the proxy's port (`port` is
    /// `None`) must be TLS.
    pub(super) async fn first_bytes(
        &self,
        talk: &mut Conversation,
        port: Option<&Rc<Port>>,
    ) -> Result<Speech, ProxyError> {
        let partial = self.settings.inbound.detect_timeout;
        let silent = match port {
            // The server speaks first on most opaque ports.
            Some(port) if port.policy().protocol == ProtocolPlan::Opaque => Duration::ZERO,
            Some(_) => self.settings.http.detect_wait,
            None => partial,
        };
        let mut wait = Wait { silent, partial };
        loop {
            let found = detect::tls(&mut talk.stream, &mut talk.buf, wait)
                .await
                .map_err(|error| ProxyError::client_lost(&error))?;
            return Ok(match &found {
                detect::Tls::ClientHello { sni, .. } if self.is_own_name(sni.as_deref()) => Speech::OwnTls,
                detect::Tls::ClientHello { sni, .. } => {
                    talk.server_name.clone_from(sni);
                    Speech::OtherTls
                }
                detect::Tls::Plain | detect::Tls::Partial => Speech::Client,
                detect::Tls::Silent | detect::Tls::Closed => match port {
                    None => return Err(self.loops()),
                    Some(port) => match self.who_speaks(talk, port).await? {
                        Some(Speech::Server) => Speech::Server,
                        // It may still show who it is, if it does so in time.
                        None if found == detect::Tls::Closed || wait.silent == partial => {
                            return Err(denied(talk, port));
                        }
                        Some(_) | None => {
                            wait.silent = partial;
                            continue;
                        }
                    },
                },
            });
        }
    }

    /// Tells HTTP from other things.
    pub(super) async fn detect_http(
        &self,
        talk: &mut Conversation,
        port: &Rc<Port>,
        timeout: Duration,
    ) -> Result<Protocol, ProxyError> {
        let wait = Wait {
            silent: self.settings.http.detect_wait.min(timeout),
            partial: timeout,
        };
        let began = Instant::now();
        loop {
            let found = match detect::http(&mut talk.stream, &mut talk.buf, wait).await {
                Ok(found) => found,
                Err(error) => {
                    self.detected.record(DetectResult::Error, began.elapsed());
                    return Err(ProxyError::client_lost(&error));
                }
            };
            let (protocol, result) = match found {
                detect::Http::Http1 => (Protocol::Http1, DetectResult::Http1),
                detect::Http::Http2 => (Protocol::Http2, DetectResult::Http2),
                detect::Http::Opaque => (Protocol::Opaque, DetectResult::NotHttp),
                detect::Http::Partial => (Protocol::Opaque, DetectResult::ReadTimeout),
                detect::Http::Silent | detect::Http::Closed => match self.who_speaks(talk, port).await? {
                    Some(Speech::Server) => (Protocol::Opaque, DetectResult::ReadTimeout),
                    None => return Err(denied(talk, port)),
                    Some(_) => continue,
                },
            };
            self.detected.record(result, began.elapsed());
            return Ok(protocol);
        }
    }

    /// The client is silent: opens the application's side, and whoever speaks first decides. `None` where the client, as far as it
    /// is known, may not come in: the application is then left alone.
    async fn who_speaks(&self, talk: &mut Conversation, port: &Rc<Port>) -> Result<Option<Speech>, ProxyError> {
        if policy::authorize(&port.policy().authorizations, &talk.client).is_none() {
            return Ok(None);
        }
        let (app, app_buf) = match &mut talk.app {
            Some(app) => app,
            none => match port.app.connect().await {
                Ok(app) => none.insert((app, BytesMut::new())),
                Err(error) => {
                    // The application refused: so does the proxy in its name.
                    drop(sys::reset_on_close(talk.stream.tcp()));
                    return Err(error);
                }
            },
        };
        match detect::first_speaker(&mut talk.stream, &mut talk.buf, app, app_buf).await {
            Ok(FirstSpeaker::Client) => Ok(Some(Speech::Client)),
            Ok(FirstSpeaker::Server | FirstSpeaker::ClientClosed | FirstSpeaker::ServerClosed) => {
                Ok(Some(Speech::Server))
            }
            // Fails only on a socket that is gone already.
            Err(detect::Failed::Client(error)) => {
                drop(sys::reset_on_close(app));
                Err(ProxyError::client_lost(&error))
            }
            Err(detect::Failed::Server(error)) => {
                drop(sys::reset_on_close(talk.stream.tcp()));
                Err(ProxyError::server_lost(port.app.addr(), &error))
            }
        }
    }
}

fn denied(talk: &Conversation, port: &Port) -> ProxyError {
    policy::denied(&port.policy(), None, &talk.client, port.app.addr().port())
}
