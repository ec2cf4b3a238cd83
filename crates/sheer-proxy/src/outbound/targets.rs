//! What is known of each original destination, on one worker: asked of discovery once, followed while it is used, forgotten
//! some seconds after.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use sheer_policy::outbound::{Balancing, LoadEstimate};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::observe::NoEndpoint;
use crate::{
    addr::OrigDst,
    discovery::{Backend, Discovery, Endpoint, Hint, Labels, Lookup, ObjectRef, OutboundTarget, ProtocolPlan},
    error::{Direction, ProxyError},
    exchange::Sink,
    metrics::{
        BalancerMetrics, LabelSet, Peer, Shard, TcpMetrics, TcpOpen, Tls, labels_of, outbound_labels, target_labels,
    },
    pool::{Carrier, Pool, Queue, Service, ServiceOptions},
    settings,
};

/// The destinations of one worker.
pub(super) struct Targets {
    context: Rc<Context>,
    targets: RefCell<AHashMap<OrigDst, Rc<Target>>>,
}

/// What every target is made with.
struct Context {
    discovery: Arc<dyn Discovery>,
    pool: Rc<Pool>,
    shard: Shard,
    settings: settings::Outbound,
}

/// One original destination.
pub(super) struct Target {
    dst: OrigDst,
    context: Rc<Context>,
    answers: watch::Receiver<Lookup<OutboundTarget>>,
    resolution: RefCell<Rc<Resolution>>,
    last_used: Cell<Instant>,
    follow: OnceCell<AbortHandle>,
    accepted: OnceCell<TcpMetrics>,
}

/// What is known of a destination now.
pub(super) struct Resolution {
    /// What discovery says, or made up for a destination that it does not know.
    pub(super) target: OutboundTarget,
    /// Whether the mesh knows the destination.
    pub(super) known: bool,
    context: Rc<Context>,
    no_endpoint: Rc<NoEndpoint>,
    streams: OnceCell<Rc<Service>>,
    http1: OnceCell<Rc<Service>>,
    connections: OnceCell<Rc<Service>>,
}

impl Targets {
    pub(super) fn new(
        discovery: Arc<dyn Discovery>,
        pool: Rc<Pool>,
        shard: Shard,
        settings: &settings::Outbound,
    ) -> Rc<Self> {
        let context = Rc::new(Context {
            discovery,
            pool,
            shard,
            settings: settings.clone(),
        });
        let targets = Rc::new(Self {
            context,
            targets: RefCell::default(),
        });
        let (weak, idle) = (Rc::downgrade(&targets), settings.discovery_idle);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(idle.max(Duration::from_secs(1)) / 2).await;
                let Some(targets) = weak.upgrade() else { return };
                targets.forget_idle(idle);
            }
        });
        targets
    }

    /// What is known of a destination; discovery is asked where nothing is.
    pub(super) fn find(&self, dst: OrigDst) -> Rc<Target> {
        let mut targets = self.targets.borrow_mut();
        let target = targets.entry(dst).or_insert_with(|| Target::new(dst, &self.context));
        target.last_used.set(Instant::now());
        Rc::clone(target)
    }

    fn forget_idle(&self, idle: Duration) {
        let now = Instant::now();
        self.targets.borrow_mut().retain(|_, target| {
            if Rc::strong_count(target) > 1 {
                target.last_used.set(now);
            }
            now < target.last_used.get() + idle
        });
    }
}

impl Target {
    fn new(dst: OrigDst, context: &Rc<Context>) -> Rc<Self> {
        let mut answers = context.discovery.outbound(dst);
        let resolution = Resolution::new(&answers.borrow_and_update(), dst, context);
        let target = Rc::new(Self {
            dst,
            context: Rc::clone(context),
            answers: answers.clone(),
            resolution: RefCell::new(Rc::new(resolution)),
            last_used: Cell::new(Instant::now()),
            follow: OnceCell::new(),
            accepted: OnceCell::new(),
        });
        let weak = Rc::downgrade(&target);
        let follow = tokio::task::spawn_local(async move {
            while answers.changed().await.is_ok() {
                let lookup = answers.borrow_and_update().clone();
                let Some(target) = weak.upgrade() else { return };
                target.update(&lookup);
            }
        });
        let _ = target.follow.set(follow.abort_handle());
        target
    }

    /// The original destination.
    pub(super) fn dst(&self) -> OrigDst {
        self.dst
    }

    /// Counts a connection that the workload opened, until dropped.
    pub(super) fn accepted(&self) -> TcpOpen {
        let context = &self.context;
        self.accepted
            .get_or_init(|| TcpMetrics::new(&context.shard, &accepted_labels(self.dst)))
            .open()
    }

    /// What is known now.
    pub(super) fn resolution(&self) -> Rc<Resolution> {
        Rc::clone(&self.resolution.borrow())
    }

    /// Waits for the first answer, for a while: traffic must flow, also where the control plane does not answer.
    pub(super) async fn resolved(&self) {
        if !matches!(*self.answers.borrow(), Lookup::Pending) {
            return;
        }
        let mut answers = self.answers.clone();
        let answered = answers.wait_for(|lookup| !matches!(lookup, Lookup::Pending));
        match tokio::time::timeout(self.context.settings.first_answer, answered).await {
            // The task that follows the answers may not have run yet.
            Ok(Ok(lookup)) => {
                let lookup = lookup.clone();
                self.update(&lookup);
            }
            Ok(Err(_)) | Err(_) => {
                tracing::info!(dst = %self.dst, "no answer of the control plane yet: forwarded as it is")
            }
        }
    }

    fn update(&self, lookup: &Lookup<OutboundTarget>) {
        let new = Resolution::new(lookup, self.dst, &self.context);
        let old = self.resolution();
        new.take_over(&old);
        self.resolution.replace(Rc::new(new));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(follow) = self.follow.get() {
            follow.abort();
        }
    }
}

impl Resolution {
    fn new(lookup: &Lookup<OutboundTarget>, dst: OrigDst, context: &Rc<Context>) -> Self {
        let (target, known) = match lookup {
            Lookup::Known(target) => (OutboundTarget::clone(target), true),
            Lookup::Pending | Lookup::Unknown => (as_it_is(dst, context.settings.detect_timeout), false),
        };
        let labels = target_labels(&target, target.backend.object(), dst.0);
        Self {
            target,
            known,
            context: Rc::clone(context),
            no_endpoint: Rc::new(NoEndpoint::new(&context.shard, labels)),
            streams: OnceCell::new(),
            http1: OnceCell::new(),
            connections: OnceCell::new(),
        }
    }

    /// Keeps the services of `old` where the answer is the same for them, and else has the ones that were in use begin to connect, so
    /// that the next request does not wait for it.
    fn take_over(&self, old: &Self) {
        let unchanged = self.known == old.known && is_same_service(&self.target, &old.target);
        let pairs = [
            (&self.streams, &old.streams, Carrier::Streams),
            (&self.http1, &old.http1, Carrier::AsHinted),
            (&self.connections, &old.connections, Carrier::Connections),
        ];
        for (new, old, carrier) in pairs {
            match old.get() {
                Some(service) if unchanged => drop(new.set(Rc::clone(service))),
                Some(_) => drop(self.cached(new, carrier)),
                None => {}
            }
        }
    }

    /// Who is told of a request that has no endpoint yet.
    pub(super) fn no_endpoint(&self) -> Rc<dyn Sink> {
        Rc::clone(&self.no_endpoint) as _
    }

    /// What carries requests of HTTP/2.
    pub(super) fn streams(&self) -> Result<Rc<Service>, ProxyError> {
        self.cached(&self.streams, Carrier::Streams)
    }

    /// What carries requests of HTTP/1: streams to peers of the mesh, connections to others.
    pub(super) fn http1(&self) -> Result<Rc<Service>, ProxyError> {
        self.cached(&self.http1, Carrier::AsHinted)
    }

    /// What carries connections.
    pub(super) fn connections(&self) -> Result<Rc<Service>, ProxyError> {
        self.cached(&self.connections, Carrier::Connections)
    }

    /// A service of its own for one client connection, to a destination that the mesh does not know.
    pub(super) fn own(&self, carrier: Carrier) -> Result<Rc<Service>, ProxyError> {
        self.service(carrier)
    }

    fn cached(&self, cell: &OnceCell<Rc<Service>>, carrier: Carrier) -> Result<Rc<Service>, ProxyError> {
        if let Some(service) = cell.get() {
            return Ok(Rc::clone(service));
        }
        let service = self.service(carrier)?;
        Ok(Rc::clone(cell.get_or_init(|| service)))
    }

    fn service(&self, carrier: Carrier) -> Result<Rc<Service>, ProxyError> {
        let Context {
            discovery,
            pool,
            shard,
            settings,
        } = &*self.context;
        let options = |load, queue, backend: Option<&ObjectRef>| ServiceOptions {
            name: Arc::clone(&self.target.name),
            carrier,
            load,
            balancing: Balancing::default(),
            accrual: None,
            queue,
            shard: shard.clone(),
            labels: endpoint_labels(&self.target, backend),
            metrics: self.balancer_metrics(carrier, backend),
        };
        let (capacity, failfast) = match carrier {
            Carrier::Connections => (settings.tcp_queue, settings.tcp_failfast),
            Carrier::Streams | Carrier::AsHinted | Carrier::OwnStreams | Carrier::OwnConnections => {
                (settings.http_queue, settings.http_failfast)
            }
        };
        let queue = Queue {
            capacity,
            failfast,
            at_once: !self.known,
        };
        Ok(Rc::new(match &self.target.backend {
            Backend::Forward(endpoint) => Service::fixed(options(LoadEstimate::default(), queue, None), pool, endpoint),
            Backend::Balance {
                path,
                backend,
                default_rtt,
                decay,
                queue_capacity,
                failfast_timeout,
            } => {
                let queue = Queue {
                    capacity: *queue_capacity,
                    failfast: *failfast_timeout,
                    at_once: false,
                };
                let load = LoadEstimate {
                    default_rtt: *default_rtt,
                    decay: *decay,
                    penalty: None,
                };
                Service::balanced(options(load, queue, Some(backend)), pool, discovery.endpoints(path))
            }
            Backend::None { why } => {
                return Err(ProxyError::NoBackend {
                    service: self.target.name.to_string(),
                    why: Arc::clone(why),
                });
            }
        }))
    }

    fn balancer_metrics(&self, carrier: Carrier, backend: Option<&ObjectRef>) -> BalancerMetrics {
        let mut labels = LabelSet::builder().object("parent_", &self.target.parent);
        if let Some(backend) = backend {
            labels = labels.object("backend_", backend);
        }
        let labels = labels.build();
        match carrier {
            Carrier::Connections => BalancerMetrics::tcp(&self.context.shard, &labels),
            _ => BalancerMetrics::http(&self.context.shard, &labels),
        }
    }
}

/// Labels of the client side, which is within the pod.
fn accepted_labels(dst: OrigDst) -> LabelSet {
    labels_of(Direction::Outbound, Peer::Src, dst.0)
        .tls(Peer::Src, Tls::Loopback)
        .build()
}

fn endpoint_labels(target: &OutboundTarget, backend: Option<&ObjectRef>) -> Box<dyn Fn(&Endpoint) -> LabelSet> {
    let (target, backend) = (target.clone(), backend.cloned());
    Box::new(move |endpoint| {
        let tls = match &endpoint.identity {
            Some(identity) => Tls::Mutual(Some(&identity.id)),
            None => Tls::NotProvided,
        };
        outbound_labels(&target, backend.as_ref(), endpoint, tls)
    })
}

/// A destination that the mesh does not know, or not yet.
fn as_it_is(dst: OrigDst, timeout: Duration) -> OutboundTarget {
    let endpoint = Endpoint {
        addr: dst.0,
        weight: 1.0,
        identity: None,
        hint: Hint::Unknown,
        transport_port: None,
        authority_override: None,
        labels: Labels::default(),
    };
    OutboundTarget {
        name: dst.to_string().into(),
        parent: ObjectRef {
            kind: "default".to_owned(),
            name: "unknown".to_owned(),
            ..ObjectRef::default()
        },
        protocol: ProtocolPlan::Detect { timeout },
        backend: Backend::Forward(Arc::new(endpoint)),
    }
}

/// Whether requests go to the same endpoints under the same labels and limits.
fn is_same_service(a: &OutboundTarget, b: &OutboundTarget) -> bool {
    a.name == b.name && a.parent == b.parent && a.backend == b.backend
}
