//! Lengths of time as manifests have them: `1h30m`, `250ms`, `0s`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A length of time, as Gateway API and Linkerd write them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub Duration);

/// Units, the longest first, with their milliseconds.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Interval {
    /// Reads numbers with units, in any order and number: `10s`, `1m30s`, `500ms`. A bare `0` is none at all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a length of time, as 10s, 1m30s or 500ms");
        let trimmed = text.trim();
        if trimmed == "0" {
            return Ok(Self::default());
        }
        let (mut rest, mut millis) = (trimmed, 0u64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit_length = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = &rest[digits..digits + unit_length];
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            millis = number
                .checked_mul(*factor)
                .and_then(|more| millis.checked_add(more))
                .ok_or_else(wrong)?;
            rest = &rest[digits + unit_length..];
        }
        if trimmed.is_empty() {
            return Err(wrong());
        }
        Ok(Self(Duration::from_millis(millis)))
    }

    /// The length, unless it is zero, which means "no bound".
    pub fn bound(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis.is_multiple_of(1000) {
            write!(f, "{}s", millis / 1000)
        } else {
            write!(f, "{millis}ms")
        }
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let millis = |text: &str| Interval::parse(text).map(|interval| interval.0.as_millis());
        for (text, expected) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("0", 0),
            ("0s", 0),
            ("1h", 3_600_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "10",
            "s",
            "10x",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "ten s",
            "1s é",
        ] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Interval(Duration::from_millis(1_500)).to_string(), "1500ms");
    }
}
