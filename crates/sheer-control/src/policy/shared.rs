//! Outbound policies compiled once a snapshot, and encoded once, however many proxies ask for them.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;

use super::{
    outbound::{self, Compiled},
    watch::Encoded,
};
use crate::{
    config::MeshConfig,
    objects::{Pod, Service},
    routes::ParentKey,
    store::Snapshot,
    target::{Found, Target},
};

/// What is compiled once: a destination, and the namespace of the clients where they are told different things.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Service(String, String, u16, Option<String>),
    Egress(String, String, SocketAddr, Option<String>),
    External(SocketAddr),
}

/// A compiled policy, and its encodings: all messages are of one snapshot.
#[derive(Debug)]
pub(super) struct Shared {
    /// The messages.
    pub(super) compiled: Compiled,
    /// The policy as it is sent.
    pub(super) encoded: Arc<Encoded>,
    /// The extras as they are sent to clients of a zone.
    extras: Mutex<HashMap<Option<String>, Arc<Encoded>>>,
}

impl Shared {
    fn new(compiled: Compiled) -> Self {
        Self {
            encoded: Arc::new(Encoded::new(&compiled.policy)),
            extras: Mutex::default(),
            compiled,
        }
    }

    /// The extras for a client: one message for all, unless a backend prefers the client's zone.
    pub(super) fn extras(&self, client: Option<&Pod>) -> Arc<Encoded> {
        let said = &self.compiled.extras;
        let is_local = said.backends.iter().any(|backend| backend.locality.is_some());
        let zone = client.filter(|_| is_local).and_then(Pod::zone);
        let encode = || Arc::new(Encoded::new(&outbound::in_zone(said, client)));
        let mut known = self.extras.lock();
        Arc::clone(known.entry(zone.map(str::to_owned)).or_insert_with(encode))
    }
}

#[derive(Default)]
struct Computed {
    generation: u64,
    policies: HashMap<Key, Arc<Shared>>,
    /// Of the snapshot before: what is equal stays the same value, so that streams see at a glance that nothing changed.
    before: HashMap<Key, Arc<Shared>>,
}

/// Outbound policies by destination, shared by all streams.
#[derive(Default)]
pub(super) struct SharedPolicies {
    computed: Mutex<Computed>,
}

impl SharedPolicies {
    /// The policy of a destination for the clients of a namespace; `None` where proxies forward as it is (as Linkerd: a pod, an address of the
    /// cluster that nobody has).
    pub(super) fn find(
        &self,
        snapshot: &Snapshot,
        config: &MeshConfig,
        target: &Target,
        client: &str,
    ) -> Option<Arc<Shared>> {
        let routes = snapshot.routes();
        let of_client = |parent: &ParentKey| routes.differs_by_client(parent).then(|| client.to_owned());
        match (target.find(snapshot), target) {
            (Found::Service(service, port), _) => {
                let Service { metadata, .. } = &**service;
                let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
                let differs = of_client(&ParentKey::service(&namespace, &name));
                // Clients that are told the same are told what the Service's own namespace is.
                let client = differs.clone().unwrap_or_else(|| namespace.clone());
                let key = Key::Service(namespace, name, port, differs);
                let compile = || outbound::of_service(snapshot, config, service, port, &client);
                Some(self.share(snapshot, key, compile))
            }
            (Found::Pod(..), _) | (Found::Nothing, Target::Service { .. } | Target::Pod { .. }) => None,
            (Found::Nothing, Target::Address(address)) => {
                let address = *address;
                if let Some(network) = outbound::find_egress(snapshot, config, address, client) {
                    let parent = ParentKey::egress(network);
                    let differs = of_client(&parent);
                    let client = differs.clone().unwrap_or_else(|| parent.namespace.clone());
                    let key = Key::Egress(parent.namespace, parent.name, address, differs);
                    let compile = || outbound::of_egress(snapshot, config, network, address, &client);
                    return Some(self.share(snapshot, key, compile));
                }
                (!outbound::is_of_cluster(config, address))
                    .then(|| self.share(snapshot, Key::External(address), || outbound::fallback(address)))
            }
        }
    }

    fn share(&self, snapshot: &Snapshot, key: Key, compile: impl FnOnce() -> Compiled) -> Arc<Shared> {
        let new = |compiled: Compiled| Arc::new(Shared::new(compiled));
        let mut computed = self.computed.lock();
        if snapshot.generation() < computed.generation {
            // A stream that has not seen the newest snapshot yet will in a moment.
            drop(computed);
            return new(compile());
        }
        if snapshot.generation() > computed.generation {
            computed.generation = snapshot.generation();
            computed.before = std::mem::take(&mut computed.policies);
        }
        if let Some(known) = computed.policies.get(&key) {
            return known.clone();
        }
        let compiled = compile();
        let shared = match computed.before.remove(&key) {
            Some(before) if before.compiled == compiled => before,
            _ => new(compiled),
        };
        computed.policies.insert(key, shared.clone());
        shared
    }
}
