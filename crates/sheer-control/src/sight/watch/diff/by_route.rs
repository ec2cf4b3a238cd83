//! What the rules of routes do to a request and to its answer: which change between two points a filter made.
//!
//! The policy in force decides, with the code that proxies decide with. A change is a filter's where that filter, given the values before, makes exactly those
//! behind it: what a rule of an older policy did stays unexplained.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use sheer_api::v1::{self, ExchangeView, PointView, RequestDiff, ShownField};
use sheer_policy::{
    change::{modify, replaced},
    inbound::InboundRule,
    outbound::{Backends, Filter, HeaderModifier, HttpRule},
    routes::{PathMatch, Routes, Rule},
    wire::explain as wire,
};

use super::compare::{At, Change, path_of};
use crate::{objects::Pod, sight::view::View, store::Snapshot};

/// Fields that no filter changes (`docs/headers.md`, "What routes change").
const PROTECTED: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "host",
    "l5d-orig-proto",
];

/// Rules that may have taken a request, in either proxy: one, but where a rule looks at a value that is not shown here.
#[derive(Debug, Default)]
pub(super) struct ByRoute {
    outbound: Vec<Ruled>,
    inbound: Vec<Ruled>,
}

/// A rule, as far as it changes requests and answers.
#[derive(Debug)]
struct Ruled {
    /// As `HTTPRoute bank/canary, rule 2`.
    by: String,
    filters: Vec<Filter>,
    /// The path by which it took the request.
    path: Option<PathMatch>,
    /// It has requests go out again where no answer comes in time.
    hedges: bool,
}

impl ByRoute {
    /// By what the control plane has proxies do now.
    pub(super) async fn of(view: &View, diff: &RequestDiff) -> Self {
        Self {
            outbound: outbound(view, diff).await.unwrap_or_default(),
            inbound: inbound(view, diff).await.unwrap_or_default(),
        }
    }

    /// Which filter of which rule makes this change; none where none does.
    pub(super) fn explain(&self, change: &Change<'_>) -> Option<String> {
        let rules = if change.is_between(1, 2) {
            &self.outbound
        } else if change.is_between(3, 4) {
            &self.inbound
        } else {
            return None;
        };
        let is_lost = change.part == "interim" && change.is_between(1, 2) && change.values_after().is_empty();
        if let Some(rule) = rules.iter().find(|rule| is_lost && rule.hedges) {
            return Some(format!(
                "{} hedges it: of several attempts none speaks before it has won",
                rule.by
            ));
        }
        rules.iter().find_map(|rule| {
            let filter = rule.makes(change)?;
            Some(format!("{} does it: its {filter}", rule.by))
        })
    }
}

/// Rules of what the caller's pod sends to where the application's connection was going.
async fn outbound(view: &View, diff: &RequestDiff) -> Option<Vec<Ruled>> {
    let seen = diff.outbound.as_ref()?;
    let pod = pod(&view.snapshot, &diff.source)?;
    let address = seen.exchange.as_ref()?.client.as_ref()?.original.parse().ok()?;
    let policy = view.outbound(pod, address).await.ok()??;
    let point = seen.client.as_ref()?;
    let policy = if point.protocol == "http/1" {
        &policy.http1
    } else {
        &policy.http2
    };
    let taken = taken(&policy.routes, point)?;
    let rules = taken.into_iter().flat_map(|(rule, path)| {
        let filters = filters(&rule.action).into_iter();
        filters.map(move |filters| Ruled {
            hedges: rule.action.hedge.is_some(),
            ..Ruled::new(rule, path, filters)
        })
    });
    Some(rules.collect())
}

/// Rules of the port of the callee's pod.
async fn inbound(view: &View, diff: &RequestDiff) -> Option<Vec<Ruled>> {
    let seen = diff.inbound.as_ref()?;
    let pod = pod(&view.snapshot, &diff.destination)?;
    let policy = view.inbound(pod, port(seen)?).await.ok()?;
    let taken = taken(&policy.routes, seen.client.as_ref()?)?;
    let ruled = |(rule, path): (&Arc<Rule<InboundRule>>, _)| Ruled::new(rule, path, rule.action.filters.clone());
    Some(taken.into_iter().map(ruled).collect())
}

/// The application's port, of which the policy is.
fn port(seen: &ExchangeView) -> Option<u16> {
    let exchange = seen.exchange.as_ref()?;
    let upstream = exchange.upstream.iter().map(|leg| &leg.remote);
    let client = exchange.client.iter().map(|leg| &leg.original);
    let address = upstream.chain(client).find_map(|address| address.parse().ok());
    address.map(|address: SocketAddr| address.port())
}

/// A pod by the name that a diff has for it.
fn pod<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Arc<Pod>> {
    let (namespace, name) = name.split_once('/')?;
    snapshot.find_pod(namespace, name)
}

/// The filters of a rule with those of its backends, for each backend.
fn filters(rule: &HttpRule) -> Vec<Vec<Filter>> {
    let backends: Vec<_> = match &rule.backends {
        Backends::None => Vec::new(),
        Backends::First(all) => all.iter().collect(),
        Backends::Weighted(all) => all.iter().map(|(backend, _)| backend).collect(),
    };
    let own = &rule.filters;
    let with = backends
        .into_iter()
        .filter(|backend| !backend.filters.is_empty())
        .map(|backend| own.iter().chain(&backend.filters).cloned().collect());
    std::iter::once(own.clone()).chain(with).collect()
}

/// A rule, and the path by which it takes a request.
type Taken<'a, R> = (&'a Arc<Rule<R>>, Option<&'a PathMatch>);

/// The rule that takes a request as it was at a point, and by which path. Where a rule looks at what is not shown it may be any.
fn taken<'a, R>(routes: &'a Routes<R>, point: &PointView) -> Option<Vec<Taken<'a, R>>> {
    if routes.rules().iter().any(|rule| looks_at_hidden(rule, &point.request)) {
        return Some(routes.rules().iter().flat_map(every_path).collect());
    }
    let head = wire::request(&head(point)).ok()?;
    let found = routes.find(&head.view())?;
    let matched = found.rule.matches.get(found.matched);
    Some(vec![(found.rule, matched.and_then(|matched| matched.path.as_ref()))])
}

/// A rule with each path by which it takes requests.
fn every_path<R>(rule: &Arc<Rule<R>>) -> Vec<Taken<'_, R>> {
    if rule.matches.is_empty() {
        return vec![(rule, None)];
    }
    rule.matches
        .iter()
        .map(|matched| (rule, matched.path.as_ref()))
        .collect()
}

/// Whether what a rule matches is replaced by a hash.
fn looks_at_hidden<R>(rule: &Rule<R>, fields: &[ShownField]) -> bool {
    let mut hidden = fields.iter().filter(|field| field.redacted);
    hidden.any(|field| {
        rule.matches.iter().any(|matched| {
            let is_named = |name: &HeaderName| field.name.eq_ignore_ascii_case(name.as_str());
            (field.name == ":path" && !matched.query.is_empty())
                || matched.headers.iter().any(|header| is_named(&header.name))
        })
    })
}

/// A request as routes look at it.
fn head(point: &PointView) -> v1::RequestHead {
    let at = At {
        point: 0,
        view: point,
        fields: &point.request,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let first = |name: &str| at.values(name).first().copied();
    let regular = point.request.iter().filter(|field| !field.name.starts_with(':'));
    let field = |field: &ShownField| v1::HeaderField {
        name: field.name.clone(),
        value: field.value.clone(),
    };
    v1::RequestHead {
        method: first(":method").map(text).unwrap_or_default(),
        authority: first(":authority")
            .or_else(|| first("host"))
            .map(text)
            .unwrap_or_default(),
        path: first(":path").map(|path| text(&path_of(path))).unwrap_or_default(),
        headers: regular.map(field).collect(),
    }
}

impl Ruled {
    fn new<R>(rule: &Rule<R>, path: Option<&PathMatch>, filters: Vec<Filter>) -> Self {
        Self {
            by: format!("{}, rule {},", rule.route, rule.index + 1),
            filters,
            path: path.cloned(),
            hedges: false,
        }
    }

    /// The filter that makes this change.
    fn makes(&self, change: &Change<'_>) -> Option<&'static str> {
        match (change.part, change.name) {
            ("request", ":path") => self.rewrites_path(change).then_some("URLRewrite"),
            ("request", ":authority" | "host") => self.rewrites_host(change).then_some("URLRewrite"),
            ("request", name) if is_free(name) => self.modifies(change, of_request).then_some("RequestHeaderModifier"),
            ("response", name) if is_free(name) => {
                self.modifies(change, of_response).then_some("ResponseHeaderModifier")
            }
            _ => None,
        }
    }

    /// Whether header modifiers make the values behind of those before. Of values that are not shown, whether they are as many.
    fn modifies(&self, change: &Change<'_>, of: fn(&Filter) -> Option<&HeaderModifier>) -> bool {
        let Ok(name) = HeaderName::from_bytes(change.name.as_bytes()) else {
            return false;
        };
        let named: Vec<_> = self
            .filters
            .iter()
            .filter_map(of)
            .filter(|one| names(one, &name))
            .collect();
        let Some(mut headers) = list(&name, &change.values_before()).filter(|_| !named.is_empty()) else {
            return false;
        };
        for modifier in named {
            modify(&mut headers, modifier, |one| *one == name);
        }
        let made: Vec<_> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        let mut shown = change.before.shown(change.name).chain(change.after.shown(change.name));
        if shown.any(|field| field.redacted) {
            made.len() == change.values_after().len()
        } else {
            made == change.values_after()
        }
    }

    fn rewrites_path(&self, change: &Change<'_>) -> bool {
        let ([old], [new]) = (&change.values_before()[..], &change.values_after()[..]) else {
            return false;
        };
        let modifiers = self.filters.iter().filter_map(|filter| match filter {
            Filter::Rewrite(rewrite) => rewrite.path.as_ref(),
            _ => None,
        });
        let mut target = String::from_utf8_lossy(&path_of(old)).into_owned();
        let mut is_rewritten = false;
        for modifier in modifiers {
            let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
            target = replaced(path, modifier, self.path.as_ref()) + query;
            is_rewritten = true;
        }
        is_rewritten && path_of(target.as_bytes()) == path_of(new)
    }

    /// HTTP/1 says the host in another field than HTTP/2: either may come and go.
    fn rewrites_host(&self, change: &Change<'_>) -> bool {
        let mut hosts = self.filters.iter().filter_map(|filter| match filter {
            Filter::Rewrite(rewrite) => rewrite.host.as_ref(),
            _ => None,
        });
        let Some(host) = hosts.next_back() else { return false };
        let host = host.as_bytes();
        change.values_after().iter().all(|new| *new == host) && change.after.hosts().contains(host)
    }
}

fn of_request(filter: &Filter) -> Option<&HeaderModifier> {
    match filter {
        Filter::RequestHeaders(modifier) => Some(modifier),
        _ => None,
    }
}

fn of_response(filter: &Filter) -> Option<&HeaderModifier> {
    match filter {
        Filter::ResponseHeaders(modifier) => Some(modifier),
        _ => None,
    }
}

/// Whether a filter may change it at all.
fn is_free(name: &str) -> bool {
    !name.starts_with(':') && !PROTECTED.contains(&name)
}

fn names(modifier: &HeaderModifier, name: &HeaderName) -> bool {
    modifier.add.contains_key(name) || modifier.set.contains_key(name) || modifier.remove.contains(name)
}

/// The values of one name as a header list; none where it could not have them.
fn list(name: &HeaderName, values: &[&[u8]]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests;
