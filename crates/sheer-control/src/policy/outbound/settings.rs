//! Annotations to messages.

use std::time::Duration;

use sheer_api::{
    linkerd::{
        http_route::Timeouts,
        outbound::{
            ExponentialBackoff, FailureAccrual, backend::balance_p2c, failure_accrual, grpc_route as grpc,
            http_route as http,
        },
    },
    v1,
};

use crate::objects::{
    Interval, RouteRetry, RouteTimeouts, Traffic,
    traffic::{AccrualSettings, BudgetSettings, HedgeSettings, PenaltySettings, RetrySettings, TimeoutSettings},
};

/// What an endpoint that was never measured is taken for.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
/// Time in which a measurement sinks to 1/e.
const RTT_DECAY: Duration = Duration::from_secs(10);
/// Largest body that is kept for a retry: Linkerd's.
const MAX_REQUEST_BYTES: u32 = 64 * 1024;
/// Waits between attempts where nothing is said: Linkerd's.
const BACKOFF: (Duration, Duration, f32) = (Duration::from_millis(25), Duration::from_millis(250), 1.0);
/// Attempts beyond the first where Gateway API's `retry` does not say how many.
const ATTEMPTS: u32 = 2;
/// `Retry-After` and `grpc-retry-pushback-ms` are obeyed up to this.
const MAX_HINT: Duration = Duration::from_secs(5);

pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

pub(super) fn load(penalty: Option<&PenaltySettings>) -> balance_p2c::Load {
    match penalty {
        None => balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
            default_rtt: duration(DEFAULT_RTT),
            decay: duration(RTT_DECAY),
        }),
        Some(penalty) => balance_p2c::Load::PenaltyPeakEwma(balance_p2c::PenaltyPeakEwma {
            default_rtt: duration(DEFAULT_RTT),
            decay: duration(RTT_DECAY),
            penalty: duration(penalty.penalty),
            penalty_decay: duration(RTT_DECAY),
            max_retry_after: duration(penalty.max_retry_after),
        }),
    }
}

pub(super) fn budget(said: BudgetSettings) -> v1::RetryBudget {
    v1::RetryBudget {
        ratio: said.ratio,
        min_per_second: said.min_per_second,
        ttl: duration(said.ttl),
    }
}

pub(super) fn hedge(said: HedgeSettings) -> v1::Hedge {
    v1::Hedge {
        delay: duration(said.delay),
        max_attempts: said.max_attempts,
    }
}

pub(super) fn accrual(said: &AccrualSettings) -> FailureAccrual {
    let backoff = ExponentialBackoff {
        min_backoff: duration(said.min_penalty),
        max_backoff: duration(said.max_penalty.max(said.min_penalty)),
        jitter_ratio: said.jitter,
        respect_retry_after_hint: said.honour_hint,
    };
    let kind = match said.success_rate {
        None => failure_accrual::Kind::ConsecutiveFailures(failure_accrual::ConsecutiveFailures {
            max_failures: said.max_failures,
            backoff: Some(backoff),
        }),
        Some((threshold, window, min_requests)) => failure_accrual::Kind::Unified(failure_accrual::Unified {
            success_rate_threshold: threshold,
            decay: duration(window),
            min_requests,
            max_consecutive_failures: said.max_failures,
            backoff: Some(backoff),
        }),
    };
    FailureAccrual {
        kind: Some(kind),
        ejection: None,
    }
}

/// When a request is sent again, wherever that was said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Retry {
    settings: RetrySettings,
    backoff: ExponentialBackoff,
    /// Longest hint of the server that is obeyed, beyond the backoff's own bound.
    max_hint: Option<Duration>,
}

fn backoff((min, max, jitter_ratio): (Duration, Duration, f32)) -> ExponentialBackoff {
    ExponentialBackoff {
        min_backoff: duration(min),
        max_backoff: duration(max),
        jitter_ratio,
        respect_retry_after_hint: true,
    }
}

impl Retry {
    /// Annotations.
    pub(super) fn annotated(settings: &RetrySettings) -> Self {
        Self {
            settings: settings.clone(),
            backoff: backoff(BACKOFF),
            max_hint: Some(MAX_HINT),
        }
    }

    /// A ServiceProfile, which allows many attempts: waits stay short, hints count within them.
    pub(super) fn of_profile(settings: RetrySettings) -> Self {
        Self {
            settings,
            backoff: backoff(BACKOFF),
            max_hint: None,
        }
    }

    /// Gateway API's field. `one` is the bound of one attempt.
    fn of_rule(retry: &RouteRetry, one: Option<Duration>) -> Self {
        let waits = retry.backoff.and_then(Interval::bound);
        Self {
            settings: RetrySettings {
                statuses: retry.codes.iter().map(|code| (*code, *code)).collect(),
                grpc_codes: Vec::new(),
                limit: retry.attempts.unwrap_or(ATTEMPTS),
                timeout: one,
            },
            backoff: backoff(waits.map_or(BACKOFF, |min| (min, min.saturating_mul(10), 0.5))),
            max_hint: Some(MAX_HINT),
        }
    }

    pub(super) fn http(&self) -> http::Retry {
        use http::retry::{Conditions, conditions::StatusRange};
        let range = |(start, end): &(u16, u16)| StatusRange {
            start: (*start).into(),
            end: (*end).into(),
        };
        http::Retry {
            max_retries: self.settings.limit,
            max_request_bytes: MAX_REQUEST_BYTES,
            conditions: Some(Conditions {
                status_ranges: self.settings.statuses.iter().map(range).collect(),
            }),
            timeout: self.settings.timeout.and_then(duration),
            backoff: Some(self.backoff),
        }
    }

    pub(super) fn grpc(&self) -> grpc::Retry {
        let has = |code| self.settings.grpc_codes.contains(&code);
        grpc::Retry {
            max_retries: self.settings.limit,
            max_request_bytes: MAX_REQUEST_BYTES,
            conditions: Some(grpc::retry::Conditions {
                cancelled: has(1),
                deadine_exceeded: has(4),
                resource_exhausted: has(8),
                internal: has(13),
                unavailable: has(14),
            }),
            timeout: self.settings.timeout.and_then(duration),
            backoff: Some(self.backoff),
        }
    }

    /// What the policy cannot say: hints, and codes of gRPC beyond those of the policy's conditions.
    pub(super) fn extras(&self, is_grpc: bool) -> v1::RetryExtras {
        let said = |code: &&u16| is_grpc && matches!(**code, 1 | 4 | 8 | 13 | 14);
        let codes = self.settings.grpc_codes.iter().filter(|code| !said(code));
        v1::RetryExtras {
            grpc_codes: codes.map(|code| (*code).into()).collect(),
            max_hint: self.max_hint.and_then(duration),
        }
    }
}

/// Timeouts and retries of a rule: its own fields, then its route's annotations, then the parent's.
pub(super) fn of_rule(
    timeouts: Option<&RouteTimeouts>,
    retry: Option<&RouteRetry>,
    route: &Traffic,
    parent: &Traffic,
) -> (Option<Timeouts>, Option<Retry>) {
    let one = timeouts
        .and_then(|timeouts| timeouts.backend_request)
        .and_then(Interval::bound);
    let mut annotated = route.timeouts.unwrap_or_default();
    if let Some(request) = timeouts.and_then(|timeouts| timeouts.request) {
        annotated.request = request.bound();
    }
    if let Some(one) = one {
        annotated.response = Some(annotated.response.map_or(one, |response| response.min(one)));
    }
    let says_nothing = timeouts.is_none() && annotated == TimeoutSettings::default();
    let settings = if says_nothing {
        parent.timeouts.unwrap_or_default()
    } else {
        annotated
    };
    let annotated = || route.retry.as_ref().or(parent.retry.as_ref()).map(Retry::annotated);
    let mut retry = retry.map(|retry| Retry::of_rule(retry, one)).or_else(annotated);
    if let Some(retry) = &mut retry {
        retry.settings.timeout = retry.settings.timeout.or(one);
    }
    (to_message(settings), retry)
}

pub(super) fn to_message(settings: TimeoutSettings) -> Option<Timeouts> {
    (settings != TimeoutSettings::default()).then(|| Timeouts {
        request: settings.request.and_then(duration),
        response: settings.response.and_then(duration),
        idle: settings.idle.and_then(duration),
    })
}
