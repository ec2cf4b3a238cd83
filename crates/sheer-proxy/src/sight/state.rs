//! Everything that the proxy holds, as `sheer.v1.ProxyState`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sheer_api::v1;
use sheer_policy::{
    explain::words,
    outbound::{Backend, BackendTarget, Backends, HttpRule, OutboundPolicy, StreamRule},
    routes::Rule,
    wire::explain as wire,
};

use super::{counts::Counts, service::Sight};
use crate::{
    control::Record,
    discovery::{Endpoint, EndpointSet, InboundPolicy, Lookup, OutboundTarget},
    pool::{EndpointView, ServiceView},
};

/// The whole state.
pub(super) async fn state(sight: &Sight) -> v1::ProxyState {
    let views = sight.workers().services().await;
    let records = sight.client().streams();
    let credentials = sight.identity().current();
    let counts = Counts::read(sight.registry());
    let mut outbound: Vec<_> = sight
        .client()
        .destinations()
        .into_iter()
        .filter_map(|(dst, known)| destination(sight, &dst.to_string(), &known, (&records, &views, &counts)))
        .collect();
    outbound.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
    let mut inbound: Vec<_> = sight
        .client()
        .ports()
        .into_iter()
        .filter_map(|(port, known)| own_port(port, &known, &records, &counts))
        .collect();
    inbound.sort_by_key(|port| port.port);
    let mut control_streams: Vec<_> = records.iter().map(stream).collect();
    control_streams.sort_by(|a, b| (&a.method, &a.target).cmp(&(&b.method, &b.target)));
    v1::ProxyState {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workload: sight.settings().workload.clone(),
        identity: credentials
            .as_ref()
            .map_or_else(String::new, |credentials| credentials.name().to_string()),
        certificate_not_after: credentials.as_ref().map_or(0, |one| unix(one.not_after())),
        certificate_not_before: credentials.as_ref().map_or(0, |one| unix(one.not_before())),
        listeners: sight.listeners(),
        control_streams,
        outbound,
        inbound,
        uptime_ms: millis(sight.uptime()),
    }
}

fn destination(
    sight: &Sight,
    address: &str,
    known: &Lookup<OutboundTarget>,
    (records, views, counts): (&[Record], &[ServiceView], &Counts),
) -> Option<v1::OutboundState> {
    let age_ms = millis(age(records, "OutboundPolicies.Watch", address));
    let target = match known {
        Lookup::Pending => return None,
        Lookup::Unknown => {
            return Some(v1::OutboundState {
                address: address.to_owned(),
                name: address.to_owned(),
                protocol: "unknown".to_owned(),
                age_ms,
                ..v1::OutboundState::default()
            });
        }
        Lookup::Known(target) => target,
    };
    let policy = &target.policy;
    let backends = backends_of(policy);
    let state = |backend: &Arc<Backend>| {
        let set = match &backend.target {
            BackendTarget::Balance { path, .. } => sight.client().known_endpoints(path),
            BackendTarget::Forward(_) | BackendTarget::Invalid { .. } => None,
        };
        backend_state(backend, set.as_deref(), views)
    };
    Some(v1::OutboundState {
        address: address.to_owned(),
        name: target.name.to_string(),
        parent: Some(wire::object(&policy.parent)),
        protocol: words::protocol(policy.protocol).to_owned(),
        age_ms,
        routes: routes_of(policy, counts),
        backends: backends.iter().map(state).collect(),
    })
}

/// Every rule once: those of both versions of HTTP are mostly the same.
fn routes_of(policy: &OutboundPolicy, counts: &Counts) -> Vec<v1::RouteState> {
    let mut routes: Vec<v1::RouteState> = Vec::new();
    for rule in policy.http2.routes.rules().iter().chain(policy.http1.routes.rules()) {
        let state = v1::RouteState {
            requests: counts.of_rule(&policy.parent, &rule.route, Some(rule.index)),
            ..wire::outbound_rule(rule)
        };
        if !routes.contains(&state) {
            routes.push(state);
        }
    }
    let stream = |rule: &StreamRule, what| v1::RouteState {
        requests: counts.of_rule(&policy.parent, &rule.route, None),
        ..stream_rule(rule, what)
    };
    routes.extend(policy.opaque.iter().map(|rule| stream(rule, "connections")));
    routes.extend(policy.tls.iter().map(|rule| stream(rule, "TLS")));
    routes
}

fn stream_rule(rule: &StreamRule, what: &str) -> v1::RouteState {
    let matches = if rule.server_names.is_empty() {
        what.to_owned()
    } else {
        format!("{what} to {}", words::host_list(&rule.server_names))
    };
    v1::RouteState {
        route: Some(wire::object(&rule.route)),
        rule: 0,
        matches,
        actions: rule
            .refuses
            .as_ref()
            .map_or_else(String::new, |_| "refuses connections".to_owned()),
        backends: words::backends(&rule.backends),
        requests: 0,
    }
}

/// Every backend that some rule may send to, once.
fn backends_of(policy: &OutboundPolicy) -> Vec<Arc<Backend>> {
    let http = |rule: &Arc<Rule<HttpRule>>| {
        let mirrors = rule.action.mirrors.iter().map(|mirror| Arc::clone(&mirror.backend));
        all(&rule.action.backends)
            .into_iter()
            .chain(mirrors)
            .collect::<Vec<_>>()
    };
    let rules = policy.http2.routes.rules().iter().chain(policy.http1.routes.rules());
    let streams = policy.opaque.iter().chain(policy.tls.iter());
    let everything = rules
        .flat_map(http)
        .chain(streams.flat_map(|rule: &StreamRule| all(&rule.backends)));
    let mut backends: Vec<Arc<Backend>> = Vec::new();
    for backend in everything {
        if !backends
            .iter()
            .any(|known| known.object == backend.object && known.target == backend.target)
        {
            backends.push(backend);
        }
    }
    backends
}

fn all(backends: &Backends) -> Vec<Arc<Backend>> {
    match backends {
        Backends::None => Vec::new(),
        Backends::First(first) => first.iter().map(|one| Arc::clone(&one.backend)).collect(),
        Backends::Weighted(weighted) => weighted.iter().map(|(one, _)| Arc::clone(&one.backend)).collect(),
    }
}

/// A backend with what the workers know of its endpoints.
pub(super) fn backend_state(backend: &Backend, set: Option<&EndpointSet>, views: &[ServiceView]) -> v1::BackendState {
    let (path, endpoints) = match &backend.target {
        BackendTarget::Forward(endpoint) => (String::new(), vec![Arc::clone(endpoint)]),
        BackendTarget::Balance { path, .. } => {
            (path.to_string(), set.map_or_else(Vec::new, |set| set.endpoints.clone()))
        }
        BackendTarget::Invalid { .. } => (String::new(), Vec::new()),
    };
    let waiting = views
        .iter()
        .filter(|view| *view.name == *path)
        .map(|view| view.waiting)
        .sum::<usize>();
    v1::BackendState {
        backend: Some(wire::object(&backend.object)),
        endpoints: endpoints
            .iter()
            .map(|endpoint| endpoint_state(endpoint, &path, views))
            .collect(),
        path,
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
    }
}

/// An endpoint, over all workers. What no worker has met is not connected yet, which is no fault.
fn endpoint_state(endpoint: &Endpoint, path: &str, views: &[ServiceView]) -> v1::EndpointState {
    let of = |view: &ServiceView| {
        let mut found = view.endpoints.iter();
        found.find(|known| known.endpoint.addr == endpoint.addr).cloned()
    };
    let own: Vec<EndpointView> = views.iter().filter(|view| *view.name == *path).filter_map(of).collect();
    // A pod addressed directly, or a route's backend, may be known under another name.
    let known = if own.is_empty() {
        views.iter().filter_map(of).collect()
    } else {
        own
    };
    let label = |name: &str| endpoint.labels.get(name).cloned().unwrap_or_default();
    let worst = |text: fn(&EndpointView) -> &str| {
        let mut all = known.iter().map(text).filter(|text| !text.is_empty());
        all.next().unwrap_or_default().to_owned()
    };
    let ready = known.iter().any(|one| one.ready);
    v1::EndpointState {
        address: endpoint.addr.to_string(),
        weight: endpoint.weight,
        identity: endpoint
            .identity
            .as_ref()
            .map_or_else(String::new, |identity| identity.id.to_string()),
        ready,
        breaker: ["open", "probation"]
            .into_iter()
            .find(|state| known.iter().any(|one| one.breaker == *state))
            .unwrap_or("closed")
            .to_owned(),
        failures: known.iter().map(|one| one.failures).max().unwrap_or(0),
        rtt_ms: known
            .iter()
            .filter_map(|one| one.rtt)
            .max()
            .map_or(0.0, |rtt| rtt.as_secs_f64() * 1_000.0),
        pending: known.iter().map(|one| one.pending).sum(),
        why: match (ready, known.is_empty()) {
            (true, _) => String::new(),
            (false, true) => NEVER_USED.to_owned(),
            (false, false) => worst(|one| &one.why),
        },
        zone: label("zone"),
        pod: label("pod"),
    }
}

/// Why an endpoint is not ready that no request ever needed.
pub(super) const NEVER_USED: &str = "not connected yet: no request needed it";

fn own_port(port: u16, known: &Lookup<InboundPolicy>, records: &[Record], counts: &Counts) -> Option<v1::InboundState> {
    let Lookup::Known(policy) = known else { return None };
    let rule = |rule: &Arc<Rule<sheer_policy::inbound::InboundRule>>| {
        let filters = rule.action.filters.iter().map(words::filter);
        let authorizations = rule.action.authorizations.iter();
        let lets_in = authorizations.map(|one| format!("lets in {}", words::lets_in(one)));
        v1::RouteState {
            route: Some(wire::object(&rule.route)),
            rule: u32::try_from(rule.index).unwrap_or(u32::MAX),
            matches: words::conditions(&rule.hosts, &rule.matches),
            actions: filters.chain(lets_in).collect::<Vec<_>>().join("; "),
            backends: Vec::new(),
            requests: counts.of_inbound(port, &rule.route),
        }
    };
    Some(v1::InboundState {
        port: port.into(),
        server: Some(wire::object(&policy.server)),
        protocol: words::protocol(policy.protocol).to_owned(),
        age_ms: millis(age(records, "InboundServerPolicies.WatchPort", &port.to_string())),
        authorizations: policy.authorizations.iter().map(words::authorization).collect(),
        routes: policy.routes.rules().iter().map(rule).collect(),
        rate_limit: policy
            .rate_limit
            .as_ref()
            .map_or_else(String::new, |limit| words::rate_limit(limit)),
    })
}

fn stream(record: &Record) -> v1::ControlStream {
    v1::ControlStream {
        method: record.method.clone(),
        target: record.target.clone(),
        last_update_age_ms: record.age().map_or(0, millis),
        messages: record.messages,
        connected: record.connected,
        last_error: record.last_error.clone(),
    }
}

/// Since the last message of a stream; nothing where there was none.
pub(super) fn age(records: &[Record], method: &str, target: &str) -> Duration {
    let mut found = records
        .iter()
        .filter(|record| record.method == method && record.target == target);
    found.find_map(Record::age).unwrap_or_default()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
