//! Connections that are not looked into: bytes to the application and back, for as long as policy lets them.

use std::rc::Rc;

use super::{Inbound, policy, port::Port, speech::Conversation};
use crate::{
    detect::Rewind,
    discovery::InboundPolicy,
    error::ProxyError,
    sys,
    tcp::{self, Meters},
};

impl Inbound {
    /// Relays a connection until both sides are done, or a change of policy ends it.
    pub(super) async fn opaque(&self, talk: Conversation, port: Rc<Port>) -> Result<(), ProxyError> {
        let observers = port.observers(&talk.client);
        let rule = policy::authorize(&observers.policy().authorizations, &talk.client);
        let authz = observers.tcp_authz(rule);
        if rule.is_none() {
            authz.deny.inc();
            // A refusal that a client can tell from the end of a good connection.
            drop(sys::reset_on_close(talk.stream.tcp()));
            let port = port.app.addr().port();
            return Err(policy::denied(observers.policy(), None, &talk.client, port));
        }
        authz.allow.inc();
        if rule.is_some_and(|rule| policy::is_audit(&rule.policy)) {
            observers.audited(&talk.client, None);
        }
        let client = observers.open(&talk.client);
        let (app, said) = match talk.app {
            Some(app) => app,
            None => match port.app.connect().await {
                Ok(app) => (app, bytes::BytesMut::new()),
                Err(error) => {
                    // The application refused: so does the proxy in its name.
                    drop(sys::reset_on_close(talk.stream.tcp()));
                    return Err(error);
                }
            },
        };
        let meters = Meters {
            client,
            server: Some(observers.app().open()),
        };
        let allowed = |policy: &InboundPolicy| policy::authorize(&policy.authorizations, &talk.client).is_some();
        let ended = tcp::relay_counted(
            (Rewind::new(talk.stream, talk.buf), Rewind::new(app, said)),
            meters,
            &self.life,
            port.revoked(true, allowed),
        )
        .await;
        tracing::debug!(dst = %port.app.addr(), ?ended, "relay ended");
        if matches!(ended, tcp::Ended::Revoked) {
            observers.revoked(&talk.client);
        }
        Ok(())
    }
}
