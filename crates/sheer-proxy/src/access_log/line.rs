//! Lines of the access log. Names of JSON fields are linkerd2-proxy's where it has them.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use sheer_api::v1::{Attribute, attribute::Value};

use super::{Line, facts};
use crate::{
    exchange::Outcome,
    redact::Redactor,
    settings::AccessLogFormat,
    trace::{Record, Whom, http_version},
};

/// What is put into a line.
struct Parts<'a> {
    record: &'a Record,
    outcome: &'a Outcome,
    /// When the request began.
    began: SystemTime,
    client_addr: String,
    client_id: String,
    server_addr: String,
    server_id: String,
    uri: String,
    redactor: &'a Redactor,
}

/// The line of a request. `own` is this workload's identity.
pub(super) fn line(
    (record, outcome): (&Record, &Outcome),
    format: AccessLogFormat,
    own: &str,
    redactor: &Redactor,
) -> Line {
    let parts = Parts::new(record, outcome, own, redactor);
    let fields = parts.fields();
    let text = match format {
        AccessLogFormat::Json => json(&fields),
        AccessLogFormat::Apache => parts.apache(),
    };
    let unix = parts.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Line {
        unix_ns: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX),
        text,
        attributes: fields.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        failed: !outcome.is_success(),
        trace_id: record.trace.map(|trace| trace.bytes()),
        span_id: record.kept.and(record.span).map(|span| span.bytes()),
    }
}

/// A value of a field; what is empty is left out.
enum Field {
    Text(String),
    Number(u64),
}

impl<'a> Parts<'a> {
    fn new(record: &'a Record, outcome: &'a Outcome, own: &str, redactor: &'a Redactor) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a line says when")]
        let began = SystemTime::now() - record.started.elapsed();
        let about = &record.request;
        let uri = about.uri.path_and_query().map_or("", |path| path.as_str());
        let mut parts = Self {
            record,
            outcome,
            began,
            client_addr: String::new(),
            client_id: String::new(),
            server_addr: String::new(),
            server_id: String::new(),
            uri: redactor.path(uri),
            redactor,
        };
        match &record.whom {
            Whom::Inbound(inbound) => {
                parts.client_addr = inbound.client.to_string();
                parts.client_id = inbound.identity.as_deref().unwrap_or_default().to_owned();
                parts.server_addr = inbound.addr.to_string();
                parts.server_id = own.to_owned();
            }
            Whom::Outbound { dst, .. } => {
                parts.client_id = own.to_owned();
                let endpoint = record.attempts.last().and_then(|attempt| attempt.endpoint.as_ref());
                parts.server_addr = endpoint.map_or(*dst, |endpoint| endpoint.addr).to_string();
                let identity = endpoint.and_then(|endpoint| endpoint.identity.as_ref());
                parts.server_id = identity.map_or_else(String::new, |identity| identity.id.to_string());
            }
            Whom::Unknown => {}
        }
        parts
    }

    fn fields(&self) -> Vec<(&'static str, Field)> {
        let Self { record, outcome, .. } = self;
        let about = &record.request;
        let mut client = String::new();
        let known = facts(record, outcome, &mut client);
        let text = |text: &str| Field::Text(text.to_owned());
        let header = |name: &str, value: &Option<http::HeaderValue>| {
            let value = value.as_ref().and_then(|value| value.to_str().ok());
            Field::Text(self.shown(name, value.unwrap_or_default()))
        };
        let time = |time: Option<Duration>| time.map_or_else(|| text(""), |time| Field::Number(nanos(time)));
        let first_byte = outcome.first_byte;
        vec![
            ("timestamp", text(&timestamp(self.began))),
            ("direction", text(known.direction)),
            ("client.addr", text(&self.client_addr)),
            ("client.id", text(&self.client_id)),
            ("server.addr", text(&self.server_addr)),
            ("server.id", text(&self.server_id)),
            ("method", text(known.method)),
            ("uri", text(&self.uri)),
            ("host", Field::Text(self.shown("host", known.host))),
            ("version", text(&self.version())),
            (
                "status",
                known
                    .status
                    .map_or_else(|| text(""), |status| Field::Number(status.into())),
            ),
            (
                "grpc_status",
                known
                    .grpc_status
                    .map_or_else(|| text(""), |code| Field::Number(code.into())),
            ),
            ("verdict", text(known.verdict)),
            ("reason", text(known.reason)),
            ("error", text(&record.error)),
            (
                "route",
                record
                    .route()
                    .map_or_else(|| text(""), |route| text(&route.to_string())),
            ),
            ("attempts", Field::Number(known.attempts)),
            ("request_bytes", Field::Number(known.request_bytes)),
            ("response_bytes", Field::Number(known.response_bytes)),
            ("total_ns", Field::Number(nanos(known.duration))),
            ("processing_ns", time(record.until_sent())),
            ("connect_ns", time(connect(record))),
            ("first_byte_ns", time(first_byte)),
            (
                "body_ns",
                time(first_byte.map(|first| known.duration.saturating_sub(first))),
            ),
            ("user_agent", Field::Text(self.shown("user-agent", known.user_agent))),
            ("request_id", header("x-request-id", &about.request_id)),
            (
                "trace_id",
                record.trace.map_or_else(|| text(""), |trace| text(&trace.to_string())),
            ),
            (
                "span_id",
                record
                    .kept
                    .and(record.span)
                    .map_or_else(|| text(""), |span| text(&span.to_string())),
            ),
        ]
    }

    /// The value of a field, or what is shown in its place.
    fn shown(&self, name: &str, value: &str) -> String {
        if value.is_empty() {
            return String::new();
        }
        let (shown, _) = self.redactor.value(name.as_bytes(), value.as_bytes());
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn version(&self) -> String {
        let version = self.record.request.origin.map_or("", http_version);
        match version {
            "2" => "HTTP/2.0".to_owned(),
            "" => String::new(),
            version => format!("HTTP/{version}"),
        }
    }

    /// The combined format of Apache's `mod_log_config`, and behind it what it has no place for.
    fn apache(&self) -> String {
        let Self { record, outcome, .. } = self;
        let mut client = String::new();
        let known = facts(record, outcome, &mut client);
        let client = self.client_addr.rsplit_once(':').map_or("-", |(ip, _)| ip);
        let status = known.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let mut line = format!(
            "{client} {} - [{}] \"{} {} {}\" {status} {} \"-\" \"{}\"",
            or_dash(&self.client_id),
            apache_time(self.began),
            known.method,
            escaped(&self.uri),
            self.version(),
            known.response_bytes,
            escaped(&self.shown("user-agent", known.user_agent)),
        );
        let millis = |time: Option<Duration>| {
            time.map_or_else(|| "-".to_owned(), |time| format!("{:.3}ms", time.as_secs_f64() * 1e3))
        };
        let trace = record.trace.map_or_else(|| "-".to_owned(), |trace| trace.to_string());
        // Writing to a string does not fail.
        let _ = write!(
            line,
            " {} total={} proxy={} connect={} first-byte={} grpc={} verdict={} reason={} trace={trace}",
            known.direction,
            millis(Some(known.duration)),
            millis(record.until_sent()),
            millis(connect(record)),
            millis(outcome.first_byte),
            known
                .grpc_status
                .map_or_else(|| "-".to_owned(), |code| code.to_string()),
            or_dash(known.verdict),
            or_dash(known.reason),
        );
        line
    }
}

/// How long the request waited for a connection that was made for it.
fn connect(record: &Record) -> Option<Duration> {
    let attempt = record.attempts.last()?;
    let link = attempt.link.as_deref()?;
    let up = link.tls.unwrap_or(link.tcp);
    (up > attempt.begun).then(|| up.duration_since(link.began.max(attempt.begun)))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// As Apache escapes: quotes, backslashes and what is not visible.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => safe.extend(['\\', c]),
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    if safe.is_empty() { "-".to_owned() } else { safe }
}

fn json(fields: &[(&'static str, Field)]) -> String {
    let mut line = String::with_capacity(768);
    for (key, value) in fields {
        let separator = if line.is_empty() { '{' } else { ',' };
        // Writing to a string does not fail.
        let _ = match value {
            Field::Text(text) if text.is_empty() => continue,
            Field::Text(text) => write!(line, "{separator}\"{key}\":{}", serde_json::Value::from(text.as_str())),
            Field::Number(number) => write!(line, "{separator}\"{key}\":{number}"),
        };
    }
    line.push('}');
    line
}

fn attribute(key: &str, value: Field) -> Attribute {
    let value = match value {
        Field::Text(text) => Value::Text(text),
        Field::Number(number) => Value::Number(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    Attribute {
        key: key.to_owned(),
        value: Some(value),
    }
}

/// `2026-11-26T14:31:07.123456789Z`.
fn timestamp(at: SystemTime) -> String {
    let ([year, month, day], [hour, minute, second], nanos) = civil(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// `26/Nov/2026:14:31:07 +0000`.
fn apache_time(at: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let ([year, month, day], [hour, minute, second], _) = civil(at);
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0) % 12];
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

/// Date, time and nanoseconds in UTC (Howard Hinnant's `civil_from_days`).
fn civil(at: SystemTime) -> ([i64; 3], [u64; 3], u32) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = i64::try_from(days).unwrap_or(0) + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let time = [seconds / 3_600, seconds / 60 % 60, seconds % 60];
    ([year, month, day], time, since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Head;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, 5)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(timestamp(at(0)), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(timestamp(at(951_782_400)), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(timestamp(at(1_795_703_467)), "2026-11-26T14:31:07.000000005Z");
        assert_eq!(apache_time(at(1_795_703_467)), "26/Nov/2026:14:31:07 +0000");
        assert_eq!(timestamp(at(4_107_542_399)), "2100-02-28T23:59:59.000000005Z");
        assert_eq!(timestamp(at(4_107_542_400)), "2100-03-01T00:00:00.000000005Z");
    }

    #[test]
    fn what_settings_name_is_hidden() {
        let request = http::Request::get("http://a/pay?iban=planted&page=2").header("user-agent", "planted");
        let head = Head::of_h2(request.body(()).expect("a request").into_parts().0);
        let record = Record::for_tests(&head);
        let redactor = Redactor::new(&[], &["user-agent".to_owned()]).with_fields(&["iban".to_owned()]);
        for format in [AccessLogFormat::Json, AccessLogFormat::Apache] {
            let line = line((&record, &Outcome::for_tests()), format, "", &redactor);
            let text = format!("{} {:?}", line.text, line.attributes);
            assert!(text.contains("/pay?iban=hash:") && text.contains("&page=2"), "{text}");
            assert!(!text.contains("planted"), "{text}");
        }
    }

    #[test]
    fn nobody_writes_lines_of_their_own_into_the_log() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert_eq!(escaped(""), "-");
        let fields = [
            ("uri", Field::Text("/\n\"".to_owned())),
            ("empty", Field::Text(String::new())),
            ("n", Field::Number(1)),
        ];
        assert_eq!(json(&fields), r#"{"uri":"/\n\"","n":1}"#);
    }
}
