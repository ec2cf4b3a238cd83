//! Policy: what applies at each port, what it denied, and what proxies hold.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sheer_api::v1::selector::Kind;
use sheer_api::v1::{ConfigDumpRequest, EdgesRequest, EndpointState, InboundState, ProxyDump, RouteState};
use tokio::time::Instant;

use super::{Sources, Span, map};
use crate::numbers::{self, Ending};
use crate::problem::Problem;
use crate::query::Query;
use crate::resource::{Id, object};

/// Reasons with which policy ends requests (docs/errors.md).
const REASONS: [&str; 7] = [
    "policy-denied",
    "rate-limited",
    "forbidden",
    "no-route",
    "policy-unknown",
    "fault-injected",
    "invalid-backend",
];
/// How long what proxies hold is shown without asking them again.
const FRESH: Duration = Duration::from_secs(8);

#[derive(Debug, Serialize)]
pub(super) struct Policy {
    window: Span,
    /// What each port of each workload lets in.
    ports: Vec<Port>,
    /// What policy ended, the most first.
    denied: Vec<Denied>,
    /// Requests that ended otherwise, within the window.
    let_through: u64,
    /// Proxies that did not answer.
    notes: Vec<String>,
}

/// One port, the same for all pods of a workload that hold the same.
#[derive(Debug, PartialEq, Serialize)]
struct Port {
    workload: String,
    port: u32,
    server: String,
    protocol: String,
    authorizations: Vec<String>,
    rate_limit: String,
    routes: Vec<Rule>,
    /// How many pods hold this.
    pods: u32,
}

#[derive(Debug, PartialEq, Serialize)]
struct Rule {
    route: String,
    matches: String,
    actions: String,
    backends: Vec<String>,
    requests: u64,
}

#[derive(Debug, Serialize)]
struct Denied {
    source: Id,
    source_identity: String,
    destination: Id,
    /// As "bank/ledger:8080"; may be empty.
    service: String,
    ending: Ending,
    last_seen_ms: i64,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Policy, Problem> {
    let window_ms = query.window_ms()?;
    let edges = sources.control.edges(EdgesRequest {
        what: query.every(Kind::Workload).filter(|what| !what.namespace.is_empty()),
        window_ms,
        ..EdgesRequest::default()
    });
    let (edges, dump) = tokio::try_join!(edges, dump(sources))?;
    let namespace = query.namespace();
    let own = dump
        .iter()
        .filter(|proxy| namespace.is_empty() || proxy.namespace == namespace);
    let silent = own.clone().filter(|proxy| proxy.state.is_none());
    let mut denied: Vec<Denied> = edges.edges.iter().flat_map(denials).collect();
    denied.sort_by_key(|denied| std::cmp::Reverse(denied.ending.count));
    let ended: u64 = denied.iter().map(|denied| denied.ending.count).sum();
    let requests: u64 = edges
        .edges
        .iter()
        .filter_map(|edge| edge.traffic.as_ref())
        .map(|traffic| traffic.requests)
        .sum();
    Ok(Policy {
        window: Span::of(edges.window),
        notes: silent
            .map(|proxy| {
                format!(
                    "the proxy of {}/{} does not answer: {}",
                    proxy.namespace, proxy.pod, proxy.error
                )
            })
            .collect(),
        ports: ports(own),
        let_through: requests.saturating_sub(ended),
        denied,
    })
}

/// What all proxies hold, at most a few seconds old.
async fn dump(sources: &Sources) -> Result<Arc<[ProxyDump]>, Problem> {
    let mut last = sources.dump.lock().await;
    if let Some((_, proxies)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok(Arc::clone(proxies));
    }
    let answer = sources.control.config_dump(ConfigDumpRequest::default()).await?;
    let proxies: Arc<[ProxyDump]> = answer.proxies.into();
    *last = Some((Instant::now(), Arc::clone(&proxies)));
    Ok(proxies)
}

fn denials(edge: &sheer_api::v1::Edge) -> Vec<Denied> {
    let Some(traffic) = &edge.traffic else {
        return Vec::new();
    };
    let endings = numbers::endings(&traffic.statuses).into_iter();
    endings
        .filter(|ending| REASONS.contains(&ending.reason.as_str()))
        .map(|ending| Denied {
            source: Id::of(edge.source.as_ref()),
            destination: Id::of(edge.destination.as_ref()),
            source_identity: edge.source_identity.clone(),
            service: map::service(edge).unwrap_or_default(),
            ending,
            last_seen_ms: edge.last_seen_ms,
        })
        .collect()
}

fn ports<'a>(proxies: impl Iterator<Item = &'a ProxyDump>) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for proxy in proxies {
        for state in proxy.state.iter().flat_map(|state| &state.inbound) {
            let port = port(proxy, state);
            // Counts of requests differ from pod to pod, rules do not.
            let same = ports.iter_mut().find(|known| same_rules(known, &port));
            match same {
                Some(known) => {
                    known.pods += 1;
                    for (sum, rule) in known.routes.iter_mut().zip(&port.routes) {
                        sum.requests += rule.requests;
                    }
                }
                None => ports.push(port),
            }
        }
    }
    ports.sort_by(|a, b| (&a.workload, a.port).cmp(&(&b.workload, b.port)));
    ports
}

fn same_rules(a: &Port, b: &Port) -> bool {
    let rule = |rule: &Rule| (rule.route.clone(), rule.matches.clone(), rule.actions.clone());
    (&a.workload, a.port, &a.server, &a.authorizations, &a.rate_limit)
        == (&b.workload, b.port, &b.server, &b.authorizations, &b.rate_limit)
        && a.routes.iter().map(rule).eq(b.routes.iter().map(rule))
}

fn port(proxy: &ProxyDump, state: &InboundState) -> Port {
    Port {
        workload: name(proxy),
        port: state.port,
        server: object(state.server.as_ref()),
        protocol: state.protocol.clone(),
        authorizations: state.authorizations.clone(),
        rate_limit: state.rate_limit.clone(),
        routes: state.routes.iter().map(rule).collect(),
        pods: 1,
    }
}

fn name(proxy: &ProxyDump) -> String {
    match proxy.workload.as_str() {
        "" => format!("{}/pod/{}", proxy.namespace, proxy.pod),
        workload => format!("{}/{workload}", proxy.namespace),
    }
}

fn rule(state: &RouteState) -> Rule {
    Rule {
        route: object(state.route.as_ref()),
        matches: state.matches.clone(),
        actions: state.actions.clone(),
        backends: state.backends.clone(),
        requests: state.requests,
    }
}

/// What the proxies of one workload hold.
#[derive(Debug, Serialize)]
pub(super) struct Holds {
    ports: Vec<Port>,
    targets: Vec<Target>,
    streams: Vec<ControlStream>,
    notes: Vec<String>,
}

/// One destination of the first pod that knows it.
#[derive(Debug, Serialize)]
struct Target {
    name: String,
    address: String,
    protocol: String,
    routes: Vec<Rule>,
    endpoints: Vec<EndpointState>,
    waiting: u32,
}

/// A subscription at the control plane that is not well, or the oldest word of those that are.
#[derive(Debug, Serialize)]
struct ControlStream {
    pod: String,
    open: usize,
    closed: Vec<String>,
}

pub(super) async fn holds(sources: &Sources, query: &Query) -> Result<Holds, Problem> {
    let id = query.workload()?;
    let answer = sources
        .control
        .config_dump(ConfigDumpRequest {
            workload: id.short(),
            namespace: id.namespace.clone(),
        })
        .await?;
    let proxies = answer.proxies;
    let silent = proxies.iter().filter(|proxy| proxy.state.is_none());
    Ok(Holds {
        ports: ports(proxies.iter()),
        targets: targets(&proxies),
        streams: proxies.iter().filter_map(streams).collect(),
        notes: silent
            .map(|proxy| format!("the proxy of {} does not answer: {}", proxy.pod, proxy.error))
            .collect(),
    })
}

fn targets(proxies: &[ProxyDump]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for state in proxies
        .iter()
        .filter_map(|proxy| proxy.state.as_ref())
        .flat_map(|state| &state.outbound)
    {
        if targets.iter().any(|target| target.address == state.address) {
            continue;
        }
        targets.push(Target {
            name: if state.name.is_empty() {
                state.address.clone()
            } else {
                state.name.clone()
            },
            address: state.address.clone(),
            protocol: state.protocol.clone(),
            routes: state.routes.iter().map(rule).collect(),
            endpoints: state
                .backends
                .iter()
                .flat_map(|backend| backend.endpoints.clone())
                .collect(),
            waiting: state.backends.iter().map(|backend| backend.waiting).sum(),
        });
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    targets
}

fn streams(proxy: &ProxyDump) -> Option<ControlStream> {
    let streams = &proxy.state.as_ref()?.control_streams;
    let closed = streams.iter().filter(|stream| !stream.connected);
    Some(ControlStream {
        pod: proxy.pod.clone(),
        open: streams.iter().filter(|stream| stream.connected).count(),
        closed: closed
            .map(|stream| format!("{} {}: {}", stream.method, stream.target, stream.last_error))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use sheer_api::v1::ProxyState;

    use super::*;

    fn proxy(pod: &str, authorization: &str) -> ProxyDump {
        ProxyDump {
            namespace: "bank".to_owned(),
            pod: pod.to_owned(),
            workload: "deploy/ledger".to_owned(),
            state: Some(ProxyState {
                inbound: vec![InboundState {
                    port: 9000,
                    authorizations: vec![authorization.to_owned()],
                    routes: vec![RouteState {
                        requests: 5,
                        ..RouteState::default()
                    }],
                    ..InboundState::default()
                }],
                ..ProxyState::default()
            }),
            ..ProxyDump::default()
        }
    }

    #[test]
    fn pods_that_hold_the_same_are_one_line_and_a_stale_one_shows() {
        let proxies = [proxy("a", "web"), proxy("b", "web"), proxy("c", "everybody")];
        let ports = ports(proxies.iter());
        let told: Vec<_> = ports.iter().map(|port| (port.pods, port.routes[0].requests)).collect();
        assert_eq!(told, [(2, 10), (1, 5)]);
    }
}
