//! ServiceProfiles.

use std::time::Duration;

use super::*;

const PROFILE: &str = "
---
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: echo.mesh.svc.cluster.local, namespace: mesh}
spec:
  retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 20s}
  routes:
  - name: books
    condition: {method: GET, pathRegex: '/books(/.*)?'}
    isRetryable: true
    timeout: 300ms
  - name: all but deletes
    condition: {all: [{not: {method: DELETE}}, {any: [{pathRegex: /a}, {pathRegex: '/b/[^/]*'}]}]}
    responseClasses:
    - {condition: {status: {min: 503}}, isFailure: false}
    - {condition: {any: [{status: {min: 500, max: 504}}, {status: {max: 429}}]}, isFailure: true}
    isRetryable: true
  - name: late
    condition: {pathRegex: '/books/.*'}
";

#[test]
fn routes_are_tried_in_order_with_the_whole_condition() {
    let policy = policy_of(&(echoes() + PROFILE), "web", "mesh/echo", 80);
    let section = |request: &str| rule_for(&policy, request).unwrap().route.section.clone();
    assert_eq!(section("GET /books/1"), "books");
    assert_eq!(section("POST /books/1"), "late");
    assert_eq!(section("PUT /b/x"), "all but deletes");
    assert_eq!(section("DELETE /b/x"), "", "the default");
    let books = &rule_for(&policy, "GET /books").unwrap().action;
    assert_eq!(books.timeouts.request, Some(Duration::from_millis(300)));
    assert_eq!(books.retry.as_ref().unwrap().statuses, [(500, 599)]);
    let second = &rule_for(&policy, "GET /a").unwrap().action;
    assert_eq!(
        second.retry.as_ref().unwrap().statuses,
        [(429, 429), (500, 502), (504, 599)]
    );
    let classes = second.classes.as_ref().unwrap();
    let said = [503, 500, 429, 505].map(|status| classes.is_failure(status));
    assert_eq!(said, [Some(false), Some(true), Some(true), None]);
    assert_eq!(books.classes, None, "what is a failure anyhow");
    assert_eq!(rule_for(&policy, "POST /books/1").unwrap().action.retry, None);
    assert_eq!(
        (policy.budget.ratio, policy.budget.min_per_second, policy.budget.ttl),
        (0.5, 3, Duration::from_secs(20))
    );
}

#[test]
fn a_profile_counts_before_routes_and_the_clients_own_before_the_services() {
    let route = http_route(
        "split",
        "echo",
        "  rules: [{backendRefs: [{name: echo-v1, port: 80}]}]\n",
    );
    let own = PROFILE
        .replace("namespace: mesh}", "namespace: web}")
        .replace("name: books", "name: own");
    let written = echoes() + PROFILE + &own + &route;
    let section = |client| {
        let policy = policy_of(&written, client, "mesh/echo", 80);
        rule_for(&policy, "GET /books").unwrap().route.section.clone()
    };
    assert_eq!((section("web").as_str(), section("bank").as_str()), ("own", "books"));
    let ports_only = "---\napiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: echo.mesh.svc.cluster.local, namespace: mesh}\nspec: {opaquePorts: ['8080']}\n";
    let written = echoes() + ports_only + &route;
    assert_eq!(
        decide(&policy_of(&written, "web", "mesh/echo", 80), "GET /"),
        "echo-v1:80*1"
    );
    assert_eq!(
        policy_of(&written, "web", "mesh/echo", 8080).protocol,
        sheer_policy::ProtocolPlan::Opaque
    );
}

#[test]
fn overrides_send_everything_elsewhere() {
    let profile = "---\napiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: echo.mesh.svc.cluster.local, namespace: mesh}
spec: {dstOverrides: [{authority: 'echo-v1.mesh.svc.cluster.local:80', weight: 900m}, {authority: 'gone.mesh.svc.cluster.local:80', weight: 1}]}\n";
    assert_eq!(
        decide(&policy_of(&(echoes() + profile), "web", "mesh/echo", 80), "GET /"),
        "echo-v1:80*900 invalid[abort Http(500) 1/1: there is no Service mesh/gone]*1000"
    );
}
