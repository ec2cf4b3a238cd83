//! Services as they stand, for whoever looks at the proxy from outside. Never on the path of a request.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use super::{Inner, Member, Node, now, why_not};
use crate::{discovery::Endpoint, pool::Pool};

/// The services of a worker.
#[derive(Default)]
pub(in crate::pool) struct Services(RefCell<Vec<Weak<Inner>>>);

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Services").field(&self.0.borrow().len()).finish()
    }
}

/// A service as it stands on one worker.
#[derive(Clone, Debug)]
pub(crate) struct ServiceView {
    /// Its name, as `ledger.bank.svc.cluster.local:8080`.
    pub(crate) name: Arc<str>,
    /// Requests that wait.
    pub(crate) waiting: usize,
    /// Its endpoints, by address.
    pub(crate) endpoints: Vec<EndpointView>,
}

/// An endpoint as it stands on one worker.
#[derive(Clone, Debug)]
pub(crate) struct EndpointView {
    /// What discovery says.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whether it may be chosen.
    pub(crate) ready: bool,
    /// `closed`, `open` (sits out) or `probation`.
    pub(crate) breaker: &'static str,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Peak EWMA now; none where it was never measured.
    pub(crate) rtt: Option<Duration>,
    /// Requests under way.
    pub(crate) pending: u32,
    /// Why it is not ready; empty where it is.
    pub(crate) why: String,
}

impl Services {
    /// A new service is rare enough to clear away those that are gone.
    pub(super) fn add(&self, service: &Rc<Inner>) {
        let mut services = self.0.borrow_mut();
        services.retain(|service| service.strong_count() > 0);
        services.push(Rc::downgrade(service));
    }
}

impl Pool {
    /// Every service as it stands.
    pub(crate) fn views(&self) -> Vec<ServiceView> {
        let services = self.services.0.borrow();
        services
            .iter()
            .filter_map(Weak::upgrade)
            .map(|service| view(&service))
            .collect()
    }
}

fn view(service: &Inner) -> ServiceView {
    let balancer = service.balancer.borrow();
    ServiceView {
        name: Arc::clone(&service.options.name),
        waiting: service.waiting.borrow().len(),
        endpoints: balancer.nodes().iter().map(|node| endpoint(node)).collect(),
    }
}

fn endpoint(node: &Node<Member>) -> EndpointView {
    let (up, out) = (node.value.is_up(), node.sits_out());
    let breaker = match (out, node.on_probation()) {
        (true, _) => "open",
        (false, true) => "probation",
        (false, false) => "closed",
    };
    let why = match (up, out, node.why_out()) {
        (false, _, _) => why_not(node),
        (true, true, Some(why)) => format!("sits out after {why}"),
        (true, _, _) => String::new(),
    };
    EndpointView {
        endpoint: Arc::clone(&node.endpoint),
        ready: up && !out,
        breaker,
        failures: node.failures(),
        rtt: node.rtt(now()),
        pending: node.pending(),
        why,
    }
}
