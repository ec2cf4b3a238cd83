//! Sends a request: to one endpoint after the other until one has served it, and once more where its rule says so.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::Method;
use sheer_policy::outbound::{BackendTarget, Retry, Timeouts};
use tokio::time::{Instant, timeout_at};

use super::{
    affinity, hedge,
    http::HttpConnection,
    observe::{Admitted, AtEndpoint},
    plan::{BackendPlan, RulePlan},
    referee::{About, Attempts},
    resolution::Resolution,
};
use crate::{
    deadline::Deadline,
    error::{Direction, ProxyError, TimeLimit},
    exchange::{Context, Failed, Head, Limits, Observation, Origin, Referee, Request, Responder, Until, exchange},
    pool::{Lease, Pick},
};

/// How many endpoints a request may meet that did not serve it. Each time nothing had reached an application, so that another attempt
/// is safe; the bound ends what would else go round for ever.
const MAX_ELSEWHERE: u32 = 8;

/// A request on its way to a backend.
pub(super) struct Sending<'a> {
    pub(super) connection: &'a HttpConnection,
    pub(super) resolution: &'a Rc<Resolution>,
    pub(super) plan: &'a Rc<RulePlan>,
    pub(super) backend: Rc<BackendPlan>,
    pub(super) retry: Option<Rc<Retry>>,
    pub(super) timeouts: Timeouts,
    pub(super) deadline: Option<Deadline>,
    /// When it ends at the latest, and why.
    pub(super) whole: Option<Until>,
    pub(super) admitted: &'a Rc<Admitted>,
    pub(super) observation: &'a Observation,
}

/// A request and the way back to its client, where they wait between two attempts: by reference, since futures keep room for whatever is
/// moved into them.
pub(super) struct Hand {
    request: Option<Request>,
    responder: Option<Responder>,
    /// Where the request is now.
    endpoint: Option<Rc<AtEndpoint>>,
}

impl Hand {
    pub(super) fn new(request: Request, responder: Responder) -> Self {
        Self {
            request: Some(request),
            responder: Some(responder),
            endpoint: None,
        }
    }

    /// The request, while it is in hand.
    pub(super) fn request(&mut self) -> &mut Request {
        self.request.as_mut().expect("a request is in hand until it is sent")
    }

    /// The way back, while it is in hand.
    pub(super) fn responder(&mut self) -> &mut Responder {
        self.responder
            .as_mut()
            .expect("the way back is in hand until the request is sent")
    }

    /// The way back, where nobody has taken it.
    pub(super) fn take_responder(&mut self) -> Option<Responder> {
        self.responder.take()
    }

    /// Both, to be sent.
    pub(super) fn take(&mut self) -> Option<(Request, Responder)> {
        self.request.take().zip(self.responder.take())
    }

    /// The way back, unused.
    pub(super) fn put_back(&mut self, responder: Responder) {
        self.responder = Some(responder);
    }
}

impl Sending<'_> {
    /// Sends the request until somebody has served it. After an error nobody has, and the way back is in hand.
    pub(super) async fn run(&self, hand: &mut Hand) -> Result<(), ProxyError> {
        let grpc = hand.request().head.is_grpc();
        if let Some(hedge) = self.plan.rule.action.hedge.filter(|_| grpc) {
            // Boxed: few rules hedge, and all requests would carry its size.
            return Box::pin(hedge::run(self, hedge, hand)).await;
        }
        let attempts = Attempts::new(About {
            plan: self.plan,
            backend: &self.backend,
            retry: self.retry.clone(),
            budget: &self.resolution.budget,
            grpc,
            ends: self.whole.map(|whole| whole.at),
        });
        let mut pick = Pick {
            key: affinity::key(
                &self.backend.backend,
                &hand.request().head,
                self.resolution.context.client,
            ),
            avoid: None,
        };
        let (mut elsewhere, mut sent) = (0, 0);
        loop {
            self.stamp(&mut hand.request().head)?;
            let attempt = self.observation.begin_attempt(&mut hand.request().head);
            let (leased, limits) = {
                let limits = self.limits();
                (self.lease(&hand.request().head, pick, &limits).await, limits)
            };
            let (addr, (error, wait)) = match leased {
                Err(error) => {
                    self.observation.attempt(attempt, |attempt| attempt.failed(&error));
                    let again = attempts.as_ref().filter(|attempts| attempts.may_after(&error));
                    (None, (error, again.map(|attempts| attempts.wait())))
                }
                Ok(lease) => {
                    sent += 1;
                    let addr = lease.request.node().endpoint.addr;
                    pick.avoid = Some(addr);
                    let referee = attempts.clone().map(|attempts| attempts as Rc<dyn Referee>);
                    let cx = self.context((addr, attempt), limits, referee);
                    match self.attempt(hand, lease, sent, &cx).await {
                        Ok(()) => {
                            self.succeeded(attempts.as_deref());
                            return Ok(());
                        }
                        Err(failed) => {
                            self.observation
                                .attempt(attempt, |attempt| attempt.failed(&failed.error));
                            let wait = self.next(hand, failed, attempts.as_deref(), &mut elsewhere);
                            let wait = wait.map_or_else(|error| (error, None), |(error, wait)| (error, Some(wait)));
                            (Some(addr), wait)
                        }
                    }
                }
            };
            let Some(wait) = wait else { return Err(error) };
            self.observation.goes_out_again(addr, &error);
            if !wait.is_zero() && hand.responder().pause(wait, self.observation).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Sends what is in hand. The future is made here: it would keep room for what is moved into it.
    fn attempt<'b>(
        &'b self,
        hand: &mut Hand,
        lease: Lease,
        number: u32,
        cx: &'b Context,
    ) -> impl Future<Output = Result<(), Box<Failed>>> + use<'b> {
        self.note_lease(cx.attempt, &lease);
        let (request, responder) = hand.take().expect("in hand between attempts");
        let Lease {
            upstream,
            slot,
            request: in_flight,
        } = lease;
        let observer = &self.connection.outbound.observer;
        if self.resolution.is_outside() {
            in_flight.node().value.name_host(request.head.authority());
        }
        let endpoint = observer.endpoint((in_flight, slot), self.admitted, &self.backend, number);
        self.observation.redirect(Rc::clone(&endpoint) as _);
        hand.endpoint = Some(endpoint);
        exchange(request, upstream, responder, cx, self.observation)
    }

    /// What an attempt that failed leaves to try, now in hand again: the error, and how long to wait first; else the error alone.
    fn next(
        &self,
        hand: &mut Hand,
        failed: Box<Failed>,
        attempts: Option<&Attempts>,
        elsewhere: &mut u32,
    ) -> Result<(ProxyError, Duration), ProxyError> {
        let Failed {
            request,
            unsure,
            responder,
            error,
        } = *failed;
        hand.put_back(responder);
        if let Some(endpoint) = hand.endpoint.take() {
            endpoint.lost(&error);
        }
        let wait = match (&error, attempts, &request) {
            (ProxyError::TriedAgain { .. }, Some(attempts), Some(_)) => attempts.wait(),
            (_, _, Some(_)) => {
                *elsewhere += 1;
                if *elsewhere >= MAX_ELSEWHERE || !self.may_go_elsewhere(&error, *elsewhere) {
                    return Err(error);
                }
                Duration::ZERO
            }
            (_, Some(attempts), None) if unsure.is_some() && attempts.may_after(&error) => attempts.wait(),
            _ => return Err(error),
        };
        hand.request = request.or(unsure);
        Ok((error, wait))
    }

    /// A connection that ends takes every request on it elsewhere, once: that is no storm, nor is one other endpoint where a sidecar's
    /// application is not there. A server that refuses stream after stream is asked again only as the budget allows.
    fn may_go_elsewhere(&self, error: &ProxyError, elsewhere: u32) -> bool {
        let refused = match error {
            ProxyError::UpstreamReset { .. } => true,
            ProxyError::Connect { .. } => elsewhere > 1,
            _ => false,
        };
        !refused || self.resolution.budget.again(Instant::now().into_std())
    }

    fn succeeded(&self, attempts: Option<&Attempts>) {
        if attempts.is_some_and(|attempts| attempts.made() > 0) && self.observation.outcome().is_success() {
            self.plan.metrics.retries().successes.inc();
        }
    }

    /// Passes on what remains of the caller's time.
    pub(super) fn stamp(&self, head: &mut Head) -> Result<(), ProxyError> {
        match &self.deadline {
            Some(deadline) => deadline.pass_on(&mut head.headers, Instant::now()),
            None => Ok(()),
        }
    }

    /// The limits of an attempt that begins now.
    pub(super) fn limits(&self) -> Limits {
        let attempt = self.retry.as_ref().and_then(|retry| retry.timeout);
        Limits {
            whole: self.whole,
            head: attempt.map(|after| Until {
                at: Instant::now() + after,
                after,
                limit: Some(TimeLimit::Attempt),
            }),
            response: self.timeouts.response,
            idle: self.timeouts.idle,
        }
    }

    /// An endpoint, in time.
    pub(super) async fn lease(&self, head: &Head, pick: Pick, limits: &Limits) -> Result<Lease, ProxyError> {
        let until = [limits.whole, limits.head]
            .into_iter()
            .flatten()
            .min_by_key(|until| until.at);
        let leased = match until {
            None => self.lease_at_leisure(head, pick).await,
            Some(until) => match timeout_at(until.at, self.lease_at_leisure(head, pick)).await {
                Ok(leased) => leased,
                Err(_) => Err(until.reached()),
            },
        };
        match &leased {
            Ok(_) | Err(ProxyError::Timeout { .. } | ProxyError::Deadline { .. }) => {}
            Err(_) => self.note_unreachable(),
        }
        leased
    }

    async fn lease_at_leisure(&self, head: &Head, pick: Pick) -> Result<Lease, ProxyError> {
        let service = self.connection.service(head.origin, &self.backend, self.resolution)?;
        let leaves_http =
            matches!(head.origin, Origin::Http1 { .. }) && (head.upgrade.is_some() || head.method == Method::CONNECT);
        if leaves_http {
            service.tunnel(pick).await
        } else {
            service.upstream(pick).await
        }
    }

    /// Nothing answers. Behind a service others may come; a single address that the client chose stays what it is, and only a new
    /// connection of the client finds another.
    fn note_unreachable(&self) {
        if matches!(self.backend.backend.target, BackendTarget::Forward(_)) {
            self.connection.note_stale();
        }
    }

    /// Records where an attempt goes.
    pub(super) fn note_lease(&self, attempt: usize, lease: &Lease) {
        self.observation.attempt(attempt, |attempt| {
            attempt.endpoint = Some(Arc::clone(&lease.request.node().endpoint));
            attempt.link = lease.link().cloned();
        });
    }

    pub(super) fn context(
        &self,
        (addr, attempt): (SocketAddr, usize),
        limits: Limits,
        referee: Option<Rc<dyn Referee>>,
    ) -> Context {
        Context {
            direction: Direction::Outbound,
            addr,
            header_limit: self.connection.outbound.settings.http.header_list_limit,
            limits,
            referee,
            replay: true,
            attempt,
        }
    }
}
