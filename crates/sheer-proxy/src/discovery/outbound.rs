//! Joins what is said of a destination: a profile (`Destination.GetProfile`), a policy (`OutboundPolicies.Watch`) and its extras
//! (`Extras.WatchOutbound`) become one target. Pure functions.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use sheer_api::{
    linkerd::{destination::DestinationProfile, outbound as api},
    v1,
};
use sheer_policy::{
    outbound::{Backend, BackendTarget, HttpPolicy, HttpRule, OutboundPolicy, StreamRule},
    routes::Routes,
    wire as convert,
};

use super::{Endpoint, Hint, ObjectRef, OutboundTarget, ProtocolPlan};

/// What a profile says.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// Name of the service, without its port; absent where the address is of no service.
    name: Option<String>,
    opaque: bool,
    /// The one endpoint, where a pod is addressed directly.
    endpoint: Option<Endpoint>,
    parent: Option<ObjectRef>,
    /// Its routes, where it has any.
    routes: Option<Arc<DestinationProfile>>,
}

pub(super) fn profile(profile: DestinationProfile) -> Profile {
    let name = profile.fully_qualified_name.trim_end_matches('.');
    let has_routes = !(profile.routes.is_empty() && profile.dst_overrides.is_empty());
    Profile {
        routes: has_routes.then(|| Arc::new(profile.clone())),
        name: (!name.is_empty()).then(|| name.to_owned()),
        opaque: profile.opaque_protocol,
        endpoint: profile
            .endpoint
            .and_then(|endpoint| convert::endpoint(endpoint, &HashMap::new())),
        parent: profile.parent_ref.map(|parent| convert::object(Some(parent))),
    }
}

/// The target of an address. `None` where neither profile nor policy knows it.
pub(super) fn target(
    dst: SocketAddr,
    profile: Option<&Profile>,
    policy: Option<&api::OutboundPolicy>,
    extras: Option<&v1::OutboundExtras>,
    detect_timeout: Duration,
) -> Option<OutboundTarget> {
    if profile.is_none() && policy.is_none() {
        return None;
    }
    let mut said = convert::outbound::policy(policy.cloned().unwrap_or_default(), extras, detect_timeout);
    if policy.is_none_or(|policy| policy.metadata.is_none())
        && let Some(parent) = profile.and_then(|profile| profile.parent.clone())
    {
        said.parent = parent;
    }
    let endpoint = profile.and_then(|profile| profile.endpoint.as_ref());
    let service = profile
        .and_then(|profile| profile.name.as_ref())
        .map(|name| format!("{name}:{}", dst.port()));
    if let Some(endpoint) = endpoint {
        said = with_endpoint(said, endpoint);
    }
    let opaque = profile.is_some_and(|profile| profile.opaque);
    if opaque || endpoint.is_some_and(|endpoint| endpoint.hint == Hint::Opaque) {
        said.protocol = ProtocolPlan::Opaque;
    }
    let fallback = match (&service, endpoint) {
        (_, Some(endpoint)) => Backend::forward(endpoint.clone()),
        (Some(path), None) => Backend::balanced(said.parent.clone(), path),
        (None, None) => default_backend(&said).unwrap_or_else(|| Backend::forward(convert::bare_endpoint(dst))),
    };
    let own = profile.and_then(|profile| Some((profile.routes.as_ref()?, own_backend(&said, &fallback))));
    let mut policy = with_fallback(said, fallback);
    // Sheer's control plane has made a ServiceProfile a part of the policy, and sends extras; others send it here alone. There it counts before
    // routes, as in a linkerd2-proxy.
    if let (None, Some((routes, own))) = (extras, own) {
        policy = with_profile(policy, routes, &own);
    }
    Some(OutboundTarget {
        name: service.unwrap_or_else(|| name_of(&policy, dst)).into(),
        policy: Arc::new(policy),
    })
}

/// The policy of a pod's address only repeats the address; the profile knows who the pod is.
fn with_endpoint(mut policy: OutboundPolicy, endpoint: &Endpoint) -> OutboundPolicy {
    let endpoint = Arc::new(endpoint.clone());
    let known = |backend: &Arc<Backend>| match &backend.target {
        BackendTarget::Forward(said) if said.identity.is_none() => Arc::new(Backend {
            target: BackendTarget::Forward(Arc::clone(&endpoint)),
            ..Backend::clone(backend)
        }),
        BackendTarget::Forward(_) | BackendTarget::Balance { .. } | BackendTarget::Invalid { .. } => {
            Arc::clone(backend)
        }
    };
    let http = |routes: &Routes<HttpRule>| {
        let rules = routes.rules().iter().map(|rule| {
            let mut rule = (**rule).clone();
            let backends = rule.action.backends.all_mut();
            backends.for_each(|route| route.backend = known(&route.backend));
            rule
        });
        Arc::new(Routes::new(rules.collect()))
    };
    policy.http1.routes = http(&policy.http1.routes);
    policy.http2.routes = http(&policy.http2.routes);
    let streams = |rules: &[StreamRule]| {
        let rules = rules.iter().cloned().map(|mut rule| {
            let backends = rule.backends.all_mut();
            backends.for_each(|route| route.backend = known(&route.backend));
            rule
        });
        rules.collect()
    };
    policy.opaque = streams(&policy.opaque);
    policy.tls = streams(&policy.tls);
    policy
}

/// Protocols of which the policy says nothing go to one backend.
fn with_fallback(mut policy: OutboundPolicy, fallback: Backend) -> OutboundPolicy {
    let fallback = Arc::new(fallback);
    for http in [&mut policy.http1, &mut policy.http2] {
        if http.routes.is_empty() {
            http.routes = HttpPolicy::plain(&fallback).routes;
        }
    }
    if policy.opaque.is_empty() {
        policy.opaque = Arc::new([StreamRule::plain("opaque", &fallback)]);
    }
    // Elsewhere TLS that has no rules of its own is bytes as any other.
    if policy.tls.is_empty() && policy.protocol == ProtocolPlan::Tls {
        policy.tls = Arc::new([StreamRule::plain("tls", &fallback)]);
    }
    policy
}

/// The service itself, as the policy has it where a rule sends there.
fn own_backend(policy: &OutboundPolicy, fallback: &Backend) -> Arc<Backend> {
    let path = |backend: &Backend| match &backend.target {
        BackendTarget::Balance { path, .. } => Some(Arc::clone(path)),
        BackendTarget::Forward(_) | BackendTarget::Invalid { .. } => None,
    };
    let own = path(fallback);
    let rules = policy.http2.routes.rules().iter().chain(policy.http1.routes.rules());
    let mut backends = rules.flat_map(|rule| rule.action.backends.all());
    let found = backends.find(|route| own.is_some() && path(&route.backend) == own);
    found.map_or_else(|| Arc::new(fallback.clone()), |route| Arc::clone(&route.backend))
}

/// The routes of a ServiceProfile instead of the policy's.
fn with_profile(mut policy: OutboundPolicy, profile: &DestinationProfile, own: &Arc<Backend>) -> OutboundPolicy {
    if let Some(said) = convert::profile::routes(profile, own) {
        policy.http1.routes = Arc::clone(&said.http.routes);
        policy.http2.routes = said.http.routes;
        policy.budget = said.budget.unwrap_or(policy.budget);
    }
    policy
}

/// Where the policy sends most: the backend of its first rule without conditions, or else of its first rule.
fn default_backend(policy: &OutboundPolicy) -> Option<Backend> {
    let http = [&policy.http2, &policy.http1]
        .into_iter()
        .find(|http| !http.routes.is_empty())
        .and_then(|http| {
            let rules = http.routes.rules();
            rules.iter().find(|rule| rule.matches.is_empty()).or(rules.first())
        })
        .map(|rule| &rule.action.backends);
    let streams = policy.opaque.iter().chain(&*policy.tls).map(|rule| &rule.backends);
    let backend = http
        .into_iter()
        .chain(streams)
        .find_map(|backends| backends.all().next());
    backend.map(|route| Backend::clone(&route.backend))
}

/// For a target that the profile does not name.
fn name_of(policy: &OutboundPolicy, dst: SocketAddr) -> String {
    let parent = &policy.parent;
    match default_backend(policy).map(|backend| backend.target) {
        Some(BackendTarget::Balance { path, .. }) => path.to_string(),
        _ if parent.kind == "Service" && !parent.name.is_empty() => {
            format!("{}.{}:{}", parent.name, parent.namespace, dst.port())
        }
        _ => dst.to_string(),
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
