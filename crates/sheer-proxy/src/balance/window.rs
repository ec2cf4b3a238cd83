//! Share of requests that went well lately, over a window of ten parts that slides by one part at a time.

use std::time::{Duration, Instant};

/// Parts of the window. An outcome counts for between nine and ten tenths of it.
const PARTS: usize = 10;
/// Shortest part: what is read from a policy may be nothing.
const MIN_PART: Duration = Duration::from_millis(1);

/// Outcomes of one endpoint.
#[derive(Debug)]
pub(super) struct Window {
    part: Duration,
    parts: [Part; PARTS],
    /// Index of the part that is filled now.
    current: usize,
    /// When that part began.
    since: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    well: u32,
    ill: u32,
}

impl Window {
    /// Nothing yet.
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self {
            part: (window / PARTS as u32).max(MIN_PART),
            parts: [Part::default(); PARTS],
            current: 0,
            since: now,
        }
    }

    /// A request ended.
    pub(super) fn record(&mut self, well: bool, now: Instant) {
        self.slide(now);
        let part = &mut self.parts[self.current];
        if well {
            part.well = part.well.saturating_add(1);
        } else {
            part.ill = part.ill.saturating_add(1);
        }
    }

    /// Share that went well, where at least `min_requests` ended.
    pub(super) fn rate(&mut self, min_requests: u32, now: Instant) -> Option<f64> {
        self.slide(now);
        let sum = |of: fn(&Part) -> u32| self.parts.iter().map(of).fold(0u64, |sum, n| sum + u64::from(n));
        let (well, ill) = (sum(|part| part.well), sum(|part| part.ill));
        let all = well + ill;
        (all > 0 && all >= u64::from(min_requests)).then(|| well as f64 / all as f64)
    }

    /// Empties the parts whose time is over.
    fn slide(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < self.part {
            return;
        }
        let steps = elapsed.as_nanos() / self.part.as_nanos();
        if steps >= PARTS as u128 {
            self.parts = [Part::default(); PARTS];
            self.since = now;
            return;
        }
        for _ in 0..steps {
            self.current = (self.current + 1) % PARTS;
            self.parts[self.current] = Part::default();
            self.since += self.part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_nothing_before_enough_requests() {
        let now = Instant::now();
        let mut window = Window::new(Duration::from_secs(10), now);
        (0..4).for_each(|_| window.record(false, now));
        assert_eq!(window.rate(5, now), None);
        window.record(true, now);
        assert_eq!(window.rate(5, now), Some(0.2));
        assert_eq!(Window::new(Duration::ZERO, now).rate(0, now), None);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(10), start);
        (0..10).for_each(|_| window.record(false, start));
        let later = start + Duration::from_secs(9);
        (0..10).for_each(|_| window.record(true, later));
        assert_eq!(window.rate(1, later), Some(0.5));
        assert_eq!(window.rate(1, start + Duration::from_secs(10)), Some(1.0));
        assert_eq!(window.rate(1, start + Duration::from_secs(60)), None);
    }
}
