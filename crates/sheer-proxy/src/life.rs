//! The end of the process: who asks for it, who has to finish, and when it is over regardless.
//!
//! ```text
//! Running ──SIGTERM, SIGINT, POST /shutdown──► Draining ──all finished──► Stopped
//!                                                 └──────grace period────────┘
//! ```
//!
//! [`Life`] is what tasks hold; only [`LifeControl`] moves it on.

use std::{future::Future, time::Duration};

use tokio::sync::watch;

/// How long nothing may happen on a connection in a drain before it is ended. A connection that carries bytes has no end that a proxy could
/// see coming; one that was silent for so long is more likely idle than in the middle of something.
pub const QUIET: Duration = Duration::from_secs(3);

/// Where the process is on its way to the end. Never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new connections; what is in flight finishes (HTTP/2: GOAWAY).
    Draining,
    /// Everything ends now.
    Stopped,
}

/// Handle of a task: says what phase it is, and counts as in flight. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Life {
    phase: watch::Receiver<Phase>,
    in_flight: watch::Sender<usize>,
}

/// Something that a drain waits for: a connection or a request. Ends when dropped.
#[derive(Debug)]
pub struct InFlight(watch::Sender<usize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Life {
    /// The phase now. One atomic load and no wait.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether no new work should begin.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Returns once the drain begins. Cancel-safe.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns once, in a drain, `moved` has not changed for as long as [`QUIET`]. Cancel-safe.
    pub async fn quiet_in_drain(&self, moved: impl Fn() -> u64) {
        self.draining().await;
        loop {
            let before = moved();
            tokio::time::sleep(QUIET).await;
            if moved() == before {
                return;
            }
        }
    }

    /// Returns once everything must end. Cancel-safe.
    pub async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }

    /// Counts something as in flight until the guard is dropped.
    pub fn track(&self) -> InFlight {
        self.in_flight.send_modify(|count| *count += 1);
        InFlight(self.in_flight.clone())
    }

    /// Runs a task to its end or to the hard stop, counted as in flight. `None` where it was stopped.
    pub async fn run<F: Future>(&self, task: F) -> Option<F::Output> {
        let _in_flight = self.track();
        tokio::select! {
            biased; // a task that is done has its result counted even at the stop
            output = task => Some(output),
            () = self.stopped() => None,
        }
    }

    /// Runs a task to its end or to the hard stop, without holding up a drain. `None` where it was stopped.
    pub async fn stopped_or<F: Future>(&self, task: F) -> Option<F::Output> {
        tokio::select! {
            biased; // a task that is done has its result counted even at the stop
            output = task => Some(output),
            () = self.stopped() => None,
        }
    }

    async fn reached(&self, phase: Phase) {
        let mut watch = self.phase.clone();
        // The sender is gone only when the process ends: as good as stopped.
        let _ = watch.wait_for(|now| *now >= phase).await;
    }
}

/// Asks for the end: signals and `POST /shutdown`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(watch::Sender<Option<&'static str>>);

impl Shutdown {
    /// Asks. The first reason stays.
    pub fn ask(&self, why: &'static str) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(why);
            first
        });
    }

    /// Returns once somebody asked, with the reason.
    pub async fn asked(&self) -> &'static str {
        let mut asked = self.0.subscribe();
        // The sender lives as long as self.
        let why = asked.wait_for(Option::is_some).await.ok().and_then(|why| *why);
        why.unwrap_or_default()
    }
}

/// Moves the process on. One a process.
#[derive(Debug)]
pub struct LifeControl {
    phase: watch::Sender<Phase>,
    in_flight: watch::Sender<usize>,
}

impl Default for LifeControl {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
            in_flight: watch::Sender::new(0),
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything finished.
    Clean,
    /// So much was still in flight when the grace period ended.
    Cut(usize),
}

impl LifeControl {
    /// A handle for tasks.
    pub fn life(&self) -> Life {
        Life {
            phase: self.phase.subscribe(),
            in_flight: self.in_flight.clone(),
        }
    }

    /// Begins the drain, waits until nothing is in flight or `grace` is over, then stops everything.
    pub async fn drain(&self, grace: Duration) -> Drained {
        self.phase.send_modify(|phase| *phase = (*phase).max(Phase::Draining));
        let mut in_flight = self.in_flight.subscribe();
        let clean = tokio::time::timeout(grace, in_flight.wait_for(|count| *count == 0))
            .await
            .is_ok();
        let left = *self.in_flight.borrow();
        self.phase.send_replace(Phase::Stopped);
        if clean { Drained::Clean } else { Drained::Cut(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_what_is_in_flight() {
        let control = LifeControl::default();
        let life = control.life();
        let task = tokio::spawn({
            let life = life.clone();
            async move {
                let _request = life.track();
                life.draining().await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        tokio::task::yield_now().await;
        let start = tokio::time::Instant::now();
        assert_eq!(control.drain(Duration::from_secs(120)).await, Drained::Clean);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert!(task.await.is_ok());
        assert_eq!(life.phase(), Phase::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_is_only_what_does_not_move_in_a_drain() {
        let control = LifeControl::default();
        let life = control.life();
        let moved = std::cell::Cell::new(0);
        let quiet = life.quiet_in_drain(|| moved.get());
        let drain = async {
            tokio::time::sleep(QUIET * 10).await;
            let began = tokio::time::Instant::now();
            let _in_flight = life.track();
            let busy = async {
                for _ in 0..5 {
                    tokio::time::sleep(QUIET / 2).await;
                    moved.set(moved.get() + 1);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = control.drain(QUIET * 100) => panic!("something is in flight"),
                () = busy => {}
                () = quiet => {}
            }
            began.elapsed()
        };
        let took = drain.await;
        assert!(took > QUIET * 5 / 2 && took <= QUIET * 4, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn drain_is_bounded_and_then_stops_tasks() {
        let control = LifeControl::default();
        let life = control.life();
        let task = tokio::spawn(async move { life.run(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        let start = tokio::time::Instant::now();
        assert_eq!(control.drain(Duration::from_secs(120)).await, Drained::Cut(1));
        assert_eq!(start.elapsed(), Duration::from_secs(120));
        assert_eq!(task.await.ok(), Some(None));
    }
}
