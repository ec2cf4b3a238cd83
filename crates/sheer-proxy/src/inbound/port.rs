//! One port of the workload on one worker: its policy, the application behind it, and who is told what happens there.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use tokio::sync::watch;

use super::{Inbound, app::App, observe::Observers, policy::Client};
use crate::{
    discovery::{InboundPolicy, Lookup},
    error::ProxyError,
    metrics::Shard,
};

/// How long the first answer about a port is waited for; discovery itself gives the default policy before that.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// A port that nobody used for one to two of these is forgotten, with the connections to the application that it kept.
const IDLE: Duration = Duration::from_secs(10);

/// The ports in use on one worker.
pub(super) type Ports = AHashMap<SocketAddr, Rc<Port>>;

/// One port of the workload.
pub(super) struct Port {
    pub(super) app: App,
    policy: watch::Receiver<Lookup<InboundPolicy>>,
    /// The policy that was in force last, should discovery forget it.
    last: RefCell<Arc<InboundPolicy>>,
    shard: Shard,
    observers: RefCell<Known>,
    /// Found unused by the last sweep.
    idle: Cell<bool>,
}

/// Observers made under one policy, by client identity and state of TLS.
struct Known {
    policy: Arc<InboundPolicy>,
    by_client: AHashMap<(Option<Arc<str>>, u8), Rc<Observers>>,
}

impl Inbound {
    /// The port that listens on `addr`, once its policy is known.
    pub(super) async fn port(&self, addr: SocketAddr) -> Result<Rc<Port>, ProxyError> {
        if let Some(port) = self.ports.borrow().get(&addr) {
            port.idle.set(false);
            return Ok(Rc::clone(port));
        }
        let mut policy = self.discovery.inbound(addr.port());
        let unknown = || ProxyError::PolicyUnknown { port: addr.port() };
        let first = tokio::time::timeout(FIRST_ANSWER, policy.wait_for(|said| !matches!(said, Lookup::Pending))).await;
        let first = match &*first.map_err(|_| unknown())?.map_err(|_| unknown())? {
            Lookup::Known(first) => Arc::clone(first),
            Lookup::Pending | Lookup::Unknown => return Err(unknown()),
        };
        let port = Rc::new(Port {
            app: App::new(
                addr,
                Arc::clone(&self.settings),
                Rc::clone(&self.frames[1]),
                self.recorder.clone(),
            ),
            policy,
            last: RefCell::new(Arc::clone(&first)),
            shard: self.shard.clone(),
            observers: RefCell::new(Known {
                policy: first,
                by_client: AHashMap::new(),
            }),
            idle: Cell::new(false),
        });
        let mut ports = self.ports.borrow_mut();
        if ports.is_empty() {
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.ports)));
        }
        ports.insert(addr, Rc::clone(&port));
        Ok(port)
    }
}

/// Forgets idle ports, until there are none left (or no worker).
async fn sweep(ports: Weak<RefCell<Ports>>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(ports) = ports.upgrade() else { return };
        let mut ports = ports.borrow_mut();
        ports.retain(|_, port| {
            let used = Rc::strong_count(port) > 1;
            used || !port.idle.replace(true)
        });
        if ports.is_empty() {
            return;
        }
    }
}

impl Port {
    /// The policy in force.
    pub(super) fn policy(&self) -> Arc<InboundPolicy> {
        if let Lookup::Known(policy) = &*self.policy.borrow() {
            if !Arc::ptr_eq(policy, &self.last.borrow()) {
                *self.last.borrow_mut() = Arc::clone(policy);
            }
            return Arc::clone(policy);
        }
        Arc::clone(&self.last.borrow())
    }

    /// A receiver of its own, to see changes.
    pub(super) fn watch(&self) -> watch::Receiver<Lookup<InboundPolicy>> {
        self.policy.clone()
    }

    /// Returns once a change of policy takes from a client what lets it in. One that is not let in at first is not waited for until it is.
    pub(super) async fn revoked(&self, at_first: bool, allowed: impl Fn(&InboundPolicy) -> bool) {
        let mut changes = self.watch();
        let mut was_allowed = at_first;
        loop {
            let is_allowed = allowed(&self.policy());
            if was_allowed && !is_allowed {
                return;
            }
            was_allowed = is_allowed;
            if changes.changed().await.is_err() {
                // Discovery is gone, as it is at the end of the process: the last policy stays.
                return std::future::pending().await;
            }
        }
    }

    /// Who is told about this client. Made once for each identity, as long as the policy stays.
    pub(super) fn observers(&self, client: &Client) -> Rc<Observers> {
        let policy = self.policy();
        let mut known = self.observers.borrow_mut();
        if !Arc::ptr_eq(&known.policy, &policy) {
            *known = Known {
                policy: Arc::clone(&policy),
                by_client: AHashMap::new(),
            };
        }
        let key = (client.identity().cloned(), client.tls.kind());
        let made = known
            .by_client
            .entry(key)
            .or_insert_with(|| Rc::new(Observers::new(&self.shard, self.app.addr(), policy, client)));
        Rc::clone(made)
    }
}
