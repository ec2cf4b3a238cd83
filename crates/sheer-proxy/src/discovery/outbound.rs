//! Joins a profile (`Destination.GetProfile`) and a policy (`OutboundPolicies.Watch`) into one target. Pure functions.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use sheer_api::linkerd::{destination::DestinationProfile, outbound as api};
use sheer_policy::wire as convert;

use super::{
    Backend, Endpoint, Hint, ObjectRef, OutboundTarget, ProtocolPlan,
    routes::{Choice, Rule, default_choice},
};
use crate::settings::Outbound;

/// Load estimate of an endpoint that was never measured, where the policy does not say: Linkerd's.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
/// Decay of the peak estimate, where the policy does not say: Linkerd's.
const DECAY: Duration = Duration::from_secs(10);

/// What a target holds where the control plane does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) detect_timeout: Duration,
    pub(super) queue_capacity: usize,
    pub(super) failfast_timeout: Duration,
}

impl From<&Outbound> for Defaults {
    fn from(settings: &Outbound) -> Self {
        Self {
            detect_timeout: settings.detect_timeout,
            queue_capacity: settings.http_queue,
            failfast_timeout: settings.http_failfast,
        }
    }
}

/// What a profile says.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// Name of the service, without its port; absent where the address is of no service.
    name: Option<String>,
    opaque: bool,
    /// The one endpoint, where a pod is addressed directly.
    endpoint: Option<Endpoint>,
    parent: Option<ObjectRef>,
}

/// What a policy says.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    parent: ObjectRef,
    protocol: ProtocolPlan,
    /// Rules of the protocol that is most likely spoken, in order.
    rules: Vec<Rule>,
}

pub(super) fn profile(profile: DestinationProfile) -> Profile {
    let name = profile.fully_qualified_name.trim_end_matches('.');
    Profile {
        name: (!name.is_empty()).then(|| name.to_owned()),
        opaque: profile.opaque_protocol,
        endpoint: profile
            .endpoint
            .and_then(|endpoint| convert::endpoint(endpoint, &HashMap::new())),
        parent: profile.parent_ref.map(|parent| convert::object(Some(parent))),
    }
}

pub(super) fn policy(policy: api::OutboundPolicy, defaults: &Defaults) -> Policy {
    use api::proxy_protocol::Kind;
    let detect = |timeout| {
        let timeout = convert::duration(timeout)
            .unwrap_or(defaults.detect_timeout)
            .min(defaults.detect_timeout);
        ProtocolPlan::Detect { timeout }
    };
    let (protocol, rules) = match policy.protocol.and_then(|protocol| protocol.kind) {
        Some(Kind::Detect(found)) => {
            let http2 = found.http2.map(|http2| http2.routes).unwrap_or_default();
            let http = if http2.is_empty() {
                found.http1.map(|http1| http1.routes).unwrap_or_default()
            } else {
                http2
            };
            let opaque = found.opaque.map(|opaque| opaque.routes).unwrap_or_default();
            let rules = if http.is_empty() {
                super::routes::opaque(opaque)
            } else {
                super::routes::http(http)
            };
            (detect(found.timeout), rules)
        }
        Some(Kind::Http1(http)) => (ProtocolPlan::Http1, super::routes::http(http.routes)),
        Some(Kind::Http2(http)) => (ProtocolPlan::Http2, super::routes::http(http.routes)),
        Some(Kind::Grpc(grpc)) => (ProtocolPlan::Http2, super::routes::grpc(grpc.routes)),
        Some(Kind::Opaque(opaque)) => (ProtocolPlan::Opaque, super::routes::opaque(opaque.routes)),
        Some(Kind::Tls(tls)) => (ProtocolPlan::Tls, super::routes::tls(tls.routes)),
        None => (detect(None), Vec::new()),
    };
    Policy {
        parent: convert::object(policy.metadata),
        protocol,
        rules,
    }
}

/// The target of an address. `None` where neither knows it.
pub(super) fn target(
    dst: SocketAddr,
    profile: Option<&Profile>,
    policy: Option<&Policy>,
    defaults: &Defaults,
) -> Option<OutboundTarget> {
    if profile.is_none() && policy.is_none() {
        return None;
    }
    let endpoint = profile.and_then(|profile| profile.endpoint.clone());
    let service = profile
        .and_then(|profile| profile.name.as_ref())
        .map(|name| format!("{name}:{}", dst.port()));
    let parent = policy
        .map(|policy| policy.parent.clone())
        .or_else(|| profile.and_then(|profile| profile.parent.clone()))
        .unwrap_or_else(|| convert::default_object(""));
    let opaque = profile.is_some_and(|profile| profile.opaque)
        || endpoint.as_ref().is_some_and(|endpoint| endpoint.hint == Hint::Opaque);
    let protocol = match policy.map(|policy| policy.protocol) {
        _ if opaque => ProtocolPlan::Opaque,
        Some(protocol) => protocol,
        None => ProtocolPlan::Detect {
            timeout: defaults.detect_timeout,
        },
    };
    let backend = backend(dst, endpoint, service.as_deref(), policy, (&parent, defaults));
    let name = service.unwrap_or_else(|| name_of(&parent, &backend, dst));
    Some(OutboundTarget {
        name: name.into(),
        parent,
        protocol,
        backend,
    })
}

fn backend(
    dst: SocketAddr,
    endpoint: Option<Endpoint>,
    service: Option<&str>,
    policy: Option<&Policy>,
    (parent, defaults): (&ObjectRef, &Defaults),
) -> Backend {
    let forward = |endpoint: Option<Endpoint>| {
        Backend::Forward(Arc::new(endpoint.unwrap_or_else(|| convert::bare_endpoint(dst))))
    };
    let choice = policy.map_or(Choice::Unsaid, |policy| default_choice(&policy.rules));
    match choice {
        Choice::Backend(backend) => match backend.kind {
            // The profile knows the pod's identity; a policy only repeats the address.
            Some(api::backend::Kind::Forward(addr)) => {
                let said = convert::endpoint(addr, &HashMap::new());
                forward(
                    said.filter(|said| said.identity.is_some() || endpoint.is_none())
                        .or(endpoint),
                )
            }
            Some(api::backend::Kind::Balancer(balancer)) => {
                balance(balancer, backend.queue, convert::object(backend.metadata), defaults)
            }
            None => Backend::None {
                why: "the policy names a backend without an address".into(),
            },
        },
        Choice::Nothing(why) => Backend::None { why: why.into() },
        Choice::Unsaid => match service {
            Some(path) if endpoint.is_none() => Backend::Balance {
                path: path.into(),
                backend: parent.clone(),
                default_rtt: DEFAULT_RTT,
                decay: DECAY,
                queue_capacity: defaults.queue_capacity,
                failfast_timeout: defaults.failfast_timeout,
            },
            _ => forward(endpoint),
        },
    }
}

fn balance(
    balancer: api::backend::BalanceP2c,
    queue: Option<api::Queue>,
    backend: ObjectRef,
    defaults: &Defaults,
) -> Backend {
    use api::backend::{balance_p2c::Load, endpoint_discovery};
    let Some(endpoint_discovery::Kind::Dst(discovery)) = balancer.discovery.and_then(|discovery| discovery.kind) else {
        return Backend::None {
            why: "the policy names a service without a way to find its endpoints".into(),
        };
    };
    if discovery.path.is_empty() {
        return Backend::None {
            why: "the policy names a service without a name".into(),
        };
    }
    let (default_rtt, decay) = match balancer.load {
        Some(Load::PeakEwma(load)) => (load.default_rtt, load.decay),
        Some(Load::PenaltyPeakEwma(load)) => (load.default_rtt, load.decay),
        None => (None, None),
    };
    let capacity = queue
        .as_ref()
        .and_then(|queue| usize::try_from(queue.capacity).ok())
        .filter(|capacity| *capacity > 0);
    Backend::Balance {
        path: discovery.path.into(),
        backend,
        default_rtt: convert::duration(default_rtt).unwrap_or(DEFAULT_RTT),
        decay: convert::duration(decay).unwrap_or(DECAY),
        queue_capacity: capacity.unwrap_or(defaults.queue_capacity),
        failfast_timeout: queue
            .and_then(|queue| convert::duration(queue.failfast_timeout))
            .unwrap_or(defaults.failfast_timeout),
    }
}

/// For a target that the profile does not name.
fn name_of(parent: &ObjectRef, backend: &Backend, dst: SocketAddr) -> String {
    match backend {
        Backend::Balance { path, .. } => path.to_string(),
        _ if parent.kind == "Service" && !parent.name.is_empty() => {
            format!("{}.{}:{}", parent.name, parent.namespace, dst.port())
        }
        _ => dst.to_string(),
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
