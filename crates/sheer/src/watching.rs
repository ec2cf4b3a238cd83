//! What the commands share that look at the wire: which workload, who is at the other end, times, and bytes as text.

use std::fmt::Write as _;

use sheer_api::v1::Selection;

/// Which workload.
#[derive(clap::Args, Debug)]
pub(crate) struct Of {
    /// A workload or pod, as deploy/ledger, sts/db or pod/ledger-6d9f4-0
    #[arg(value_name = "WORKLOAD")]
    pub(crate) workload: String,
    /// Namespace of a name that has none
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

impl Of {
    /// As the control plane takes it.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            workload: self.workload.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PeerKind {
    /// The application beside the proxy.
    App,
    /// Another proxy of the mesh.
    Mesh,
    /// Somebody else.
    Outside,
}

impl PeerKind {
    /// As the control plane takes it; empty for any.
    pub(crate) fn name(peer: Option<Self>) -> String {
        let name = match peer {
            None => "",
            Some(Self::App) => "app",
            Some(Self::Mesh) => "mesh",
            Some(Self::Outside) => "outside",
        };
        name.to_owned()
    }
}

/// A short time: `85µs`, `1.2ms`, `340ms`, `2.1s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..100_000 => format!("{:.1}ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

/// The time of day in UTC, to the microsecond.
pub(crate) fn clock(unix_us: i64) -> String {
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
pub(crate) fn moment(unix_us: i64) -> String {
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
pub(crate) fn text(bytes: &[u8]) -> String {
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
    fn moments_and_times() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(moment(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(moment(1_795_687_445_123_456), "2026-11-26T10:04:05.123456Z");
        assert_eq!(
            [85, 1_240, 340_000, 2_140_000].map(micros),
            ["85µs", "1.2ms", "340ms", "2.1s"]
        );
    }

    #[test]
    fn bytes_do_not_reach_the_terminal_as_they_are() {
        assert_eq!(text("grüß".as_bytes()), "grüß");
        assert_eq!(text(b"a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(text(b"\xff\x00"), "\\xff\\x00");
    }
}
