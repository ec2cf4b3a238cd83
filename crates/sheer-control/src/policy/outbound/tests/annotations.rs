//! Annotations of Services and routes, and the fields of routes that say the same.

use std::time::Duration;

use sheer_policy::outbound::{Affinity, Locality, Penalty, Retry, SuccessRate, Timeouts};

use super::*;

/// The Service `echo` with annotations.
fn annotated(annotations: &str) -> String {
    echoes().replacen(
        "{name: echo, namespace: mesh}",
        &format!("{{name: echo, namespace: mesh, annotations: {{{annotations}}}}}"),
        1,
    )
}

fn rule(written: &str, request: &str) -> HttpRule {
    let policy = policy_of(written, "web", "mesh/echo", 80);
    rule_for(&policy, request).unwrap().action.clone()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn retries_and_timeouts_of_a_service() {
    let written = annotated(
        "retry.linkerd.io/http: '5xx, 429', retry.sheer.dev/grpc: 'unavailable,aborted', retry.linkerd.io/limit: '3', retry.linkerd.io/timeout: 250ms, timeout.linkerd.io/request: 10s, timeout.sheer.dev/idle: 1m",
    );
    let default = rule(&written, "GET /");
    let retry = default.retry.clone().unwrap();
    assert_eq!(
        (retry.limit, retry.timeout, retry.max_request_bytes),
        (3, Some(ms(250)), 64 * 1024)
    );
    assert_eq!(
        (retry.statuses, retry.grpc_codes),
        (vec![(500, 599), (429, 429)], vec![14, 10])
    );
    let backoff = retry.backoff.unwrap();
    assert_eq!((backoff.min, backoff.max, backoff.honour_hint), (ms(25), ms(250), true));
    assert_eq!(
        retry.max_hint,
        Some(ms(5_000)),
        "which does not lengthen waits without a hint"
    );
    let whole = Timeouts {
        request: Some(ms(10_000)),
        response: None,
        idle: Some(ms(60_000)),
    };
    assert_eq!(default.timeouts, whole);
    // A route that says nothing inherits; one that does replaces.
    let route = http_route(
        "own",
        "echo",
        "  rules:\n  - {matches: [{path: {value: /a}}], timeouts: {request: 2s, backendRequest: 500ms}, retry: {codes: [503], backoff: 100ms}}\n  - {matches: [{path: {value: /b}}]}\n  - {matches: [{path: {value: /c}}], timeouts: {request: 0s}}\n",
    );
    let written = written + &route;
    let own = rule(&written, "GET /a");
    assert_eq!(
        (own.timeouts.request, own.timeouts.response, own.timeouts.idle),
        (Some(ms(2_000)), Some(ms(500)), None)
    );
    let Retry {
        limit,
        statuses,
        timeout,
        backoff,
        max_hint,
        ..
    } = own.retry.unwrap();
    assert_eq!((limit, statuses, timeout), (2, vec![(503, 503)], Some(ms(500))));
    let backoff = backoff.unwrap();
    assert_eq!(
        (backoff.min, backoff.max, max_hint),
        (ms(100), ms(1_000), Some(ms(5_000)))
    );
    assert_eq!(
        (rule(&written, "GET /b").timeouts, rule(&written, "GET /b").retry),
        (whole, default.retry)
    );
    assert_eq!(rule(&written, "GET /c").timeouts, Timeouts::default(), "0 is no bound");
}

#[test]
fn annotations_of_a_route() {
    let route = http_route("own", "echo", "  rules: [{timeouts: {request: 3s}}]\n").replace(
        "{name: own, namespace: mesh}",
        "{name: own, namespace: mesh, annotations: {retry.linkerd.io/http: gateway-error, timeout.linkerd.io/request: 1s, timeout.linkerd.io/response: 700ms}}",
    );
    let own = rule(&(annotated("retry.linkerd.io/http: 5xx") + &route), "GET /");
    assert_eq!(
        (own.timeouts.request, own.timeouts.response),
        (Some(ms(3_000)), Some(ms(700))),
        "the rule's own field counts"
    );
    let retry = own.retry.unwrap();
    assert_eq!((retry.limit, retry.statuses), (1, vec![(502, 504)]));
}

#[test]
fn grpc_retries_and_hedging() {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata:
  name: calls
  namespace: mesh
  annotations: {retry.linkerd.io/grpc: 'internal,data-loss', hedge.sheer.dev/delay: 50ms, hedge.sheer.dev/max-attempts: '3'}
spec: {parentRefs: [{group: '', kind: Service, name: echo}]}
";
    let policy = policy_of(&(echoes() + route), "web", "mesh/echo", 7070);
    let rule = &rule_for(&policy, "POST /a/b").unwrap().action;
    assert_eq!(rule.retry.as_ref().unwrap().grpc_codes, [13, 15]);
    let hedge = rule.hedge.unwrap();
    assert_eq!((hedge.delay, hedge.max_attempts), (ms(50), 3));
}

#[test]
fn breaking_and_penalties() {
    let accrual = |annotations: &str| policy_of(&annotated(annotations), "web", "mesh/echo", 80).http2.accrual;
    assert_eq!(accrual(""), None);
    let consecutive = accrual("balancer.linkerd.io/failure-accrual: consecutive").unwrap();
    assert_eq!((consecutive.max_consecutive, consecutive.success_rate), (Some(7), None));
    assert_eq!(
        (
            consecutive.backoff.min,
            consecutive.backoff.max,
            consecutive.backoff.jitter
        ),
        (ms(1_000), ms(60_000), 0.5)
    );
    let unified = accrual("balancer.linkerd.io/failure-accrual: unified, balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3', balancer.alpha.linkerd.io/failure-accrual-success-rate-window: 5s, balancer.sheer.dev/failure-accrual-success-rate-threshold: '0.9', balancer.alpha.linkerd.io/failure-accrual-honor-retry-after: 'true'").unwrap();
    assert_eq!(
        (
            unified.max_consecutive,
            unified.success_rate,
            unified.backoff.honour_hint
        ),
        (
            Some(3),
            Some(SuccessRate {
                threshold: 0.9,
                window: ms(5_000),
                min_requests: 5
            }),
            true
        )
    );
    let loaded = rule(
        &annotated(
            "balancer.alpha.linkerd.io/penalize-failures: 'true', balancer.alpha.linkerd.io/load-biaser-penalty: 2s",
        ),
        "GET /",
    );
    let Backends::First(backends) = &loaded.backends else {
        panic!("{loaded:?}")
    };
    let BackendTarget::Balance { load, .. } = &backends[0].backend.target else {
        panic!()
    };
    assert_eq!(
        load.penalty,
        Some(Penalty {
            penalty: ms(2_000),
            max_retry_after: ms(300_000),
            decay: ms(10_000)
        })
    );
}

#[test]
fn balancing_of_backends_is_what_each_asks_for() {
    let written = echoes().replacen(
        "{name: echo-v1, namespace: mesh}",
        "{name: echo-v1, namespace: mesh, annotations: {balancer.sheer.dev/slow-start: 30s, balancer.sheer.dev/session-affinity-header: X-User, balancer.sheer.dev/max-ejected-percent: '40', balancer.sheer.dev/locality: same-zone, balancer.sheer.dev/locality-spill-over: '4'}}",
        1,
    );
    let written = written.replacen(
        "clusterIP: 10.96.0.3",
        "clusterIP: 10.96.0.3\n  sessionAffinity: ClientIP\n  trafficDistribution: PreferClose",
        1,
    );
    let route = http_route(
        "both",
        "echo",
        "  rules: [{backendRefs: [{name: echo-v1, port: 80}, {name: echo-v2, port: 80}, {name: echo, port: 80}], sessionPersistence: {sessionName: sid}}]\n",
    );
    let pods = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-0, namespace: web, labels: {{{labels}}}}}\nspec: {{containers: [{{name: web}}]}}\nstatus: {{podIP: 10.77.0.5, phase: Running}}\n"
        )
    };
    let balancing = |labels: &str| {
        let snapshot = Snapshot::of(&(written.clone() + &route), &pods(labels));
        let service = snapshot.find_service("mesh", "echo").unwrap();
        let compiled = of_service(&snapshot, &MeshConfig::for_tests(), service, 80, "web");
        let pod = snapshot.find_pod("web", "web-0").map(|pod| &**pod);
        let policy = read(Compiled {
            extras: in_zone(&compiled.extras, pod),
            policy: compiled.policy,
        });
        let Backends::Weighted(backends) = &rule_for(&policy, "GET /").unwrap().action.backends else {
            panic!()
        };
        backends
            .iter()
            .map(|(backend, _)| backend.backend.balancing.clone())
            .collect::<Vec<_>>()
    };
    let [v1, v2, own] = &balancing("topology.kubernetes.io/zone: a")[..] else {
        panic!()
    };
    assert_eq!((v1.slow_start, v1.max_ejected_percent), (Some(ms(30_000)), Some(40)));
    assert_eq!(v1.affinity, Some(Affinity::Header(HeaderName::from_static("x-user"))));
    let local = |spill_over_at| {
        Some(Locality {
            zone: "a".into(),
            spill_over_at,
        })
    };
    assert_eq!(
        (v1.locality.clone(), v2.locality.clone(), own.locality.clone()),
        (local(4.0), local(8.0), None)
    );
    assert_eq!(v2.affinity, Some(Affinity::ClientIp));
    assert_eq!(
        own.affinity,
        Some(Affinity::Cookie("sid".into())),
        "the rule's sessions, where the backend has no affinity of its own"
    );
    assert_eq!(
        balancing("app: web")[0].locality,
        None,
        "a client of unknown zone prefers none"
    );
}

#[test]
fn every_destination_has_a_budget() {
    let budget = |annotations: &str| policy_of(&annotated(annotations), "web", "mesh/echo", 80).budget;
    assert_eq!(budget(""), sheer_policy::outbound::RetryBudget::default());
    let own = budget("retry.sheer.dev/budget-ratio: '0.1', retry.sheer.dev/budget-ttl: 5s");
    assert_eq!((own.ratio, own.min_per_second, own.ttl), (0.1, 10, ms(5_000)));
}
