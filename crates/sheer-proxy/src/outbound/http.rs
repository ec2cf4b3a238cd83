//! HTTP of one client connection: every request is decided about on its own, and finds its own endpoint.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Outbound,
    attempts::{Hand, Sending},
    observe::Admitted,
    plan::{BackendPlan, RulePlan},
    resolution::Resolution,
    route::{Action, Decision, decide},
    targets::Target,
};
use crate::{
    error::{Direction, ProxyError, TimeLimit},
    exchange::{Context, Limits, Observation, Origin, Outcome, Request, Responder, Spoken, Until},
    headers,
    http2::{self, FrameMetrics},
    metrics::{ResponseOutcome, RouteStatus},
    pool::{Carrier, Service},
    record::Leg,
    tap::{LegFacts, Subject},
    trace::{Sent as _, Whom},
};

/// A connection of the workload that speaks HTTP.
pub(super) struct HttpConnection {
    pub(super) outbound: Rc<Outbound>,
    target: Rc<Target>,
    /// To a destination that the mesh does not know: this connection's own way there.
    own: OnceCell<Rc<Service>>,
    /// The address that the client asked for is gone: it has to connect, and so to resolve its name, again.
    stale: Cell<bool>,
    /// `stale` or `own` was set.
    changed: Notify,
}

impl HttpConnection {
    pub(super) fn new(outbound: &Rc<Outbound>, target: Rc<Target>) -> Rc<Self> {
        Rc::new(Self {
            outbound: Rc::clone(outbound),
            target,
            own: OnceCell::new(),
            stale: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Decides about a request and does what was decided. After an error nobody has answered it, and the way back is in hand.
    async fn serve(&self, hand: &mut Hand, admitted: &Rc<Admitted>, counted: &Counted<'_>) -> Result<(), ProxyError> {
        let observation = counted.observation;
        let arrived = Instant::from_std(observation.started());
        let resolution = self.target.resolution();
        resolution.budget.request(arrived.into_std());
        resolution
            .context
            .egress
            .request(&resolution, hand.request().head.authority());
        let (action, plan, delay, deadline, timeouts, whole) = {
            let decision = decide(&resolution, &mut hand.request().head, arrived);
            let whole = whole(&decision, arrived);
            let Decision {
                plan,
                delay,
                action,
                deadline,
                timeouts,
            } = decision;
            let plan = plan.map(|plan| counted.begin(plan, &action));
            (action, plan, delay, deadline, timeouts, whole)
        };
        if let Some(deadline) = &deadline {
            observation.waits_for(deadline.given());
        }
        if let Some(classes) = plan.and_then(|plan| plan.rule.action.classes.as_ref()) {
            observation.classify(classes);
        }
        if let Some(delay) = delay {
            let until = whole.filter(|whole| whole.at < Instant::now() + delay);
            let wait = until.map_or(delay, |until| until.at.saturating_duration_since(Instant::now()));
            if hand.responder().pause(wait, observation).await.is_err() {
                return Ok(());
            }
            if let Some(until) = until {
                return Err(until.reached());
            }
        }
        let (backend, retry, plan) = match (action, plan) {
            (Action::Send { backend, retry }, Some(plan)) => (backend, retry, plan),
            (Action::Redirect { status, location }, _) => {
                let fields = http::HeaderMap::from_iter([(http::header::LOCATION, location)]);
                if let Some(responder) = hand.take_responder() {
                    responder.answer((status, fields), observation).await;
                }
                return Ok(());
            }
            (Action::Fail(error), _) => return Err(error),
            (Action::Send { .. }, None) => {
                let what = "a request had a backend and no route";
                return Err(ProxyError::Internal { what });
            }
        };
        for mirror in &plan.mirrors {
            mirror.copy(hand.request(), &resolution);
        }
        backend.metrics.requests.inc();
        let sending = Sending {
            connection: self,
            resolution: &resolution,
            plan,
            backend,
            retry,
            timeouts,
            deadline,
            whole,
            admitted,
            observation,
        };
        sending.run(hand).await
    }

    /// What carries a request to a backend.
    pub(super) fn service(
        &self,
        origin: Origin,
        backend: &BackendPlan,
        resolution: &Resolution,
    ) -> Result<Rc<Service>, ProxyError> {
        if resolution.known {
            return backend.service(origin, resolution);
        }
        if let Some(own) = self.own.get() {
            return Ok(Rc::clone(own));
        }
        let carrier = match origin {
            Origin::Http2 => Carrier::OwnStreams,
            Origin::Http1 { .. } => Carrier::OwnConnections,
        };
        let own = resolution.services.own(&backend.backend, carrier)?;
        let own = Rc::clone(self.own.get_or_init(|| own));
        self.changed.notify_waiters();
        Ok(own)
    }

    /// The address that the client asked for is gone.
    pub(super) fn note_stale(&self) {
        if !self.stale.replace(true) {
            self.changed.notify_waiters();
        }
    }

    /// What a watcher is told of the request besides its head.
    fn subject(&self, client: &Leg) -> Subject {
        Subject {
            address: Some(self.target.dst().0),
            destination: self.target.resolution().target.name.to_string(),
            identity: None,
            mutual_tls: false,
            client: LegFacts::new(client.id(), client.tape()),
            trace: None,
        }
    }

    fn context(&self) -> Context {
        Context {
            direction: Direction::Outbound,
            addr: self.target.dst().0,
            header_limit: self.outbound.settings.http.header_list_limit,
            limits: Limits::default(),
            referee: None,
            replay: false,
            attempt: 0,
        }
    }
}

/// When a request ends at the latest: by its rule's timeout, or its caller's.
fn whole(decision: &Decision, arrived: Instant) -> Option<Until> {
    let request = decision.timeouts.request.and_then(|after| {
        Some(Until {
            at: arrived.checked_add(after)?,
            after,
            limit: Some(TimeLimit::Request),
        })
    });
    let deadline = decision.deadline.as_ref().and_then(crate::deadline::Deadline::until);
    [request, deadline].into_iter().flatten().min_by_key(|until| until.at)
}

/// Counts a request for its rule and backend when it is over, however it ends.
struct Counted<'a> {
    observation: &'a Observation,
    target: &'a Target,
    by: OnceCell<(Rc<RulePlan>, Option<Rc<BackendPlan>>)>,
}

impl Counted<'_> {
    /// It is known whom the request counts for.
    fn begin(&self, plan: Rc<RulePlan>, action: &Action) -> &Rc<RulePlan> {
        self.observation.record(|record| record.outbound_route(&plan.rule));
        let backend = match action {
            Action::Send { backend, .. } => Some(Rc::clone(backend)),
            Action::Redirect { .. } | Action::Fail(_) => None,
        };
        plan.metrics.request();
        &self.by.get_or_init(|| (plan, backend)).0
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let outcome = self.observation.outcome();
        let Some((plan, backend)) = self.by.get() else {
            return count_unrouted(&self.target.resolution(), &outcome);
        };
        plan.ended(backend.as_deref(), RouteStatus::of(&outcome), &outcome);
    }
}

fn count_unrouted(resolution: &Resolution, outcome: &Outcome) {
    if let (Some(series), Some(response)) = (resolution.unrouted(), ResponseOutcome::of(outcome)) {
        series.ended(&response);
    }
}

impl http2::Service for HttpConnection {
    fn frames(&self) -> Option<Rc<FrameMetrics>> {
        Some(Rc::clone(&self.outbound.frames))
    }

    fn refused(&self, refused: http2::Refused<'_>) -> Observation {
        tracing::info!(dst = %self.target.dst(), error = %refused.error, "request refused");
        let observation = Observation::start(self.target.resolution().no_endpoint());
        if let Some(tracer) = self.outbound.tracer() {
            tracer.refused(&observation, || {
                let (dst, target) = self.target.target();
                let route = None;
                Whom::Outbound { dst, target, route }
            });
        }
        observation.speaks(refused.spoken);
        let subject = || Subject {
            trace: observation.trace(),
            ..self.subject(&refused.leg)
        };
        observation.tap(self.outbound.taps().refused(subject, &refused.said));
        observation.recorded(self.outbound.recorder(), refused.leg);
        observation
    }

    async fn retired(&self) {
        loop {
            let changed = self.changed.notified();
            if self.stale.get() {
                return;
            }
            match self.own.get() {
                Some(own) => tokio::select! {
                    () = own.closed() => return,
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    #[inline(never)]
    fn call(self: Rc<Self>, request: Request, mut responder: Responder) -> impl Future<Output = ()> + 'static {
        if !self.outbound.settings.outbound.informational_headers {
            responder.terse();
        }
        let resolution = self.target.resolution();
        let observation = Observation::start(resolution.no_endpoint());
        let leg = responder.leg();
        observation.speaks(Spoken::of(&request.head));
        if let Some(note) = resolution.path(&request.head) {
            observation.note_path(note);
        }
        drop(resolution);
        if let Some(ticket) = self.outbound.sampler().ticket() {
            observation.sample(ticket.outbound(self.target.dst(), &request.head));
        }
        if let Some(tracer) = self.outbound.tracer() {
            tracer.outbound(&observation, &request.head, &*self.target);
        }
        // Last: whoever asks for a trace means also one that begins here.
        let subject = || Subject {
            trace: observation.trace(),
            ..self.subject(&leg)
        };
        observation.tap(self.outbound.taps().request(subject, &request.head));
        observation.recorded(self.outbound.recorder(), leg);
        let admitted = headers::check_limit(&request.head, &self.context()).and_then(|size| {
            self.outbound.observer.header_list(size);
            self.outbound.observer.admit()
        });
        // Moved in here and not by an `async fn`, which would keep room for its arguments as well.
        let mut hand = Hand::new(request, responder);
        async move {
            let counted = Counted {
                observation: &observation,
                target: &self.target,
                by: OnceCell::new(),
            };
            let ended = match admitted {
                Ok(admitted) => self.serve(&mut hand, &Rc::new(admitted), &counted).await,
                Err(error) => Err(error),
            };
            if let (Err(error), Some(responder)) = (ended, hand.take_responder()) {
                if self.stale.get() {
                    responder.last();
                }
                tracing::info!(dst = %self.target.dst(), %error, "request failed");
                responder.fail(&error, &observation).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(
        _: impl FnOnce(&'static HttpConnection, &'static mut Hand, &'static Rc<Admitted>, &'static Counted<'static>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Thousands of these are alive at once: what few rules ask for (hedges, waits) must not make every request larger.
    #[test]
    fn a_request_stays_small() {
        let size = size(HttpConnection::serve);
        assert!(size <= 3_072, "{size}");
    }
}
