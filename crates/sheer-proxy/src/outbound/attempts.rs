//! Sends a request: to one endpoint after the other until one has served it, and once more where its rule says so.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use http::Method;
use sheer_policy::outbound::{BackendTarget, Retry, Timeouts};
use tokio::time::{Instant, timeout_at};

use super::{
    affinity, hedge,
    http::HttpConnection,
    observe::Admitted,
    plan::{BackendPlan, RulePlan},
    referee::{About, Attempts},
    resolution::Resolution,
};
use crate::{
    deadline::Deadline,
    error::{Direction, ProxyError, ResetCode, TimeLimit},
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

/// What is left to try.
enum Next {
    /// This, after a wait.
    Again(Request, Duration),
    /// Nothing.
    Nothing,
}

impl Sending<'_> {
    /// Sends the request until somebody has served it. What is returned was answered by none.
    pub(super) async fn run(
        &self,
        mut request: Request,
        mut responder: Responder,
    ) -> Result<(), (Responder, ProxyError)> {
        if let Some(hedge) = self.plan.rule.action.hedge.filter(|_| request.head.is_grpc()) {
            // Boxed: few rules hedge, and all requests would carry its size.
            return Box::pin(hedge::run(self, hedge, request, responder)).await;
        }
        let attempts = Attempts::new(About {
            plan: self.plan,
            backend: &self.backend,
            retry: self.retry.clone(),
            budget: &self.resolution.budget,
            grpc: request.head.is_grpc(),
            ends: self.whole.map(|whole| whole.at),
        });
        let mut pick = Pick {
            key: affinity::key(&self.backend.backend, &request.head),
            avoid: None,
        };
        let (mut elsewhere, mut sent) = (0, 0);
        loop {
            if let Err(error) = self.stamp(&mut request.head) {
                return Err((responder, error));
            }
            let limits = self.limits();
            let leased = self.lease(&request.head, pick, &limits).await;
            let (error, next) = match leased {
                Err(error) => {
                    let again = attempts.as_ref().filter(|attempts| attempts.may_after(&error));
                    let next = match again {
                        Some(attempts) => Next::Again(request, attempts.wait()),
                        None => Next::Nothing,
                    };
                    (error, next)
                }
                Ok(lease) => {
                    let addr = lease.request.node().endpoint.addr;
                    pick.avoid = Some(addr);
                    let cx = self.context(
                        addr,
                        limits,
                        attempts.clone().map(|attempts| attempts as Rc<dyn Referee>),
                    );
                    sent += 1;
                    match self.attempt(request, responder, (lease, sent), &cx).await {
                        Ok(()) => return Ok(self.succeeded(attempts.as_deref())),
                        Err(mut failed) => {
                            let next = self.next(&mut failed, attempts.as_deref(), &mut elsewhere);
                            responder = failed.responder;
                            (failed.error, next)
                        }
                    }
                }
            };
            let Next::Again(again, wait) = next else {
                return Err((responder, error));
            };
            request = again;
            if !wait.is_zero() && self.pause(&mut responder, wait).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn attempt(
        &self,
        request: Request,
        responder: Responder,
        (lease, number): (Lease, u32),
        cx: &Context,
    ) -> Result<(), Box<Failed>> {
        let Lease {
            upstream,
            slot,
            request: in_flight,
        } = lease;
        let observer = &self.connection.outbound.observer;
        let endpoint = observer.endpoint(in_flight, slot, self.admitted, number);
        self.observation.redirect(Rc::clone(&endpoint) as _);
        let ended = exchange(request, upstream, responder, cx, self.observation).await;
        if let Err(failed) = &ended {
            endpoint.lost(&failed.error);
        }
        ended
    }

    /// What an attempt that failed leaves to try.
    fn next(&self, failed: &mut Failed, attempts: Option<&Attempts>, elsewhere: &mut u32) -> Next {
        if let Some(request) = failed.request.take() {
            if let (ProxyError::TriedAgain { .. }, Some(attempts)) = (&failed.error, attempts) {
                return Next::Again(request, attempts.wait());
            }
            *elsewhere += 1;
            if *elsewhere < MAX_ELSEWHERE && self.may_go_elsewhere(&failed.error) {
                return Next::Again(request, Duration::ZERO);
            }
            return Next::Nothing;
        }
        match (failed.unsure.take(), attempts) {
            (Some(request), Some(attempts)) if attempts.may_after(&failed.error) => {
                Next::Again(request, attempts.wait())
            }
            _ => Next::Nothing,
        }
    }

    /// A connection that ends takes every request on it elsewhere, once: that is no storm. A server that refuses stream after stream is
    /// asked again only as the budget allows.
    fn may_go_elsewhere(&self, error: &ProxyError) -> bool {
        let refused = matches!(error, ProxyError::UpstreamReset { .. });
        !refused || self.resolution.budget.borrow_mut().again(Instant::now().into_std())
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

    pub(super) fn context(&self, addr: SocketAddr, limits: Limits, referee: Option<Rc<dyn Referee>>) -> Context {
        Context {
            direction: Direction::Outbound,
            addr,
            header_limit: self.connection.outbound.settings.http.header_list_limit,
            limits,
            referee,
            replay: true,
        }
    }

    /// Waits before the next attempt; an error where the client left meanwhile, which is noted.
    async fn pause(&self, responder: &mut Responder, wait: Duration) -> Result<(), ()> {
        pause(responder, wait, self.observation).await
    }
}

/// Waits with a request in hand; an error where the client left meanwhile, which is noted.
pub(super) async fn pause(responder: &mut Responder, wait: Duration, observation: &Observation) -> Result<(), ()> {
    // Boxed: few requests wait, and all would carry the timer.
    let wait = Box::pin(tokio::time::sleep(wait));
    let gone: ResetCode = tokio::select! {
        biased; // a client that left wants nothing any more
        gone = responder.client_gone() => gone,
        () = wait => return Ok(()),
    };
    observation.client_left(gone);
    Err(())
}
