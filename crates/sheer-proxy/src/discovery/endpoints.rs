//! Folds the updates of `Destination.Get` into whole sets.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use sheer_api::linkerd::destination::{Update, update};

use sheer_policy::wire as convert;

use super::{Endpoint, EndpointSet};

/// What the updates of one stream add up to.
#[derive(Debug, Default)]
pub(super) struct Fold {
    endpoints: BTreeMap<SocketAddr, Arc<Endpoint>>,
    exists: bool,
}

impl Fold {
    /// Applies one update. `false` where nothing changed.
    pub(super) fn apply(&mut self, update: Update) -> bool {
        match update.update {
            Some(update::Update::Add(set)) => {
                let mut changed = !self.exists;
                self.exists = true;
                for addr in set.addrs {
                    let Some(endpoint) = convert::endpoint(addr, &set.metric_labels) else {
                        tracing::debug!("an endpoint without a valid address was left out");
                        continue;
                    };
                    changed |= self.insert(endpoint);
                }
                changed
            }
            Some(update::Update::Remove(set)) => {
                let addrs = set.addrs.into_iter().filter_map(convert::address);
                addrs.filter(|addr| self.endpoints.remove(addr).is_some()).count() > 0
            }
            Some(update::Update::NoEndpoints(none)) => {
                let changed = self.exists != none.exists || !self.endpoints.is_empty();
                self.exists = none.exists;
                self.endpoints.clear();
                changed
            }
            None => false,
        }
    }

    /// Begins anew with the first update of another stream. Endpoints that are still the same keep their `Arc`, so that workers see no
    /// change in them. `false` where the sets are the same.
    pub(super) fn restart(&mut self, update: Update) -> bool {
        let old = std::mem::take(self);
        self.apply(update);
        let mut same = self.exists == old.exists && self.endpoints.len() == old.endpoints.len();
        for (addr, endpoint) in &mut self.endpoints {
            match old.endpoints.get(addr) {
                Some(before) if equal(before, endpoint) => *endpoint = Arc::clone(before),
                _ => same = false,
            }
        }
        !same
    }

    /// The set now.
    pub(super) fn set(&self) -> EndpointSet {
        EndpointSet {
            endpoints: self.endpoints.values().cloned().collect(),
            exists: self.exists,
        }
    }

    fn insert(&mut self, endpoint: Endpoint) -> bool {
        if self
            .endpoints
            .get(&endpoint.addr)
            .is_some_and(|before| equal(before, &endpoint))
        {
            return false;
        }
        self.endpoints.insert(endpoint.addr, Arc::new(endpoint));
        true
    }
}

fn equal(a: &Endpoint, b: &Endpoint) -> bool {
    a.addr == b.addr
        && a.weight.to_bits() == b.weight.to_bits()
        && a.identity == b.identity
        && a.hint == b.hint
        && a.transport_port == b.transport_port
        && a.authority_override == b.authority_override
        && a.labels == b.labels
}

#[cfg(test)]
mod tests {
    use sheer_api::linkerd::destination::{AddrSet, NoEndpoints, WeightedAddr, WeightedAddrSet};

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 1], port))
    }

    fn add(ports: &[u16]) -> Update {
        let of = |port: &u16| WeightedAddr {
            addr: Some(addr(*port).into()),
            weight: 10_000,
            ..Default::default()
        };
        let set = WeightedAddrSet {
            addrs: ports.iter().map(of).collect(),
            ..Default::default()
        };
        Update {
            update: Some(update::Update::Add(set)),
        }
    }

    fn remove(ports: &[u16]) -> Update {
        let addrs = ports.iter().map(|port| addr(*port).into()).collect();
        Update {
            update: Some(update::Update::Remove(AddrSet { addrs })),
        }
    }

    fn none(exists: bool) -> Update {
        Update {
            update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
        }
    }

    fn ports(fold: &Fold) -> Vec<u16> {
        fold.set()
            .endpoints
            .iter()
            .map(|endpoint| endpoint.addr.port())
            .collect()
    }

    #[test]
    fn updates_add_up_sorted() {
        let mut fold = Fold::default();
        assert!(fold.apply(add(&[3, 1])));
        assert!(fold.apply(add(&[2, 1])));
        assert_eq!(ports(&fold), [1, 2, 3]);
        assert!(fold.apply(remove(&[3, 9])));
        assert!(!fold.apply(remove(&[3])));
        assert_eq!(ports(&fold), [1, 2]);
        assert!(fold.set().exists);
        assert!(fold.apply(none(true)));
        assert!(fold.set().exists && fold.set().endpoints.is_empty());
        assert!(fold.apply(none(false)));
        assert!(!fold.set().exists);
        assert!(!fold.apply(none(false)));
    }

    /// Nothing may change for a worker when only the stream was lost.
    #[test]
    fn new_stream_with_the_same_set_is_no_change() {
        let mut fold = Fold::default();
        fold.apply(add(&[1, 2]));
        let before = fold.set();
        assert!(!fold.restart(add(&[2, 1])));
        assert!(Arc::ptr_eq(&before.endpoints[0], &fold.set().endpoints[0]));
        assert!(fold.restart(add(&[2])));
        assert_eq!(ports(&fold), [2]);
        assert!(Arc::ptr_eq(&before.endpoints[1], &fold.set().endpoints[0]));
        assert!(fold.restart(none(true)));
    }

    #[test]
    fn hostile_updates_change_nothing() {
        let mut fold = Fold::default();
        assert!(!fold.apply(Update { update: None }));
        let set = WeightedAddrSet {
            addrs: vec![WeightedAddr::default()],
            ..Default::default()
        };
        fold.apply(Update {
            update: Some(update::Update::Add(set)),
        });
        assert!(fold.set().endpoints.is_empty());
    }
}
