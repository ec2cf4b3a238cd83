//! Endpoints computed once a snapshot, however many proxies ask for them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::endpoints::{self, Endpoints};
use crate::{config::MeshConfig, store::Snapshot};

/// Namespace, name and port of a service; and the pod, where only one of a headless service is meant.
pub(super) type ServicePort = (String, String, u16, Option<String>);

/// What was computed from one snapshot.
#[derive(Default)]
struct Computed {
    generation: u64,
    endpoints: HashMap<ServicePort, Option<Arc<Endpoints>>>,
    /// Of the snapshot before: what is equal stays the same value, so that streams see at a glance that nothing changed.
    before: HashMap<ServicePort, Option<Arc<Endpoints>>>,
}

/// Endpoints by service and port, shared by all streams.
#[derive(Default)]
pub(super) struct SharedEndpoints {
    computed: Mutex<Computed>,
}

impl SharedEndpoints {
    /// The endpoints of a service's port; `None` where there is no such service.
    pub(super) fn find(&self, snapshot: &Snapshot, config: &MeshConfig, key: &ServicePort) -> Option<Arc<Endpoints>> {
        let (namespace, name, port, pod) = key;
        let compute = || {
            let service = snapshot.find_service(namespace, name)?;
            Some(Arc::new(match pod {
                None => endpoints::of_service(snapshot, config, service, *port),
                Some(pod) => endpoints::of_host(snapshot, config, service, *port, pod)?,
            }))
        };
        let mut computed = self.computed.lock();
        if snapshot.generation() < computed.generation {
            // A stream that has not seen the newest snapshot yet will in a moment.
            drop(computed);
            return compute();
        }
        if snapshot.generation() > computed.generation {
            computed.generation = snapshot.generation();
            computed.before = std::mem::take(&mut computed.endpoints);
        }
        if let Some(known) = computed.endpoints.get(key) {
            return known.clone();
        }
        let new = compute();
        let new = match computed.before.remove(key) {
            Some(before) if before == new => before,
            _ => new,
        };
        computed.endpoints.insert(key.clone(), new.clone());
        new
    }
}
