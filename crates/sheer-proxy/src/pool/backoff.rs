//! Waits between attempts to reach an endpoint.

use std::time::Duration;

use rand::Rng;

use crate::settings::Backoff;

/// How long to wait after so many failures in a row (1 after the first): doubled each time, with jitter on top so that the clients
/// of an endpoint do not come back together.
pub(super) fn wait_after(failures: u32, backoff: &Backoff, rng: &mut impl Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let wait = backoff.min.saturating_mul(1 << doublings).min(backoff.max);
    wait.mul_f64(1.0 + rng.random::<f64>() * backoff.jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    proptest! {
        #[test]
        fn doubles_within_its_bounds(failures in 1u32..u32::MAX, seed: u64) {
            let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(60), jitter: 0.1 };
            let mut rng = SmallRng::seed_from_u64(seed);
            let wait = wait_after(failures, &backoff, &mut rng);
            let exact = backoff.min.mul_f64(2f64.powi(failures.min(30) as i32 - 1)).min(backoff.max);
            prop_assert!(wait >= exact && wait <= exact.mul_f64(1.1), "{wait:?} after {failures}, exactly {exact:?}");
        }
    }
}
