//! How long a caller waits (`grpc-timeout`): what remains of it is passed on. Pure but for the clock that callers hand in.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::{
    error::ProxyError,
    exchange::{Head, Until},
};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Less spent than this is not worth changing what the caller wrote.
const WORTH_SAYING: Duration = Duration::from_millis(1);
/// `grpc-timeout` has at most so many digits (gRPC over HTTP/2, "Timeout").
const MOST_DIGITS: u128 = 99_999_999;

/// When a caller stops to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// When the request arrived here.
    began: Instant,
    /// What it was given then.
    given: Duration,
}

impl Deadline {
    /// What a gRPC request that arrived at `began` says. A value that is none, or more than one, says nothing.
    pub(crate) fn of(head: &Head, began: Instant) -> Option<Self> {
        if !head.headers.contains_key(GRPC_TIMEOUT) || !head.is_grpc() {
            return None;
        }
        let mut values = head.headers.get_all(GRPC_TIMEOUT).iter();
        let given = parse(values.next()?.as_bytes())?;
        values.next().is_none().then_some(Self { began, given })
    }

    /// When it is over. `None` for one that is too far away to be reached.
    pub(crate) fn until(&self) -> Option<Until> {
        Some(Until {
            at: self.began.checked_add(self.given)?,
            after: self.given,
            limit: None,
        })
    }

    /// How long the caller waits, from when the request arrived.
    pub(crate) fn given(&self) -> Duration {
        self.given
    }

    /// How much of it is left.
    pub(crate) fn remains(&self, now: Instant) -> Duration {
        self.given.saturating_sub(now.saturating_duration_since(self.began))
    }

    /// Writes what remains into a request that is about to be sent; an error where nothing does.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap, now: Instant) -> Result<(), ProxyError> {
        let spent = now.saturating_duration_since(self.began);
        match self.given.checked_sub(spent) {
            None | Some(Duration::ZERO) => Err(self.passed(false)),
            Some(_) if spent < WORTH_SAYING => Ok(()),
            Some(remaining) => {
                headers.insert(GRPC_TIMEOUT, format(remaining));
                Ok(())
            }
        }
    }

    /// The error for when it is over.
    pub(crate) fn passed(&self, sent: bool) -> ProxyError {
        ProxyError::Deadline {
            sent,
            after: self.given,
        }
    }
}

/// Up to eight digits and a unit.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'n' => Duration::from_nanos(number),
        b'u' => Duration::from_micros(number),
        b'm' => Duration::from_millis(number),
        b'S' => Duration::from_secs(number),
        b'M' => Duration::from_secs(number * 60),
        b'H' => Duration::from_secs(number * 3_600),
        _ => return None,
    })
}

/// In the finest unit that has room, rounded down: what is passed on is never more than what remains.
fn format(remaining: Duration) -> HeaderValue {
    let units = [
        (remaining.as_nanos(), 'n'),
        (remaining.as_micros(), 'u'),
        (remaining.as_millis(), 'm'),
        (u128::from(remaining.as_secs()), 'S'),
        (u128::from(remaining.as_secs() / 60), 'M'),
    ];
    let hours = (u128::from(remaining.as_secs() / 3_600).min(MOST_DIGITS), 'H');
    let (number, unit) = units
        .into_iter()
        .find(|(number, _)| *number <= MOST_DIGITS)
        .unwrap_or(hours);
    HeaderValue::try_from(format!("{number}{unit}")).expect("digits and a letter are a field value")
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use proptest::prelude::*;

    use super::*;
    use crate::{exchange::Origin, http1::HeaderCase};

    fn head(timeouts: &[&str]) -> Head {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        for timeout in timeouts {
            headers.append(GRPC_TIMEOUT, timeout.parse().expect("a value"));
        }
        Head {
            method: Method::POST,
            uri: Uri::from_static("http://a/b"),
            origin: Origin::Http2,
            headers,
            protocol: None,
            target: None,
            case: HeaderCase::default(),
            upgrade: None,
        }
    }

    #[test]
    fn what_remains_is_passed_on() {
        let began = Instant::now();
        let mut head = head(&["100m"]);
        let deadline = Deadline::of(&head, began).expect("a deadline");
        let after = |micros| began + Duration::from_micros(micros);
        deadline.pass_on(&mut head.headers, after(999)).expect("time remains");
        assert_eq!(head.headers[GRPC_TIMEOUT], "100m", "not worth saying");
        deadline
            .pass_on(&mut head.headers, after(30_000))
            .expect("time remains");
        assert_eq!(head.headers[GRPC_TIMEOUT], "70000000n");
        let over = deadline.pass_on(&mut head.headers, after(100_000)).expect_err("over");
        assert_eq!((over.reason(), over.grpc_status() as u16), ("deadline", 4));
        assert_eq!(deadline.until().map(|until| until.at), Some(after(100_000)));
    }

    #[test]
    fn what_is_no_timeout_is_left_alone() {
        let now = Instant::now();
        for bad in [
            &["1"][..],
            &["m"],
            &["123456789m"],
            &["1x"],
            &["-1m"],
            &["1m", "2m"],
            &[],
        ] {
            assert!(Deadline::of(&head(bad), now).is_none(), "{bad:?}");
        }
        let mut http = head(&["1m"]);
        http.headers
            .insert("content-type", HeaderValue::from_static("text/plain"));
        assert!(Deadline::of(&http, now).is_none());
        let far = Deadline::of(&head(&["99999999H"]), now).expect("a deadline");
        far.pass_on(&mut HeaderMap::new(), now + Duration::from_secs(1))
            .expect("far away");
    }

    proptest! {
        /// Never more than what remains, and exact to one part in a million or so.
        #[test]
        fn formatting_rounds_down(nanos in 1u64..) {
            let remaining = Duration::from_nanos(nanos);
            let said = parse(format(remaining).as_bytes()).expect("a timeout");
            prop_assert!(said <= remaining);
            prop_assert!((remaining - said).as_secs_f64() <= remaining.as_secs_f64() * 1e-4);
        }
    }
}
