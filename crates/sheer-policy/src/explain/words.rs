//! Rules as short texts: `GET /api/* header x-tenant=acme`. One place, so that every command writes them alike.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use regex::{Regex, bytes::Regex as BytesRegex};

use crate::{
    ObjectRef, ProtocolPlan,
    inbound::{Authentication, Authorization, RateLimit},
    outbound::{
        Abort, AbortAnswer, Affinity, Backend, BackendTarget, Backends, Balancing, FailureAccrual, Filter,
        HeaderModifier, Hedge, HttpRule, Mirror, PathModifier, Redirect, Retry, Rewrite, RouteBackend, Share, Timeouts,
    },
    routes::{Condition, HeaderMatch, HostMatch, PathMatch, QueryMatch, RequestMatch, ValueMatch},
};

/// The whole of a rule's conditions: hosts, then matches, joined by "or".
pub fn conditions(hosts: &[HostMatch], matches: &[RequestMatch]) -> String {
    let any = if matches.iter().all(takes_all) {
        "every request".to_owned()
    } else {
        matches.iter().map(request_match).collect::<Vec<_>>().join(" or ")
    };
    if hosts.is_empty() {
        any
    } else {
        format!("{any} to {}", host_list(hosts))
    }
}

fn takes_all(found: &RequestMatch) -> bool {
    request_match(found) == "every request"
}

/// One match: `GET /api/* header x-tenant=acme`.
pub fn request_match(found: &RequestMatch) -> String {
    let mut parts = Vec::new();
    parts.extend(found.method.as_ref().map(ToString::to_string));
    let anywhere = matches!(&found.path, Some(PathMatch::Prefix(prefix)) if prefix.is_empty() || prefix == "/");
    parts.extend(found.path.as_ref().filter(|_| !anywhere).map(path));
    parts.extend(found.headers.iter().map(header));
    parts.extend(found.query.iter().map(query));
    parts.extend(found.condition.as_ref().map(condition));
    if parts.is_empty() {
        "every request".to_owned()
    } else {
        parts.join(" ")
    }
}

/// A path to match: `/x`, `/api/*`, `~/v[12]/.*`, `*/GetAccount`.
pub fn path(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(exact) => exact.clone(),
        PathMatch::Prefix(prefix) => format!("{}/*", prefix.trim_end_matches('/')),
        PathMatch::Regex(regex) => format!("~{}", pattern(regex.as_str())),
        PathMatch::GrpcMethod(method) => format!("*/{method}"),
    }
}

/// A header to match: `header x-tenant=acme`.
pub fn header(header: &HeaderMatch) -> String {
    let HeaderMatch { name, value } = header;
    match value {
        ValueMatch::Exact(exact) => format!("header {name}={}", String::from_utf8_lossy(exact)),
        ValueMatch::Regex(regex) => format!("header {name}~{}", pattern(BytesRegex::as_str(regex))),
    }
}

/// A query parameter to match: `query page=2`.
pub fn query(query: &QueryMatch) -> String {
    let QueryMatch { name, value } = query;
    match value {
        ValueMatch::Exact(exact) => format!("query {name}={exact}"),
        ValueMatch::Regex(regex) => format!("query {name}~{}", pattern(Regex::as_str(regex))),
    }
}

/// A condition of a ServiceProfile.
pub fn condition(said: &Condition) -> String {
    let list = |all: &[Condition], word: &str| {
        let parts: Vec<_> = all.iter().map(condition).collect();
        format!("({})", parts.join(word))
    };
    match said {
        Condition::All(all) => list(all, " and "),
        Condition::Any(any) => list(any, " or "),
        Condition::Not(not) => format!("not {}", condition(not)),
        Condition::Path(regex) => format!("path ~{}", pattern(regex.as_str())),
        Condition::Method(method) => format!("method {method}"),
    }
}

/// As the operator wrote it, without the anchors that matching adds.
fn pattern(regex: &str) -> &str {
    regex
        .strip_prefix("^(?:")
        .and_then(|rest| rest.strip_suffix(")$"))
        .unwrap_or(regex)
}

/// Hosts, comma-separated.
pub fn host_list(hosts: &[HostMatch]) -> String {
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(name) => name.clone(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    hosts.iter().map(host).collect::<Vec<_>>().join(", ")
}

/// What a rule does beside choosing a backend, each a short text. Empty for a rule that only forwards.
pub fn actions(rule: &HttpRule) -> Vec<String> {
    let mut parts: Vec<String> = rule.filters.iter().map(filter).collect();
    parts.extend(rule.mirrors.iter().map(mirror));
    parts.extend(timeouts(&rule.timeouts));
    parts.extend(rule.retry.as_ref().map(retry));
    parts.extend(rule.hedge.as_ref().map(hedge));
    parts
}

/// What a filter does.
pub fn filter(filter: &Filter) -> String {
    match filter {
        Filter::RequestHeaders(headers) => format!("request headers: {}", modifier(headers)),
        Filter::ResponseHeaders(headers) => format!("response headers: {}", modifier(headers)),
        Filter::Redirect(said) => redirect(said),
        Filter::Rewrite(said) => rewrite(said),
        Filter::Abort(said) => abort(said),
        Filter::Delay(said) => format!("delays {} by {}", share(said.share), duration(said.delay)),
    }
}

fn modifier(headers: &HeaderModifier) -> String {
    let fields = |word: &str, fields: &HeaderMap| {
        let text = |(name, value): (&HeaderName, &http::HeaderValue)| {
            format!("{word} {name}={}", String::from_utf8_lossy(value.as_bytes()))
        };
        fields.iter().map(text).collect::<Vec<_>>()
    };
    let removed = headers.remove.iter().map(|name| format!("remove {name}"));
    let all = fields("add", &headers.add)
        .into_iter()
        .chain(fields("set", &headers.set))
        .chain(removed);
    all.collect::<Vec<_>>().join(", ")
}

fn redirect(said: &Redirect) -> String {
    let mut to = String::new();
    if let Some(scheme) = &said.scheme {
        to += &format!("{scheme}://");
    }
    to += said.host.as_deref().unwrap_or("the same host");
    if let Some(port) = said.port {
        to += &format!(":{port}");
    }
    if let Some(path) = &said.path {
        to += &format!(" {}", path_modifier(path));
    }
    format!("redirects with {} to {to}", said.status.as_u16())
}

fn rewrite(said: &Rewrite) -> String {
    let host = said.host.as_ref().map(|host| format!("host to {host}"));
    let parts: Vec<_> = host.into_iter().chain(said.path.as_ref().map(path_modifier)).collect();
    format!("rewrites {}", parts.join(", "))
}

fn path_modifier(path: &PathModifier) -> String {
    match path {
        PathModifier::Full(path) => format!("path to {path}"),
        PathModifier::Prefix(prefix) => format!("the matched prefix to {prefix}"),
    }
}

fn abort(said: &Abort) -> String {
    let answer = match said.answer {
        AbortAnswer::Http(status) => status.as_u16().to_string(),
        AbortAnswer::Grpc(code) => format!("gRPC status {code}"),
    };
    format!("answers {} with {answer}", share(said.share))
}

/// `every request`, or `5 % of requests`.
pub fn share(share: Share) -> String {
    if share.numerator >= share.denominator {
        return "every request".to_owned();
    }
    format!(
        "{} of requests",
        percent(f64::from(share.numerator) / f64::from(share.denominator))
    )
}

/// `12.5 %`.
pub fn percent(share: f64) -> String {
    let rounded = (share * 1000.0).round() / 10.0;
    format!("{rounded} %")
}

/// Who gets a copy.
pub fn mirror(mirror: &Mirror) -> String {
    format!("copies {} to {}", share(mirror.share), mirror.backend.object)
}

/// Each timeout that is set.
pub fn timeouts(timeouts: &Timeouts) -> Vec<String> {
    let said = [
        ("the whole request", timeouts.request),
        ("head of the response", timeouts.response),
        ("silence", timeouts.idle),
    ];
    said.into_iter()
        .filter_map(|(what, limit)| Some(format!("{what} within {}", duration(limit?))))
        .collect()
}

/// When a request is sent again.
pub fn retry(retry: &Retry) -> String {
    let range = |(from, to): &(u16, u16)| {
        if from == to {
            from.to_string()
        } else {
            format!("{from}-{to}")
        }
    };
    let mut on: Vec<String> = retry.statuses.iter().map(range).collect();
    on.extend(grpc_codes(retry));
    let on = if on.is_empty() {
        "failed connections".to_owned()
    } else {
        on.join(", ")
    };
    let mut text = format!("up to {} more on {on}", retry.limit);
    if let Some(timeout) = retry.timeout {
        text += &format!(", each within {}", duration(timeout));
    }
    if let Some(backoff) = &retry.backoff {
        text += &format!(", {} to {} apart", duration(backoff.min), duration(backoff.max));
    }
    if let Some(max) = retry.max_hint {
        text += &format!(", or as long as the server says up to {}", duration(max));
    }
    text
}

fn grpc_codes(retry: &Retry) -> Vec<String> {
    retry.grpc_codes.iter().map(|code| format!("gRPC {code}")).collect()
}

/// Hedging.
pub fn hedge(hedge: &Hedge) -> String {
    format!(
        "another attempt after {}, {} at once",
        duration(hedge.delay),
        hedge.max_attempts
    )
}

/// Backends of a rule with their weights, as `Service bank/ledger:8080 90`.
pub fn backends(backends: &Backends) -> Vec<String> {
    match backends {
        Backends::None => Vec::new(),
        Backends::First(first) => first.iter().map(route_backend).collect(),
        Backends::Weighted(weighted) => weighted
            .iter()
            .map(|(backend, weight)| format!("{} {weight}", route_backend(backend)))
            .collect(),
    }
}

/// A backend of a rule, by its object.
pub fn route_backend(backend: &RouteBackend) -> String {
    backend_name(&backend.backend)
}

/// A backend, by its object or its address.
pub fn backend_name(backend: &Backend) -> String {
    match &backend.target {
        BackendTarget::Forward(endpoint) if backend.object.is_default() => endpoint.addr.to_string(),
        _ => backend.object.to_string(),
    }
}

/// How endpoints are chosen, each a short text.
pub fn balancing(balancing: &Balancing) -> Vec<String> {
    let slow = balancing
        .slow_start
        .map(|time| format!("new endpoints grow to their share in {}", duration(time)));
    let affinity = balancing.affinity.as_ref().map(|key| match key {
        Affinity::Header(name) => format!("one endpoint for each value of header {name}"),
        Affinity::Cookie(name) => format!("one endpoint for each value of cookie {name}"),
        Affinity::ClientIp => "one endpoint for each client address".to_owned(),
    });
    let zone = balancing
        .locality
        .as_ref()
        .map(|locality| format!("endpoints in zone {} first", locality.zone));
    let ejected = balancing
        .max_ejected_percent
        .map(|percent| format!("at most {percent} % of endpoints sit out"));
    slow.into_iter().chain(affinity).chain(zone).chain(ejected).collect()
}

/// When an endpoint sits out.
pub fn accrual(accrual: &FailureAccrual) -> String {
    let consecutive = accrual
        .max_consecutive
        .map(|count| format!("{count} failures in a row"));
    let rate = accrual.success_rate.map(|rate| {
        format!(
            "less than {} success in {}",
            percent(rate.threshold),
            duration(rate.window)
        )
    });
    let parts: Vec<_> = consecutive.into_iter().chain(rate).collect();
    format!(
        "an endpoint sits out {} to {} after {}",
        duration(accrual.backoff.min),
        duration(accrual.backoff.max),
        parts.join(" or ")
    )
}

/// What is spoken, in one word.
pub fn protocol(protocol: ProtocolPlan) -> &'static str {
    match protocol {
        ProtocolPlan::Detect { .. } => "detect",
        ProtocolPlan::Http1 => "http/1",
        ProtocolPlan::Http2 => "http/2",
        ProtocolPlan::Opaque => "opaque",
        ProtocolPlan::Tls => "tls",
    }
}

/// An authorization: `AuthorizationPolicy bank/web: web.bank… from 10.0.0.0/8`.
pub fn authorization(rule: &Authorization) -> String {
    format!("{}: {}", rule.policy, lets_in(rule))
}

/// Whom an authorization lets in.
pub fn lets_in(rule: &Authorization) -> String {
    let who = match &rule.authentication {
        Authentication::Unauthenticated => "everybody".to_owned(),
        Authentication::MeshTlsAny => "every client with TLS of the mesh".to_owned(),
        Authentication::MeshTls { .. } => {
            let names = names(&rule.authentication);
            if names.iter().any(|name| name == "*") {
                "every identity".to_owned()
            } else {
                names.join(", ")
            }
        }
    };
    let from = networks(rule);
    if from.is_empty() {
        who
    } else {
        format!("{who} from {from}")
    }
}

/// The identities that an authentication names, shortened.
pub(super) fn names(authentication: &Authentication) -> Vec<String> {
    let Authentication::MeshTls { identities, suffixes } = authentication else {
        return Vec::new();
    };
    let suffix = |labels: &Vec<String>| {
        if labels.is_empty() {
            "*".to_owned()
        } else {
            identity(&format!("*.{}", labels.join(".")))
        }
    };
    identities
        .iter()
        .map(|name| identity(name))
        .chain(suffixes.iter().map(suffix))
        .collect()
}

/// Client networks with their exceptions; empty where every network is meant.
pub(super) fn networks(rule: &Authorization) -> String {
    let everywhere = |family_v4: bool| {
        rule.networks.iter().any(|(network, except)| {
            network.prefix_len() == 0 && except.is_empty() && network.addr().is_ipv4() == family_v4
        })
    };
    if everywhere(true) && everywhere(false) {
        return String::new();
    }
    let one = |(network, except): &(ipnet::IpNet, Vec<ipnet::IpNet>)| {
        if except.is_empty() {
            return network.to_string();
        }
        let except: Vec<_> = except.iter().map(ToString::to_string).collect();
        format!("{network} but {}", except.join(", "))
    };
    rule.networks.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// An identity as operators know it: the service account and its namespace. The rest is the mesh's and the same for all.
pub fn identity(name: &str) -> String {
    match name.split_once(".serviceaccount.identity.") {
        Some((short, _)) => format!("{short}…"),
        None => name.to_owned(),
    }
}

/// A rate limit: `100 requests a second in all, 10 for each client`.
pub fn rate_limit(limit: &RateLimit) -> String {
    let total = limit.total.map(|rate| format!("{rate} requests a second in all"));
    let each = limit.identity.map(|rate| format!("{rate} for each client"));
    let over = limit.overrides.iter().map(|over| {
        let names: Vec<_> = over.identities.iter().map(|name| identity(name)).collect();
        format!("{} for {}", over.requests_per_second, names.join(", "))
    });
    total.into_iter().chain(each).chain(over).collect::<Vec<_>>().join(", ")
}

/// An object as operators write it: `Service bank/ledger:8080`, `HTTPRoute bank/canary`.
pub fn object(object: &ObjectRef) -> String {
    object.to_string()
}

/// A time: `30ms`, `1.5s`, `2m`.
pub fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..1_000 => format!("{millis}ms"),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{}s", (millis as f64 / 100.0).round() / 10.0),
    }
}
