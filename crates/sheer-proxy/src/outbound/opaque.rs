//! Connections that nobody looks into, but for the server name of TLS: sent where a rule says, then relayed byte for byte.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use sheer_policy::outbound::{Backend, BackendTarget, Refusal, StreamRule};

use super::{Outbound, affinity, resolution::Resolution, targets::Target};
use crate::{
    balance,
    connect::{Connected, Speak},
    detect::Rewind,
    error::ProxyError,
    io::{self, Io},
    metrics::{Family, LabelSet, Shard, TcpOpen, family},
    pool::{self, Carrier, Pick, Service, TcpLease},
    record::{About, LegId, Speaks, TlsFacts},
    tap::{LegFacts, Stream},
    tcp::{self, Meters, Tapes},
};

/// The server side of a connection, opened.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    pub(super) stream: io::Stream,
    /// What the server said already.
    pub(super) prefix: Bytes,
    metrics: Option<TcpOpen>,
    about: About,
}

/// What is known of a connection besides its bytes.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing.
    Bytes,
    /// It is TLS of the application, for this server name, by which a rule chooses.
    Tls(Option<String>),
    /// The same, where no rule asks for the name: it goes where bytes go, and whoever looks is told.
    Unasked(Option<String>),
}

impl Kind {
    fn speaks(&self) -> Speaks {
        match self {
            Self::Bytes => Speaks::Tcp,
            Self::Tls(_) | Self::Unasked(_) => Speaks::Tls,
        }
    }

    /// What the client's TLS asks for.
    fn server_name(&self) -> Option<&str> {
        match self {
            Self::Bytes => None,
            Self::Tls(name) | Self::Unasked(name) => name.as_deref(),
        }
    }

    /// What the recorder is told of the application's own TLS.
    fn tls_facts(&self) -> Option<Box<TlsFacts>> {
        let server_name = self.server_name()?.to_owned();
        Some(Box::new(TlsFacts {
            server_name,
            ..TlsFacts::default()
        }))
    }
}

/// Opens the server side: where the first rule for bytes says, or the rule for the server name of TLS.
pub(super) async fn connect(target: &Rc<Target>, kind: &Kind) -> Result<Server, ProxyError> {
    let resolution = target.resolution();
    let route = Route::of(&resolution, kind)?;
    let (service, backend) = route.choose(&resolution)?;
    let pick = Pick {
        key: affinity::of_connection(backend, resolution.context.client),
        avoid: None,
    };
    let TcpLease { connected, request } = service.connect(pick, Speak::Opaque).await?;
    let Connected { stream, link } = connected;
    let endpoint = Arc::clone(&request.node().endpoint);
    let addr = endpoint.addr;
    if let (Kind::Tls(server_name), true) = (kind, resolution.is_outside()) {
        request.node().value.name_host(server_name.as_deref());
    }
    // For bytes the connection is the answer.
    request.finish(balance::Outcome::Success, std::time::Instant::now());
    let stream_tls = stream.tls_facts();
    let (stream, metrics) = stream.unmetered();
    Ok(Server {
        addr,
        stream,
        prefix: Bytes::new(),
        metrics,
        about: About {
            tls: stream_tls,
            took: link.took(),
            ..pool::about(&endpoint, kind.speaks())
        },
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
            Kind::Bytes | Kind::Unasked(_) => policy.opaque.first(),
            Kind::Tls(server_name) => policy.tls_rule(server_name.as_deref()),
        };
        let rule = rule.ok_or_else(|| ProxyError::NoRoute {
            service: service.to_owned(),
        })?;
        Ok(Self { rule, service })
    }

    fn choose(&self, resolution: &Resolution) -> Result<(Rc<Service>, &'a Backend), ProxyError> {
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
                let service = resolution.services.find(&chosen.backend, Carrier::Connections)?;
                Ok((service, &*chosen.backend))
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
            Kind::Bytes | Kind::Unasked(_) => (
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
    server: Option<Box<Server>>,
    target: &Rc<Target>,
    (accepted, kind): (TcpOpen, &Kind),
) {
    let resolution = target.resolution();
    let server_name = match kind {
        Kind::Bytes | Kind::Unasked(_) => None,
        Kind::Tls(server_name) => server_name.as_deref(),
    };
    resolution.context.egress.connection(&resolution, server_name);
    let mut counts = Counts::new(&resolution, kind);
    let recorder = outbound.recorder();
    let about = About {
        tls: kind.tls_facts(),
        ..Outbound::about(target, kind.speaks())
    };
    let client_tape = recorder.relay(about, client.io().tcp());
    let id = LegId {
        connection: client_tape.id(),
        stream: 0,
    };
    let mut tapped = outbound.taps().connection(|| Stream {
        is_tls: kind.speaks() == Speaks::Tls,
        server_name: kind.server_name().unwrap_or_default().to_owned(),
        destination: resolution.target.name.to_string(),
        address: Some(target.dst().0),
        identity: None,
        client: LegFacts::new(id, &client_tape),
    });
    drop(resolution);
    let opened = match server {
        Some(server) => Ok(*server),
        None => connect(target, kind).await,
    };
    let Server {
        addr: _,
        stream,
        prefix,
        metrics,
        about,
    } = match opened {
        Ok(server) => server,
        Err(error) => {
            if let Some(counts) = &mut counts {
                counts.error = close_error(&error);
            }
            if let Some(tapped) = tapped {
                tapped.refused(&error);
            }
            client_tape.refused(&error);
            return outbound.refuse(client.io().tcp(), &error);
        }
    };
    let tapes = Tapes::new(client_tape, recorder.relay(about, stream.tcp()));
    if let Some(tapped) = &mut tapped {
        let (upstream, counters) = tapes.watched();
        tapped.opened(upstream, counters);
    }
    let meters = Meters {
        client: accepted,
        server: metrics,
        tapes,
    };
    let both = (client, Rewind::new(stream, prefix));
    let ended = tcp::relay_counted(both, meters, &outbound.life, std::future::pending()).await;
    if let Some(tapped) = tapped {
        tapped.ended(&ended);
    }
    tracing::debug!(dst = %target.dst(), ?ended, "relay ended");
}
