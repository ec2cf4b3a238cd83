//! Time of a recording: microseconds since its clock began, and where that lies among other clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counts from its making on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    unix_us: i64,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is shown says when, read once; what lies between is monotonic"
    )]
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            began: Instant::now(),
            unix_us: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        }
    }

    /// A clock that stays at its beginning: what is recorded takes the same room in every run.
    #[cfg(test)]
    pub(crate) fn still() -> Self {
        let clock = Self::new();
        let far = std::time::Duration::from_secs(86_400);
        Self {
            began: clock.began + far,
            ..clock
        }
    }

    /// Microseconds since the clock began.
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The same of a moment.
    pub(crate) fn at(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.began).as_micros() as u64
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn unix(&self, at: u64) -> i64 {
        self.unix_us.saturating_add_unsigned(at)
    }
}
