use std::time::Duration;

use sheer_api::linkerd::{
    destination::{ProtocolHint, TlsIdentity, WeightedAddr, protocol_hint, tls_identity},
    meta, opaque_route,
};

use super::*;

const DEFAULTS: Defaults = Defaults {
    detect_timeout: Duration::from_secs(10),
    queue_capacity: 100,
    failfast_timeout: Duration::from_secs(3),
};

fn dst() -> SocketAddr {
    SocketAddr::from(([10, 78, 0, 1], 8080))
}

fn resource(name: &str) -> meta::Metadata {
    let resource = meta::Resource {
        group: "core".into(),
        kind: "Service".into(),
        namespace: "bank".into(),
        name: name.into(),
        port: 8080,
        ..Default::default()
    };
    meta::Metadata {
        kind: Some(meta::metadata::Kind::Resource(resource)),
    }
}

fn balancer(path: &str) -> api::Backend {
    let dst = api::backend::endpoint_discovery::DestinationGet { path: path.into() };
    let discovery = api::backend::EndpointDiscovery {
        kind: Some(api::backend::endpoint_discovery::Kind::Dst(dst)),
    };
    api::Backend {
        metadata: Some(resource("ledger")),
        kind: Some(api::backend::Kind::Balancer(api::backend::BalanceP2c {
            discovery: Some(discovery),
            load: None,
        })),
        queue: Some(api::Queue {
            capacity: 7,
            failfast_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        }),
    }
}

fn http_rule(backends: Vec<(api::Backend, u32)>) -> api::http_route::Rule {
    use api::http_route as route;
    let weighted = |(backend, weight)| route::WeightedRouteBackend {
        backend: Some(route::RouteBackend {
            backend: Some(backend),
            ..Default::default()
        }),
        weight,
    };
    let random = route::distribution::RandomAvailable {
        backends: backends.into_iter().map(weighted).collect(),
    };
    let kind = Some(route::distribution::Kind::RandomAvailable(random));
    route::Rule {
        backends: Some(route::Distribution { kind }),
        ..Default::default()
    }
}

fn http_policy(rules: Vec<api::http_route::Rule>) -> Policy {
    let http1 = api::proxy_protocol::Http1 {
        routes: vec![api::HttpRoute {
            rules,
            ..Default::default()
        }],
        ..Default::default()
    };
    let detect = api::proxy_protocol::Detect {
        http1: Some(http1),
        ..Default::default()
    };
    let kind = Some(api::proxy_protocol::Kind::Detect(detect));
    let said = api::OutboundPolicy {
        protocol: Some(api::ProxyProtocol { kind }),
        metadata: Some(resource("ledger")),
    };
    policy(said, &DEFAULTS)
}

fn pod(identity: bool, opaque: bool) -> WeightedAddr {
    let dns = tls_identity::DnsLikeIdentity {
        name: "ledger.bank.id".into(),
    };
    let tls = TlsIdentity {
        strategy: Some(tls_identity::Strategy::DnsLikeIdentity(dns)),
        server_name: None,
    };
    let hint = ProtocolHint {
        protocol: Some(protocol_hint::Protocol::Opaque(protocol_hint::Opaque {})),
        opaque_transport: None,
    };
    WeightedAddr {
        addr: Some(dst().into()),
        tls_identity: identity.then_some(tls),
        protocol_hint: opaque.then_some(hint),
        ..Default::default()
    }
}

#[test]
fn nobody_knows_the_address() {
    assert!(target(dst(), None, None, &DEFAULTS).is_none());
}

#[test]
fn service_is_balanced_as_the_policy_says() {
    let policy = http_policy(vec![http_rule(vec![(
        balancer("ledger.bank.svc.cluster.local:8080"),
        1,
    )])]);
    let profile = profile(DestinationProfile {
        fully_qualified_name: "ledger.bank.svc.cluster.local".into(),
        ..Default::default()
    });
    let target = target(dst(), Some(&profile), Some(&policy), &DEFAULTS).expect("a target");
    assert_eq!(&*target.name, "ledger.bank.svc.cluster.local:8080");
    assert_eq!(
        target.protocol,
        ProtocolPlan::Detect {
            timeout: Duration::from_secs(10)
        }
    );
    let Backend::Balance {
        path,
        queue_capacity,
        failfast_timeout,
        default_rtt,
        decay,
        ..
    } = target.backend
    else {
        panic!("{target:?}")
    };
    assert_eq!(&*path, "ledger.bank.svc.cluster.local:8080");
    assert_eq!((queue_capacity, failfast_timeout), (7, Duration::from_secs(1)));
    assert_eq!((default_rtt, decay), (DEFAULT_RTT, DECAY));
}

/// A control plane that serves no policies: the profile alone makes a service.
#[test]
fn profile_alone_is_enough() {
    let profile = profile(DestinationProfile {
        fully_qualified_name: "a.b.svc.cluster.local".into(),
        ..Default::default()
    });
    let target = target(dst(), Some(&profile), None, &DEFAULTS).expect("a target");
    assert!(matches!(target.backend, Backend::Balance { path, .. } if &*path == "a.b.svc.cluster.local:8080"));
}

/// The policy of a pod's address only repeats the address: without the profile's identity it would be plaintext.
#[test]
fn pod_keeps_the_identity_that_the_profile_knows() {
    let forward = api::Backend {
        kind: Some(api::backend::Kind::Forward(pod(false, false))),
        ..Default::default()
    };
    let policy = http_policy(vec![http_rule(vec![(forward, 1)])]);
    let profile = profile(DestinationProfile {
        endpoint: Some(pod(true, false)),
        ..Default::default()
    });
    let target = target(dst(), Some(&profile), Some(&policy), &DEFAULTS).expect("a target");
    let Backend::Forward(endpoint) = target.backend else {
        panic!("{target:?}")
    };
    assert_eq!(
        endpoint.identity.as_ref().map(|identity| &*identity.id),
        Some("ledger.bank.id")
    );
}

#[test]
fn opaque_wins_over_the_policy() {
    let policy = http_policy(vec![]);
    let by_endpoint = profile(DestinationProfile {
        endpoint: Some(pod(true, true)),
        ..Default::default()
    });
    let by_profile = profile(DestinationProfile {
        opaque_protocol: true,
        ..Default::default()
    });
    for profile in [by_endpoint, by_profile] {
        let target = target(dst(), Some(&profile), Some(&policy), &DEFAULTS).expect("a target");
        assert_eq!(target.protocol, ProtocolPlan::Opaque);
    }
}

/// The rule without conditions is the default, wherever it stands; of its backends the heaviest, the first of equals.
#[test]
fn default_rule_and_its_heaviest_backend() {
    let special = api::http_route::Rule {
        matches: vec![sheer_api::linkerd::http_route::HttpRouteMatch {
            headers: vec![Default::default()],
            ..Default::default()
        }],
        ..http_rule(vec![(balancer("special:1"), 1)])
    };
    let default = http_rule(vec![
        (balancer("light:1"), 1),
        (balancer("heavy:1"), 9),
        (balancer("other:1"), 9),
    ]);
    let policy = http_policy(vec![special, default]);
    let target = target(dst(), None, Some(&policy), &DEFAULTS).expect("a target");
    assert!(matches!(target.backend, Backend::Balance { path, .. } if &*path == "heavy:1"));
}

#[test]
fn no_backend_says_why() {
    let none = |policy: &Policy| match target(dst(), None, Some(policy), &DEFAULTS).expect("a target").backend {
        Backend::None { why } => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(none(&http_policy(vec![http_rule(vec![])])), "the route has no backend");
    assert_eq!(
        none(&http_policy(vec![http_rule(vec![(balancer("a:1"), 0)])])),
        "the route has no backend"
    );
    assert!(none(&http_policy(vec![http_rule(vec![(balancer(""), 1)])])).contains("without a name"));
    let no_address = http_rule(vec![(api::Backend::default(), 1)]);
    assert!(none(&http_policy(vec![no_address])).contains("without an address"));
    let invalid = opaque_route::Invalid {
        message: "no such service".into(),
    };
    let filter = api::opaque_route::Filter {
        kind: Some(api::opaque_route::filter::Kind::Invalid(invalid)),
    };
    let rule = api::opaque_route::Rule {
        filters: vec![filter],
        ..Default::default()
    };
    let opaque = api::proxy_protocol::Opaque {
        routes: vec![api::OpaqueRoute {
            rules: vec![rule],
            metadata: None,
        }],
    };
    let kind = Some(api::proxy_protocol::Kind::Opaque(opaque));
    let said = api::OutboundPolicy {
        protocol: Some(api::ProxyProtocol { kind }),
        metadata: None,
    };
    assert_eq!(none(&policy(said, &DEFAULTS)), "the route is invalid: no such service");
}

#[test]
fn empty_answers_forward_to_the_address() {
    let target = target(
        dst(),
        Some(&profile(DestinationProfile::default())),
        Some(&policy(api::OutboundPolicy::default(), &DEFAULTS)),
        &DEFAULTS,
    )
    .expect("a target");
    let Backend::Forward(endpoint) = target.backend else {
        panic!("{target:?}")
    };
    assert_eq!((endpoint.addr, endpoint.identity.clone()), (dst(), None));
    assert_eq!(&*target.name, "10.78.0.1:8080");
}
