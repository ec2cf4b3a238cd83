//! What is known of one destination now: its policy, its services, and what was prepared for each of its rules.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use sheer_policy::{
    budget::Account,
    outbound::{Backend, HttpPolicy, HttpRule, OutboundPolicy},
    routes::Rule,
};
use tokio::time::Instant;

use super::{
    observe::NoEndpoint,
    plan::RulePlan,
    services::{Services, labelled},
    targets::Context,
};
use crate::{
    addr::OrigDst,
    discovery::{Endpoint, Hint, Labels, Lookup, ObjectRef, OutboundTarget, ProtocolPlan},
    error::Direction,
    exchange::{Head, Origin, Sink},
    metrics::target_labels,
    telemetry::{Key, PathNote, PathPeer, Scope, Series},
};

/// What is known of a destination now.
pub(super) struct Resolution {
    /// What discovery says, or made up for a destination that it does not know.
    pub(super) target: OutboundTarget,
    /// Whether the mesh knows the destination.
    pub(super) known: bool,
    pub(super) services: Services,
    /// What may be sent more than once: this worker's part of it.
    pub(super) budget: Rc<Account>,
    pub(super) context: Rc<Context>,
    /// What the decision came from.
    parent: Arc<ObjectRef>,
    no_endpoint: Rc<NoEndpoint>,
    /// Requests that no route takes.
    unrouted: OnceCell<Option<Series>>,
    /// By the address of the rule, which lives as long as `target`.
    plans: RefCell<AHashMap<*const Rule<HttpRule>, Rc<RulePlan>>>,
    /// The only rule, where there is one: most destinations have no more, and need no look-up.
    only: OnceCell<Rc<RulePlan>>,
}

impl Resolution {
    pub(super) fn new(lookup: &Lookup<OutboundTarget>, dst: OrigDst, context: &Rc<Context>) -> Self {
        let (target, known) = match lookup {
            Lookup::Known(target) => (OutboundTarget::clone(target), target.is_of_mesh()),
            Lookup::Pending | Lookup::Unknown => (as_it_is(dst, context.settings.detect_timeout), false),
        };
        let labels = target_labels(&target, only_backend(&target.policy), dst.0);
        let parent = Arc::new(target.parent().clone());
        let nobody = Key::to_nobody(&parent, &target.name);
        let now = Instant::now().into_std();
        let budget = context.discovery.budgets().find(&target.policy, dst, now);
        Self {
            no_endpoint: Rc::new(NoEndpoint::new(&context.shard, labels, nobody)),
            parent,
            unrouted: OnceCell::new(),
            services: Services::new(context, &target, known),
            budget: Rc::new(budget.open(now)),
            known,
            context: Rc::clone(context),
            plans: RefCell::default(),
            only: OnceCell::new(),
            target,
        }
    }

    /// Keeps of `old` what is the same now.
    pub(super) fn take_over(&mut self, old: &Self) {
        self.services.take_over(&old.services);
        if Arc::ptr_eq(self.budget.budget(), old.budget.budget()) {
            self.budget = Rc::clone(&old.budget);
        }
    }

    /// Who is told of a request that has no endpoint yet.
    pub(super) fn no_endpoint(&self) -> Rc<dyn Sink> {
        Rc::clone(&self.no_endpoint) as _
    }

    /// Whether the destination lies outside of the mesh: what it is called is known from those who talk to it alone.
    pub(super) fn is_outside(&self) -> bool {
        !self.known || self.parent.kind == "EgressNetwork"
    }

    /// As what requests by a rule are told to the control plane.
    pub(super) fn routed(&self, route: &ObjectRef, rule: usize, backend: Option<&ObjectRef>) -> Option<Series> {
        let scope = Scope::Route {
            route: Arc::new(route.clone()),
            rule,
            backend: backend.map(|backend| Arc::new(backend.clone())),
        };
        self.series(scope)
    }

    /// As what requests that no route takes are told to the control plane.
    pub(super) fn unrouted(&self) -> Option<&Series> {
        self.unrouted.get_or_init(|| self.series(Scope::Unrouted)).as_ref()
    }

    /// Notes the path of a request, while somebody looks at paths.
    pub(super) fn path(&self, head: &Head) -> Option<Box<PathNote>> {
        let about = || PathPeer {
            direction: Direction::Outbound,
            client: None,
            target: Arc::clone(&self.parent),
            authority: Arc::clone(&self.target.name),
        };
        let recorder = self.context.shard.recorder()?;
        recorder.path(about, head.method.as_str(), head.uri.path())
    }

    fn series(&self, scope: Scope) -> Option<Series> {
        let recorder = self.context.shard.recorder()?;
        Some(recorder.series(Key::to_nobody(&self.parent, &self.target.name).routed(scope)))
    }

    /// The rules for requests of a protocol.
    pub(super) fn http(&self, origin: Origin) -> &HttpPolicy {
        match origin {
            Origin::Http2 => &self.target.policy.http2,
            Origin::Http1 { .. } => &self.target.policy.http1,
        }
    }

    /// What is prepared for a rule of this policy.
    pub(super) fn plan(&self, rule: &Arc<Rule<HttpRule>>) -> Rc<RulePlan> {
        if let Some(only) = self.only.get().filter(|only| Arc::ptr_eq(&only.rule, rule)) {
            return Rc::clone(only);
        }
        let mut plans = self.plans.borrow_mut();
        let plan = plans
            .entry(Arc::as_ptr(rule))
            .or_insert_with(|| Rc::new(RulePlan::new(rule, self)));
        // The first that is asked for is, in most policies, the only one.
        let _ = self.only.set(Rc::clone(plan));
        Rc::clone(plan)
    }
}

/// Where every request goes, whatever it is like; none where that depends on the request.
fn only_backend(policy: &OutboundPolicy) -> Option<&ObjectRef> {
    let mut backends = policy
        .http2
        .routes
        .rules()
        .iter()
        .flat_map(|rule| rule.action.backends.all());
    let only = backends.next().filter(|_| backends.next().is_none());
    only.and_then(|route| labelled(&route.backend))
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
    let parent = ObjectRef::default_of("unknown");
    let policy = OutboundPolicy::plain(parent, ProtocolPlan::Detect { timeout }, Backend::forward(endpoint));
    OutboundTarget {
        name: dst.to_string().into(),
        policy: Arc::new(policy),
    }
}
