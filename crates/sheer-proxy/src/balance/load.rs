//! Load of one endpoint: a peak-sensitive moving average of its response time, times its requests under way.
//!
//! The estimate jumps up to any slower answer at once and sinks slowly, so that one bad second is believed and a good one has to be
//! proven. It is the metric of Finagle's and Linkerd's peak EWMA, with two additions: the first answer replaces the default, and an
//! endpoint that says nothing while it has work is taken to be as slow as its silence is long.
//!
//! A penalty is time of another kind: an answer that says "too much" adds it, it sinks at a pace of its own, and no fast answer takes it away.

use std::time::{Duration, Instant};

// Of the program itself: the system's library would take 300 KiB of memory in every proxy for this one function.
use libm::exp;

/// Floor of the estimate: below it differences are noise, and a zero would hide the number of requests under way.
const MIN_RTT: f64 = 1e-6;

/// Estimate for one endpoint. Times are seconds as `f64`: products and exponentials need no conversions on the hot path.
#[derive(Debug)]
pub struct Load {
    rtt: f64,
    decay: f64,
    updated: Instant,
    measured: bool,
    pending: u32,
    quiet_since: Instant,
    penalty: Option<Penalty>,
}

/// What an endpoint costs beyond its response time, seconds.
#[derive(Debug)]
struct Penalty {
    seconds: f64,
    since: Instant,
    decay: f64,
}

impl Penalty {
    fn decayed(&self, now: Instant) -> f64 {
        sunk(self.seconds, now.saturating_duration_since(self.since), self.decay)
    }
}

impl Load {
    /// An endpoint that was never measured.
    pub fn new(default_rtt: Duration, decay: Duration, now: Instant) -> Self {
        Self {
            rtt: default_rtt.as_secs_f64(),
            decay: decay.as_secs_f64().max(MIN_RTT),
            updated: now,
            measured: false,
            pending: 0,
            quiet_since: now,
            penalty: None,
        }
    }

    /// Requests that wait for the beginning of their answer.
    pub fn pending(&self) -> u32 {
        self.pending
    }

    /// A request goes out.
    pub fn begin(&mut self, now: Instant) {
        if self.pending == 0 {
            self.quiet_since = now;
        }
        self.pending += 1;
    }

    /// A request was answered, given up or lost: it is no longer under way.
    pub fn end(&mut self, now: Instant) {
        debug_assert!(self.pending > 0, "every end has its begin");
        self.pending = self.pending.saturating_sub(1);
        self.quiet_since = now;
    }

    /// An answer began after `rtt`: believed at once where it is slower than the estimate, blended in where it is faster.
    pub fn observe(&mut self, rtt: Duration, now: Instant) {
        let rtt = rtt.as_secs_f64();
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        if !self.measured || rtt > self.rtt {
            self.rtt = rtt;
        } else {
            let kept = exp(-elapsed / self.decay);
            self.rtt = self.rtt * kept + rtt * (1.0 - kept);
        }
        self.measured = true;
        self.updated = now;
    }

    /// The endpoint is at least this slow: raises the estimate, never lowers it. For requests that were given up or failed.
    pub fn at_least(&mut self, rtt: Duration, now: Instant) {
        if rtt.as_secs_f64() > self.decayed(now) {
            self.rtt = rtt.as_secs_f64();
            self.updated = now;
            self.measured = true;
        }
    }

    /// The endpoint said that it has too much to do: costs `by` more, which sinks to 1/e in `decay`. A smaller one never replaces what is left
    /// of a larger.
    pub fn penalize(&mut self, by: Duration, decay: Duration, now: Instant) {
        let left = self.penalty_left(now);
        self.penalty = Some(Penalty {
            seconds: left.max(by.as_secs_f64()),
            since: now,
            decay: decay.as_secs_f64().max(MIN_RTT),
        });
    }

    /// Forgets what was measured, so that the next answer counts alone.
    pub fn reset(&mut self, default_rtt: Duration, now: Instant) {
        self.rtt = default_rtt.as_secs_f64();
        self.measured = false;
        self.updated = now;
    }

    /// What one more request would meet: (response time + penalty) × (1 + requests under way for each unit of weight).
    ///
    /// An endpoint that was never measured costs nothing until it has its first request, which is how it gets measured; with that
    /// one under way it costs the default, so that a newcomer is tried by one request and not by a flood.
    pub fn cost(&self, weight: f64, now: Instant) -> f64 {
        if self.pending == 0 {
            return if self.measured { self.decayed(now) } else { 0.0 } + self.penalty_left(now);
        }
        let silence = now.saturating_duration_since(self.quiet_since).as_secs_f64();
        let rtt = if self.measured { self.decayed(now) } else { self.rtt };
        (rtt.max(silence) + self.penalty_left(now)) * (1.0 + f64::from(self.pending) / weight)
    }

    /// The estimate; none where nothing was measured.
    pub fn estimate(&self, now: Instant) -> Option<Duration> {
        self.measured.then(|| Duration::from_secs_f64(self.decayed(now)))
    }

    /// What is left of the penalty, seconds.
    pub fn penalty_left(&self, now: Instant) -> f64 {
        self.penalty.as_ref().map_or(0.0, |penalty| penalty.decayed(now))
    }

    fn decayed(&self, now: Instant) -> f64 {
        sunk(self.rtt, now.saturating_duration_since(self.updated), self.decay).max(MIN_RTT)
    }
}

fn sunk(seconds: f64, elapsed: Duration, decay: f64) -> f64 {
    seconds * exp(-elapsed.as_secs_f64() / decay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DECAY: Duration = Duration::from_secs(10);

    fn load(now: Instant) -> Load {
        Load::new(30 * MS, DECAY, now)
    }

    #[test]
    fn the_first_answer_replaces_the_default() {
        let now = Instant::now();
        let mut load = load(now);
        load.observe(2 * MS, now + MS);
        assert!((load.cost(1.0, now + MS) - 0.002).abs() < 1e-9);
    }

    #[test]
    fn an_unmeasured_endpoint_is_tried_by_one_request() {
        let now = Instant::now();
        let mut load = load(now);
        assert_eq!(load.cost(1.0, now), 0.0);
        load.begin(now);
        assert!((load.cost(1.0, now) - 0.060).abs() < 1e-9, "30 ms × (1 + 1 under way)");
    }

    #[test]
    fn slower_is_believed_at_once_and_sinks_by_e_in_one_decay_time() {
        let now = Instant::now();
        let mut load = load(now);
        load.observe(MS, now);
        load.observe(100 * MS, now);
        assert!((load.cost(1.0, now) - 0.100).abs() < 1e-9);
        let later = load.cost(1.0, now + DECAY);
        assert!((later - 0.100 / std::f64::consts::E).abs() < 1e-6, "{later}");
    }

    #[test]
    fn silence_with_work_counts_as_slowness() {
        let now = Instant::now();
        let mut load = load(now);
        load.observe(MS, now);
        load.begin(now);
        assert!(load.cost(1.0, now + 500 * MS) >= 1.0, "500 ms of silence × 2");
        load.end(now + 500 * MS);
        assert!(load.cost(1.0, now + 500 * MS) < 0.002, "idle again, its measure stands");
    }

    #[test]
    fn a_penalty_sinks_at_its_own_pace_and_no_fast_answer_takes_it_away() {
        let now = Instant::now();
        let mut load = load(now);
        load.observe(MS, now);
        load.penalize(5000 * MS, 2 * DECAY, now);
        load.penalize(MS, 2 * DECAY, now);
        assert!((load.cost(1.0, now) - 5.001).abs() < 1e-6);
        load.observe(MS, now + DECAY);
        let later = load.cost(1.0, now + 2 * DECAY);
        assert!((later - 5.0 / std::f64::consts::E).abs() < 0.01, "{later}");
    }

    #[test]
    fn a_failure_never_lowers_the_estimate() {
        let now = Instant::now();
        let mut load = load(now);
        load.observe(50 * MS, now);
        load.at_least(MS, now);
        assert!((load.cost(1.0, now) - 0.050).abs() < 1e-9);
    }
}
