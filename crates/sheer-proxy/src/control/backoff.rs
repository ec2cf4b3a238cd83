//! Waits between attempts: exponential, with jitter, so that the proxies of a mesh do not come back all at once.

use std::time::Duration;

use crate::settings::Backoff;

/// Waits for the control plane. It may be away for long, and a mesh has many proxies.
pub(crate) const CONTROL: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(10),
    jitter: 0.5,
};

/// Waits before asking again about something that the control plane does not know: soon at first, since a workload may start before
/// the control plane has heard of it, then rarely, since a proxy may talk to thousands of addresses outside of the mesh.
pub(crate) const NOT_FOUND: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(30),
    jitter: 0.5,
};

/// The waits of one series of attempts.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    backoff: Backoff,
    attempts: u32,
}

impl Waits {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, attempts: 0 }
    }

    /// Waits of the control plane.
    pub(crate) fn control() -> Self {
        Self::new(CONTROL)
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self
            .backoff
            .min
            .saturating_mul(1 << self.attempts.min(16))
            .min(self.backoff.max);
        self.attempts = self.attempts.saturating_add(1);
        wait.mul_f64(1.0 + rand::random::<f64>() * self.backoff.jitter)
    }

    /// Waits after "not found".
    pub(crate) fn not_found() -> Self {
        Self::new(NOT_FOUND)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut waits = Waits::new(Backoff { jitter: 0.0, ..CONTROL });
        let first: Vec<_> = (0..9).map(|_| waits.next().as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        for _ in 0..100 {
            waits.next();
        }
        assert_eq!(waits.next().as_millis(), 10_000);
        waits.reset();
        assert_eq!(waits.next().as_millis(), 100);
    }

    #[test]
    fn jitter_only_adds() {
        let mut waits = Waits::control();
        assert!((100..=150).contains(&waits.next().as_millis()));
    }
}
