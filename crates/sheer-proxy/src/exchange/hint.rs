//! How long an endpoint says that it wants to be left alone.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// gRPC's way to say it (gRFC A6); a negative number, or none, says "do not try again" and no time.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How long the server asks to be left alone, from now.
#[expect(clippy::disallowed_methods, reason = "a date in Retry-After is of wall-clock time")]
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    retry_after_at(headers, SystemTime::now())
}

/// `grpc-retry-pushback-ms`, or `Retry-After` as seconds or a date (RFC 9110 10.2.3).
fn retry_after_at(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(pushback) = text(PUSHBACK) {
        return pushback.parse().ok().map(Duration::from_millis);
    }
    let after = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(after).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_seconds_dates_or_milliseconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        let hint = |name: &'static str, value: &'static str| {
            retry_after_at(
                &HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))]),
                now,
            )
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(hint("retry-after", "120"), seconds(120));
        assert_eq!(hint("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), seconds(10));
        assert_eq!(hint("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0));
        assert_eq!(hint("retry-after", "soon"), None);
        assert_eq!(hint("retry-after", "-1"), None);
        assert_eq!(
            hint("grpc-retry-pushback-ms", "1500"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(hint("grpc-retry-pushback-ms", "-1"), None);
    }
}
