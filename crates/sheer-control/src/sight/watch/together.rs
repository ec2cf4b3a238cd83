//! The rate of several proxies that are watched together: nobody knows beforehand which of them has the traffic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::stream::{Stream, unfold};
use sheer_api::v1;
use sheer_policy::limit::Throttle;
use tokio::time::{MissedTickBehavior, interval};

/// Requests a second, where nobody says.
const RATE: u32 = 100;
/// How often a reader is told what is beyond it.
const LOSSES: Duration = Duration::from_millis(500);

/// What the proxies of several pods show together, each of which has all of the rate.
pub(super) struct Together {
    rate: Throttle,
    beyond: Arc<AtomicU64>,
}

impl Together {
    /// Of so many pods: one alone keeps the rate by itself.
    pub(super) fn of(pods: usize, rate: u32) -> Option<Arc<Self>> {
        let rate = if rate == 0 { RATE } else { rate };
        (pods > 1).then(|| {
            Arc::new(Self {
                rate: Throttle::new(rate, Instant::now()),
                beyond: Arc::default(),
            })
        })
    }

    /// Whether one more is shown; one that is not is counted.
    pub(super) fn admits(&self) -> bool {
        let admits = self.rate.takes(Instant::now());
        if !admits {
            self.beyond.fetch_add(1, Relaxed);
        }
        admits
    }

    /// What is beyond it, summed up, for as long as any of them is watched.
    pub(super) fn losses(self: &Arc<Self>) -> impl Stream<Item = v1::TapLoss> + Send + use<> {
        let (shared, beyond) = (Arc::downgrade(self), Arc::clone(&self.beyond));
        let mut ticks = interval(LOSSES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        unfold((ticks, shared, beyond), async |(mut ticks, shared, beyond)| {
            loop {
                ticks.tick().await;
                let is_watched = shared.strong_count() > 0;
                let rate = beyond.swap(0, Relaxed);
                if rate > 0 {
                    return Some((v1::TapLoss { slow: 0, rate }, (ticks, shared, beyond)));
                }
                if !is_watched {
                    return None;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_beyond_is_summed_up_and_the_last_of_it_is_told() {
        let together = Together::of(2, 3).expect("of several");
        assert!(Together::of(1, 3).is_none(), "one alone keeps it itself");
        let mut losses = Box::pin(together.losses());
        let admitted = |count: usize| (0..count).filter(|_| together.admits()).count();
        assert_eq!(admitted(10), 3);
        assert_eq!(losses.next().await.map(|loss| loss.rate), Some(7));
        assert_eq!(admitted(4), 0);
        drop(together);
        assert_eq!(losses.next().await.map(|loss| loss.rate), Some(4));
        assert_eq!(losses.next().await, None);
    }
}
