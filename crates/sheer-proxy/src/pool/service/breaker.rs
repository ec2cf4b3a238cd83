//! What is told of breakers: a line of the log for each change, and counts by service.
//!
//! Each worker judges endpoints by the requests that it sent itself, so each tells its own.

use std::sync::Arc;

use crate::{
    balance::{
        Watch,
        health::{Event, Stage},
    },
    discovery::Endpoint,
    metrics::BreakerMetrics,
};

/// Tells of the breakers of one service.
pub(super) struct Breakers {
    pub(super) service: Arc<str>,
    pub(super) metrics: BreakerMetrics,
}

impl Watch for Breakers {
    fn event(&self, endpoint: &Endpoint, event: Event) {
        self.count(event);
        let (service, addr) = (&self.service, endpoint.addr);
        match event {
            Event::SitsOut(why, period) => {
                let seconds = period.as_secs_f32();
                tracing::warn!(%service, endpoint = %addr, %why, "endpoint sits out for {seconds:.1} s");
            }
            Event::SitsOutAgain(period) => {
                let seconds = period.as_secs_f32();
                let why = "its probe failed";
                tracing::warn!(%service, endpoint = %addr, why, "endpoint sits out again for {seconds:.1} s");
            }
            Event::Stays(why) => {
                tracing::warn!(%service, endpoint = %addr, %why, "endpoint fails, but too few would be left without it");
            }
            Event::Back(_) => tracing::info!(%service, endpoint = %addr, "endpoint takes requests again"),
            Event::Probation => tracing::debug!(%service, endpoint = %addr, "endpoint is probed by the next request"),
            Event::Left(_) => {}
        }
    }
}

impl Breakers {
    fn count(&self, event: Event) {
        let metrics = &self.metrics;
        let (from, to) = match event {
            Event::SitsOut(..) => {
                metrics.trips.inc();
                (Stage::Closed, Stage::Open)
            }
            Event::SitsOutAgain(_) => {
                metrics.reopenings.inc();
                (Stage::Probation, Stage::Open)
            }
            Event::Back(from) => {
                metrics.closings.inc();
                (from, Stage::Closed)
            }
            Event::Probation => (Stage::Open, Stage::Probation),
            Event::Left(from) => (from, Stage::Closed),
            Event::Stays(_) => return,
        };
        for (stage, by) in [(from, -1), (to, 1)] {
            match stage {
                Stage::Open => metrics.open.add(by),
                Stage::Probation => metrics.probation.add(by),
                Stage::Closed => {}
            }
        }
    }
}
