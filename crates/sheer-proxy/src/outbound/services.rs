//! The services of one destination on one worker: one for each backend and carrier, made when first wanted and kept over changes of the
//! policy for as long as they stay the same, so that an edit loses no request and connects to nobody anew.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use ahash::AHashMap;
use sheer_policy::outbound::{Backend, BackendTarget, FailureAccrual, LoadEstimate, OutboundPolicy};

use super::targets::Context;
use crate::{
    discovery::{ObjectRef, OutboundTarget},
    error::ProxyError,
    metrics::{BalancerMetrics, LabelSet, Tls, outbound_labels},
    pool::{Carrier, EndpointSeries, Queue, Service, ServiceOptions},
    telemetry::Key,
};

/// The services of one destination.
pub(super) struct Services {
    context: Rc<Context>,
    target: OutboundTarget,
    known: bool,
    entries: RefCell<AHashMap<ObjectRef, Vec<Entry>>>,
}

struct Entry {
    backend: Arc<Backend>,
    carrier: Carrier,
    accrual: Option<FailureAccrual>,
    service: Rc<Service>,
}

impl Services {
    pub(super) fn new(context: &Rc<Context>, target: &OutboundTarget, known: bool) -> Self {
        Self {
            context: Rc::clone(context),
            target: target.clone(),
            known,
            entries: RefCell::default(),
        }
    }

    /// The service of a backend, shared by everybody who comes to this destination.
    pub(super) fn find(&self, backend: &Arc<Backend>, carrier: Carrier) -> Result<Rc<Service>, ProxyError> {
        let accrual = self.accrual(carrier);
        let is_it = |entry: &&Entry| entry.is(backend, carrier, accrual.as_ref());
        let found = self.entries.borrow().get(&backend.object).and_then(|entries| {
            let entry = entries.iter().find(is_it)?;
            Some(Rc::clone(&entry.service))
        });
        if let Some(service) = found {
            return Ok(service);
        }
        let service = Rc::new(self.make(backend, carrier)?);
        self.insert(Entry {
            backend: Arc::clone(backend),
            carrier,
            accrual,
            service: Rc::clone(&service),
        });
        Ok(service)
    }

    /// A service of its own, for one client connection.
    pub(super) fn own(&self, backend: &Arc<Backend>, carrier: Carrier) -> Result<Rc<Service>, ProxyError> {
        self.make(backend, carrier).map(Rc::new)
    }

    /// Keeps the services of `old` that are the same now, and has the others begin to connect where their carrier is in use, so that the
    /// next request does not wait for it.
    pub(super) fn take_over(&self, old: &Self) {
        let same = self.known == old.known
            && self.target.name == old.target.name
            && self.target.parent() == old.target.parent();
        let in_use = old.carriers();
        for carrier in in_use {
            for backend in backends(&self.target.policy, carrier) {
                let kept = same
                    .then(|| old.entry(backend, carrier, self.accrual(carrier)))
                    .flatten();
                match kept {
                    Some(entry) => self.insert_once(entry),
                    // Nowhere to go is said to those who want to go there.
                    None => drop(self.find(backend, carrier)),
                }
            }
        }
    }

    fn carriers(&self) -> Vec<Carrier> {
        let mut carriers = Vec::new();
        for entry in self.entries.borrow().values().flatten() {
            if !carriers.contains(&entry.carrier) {
                carriers.push(entry.carrier);
            }
        }
        carriers
    }

    fn entry(&self, backend: &Arc<Backend>, carrier: Carrier, accrual: Option<FailureAccrual>) -> Option<Entry> {
        let entries = self.entries.borrow();
        let mut entries = entries.get(&backend.object)?.iter();
        let entry = entries.find(|entry| entry.is(backend, carrier, accrual.as_ref()))?;
        Some(Entry {
            backend: Arc::clone(backend),
            service: Rc::clone(&entry.service),
            ..*entry
        })
    }

    fn insert_once(&self, entry: Entry) {
        if self.entry(&entry.backend, entry.carrier, entry.accrual).is_none() {
            self.insert(entry);
        }
    }

    fn insert(&self, entry: Entry) {
        let mut entries = self.entries.borrow_mut();
        entries.entry(entry.backend.object.clone()).or_default().push(entry);
    }

    /// When endpoints sit out, as the policy says it for each version of HTTP.
    fn accrual(&self, carrier: Carrier) -> Option<FailureAccrual> {
        match carrier {
            Carrier::Streams | Carrier::OwnStreams => self.target.policy.http2.accrual,
            Carrier::AsHinted | Carrier::OwnConnections => self.target.policy.http1.accrual,
            Carrier::Connections => None,
        }
    }

    fn make(&self, backend: &Arc<Backend>, carrier: Carrier) -> Result<Service, ProxyError> {
        let Context {
            discovery, pool, shard, ..
        } = &*self.context;
        let options = |load| ServiceOptions {
            name: Arc::clone(&self.target.name),
            carrier,
            load,
            balancing: backend.balancing.clone(),
            accrual: self.accrual(carrier),
            queue: self.queue(backend, carrier),
            shard: shard.clone(),
            series: endpoint_series(&self.target, backend),
            metrics: self.balancer_metrics(backend, carrier),
        };
        Ok(match &backend.target {
            BackendTarget::Forward(endpoint) => Service::fixed(options(LoadEstimate::default()), pool, endpoint),
            BackendTarget::Balance { path, load } => Service::balanced(options(*load), pool, discovery.endpoints(path)),
            BackendTarget::Invalid { why } => {
                return Err(ProxyError::NoBackend {
                    service: self.target.name.to_string(),
                    why: Arc::clone(why),
                });
            }
        })
    }

    fn queue(&self, backend: &Backend, carrier: Carrier) -> Queue {
        let settings = &self.context.settings;
        let (capacity, failfast) = match carrier {
            Carrier::Connections => (settings.tcp_queue, settings.tcp_failfast),
            Carrier::Streams | Carrier::AsHinted | Carrier::OwnStreams | Carrier::OwnConnections => {
                (settings.http_queue, settings.http_failfast)
            }
        };
        Queue {
            // Linkerd's control plane says 100, and means a buffer in front of which its proxy lets further requests wait as well.
            capacity: backend.queue_capacity.unwrap_or_default().max(capacity),
            failfast: backend.failfast_timeout.unwrap_or(failfast),
            at_once: !self.known,
        }
    }

    fn balancer_metrics(&self, backend: &Backend, carrier: Carrier) -> BalancerMetrics {
        let mut labels = LabelSet::builder().object("parent_", self.target.parent());
        if let Some(object) = labelled(backend) {
            labels = labels.object("backend_", object);
        }
        let labels = labels.build();
        match carrier {
            Carrier::Connections => BalancerMetrics::tcp(&self.context.shard, &labels),
            _ => BalancerMetrics::http(&self.context.shard, &labels),
        }
    }
}

impl Entry {
    fn is(&self, backend: &Arc<Backend>, carrier: Carrier, accrual: Option<&FailureAccrual>) -> bool {
        self.carrier == carrier
            && self.accrual.as_ref() == accrual
            && (Arc::ptr_eq(&self.backend, backend) || self.backend == *backend)
    }
}

/// The backends that a carrier may be asked for.
fn backends(policy: &OutboundPolicy, carrier: Carrier) -> Vec<&Arc<Backend>> {
    let routes = match carrier {
        Carrier::Connections => {
            let rules = policy.opaque.iter().chain(&*policy.tls);
            return rules
                .flat_map(|rule| rule.backends.all())
                .map(|route| &route.backend)
                .collect();
        }
        Carrier::Streams | Carrier::OwnStreams => &policy.http2.routes,
        Carrier::AsHinted | Carrier::OwnConnections => &policy.http1.routes,
    };
    let actions = routes.rules().iter().map(|rule| &rule.action);
    let backends = actions.flat_map(|action| {
        let mirrors = action.mirrors.iter().map(|mirror| &mirror.backend);
        action.backends.all().map(|route| &route.backend).chain(mirrors)
    });
    backends.collect()
}

/// The object that stands behind a backend, where there is one.
pub(super) fn labelled(backend: &Backend) -> Option<&ObjectRef> {
    (!backend.object.is_default()).then_some(&backend.object)
}

fn endpoint_series(target: &OutboundTarget, backend: &Backend) -> EndpointSeries {
    let (target, backend) = (target.clone(), labelled(backend).cloned());
    let parent = Arc::new(target.parent().clone());
    Box::new(move |endpoint| {
        let tls = match &endpoint.identity {
            Some(identity) => Tls::Mutual(Some(&identity.id)),
            None => Tls::NotProvided,
        };
        let labels = outbound_labels(&target, backend.as_ref(), endpoint, tls);
        (labels, Key::to_endpoint(&parent, &target.name, endpoint))
    })
}
