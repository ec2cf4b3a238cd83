//! Matches of routes.

use std::sync::Arc;

use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder, bytes::RegexBuilder as BytesRegexBuilder};
use sheer_api::{
    linkerd::{grpc_route, http_route, http_types, tls_route},
    v1,
};

use crate::routes::{Condition, HeaderMatch, HostMatch, PathMatch, QueryMatch, RequestMatch, ValueMatch};

/// Largest compiled regular expression, bytes: one pattern of a user must not cost a proxy its memory.
const REGEX_LIMIT: usize = 1 << 20;

/// What cannot be understood, in words.
pub(super) type Invalid = String;

pub(super) fn hosts(hosts: Vec<http_route::HostMatch>) -> Arc<[HostMatch]> {
    let host = |host: http_route::HostMatch| {
        use http_route::host_match::Match;
        Some(match host.r#match? {
            Match::Exact(name) => HostMatch::Exact(name),
            Match::Suffix(suffix) => suffix_of(suffix.reverse_labels),
        })
    };
    hosts.into_iter().filter_map(host).collect()
}

pub(super) fn server_names(names: Vec<tls_route::SniMatch>) -> Vec<HostMatch> {
    let name = |name: tls_route::SniMatch| {
        use tls_route::sni_match::Match;
        Some(match name.r#match? {
            Match::Exact(name) => HostMatch::Exact(name),
            Match::Suffix(suffix) => suffix_of(suffix.reverse_labels),
        })
    };
    names.into_iter().filter_map(name).collect()
}

/// `[com, example]` is `*.example.com`.
fn suffix_of(reverse_labels: Vec<String>) -> HostMatch {
    let labels = reverse_labels.iter().rev();
    HostMatch::Suffix(labels.flat_map(|label| [".", label]).collect())
}

pub(super) fn http(said: http_route::HttpRouteMatch) -> Result<RequestMatch, Invalid> {
    use http_route::path_match::Kind;
    let path = match said.path.and_then(|path| path.kind) {
        None => None,
        Some(Kind::Exact(path)) => Some(PathMatch::Exact(path)),
        Some(Kind::Prefix(prefix)) => prefix_of(prefix),
        Some(Kind::Regex(regex)) => Some(PathMatch::Regex(anchored(&regex)?)),
    };
    let query = |said: http_route::QueryParamMatch| {
        use http_route::query_param_match::Value;
        let value = match said.value.ok_or("a query parameter without a value to match")? {
            Value::Exact(value) => ValueMatch::Exact(value),
            Value::Regex(regex) => ValueMatch::Regex(anchored(&regex)?),
        };
        Ok::<_, Invalid>(QueryMatch { name: said.name, value })
    };
    Ok(RequestMatch {
        path,
        method: said.method.map(method).transpose()?,
        headers: headers(said.headers)?,
        query: said.query_params.into_iter().map(query).collect::<Result<_, _>>()?,
        condition: None,
    })
}

pub(super) fn grpc(said: grpc_route::GrpcRouteMatch) -> Result<RequestMatch, Invalid> {
    let rpc = said.rpc.unwrap_or_default();
    let path = match (rpc.service.as_str(), rpc.method.as_str()) {
        ("", "") => None,
        (service, "") => Some(PathMatch::Prefix(format!("/{service}"))),
        ("", method) => Some(PathMatch::GrpcMethod(method.to_owned())),
        (service, method) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
    };
    Ok(RequestMatch {
        path,
        headers: headers(said.headers)?,
        ..RequestMatch::default()
    })
}

/// Every path begins with `/`: a match for it is none.
fn prefix_of(prefix: String) -> Option<PathMatch> {
    let trimmed = prefix.strip_suffix('/').unwrap_or(&prefix);
    (!trimmed.is_empty()).then(|| PathMatch::Prefix(trimmed.to_owned()))
}

fn headers(said: Vec<http_route::HeaderMatch>) -> Result<Vec<HeaderMatch>, Invalid> {
    let header = |said: http_route::HeaderMatch| {
        use http_route::header_match::Value;
        let name = said.name.parse::<HeaderName>();
        let name = name.map_err(|_| format!("{:?} is no name of a header field", said.name))?;
        let value = match said.value.ok_or("a header field without a value to match")? {
            Value::Exact(value) => ValueMatch::Exact(value),
            Value::Regex(regex) => {
                let pattern = format!("^(?:{regex})$");
                let built = BytesRegexBuilder::new(&pattern).size_limit(REGEX_LIMIT).build();
                ValueMatch::Regex(built.map_err(|error| bad_regex(&regex, &error))?)
            }
        };
        Ok(HeaderMatch { name, value })
    };
    said.into_iter().map(header).collect()
}

pub(super) fn method(said: http_types::HttpMethod) -> Result<Method, Invalid> {
    use http_types::http_method::{Registered, Type};
    match said.r#type.ok_or("a method without a name")? {
        Type::Registered(number) => Ok(match Registered::try_from(number) {
            Ok(Registered::Get) => Method::GET,
            Ok(Registered::Post) => Method::POST,
            Ok(Registered::Put) => Method::PUT,
            Ok(Registered::Delete) => Method::DELETE,
            Ok(Registered::Patch) => Method::PATCH,
            Ok(Registered::Options) => Method::OPTIONS,
            Ok(Registered::Connect) => Method::CONNECT,
            Ok(Registered::Head) => Method::HEAD,
            Ok(Registered::Trace) => Method::TRACE,
            Err(_) => return Err(format!("method number {number} is not known")),
        }),
        Type::Unregistered(name) => name.parse().map_err(|_| format!("{name:?} is no method")),
    }
}

/// Deepest nesting of conditions that is read: a control plane's mistake must not cost the stack.
const DEEPEST: u32 = 32;

pub(super) fn condition(said: &v1::Condition) -> Result<Condition, Invalid> {
    nested(said, DEEPEST)
}

fn nested(said: &v1::Condition, depth: u32) -> Result<Condition, Invalid> {
    use v1::condition::Kind;
    let deeper = depth.checked_sub(1).ok_or("a condition that is nested too deeply")?;
    let several = |said: &v1::Conditions| {
        let read = said.conditions.iter().map(|one| nested(one, deeper));
        read.collect::<Result<Vec<_>, Invalid>>()
    };
    Ok(match said.kind.as_ref().ok_or("a condition that says nothing")? {
        Kind::All(all) => Condition::All(several(all)?),
        Kind::Any(any) => Condition::Any(several(any)?),
        Kind::Not(not) => Condition::Not(Box::new(nested(not, deeper)?)),
        Kind::PathRegex(regex) => Condition::Path(anchored(regex)?),
        Kind::Method(method) => Condition::Method(method.parse().map_err(|_| format!("{method:?} is no method"))?),
    })
}

/// A regular expression for the whole of a text.
pub(super) fn anchored(regex: &str) -> Result<Regex, Invalid> {
    let built = RegexBuilder::new(&format!("^(?:{regex})$"))
        .size_limit(REGEX_LIMIT)
        .build();
    built.map_err(|error| bad_regex(regex, &error))
}

fn bad_regex(regex: &str, error: &regex::Error) -> Invalid {
    format!("{regex:?} is no regular expression: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not(inner: v1::Condition) -> v1::Condition {
        v1::Condition {
            kind: Some(v1::condition::Kind::Not(Box::new(inner))),
        }
    }

    #[test]
    fn conditions_are_read_whole_or_not_at_all() {
        let method = |name: &str| v1::Condition {
            kind: Some(v1::condition::Kind::Method(name.to_owned())),
        };
        assert!(matches!(condition(&not(method("GET"))), Ok(Condition::Not(_))));
        assert!(condition(&not(method("not a method"))).is_err());
        assert!(
            condition(&not(v1::Condition::default())).is_err(),
            "one that says nothing would hold for everything"
        );
        let deep = (0..100).fold(method("GET"), |inner, _| not(inner));
        assert!(condition(&deep).is_err());
    }
}
