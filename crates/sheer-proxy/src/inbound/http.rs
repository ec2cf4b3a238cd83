//! One request that arrived: who may send it, what its route does to it, and on to the application.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{
    Inbound,
    admission::{Admission, Admitted},
    policy::{self, Client},
    port::Port,
};
use crate::{
    deadline::Deadline,
    discovery::{InboundPolicy, Lookup},
    error::{Direction, ProxyError},
    exchange::{Context, Failed, Head, Limits, Observation, Origin, Request, Responder, Spoken, Upstream, exchange},
    filters::Answered,
    headers, http2,
    metrics::{InboundRouteMetrics, RouteStatus},
    record::Leg,
    tap::{LegFacts, Subject},
    trace::{self, Whom},
};

/// How often a request is sent to the application: again where an attempt certainly had no effect. An idle connection was closed
/// under it, or more streams were opened on a fresh one than the application's SETTINGS, still on their way, allow.
const ATTEMPTS: usize = 4;
/// How long what is under way may go on once policy lets its client in no longer: time for an answer, not for a stream without end.
const REVOKED_GRACE: Duration = Duration::from_secs(1);

/// Serves the requests of one connection.
pub(super) struct Requests {
    inbound: Rc<Inbound>,
    port: Rc<Port>,
    client: Client,
    cx: Context,
    policy: RefCell<watch::Receiver<Lookup<InboundPolicy>>>,
    admission: RefCell<Rc<Admission>>,
    /// Policy has changed: the connection takes no more requests.
    revoked: Cell<bool>,
    retire: Notify,
}

impl Requests {
    pub(super) fn new(inbound: Rc<Inbound>, port: Rc<Port>, client: Client) -> Self {
        let mut policy = port.watch();
        policy.mark_unchanged();
        let cx = Context {
            direction: Direction::Inbound,
            addr: port.app.addr(),
            header_limit: inbound.settings.http.header_list_limit,
            limits: Limits::default(),
            referee: None,
            replay: true,
            attempt: 0,
        };
        let admission = RefCell::new(Rc::new(Admission::of(&port, &client)));
        Self {
            inbound,
            port,
            client,
            cx,
            policy: RefCell::new(policy),
            admission,
            revoked: Cell::new(false),
            retire: Notify::new(),
        }
    }

    /// Returns when the connection must end because policy lets its client in no longer. Says GOAWAY before (or closes after the response,
    /// in HTTP/1), and leaves what is under way some time.
    pub(super) async fn cut_off(&self) {
        let allowed = |policy: &InboundPolicy| policy::has_business(policy, &self.client);
        let at_first = allowed(self.admission.borrow().observers.policy());
        self.port.revoked(at_first, allowed).await;
        self.admission.borrow().observers.revoked(&self.client);
        self.revoked.set(true);
        self.retire.notify_one();
        tokio::time::sleep(REVOKED_GRACE).await;
    }

    /// What the policy says now.
    fn admission(&self) -> Rc<Admission> {
        if self.policy.borrow().has_changed().unwrap_or(false) {
            self.policy.borrow_mut().mark_unchanged();
            *self.admission.borrow_mut() = Rc::new(Admission::of(&self.port, &self.client));
        }
        Rc::clone(&self.admission.borrow())
    }

    /// What a watcher is told of the client.
    fn subject(&self, client: &Leg) -> Subject {
        Subject {
            address: Some(self.cx.addr),
            destination: self.cx.addr.to_string(),
            identity: self.client.identity().cloned(),
            mutual_tls: self.client.is_meshed(),
            client: LegFacts::new(client.id(), client.tape()),
            trace: None,
        }
    }

    /// The checks that come before anything is sent.
    fn admit(&self, request: &Request, admission: &Admission) -> Result<(Admitted, InFlight), ProxyError> {
        let size = headers::check_limit(&request.head, &self.cx)?;
        self.inbound.header_lists.record_units(size as u64);
        let admitted = admission.admit(&request.head, &self.client, self.cx.addr.port())?;
        Ok((admitted, InFlight::begin(&self.inbound)?))
    }

    /// What an exchange has to know, where it is more than all requests of the connection have in common. Boxed: few need it.
    fn context(&self, deadline: Option<Deadline>, admitted: &Admitted) -> Option<Box<Context>> {
        let whole = deadline.as_ref().and_then(Deadline::until);
        let referee = admitted.amend();
        (whole.is_some() || referee.is_some()).then(|| {
            Box::new(Context {
                limits: Limits {
                    whole,
                    ..Limits::default()
                },
                referee: referee.cloned(),
                ..self.cx.clone()
            })
        })
    }

    /// As [`Self::upstream`], for a request whose caller waits no longer than that; what remains of its time is written into it.
    async fn upstream_in_time(
        &self,
        head: &mut Head,
        deadline: Option<Deadline>,
    ) -> Result<(Upstream, Option<super::app::StreamSlot>), ProxyError> {
        let Some((deadline, until)) = deadline.and_then(|deadline| Some((deadline, deadline.until()?))) else {
            return self.upstream(head).await;
        };
        // Boxed: only calls with a deadline carry the timer.
        let upstream = Box::pin(timeout_at(until.at, self.upstream(head))).await;
        let upstream = upstream.map_err(|_| deadline.passed(false))??;
        deadline.pass_on(&mut head.headers, Instant::now())?;
        Ok(upstream)
    }

    /// Between whom a request goes, for its trace.
    fn whom(&self, stream: u32, admission: &Admission) -> trace::Inbound {
        trace::Inbound {
            addr: self.cx.addr,
            client: self.client.addr,
            identity: self.client.identity().cloned(),
            meshed: self.client.is_meshed(),
            stream,
            policy: Arc::clone(admission.observers.policy()),
            route: None,
        }
    }

    async fn upstream(&self, head: &Head) -> Result<(Upstream, Option<super::app::StreamSlot>), ProxyError> {
        match head.origin {
            Origin::Http2 => {
                let app = &self.port.app;
                let (send, slot) = match head.protocol {
                    Some(_) => Box::pin(app.h2_connect()).await?,
                    None => app.h2().await?,
                };
                let tape = slot.tape().clone();
                let upstream = Upstream::H2 {
                    send,
                    mesh: false,
                    tape,
                };
                Ok((upstream, Some(slot)))
            }
            Origin::Http1 { .. } => Ok((Upstream::H1(self.port.app.http1().await?), None)),
        }
    }
}

impl http2::Service for Requests {
    #[expect(clippy::too_many_lines, reason = "the stages of what comes in, one after another")]
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments beside the variables that they are moved to"
    )]
    #[inline(never)]
    fn call(self: Rc<Self>, mut request: Request, mut responder: Responder) -> impl Future<Output = ()> + 'static {
        async move {
            let arrived = Instant::now();
            let admission = self.admission();
            admission.observers.http.request();
            let observation = Observation::start_at(arrived.into_std(), Rc::clone(&admission.sink) as _);
            let leg = responder.leg();
            let deadline = Deadline::of(&request.head, arrived);
            if self.client.is_meshed() {
                headers::restore_request(&mut request.head);
                responder.for_sidecar();
                if request.head.origin != Origin::Http2 {
                    responder.carry_http1();
                }
            }
            observation.speaks(Spoken::of(&request.head));
            if let Some(deadline) = &deadline {
                observation.waits_for(deadline.given());
            }
            if let Some(note) = admission.observers.path(&self.client, &request.head) {
                observation.note_path(note);
            }
            if let Some(tracer) = self.inbound.tracer.get() {
                tracer.inbound(&observation, &request.head, || {
                    self.whom(responder.stream(), &admission)
                });
            }
            let subject = || Subject {
                trace: observation.trace(),
                ..self.subject(&leg)
            };
            observation.tap(self.inbound.taps().request(subject, &request.head));
            observation.recorded(self.inbound.recorder(), leg);
            if let Some(ticket) = self.inbound.sampler().ticket() {
                let (addr, client) = (self.cx.addr, self.client.addr);
                observation.sample(ticket.inbound(addr, client, self.client.identity(), &request.head));
            }
            let (admitted, _in_flight) = match self.admit(&request, &admission) {
                Ok(admitted) => admitted,
                Err(error) => return responder.fail(&error, &observation).await,
            };
            let _counted = Counted {
                observation: &observation,
                route: Rc::clone(admitted.metrics()),
            };
            if admitted.is_probe() {
                observation.forget();
            }
            if let Some(rule) = admitted.rule() {
                observation.record(|record| record.inbound_route(rule));
            }
            let mut delay = None;
            match admitted.apply(&mut request.head, &mut delay) {
                None => {}
                Some(Answered::Redirect { status, location }) => {
                    let fields = http::HeaderMap::from_iter([(http::header::LOCATION, location)]);
                    return responder.answer((status, fields), &observation).await;
                }
                Some(Answered::Fail(error)) => return responder.fail(&error, &observation).await,
            }
            if let Some(delay) = delay {
                let wait = deadline.map_or(delay, |deadline| delay.min(deadline.remains(Instant::now())));
                if responder.pause(wait, &observation).await.is_err() {
                    return;
                }
            }
            headers::set_client_id(
                &mut request.head.headers,
                self.client.identity().map(|identity| &**identity),
            );
            observation.begin_attempt(&mut request.head);

            let own = self.context(deadline, &admitted);
            let cx = own.as_deref().unwrap_or(&self.cx);
            for attempt in 1.. {
                let (upstream, _slot) = match self.upstream_in_time(&mut request.head, deadline).await {
                    Ok(upstream) => upstream,
                    Err(error) => return responder.fail(&error, &observation).await,
                };
                let Failed {
                    request: again,
                    responder: back,
                    error,
                    ..
                } = match exchange(request, upstream, responder, cx, &observation).await {
                    Ok(()) => return,
                    Err(failed) => *failed,
                };
                match again {
                    Some(again) if attempt < ATTEMPTS => (request, responder) = (again, back),
                    _ => return back.fail(&error, &observation).await,
                }
            }
        }
    }

    async fn retired(&self) {
        if self.revoked.get() {
            return;
        }
        let meshed = self.client.is_meshed();
        let _counted = meshed.then(|| Renewable::begin(&self.inbound));
        tokio::select! {
            biased; // either will do
            () = self.retire.notified() => {}
            () = self.inbound.renew.notified(), if meshed => {}
        }
    }

    fn frames(&self) -> Option<Rc<http2::FrameMetrics>> {
        Some(Rc::clone(&self.inbound.frames[0]))
    }

    fn refused(&self, refused: http2::Refused<'_>) -> Observation {
        let admission = self.admission();
        admission.observers.http.request();
        let observation = Observation::start(Rc::clone(&admission.sink) as _);
        if let Some(tracer) = self.inbound.tracer.get() {
            tracer.refused(&observation, || Whom::Inbound(Box::new(self.whom(0, &admission))));
        }
        observation.speaks(refused.spoken);
        let subject = || Subject {
            trace: observation.trace(),
            ..self.subject(&refused.leg)
        };
        observation.tap(self.inbound.taps().refused(subject, &refused.said));
        observation.recorded(self.inbound.recorder(), refused.leg);
        observation
    }
}

/// A connection of the mesh that takes requests and can be replaced.
struct Renewable(Rc<Inbound>);

impl Renewable {
    fn begin(inbound: &Rc<Inbound>) -> Self {
        inbound.renewable.set(inbound.renewable.get() + 1);
        Self(Rc::clone(inbound))
    }
}

impl Drop for Renewable {
    fn drop(&mut self) {
        self.0.renewable.set(self.0.renewable.get() - 1);
    }
}

/// Counts a request for its route when it is over, however it ends.
struct Counted<'a> {
    observation: &'a Observation,
    route: Rc<InboundRouteMetrics>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let outcome = self.observation.outcome();
        let is_grpc = outcome.spoken == Spoken::Grpc;
        self.route
            .ended(is_grpc, RouteStatus::of(&outcome), outcome.started.elapsed());
    }
}

/// A request that has no response yet.
struct InFlight(Rc<Inbound>);

impl InFlight {
    fn begin(inbound: &Rc<Inbound>) -> Result<Self, ProxyError> {
        let limit = inbound.settings.inbound.max_in_flight;
        let now = inbound.in_flight.get();
        if now >= limit {
            return Err(ProxyError::TooMany {
                what: "requests",
                limit,
            });
        }
        inbound.in_flight.set(now + 1);
        Ok(Self(Rc::clone(inbound)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}
