//! Precedence between routes, references to backends, what is invalid.

use super::*;

#[test]
fn of_equal_matches_the_older_route_wins_then_the_first_by_name() {
    let aged = |name: &str, age: &str, backend: &str| {
        http_route(
            name,
            "echo",
            &format!("  rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]\n"),
        )
        .replace("namespace: mesh}\nspec", &format!("namespace: mesh{age}}}\nspec"))
    };
    let (old, new) = (
        ", creationTimestamp: '2025-01-01T00:00:00Z'",
        ", creationTimestamp: '2026-01-01T00:00:00Z'",
    );
    let winner = |routes: [String; 2]| {
        decide(
            &policy_of(&(echoes() + &routes.concat()), "mesh", "mesh/echo", 80),
            "GET /",
        )
    };
    assert_eq!(
        winner([aged("b", "", "echo-v2"), aged("a", "", "echo-v1")]),
        "echo-v1:80*1"
    );
    assert_eq!(
        winner([aged("a", new, "echo-v1"), aged("b", old, "echo-v2")]),
        "echo-v2:80*1"
    );
    assert_eq!(
        winner([aged("a", "", "echo-v1"), aged("b", new, "echo-v2")]),
        "echo-v2:80*1",
        "of known age first"
    );
}

#[test]
fn the_most_specific_type_of_route_counts() {
    let grpc = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: mesh}
spec:
  parentRefs: [{group: core, kind: Service, name: echo, port: 80}]
  rules: [{backendRefs: [{name: echo-v2, port: 7070}]}]
";
    let http = http_route(
        "requests",
        "echo",
        "  rules: [{backendRefs: [{name: echo-v1, port: 80}]}]\n",
    );
    let written = echoes() + &http + grpc;
    assert_eq!(
        decide(&policy_of(&written, "mesh", "mesh/echo", 80), "POST /a/b"),
        "echo-v2:7070*1"
    );
    assert_eq!(
        decide(&policy_of(&written, "mesh", "mesh/echo", 8080), "POST /a/b"),
        "echo-v1:80*1",
        "another port"
    );
}

#[test]
fn both_groups_of_httproutes_count() {
    let route = http_route(
        "linkerds",
        "echo",
        "  rules: [{matches: [{path: {value: /l}}], backendRefs: [{name: echo-v1, port: 80}]}]\n",
    )
    .replace("gateway.networking.k8s.io/v1", "policy.linkerd.io/v1beta3");
    let same_name = http_route(
        "linkerds",
        "echo",
        "  rules: [{matches: [{path: {value: /g}}], backendRefs: [{name: echo-v2, port: 80}]}]\n",
    );
    let policy = policy_of(&(echoes() + &route + &same_name), "mesh", "mesh/echo", 80);
    assert_decisions(&policy, &[("GET /l", "echo-v1:80*1"), ("GET /g", "echo-v2:80*1")]);
    assert_eq!(rule_for(&policy, "GET /l").unwrap().route.group, "policy.linkerd.io");
    assert_eq!(
        rule_for(&policy, "GET /g").unwrap().route.group,
        "gateway.networking.k8s.io"
    );
}

#[test]
fn a_backend_that_is_none_answers_with_500_for_its_share() {
    let decide = |backend: &str| {
        let rules = format!("  rules: [{{backendRefs: [{{name: echo-v1, port: 80, weight: 3}}, {{{backend}}}]}}]\n");
        decide(
            &policy_of(
                &(echoes() + &http_route("bad", "echo", &rules)),
                "mesh",
                "mesh/echo",
                80,
            ),
            "GET /",
        )
    };
    let failed = |why: &str| format!("echo-v1:80*3 invalid[abort Http(500) 1/1: {why}]*1");
    assert_eq!(
        decide("name: nobody, port: 80"),
        failed("there is no Service mesh/nobody")
    );
    assert_eq!(
        decide("name: echo-v2, port: 81"),
        failed("Service mesh/echo-v2 has no port 81")
    );
    assert_eq!(
        decide("group: example.com, kind: Bucket, name: x"),
        failed("Bucket of group \"example.com\" is neither a Service nor an EgressNetwork")
    );
}

const ELSEWHERE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: elsewhere}
spec: {clusterIP: 10.96.0.9, selector: {app: far}, ports: [{port: 80}]}
";

#[test]
fn a_backend_of_another_namespace_needs_its_grant() {
    let route = http_route(
        "far",
        "echo",
        "  rules: [{backendRefs: [{name: far, namespace: elsewhere, port: 80}]}]\n",
    );
    let grant = |from: &str, to: &str| {
        format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: grant, namespace: elsewhere}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, {from}}}]
  to: [{{group: '', kind: Service{to}}}]
"
        )
    };
    let decide = |grant: &str| {
        let written = echoes() + ELSEWHERE + &route + grant;
        decide(&policy_of(&written, "mesh", "mesh/echo", 80), "GET /")
    };
    let refused = "invalid[abort Http(500) 1/1: no ReferenceGrant of namespace elsewhere lets a HTTPRoute of namespace mesh name Service far]*1";
    assert_eq!(decide(""), refused);
    assert_eq!(decide(&grant("namespace: mesh", "")), "elsewhere/far:80*1");
    assert_eq!(decide(&grant("namespace: mesh", ", name: far")), "elsewhere/far:80*1");
    assert_eq!(decide(&grant("namespace: mesh", ", name: other")), refused);
    assert_eq!(decide(&grant("namespace: third", "")), refused);
}

#[test]
fn filters_that_cannot_be_applied_answer_with_500() {
    let decide = |filter: &str| {
        let rules = format!("  rules: [{{filters: [{{{filter}}}], backendRefs: [{{name: echo-v1, port: 80}}]}}]\n");
        decide(
            &policy_of(
                &(echoes() + &http_route("bad", "echo", &rules)),
                "mesh",
                "mesh/echo",
                80,
            ),
            "GET /",
        )
    };
    assert_eq!(
        decide("type: ExtensionRef, extensionRef: {group: policy.sheer.dev, kind: HTTPFault, name: gone}"),
        "abort Http(500) 1/1: there is no HTTPFault mesh/gone, nowhere"
    );
    assert_eq!(
        decide("type: CORS"),
        "abort Http(500) 1/1: the filter CORS is not supported, nowhere"
    );
}

#[test]
fn hosts_count_and_a_rule_without_backends_goes_to_the_parent() {
    let route = http_route(
        "hosts",
        "echo",
        "  hostnames: [a.example.com, '*.example.org']\n  rules: [{}]\n",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_decisions(
        &policy,
        &[
            ("GET / host=a.example.com:80", "echo:80"),
            ("GET / host=b.c.example.org", "echo:80"),
            ("GET / host=example.org", "no route"),
        ],
    );
}

#[test]
fn filters_of_a_backend_are_its_own() {
    let rules = "
  rules:
  - backendRefs:
    - {name: echo-v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}
    - {name: echo-v2, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: two.example}}]}
";
    let policy = policy_of(&(echoes() + &http_route("own", "echo", rules)), "mesh", "mesh/echo", 80);
    assert_decisions(
        &policy,
        &[(
            "GET /",
            "echo-v1:80[request =a=b]*1 echo-v2:80[rewrite host two.example]*1",
        )],
    );
}
