//! Which rule takes a request: Gateway API's matches and its order of precedence.
//!
//! Of all rules that match, the one with the most specific match wins (HTTPRoute, `HTTPRouteRule.matches`): host (exact before wildcard, then the
//! longer one), path (exact, then the longest prefix, then a regular expression), a method, the number of headers, the number of query
//! parameters. Rules that are still equal: the first in the list, in which the control plane has put the older route first.

mod index;
mod judge;
mod matching;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use regex::{Regex, bytes::Regex as BytesRegex};

pub use judge::Judged;

use self::index::Index;
use crate::ObjectRef;

/// What matching looks at.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Method.
    pub method: &'a Method,
    /// `:authority`, or `Host`; may carry a port.
    pub host: Option<&'a str>,
    /// Path, without the query.
    pub path: &'a str,
    /// Query, without `?`.
    pub query: Option<&'a str>,
    /// Header fields.
    pub headers: &'a HeaderMap,
}

/// Rules of the routes of one parent, ready to be matched.
#[derive(Clone, Debug)]
pub struct Routes<R> {
    rules: Vec<Arc<Rule<R>>>,
    index: Index,
}

/// One rule of one route.
#[derive(Clone, Debug)]
pub struct Rule<R> {
    /// The route (`route_*` labels); a default where no object of a user stands behind it.
    pub route: ObjectRef,
    /// Place among the route's rules, from 0.
    pub index: usize,
    /// Whether the route is of gRPC: answers of the proxy are then gRPC's.
    pub is_grpc: bool,
    /// Hosts of the route; all where empty.
    pub hosts: Arc<[HostMatch]>,
    /// One of them must match; everything does where empty.
    pub matches: Vec<RequestMatch>,
    /// What happens then.
    pub action: R,
}

/// A rule that takes a request, and by what.
#[derive(Debug)]
pub struct Found<'a, R> {
    /// The rule.
    pub rule: &'a Arc<Rule<R>>,
    /// Which of its matches; 0 where it has none.
    pub matched: usize,
}

/// A host name to match. Names are compared without case and without port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This name.
    Exact(String),
    /// Names that end in this, as `.example.com` for `*.example.com`: at least one label stands before it.
    Suffix(String),
}

/// What a request has to be like: everything that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct RequestMatch {
    /// Path.
    pub path: Option<PathMatch>,
    /// Method.
    pub method: Option<Method>,
    /// Header fields.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
    /// A condition of a ServiceProfile, with all, any and not.
    pub condition: Option<Condition>,
}

/// A path to match.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole segments from the start: `/a` matches `/a` and `/a/b`, not `/ab`. Without a trailing slash, but for `/`.
    Prefix(String),
    /// The whole path, by a regular expression (anchored at both ends).
    Regex(Regex),
    /// The method of any gRPC service: the last of two segments.
    GrpcMethod(String),
}

/// A header field to match.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Name.
    pub name: HeaderName,
    /// Its value; of a repeated field one must match.
    pub value: ValueMatch<Vec<u8>, BytesRegex>,
}

/// A query parameter to match.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Name.
    pub name: String,
    /// Its value; the first of this name counts (Gateway API).
    pub value: ValueMatch<String, Regex>,
}

/// A value to match.
#[derive(Clone, Debug)]
pub enum ValueMatch<E, R> {
    /// This one.
    Exact(E),
    /// The whole value, by a regular expression (anchored at both ends).
    Regex(R),
}

/// A condition of a ServiceProfile.
#[derive(Clone, Debug)]
pub enum Condition {
    /// All of them.
    All(Vec<Self>),
    /// One of them.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// The whole path, by a regular expression (anchored at both ends).
    Path(Regex),
    /// The method.
    Method(Method),
}

/// Why a rule does not take a request, or lost to another that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The route is for other hosts.
    Host,
    /// The path differs.
    Path,
    /// The method differs.
    Method,
    /// This header field is absent or has another value.
    Header(HeaderName),
    /// This query parameter is absent or has another value.
    Query(String),
    /// The condition of the ServiceProfile does not hold.
    Condition,
    /// It matches, but another match is more specific; what decided (`path`, `method`, `headers`, `host`, …).
    LessSpecific(&'static str),
    /// It matches equally well, but the other stands first.
    Later,
}

impl<R> Default for Routes<R> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<R> Routes<R> {
    /// Rules in the control plane's order.
    pub fn new(rules: Vec<Rule<R>>) -> Self {
        Self {
            index: Index::new(&rules),
            rules: rules.into_iter().map(Arc::new).collect(),
        }
    }

    /// Every rule, in the control plane's order.
    pub fn rules(&self) -> &[Arc<Rule<R>>] {
        &self.rules
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule that takes a request; none where no rule matches. Costs about the same for one rule and for thousands.
    pub fn find(&self, request: &RequestView<'_>) -> Option<Found<'_, R>> {
        self.index.find(&self.rules, request)
    }
}
