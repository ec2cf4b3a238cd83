//! What a server that fails says about another attempt.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// gRPC's way to say it (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What the server says about another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Nothing.
    None,
    /// Not before.
    After(Duration),
    /// Not at all.
    Never,
}

impl Hint {
    /// `grpc-retry-pushback-ms` (negative, or no number: do not try again), `Retry-After` (seconds, or a date; RFC 9110 10.2.3).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self::read(headers, today)
    }

    /// How long the server wants to be left alone, where it says it.
    pub(crate) fn after(self) -> Option<Duration> {
        match self {
            Self::After(after) => Some(after),
            Self::None | Self::Never => None,
        }
    }

    fn read(headers: &HeaderMap, now: impl Fn() -> SystemTime) -> Self {
        if let Some(pushback) = headers.get(PUSHBACK) {
            let millis = pushback.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
            return millis.map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis)));
        }
        let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
            return Self::None;
        };
        let text = text.trim();
        if let Ok(seconds) = text.parse() {
            return Self::After(Duration::from_secs(seconds));
        }
        match httpdate::parse_http_date(text) {
            Ok(date) => Self::After(date.duration_since(now()).unwrap_or_default()),
            Err(_) => Self::None,
        }
    }
}

/// What servers' dates are compared with.
#[expect(
    clippy::disallowed_methods,
    reason = "`Retry-After` may be a date; a clock that steps makes a wait longer or shorter, within bounds"
)]
fn today() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn hints_are_read() {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 10:00:00 GMT").expect("a date");
        let of = |name: &'static str, value| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            Hint::read(&headers, || now)
        };
        let seconds = |seconds| Hint::After(Duration::from_secs(seconds));
        assert_eq!(of("retry-after", "3"), seconds(3));
        assert_eq!(of("retry-after", "Thu, 26 Nov 2026 10:00:05 GMT"), seconds(5));
        assert_eq!(of("retry-after", "Thu, 26 Nov 2026 09:00:00 GMT"), seconds(0));
        assert_eq!(of("retry-after", "soon"), Hint::None);
        assert_eq!(of("retry-after", "-1"), Hint::None);
        assert_eq!(of("grpc-retry-pushback-ms", "2000"), seconds(2));
        assert_eq!(of("grpc-retry-pushback-ms", "-1"), Hint::Never);
        assert_eq!(of("grpc-retry-pushback-ms", "x"), Hint::Never);
        assert_eq!(of("x", "1"), Hint::None);
    }
}
