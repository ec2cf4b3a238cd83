//! Connections that nobody looks into, but for the server name of TLS: sent where a rule says, then relayed byte for byte.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use sheer_policy::outbound::{BackendTarget, Refusal, StreamRule};

use super::{Outbound, resolution::Resolution, targets::Target};
use crate::{
    balance,
    connect::Speak,
    detect::Rewind,
    error::ProxyError,
    io::{Io, Stream},
    metrics::{Family, LabelSet, Shard, TcpOpen, family},
    pool::{Carrier, Service, TcpLease},
    tcp::{self, Counters},
};

/// How often a relay that runs is counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// The server side of a connection, opened.
pub(super) struct Server {
    pub(super) stream: Stream,
    /// What the server said already.
    pub(super) prefix: Bytes,
    metrics: Option<TcpOpen>,
}

/// What is known of a connection besides its bytes.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing.
    Bytes,
    /// It is TLS of the application, for this server name.
    Tls(Option<String>),
}

/// Opens the server side: where the first rule for bytes says, or the rule for the server name of TLS.
pub(super) async fn connect(target: &Rc<Target>, kind: &Kind) -> Result<Server, ProxyError> {
    let resolution = target.resolution();
    let route = Route::of(&resolution, kind)?;
    let service = route.choose(&resolution)?;
    let TcpLease { stream, request } = service.connect(Speak::Opaque).await?;
    // For bytes the connection is the answer.
    request.finish(balance::Outcome::Success, std::time::Instant::now());
    let (stream, metrics) = stream.unmetered();
    Ok(Server {
        stream,
        prefix: Bytes::new(),
        metrics,
    })
}

/// The rule that takes a connection.
struct Route<'a> {
    rule: &'a StreamRule,
    service: &'a str,
}

impl<'a> Route<'a> {
    fn of(resolution: &'a Resolution, kind: &Kind) -> Result<Self, ProxyError> {
        let policy = &resolution.target.policy;
        let service = &*resolution.target.name;
        let rule = match kind {
            Kind::Bytes => policy.opaque.first(),
            Kind::Tls(server_name) => policy.tls_rule(server_name.as_deref()),
        };
        let rule = rule.ok_or_else(|| ProxyError::NoRoute {
            service: service.to_owned(),
        })?;
        Ok(Self { rule, service })
    }

    fn choose(&self, resolution: &Resolution) -> Result<Rc<Service>, ProxyError> {
        match &self.rule.refuses {
            None => {}
            Some(Refusal::Forbidden) => {
                return Err(ProxyError::Forbidden {
                    service: self.service.to_owned(),
                    route: self.rule.route.to_string(),
                });
            }
            Some(Refusal::Invalid(why)) => return Err(self.invalid(why)),
        }
        let backends = &self.rule.backends;
        let chosen = backends.choose(rand::random()).and_then(|place| backends.at(place));
        let Some(chosen) = chosen else {
            return Err(self.invalid(&"the route has no backend".into()));
        };
        match &chosen.backend.target {
            BackendTarget::Invalid { why } => Err(self.invalid(why)),
            BackendTarget::Forward(_) | BackendTarget::Balance { .. } => {
                resolution.services.find(&chosen.backend, Carrier::Connections)
            }
        }
    }

    fn invalid(&self, why: &Arc<str>) -> ProxyError {
        ProxyError::InvalidBackend {
            service: self.service.to_owned(),
            route: self.rule.route.to_string(),
            why: Arc::clone(why),
        }
    }
}

/// Counts a connection for its route: the opening, and when dropped the end.
struct Counts {
    shard: Shard,
    close: &'static Family,
    labels: LabelSet,
    error: &'static str,
}

impl Counts {
    fn new(resolution: &Resolution, kind: &Kind) -> Option<Self> {
        let route = Route::of(resolution, kind).ok()?;
        let labels = LabelSet::builder()
            .object("parent_", resolution.target.parent())
            .object("route_", &route.rule.route)
            .build();
        let (open, close) = match kind {
            Kind::Bytes => (
                &family::OUTBOUND_TCP_ROUTE_OPEN_TOTAL,
                &family::OUTBOUND_TCP_ROUTE_CLOSE_TOTAL,
            ),
            Kind::Tls(_) => (
                &family::OUTBOUND_TLS_ROUTE_OPEN_TOTAL,
                &family::OUTBOUND_TLS_ROUTE_CLOSE_TOTAL,
            ),
        };
        let shard = resolution.context.shard.clone();
        shard.counter(open, &labels).inc();
        Some(Self {
            shard,
            close,
            labels,
            error: "",
        })
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        let labels = self.labels.with("error", self.error);
        self.shard.counter(self.close, &labels).inc();
    }
}

/// Linkerd's names of the errors that end a connection of a route.
fn close_error(error: &ProxyError) -> &'static str {
    match error {
        ProxyError::Forbidden { .. } => "forbidden",
        ProxyError::InvalidBackend { .. } | ProxyError::NoBackend { .. } => "invalid_backend",
        ProxyError::NoRoute { .. } => "invalid_policy",
        _ => "unexpected",
    }
}

/// Relays a connection to its end. `accepted` counts the client side.
pub(super) async fn serve(
    outbound: &Rc<Outbound>,
    client: Io,
    server: Option<Server>,
    target: &Rc<Target>,
    (accepted, kind): (TcpOpen, &Kind),
) {
    let resolution = target.resolution();
    let server_name = match kind {
        Kind::Bytes => None,
        Kind::Tls(server_name) => server_name.as_deref(),
    };
    resolution.context.egress.connection(&resolution, server_name);
    let mut counts = Counts::new(&resolution, kind);
    drop(resolution);
    let opened = match server {
        Some(server) => Ok(server),
        None => connect(target, kind).await,
    };
    let Server {
        stream,
        prefix,
        metrics,
    } = match opened {
        Ok(server) => server,
        Err(error) => {
            if let Some(counts) = &mut counts {
                counts.error = close_error(&error);
            }
            return outbound.refuse(client.io().tcp(), &error);
        }
    };
    let counters = Counters::default();
    let mut counted = Counted {
        counters: &counters,
        client: accepted,
        server: metrics,
        seen: (0, 0),
    };
    let relay = tcp::relay(client, Rewind::new(stream, prefix), &counters);
    tokio::select! {
        biased; // the end is worth more than another count
        outcome = relay => tracing::debug!(dst = %target.dst(), ?outcome, "relay ended"),
        () = counted.count_regularly() => {}
    }
}

/// Counts the bytes of a relay: the relay itself moves them past every other counter.
struct Counted<'a> {
    counters: &'a Counters,
    client: TcpOpen,
    server: Option<TcpOpen>,
    /// Counted already: to the server, to the client.
    seen: (u64, u64),
}

impl Counted<'_> {
    async fn count_regularly(&mut self) {
        loop {
            tokio::time::sleep(COUNT_INTERVAL).await;
            self.count();
        }
    }

    fn count(&mut self) {
        let now = (self.counters.to_server(), self.counters.to_client());
        let (up, down) = (now.0 - self.seen.0, now.1 - self.seen.1);
        self.seen = now;
        self.client.read(up);
        self.client.wrote(down);
        if let Some(server) = &self.server {
            server.wrote(up);
            server.read(down);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count();
    }
}
