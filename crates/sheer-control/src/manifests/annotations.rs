//! Annotations of the mesh: which exist, what their values look like, and which of Linkerd's are not honoured.

use sheer_policy::{log_directives, log_filter::LogFilter};

use super::Severity;
use crate::objects::{Kind, Labels, parse_cores, parse_networks, parse_ports, parse_publish, parse_weight, traffic};

/// How a value is checked.
type Check = fn(&str) -> Result<(), String>;
/// Annotations: scope, name, form of the value, and kinds of objects on which they have an effect, or [`ANYWHERE`].
type Table = &'static [(&'static str, &'static str, Check, &'static [Kind])];

/// What has retries and timeouts.
const ROUTED: &[Kind] = &[
    Kind::Service,
    Kind::EgressNetwork,
    Kind::HttpRoute,
    Kind::PolicyHttpRoute,
    Kind::GrpcRoute,
];
/// What has endpoints, or is balanced to.
const PARENTS: &[Kind] = &[Kind::Service, Kind::EgressNetwork];
const SERVICES: &[Kind] = &[Kind::Service];
/// What is an endpoint; templates count as the pods that they make.
const PODS: &[Kind] = &[Kind::Pod];

/// Scope, name, form and kinds of objects of what configures traffic, under `sheer.dev` and `linkerd.io` alike. What Linkerd has under
/// `balancer.alpha` is read under `balancer` too.
const TRAFFIC: Table = &[
    ("retry", "http", |text| traffic::statuses(text).map(drop), ROUTED),
    ("retry", "grpc", |text| traffic::grpc_codes(text).map(drop), ROUTED),
    ("retry", "limit", |text| traffic::count(text).map(drop), ROUTED),
    ("retry", "timeout", interval, ROUTED),
    ("timeout", "request", interval, ROUTED),
    ("timeout", "response", interval, ROUTED),
    ("timeout", "idle", interval, ROUTED),
    (
        "balancer",
        "failure-accrual",
        |text| traffic::accrual_mode(text).map(drop),
        PARENTS,
    ),
    (
        "balancer",
        "failure-accrual-consecutive-max-failures",
        |text| traffic::count(text).map(drop),
        PARENTS,
    ),
    ("balancer", "failure-accrual-consecutive-min-penalty", interval, PARENTS),
    ("balancer", "failure-accrual-consecutive-max-penalty", interval, PARENTS),
    (
        "balancer",
        "failure-accrual-consecutive-jitter-ratio",
        |text| traffic::jitter(text).map(drop),
        PARENTS,
    ),
    (
        "balancer",
        "failure-accrual-success-rate-threshold",
        |text| traffic::share(text).map(drop),
        PARENTS,
    ),
    ("balancer", "failure-accrual-success-rate-window", interval, PARENTS),
    (
        "balancer",
        "failure-accrual-success-rate-min-requests",
        |text| traffic::count(text).map(drop),
        PARENTS,
    ),
    (
        "balancer",
        "failure-accrual-honor-retry-after",
        |text| traffic::switch(text).map(drop),
        PARENTS,
    ),
    (
        "balancer",
        "penalize-failures",
        |text| traffic::switch(text).map(drop),
        PARENTS,
    ),
    ("balancer", "load-biaser-penalty", interval, PARENTS),
    ("balancer", "load-biaser-max-retry-after", interval, PARENTS),
];

/// The same, under `sheer.dev` only.
const OWN_TRAFFIC: Table = &[
    ("retry", "budget-ratio", |text| traffic::ratio(text).map(drop), PARENTS),
    (
        "retry",
        "budget-min-per-second",
        |text| traffic::count(text).map(drop),
        PARENTS,
    ),
    ("retry", "budget-ttl", interval, PARENTS),
    ("hedge", "delay", interval, &[Kind::GrpcRoute]),
    (
        "hedge",
        "max-attempts",
        |text| traffic::count(text).map(drop),
        &[Kind::GrpcRoute],
    ),
    ("balancer", "slow-start", interval, SERVICES),
    ("balancer", "weight", |text| parse_weight(text).map(drop), PODS),
    (
        "balancer",
        "session-affinity-header",
        |text| traffic::header_name(text).map(drop),
        SERVICES,
    ),
    (
        "balancer",
        "session-affinity-cookie",
        |text| traffic::header_name(text).map(drop),
        SERVICES,
    ),
    (
        "balancer",
        "max-ejected-percent",
        |text| traffic::percent(text).map(drop),
        SERVICES,
    ),
    (
        "balancer",
        "locality",
        |text| traffic::locality(text).map(drop),
        SERVICES,
    ),
    (
        "balancer",
        "locality-spill-over",
        |text| traffic::positive(text).map(drop),
        SERVICES,
    ),
];

fn interval(text: &str) -> Result<(), String> {
    traffic::interval(text).map(drop)
}

/// What configures pods and their sidecars, by scope: on a pod or its template, and on the Namespace as a default.
const SETTINGS: &[Kind] = &[Kind::Pod, Kind::Namespace];
/// What hides pods: they themselves, what made them, or their namespace.
const HIDES: &[Kind] = &[Kind::Pod, Kind::Namespace, Kind::Deployment, Kind::StatefulSet];
/// What holds for the whole mesh, whatever object names it.
const ANYWHERE: &[Kind] = &[];
/// What the ports of a Service have too.
const PORT_SETTINGS: &[Kind] = &[Kind::Pod, Kind::Namespace, Kind::Service];
/// What can have a port on the host.
const PUBLISHED: &[Kind] = &[
    Kind::Pod,
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::Service,
    Kind::Namespace,
];

/// Scope, name, form and kinds of what is honoured, under `sheer.dev` and `linkerd.io` alike.
const HONOURED: Table = &[
    ("", "inject", inject, SETTINGS),
    ("", "sight", sight, HIDES),
    ("", "redact-headers", any, ANYWHERE),
    ("", "redact-fields", any, ANYWHERE),
    ("config", "opaque-ports", ports, PORT_SETTINGS),
    ("config", "skip-inbound-ports", ports, SETTINGS),
    ("config", "skip-outbound-ports", ports, SETTINGS),
    ("config", "skip-subnets", networks, SETTINGS),
    ("config", "default-inbound-policy", inbound_policy, SETTINGS),
    ("config", "proxy-require-identity-inbound-ports", ports, SETTINGS),
    ("config", "proxy-log-level", log_level, SETTINGS),
    ("config", "proxy-log-format", log_format, SETTINGS),
    ("config", "proxy-cpu-limit", cores, SETTINGS),
    ("config", "proxy-binary", any, SETTINGS),
    ("config", "shutdown-grace-period", interval, SETTINGS),
    ("config", "access-log", access_log, SETTINGS),
    ("config", "access-log-filter", access_log_filter, SETTINGS),
    ("config", "access-log-otlp", switch, SETTINGS),
    ("config", "telemetry", switch, SETTINGS),
    ("config", "trace-control-plane", switch, SETTINGS),
    ("config", "recorder", recorder, SETTINGS),
    ("config", "trace-collector", authority, SETTINGS),
    ("config", "trace-collector-identity", any, SETTINGS),
    ("config", "trace-protocol", trace_protocol, SETTINGS),
    ("config", "trace-sample-rate", sample_rate, SETTINGS),
    ("config", "trace-sample-limit", whole, SETTINGS),
    ("config", "trace-slow", interval, SETTINGS),
    ("config", "trace-keep-limit", whole, SETTINGS),
];

/// The same, under `sheer.dev` only. `meshed` is what the mesh writes on pods that run.
const OWN: Table = &[("", "publish", publish, PUBLISHED), ("", "meshed", any, PODS)];

/// What is wrong with some annotations of an object of a kind: severity, name, message.
pub(super) fn check(kind: Kind, annotations: &Labels) -> Vec<(Severity, String, String)> {
    let mut wrong = Vec::new();
    for (key, value) in annotations {
        let Some((domain, name)) = key.split_once('/') else {
            continue;
        };
        let Some((scope, ours)) = scope(domain) else { continue };
        if let Some((check, kinds)) = find(scope, name, ours) {
            if let Err(message) = check(value) {
                wrong.push((Severity::Error, key.clone(), message));
            } else if !kinds.is_empty() && !kinds.contains(&kind) {
                wrong.push((Severity::Warning, key.clone(), useless(kind, kinds)));
            }
        } else {
            let message = if ours {
                "not an annotation that Sheer knows: left out"
            } else {
                "not honoured: Linkerd's meaning does not apply"
            };
            wrong.push((Severity::Warning, key.clone(), message.to_owned()));
        }
    }
    wrong
}

/// How the value of an annotation is checked, and the kinds on which it has an effect.
fn find(scope: &str, name: &str, ours: bool) -> Option<(Check, &'static [Kind])> {
    let of_traffic = scope.strip_suffix(".alpha").unwrap_or(scope);
    let shared = look(HONOURED, scope, name).or_else(|| look(TRAFFIC, of_traffic, name));
    let own = || look(OWN, scope, name).or_else(|| look(OWN_TRAFFIC, of_traffic, name));
    shared.or_else(|| ours.then(own).flatten())
}

fn look(table: Table, scope: &str, name: &str) -> Option<(Check, &'static [Kind])> {
    let mut table = table.iter();
    let found = table.find(|(known, known_name, ..)| *known == scope && *known_name == name);
    found.map(|(.., check, kinds)| (*check, *kinds))
}

/// Where an annotation is written that has no effect where it stands. What makes pods has them from its template.
fn useless(kind: Kind, kinds: &[Kind]) -> String {
    let makes_pods = matches!(kind, Kind::Deployment | Kind::StatefulSet);
    if makes_pods && kinds.contains(&Kind::Pod) {
        return format!("of no effect on a {kind}: write it on its pods, under spec.template.metadata.annotations");
    }
    let mut names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.dedup();
    format!("of no effect on a {kind}: write it on a {}", names.join(" or "))
}

/// The scope of an annotation's domain, and whether it is Sheer's own.
fn scope(domain: &str) -> Option<(&str, bool)> {
    for (suffix, ours) in [("sheer.dev", true), ("linkerd.io", false)] {
        if domain == suffix {
            return Some(("", ours));
        }
        if let Some(scope) = domain.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) {
            return Some((scope, ours));
        }
    }
    None
}

fn any(_: &str) -> Result<(), String> {
    Ok(())
}

fn one_of(value: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("{value:?} must be {}", allowed.join(" or ")))
}

fn access_log(value: &str) -> Result<(), String> {
    one_of(value, &["apache", "json", "off"])
}

fn access_log_filter(value: &str) -> Result<(), String> {
    LogFilter::parse(value).map(drop).map_err(|error| error.to_string())
}

fn switch(value: &str) -> Result<(), String> {
    one_of(value, &["true", "false"])
}

fn recorder(value: &str) -> Result<(), String> {
    one_of(value, &["on", "off"])
}

fn trace_protocol(value: &str) -> Result<(), String> {
    one_of(value, &["grpc", "http/protobuf"])
}

fn authority(value: &str) -> Result<(), String> {
    let port = value
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(()),
        _ => Err(format!(
            "{value:?} must be a host and a port, as collector.tracing:4317"
        )),
    }
}

fn sample_rate(value: &str) -> Result<(), String> {
    match value.parse::<f64>() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(()),
        _ => Err(format!("{value:?} must be a number from 0 to 1")),
    }
}

fn whole(value: &str) -> Result<(), String> {
    value
        .parse::<u32>()
        .map(drop)
        .map_err(|_| format!("{value:?} must be a whole number"))
}

fn ports(value: &str) -> Result<(), String> {
    parse_ports(value).map(drop)
}

fn networks(value: &str) -> Result<(), String> {
    parse_networks(value).map(drop)
}

fn cores(value: &str) -> Result<(), String> {
    parse_cores(value).map(drop)
}

fn publish(value: &str) -> Result<(), String> {
    parse_publish(value).map(drop)
}

fn log_level(value: &str) -> Result<(), String> {
    let parsed = log_directives::parse(value).map(drop);
    parsed.map_err(|why| format!("{value:?} {why}"))
}

fn log_format(value: &str) -> Result<(), String> {
    one_of(&value.trim().to_ascii_lowercase(), &["plain", "json"])
}

fn sight(value: &str) -> Result<(), String> {
    one_of(value, &["enabled", "disabled"])
}

fn inject(value: &str) -> Result<(), String> {
    match value {
        "enabled" | "disabled" | "true" | "false" => Ok(()),
        _ => Err(format!("{value:?} must be enabled or disabled")),
    }
}

/// Names of the default inbound policies.
pub(crate) const INBOUND_POLICIES: &[&str] = &[
    "all-unauthenticated",
    "all-authenticated",
    "cluster-authenticated",
    "cluster-unauthenticated",
    "all-tls-unauthenticated",
    "cluster-tls-unauthenticated",
    "deny",
    "audit",
];

fn inbound_policy(value: &str) -> Result<(), String> {
    if INBOUND_POLICIES.contains(&value) {
        return Ok(());
    }
    Err(format!("{value:?} is not one of {}", INBOUND_POLICIES.join(", ")))
}
