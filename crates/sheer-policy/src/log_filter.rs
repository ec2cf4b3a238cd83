//! Which requests the access log keeps: a small language, as `status >= 500 || duration > 200ms || verdict != ""`.
//!
//! ```text
//! filter     = and { "||" and }
//! and        = term { "&&" term }
//! term       = "!" term | "(" filter ")" | comparison
//! comparison = field operator value
//! operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"       (~: a regular expression is found in it)
//! value      = number | number ("us" | "ms" | "s" | "m") | text in "" | word
//! ```
//!
//! Types are checked when a filter is read, so that a filter that was read always answers. What a request does not have (a gRPC status, the
//! first byte of an answer that never came) equals nothing and is neither above nor below anything.

mod parse;

use std::{fmt, sync::Arc, time::Duration};

use regex::Regex;

pub use parse::FilterError;

/// A filter that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter(Arc<Expr>);

/// What is known of a request that is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// `inbound` or `outbound`.
    pub direction: &'a str,
    /// The method.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// The authority that was asked for.
    pub host: &'a str,
    /// HTTP status; none where there was no answer.
    pub status: Option<u16>,
    /// gRPC's status, where there was one.
    pub grpc_status: Option<u16>,
    /// All of it.
    pub duration: Duration,
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Layer at fault, where a proxy ended the request; else empty.
    pub verdict: &'a str,
    /// Reason code, likewise.
    pub reason: &'a str,
    /// Verified identity of the client, or its address.
    pub client: &'a str,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// How often it was sent.
    pub attempts: u64,
}

/// Something that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Direction,
    Method,
    Path,
    Host,
    Status,
    GrpcStatus,
    Duration,
    FirstByte,
    RequestBytes,
    ResponseBytes,
    Verdict,
    Reason,
    Client,
    UserAgent,
    Attempts,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Time,
    Text,
}

const FIELDS: &[(&str, Field, Kind)] = &[
    ("direction", Field::Direction, Kind::Text),
    ("method", Field::Method, Kind::Text),
    ("path", Field::Path, Kind::Text),
    ("host", Field::Host, Kind::Text),
    ("status", Field::Status, Kind::Number),
    ("grpc-status", Field::GrpcStatus, Kind::Number),
    ("duration", Field::Duration, Kind::Time),
    ("first-byte", Field::FirstByte, Kind::Time),
    ("request-bytes", Field::RequestBytes, Kind::Number),
    ("response-bytes", Field::ResponseBytes, Kind::Number),
    ("verdict", Field::Verdict, Kind::Text),
    ("reason", Field::Reason, Kind::Text),
    ("client", Field::Client, Kind::Text),
    ("user-agent", Field::UserAgent, Kind::Text),
    ("attempts", Field::Attempts, Kind::Number),
];

impl Field {
    fn name(self) -> &'static str {
        let known = FIELDS.iter().find(|(_, field, _)| *field == self);
        known.map_or("", |(name, ..)| name)
    }

    fn kind(self) -> Kind {
        let known = FIELDS.iter().find(|(_, field, _)| *field == self);
        known.map_or(Kind::Text, |(.., kind)| *kind)
    }

    fn number(self, facts: &Facts<'_>) -> Option<u64> {
        match self {
            Self::Status => facts.status.map(u64::from),
            Self::GrpcStatus => facts.grpc_status.map(u64::from),
            Self::Duration => Some(micros(facts.duration)),
            Self::FirstByte => facts.first_byte.map(micros),
            Self::RequestBytes => Some(facts.request_bytes),
            Self::ResponseBytes => Some(facts.response_bytes),
            Self::Attempts => Some(facts.attempts),
            Self::Direction
            | Self::Method
            | Self::Path
            | Self::Host
            | Self::Verdict
            | Self::Reason
            | Self::Client
            | Self::UserAgent => None,
        }
    }

    fn text<'a>(self, facts: &Facts<'a>) -> &'a str {
        match self {
            Self::Direction => facts.direction,
            Self::Method => facts.method,
            Self::Path => facts.path,
            Self::Host => facts.host,
            Self::Verdict => facts.verdict,
            Self::Reason => facts.reason,
            Self::Client => facts.client,
            Self::UserAgent => facts.user_agent,
            Self::Status
            | Self::GrpcStatus
            | Self::Duration
            | Self::FirstByte
            | Self::RequestBytes
            | Self::ResponseBytes
            | Self::Attempts => "",
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    /// Of numbers, and of times in microseconds.
    Number(Field, Order, u64),
    /// `true`: equal; `false`: not.
    Text(Field, bool, String),
    /// `true`: found; `false`: not.
    Pattern(Field, bool, Pattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Order {
    const ALL: [Self; 6] = [
        Self::Equal,
        Self::NotEqual,
        Self::Below,
        Self::AtMost,
        Self::Above,
        Self::AtLeast,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }

    fn holds(self, left: Option<u64>, right: u64) -> bool {
        let Some(left) = left else {
            return self == Self::NotEqual;
        };
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Above => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// A regular expression; equal where its text is.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl LogFilter {
    /// Reads a filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::filter(text).map(|expr| Self(Arc::new(expr)))
    }

    /// Whether a request is kept.
    pub fn keeps(&self, facts: &Facts<'_>) -> bool {
        self.0.holds(facts)
    }
}

impl Expr {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Any(terms) => terms.iter().any(|term| term.holds(facts)),
            Self::All(terms) => terms.iter().all(|term| term.holds(facts)),
            Self::Not(term) => !term.holds(facts),
            Self::Number(field, order, value) => order.holds(field.number(facts), *value),
            Self::Text(field, equal, value) => (field.text(facts) == value) == *equal,
            Self::Pattern(field, found, pattern) => pattern.0.is_match(field.text(facts)) == *found,
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// In the language itself, with every pair of brackets that might be needed.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, terms: &[Self], between: &str| {
            for (at, term) in terms.iter().enumerate() {
                let between = if at == 0 { "" } else { between };
                match term {
                    Self::Any(_) | Self::All(_) => write!(f, "{between}({term})")?,
                    _ => write!(f, "{between}{term}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Any(terms) => list(f, terms, " || "),
            Self::All(terms) => list(f, terms, " && "),
            Self::Not(term) => write!(f, "!({term})"),
            Self::Number(field, order, value) => {
                let unit = if field.kind() == Kind::Time { "us" } else { "" };
                write!(f, "{} {} {value}{unit}", field.name(), order.as_str())
            }
            Self::Text(field, equal, value) => {
                let order = if *equal { "==" } else { "!=" };
                write!(f, "{} {order} {}", field.name(), quoted(value))
            }
            Self::Pattern(field, found, pattern) => {
                let order = if *found { "~" } else { "!~" };
                write!(f, "{} {order} {}", field.name(), quoted(pattern.0.as_str()))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
