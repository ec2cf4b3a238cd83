//! Says of the answers to one request which are passed on and which are tried again: by the rule's conditions and limit, the time that is
//! left, what the server asks for, and the destination's budget.

use std::{cell::Cell, fmt, rc::Rc, time::Duration};

use http::{HeaderMap, StatusCode};
use sheer_policy::{budget::Account, outbound::Retry};
use tokio::time::Instant;

use super::plan::{BackendPlan, RulePlan};
use crate::{
    error::{ProxyError, TimeLimit},
    exchange::{Hint, Judgement, Referee},
    filters::{self, KEPT_ANYWAY},
    telemetry::Count,
};

/// gRPC CANCELLED and UNAVAILABLE: what a reset, and the end of a connection, are to a gRPC client.
const CANCELLED: u16 = 1;
const UNAVAILABLE: u16 = 14;
/// Longest hint that is obeyed where the rule does not say: it has no waits of its own.
const LONGEST_HINT: Duration = Duration::from_secs(1);

/// The attempts at one request.
pub(super) struct Attempts {
    plan: Rc<RulePlan>,
    backend: Rc<BackendPlan>,
    retry: Option<Rc<Retry>>,
    budget: Rc<Account>,
    /// The request is gRPC.
    grpc: bool,
    /// When the request ends at the latest.
    ends: Option<Instant>,
    /// Attempts beyond the first, by the rule.
    made: Cell<u32>,
    /// Wait before the next.
    wait: Cell<Duration>,
    /// The body cannot be sent again.
    lost: Cell<bool>,
}

/// What attempts are about.
pub(super) struct About<'a> {
    pub(super) plan: &'a Rc<RulePlan>,
    pub(super) backend: &'a Rc<BackendPlan>,
    pub(super) retry: Option<Rc<Retry>>,
    pub(super) budget: &'a Rc<Account>,
    pub(super) grpc: bool,
    pub(super) ends: Option<Instant>,
}

impl Attempts {
    /// None where every answer is passed on as it is.
    pub(super) fn new(about: About<'_>) -> Option<Rc<Self>> {
        let About {
            plan,
            backend,
            retry,
            budget,
            grpc,
            ends,
        } = about;
        let retry = retry.filter(|retry| retry.limit > 0);
        if retry.is_none() && backend.response.is_empty() {
            return None;
        }
        Some(Rc::new(Self {
            plan: Rc::clone(plan),
            backend: Rc::clone(backend),
            retry,
            budget: Rc::clone(budget),
            grpc,
            ends,
            made: Cell::new(0),
            wait: Cell::new(Duration::ZERO),
            lost: Cell::new(false),
        }))
    }

    /// Attempts beyond the first.
    pub(super) fn made(&self) -> u32 {
        self.made.get()
    }

    /// How long to wait before the attempt that was allowed.
    pub(super) fn wait(&self) -> Duration {
        self.wait.get()
    }

    /// Whether to try again after an error, where the server may have acted on the request; counts it if so. With HTTP, a rule that has
    /// retries has them for whatever happens to a connection (Gateway API, `HTTPRouteRetry`); a gRPC client sees the same as a code.
    pub(super) fn may_after(&self, error: &ProxyError) -> bool {
        let Some(retry) = &self.retry else { return false };
        let codes = |codes: &[u16]| !self.grpc || codes.iter().any(|code| retry.grpc_codes.contains(code));
        let reason = match error {
            ProxyError::Timeout {
                limit: TimeLimit::Attempt | TimeLimit::Response,
                ..
            } => "timeout",
            ProxyError::UpstreamReset { code, .. } if code.0 == h2::Reason::CANCEL && codes(&[CANCELLED]) => "reset",
            ProxyError::UpstreamReset { .. } if codes(&[UNAVAILABLE]) => "reset",
            ProxyError::UpstreamClosed { .. } if codes(&[UNAVAILABLE]) => "connection",
            _ => return false,
        };
        self.allows(retry, reason, Hint::None)
    }

    /// Whether there is another attempt in the limit, the time and the budget.
    fn allows(&self, retry: &Retry, reason: &'static str, hint: Hint) -> bool {
        if self.lost.get() || hint == Hint::Never {
            return false;
        }
        let metrics = &self.plan.metrics;
        if self.made.get() >= retry.limit {
            metrics.retries().limit_exceeded.inc();
            metrics.skipped("limit");
            self.backend.tell(Count::RetriesLimited);
            return false;
        }
        let Some(wait) = wait(retry, self.made.get(), hint, rand::random()) else {
            metrics.skipped("hint");
            return false;
        };
        if self.ends.is_some_and(|ends| Instant::now() + wait >= ends) {
            metrics.skipped("deadline");
            return false;
        }
        if !self.budget.again(Instant::now().into_std()) {
            metrics.retries().overflow.inc();
            metrics.skipped("no_budget");
            self.backend.tell(Count::RetriesOverBudget);
            return false;
        }
        self.made.set(self.made.get() + 1);
        self.wait.set(wait);
        metrics.retries().requests.inc();
        self.backend.tell(Count::Retries);
        metrics.tried_again(reason);
        true
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl Referee for Attempts {
    fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Judgement {
        let Some(retry) = &self.retry else {
            return Judgement::Pass;
        };
        if headers.contains_key("grpc-status") {
            return again(self.sends_again_for(headers));
        }
        let code = status.as_u16();
        let listed = retry
            .statuses
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&code));
        if listed {
            let hint = Hint::of(headers);
            return again(self.allows(retry, "status", hint));
        }
        if self.grpc && status.is_success() && !retry.grpc_codes.is_empty() {
            return Judgement::SeeTrailers;
        }
        Judgement::Pass
    }

    fn sends_again_for(&self, trailers: &HeaderMap) -> bool {
        let Some(retry) = &self.retry else { return false };
        let code = trailers
            .get("grpc-status")
            .and_then(|code| code.to_str().ok()?.parse::<u16>().ok());
        code.is_some_and(|code| retry.grpc_codes.contains(&code))
            && self.allows(retry, "grpc-status", Hint::of(trailers))
    }

    fn amend(&self, headers: &mut HeaderMap) {
        for modifier in &self.backend.response {
            filters::modify(headers, modifier);
        }
    }

    fn keeps(&self) -> usize {
        self.retry.as_ref().map_or(KEPT_ANYWAY, |retry| retry.max_request_bytes)
    }

    fn body_lost(&self) {
        self.lost.set(true);
    }
}

fn again(is_so: bool) -> Judgement {
    if is_so { Judgement::SendAgain } else { Judgement::Pass }
}

/// How long to wait before the attempt after `made` others; `random` is uniform in `0..1`. None where the server wants to be left alone for
/// longer than the rule waits: then its answer is passed on, and the client knows better what to do meanwhile.
fn wait(retry: &Retry, made: u32, hint: Hint, random: f64) -> Option<Duration> {
    let backoff = retry.backoff.as_ref();
    if let (Hint::After(after), true) = (hint, backoff.is_none_or(|backoff| backoff.honour_hint)) {
        return match (retry.max_hint, backoff) {
            (Some(max), _) => (after <= max).then_some(after),
            // Linkerd's policies have no bound of their own for hints: the waits' bounds are what they say.
            (None, Some(backoff)) => Some(after.clamp(backoff.min, backoff.max)),
            (None, None) => (after <= LONGEST_HINT).then_some(after),
        };
    }
    let Some(backoff) = backoff else {
        return Some(Duration::ZERO);
    };
    let grown = backoff.min.saturating_mul(1 << made.min(16)).min(backoff.max);
    let jittered = grown.as_secs_f64() * (1.0 + backoff.jitter * random);
    Some(Duration::try_from_secs_f64(jittered).unwrap_or(backoff.max))
}

#[cfg(test)]
mod tests {
    use sheer_policy::outbound::Backoff;

    use super::*;

    #[test]
    fn waits_grow_within_their_bounds() {
        let backoff = Backoff {
            min: Duration::from_millis(10),
            max: Duration::from_millis(50),
            jitter: 0.5,
            honour_hint: true,
        };
        let with = retry(Some(backoff));
        let millis = |millis| Some(Duration::from_millis(millis));
        let waits = [0, 1, 2, 3, 40].map(|made| wait(&with, made, Hint::None, 0.0));
        assert_eq!(waits, [10, 20, 40, 50, 50].map(millis));
        assert_eq!(wait(&with, 0, Hint::None, 1.0), millis(15));
        assert_eq!(wait(&retry(None), 5, Hint::None, 1.0), millis(0));
    }

    #[test]
    fn hints_are_obeyed_up_to_their_bound() {
        let backoff = Backoff {
            min: Duration::from_millis(10),
            max: Duration::from_millis(50),
            jitter: 0.5,
            honour_hint: true,
        };
        let millis = |millis| Some(Duration::from_millis(millis));
        let after = |retry: &Retry, millis| wait(retry, 0, Hint::After(Duration::from_millis(millis)), 1.0);
        let with = Retry {
            max_hint: millis(5_000),
            ..retry(Some(backoff))
        };
        // Exactly as long as the server says, whatever the waits are without a hint; not at all where that is too long.
        let waits = [0, 30, 5_000, 5_001].map(|millis| after(&with, millis));
        assert_eq!(waits, [millis(0), millis(30), millis(5_000), None]);
        // Without a bound of their own: within the waits' bounds.
        let within = retry(Some(backoff));
        assert_eq!(
            [0, 30, 9_000].map(|millis| after(&within, millis)),
            [millis(10), millis(30), millis(50)]
        );
        let deaf = retry(Some(Backoff {
            honour_hint: false,
            ..backoff
        }));
        assert_eq!(after(&deaf, 9_000), millis(15));
        assert_eq!(
            [1_000, 1_001].map(|millis| after(&retry(None), millis)),
            [millis(1_000), None]
        );
    }

    fn retry(backoff: Option<Backoff>) -> Retry {
        Retry {
            limit: 9,
            max_request_bytes: 0,
            statuses: vec![],
            grpc_codes: vec![],
            timeout: None,
            backoff,
            max_hint: None,
        }
    }
}
