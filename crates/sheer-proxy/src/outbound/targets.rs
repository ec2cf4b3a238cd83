//! What is known of each original destination, on one worker: asked of discovery once, followed while it is used, forgotten
//! some seconds after.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{affinity, egress::Egress, resolution::Resolution};
use crate::{
    addr::OrigDst,
    discovery::{Discovery, Lookup, OutboundTarget},
    error::Direction,
    metrics::{LabelSet, Peer, Shard, TcpMetrics, TcpOpen, Tls, labels_of},
    pool::Pool,
    settings::{self, Settings},
    trace::{Passed, Sent, Tracer},
};

/// The destinations of one worker.
pub(super) struct Targets {
    context: Rc<Context>,
    targets: RefCell<AHashMap<OrigDst, Rc<Target>>>,
}

/// What every target is made with.
pub(super) struct Context {
    pub(super) discovery: Arc<dyn Discovery>,
    pub(super) pool: Rc<Pool>,
    pub(super) shard: Shard,
    pub(super) settings: settings::Outbound,
    pub(super) header_limit: usize,
    pub(super) egress: Egress,
    /// What makes this workload one client to those who keep clients together.
    pub(super) client: u64,
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
    passed: OnceCell<Rc<Passed>>,
}

impl Targets {
    pub(super) fn new(discovery: Arc<dyn Discovery>, pool: Rc<Pool>, shard: Shard, settings: &Settings) -> Rc<Self> {
        let header_limit = settings.http.header_list_limit;
        let client = affinity::client(&settings.workload);
        let settings = &settings.outbound;
        let context = Rc::new(Context {
            discovery,
            pool,
            egress: Egress::new(&shard),
            shard,
            settings: settings.clone(),
            header_limit,
            client,
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
            passed: OnceCell::new(),
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

    /// Waits for the first answer, which discovery makes up where the control plane gives none in time.
    pub(super) async fn resolved(&self) {
        if !matches!(*self.answers.borrow(), Lookup::Pending) {
            return;
        }
        let mut answers = self.answers.clone();
        // An error says that the proxy ends.
        if let Ok(lookup) = answers.wait_for(|lookup| !matches!(lookup, Lookup::Pending)).await {
            // The task that follows the answers may not have run yet.
            let lookup = lookup.clone();
            self.update(&lookup);
        }
    }

    fn update(&self, lookup: &Lookup<OutboundTarget>) {
        let mut new = Resolution::new(lookup, self.dst, &self.context);
        let old = self.resolution();
        new.take_over(&old);
        self.resolution.replace(Rc::new(new));
    }
}

impl Sent for Target {
    fn target(&self) -> (SocketAddr, OutboundTarget) {
        (self.dst.0, self.resolution.borrow().target.clone())
    }

    fn passed(&self, tracer: &Tracer) -> Rc<Passed> {
        let passed = self
            .passed
            .get_or_init(|| tracer.passed(&self.resolution.borrow().target.name));
        Rc::clone(passed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(follow) = self.follow.get() {
            follow.abort();
        }
    }
}

/// Labels of the client side, which is within the pod.
fn accepted_labels(dst: OrigDst) -> LabelSet {
    labels_of(Direction::Outbound, Peer::Src, dst.0)
        .tls(Peer::Src, Tls::Loopback)
        .build()
}
