//! HTTP of one client connection: every request finds its own endpoint.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
};

use http::Method;
use tokio::sync::Notify;

use super::{Outbound, observe::Admitted, targets::Target};
use crate::{
    discovery::Backend,
    error::{Direction, ProxyError},
    exchange::{Context, Failed, Head, Observation, Origin, Request, Responder, exchange},
    headers, http2,
    pool::{Carrier, Lease, Pick, Service},
};

/// How many endpoints a request may meet that did not serve it. Each time nothing had reached an application, so that another attempt
/// is safe; the bound ends what would else go round for ever.
const MAX_ATTEMPTS: u32 = 8;

/// A connection of the workload that speaks HTTP.
pub(super) struct HttpConnection {
    outbound: Rc<Outbound>,
    target: Rc<Target>,
    /// To a destination that the mesh does not know: this connection's own way there.
    own: OnceCell<Rc<Service>>,
    /// The address that the client asked for is gone: it has to connect, and so to resolve its name, again.
    stale: Cell<bool>,
    /// `stale` or `own` was set.
    changed: Notify,
}

impl HttpConnection {
    pub(super) fn new(outbound: &Rc<Outbound>, target: Rc<Target>) -> Rc<Self> {
        Rc::new(Self {
            outbound: Rc::clone(outbound),
            target,
            own: OnceCell::new(),
            stale: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Where a request goes.
    fn route(&self, head: &Head) -> Result<Rc<Service>, ProxyError> {
        let resolution = self.target.resolution();
        match head.origin {
            Origin::Http2 if resolution.known => resolution.streams(),
            Origin::Http1 { .. } if resolution.known => resolution.http1(),
            origin => {
                if let Some(own) = self.own.get() {
                    return Ok(Rc::clone(own));
                }
                let own = resolution.own(match origin {
                    Origin::Http2 => Carrier::OwnStreams,
                    Origin::Http1 { .. } => Carrier::OwnConnections,
                })?;
                let own = Rc::clone(self.own.get_or_init(|| own));
                self.changed.notify_waiters();
                Ok(own)
            }
        }
    }

    /// Sends a request to one endpoint after the other until one has served it. What is returned was served by none.
    async fn dispatch(
        &self,
        mut request: Request,
        mut responder: Responder,
        admitted: &Rc<Admitted>,
        observation: &Observation,
    ) -> Result<(), (Responder, ProxyError)> {
        for attempt in 1.. {
            let lease = match self.lease(&request.head).await {
                Ok(lease) => lease,
                Err(error) => return Err((responder, error)),
            };
            let cx = self.context(lease.request.node().endpoint.addr);
            let Lease {
                upstream,
                slot,
                request: in_flight,
            } = lease;
            let endpoint = self.outbound.observer.endpoint(in_flight, slot, admitted, attempt);
            observation.redirect(Rc::clone(&endpoint) as _);
            let Err(failed) = exchange(request, upstream, responder, &cx, observation).await else {
                return Ok(());
            };
            let Failed {
                request: again,
                responder: back,
                error,
            } = *failed;
            endpoint.lost(&error);
            match again {
                Some(again) if attempt < MAX_ATTEMPTS => (request, responder) = (again, back),
                _ => return Err((back, error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn lease(&self, head: &Head) -> Result<Lease, ProxyError> {
        let service = self.route(head)?;
        let leaves_http =
            matches!(head.origin, Origin::Http1 { .. }) && (head.upgrade.is_some() || head.method == Method::CONNECT);
        let leased = if leaves_http {
            service.tunnel(Pick::default()).await
        } else {
            service.upstream(Pick::default()).await
        };
        if leased.is_err() {
            self.note_unreachable();
        }
        leased
    }

    /// Nothing answers. Behind a service others may come; a single address that the client chose stays what it is, and only a new
    /// connection of the client finds another.
    fn note_unreachable(&self) {
        if matches!(self.target.resolution().target.backend, Backend::Forward(_)) && !self.stale.replace(true) {
            self.changed.notify_waiters();
        }
    }

    fn context(&self, addr: std::net::SocketAddr) -> Context {
        Context {
            direction: Direction::Outbound,
            addr,
            header_limit: self.outbound.settings.http.header_list_limit,
            response_timeout: None,
            replay: true,
        }
    }
}

impl http2::Service for HttpConnection {
    fn refused(&self, error: &ProxyError) -> Observation {
        tracing::info!(dst = %self.target.dst(), %error, "request refused");
        Observation::start(self.target.resolution().no_endpoint())
    }

    async fn retired(&self) {
        loop {
            let changed = self.changed.notified();
            if self.stale.get() {
                return;
            }
            match self.own.get() {
                Some(own) => tokio::select! {
                    () = own.closed() => return,
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    async fn call(self: Rc<Self>, request: Request, mut responder: Responder) {
        if !self.outbound.settings.outbound.informational_headers {
            responder.terse();
        }
        let observation = Observation::start(self.target.resolution().no_endpoint());
        if let Some(ticket) = self.outbound.sampler().ticket() {
            observation.sample(ticket.outbound(self.target.dst(), &request.head));
        }
        let admitted = headers::check_limit(&request.head, &self.context(self.target.dst().0))
            .and_then(|()| self.outbound.observer.admit());
        let ended = match admitted {
            Ok(admitted) => {
                self.dispatch(request, responder, &Rc::new(admitted), &observation)
                    .await
            }
            Err(error) => Err((responder, error)),
        };
        if let Err((responder, error)) = ended {
            if self.stale.get() {
                responder.last();
            }
            tracing::info!(dst = %self.target.dst(), %error, "request failed");
            responder.fail(&error, &observation).await;
        }
    }
}
