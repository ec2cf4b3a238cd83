//! Connections that are not looked into: bytes to the application and back, for as long as policy lets them.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    Inbound,
    policy::{self, ClientTls},
    port::Port,
    speech::Conversation,
};
use crate::{
    addr::ClientAddr,
    detect::Rewind,
    discovery::InboundPolicy,
    error::ProxyError,
    record::{About, LegId, Peer, Speaks, Tape},
    sys,
    tap::{LegFacts, Stream, TappedConnection},
    tcp::{self, Meters, Tapes},
};

impl Inbound {
    /// Relays a connection until both sides are done, or a change of policy ends it.
    pub(super) async fn opaque(&self, talk: Conversation, port: Rc<Port>) {
        let observers = port.observers(&talk.client);
        let speaks = match talk.client.tls {
            ClientTls::Opaque => Speaks::Tls,
            ClientTls::None | ClientTls::Mutual(_) => Speaks::Tcp,
        };
        let recorder = self.recorder();
        let mut about = Self::about((&talk.stream, &talk.client, talk.handshake), &port, speaks);
        if let Some(name) = &talk.server_name {
            about.tls.get_or_insert_default().server_name.clone_from(name);
        }
        let client_tape = recorder.relay(about, talk.stream.tcp());
        let mut tapped = self.tapped(&talk, &port, &client_tape);
        let rule = policy::authorize(&observers.policy().authorizations, &talk.client);
        let authz = observers.tcp_authz(rule);
        if rule.is_none() {
            authz.deny.inc();
            // A refusal that a client can tell from the end of a good connection.
            drop(sys::reset_on_close(talk.stream.tcp()));
            let port = port.app.addr().port();
            let error = policy::denied(observers.policy(), None, &talk.client, port);
            return self.refused((talk.client.addr, &error), client_tape, tapped);
        }
        authz.allow.inc();
        if rule.is_some_and(|rule| policy::is_audit(&rule.policy)) {
            observers.audited(&talk.client, None);
        }
        let client = observers.open(&talk.client);
        let began = Instant::now();
        let (app, said) = match talk.app {
            Some(app) => app,
            None => match port.app.connect().await {
                Ok(app) => (app, bytes::BytesMut::new()),
                Err(error) => {
                    // The application refused: so does the proxy in its name.
                    drop(sys::reset_on_close(talk.stream.tcp()));
                    return self.refused((talk.client.addr, &error), client_tape, tapped);
                }
            },
        };
        let about = About {
            took: (began.elapsed(), Duration::ZERO),
            ..About::new(Peer::App, false, speaks)
        };
        let tapes = Tapes::new(client_tape, recorder.relay(about, &app));
        if let Some(tapped) = &mut tapped {
            let (upstream, counters) = tapes.watched();
            tapped.opened(upstream, counters);
        }
        let meters = Meters {
            client,
            server: Some(observers.app().open()),
            tapes,
        };
        let allowed = |policy: &InboundPolicy| policy::authorize(&policy.authorizations, &talk.client).is_some();
        let ended = tcp::relay_counted(
            (Rewind::new(talk.stream, talk.buf), Rewind::new(app, said)),
            meters,
            &self.life,
            port.revoked(true, allowed),
        )
        .await;
        if let Some(tapped) = tapped {
            tapped.ended(&ended);
        }
        tracing::debug!(dst = %port.app.addr(), ?ended, "relay ended");
        if matches!(ended, tcp::Ended::Revoked) {
            observers.revoked(&talk.client);
        }
    }

    /// Notes a connection that is not let through.
    fn refused(&self, (client, error): (SocketAddr, &ProxyError), tape: Tape, tapped: Option<Box<TappedConnection>>) {
        tape.refused(error);
        if let Some(tapped) = tapped {
            tapped.refused(error);
        }
        self.failed(ClientAddr(client), error);
    }

    /// For who watches connections.
    fn tapped(&self, talk: &Conversation, port: &Port, tape: &Tape) -> Option<Box<TappedConnection>> {
        let client = &talk.client;
        let id = LegId {
            connection: tape.id(),
            stream: 0,
        };
        self.taps().connection(|| Stream {
            is_tls: matches!(client.tls, ClientTls::Opaque),
            server_name: talk.server_name.clone().unwrap_or_default(),
            destination: port.app.addr().to_string(),
            address: Some(port.app.addr()),
            identity: client.identity().cloned(),
            client: LegFacts::new(id, tape),
        })
    }
}
