//! What a connection speaks: as the plan says, or as its first bytes do.
//!
//! A client that says nothing must not wait for ever for a server that would speak first: after a short wait the server side is
//! opened, and whoever speaks first decides. Where one side fails meanwhile, the other one is reset.

use std::{rc::Rc, time::Instant};

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::{
    Outbound,
    opaque::{self, Kind},
    targets::Target,
};
use crate::{
    detect::{self, Failed, FirstSpeaker, Http, Rewind, Tls, Wait},
    discovery::ProtocolPlan,
    error::ProxyError,
    io::{Io, Stream},
    metrics::DetectResult,
    sys,
};

/// What to do with a connection; what was read of it is in front of it again.
pub(super) enum Detected {
    /// HTTP/1.
    Http1(Io),
    /// HTTP/2.
    Http2(Io),
    /// Anything else, with the server side where it was opened already.
    Opaque(Io, Option<Box<opaque::Server>>, opaque::Kind),
}

impl Detected {
    /// In Linkerd's words.
    pub(super) const fn protocol(&self) -> &'static str {
        match self {
            Self::Http1(_) => "http/1",
            Self::Http2(_) => "http/2",
            Self::Opaque(_, _, opaque::Kind::Tls(_)) => "tls",
            Self::Opaque(_, _, opaque::Kind::Bytes | opaque::Kind::Unasked(_)) => "opaq",
        }
    }
}

/// Finds out what the client speaks.
pub(super) async fn protocol(
    outbound: &Rc<Outbound>,
    client: TcpStream,
    target: &Rc<Target>,
) -> Result<Detected, ProxyError> {
    let plan = target.resolution().target.policy.protocol;
    let timeout = match plan {
        ProtocolPlan::Http1 => return Ok(Detected::Http1(rewind(client, BytesMut::new()))),
        ProtocolPlan::Http2 => return Ok(Detected::Http2(rewind(client, BytesMut::new()))),
        ProtocolPlan::Opaque => {
            return Ok(Detected::Opaque(rewind(client, BytesMut::new()), None, Kind::Bytes));
        }
        ProtocolPlan::Tls => return server_name(outbound, client).await,
        ProtocolPlan::Detect { timeout } => timeout.min(outbound.settings.outbound.detect_timeout),
    };
    let wait = Wait {
        silent: outbound.settings.http.detect_wait.min(timeout),
        partial: timeout,
    };
    let began = Instant::now();
    let detected = first_bytes(client, target, wait).await;
    let result = match &detected {
        Ok(Detected::Http1(_)) => DetectResult::Http1,
        Ok(Detected::Http2(_)) => DetectResult::Http2,
        Ok(Detected::Opaque(client, ..)) if client.prefix().is_empty() => DetectResult::ReadTimeout,
        Ok(Detected::Opaque(..)) => DetectResult::NotHttp,
        Err(_) => DetectResult::Error,
    };
    outbound.observer.detected(result, began.elapsed());
    detected
}

/// Reads the server name of TLS that is passed through. Whatever does not name one goes where connections without a name go.
async fn server_name(outbound: &Outbound, mut client: TcpStream) -> Result<Detected, ProxyError> {
    let timeout = outbound.settings.outbound.detect_timeout;
    let wait = Wait {
        silent: timeout,
        partial: timeout,
    };
    let mut buf = BytesMut::new();
    let name = match detect::tls(&mut client, &mut buf, wait)
        .await
        .map_err(|error| ProxyError::client_lost(&error))?
    {
        Tls::ClientHello { sni, .. } => sni,
        Tls::Plain | Tls::Partial | Tls::Silent | Tls::Closed => None,
    };
    Ok(Detected::Opaque(rewind(client, buf), None, Kind::Tls(name)))
}

async fn first_bytes(mut client: TcpStream, target: &Rc<Target>, wait: Wait) -> Result<Detected, ProxyError> {
    let client_lost = |error| ProxyError::client_lost(&error);
    let has_tls_rules = !target.resolution().target.policy.tls.is_empty();
    let mut buf = BytesMut::new();
    let mut server = None;
    let mut hello = None;
    let silent = match detect::tls(&mut client, &mut buf, wait).await.map_err(client_lost)? {
        Tls::Silent => true,
        // It may still listen.
        Tls::Closed => return Ok(Detected::Opaque(rewind(client, buf), None, Kind::Bytes)),
        Tls::ClientHello { sni, .. } if has_tls_rules => {
            return Ok(Detected::Opaque(rewind(client, buf), None, Kind::Tls(sni)));
        }
        Tls::ClientHello { sni, .. } => {
            hello = Some(sni);
            false
        }
        Tls::Plain | Tls::Partial => false,
    };
    if silent {
        let opened = tokio::select! {
            biased; // a client that speaks meanwhile need not wait for a server side that it may not need
            _ = client.readable() => None,
            opened = opaque::connect(target, &Kind::Bytes) => match opened {
                Ok(opened) => Some(opened),
                // Who has nothing to say and nobody to talk to is told so by `opaque::serve`, which tries again.
                Err(_) => return Ok(Detected::Opaque(rewind(client, buf), None, Kind::Bytes)),
            },
        };
        if let Some(mut opened) = opened {
            let mut answer = BytesMut::new();
            let first = detect::first_speaker(&mut client, &mut buf, &mut opened.stream, &mut answer).await;
            let first = first.map_err(|failed| pass_on(failed, &client, &opened))?;
            opened.prefix = answer.freeze();
            server = Some(Box::new(opened));
            if first != FirstSpeaker::Client {
                return Ok(Detected::Opaque(rewind(client, buf), server, Kind::Bytes));
            }
        }
        // The prefix of a ClientHello may come in pieces.
        let tls = detect::tls(&mut client, &mut buf, wait).await.map_err(client_lost)?;
        if let Tls::ClientHello { sni, .. } = tls {
            if has_tls_rules {
                return Ok(Detected::Opaque(rewind(client, buf), None, Kind::Tls(sni)));
            }
            hello = Some(sni);
        }
    }
    // A ClientHello is not HTTP, which this finds out from what is in the buffer. A server side that was opened in vain is closed.
    Ok(
        match detect::http(&mut client, &mut buf, wait).await.map_err(client_lost)? {
            Http::Http1 => Detected::Http1(rewind(client, buf)),
            Http::Http2 => Detected::Http2(rewind(client, buf)),
            Http::Opaque | Http::Partial | Http::Silent | Http::Closed => {
                Detected::Opaque(rewind(client, buf), server, hello.map_or(Kind::Bytes, Kind::Unasked))
            }
        },
    )
}

/// One side failed: the other one is reset, as neither must take that for an orderly end.
fn pass_on(failed: Failed, client: &TcpStream, server: &opaque::Server) -> ProxyError {
    // Fails only on a socket that is gone already.
    match failed {
        Failed::Client(error) => {
            drop(sys::reset_on_close(server.stream.tcp()));
            ProxyError::client_lost(&error)
        }
        Failed::Server(error) => {
            drop(sys::reset_on_close(client));
            ProxyError::server_lost(server.addr, &error)
        }
    }
}

fn rewind(client: TcpStream, buf: BytesMut) -> Io {
    Rewind::new(Stream::Tcp(client), buf.freeze())
}
