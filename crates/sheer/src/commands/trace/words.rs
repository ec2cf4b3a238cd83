//! Words and numbers of traces, as people read them.

use sheer_api::{names::grpc_code_name, v1::SpanKept};

/// gRPC's code where there is one, else the HTTP status; empty where there was no answer.
pub(super) fn status(http: u32, grpc: i32) -> String {
    let code = u32::try_from(grpc).ok().and_then(grpc_code_name);
    match (code, grpc, http) {
        (Some(code), ..) => code.to_owned(),
        (None, 0.., _) => format!("gRPC {grpc}"),
        (None, _, 0) => String::new(),
        (None, _, status) => status.to_string(),
    }
}

/// `850µs`, `12.3ms`, `1.25s`.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..100_000 => format!("{:.1}ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0}ms", micros as f64 / 1e3),
        _ => format!("{:.2}s", micros as f64 / 1e6),
    }
}

/// `14:31:07.123`, UTC.
pub(super) fn clock(unix_ns: u64) -> String {
    let (seconds, millis) = (unix_ns / 1_000_000_000, unix_ns / 1_000_000 % 1_000);
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

/// Why it was recorded.
pub(super) fn kept(kept: SpanKept) -> &'static str {
    match kept {
        SpanKept::Unspecified => "",
        SpanKept::Parent => "context",
        SpanKept::Sampled => "sampled",
        SpanKept::Failed => "failed",
        SpanKept::Slow => "slow",
    }
}

/// `ledger` of `deploy/ledger`.
pub(super) fn short(workload: &str) -> &str {
    workload.rsplit('/').next().unwrap_or(workload)
}
