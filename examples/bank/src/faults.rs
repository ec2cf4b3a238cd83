//! Faults that can be switched on while a service runs, and the gRPC service that switches them. `guard` applies them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::v1::{FaultSettings, FaultState, ShowRequest, faults_server::Faults};

/// The faults of one replica.
pub struct Switchboard {
    instance: String,
    current: Mutex<(FaultSettings, Option<Instant>)>,
}

/// What the faults do to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// Wait before anything else.
    pub latency: Duration,
    /// Never answer.
    pub hang: bool,
    /// Fail with UNAVAILABLE.
    pub error: bool,
    /// End with trailers that no client can read.
    pub wrong_trailers: bool,
}

impl Switchboard {
    /// No faults, on the replica of that name.
    pub fn new(instance: String) -> Arc<Self> {
        Arc::new(Self {
            instance,
            current: Mutex::default(),
        })
    }

    /// Name of this replica.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Draws what happens to the next call.
    pub fn plan(&self) -> Plan {
        let settings = self.settings();
        if settings == FaultSettings::default() {
            return Plan::default();
        }
        let mut rng = rand::rng();
        let mut drawn = |rate: f64| rng.random_bool(rate.clamp(0.0, 1.0));
        Plan {
            latency: Duration::from_millis(settings.latency_ms.into()),
            hang: drawn(settings.hang_rate),
            error: drawn(settings.error_rate),
            wrong_trailers: drawn(settings.wrong_trailers_rate),
        }
    }

    fn settings(&self) -> FaultSettings {
        let mut current = self.current.lock();
        if current.1.is_some_and(|end| end <= Instant::now()) {
            *current = Default::default();
        }
        current.0
    }

    fn state(&self) -> Response<FaultState> {
        Response::new(FaultState {
            instance: self.instance.clone(),
            settings: Some(self.settings()),
        })
    }
}

/// `bank.v1.Faults`.
pub struct FaultsService(pub Arc<Switchboard>);

#[tonic::async_trait]
impl Faults for FaultsService {
    async fn set(&self, request: Request<FaultSettings>) -> Result<Response<FaultState>, Status> {
        let settings = request.into_inner();
        let rates = [settings.error_rate, settings.hang_rate, settings.wrong_trailers_rate];
        if rates.iter().any(|rate| !(0.0..=1.0).contains(rate)) {
            return Err(Status::invalid_argument("a rate is between 0 and 1"));
        }
        let end = (settings.for_ms > 0).then(|| Instant::now() + Duration::from_millis(settings.for_ms.into()));
        *self.0.current.lock() = (settings, end);
        tracing::warn!(?settings, "faults changed");
        Ok(self.0.state())
    }

    async fn show(&self, _: Request<ShowRequest>) -> Result<Response<FaultState>, Status> {
        Ok(self.0.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn faults_end_by_themselves() {
        let board = Switchboard::new("ledger-1".to_owned());
        assert_eq!(board.plan(), Plan::default());
        let settings = FaultSettings {
            latency_ms: 100,
            error_rate: 1.0,
            for_ms: 5_000,
            ..Default::default()
        };
        FaultsService(board.clone()).set(Request::new(settings)).await.unwrap();
        assert_eq!(
            board.plan(),
            Plan {
                latency: Duration::from_millis(100),
                error: true,
                ..Plan::default()
            }
        );
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(board.plan(), Plan::default());
    }

    #[tokio::test]
    async fn rates_outside_of_zero_to_one_are_refused() {
        let service = FaultsService(Switchboard::new("fx-1".to_owned()));
        for rate in [-0.1, 1.1, f64::NAN] {
            let settings = FaultSettings {
                error_rate: rate,
                ..Default::default()
            };
            assert_eq!(
                service.set(Request::new(settings)).await.unwrap_err().code(),
                tonic::Code::InvalidArgument
            );
        }
    }
}
