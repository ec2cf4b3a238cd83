//! Times, and bytes as text.

use std::fmt::Write as _;

/// The time of day in UTC, to the microsecond.
#[must_use]
pub fn clock(unix_us: i64) -> String {
    let of_day = unix_us.rem_euclid(86_400_000_000);
    let (seconds, us) = (of_day / 1_000_000, of_day % 1_000_000);
    format!(
        "{:02}:{:02}:{:02}.{us:06}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A moment as RFC 3339 has it, in UTC, to the microsecond.
#[must_use]
pub fn moment(unix_us: i64) -> String {
    let days = unix_us.div_euclid(86_400_000_000);
    // Civil date from days since 1970-01-01: years of 400 begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{}Z", clock(unix_us))
}

/// Bytes as text: as they are where they are printable, spelled out (`\x80`) where not.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return bytes.escape_ascii().to_string();
    };
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            let _ = write!(shown, "{}", char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(moment(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(moment(1_795_687_445_123_456), "2026-11-26T10:04:05.123456Z");
    }

    #[test]
    fn bytes_do_not_reach_the_terminal_as_they_are() {
        assert_eq!(text("grüß".as_bytes()), "grüß");
        assert_eq!(text(b"a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(text(b"\xff\x00"), "\\xff\\x00");
    }
}
