//! Windows and clocks: which window a report belongs to, and which windows a question is about.

use std::{
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use sheer_api::v1;

use super::row::When;

/// Windows of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) ms: i64,
    /// How many are kept.
    pub(super) kept: u32,
}

/// 1 s, for 10 min.
pub(super) const SHORT: Length = Length { ms: 1_000, kept: 600 };
/// 10 s, for 6 h.
pub(super) const LONG: Length = Length {
    ms: 10_000,
    kept: 2_160,
};
/// Reports of the last moment may still be on their way: questions end before it.
const SETTLED_MS: i64 = 2_000;
/// A proxy's clock is not believed to have moved for less than this.
const JITTER_MS: i64 = 250;

impl Length {
    /// The window that a moment is in.
    pub(super) fn slot(self, at_ms: i64) -> u32 {
        u32::try_from(at_ms.max(0) / self.ms).unwrap_or(u32::MAX)
    }

    /// The first window that a report is about, and how many it is about: one, unless it is about a long time.
    pub(super) fn windows(self, when: When) -> (u32, u32) {
        let span = i64::try_from(when.span_ms)
            .unwrap_or(i64::MAX)
            .min(self.ms * i64::from(self.kept));
        if span < self.ms * 3 {
            return (self.slot(when.at_ms - span / 2), 1);
        }
        let (first, last) = (self.slot(when.at_ms - span), self.slot(when.at_ms - 1));
        (first, last.saturating_sub(first) + 1)
    }

    /// The oldest window that is kept.
    pub(super) fn oldest(self, now_ms: i64) -> u32 {
        self.slot(now_ms).saturating_sub(self.kept)
    }
}

/// The time that a question is about.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) length: Length,
    pub(super) slots: Range<u32>,
    /// From when on something is known, where that is later than the start.
    pub(super) known_from_ms: Option<i64>,
}

impl Span {
    /// The last `window_ms`, or `default_ms` where it is 0.
    pub(super) fn until(now_ms: i64, window_ms: u64, default_ms: i64, known_from_ms: [i64; 2]) -> Self {
        let asked = if window_ms == 0 {
            default_ms
        } else {
            i64::try_from(window_ms).unwrap_or(i64::MAX)
        };
        let asked = asked.clamp(SHORT.ms, LONG.ms * i64::from(LONG.kept));
        let length = if asked <= SHORT.ms * i64::from(SHORT.kept) {
            SHORT
        } else {
            LONG
        };
        let end = length.slot(now_ms - SETTLED_MS);
        let windows = u32::try_from((asked + length.ms - 1) / length.ms).unwrap_or(u32::MAX);
        let start = end.saturating_sub(windows);
        let known = known_from_ms[usize::from(length == LONG)];
        let start_ms = i64::from(start) * length.ms;
        Self {
            length,
            slots: start..end,
            known_from_ms: (known > start_ms).then_some(known.min(i64::from(end) * length.ms)),
        }
    }

    pub(super) fn begins_ms(&self) -> i64 {
        i64::from(self.slots.start) * self.length.ms
    }

    pub(super) fn to_ms(&self) -> i64 {
        i64::from(self.slots.end) * self.length.ms
    }

    /// How much time something is known of.
    pub(super) fn known_ms(&self) -> u64 {
        let from = self.known_from_ms.unwrap_or(self.begins_ms());
        (self.to_ms() - from).max(0).cast_unsigned()
    }

    pub(super) fn message(&self) -> v1::Window {
        v1::Window {
            from_ms: self.begins_ms(),
            to_ms: self.to_ms(),
            step_ms: self.length.ms.cast_unsigned(),
            known_from_ms: self.known_from_ms.unwrap_or(0),
        }
    }
}

/// How far a proxy's clock is ahead, by when its messages arrive. A message is on its way for some time, so the clock is ahead by at least the
/// largest difference seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    ahead_ms: Option<i64>,
}

impl Clock {
    /// A message says it is of `at_ms`, and arrived at `now_ms`. Gives the time of it by this clock.
    pub(super) fn correct(&mut self, at_ms: i64, now_ms: i64) -> i64 {
        let seen = at_ms.saturating_sub(now_ms);
        let ahead = match self.ahead_ms {
            Some(known) if seen <= known => known,
            _ => seen,
        };
        self.ahead_ms = Some(ahead);
        at_ms.saturating_sub(ahead)
    }

    /// A stream begins: what was known may be of another clock, as after a step.
    pub(super) fn begin(&mut self, at_ms: i64, now_ms: i64) {
        let seen = at_ms.saturating_sub(now_ms);
        if self.ahead_ms.is_none_or(|known| (known - seen).abs() > JITTER_MS) {
            self.ahead_ms = Some(seen);
        }
    }

    pub(super) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.unwrap_or(0)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "windows are of the wall clock: people, and Prometheus, ask by it"
)]
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_a_second_is_in_one_window() {
        let when = |at_ms, span_ms| When { at_ms, span_ms };
        assert_eq!(SHORT.windows(when(10_400, 1_000)), (9, 1));
        assert_eq!(SHORT.windows(when(10_600, 1_000)), (10, 1));
        assert_eq!(LONG.windows(when(20_400, 1_000)), (1, 1));
        // After an outage of a minute.
        assert_eq!(SHORT.windows(when(100_000, 60_000)), (40, 60));
        assert_eq!(LONG.windows(when(100_000, 60_000)), (4, 6));
        // Nobody makes this take more than is kept.
        assert_eq!(SHORT.windows(when(10_000_000, u64::MAX)).1, 600);
    }

    #[test]
    fn questions_end_before_what_is_still_on_its_way() {
        let span = Span::until(1_000_500, 60_000, 0, [0, 0]);
        assert_eq!((span.slots.clone(), span.length), (938..998, SHORT));
        assert_eq!((span.known_ms(), span.known_from_ms), (60_000, None));
        let long = Span::until(100_000_500, 3_600_000, 0, [0, 0]);
        assert_eq!((long.length, long.slots.len()), (LONG, 360));
        let young = Span::until(1_000_500, 60_000, 0, [978_000, 0]);
        assert_eq!(young.known_ms(), 20_000);
    }

    #[test]
    fn a_clock_that_is_wrong_is_corrected() {
        let mut clock = Clock::default();
        // An hour ahead; messages take up to half a second.
        clock.begin(3_600_000, 100);
        assert_eq!(clock.correct(3_601_000, 1_500), 1_100);
        assert_eq!(clock.correct(3_602_000, 2_010), 2_010);
        assert_eq!(clock.correct(3_603_000, 3_400), 3_010);
        // Set right meanwhile.
        clock.begin(5_000, 5_000);
        assert_eq!(clock.correct(6_000, 6_020), 6_000);
    }
}
