//! What the page of the mesh's health shows: the points of `sheer check`, which whoever starts the dashboard brings.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Looks at the mesh, point by point.
pub trait Checks: Send + Sync {
    /// Looks now. May take seconds.
    fn run(&self) -> BoxFuture<'_, Checked>;
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Checked {
    /// Whether no point failed.
    pub success: bool,
    /// In the order in which one would look.
    pub categories: Vec<Category>,
}

/// The points of one part of the mesh.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Category {
    /// As `control-plane`.
    pub name: String,
    /// In the order in which one would look.
    pub points: Vec<Point>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What is looked at, in words.
    pub description: String,
    /// How it came out.
    pub result: Mark,
    /// What was found, one line each; empty where all is well.
    pub details: Vec<String>,
    /// What to do; empty where all is well.
    pub hint: String,
}

/// How a point came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Well.
    Success,
    /// Works today; look at it.
    Warning,
    /// Not well.
    Error,
}

/// A check opens connections to every pod: several pages share one, and one is not made sooner than this after the last.
const FRESH: Duration = Duration::from_secs(10);

/// The last check, for all pages.
pub(crate) struct LastCheck {
    checks: Arc<dyn Checks>,
    last: Mutex<Option<(Instant, Checked)>>,
}

impl LastCheck {
    pub(crate) fn new(checks: Arc<dyn Checks>) -> Self {
        Self {
            checks,
            last: Mutex::new(None),
        }
    }

    /// The last check and its age; a new one where that is old. Whoever asks meanwhile waits for the same.
    pub(crate) async fn look(&self) -> (Checked, Duration) {
        let mut last = self.last.lock().await;
        if let Some((at, checked)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return (checked.clone(), at.elapsed());
        }
        let checked = self.checks.run().await;
        *last = Some((Instant::now(), checked.clone()));
        (checked, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Checks for Counted {
        fn run(&self) -> BoxFuture<'_, Checked> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Checked::default() })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_share_a_check_until_it_is_old() {
        let counted = Arc::new(Counted::default());
        let last = LastCheck::new(Arc::clone(&counted) as Arc<dyn Checks>);
        last.look().await;
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(last.look().await.1, Duration::from_secs(3));
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH).await;
        assert_eq!(last.look().await.1, Duration::ZERO);
        assert_eq!(counted.0.load(Ordering::Relaxed), 2);
    }
}
