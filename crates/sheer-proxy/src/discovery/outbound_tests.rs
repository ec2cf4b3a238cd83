use sheer_api::linkerd::{
    destination::{ProtocolHint, TlsIdentity, WeightedAddr, protocol_hint, tls_identity},
    meta,
};

use super::*;

const DETECT: Duration = Duration::from_secs(10);

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

fn http_policy(rules: Vec<api::http_route::Rule>) -> api::OutboundPolicy {
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
    api::OutboundPolicy {
        protocol: Some(api::ProxyProtocol { kind }),
        metadata: Some(resource("ledger")),
    }
}

fn joined(profile: Option<&Profile>, policy: Option<&api::OutboundPolicy>) -> OutboundTarget {
    target(dst(), profile, policy, None, DETECT).expect("a target")
}

/// Where the first rule for HTTP/1 sends requests.
fn first_http(target: &OutboundTarget) -> &BackendTarget {
    let rule = target.policy.http1.routes.rules().first().expect("a rule");
    &rule.action.backends.all().next().expect("a backend").backend.target
}

fn first_stream(target: &OutboundTarget) -> &BackendTarget {
    let rule = target.policy.opaque.first().expect("a rule");
    &rule.backends.all().next().expect("a backend").backend.target
}

fn path(target: &BackendTarget) -> &str {
    match target {
        BackendTarget::Balance { path, .. } => path,
        other => panic!("{other:?}"),
    }
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
    assert!(target(dst(), None, None, None, DETECT).is_none());
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
    let target = joined(Some(&profile), Some(&policy));
    assert_eq!(&*target.name, "ledger.bank.svc.cluster.local:8080");
    assert_eq!(target.parent().name, "ledger");
    assert_eq!(target.policy.protocol, ProtocolPlan::Detect { timeout: DETECT });
    assert_eq!(path(first_http(&target)), "ledger.bank.svc.cluster.local:8080");
    let rule = &target.policy.http1.routes.rules()[0];
    let backend = &rule.action.backends.all().next().expect("a backend").backend;
    assert_eq!(
        (backend.queue_capacity, backend.failfast_timeout),
        (Some(7), Some(Duration::from_secs(1)))
    );
    // The policy says nothing of other protocols: they go to the service too.
    assert_eq!(path(first_stream(&target)), "ledger.bank.svc.cluster.local:8080");
    assert!(!target.policy.http2.routes.is_empty());
}

/// A control plane that serves no policies: the profile alone makes a service.
#[test]
fn profile_alone_is_enough() {
    let profile = profile(DestinationProfile {
        fully_qualified_name: "a.b.svc.cluster.local".into(),
        ..Default::default()
    });
    let target = joined(Some(&profile), None);
    assert_eq!(path(first_http(&target)), "a.b.svc.cluster.local:8080");
    assert_eq!(path(first_stream(&target)), "a.b.svc.cluster.local:8080");
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
    let target = joined(Some(&profile), Some(&policy));
    for backend in [first_http(&target), first_stream(&target)] {
        let BackendTarget::Forward(endpoint) = backend else {
            panic!("{target:?}")
        };
        let identity = endpoint.identity.as_ref().map(|identity| &*identity.id);
        assert_eq!(identity, Some("ledger.bank.id"));
    }
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
        let target = joined(Some(&profile), Some(&policy));
        assert_eq!(target.policy.protocol, ProtocolPlan::Opaque);
    }
}

#[test]
fn extras_are_part_of_the_policy() {
    let policy = http_policy(vec![http_rule(vec![(balancer("a:1"), 1)])]);
    let budget = v1::RetryBudget {
        ratio: 0.5,
        min_per_second: 3,
        ttl: None,
    };
    let extras = v1::OutboundExtras {
        budget: Some(budget),
        ..Default::default()
    };
    let target = target(dst(), None, Some(&policy), Some(&extras), DETECT).expect("a target");
    assert_eq!(
        (target.policy.budget.ratio, target.policy.budget.min_per_second),
        (0.5, 3)
    );
}

#[test]
fn a_service_without_a_name_is_called_by_its_backend() {
    let policy = http_policy(vec![http_rule(vec![(balancer("heavy:1"), 9)])]);
    let target = joined(None, Some(&policy));
    assert_eq!((&*target.name, path(first_stream(&target))), ("heavy:1", "heavy:1"));
}

#[test]
fn empty_answers_forward_to_the_address() {
    let nothing = profile(DestinationProfile::default());
    let target = joined(Some(&nothing), Some(&api::OutboundPolicy::default()));
    let BackendTarget::Forward(endpoint) = first_http(&target) else {
        panic!("{target:?}")
    };
    assert_eq!((endpoint.addr, endpoint.identity.clone()), (dst(), None));
    assert_eq!(&*target.name, "10.78.0.1:8080");
}

/// Linkerd's control plane tells ServiceProfiles in the profile alone, where they count before routes; Sheer's own has them in the policy.
#[test]
fn routes_of_a_profile_count_where_nobody_sends_extras() {
    use sheer_api::linkerd::destination::{PathMatch, RequestMatch, RetryBudget, Route, WeightedDst, request_match};
    let path = PathMatch {
        regex: "/books.*".to_owned(),
    };
    let said = DestinationProfile {
        fully_qualified_name: "ledger.bank.svc.cluster.local".to_owned(),
        routes: vec![Route {
            condition: Some(RequestMatch {
                r#match: Some(request_match::Match::Path(path)),
            }),
            metrics_labels: HashMap::from([("route".to_owned(), "books".to_owned())]),
            timeout: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            is_retryable: true,
            ..Route::default()
        }],
        retry_budget: Some(RetryBudget {
            retry_ratio: 0.5,
            min_retries_per_second: 3,
            ttl: None,
        }),
        ..DestinationProfile::default()
    };
    let policy = http_policy(vec![http_rule(vec![(
        balancer("ledger.bank.svc.cluster.local:8080"),
        1,
    )])]);
    let target = joined(Some(&profile(said.clone())), Some(&policy));
    for routes in [&target.policy.http1.routes, &target.policy.http2.routes] {
        let [books, rest] = routes.rules() else {
            panic!("{routes:?}")
        };
        assert_eq!(books.route.section, "books");
        assert_eq!(books.action.timeouts.request, Some(Duration::from_secs(2)));
        assert_eq!(books.action.retry.as_ref().map(|retry| retry.limit), Some(10));
        assert!(rest.route.is_default());
        // Where the policy sends it, with its queue.
        let backend = books.action.backends.all().next().expect("a backend");
        assert_eq!(backend.backend.queue_capacity, Some(7));
    }
    assert_eq!(
        (target.policy.budget.ratio, target.policy.budget.min_per_second),
        (0.5, 3)
    );
    let overridden = DestinationProfile {
        dst_overrides: vec![WeightedDst {
            authority: "other.bank.svc.cluster.local:80".to_owned(),
            weight: 1,
            backend_ref: None,
        }],
        ..said.clone()
    };
    let target = joined(Some(&profile(overridden)), Some(&policy));
    assert_eq!(path_of_first(&target), "other.bank.svc.cluster.local:80");

    let extras = v1::OutboundExtras::default();
    let own = super::target(dst(), Some(&profile(said)), Some(&policy), Some(&extras), DETECT).expect("a target");
    assert_eq!(own.policy.http1.routes.rules().len(), 1, "Sheer's policy is whole");
}

fn path_of_first(target: &OutboundTarget) -> &str {
    path(first_http(target))
}
