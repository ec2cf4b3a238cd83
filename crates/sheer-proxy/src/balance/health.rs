//! Health of one endpoint, judged by its answers: failures in a row make it sit out.
//!
//! ```text
//!             FAILURES_IN_A_ROW               until is over
//!   Healthy ────────────────────► SittingOut ────────────────► Probation
//!      ▲                          │       ▲                        │  │
//!      ├───────── success ────────┘       └─ failure: twice as long┘  │
//!      └───────────────────────────── success ────────────────────────┘
//! ```
//!
//! A success in a sit-out is one that was under way, or every endpoint sits out and all are used (`balance`).
//!
//! An endpoint without a connection is not judged here: its connection says so (`pool`).

use std::time::{Duration, Instant};

use rand::Rng;

/// Failures in a row after which an endpoint sits out. Enough that one caller's odd requests do not condemn it, few enough that it
/// loses its traffic within a second at ten requests a second.
pub const FAILURES_IN_A_ROW: u32 = 5;
/// How long an endpoint sits out first; doubled with every probe that fails.
pub const SIT_OUT_MIN: Duration = Duration::from_secs(1);
/// Longest sit-out.
pub const SIT_OUT_MAX: Duration = Duration::from_secs(60);
/// An endpoint whose last answer was a failure is tried by one request after this long, whatever its penalty makes it cost: at
/// low rates it would else neither sit out nor come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Share by which a sit-out is lengthened at random, so that the callers of an endpoint do not return together.
const JITTER: f64 = 0.5;

/// Where an endpoint stands, and how often in a row it failed.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    state: State,
    failures: u32,
    last_failure: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Healthy,
    SittingOut { until: Instant, period: Duration },
    Probation { period: Duration },
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Healthy,
            failures: 0,
            last_failure: None,
        }
    }
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

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The sit-out is over: the next request decides.
    pub fn probe(&mut self) {
        if let State::SittingOut { period, .. } = self.state {
            self.state = State::Probation { period };
        }
    }

    /// Whether one request should find out if the endpoint is well again.
    pub fn wants_trial(&self, now: Instant) -> bool {
        match self.state {
            State::Probation { .. } => true,
            State::SittingOut { .. } => false,
            State::Healthy => self.last_failure.is_some_and(|last| now >= last + RETRY_AFTER),
        }
    }

    /// A request went well. Returns whether failures were held against the endpoint until now.
    pub fn succeeded(&mut self) -> bool {
        let forgiven = self.failures > 1 || self.state != State::Healthy;
        *self = Self::default();
        forgiven
    }

    /// A request failed. What comes back late from before the sit-out changes nothing more.
    pub fn failed(&mut self, now: Instant, rng: &mut impl Rng) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now);
        let period = match self.state {
            State::Healthy if self.failures >= FAILURES_IN_A_ROW => SIT_OUT_MIN,
            State::Probation { period } => (period * 2).min(SIT_OUT_MAX),
            State::Healthy | State::SittingOut { .. } => return,
        };
        let until = now + period.mul_f64(1.0 + rng.random_range(0.0..JITTER));
        self.state = State::SittingOut { until, period };
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn failed_times(n: u32, now: Instant, rng: &mut SmallRng) -> Health {
        let mut health = Health::default();
        (0..n).for_each(|_| health.failed(now, rng));
        health
    }

    #[test]
    fn sits_out_after_failures_in_a_row_only() {
        let (now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(1));
        assert_eq!(
            failed_times(FAILURES_IN_A_ROW - 1, now, &mut rng).sits_out_until(),
            None
        );
        let until = failed_times(FAILURES_IN_A_ROW, now, &mut rng)
            .sits_out_until()
            .expect("sits out");
        assert!(until >= now + SIT_OUT_MIN && until <= now + SIT_OUT_MIN.mul_f64(1.0 + JITTER));

        let mut health = failed_times(FAILURES_IN_A_ROW - 1, now, &mut rng);
        health.succeeded();
        health.failed(now, &mut rng);
        assert_eq!(
            health.sits_out_until(),
            None,
            "a success in between starts the count again"
        );
    }

    #[test]
    fn a_failed_probe_doubles_the_sit_out_up_to_its_maximum() {
        let (now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(1));
        let mut health = failed_times(FAILURES_IN_A_ROW, now, &mut rng);
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            health.probe();
            assert!(health.on_probation());
            health.failed(now, &mut rng);
            last = health.sits_out_until().expect("sits out again") - now;
        }
        assert!(
            last >= SIT_OUT_MAX && last <= SIT_OUT_MAX.mul_f64(1.0 + JITTER),
            "{last:?}"
        );
        health.probe();
        assert!(health.succeeded());
        assert_eq!(health.failures(), 0);
    }
}
