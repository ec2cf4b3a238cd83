//! A second attempt beside a first that has not answered (gRPC hedging, gRFC A6): whoever answers first is heard, the others are cancelled.
//! Only for rules that an operator marked, since the application may see the request more than once; each attempt beyond the first is on
//! account of the destination's budget.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    mem,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context as Task, Poll},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use sheer_policy::outbound::Hedge;
use tokio::time::{Instant, Sleep};

use super::{
    affinity,
    attempts::{Hand, Sending},
    observe::{AtEndpoint, Counts},
    plan::BackendPlan,
};
use crate::{
    error::{ProxyError, TimeLimit},
    exchange::{
        BodyCopy, CopyState, Head, Hint, Judgement, Outcome, Race, Referee, Request, Responder, Sink, exchange,
    },
    filters,
    pool::{Lease, Pick},
};

/// Largest body that is copied for the attempts beyond the first, where the rule says nothing.
const LARGEST_BODY: usize = 64 * 1024;
/// Answers that lose against an attempt that is still under way, where the rule lists none: UNAVAILABLE.
const LOSES: &[u16] = &[14];

/// Longest pushback of a server that is waited for; one that is longer forbids further attempts.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(5);

/// One attempt, on its way.
type Attempt<'a> = Pin<Box<dyn Future<Output = Result<(), ProxyError>> + 'a>>;

/// The attempts at one request.
struct Hedging<'a> {
    sending: &'a Sending<'a>,
    hedge: Hedge,
    race: Race,
    head: Box<Head>,
    copy: Rc<BodyCopy>,
    shared: Rc<Shared>,
    /// By their number, from 1.
    running: Vec<(u32, Attempt<'a>)>,
    timer: Pin<Box<Sleep>>,
    sent: u32,
    /// A server that failed asked for so much time.
    not_before: Option<Instant>,
    /// Somebody has won, and the others are cancelled.
    settled: bool,
    failed: Option<ProxyError>,
    /// Where that happened, unless it is told already that another attempt followed.
    untold: Option<Option<SocketAddr>>,
}

/// What the attempts share.
#[derive(Default)]
struct Shared {
    running: Cell<u32>,
    /// Where the last attempt went: the next goes elsewhere.
    last: Cell<Option<SocketAddr>>,
    /// Attempts that got an endpoint, so far.
    leased: Cell<u32>,
    /// Who has an attempt now.
    under_way: RefCell<Vec<Rc<AtEndpoint>>>,
    /// Where the attempt went that failed just now.
    failed_at: Cell<Option<SocketAddr>>,
    /// What the answer that lost last says of further attempts.
    pushback: Cell<Option<Hint>>,
    /// Whose answer was found to have lost just now.
    passed_over: RefCell<Option<Rc<AtEndpoint>>>,
    /// Who is told how the request went: where the attempt that won went, or where the first did while none has.
    told: RefCell<Option<Told>>,
}

/// Who is told how a request went.
enum Told {
    First(Counts),
    Winner(Rc<AtEndpoint>),
}

impl Shared {
    /// An attempt is at an endpoint, whose request it is from now on where it is the first.
    fn began(&self, endpoint: &Rc<AtEndpoint>) {
        self.under_way.borrow_mut().push(Rc::clone(endpoint));
        let mut told = self.told.borrow_mut();
        told.get_or_insert_with(|| Told::First(endpoint.counts()));
    }

    /// An attempt is over.
    fn ended(&self, endpoint: &Rc<AtEndpoint>) {
        self.under_way.borrow_mut().retain(|other| !Rc::ptr_eq(other, endpoint));
    }

    /// The others are given up.
    fn outrun(&self) {
        let told = self.told.borrow();
        let is_winner =
            |endpoint: &Rc<AtEndpoint>| matches!(&*told, Some(Told::Winner(winner)) if Rc::ptr_eq(winner, endpoint));
        for endpoint in mem::take(&mut *self.under_way.borrow_mut()) {
            if !is_winner(&endpoint) {
                endpoint.outrun();
            }
        }
    }
}

/// Sends a request, and once more where no answer comes in time. What is returned was answered by none.
pub(super) async fn run(sending: &Sending<'_>, hedge: Hedge, hand: &mut Hand) -> Result<(), ProxyError> {
    let (mut request, responder) = hand.take().expect("in hand until it is sent");
    let limit = sending
        .retry
        .as_ref()
        .map_or(LARGEST_BODY, |retry| retry.max_request_bytes);
    let copy = Rc::new(BodyCopy::new(limit));
    request.body.copy_to(&copy);
    let shared = Rc::new(Shared::default());
    let sink = Teller {
        shared: Rc::clone(&shared),
        nobody: sending.resolution.no_endpoint(),
    };
    sending.observation.redirect(Rc::new(sink));
    let mut hedging = Hedging {
        sending,
        hedge,
        race: responder.race(),
        head: request.head.clone(),
        copy,
        shared,
        running: Vec::with_capacity(2),
        timer: Box::pin(tokio::time::sleep(hedge.delay)),
        sent: 0,
        not_before: None,
        settled: false,
        failed: None,
        untold: None,
    };
    hedging.begin(request);
    let error = match poll_fn(|task| hedging.poll(task)).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // Where an attempt took the way back, it has told its client.
    let Some(responder) = hedging.race.end() else {
        return Ok(());
    };
    hand.put_back(responder);
    Err(error)
}

impl<'a> Hedging<'a> {
    fn begin(&mut self, request: Request) {
        self.sent += 1;
        self.shared.running.set(self.shared.running.get() + 1);
        let attempt = attempt(self.sending, request, self.race.responder(), Rc::clone(&self.shared));
        self.running.push((self.sent, Box::pin(attempt)));
    }

    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Result<(), ProxyError>> {
        loop {
            let mut at = 0;
            while at < self.running.len() {
                let polled = self.running[at].1.as_mut().poll(task);
                if self.race.is_won() && !mem::replace(&mut self.settled, true) {
                    self.settle(at);
                    at = 0;
                }
                match polled {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => {
                        self.failed(at, error);
                    }
                }
            }
            if self.race.is_won() {
                return Poll::Pending;
            }
            // After a failure the next need not wait for its turn, but for as long as the server asks.
            let is_free = self.not_before.is_none_or(|at| Instant::now() >= at);
            let due = self.timer.as_mut().poll(task).is_ready() || (self.running.is_empty() && is_free);
            if due && self.begin_next() {
                continue;
            }
            if self.sent < self.hedge.max_attempts {
                return Poll::Pending;
            }
            return match self.failed.take_if(|_| self.running.is_empty()) {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            };
        }
    }

    /// An attempt failed, or its answer lost.
    fn failed(&mut self, at: usize, error: ProxyError) {
        let (number, _) = self.running.remove(at);
        self.shared.running.set(self.shared.running.get() - 1);
        if !self.settled {
            self.count(number, "lost");
        }
        match self.shared.pushback.take() {
            Some(Hint::After(after)) if after <= LONGEST_PUSHBACK => {
                let at = Instant::now() + after;
                self.not_before = Some(at);
                self.timer.as_mut().reset(at);
            }
            Some(Hint::After(_) | Hint::Never) => self.sent = self.hedge.max_attempts,
            Some(Hint::None) | None => {}
        }
        if is_over(&error) {
            self.sent = self.hedge.max_attempts;
        }
        let addr = self.shared.failed_at.take();
        if self.settled {
            self.untold = None;
        } else if self.running.is_empty() {
            self.untold = Some(addr);
        } else {
            self.sending.observation.goes_out_again(addr, &error);
        }
        self.failed = Some(error);
    }

    /// Somebody has won: dropping the others cancels their streams.
    fn settle(&mut self, at: usize) {
        self.shared.outrun();
        let winner = self.running.swap_remove(at);
        self.count(winner.0, "won");
        for (number, _) in mem::replace(&mut self.running, vec![winner]) {
            self.count(number, "lost");
        }
    }

    /// Counts what became of an attempt beside the first.
    fn count(&self, number: u32, result: &'static str) {
        if number > 1 {
            self.sending.plan.metrics.hedged(result);
        }
    }

    /// Begins another attempt, where there is one to begin.
    fn begin_next(&mut self) -> bool {
        if self.sent >= self.hedge.max_attempts {
            return false;
        }
        let metrics = &self.sending.plan.metrics;
        let Some(body) = self.copy.body() else {
            let result = match self.copy.state() {
                CopyState::TooLarge => "too-large",
                CopyState::Growing | CopyState::Whole => "body-not-whole",
            };
            metrics.hedged(result);
            self.sent = self.hedge.max_attempts;
            return false;
        };
        let now = Instant::now();
        if !self.sending.resolution.budget.again(now.into_std()) {
            metrics.hedged("no-budget");
            self.sent = self.hedge.max_attempts;
            return false;
        }
        metrics.hedged("sent");
        if let (Some(addr), Some(error)) = (self.untold.take(), &self.failed) {
            self.sending.observation.goes_out_again(addr, error);
        }
        self.timer.as_mut().reset(now + self.hedge.delay);
        let head = self.head.clone();
        self.begin(Request { head, body });
        true
    }
}

/// Whether there is no time for another attempt.
fn is_over(error: &ProxyError) -> bool {
    let whole = TimeLimit::Request;
    matches!(error, ProxyError::Deadline { .. })
        || matches!(error, ProxyError::Timeout { limit, .. } if *limit == whole)
}

/// One attempt. An error where it was not answered, or by an answer that lost.
async fn attempt(
    sending: &Sending<'_>,
    mut request: Request,
    responder: Responder,
    shared: Rc<Shared>,
) -> Result<(), ProxyError> {
    sending.stamp(&mut request.head)?;
    let observation = sending.observation;
    let trace = observation.begin_attempt(&mut request.head);
    let limits = sending.limits();
    let pick = Pick {
        key: affinity::key(
            &sending.backend.backend,
            &request.head,
            sending.resolution.context.client,
        ),
        avoid: shared.last.get(),
    };
    let lease = match sending.lease(&request.head, pick, &limits).await {
        Ok(lease) => lease,
        Err(error) => {
            observation.attempt(trace, |attempt| attempt.failed(&error));
            return Err(error);
        }
    };
    sending.note_lease(trace, &lease);
    let Lease {
        upstream,
        slot,
        request: in_flight,
    } = lease;
    let addr = in_flight.node().endpoint.addr;
    shared.last.set(Some(addr));
    shared.leased.set(shared.leased.get() + 1);
    let observer = &sending.connection.outbound.observer;
    if sending.resolution.is_outside() {
        in_flight.node().value.name_host(request.head.authority());
    }
    let (leased, number) = ((in_flight, slot), shared.leased.get());
    let endpoint = observer.endpoint(leased, sending.admitted, &sending.backend, number);
    shared.began(&endpoint);
    let loses = sending.retry.as_ref().map(|retry| retry.grpc_codes.clone());
    let racer = Racer {
        shared: Rc::clone(&shared),
        backend: Rc::clone(&sending.backend),
        endpoint: Rc::clone(&endpoint),
        loses: loses
            .filter(|codes| !codes.is_empty())
            .unwrap_or_else(|| LOSES.to_vec()),
    };
    let cx = sending.context((addr, trace), limits, Some(Rc::new(racer)));
    match exchange(request, upstream, responder, &cx, observation).await {
        Ok(()) => Ok(()),
        Err(failed) => {
            endpoint.lost(&failed.error);
            shared.ended(&endpoint);
            shared.failed_at.set(Some(addr));
            observation.attempt(trace, |attempt| attempt.failed(&failed.error));
            Err(failed.error)
        }
    }
}

/// Decides about the answer to one of several attempts.
struct Racer {
    shared: Rc<Shared>,
    backend: Rc<BackendPlan>,
    endpoint: Rc<AtEndpoint>,
    loses: Vec<u16>,
}

impl std::fmt::Debug for Racer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Racer")
    }
}

impl Referee for Racer {
    fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Judgement {
        if self.sends_again_for(headers) || self.loses(status.is_server_error(), headers) {
            Judgement::SendAgain
        } else if status.is_success() && !headers.contains_key("grpc-status") && self.shared.running.get() > 1 {
            Judgement::SeeTrailers
        } else {
            Judgement::Pass
        }
    }

    /// Whether the answer loses: others are under way, and may do better.
    fn sends_again_for(&self, trailers: &HeaderMap) -> bool {
        let code = trailers
            .get("grpc-status")
            .and_then(|code| code.to_str().ok()?.parse().ok());
        self.loses(code.is_some_and(|code: u16| self.loses.contains(&code)), trailers)
    }

    fn amend(&self, headers: &mut HeaderMap) {
        // It is passed on: this one has won.
        self.shared.told.replace(Some(Told::Winner(Rc::clone(&self.endpoint))));
        for modifier in &self.backend.response {
            filters::modify(headers, modifier);
        }
    }

    fn keeps(&self) -> usize {
        LARGEST_BODY
    }

    fn body_lost(&self) {}
}

impl Racer {
    /// A failure loses while others are under way. Its endpoint hears of it at once.
    fn loses(&self, failed: bool, said: &HeaderMap) -> bool {
        let loses = failed && self.shared.running.get() > 1;
        if loses {
            self.shared.pushback.set(Some(Hint::of(said)));
            self.shared.passed_over.replace(Some(Rc::clone(&self.endpoint)));
        }
        loses
    }
}

/// Tells the endpoint that won, and of the others what became of their attempts.
struct Teller {
    shared: Rc<Shared>,
    nobody: Rc<dyn Sink>,
}

impl Sink for Teller {
    fn response(&self, outcome: &Outcome) {
        if let Some(Told::Winner(winner)) = &*self.shared.told.borrow() {
            winner.response(outcome);
        }
    }

    fn passed_over(&self, outcome: &Outcome) {
        if let Some(endpoint) = self.shared.passed_over.take() {
            endpoint.passed_over(outcome);
        }
    }

    fn end(&self, outcome: &Outcome) {
        self.shared.outrun();
        match &*self.shared.told.borrow() {
            Some(Told::Winner(winner)) => winner.end(outcome),
            Some(Told::First(counts)) => drop(counts.end(outcome)),
            None => self.nobody.end(outcome),
        }
    }
}
