//! What nobody may look at: pods with `sheer.dev/sight: disabled` at themselves, at what made them or at their namespace, and every place that leads to them.
//!
//! A request is judged by where it goes as well as by where it arrived: its head is known before an endpoint is, and what a proxy refuses or answers
//! itself never has one. A Service is hidden where any pod behind it is, or would be if it ran. Pure: made of one snapshot.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use sheer_api::v1;

use crate::{
    objects::{Labels, Object, Pod, annotation},
    routes::Route,
    store::Snapshot,
};

/// The places that are hidden in one state of the mesh.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    generation: u64,
    ips: HashSet<IpAddr>,
    /// Of pods that run, hidden or not.
    known: HashSet<IpAddr>,
    /// As `namespace/name`.
    pods: HashSet<String>,
    services: HashSet<String>,
    /// Services that are not hidden, with a rule that sends elsewhere, to one that is.
    doubtful: HashSet<String>,
    doubtful_ips: HashSet<IpAddr>,
    /// Fields whose values are replaced by a hash, of headers and of bodies: what one workload hides, no proxy shows.
    redacted: [BTreeSet<String>; 2],
}

/// Where a request goes, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Shown,
    /// Its endpoint decides.
    Unknown,
    Hidden,
}

/// Whether nobody may look at a pod's traffic. Any of the three places is enough: what one hides no other shows.
pub(crate) fn is_hidden(snapshot: &Snapshot, pod: &Pod) -> bool {
    let owner = snapshot.owner_of(pod);
    says(&pod.metadata.annotations)
        || is_namespace(snapshot, &pod.metadata.namespace)
        || owner.is_some_and(|(kind, name)| {
            snapshot.written().iter().any(|manifest| {
                let id = manifest.object.id();
                id.kind == *kind
                    && id.name == *name
                    && id.namespace == pod.metadata.namespace
                    && says(&manifest.object.metadata().annotations)
            })
        })
}

fn says(annotations: &Labels) -> bool {
    annotation(annotations, "", "sight") == Some("disabled")
}

fn is_namespace(snapshot: &Snapshot, name: &str) -> bool {
    let namespace = snapshot.find_namespace(name);
    namespace.is_some_and(|namespace| says(&namespace.metadata.annotations))
}

impl Hidden {
    /// All of them.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut hidden = Self {
            generation: snapshot.generation(),
            redacted: ["redact-headers", "redact-fields"].map(|name| redacted(snapshot, name)),
            known: snapshot.pods().flat_map(|pod| pod.addresses()).collect(),
            ..Self::default()
        };
        for pod in snapshot.pods().filter(|pod| is_hidden(snapshot, pod)) {
            hidden.ips.extend(pod.addresses());
            hidden.pods.insert(key(&pod.metadata.namespace, &pod.metadata.name));
        }
        let would_be = templates(snapshot);
        for service in snapshot.services() {
            let namespace = &service.metadata.namespace;
            let selector = &service.spec.selector;
            let selects = |(of, labels): &(&str, &Labels)| {
                of == namespace
                    && !selector.is_empty()
                    && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            let behind = snapshot.pods_of(service);
            if is_namespace(snapshot, namespace)
                || behind
                    .iter()
                    .any(|pod| hidden.has_pod(&pod.metadata.namespace, &pod.metadata.name))
                || would_be.iter().any(selects)
            {
                hidden.ips.extend(service.addresses());
                hidden.services.insert(key(namespace, &service.metadata.name));
            }
        }
        hidden.doubt(snapshot);
        hidden
    }

    /// Services whose routes lead to hidden ones.
    fn doubt(&mut self, snapshot: &Snapshot) {
        for route in snapshot.routes().all() {
            let own = &route.metadata().namespace;
            let leads = backends(route)
                .into_iter()
                .any(|(namespace, name)| self.services.contains(&key(namespace.unwrap_or(own), name)));
            if !leads {
                continue;
            }
            for parent in route.parents() {
                let namespace = parent.namespace.as_ref().unwrap_or(own);
                let found = snapshot.find_service(namespace, &parent.name);
                if let Some(service) = found.filter(|_| parent.kind == "Service") {
                    self.doubtful_ips.extend(service.addresses());
                    self.doubtful.insert(key(namespace, &parent.name));
                }
            }
        }
    }

    /// Names of header fields, and of fields of bodies, whose values are replaced by a hash.
    pub(super) fn redacted(&self) -> [Vec<String>; 2] {
        [0, 1].map(|of| self.redacted[of].iter().cloned().collect())
    }

    /// Whether there is nothing to hide.
    pub(super) fn is_nothing(&self) -> bool {
        self.ips.is_empty() && self.services.is_empty()
    }

    /// Every address that is hidden.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().copied()
    }

    /// Whether it is a hidden pod's name.
    pub(crate) fn has_pod(&self, namespace: &str, name: &str) -> bool {
        self.pods.contains(&key(namespace, name))
    }

    /// Whether an address, with or without a port, is of a pod or Service that is hidden.
    pub(crate) fn is_at(&self, address: &str) -> bool {
        ip_of(address).is_some_and(|ip| self.ips.contains(&ip))
    }

    /// Whether a name, as `ledger.bank.svc.cluster.local:8080`, is of a Service that is hidden.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        service_of(name).is_some_and(|name| self.services.contains(&name)) || self.is_at(name)
    }

    /// What can be said of a request: by its legs, and by what it was sent to. Where nothing tells (its connections are forgotten) it is hidden.
    pub(super) fn judge(&self, exchange: &v1::Exchange, called: &str, endpoint: &str) -> Verdict {
        if self.is_nothing() {
            return Verdict::Shown;
        }
        let is_hidden = |leg: &v1::Leg| self.is_at(&leg.remote) || self.is_at(&leg.original);
        let legs = [&exchange.client, &exchange.upstream];
        if legs.into_iter().flatten().any(is_hidden) || self.is_called(called) || self.is_at(endpoint) {
            return Verdict::Hidden;
        }
        let says = |leg: &Option<v1::Leg>| {
            leg.as_ref()
                .is_some_and(|leg| !leg.remote.is_empty() || !leg.original.is_empty())
        };
        let [client, upstream] = legs.map(says);
        let is_told = if exchange.direction == "outbound" {
            let is_original = exchange.client.as_ref().is_some_and(|leg| !leg.original.is_empty());
            is_original || upstream || !called.is_empty() || !endpoint.is_empty()
        } else {
            client
        };
        if !is_told {
            return Verdict::Hidden;
        }
        let is_open = exchange.direction == "outbound" && exchange.upstream.is_none() && endpoint.is_empty();
        let is_doubtful = |address: &str| ip_of(address).is_some_and(|ip| self.doubtful_ips.contains(&ip));
        let original = exchange.client.as_ref().map_or("", |leg| &leg.original);
        let leads = service_of(called).is_some_and(|name| self.doubtful.contains(&name)) || is_doubtful(original);
        if is_open && leads {
            Verdict::Unknown
        } else {
            Verdict::Shown
        }
    }

    /// Whether a request that is over is hidden.
    pub(super) fn hides(&self, exchange: &v1::Exchange, called: &str, endpoint: &str) -> bool {
        self.judge(exchange, called, endpoint) != Verdict::Shown
    }

    /// Whether requests of a caller are hidden. A sidecar that is gone may have been anybody's.
    pub(super) fn hides_caller(&self, caller: &v1::Caller) -> bool {
        self.is_at(&caller.address) || (caller.mesh && !self.is_nothing() && !self.is_known(&caller.address))
    }

    /// Whether nobody may see which requests these are that the proxy of a pod counted. Where they went may not be known.
    pub(crate) fn hides_path(&self, (namespace, pod): (&str, &str), path: &v1::PathDelta) -> bool {
        if self.is_nothing() {
            return false;
        }
        let service = path.target.as_ref().map(|target| key(&target.namespace, &target.name));
        let is_service = |of: &HashSet<String>| service.as_ref().is_some_and(|service| of.contains(service));
        let is_peer = |peer: &v1::Peer| {
            let is_gone = peer.tls() == v1::Tls::Mutual && !self.is_known(&peer.address);
            is_gone
                || self.is_at(&peer.address)
                || self.has_pod(&peer.namespace, &peer.pod)
                || self.is_called(&peer.host)
        };
        self.has_pod(namespace, pod)
            || is_service(&self.services)
            || self.is_called(&path.authority)
            || path.peer.as_ref().map_or_else(|| is_service(&self.doubtful), is_peer)
    }

    /// Whether nobody may see which request it is that the proxy of a pod noted. Its endpoint is not known.
    pub(super) fn hides_sample(&self, (namespace, pod): (&str, &str), sample: &v1::TrafficSample) -> bool {
        let caller = v1::Caller {
            address: sample.client_address.clone(),
            mesh: !sample.client_identity.is_empty(),
        };
        let is_other = if sample.direction == "inbound" {
            self.hides_caller(&caller)
        } else {
            let ip = ip_of(&sample.address);
            self.is_at(&sample.address) || ip.is_some_and(|ip| self.doubtful_ips.contains(&ip))
        };
        is_other || self.has_pod(namespace, pod)
    }

    /// Whether a pod that runs has an address.
    fn is_known(&self, address: &str) -> bool {
        ip_of(address).is_some_and(|ip| self.known.contains(&ip))
    }

    /// Whether a connection is hidden. An application's own goes where it was going before it was redirected; one with a sidecar that is gone may have been
    /// anybody's.
    pub(super) fn hides_connection(&self, connection: &v1::Connection) -> bool {
        if connection.peer == "mesh" && !self.is_nothing() && !self.is_known(&connection.remote) {
            return true;
        }
        if connection.direction == "inbound" {
            return self.is_at(&connection.remote);
        }
        self.is_at(&connection.remote) || self.is_at(&connection.original) || self.is_called(&connection.name)
    }
}

/// The places of the latest state, made once for each.
#[derive(Debug, Default)]
pub(crate) struct Latest(Mutex<Arc<Hidden>>);

impl Latest {
    pub(crate) fn of(&self, snapshot: &Snapshot) -> Arc<Hidden> {
        let mut latest = self.0.lock();
        if latest.generation != snapshot.generation() {
            let mut hidden = Hidden::of(snapshot);
            // Of pods that are gone there are recordings still, and numbers.
            let gone = latest.ips.difference(&hidden.known);
            let gone: Vec<_> = gone
                .filter(|ip| snapshot.find_service_at(**ip).is_none())
                .copied()
                .collect();
            hidden.ips.extend(gone);
            let is_gone = |name: &str| {
                name.split_once('/')
                    .is_none_or(|(of, pod)| snapshot.find_pod(of, pod).is_none())
            };
            let gone = latest.pods.iter().filter(|name| is_gone(name));
            hidden.pods.extend(gone.cloned());
            *latest = Arc::new(hidden);
        }
        Arc::clone(&latest)
    }
}

/// All names that an annotation has anywhere in the mesh.
fn redacted(snapshot: &Snapshot, name: &str) -> BTreeSet<String> {
    let written = snapshot.written().iter().flat_map(|manifest| {
        let template = match &manifest.object {
            Object::Deployment(one) => Some(&one.spec.template.metadata.annotations),
            Object::StatefulSet(one) => Some(&one.spec.template.metadata.annotations),
            _ => None,
        };
        [Some(&manifest.object.metadata().annotations), template]
            .into_iter()
            .flatten()
    });
    let all = written.chain(snapshot.pods().map(|pod| &pod.metadata.annotations));
    let names = all.filter_map(|annotations| annotation(annotations, "", name));
    let names = names.flat_map(|names| names.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Labels of pods that are hidden when they run, with their namespaces.
fn templates(snapshot: &Snapshot) -> Vec<(&str, &Labels)> {
    let mut all = Vec::new();
    for manifest in snapshot.written() {
        let spec = match &manifest.object {
            Object::Deployment(one) => &one.spec,
            Object::StatefulSet(one) => &one.spec,
            _ => continue,
        };
        let metadata = manifest.object.metadata();
        if says(&metadata.annotations) || says(&spec.template.metadata.annotations) {
            all.push((metadata.namespace.as_str(), &spec.template.metadata.labels));
        }
    }
    all
}

/// Namespace, where one is written, and name of what a route sends to.
fn backends(route: &Route) -> Vec<(Option<&String>, &str)> {
    match route {
        Route::Http(_, route) => {
            let all = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            all.map(|one| (one.namespace.as_ref(), one.name.as_str())).collect()
        }
        Route::Grpc(route) => {
            let all = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            all.map(|one| (one.namespace.as_ref(), one.name.as_str())).collect()
        }
        Route::Tls(route) => {
            let all = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            all.map(|one| (one.namespace.as_ref(), one.name.as_str())).collect()
        }
        Route::Tcp(route) => {
            let all = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            all.map(|one| (one.namespace.as_ref(), one.name.as_str())).collect()
        }
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn ip_of(address: &str) -> Option<IpAddr> {
    let ip = address.parse::<SocketAddr>().map(|address| address.ip());
    ip.or_else(|_| address.parse()).ok()
}

/// `bank/ledger` of `ledger.bank.svc.cluster.local:8080`, of `ledger-0.ledger.bank.svc…`, and of `ledger.bank:8080`.
fn service_of(name: &str) -> Option<String> {
    let host = name
        .rsplit_once(':')
        .map_or(name, |(host, _)| host)
        .to_ascii_lowercase();
    let host = host.split_once(".svc").map_or(host.as_str(), |(host, _)| host);
    let mut words = host.rsplit('.');
    let (namespace, name) = (words.next()?, words.next()?);
    Some(key(namespace, name))
}

#[cfg(test)]
pub(super) mod tests;
