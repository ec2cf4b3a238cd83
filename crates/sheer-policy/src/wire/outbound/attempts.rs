//! How long a request may take, when it is sent again, and when an endpoint sits out.

use std::time::Duration;

use sheer_api::{
    linkerd::{http_route, outbound as api},
    v1,
};

use crate::{
    outbound::{Backoff, FailureAccrual, Hedge, Retry, RetryBudget, SuccessRate, Timeouts},
    wire::common,
};

/// Body that is kept for a retry where the policy does not say: Linkerd's.
pub(in crate::wire) const MAX_REQUEST_BYTES: usize = 64 * 1024;

pub(super) fn timeouts(said: Option<http_route::Timeouts>) -> Timeouts {
    let said = said.unwrap_or_default();
    Timeouts {
        request: common::duration(said.request),
        response: common::duration(said.response),
        idle: common::duration(said.idle),
    }
}

pub(super) fn http_retry(said: api::http_route::Retry) -> Retry {
    let ranges = said.conditions.unwrap_or_default().status_ranges;
    let status = |status: u32| u16::try_from(status).unwrap_or(u16::MAX);
    Retry {
        limit: said.max_retries,
        max_request_bytes: request_bytes(said.max_request_bytes),
        statuses: ranges
            .into_iter()
            .map(|range| (status(range.start), status(range.end)))
            .collect(),
        grpc_codes: Vec::new(),
        timeout: common::duration(said.timeout),
        backoff: said.backoff.and_then(backoff),
        max_hint: None,
    }
}

pub(super) fn grpc_retry(said: api::grpc_route::Retry) -> Retry {
    let conditions = said.conditions.unwrap_or_default();
    let codes = [
        (conditions.cancelled, 1),
        (conditions.deadine_exceeded, 4),
        (conditions.resource_exhausted, 8),
        (conditions.internal, 13),
        (conditions.unavailable, 14),
    ];
    Retry {
        limit: said.max_retries,
        max_request_bytes: request_bytes(said.max_request_bytes),
        statuses: Vec::new(),
        grpc_codes: codes
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, code)| code)
            .collect(),
        timeout: common::duration(said.timeout),
        backoff: said.backoff.and_then(backoff),
        max_hint: None,
    }
}

fn request_bytes(said: u32) -> usize {
    usize::try_from(said)
        .ok()
        .filter(|bytes| *bytes > 0)
        .unwrap_or(MAX_REQUEST_BYTES)
}

fn backoff(said: api::ExponentialBackoff) -> Option<Backoff> {
    let min = common::duration(said.min_backoff)?;
    Some(Backoff {
        min,
        max: common::duration(said.max_backoff).unwrap_or(min).max(min),
        jitter: f64::from(said.jitter_ratio).clamp(0.0, 100.0),
        honour_hint: said.respect_retry_after_hint,
    })
}

pub(super) fn failure_accrual(said: api::FailureAccrual) -> Option<FailureAccrual> {
    use api::failure_accrual::Kind;
    let min_ready = said
        .ejection
        .and_then(|ejection| usize::try_from(ejection.min_ready_endpoints).ok());
    let consecutive = |failures: u32| (failures > 0).then_some(failures);
    let (max_consecutive, success_rate, said_backoff) = match said.kind? {
        Kind::ConsecutiveFailures(said) => (consecutive(said.max_failures), None, said.backoff),
        Kind::Unified(said) => {
            let rate = (said.success_rate_threshold > 0.0).then(|| SuccessRate {
                threshold: said.success_rate_threshold.min(1.0),
                window: common::duration(said.decay).unwrap_or(Duration::from_secs(10)),
                min_requests: said.min_requests,
            });
            (consecutive(said.max_consecutive_failures), rate, said.backoff)
        }
    };
    if max_consecutive.is_none() && success_rate.is_none() {
        return None;
    }
    Some(FailureAccrual {
        max_consecutive,
        success_rate,
        backoff: said_backoff.and_then(backoff).unwrap_or(Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: 0.5,
            honour_hint: false,
        }),
        min_ready: min_ready.unwrap_or(0),
    })
}

pub(in crate::wire) fn budget(said: v1::RetryBudget) -> RetryBudget {
    RetryBudget {
        ratio: if said.ratio.is_finite() {
            said.ratio.clamp(0.0, 1_000.0)
        } else {
            0.0
        },
        min_per_second: said.min_per_second,
        ttl: common::duration(said.ttl).unwrap_or(RetryBudget::default().ttl),
    }
}

/// What the policy cannot say of retries.
pub(super) fn add_to_retry(retry: &mut Retry, extra: &v1::RetryExtras) {
    let codes = extra.grpc_codes.iter().filter_map(|code| u16::try_from(*code).ok());
    retry.grpc_codes.extend(codes);
    retry.max_hint = common::duration(extra.max_hint);
}

pub(super) fn hedge(said: &v1::Hedge) -> Option<Hedge> {
    let delay = common::duration(said.delay)?;
    (said.max_attempts > 1).then_some(Hedge {
        delay,
        max_attempts: said.max_attempts,
    })
}
