//! Whether a rule matches, and how specific the match is.

use std::cmp::Ordering;
#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use super::Found;
use super::{Condition, HostMatch, PathMatch, RequestMatch, RequestView, Rule, ValueMatch, Why};

/// How specific a match is, greatest first wins: fields in the order of their precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Specificity {
    /// 2 exact, 1 wildcard, 0 any; then the length of the name.
    pub(super) host: (u8, usize),
    /// 3 exact, 2 prefix, 1 regular expression, 0 any; then the length.
    path: (u8, usize),
    method: bool,
    headers: usize,
    query: usize,
}

/// The rule that takes a request, found by looking at every rule: what the index must agree with.
#[cfg(test)]
pub(super) fn find<'a, R>(rules: &'a [Arc<Rule<R>>], request: &RequestView<'_>) -> Option<Found<'a, R>> {
    let mut best: Option<(Specificity, Found<'a, R>)> = None;
    for rule in rules {
        if let Ok((specificity, matched)) = matches(rule, request)
            && best.as_ref().is_none_or(|(found, _)| specificity > *found)
        {
            best = Some((specificity, Found { rule, matched }));
        }
    }
    best.map(|(_, found)| found)
}

/// How specifically a rule matches, and by which of its matches; else why the one that came furthest does not.
pub(super) fn matches<R>(rule: &Rule<R>, request: &RequestView<'_>) -> Result<(Specificity, usize), Why> {
    let host = host_specificity(&rule.hosts, request.host).ok_or(Why::Host)?;
    if rule.matches.is_empty() {
        return Ok((
            Specificity {
                host,
                ..Specificity::default()
            },
            0,
        ));
    }
    let mut best: Option<(Specificity, usize)> = None;
    let mut why = Why::Path;
    for (index, found) in rule.matches.iter().enumerate() {
        match found.check(request) {
            Ok(specificity) => {
                let specificity = Specificity { host, ..specificity };
                if best.is_none_or(|(other, _)| specificity > other) {
                    best = Some((specificity, index));
                }
            }
            Err(reason) if distance(&reason) >= distance(&why) => why = reason,
            Err(_) => {}
        }
    }
    best.ok_or(why)
}

/// How far matching came before it failed.
fn distance(why: &Why) -> u8 {
    match why {
        Why::Host => 0,
        Why::Path => 1,
        Why::Method => 2,
        Why::Header(_) => 3,
        Why::Query(_) => 4,
        Why::Condition | Why::LessSpecific(_) | Why::Later => 5,
    }
}

/// What tells two matches apart.
pub(super) fn decided_by(winner: &Specificity, loser: &Specificity) -> Option<&'static str> {
    let parts = [
        ("host", winner.host.cmp(&loser.host)),
        ("path", winner.path.cmp(&loser.path)),
        ("method", winner.method.cmp(&loser.method)),
        ("number of headers", winner.headers.cmp(&loser.headers)),
        ("number of query parameters", winner.query.cmp(&loser.query)),
    ];
    parts
        .into_iter()
        .find(|(_, order)| *order != Ordering::Equal)
        .map(|(name, _)| name)
}

/// How specifically a route's hosts match; `None` where they do not.
fn host_specificity(hosts: &[HostMatch], host: Option<&str>) -> Option<(u8, usize)> {
    if hosts.is_empty() {
        return Some((0, 0));
    }
    let host = without_port(host?);
    hosts.iter().filter_map(|pattern| pattern.specificity(host)).max()
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

impl HostMatch {
    /// Whether a name (without port) matches.
    pub fn matches(&self, name: &str) -> bool {
        self.specificity(name).is_some()
    }

    fn specificity(&self, name: &str) -> Option<(u8, usize)> {
        let matches = match self {
            Self::Exact(exact) => name.eq_ignore_ascii_case(exact),
            Self::Suffix(suffix) => name
                .len()
                .checked_sub(suffix.len())
                .is_some_and(|start| start > 0 && name.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())),
        };
        matches.then(|| self.rank())
    }

    /// How specific it is where it matches.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(exact) => (2, exact.len()),
            Self::Suffix(suffix) => (1, suffix.len()),
        }
    }
}

impl RequestMatch {
    fn check(&self, request: &RequestView<'_>) -> Result<Specificity, Why> {
        if self.path.as_ref().is_some_and(|path| !path.matches(request.path)) {
            return Err(Why::Path);
        }
        self.check_rest(request)?;
        Ok(self.specificity())
    }

    /// Whether everything but the path holds.
    pub(super) fn check_rest(&self, request: &RequestView<'_>) -> Result<(), Why> {
        if self.method.as_ref().is_some_and(|method| method != request.method) {
            return Err(Why::Method);
        }
        for header in &self.headers {
            let mut values = request.headers.get_all(&header.name).iter();
            let holds = match &header.value {
                ValueMatch::Exact(exact) => values.any(|value| value.as_bytes() == exact.as_slice()),
                ValueMatch::Regex(regex) => values.any(|value| regex.is_match(value.as_bytes())),
            };
            if !holds {
                return Err(Why::Header(header.name.clone()));
            }
        }
        for parameter in &self.query {
            let value = query_value(request.query.unwrap_or_default(), &parameter.name);
            let holds = value.is_some_and(|value| match &parameter.value {
                ValueMatch::Exact(exact) => value == *exact,
                ValueMatch::Regex(regex) => regex.is_match(&value),
            });
            if !holds {
                return Err(Why::Query(parameter.name.clone()));
            }
        }
        if self
            .condition
            .as_ref()
            .is_some_and(|condition| !condition.holds(request))
        {
            return Err(Why::Condition);
        }
        Ok(())
    }

    /// How specific it is where it matches; of the host the route knows.
    pub(super) fn specificity(&self) -> Specificity {
        Specificity {
            host: (0, 0),
            path: self.path.as_ref().map_or((0, 0), PathMatch::specificity),
            method: self.method.is_some(),
            headers: self.headers.len(),
            query: self.query.len(),
        }
    }
}

impl PathMatch {
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => prefix_matches(prefix, path),
            Self::Regex(regex) => regex.is_match(path),
            Self::GrpcMethod(method) => {
                let found = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                found.is_some_and(|(_, name)| name == method)
            }
        }
    }

    /// As a regular expression, where it is one or like one.
    pub(super) fn pattern(&self) -> Option<String> {
        match self {
            Self::Regex(regex) => Some(regex.as_str().to_owned()),
            Self::GrpcMethod(method) => Some(format!("^/[^/]*/{}$", regex::escape(method))),
            Self::Exact(_) | Self::Prefix(_) => None,
        }
    }

    fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(exact) => (3, exact.len()),
            Self::Prefix(prefix) => (2, prefix.len()),
            Self::Regex(regex) => (1, regex.as_str().len()),
            Self::GrpcMethod(method) => (1, method.len()),
        }
    }
}

/// Whether a path begins with the segments of a prefix, which has no slash at its end.
fn prefix_matches(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Condition {
    fn holds(&self, request: &RequestView<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|condition| condition.holds(request)),
            Self::Any(any) => any.iter().any(|condition| condition.holds(request)),
            Self::Not(not) => !not.holds(request),
            Self::Path(regex) => regex.is_match(request.path),
            Self::Method(method) => method == request.method,
        }
    }
}

/// The first value of a query parameter, percent-decoded.
pub(super) fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// Percent-decoding as forms have it: `+` is a space; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escape, bytes[at]) {
            (Some(byte), _) => {
                decoded.push(byte);
                at += 3;
            }
            (None, b'+') => {
                decoded.push(b' ');
                at += 1;
            }
            (None, byte) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
