//! What a request itself asks for, where its rule allows that: Linkerd's headers `l5d-retry-*`, `l5d-timeout`, `l5d-response-timeout`. They are
//! removed before the request is sent.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName};
use sheer_policy::outbound::{Backoff, Retry, Timeouts};

use crate::exchange::Head;

const RETRY_HTTP: HeaderName = HeaderName::from_static("l5d-retry-http");
const RETRY_GRPC: HeaderName = HeaderName::from_static("l5d-retry-grpc");
const RETRY_LIMIT: HeaderName = HeaderName::from_static("l5d-retry-limit");
const RETRY_TIMEOUT: HeaderName = HeaderName::from_static("l5d-retry-timeout");
const TIMEOUT: HeaderName = HeaderName::from_static("l5d-timeout");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("l5d-request-timeout");
const RESPONSE_TIMEOUT: HeaderName = HeaderName::from_static("l5d-response-timeout");

/// What a request that asks for retries gets where its rule says nothing: Linkerd's.
const DEFAULT: Retry = Retry {
    limit: 1,
    max_request_bytes: 64 * 1024,
    statuses: Vec::new(),
    grpc_codes: Vec::new(),
    timeout: None,
    backoff: Some(Backoff {
        min: Duration::from_millis(25),
        max: Duration::from_millis(250),
        jitter: 1.0,
        honour_hint: true,
    }),
    max_hint: None,
};

/// Takes out of a request what it asks for, and has it so. What cannot be read asks for nothing.
pub(super) fn apply(head: &mut Head, timeouts: &mut Timeouts, retry: &mut Option<Rc<Retry>>) {
    let headers = &mut head.headers;
    for name in [REQUEST_TIMEOUT, TIMEOUT] {
        if let Some(timeout) = take(headers, &name, duration) {
            timeouts.request = Some(timeout);
        }
    }
    if let Some(timeout) = take(headers, &RESPONSE_TIMEOUT, duration) {
        timeouts.response = Some(timeout);
    }
    let statuses = take(headers, &RETRY_HTTP, statuses);
    let codes = take(headers, &RETRY_GRPC, codes);
    let limit = take(headers, &RETRY_LIMIT, |text| text.parse::<u32>().ok());
    let timeout = take(headers, &RETRY_TIMEOUT, duration);
    if statuses.is_none() && codes.is_none() && limit.is_none() && timeout.is_none() {
        return;
    }
    let mut asked = retry.as_deref().cloned().unwrap_or(DEFAULT);
    asked.statuses = statuses.unwrap_or(asked.statuses);
    asked.grpc_codes = codes.unwrap_or(asked.grpc_codes);
    asked.limit = limit.unwrap_or(asked.limit);
    asked.timeout = timeout.or(asked.timeout);
    *retry = Some(Rc::new(asked));
}

fn take<T>(headers: &mut HeaderMap, name: &HeaderName, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let value = headers.remove(name)?;
    read(value.to_str().ok()?.trim())
}

/// `250ms`, `3s`, `1m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number
        .checked_mul(millis)
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
}

/// `5xx`, `gateway-error`, `503`, `500-504`, comma-separated.
fn statuses(text: &str) -> Option<Vec<(u16, u16)>> {
    let range = |text: &str| {
        Some(match text.trim() {
            "5xx" => (500, 599),
            "gateway-error" => (502, 504),
            text => match text.split_once('-') {
                Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
                None => {
                    let status = text.parse().ok()?;
                    (status, status)
                }
            },
        })
    };
    text.split(',').map(range).collect()
}

/// Names of gRPC codes, as Linkerd's annotation has them, comma-separated.
fn codes(text: &str) -> Option<Vec<u16>> {
    let code = |text: &str| {
        Some(match text.trim() {
            "cancelled" => 1,
            "deadline-exceeded" => 4,
            "resource-exhausted" => 8,
            "internal" => 13,
            "unavailable" => 14,
            _ => return None,
        })
    };
    text.split(',').map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_linkerd_reads_them() {
        assert_eq!(
            statuses("5xx, gateway-error,429,500-501"),
            Some(vec![(500, 599), (502, 504), (429, 429), (500, 501)])
        );
        assert_eq!(statuses("many"), None);
        assert_eq!(codes("unavailable, cancelled"), Some(vec![14, 1]));
        assert_eq!(codes("unavailable, what"), None);
        let all = ["250ms", "3s", "2m", "1h"].map(duration);
        assert_eq!(
            all,
            [250, 3_000, 120_000, 3_600_000].map(|millis| Some(Duration::from_millis(millis)))
        );
        assert_eq!(
            ["", "5", "s", "0s", "-1s", "99999999999999999999s"].map(duration),
            [None; 6]
        );
    }
}
