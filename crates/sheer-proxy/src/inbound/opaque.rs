//! Connections that are not looked into: bytes to the application and back, for as long as policy lets them.

use std::rc::Rc;

use super::{
    Inbound,
    policy::{self, Client},
    port::Port,
    speech::Conversation,
};
use crate::{
    detect::Rewind,
    error::ProxyError,
    sys,
    tcp::{self, Meters},
};

impl Inbound {
    /// Relays a connection until both sides are done, or a change of policy ends it.
    pub(super) async fn opaque(&self, talk: Conversation, port: Rc<Port>) -> Result<(), ProxyError> {
        let observers = port.observers(&talk.client);
        let rule = policy::authorize(observers.policy(), &talk.client);
        let authz = observers.authz(rule);
        if rule.is_none() {
            authz.tcp_deny.inc();
            // A refusal that a client can tell from the end of a good connection.
            drop(sys::reset_on_close(talk.stream.tcp()));
            return Err(policy::denied(observers.policy(), &talk.client, port.app.addr().port()));
        }
        authz.tcp_allow.inc();
        let client = observers.tcp.open();
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
        let relay = tcp::relay_counted(
            Rewind::new(talk.stream, talk.buf),
            Rewind::new(app, said),
            meters,
            &self.life,
        );
        tokio::select! {
            biased; // what is done counts as done
            outcome = relay => tracing::debug!(dst = %port.app.addr(), ?outcome, "relay ended"),
            () = no_longer_allowed(&port, &talk.client) => authz.tcp_terminate.inc(),
        }
        Ok(())
    }
}

/// Returns once the policy in force lets the client in no more.
async fn no_longer_allowed(port: &Port, client: &Client) {
    let mut changes = port.watch();
    loop {
        if policy::authorize(&port.policy(), client).is_none() {
            return;
        }
        if changes.changed().await.is_err() {
            // Discovery is gone, as it is at the end of the process: the last policy stays.
            return std::future::pending().await;
        }
    }
}
