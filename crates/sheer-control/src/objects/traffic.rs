//! Annotations that configure traffic: retries, timeouts, balancing, breaking. Linkerd's, and Sheer's own beside them.
//!
//! Reading never fails: values were checked when their file was read ([`crate::manifests`]); what is wrong here is as if it were absent.

use std::time::Duration;

use sheer_api::names::{GRPC_CODES, grpc_code};

use super::{Interval, Labels, annotation};

/// What annotations of a Service, an EgressNetwork or a route say about traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// When a request is sent again; `None` where nothing of it is said.
    pub retry: Option<RetrySettings>,
    /// How long a request may take; `None` where nothing of it is said.
    pub timeouts: Option<TimeoutSettings>,
    /// When an endpoint sits out.
    pub accrual: Option<AccrualSettings>,
    /// What an answer that says "too much" adds to an endpoint's estimate.
    pub penalty: Option<PenaltySettings>,
    /// How much may be tried again.
    pub budget: Option<BudgetSettings>,
    /// Another attempt before the first has answered.
    pub hedge: Option<HedgeSettings>,
    /// A new endpoint's share grows to its whole over this time.
    pub slow_start: Option<Duration>,
    /// What makes requests belong together.
    pub affinity: Option<AffinityKey>,
    /// At most this share of the endpoints sits out at once.
    pub max_ejected_percent: Option<u32>,
    /// Endpoints of the client's zone first; `Some(false)` where it is refused.
    pub same_zone: Option<bool>,
    /// Requests under way at each local endpoint before those of other zones take part.
    pub spill_over: Option<f64>,
}

/// When a request is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrySettings {
    /// HTTP statuses, inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// gRPC codes.
    pub grpc_codes: Vec<u16>,
    /// Attempts beyond the first.
    pub limit: u32,
    /// Longest that one attempt may take until the head of its response.
    pub timeout: Option<Duration>,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutSettings {
    /// The whole.
    pub request: Option<Duration>,
    /// Until the head of the response.
    pub response: Option<Duration>,
    /// Without a frame in either direction.
    pub idle: Option<Duration>,
}

/// When an endpoint sits out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccrualSettings {
    /// After so many failures in a row.
    pub max_failures: u32,
    /// Shortest time.
    pub min_penalty: Duration,
    /// Longest time.
    pub max_penalty: Duration,
    /// Share of a time that is added at random.
    pub jitter: f32,
    /// Whether `Retry-After` counts instead.
    pub honour_hint: bool,
    /// Threshold, window and least number of requests, where the success rate counts too.
    pub success_rate: Option<(f64, Duration, u32)>,
}

/// What an answer that says "too much" adds to an endpoint's estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltySettings {
    /// Where the answer does not say how long.
    pub penalty: Duration,
    /// Hints count up to this.
    pub max_retry_after: Duration,
}

/// How much may be tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetSettings {
    /// Retries for each request.
    pub ratio: f64,
    /// Always allowed, a second.
    pub min_per_second: u32,
    /// How long a request counts.
    pub ttl: Duration,
}

impl Default for BudgetSettings {
    /// What every destination has.
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 10,
            ttl: Duration::from_secs(10),
        }
    }
}

/// Another attempt before the first has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeSettings {
    /// How long an attempt has before the next is sent.
    pub delay: Duration,
    /// Attempts at once, the first included.
    pub max_attempts: u32,
}

/// What makes requests belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinityKey {
    /// The value of a request header.
    Header(String),
    /// The value of a cookie that the application sets.
    Cookie(String),
    /// The client's address.
    ClientIp,
}

/// Some annotations, read by scope and name; the first scope that has a name counts.
struct Reader<'a> {
    annotations: &'a Labels,
    scopes: &'static [&'static str],
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        let mut scopes = self.scopes.iter();
        scopes.find_map(|scope| annotation(self.annotations, scope, name))
    }

    fn get<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.text(name).and_then(|text| read(text).ok())
    }

    /// A length of time that is more than none.
    fn time(&self, name: &str) -> Option<Duration> {
        self.get(name, Interval::parse).and_then(Interval::bound)
    }
}

impl Traffic {
    /// Reads annotations.
    pub fn read(annotations: &Labels) -> Self {
        if annotations.is_empty() {
            return Self::default();
        }
        let reader = |scopes| Reader { annotations, scopes };
        let balancer = reader(&["balancer", "balancer.alpha"]);
        let retry = reader(&["retry"]);
        Self {
            retry: read_retry(&retry),
            timeouts: read_timeouts(&reader(&["timeout"])),
            accrual: read_accrual(&balancer),
            penalty: read_penalty(&balancer),
            budget: read_budget(&retry),
            hedge: read_hedge(&reader(&["hedge"])),
            slow_start: balancer.time("slow-start"),
            affinity: balancer
                .get("session-affinity-header", header_name)
                .map(AffinityKey::Header)
                .or_else(|| {
                    balancer
                        .get("session-affinity-cookie", header_name)
                        .map(AffinityKey::Cookie)
                }),
            max_ejected_percent: balancer.get("max-ejected-percent", percent),
            same_zone: balancer.get("locality", locality),
            spill_over: balancer.get("locality-spill-over", positive),
        }
    }
}

fn read_retry(reader: &Reader<'_>) -> Option<RetrySettings> {
    let names = ["http", "grpc", "limit", "timeout"];
    names
        .iter()
        .any(|name| reader.text(name).is_some())
        .then(|| RetrySettings {
            statuses: reader.get("http", statuses).unwrap_or_default(),
            grpc_codes: reader.get("grpc", grpc_codes).unwrap_or_default(),
            limit: reader.get("limit", count).unwrap_or(1),
            timeout: reader.time("timeout"),
        })
}

fn read_timeouts(reader: &Reader<'_>) -> Option<TimeoutSettings> {
    let settings = TimeoutSettings {
        request: reader.time("request"),
        response: reader.time("response"),
        idle: reader.time("idle"),
    };
    (settings != TimeoutSettings::default()).then_some(settings)
}

/// Defaults are Linkerd's.
fn read_accrual(reader: &Reader<'_>) -> Option<AccrualSettings> {
    let unified = reader.get("failure-accrual", accrual_mode)?;
    Some(AccrualSettings {
        max_failures: reader
            .get("failure-accrual-consecutive-max-failures", count)
            .unwrap_or(7),
        min_penalty: reader
            .time("failure-accrual-consecutive-min-penalty")
            .unwrap_or(Duration::from_secs(1)),
        max_penalty: reader
            .time("failure-accrual-consecutive-max-penalty")
            .unwrap_or(Duration::from_secs(60)),
        jitter: reader
            .get("failure-accrual-consecutive-jitter-ratio", jitter)
            .unwrap_or(0.5),
        honour_hint: reader.get("failure-accrual-honor-retry-after", switch).unwrap_or(false),
        success_rate: unified.then(|| {
            (
                reader
                    .get("failure-accrual-success-rate-threshold", share)
                    .unwrap_or(0.8),
                reader
                    .time("failure-accrual-success-rate-window")
                    .unwrap_or(Duration::from_secs(10)),
                reader
                    .get("failure-accrual-success-rate-min-requests", count)
                    .unwrap_or(5),
            )
        }),
    })
}

/// Defaults are Linkerd's.
fn read_penalty(reader: &Reader<'_>) -> Option<PenaltySettings> {
    reader.get("penalize-failures", switch)?.then(|| PenaltySettings {
        penalty: reader.time("load-biaser-penalty").unwrap_or(Duration::from_secs(5)),
        max_retry_after: reader
            .time("load-biaser-max-retry-after")
            .unwrap_or(Duration::from_secs(300)),
    })
}

fn read_budget(reader: &Reader<'_>) -> Option<BudgetSettings> {
    let default = BudgetSettings::default();
    let (ratio, min) = (
        reader.get("budget-ratio", ratio),
        reader.get("budget-min-per-second", count),
    );
    let ttl = reader.time("budget-ttl");
    (ratio.is_some() || min.is_some() || ttl.is_some()).then(|| BudgetSettings {
        ratio: ratio.unwrap_or(default.ratio),
        min_per_second: min.unwrap_or(default.min_per_second),
        ttl: ttl.unwrap_or(default.ttl),
    })
}

fn read_hedge(reader: &Reader<'_>) -> Option<HedgeSettings> {
    Some(HedgeSettings {
        delay: reader.time("delay")?,
        max_attempts: reader.get("max-attempts", count).unwrap_or(2),
    })
}

/// Reads `5xx`, `gateway-error`, statuses and ranges of them, separated by commas.
pub(crate) fn statuses(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let one = |part: &str| {
        let wrong = || format!("{part:?} is none of 5xx, gateway-error, a status (503) or a range (500-504)");
        match part {
            "5xx" => return Ok((500, 599)),
            "gateway-error" => return Ok((502, 504)),
            _ => {}
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let status = |text: &str| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|status| (100..=599).contains(status))
        };
        let (first, last) = (status(first).ok_or_else(wrong)?, status(last).ok_or_else(wrong)?);
        if first <= last { Ok((first, last)) } else { Err(wrong()) }
    };
    parts(text).map(one).collect()
}

/// Reads names of gRPC codes, separated by commas.
pub(crate) fn grpc_codes(text: &str) -> Result<Vec<u16>, String> {
    let one = |part: &str| {
        let code = grpc_code(part).filter(|code| *code != 0);
        code.ok_or_else(|| {
            let names = GRPC_CODES[1..].join(", ").to_lowercase().replace('_', "-");
            format!("{part:?} is not one of {names}")
        })
    };
    parts(text).map(one).collect()
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Reads a whole number.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

fn number(text: &str, fits: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    let number = text
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && fits(*number));
    number.ok_or_else(|| format!("{text:?} is not {what}"))
}

/// Reads a share of one.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=1.0).contains(&number), "a number from 0 to 1")
}

/// Reads a ratio of retries to requests.
pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    number(
        text,
        |number| (0.0..=100.0).contains(&number),
        "a number from 0 to 100 (0.2 is one retry for five requests)",
    )
}

/// Reads a jitter.
#[expect(clippy::cast_possible_truncation, reason = "the wire has a float of 32 bits")]
pub(crate) fn jitter(text: &str) -> Result<f32, String> {
    number(text, |number| (0.0..=100.0).contains(&number), "a number from 0 to 100").map(|number| number as f32)
}

/// Reads a number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0, "a number above 0")
}

/// Reads 1–100.
pub(crate) fn percent(text: &str) -> Result<u32, String> {
    let percent = count(text).ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| format!("{text:?} is not a share from 1 to 100"))
}

/// Reads a switch.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" | "enabled" => Ok(true),
        "false" | "disabled" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Reads how failures are counted: whether the success rate counts too.
pub(crate) fn accrual_mode(text: &str) -> Result<bool, String> {
    match text.trim() {
        "consecutive" => Ok(false),
        "unified" => Ok(true),
        _ => Err(format!("{text:?} is neither consecutive nor unified")),
    }
}

/// Reads a preference for the client's zone.
pub(crate) fn locality(text: &str) -> Result<bool, String> {
    match text.trim() {
        "same-zone" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("{text:?} is neither same-zone nor none")),
    }
}

/// Reads the name of a header field or cookie.
pub(crate) fn header_name(text: &str) -> Result<String, String> {
    let name = http::HeaderName::from_bytes(text.trim().as_bytes());
    name.map(|_| text.trim().to_owned())
        .map_err(|_| format!("{text:?} cannot be the name of a header or cookie"))
}

/// Reads a length of time.
pub(crate) fn interval(text: &str) -> Result<Interval, String> {
    Interval::parse(text)
}
