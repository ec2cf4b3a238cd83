//! Health of one endpoint, judged by its answers: its breaker.
//!
//! ```text
//!             failures in a row, or
//!             too low a success rate             until is over
//!   Healthy ───────────────────────► SittingOut ──────────────► Probation
//!      ▲                             │       ▲                    │  │
//!      ├────────── success ──────────┘       └─ failure: longer ──┘  │
//!      └──────────────────────── success ────────────────────────────┘
//! ```
//!
//! A success in a sit-out counts only where its request was sent in it, because every endpoint sits out and all are used (`balance`): what
//! comes back late from before it changes nothing.
//!
//! An endpoint without a connection is not judged here: its connection says so (`pool`).

use std::{
    fmt,
    time::{Duration, Instant},
};

use rand::Rng;
use sheer_policy::outbound::{Backoff, FailureAccrual, SuccessRate};

use super::{Fault, window::Window};

/// Failures in a row after which an endpoint sits out, where the policy says nothing. Enough that one caller's odd requests do not condemn
/// it, few enough that it loses its traffic within a second at ten requests a second.
pub const FAILURES_IN_A_ROW: u32 = 5;
/// How long an endpoint sits out first, where the policy says nothing; doubled with every probe that fails.
pub const SIT_OUT_MIN: Duration = Duration::from_secs(1);
/// Longest sit-out, where the policy says nothing.
pub const SIT_OUT_MAX: Duration = Duration::from_secs(60);
/// An endpoint whose last answer was a failure is tried by one request after this long, whatever its penalty makes it cost: at
/// low rates it would else neither sit out nor come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Share by which a sit-out is lengthened at random, so that the callers of an endpoint do not return together.
const JITTER: f64 = 0.5;
/// Shortest sit-out that a policy can ask for: nothing, doubled, would stay nothing.
const SHORTEST: Duration = Duration::from_millis(1);

/// When an endpoint sits out.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    accrual: FailureAccrual,
    /// Which answers are failures, as its mode has it.
    counted: Counted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// Lost requests, 5xx and gRPC `UNAVAILABLE`; other gRPC codes are the application's answers. Where the policy says nothing.
    Unavailable,
    /// What Linkerd classifies as a failure.
    Failures,
    /// And answers that say "too much": 429, `RESOURCE_EXHAUSTED`.
    AndOverload,
}

impl Rule {
    /// The policy's, or where it says nothing: five failures in a row, 1 s to 60 s.
    pub fn new(accrual: Option<FailureAccrual>) -> Self {
        let counted = match &accrual {
            None => Counted::Unavailable,
            Some(accrual) if accrual.success_rate.is_some() => Counted::AndOverload,
            Some(_) => Counted::Failures,
        };
        let accrual = accrual.unwrap_or(FailureAccrual {
            max_consecutive: Some(FAILURES_IN_A_ROW),
            success_rate: None,
            backoff: Backoff {
                min: SIT_OUT_MIN,
                max: SIT_OUT_MAX,
                jitter: JITTER,
                honour_hint: false,
            },
            min_ready: 0,
        });
        Self { accrual, counted }
    }

    /// At least so many endpoints stay.
    pub fn min_ready(&self) -> usize {
        self.accrual.min_ready
    }

    /// Whether this kind of answer speaks against its endpoint.
    pub fn counts(&self, fault: Fault) -> bool {
        match fault {
            Fault::Lost | Fault::Unavailable => true,
            Fault::Failed => self.counted != Counted::Unavailable,
            Fault::Overloaded => self.counted == Counted::AndOverload,
        }
    }

    /// The first sit-out: the endpoint's own wish, where the policy honours it.
    fn first(&self, hint: Option<Duration>) -> Duration {
        let Backoff {
            min, max, honour_hint, ..
        } = self.accrual.backoff;
        let (min, max) = (min.max(SHORTEST), max.max(min).max(SHORTEST));
        hint.filter(|_| honour_hint).map_or(min, |hint| hint.clamp(min, max))
    }

    fn longer(&self, period: Duration) -> Duration {
        let max = self.accrual.backoff.max.max(SHORTEST);
        period.saturating_mul(2).min(max).max(period.min(max))
    }

    fn jittered(&self, period: Duration, rng: &mut impl Rng) -> Duration {
        let jitter = self.accrual.backoff.jitter.clamp(0.0, 100.0);
        period.mul_f64(1.0 + jitter * rng.random::<f64>())
    }
}

/// Where an endpoint stands, as metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It takes requests.
    Closed,
    /// It sits out.
    Open,
    /// One request at a time decides.
    Probation,
}

/// Why an endpoint has to sit out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// So many failures in a row.
    InARow(u32),
    /// So low a success rate.
    Rate(f64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(failures) => write!(f, "{failures} failures in a row"),
            Self::Rate(rate) => write!(f, "success rate of {:.1} %", rate * 100.0),
        }
    }
}

/// A change that operators want to know of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// It sits out, for this long.
    SitsOut(Why, Duration),
    /// The request of its probation failed: it sits out again, for this long.
    SitsOutAgain(Duration),
    /// It would have to sit out, but then too few would be left.
    Stays(Why),
    /// Its time is over: the next request decides.
    Probation,
    /// It takes requests again; where it stood before.
    Back(Stage),
    /// It is no longer of the service; where it stood.
    Left(Stage),
}

/// Where an endpoint stands, and how often in a row it failed.
#[derive(Debug, Default)]
pub struct Health {
    state: State,
    failures: u32,
    /// When one request should find out if a failing endpoint is well again.
    trial_at: Option<Instant>,
    /// That it stays, though it fails, was told.
    stays: bool,
    /// Of the sit-out that it is in, or after which it is on probation.
    why: Option<Why>,
    window: Option<Box<Window>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Healthy,
    SittingOut {
        since: Instant,
        until: Instant,
        period: Duration,
    },
    Probation {
        /// Of the sit-out before it.
        since: Instant,
        period: Duration,
    },
}

/// A request that ended, as health judges it.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// When it was sent.
    pub began: Instant,
    /// When it ended.
    pub now: Instant,
}

impl Health {
    /// When the endpoint may be tried again, if it sits out.
    pub fn sits_out_until(&self) -> Option<Instant> {
        match self.state {
            State::SittingOut { until, .. } => Some(until),
            State::Healthy | State::Probation { .. } => None,
        }
    }

    /// On probation one request at a time decides.
    pub fn on_probation(&self) -> bool {
        matches!(self.state, State::Probation { .. })
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Healthy => Stage::Closed,
            State::SittingOut { .. } => Stage::Open,
            State::Probation { .. } => Stage::Probation,
        }
    }

    /// Why it sits out, or is on probation.
    pub fn why_out(&self) -> Option<Why> {
        self.why
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The sit-out is over: the next request decides.
    pub fn probe(&mut self) -> Option<Event> {
        let State::SittingOut { since, period, .. } = self.state else {
            return None;
        };
        self.state = State::Probation { since, period };
        Some(Event::Probation)
    }

    /// Whether one request should find out if the endpoint is well again.
    pub fn wants_trial(&self, now: Instant) -> bool {
        match self.state {
            State::Probation { .. } => true,
            State::SittingOut { .. } => false,
            State::Healthy => self.trial_at.is_some_and(|at| now >= at),
        }
    }

    /// A request went well. Says whether failures were held against the endpoint until now, and what changed.
    pub fn succeeded(&mut self, ended: Ended, rule: &Rule) -> (bool, Option<Event>) {
        if self.is_from_before(ended) {
            return (false, None);
        }
        if self.state != State::Healthy {
            let stage = self.stage();
            *self = Self::default();
            return (true, Some(Event::Back(stage)));
        }
        let forgiven = self.failures > 1;
        (self.failures, self.trial_at) = (0, None);
        match &rule.accrual.success_rate {
            // Failing in a row is over; whether the rate is well again, the window says.
            Some(rate) => {
                self.record(rate, true, ended.now);
                self.stays = self.stays && self.low_rate(rate, ended.now).is_some();
            }
            None => self.stays = false,
        }
        (forgiven, None)
    }

    /// A request failed. `hint` is how long the endpoint wants to be left alone, `may_sit_out` whether enough others are left.
    pub fn failed(
        &mut self,
        (ended, hint): (Ended, Option<Duration>),
        rule: &Rule,
        may_sit_out: impl FnOnce() -> bool,
        rng: &mut impl Rng,
    ) -> Option<Event> {
        if self.is_from_before(ended) {
            return None;
        }
        let now = ended.now;
        self.failures = self.failures.saturating_add(1);
        self.trial_at = Some(now + RETRY_AFTER);
        match self.state {
            State::SittingOut { .. } => None,
            State::Probation { period, .. } => {
                let out_for = self.sit_out(rule.longer(period).max(rule.first(hint)), rule, now, rng);
                Some(Event::SitsOutAgain(out_for))
            }
            State::Healthy => {
                let why = self.has_to_sit_out(rule, now)?;
                if may_sit_out() {
                    let out_for = self.sit_out(rule.first(hint), rule, now, rng);
                    (self.window, self.why) = (None, Some(why));
                    return Some(Event::SitsOut(why, out_for));
                }
                (!std::mem::replace(&mut self.stays, true)).then_some(Event::Stays(why))
            }
        }
    }

    /// One request finds out if the endpoint is well again no earlier than this.
    pub fn no_trial_before(&mut self, at: Instant) {
        self.trial_at = self.trial_at.map(|trial| trial.max(at));
    }

    fn sit_out(&mut self, period: Duration, rule: &Rule, now: Instant, rng: &mut impl Rng) -> Duration {
        let out_for = rule.jittered(period, rng);
        self.state = State::SittingOut {
            since: now,
            until: now + out_for,
            period,
        };
        out_for
    }

    fn has_to_sit_out(&mut self, rule: &Rule, now: Instant) -> Option<Why> {
        let accrual = &rule.accrual;
        let mut low = None;
        if let Some(rate) = &accrual.success_rate {
            self.record(rate, false, now);
            low = self.low_rate(rate, now);
        }
        let too_many = accrual.max_consecutive.is_some_and(|most| self.failures >= most);
        match (too_many, low) {
            (true, _) => Some(Why::InARow(self.failures)),
            (false, Some(rate)) => Some(Why::Rate(rate)),
            (false, None) => None,
        }
    }

    fn low_rate(&mut self, rate: &SuccessRate, now: Instant) -> Option<f64> {
        let found = self.window.as_mut()?.rate(rate.min_requests, now)?;
        (found < rate.threshold).then_some(found)
    }

    fn record(&mut self, rate: &SuccessRate, well: bool, now: Instant) {
        let window = self
            .window
            .get_or_insert_with(|| Box::new(Window::new(rate.window, now)));
        window.record(well, now);
    }

    /// Whether a request was sent before the sit-out that it would now lengthen or end.
    fn is_from_before(&self, ended: Ended) -> bool {
        match self.state {
            State::Healthy => false,
            State::SittingOut { since, .. } | State::Probation { since, .. } => ended.began < since,
        }
    }
}

#[cfg(test)]
mod tests;
