//! Where traffic goes: backends of rules, and the parent's own.

use std::time::Duration;

use sheer_api::{
    linkerd::{
        destination::WeightedAddr,
        outbound::{
            Backend, Queue,
            backend::{self, BalanceP2c, EndpointDiscovery, endpoint_discovery},
        },
    },
    v1,
};

use super::{Actions, Compiler, Parent, default, egress, reference, settings};
use crate::{
    objects::{AppProtocol, BackendRef, HttpBackendRef, Service},
    routes::{BadRef, Route, Target},
};

/// Requests that wait while no endpoint is ready: what comes to a busy service in the second in which it is first connected to.
const QUEUE_CAPACITY: u32 = 10_000;
/// How long they wait.
const FAILFAST_TIMEOUT: Duration = Duration::from_secs(3);

/// One backend of a rule.
pub(super) struct Share {
    /// Where it leads; to nothing where `invalid`.
    pub(super) backend: Backend,
    /// Relative to the others.
    pub(super) weight: u32,
    /// Why it leads nowhere.
    pub(super) invalid: Option<String>,
}

/// How one kind of route says filters and backends.
pub(super) struct Words<F, W> {
    /// Filters that the policy can say, and the others.
    pub(super) split: fn(Actions) -> (Vec<F>, Vec<v1::FilterExtra>),
    /// Answers everything with an error.
    pub(super) failure: fn(String) -> F,
    /// A backend with its share.
    pub(super) weighted: fn(u32, Backend, Vec<F>) -> W,
}

impl Compiler<'_> {
    /// The backends of a rule with their filters; the text is why nothing may pass. What the policy cannot say goes into `extra`.
    pub(super) fn weighted<F, W>(
        &mut self,
        (route, references): (&Route, &[HttpBackendRef]),
        shares: Vec<Share>,
        extra: &mut v1::RuleExtras,
        words: &Words<F, W>,
    ) -> (Vec<W>, Option<String>) {
        let (mut weighted, mut dead) = (Vec::new(), None);
        for (index, (share, reference)) in shares.into_iter().zip(references).enumerate() {
            let mut actions = self.actions(route, &reference.filters, true);
            dead = dead.or(actions.dead.take());
            let (mut filters, more) = (words.split)(actions);
            if let Some(why) = share.invalid {
                filters = vec![(words.failure)(why)];
            } else if !more.is_empty() {
                extra.backends.push(v1::RouteBackendExtras {
                    backend: u32::try_from(index).unwrap_or(u32::MAX),
                    filters: more,
                });
            }
            weighted.push((words.weighted)(share.weight, share.backend, filters));
        }
        (weighted, dead)
    }

    /// The parent itself: where traffic goes that no route sends elsewhere.
    pub(super) fn own_backend(&mut self) -> Backend {
        match self.parent {
            Parent::Service(service, port) => self.balanced(service, port),
            Parent::Egress(network, address) => Backend {
                metadata: Some(egress::reference(network, address.port())),
                queue: queue(),
                kind: Some(backend::Kind::Forward(forward(address))),
            },
        }
    }

    /// Backends of a rule. Those that lead nowhere keep their share.
    pub(super) fn shares(&mut self, route: &Route, references: &[BackendRef]) -> Vec<Share> {
        let mut shares: Vec<_> = references
            .iter()
            .map(|reference| self.share(route, reference))
            .collect();
        if !shares.is_empty() && shares.iter().all(|share| share.weight == 0) {
            // Gateway API: nothing is forwarded. A choice among weights of 0 is none that proxies could make.
            shares.truncate(1);
            shares[0].weight = 1;
            shares[0].backend = invalid();
            shares[0].invalid = Some("every backend of the rule has weight 0".to_owned());
        }
        shares
    }

    fn share(&mut self, route: &Route, reference: &BackendRef) -> Share {
        let weight = reference.weight.unwrap_or(1);
        match self.target(route, reference) {
            Ok(backend) => Share {
                backend,
                weight,
                invalid: None,
            },
            Err(bad) => Share {
                backend: invalid(),
                weight,
                invalid: Some(bad.message),
            },
        }
    }

    fn target(&mut self, route: &Route, reference: &BackendRef) -> Result<Backend, BadRef> {
        match self.routes().resolve(route, reference)? {
            Target::Service(service, port) => Ok(self.balanced(&service, port)),
            // The resolver made sure that it is the route's parent: but a route can have several.
            Target::Egress => match self.parent {
                Parent::Egress(..) => Ok(self.own_backend()),
                Parent::Service(..) => Err(BadRef {
                    reason: "RefNotPermitted",
                    message:
                        "requests to a Service cannot go to an EgressNetwork: they have no address outside the mesh"
                            .to_owned(),
                }),
            },
        }
    }

    /// The endpoints of a Service's port.
    pub(super) fn balanced(&mut self, service: &Service, port: u16) -> Backend {
        self.note_backend(service, port);
        let path = self.path(service, port);
        let discovery = endpoint_discovery::Kind::Dst(endpoint_discovery::DestinationGet { path });
        let known = service.spec.ports.iter().find(|known| known.port == port);
        let never_inspected = known
            .and_then(|known| known.app_protocol.as_deref())
            .and_then(AppProtocol::parse);
        Backend {
            metadata: Some(reference(service, port)),
            queue: queue(),
            kind: Some(backend::Kind::Balancer(BalanceP2c {
                discovery: Some(EndpointDiscovery { kind: Some(discovery) }),
                load: Some(if never_inspected == Some(AppProtocol::Opaque) {
                    settings::load(None)
                } else {
                    self.load
                }),
            })),
        }
    }

    /// What discovery is asked for.
    pub(super) fn path(&self, service: &Service, port: u16) -> String {
        format!("{}:{port}", service.fqdn(&self.config.cluster_domain))
    }

    /// A backend that gets copies, where it can be resolved.
    pub(super) fn mirror_target(&mut self, route: &Route, reference: &BackendRef) -> Option<(v1::ObjectRef, String)> {
        let Ok(Target::Service(service, port)) = self.routes().resolve(route, reference) else {
            return None;
        };
        self.note_backend(&service, port);
        let path = self.path(&service, port);
        Some((super::extras::service(&service, port), path))
    }
}

pub(super) fn queue() -> Option<Queue> {
    Some(Queue {
        capacity: QUEUE_CAPACITY,
        failfast_timeout: settings::duration(FAILFAST_TIMEOUT),
    })
}

/// The address that the client wanted.
pub(super) fn forward(address: std::net::SocketAddr) -> WeightedAddr {
    WeightedAddr {
        addr: Some(address.into()),
        weight: 1,
        ..WeightedAddr::default()
    }
}

/// Nothing, as Linkerd tells it; a failure injector beside it makes the answer.
pub(super) fn invalid() -> Backend {
    Backend {
        metadata: Some(default("invalid")),
        queue: queue(),
        kind: None,
    }
}
