//! Objects in, findings out: each says what the mistake does to traffic.

use std::path::Path;

use crate::manifests::{crosscheck, parse};

const LEDGER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ledger, namespace: bank, labels: {app: ledger}}
spec: {serviceAccountName: ledger, containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: ledger, namespace: bank, labels: {team: books}}
spec: {podSelector: {matchLabels: {app: ledger}}, port: 8080}
";

fn server(name: &str, port: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{podSelector: {{matchLabels: {{app: ledger}}}}, port: {port}{rest}}}\n"
    )
}

/// An AuthorizationPolicy of a target and required authentications, both as kind and name.
fn policy(name: &str, target: (&str, &str), required: &[(&str, &str)]) -> String {
    let group = match target.0 {
        "HTTPRoute" | "GRPCRoute" => "gateway.networking.k8s.io",
        _ => "policy.linkerd.io",
    };
    let required: Vec<_> = required
        .iter()
        .map(|(kind, name)| format!("{{kind: {kind}, name: {name}}}"))
        .collect();
    format!(
        "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{targetRef: {{group: {group}, kind: {}, name: {}}}, requiredAuthenticationRefs: [{}]}}\n",
        target.0,
        target.1,
        required.join(", ")
    )
}

fn limit(name: &str, target: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: HTTPLocalRateLimitPolicy\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{targetRef: {{kind: Server, name: {target}}}, total: {{requestsPerSecond: 10}}{rest}}}\n"
    )
}

fn route(name: &str, parent: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{parentRefs: [{{{parent}}}], rules: [{{{rest}}}]}}\n"
    )
}

const TO_SERVER: &str = "group: policy.linkerd.io, kind: Server, name: ledger";

/// What is said beside [`LEDGER`], without the file.
fn findings(rest: &str) -> Vec<String> {
    let loaded = parse(Path::new("x"), &format!("{LEDGER}{rest}"));
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    let findings = crosscheck(&loaded.manifests);
    findings
        .iter()
        .map(|finding| format!("{}: {}: {}", finding.object, finding.field, finding.message))
        .collect()
}

#[test]
fn what_is_right_is_not_talked_about() {
    let all = [
        policy("callers", ("Server", "ledger"), &[("ServiceAccount", "ledger")]),
        limit(
            "slow",
            "ledger",
            ", overrides: [{requestsPerSecond: 5, clientRefs: [{kind: ServiceAccount, name: ledger}]}]",
        ),
        route("admin", TO_SERVER, "matches: [{path: {value: /admin}}]"),
        policy("admins", ("HTTPRoute", "admin"), &[]),
        server("other", "metrics", ""),
    ];
    assert_eq!(
        findings(&all.concat()),
        [
            "Server bank/other: spec.port: no container that the Server selects has a port named metrics: it guards nothing"
        ]
    );
}

#[test]
fn a_missing_authentication_says_who_is_denied() {
    let typo = policy("callers", ("Server", "ledger"), &[("MeshTLSAuthentication", "calers")]);
    assert_eq!(
        findings(&typo),
        [
            "AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs[0]: there is no MeshTLSAuthentication bank/calers: nobody is let \
          in by this policy, so that all clients of port 8080 are denied"
        ]
    );
    let other = policy("others", ("Server", "ledger"), &[]);
    assert_eq!(
        findings(&(typo.clone() + &other)),
        [
            "AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs[0]: there is no MeshTLSAuthentication bank/calers: nobody is let \
          in by this policy; others still are, by another rule of Server bank/ledger"
        ]
    );
    let of_namespace = policy("all", ("Namespace", "bank"), &[("NetworkAuthentication", "here")]);
    assert_eq!(
        findings(&of_namespace),
        [
            "AuthorizationPolicy bank/all: spec.requiredAuthenticationRefs[0]: there is no NetworkAuthentication bank/here: nobody is let in by \
          this policy, so that all clients of these ports (Servers) are denied: 8080 (ledger)"
        ]
    );
    let of_route =
        route("admin", TO_SERVER, "") + &policy("admins", ("HTTPRoute", "admin"), &[("MeshTLSAuthentication", "nope")]);
    assert_eq!(
        findings(&of_route),
        [
            "AuthorizationPolicy bank/admins: spec.requiredAuthenticationRefs[0]: there is no MeshTLSAuthentication bank/nope: nobody is let in by \
          this policy, so that only whom the Server lets in may send these requests"
        ]
    );
}

#[test]
fn a_policy_that_can_never_be_fulfilled_is_named() {
    let both = [("ServiceAccount", "ledger"), ("ServiceAccount", "ledger")];
    assert_eq!(
        findings(&policy("callers", ("Server", "ledger"), &both)),
        [
            "AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs: at most one NetworkAuthentication and one of \
          MeshTLSAuthentication and ServiceAccount can be fulfilled: nobody is let in by this policy, so that all clients of port 8080 are \
          denied"
        ]
    );
    assert_eq!(
        findings(&policy(
            "callers",
            ("Server", "ledger"),
            &[("ServiceAccount", "legder")]
        )),
        [
            "AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs[0]: there is no ServiceAccount bank/legder, and no workload runs \
          as it: nobody has this identity"
        ]
    );
}

#[test]
fn a_target_that_does_not_exist_is_named() {
    for (kind, message) in [
        ("Server", "there is no Server bank/nope: the policy has no effect"),
        ("HTTPRoute", "there is no HTTPRoute bank/nope: the policy has no effect"),
        ("GRPCRoute", "there is no GRPCRoute bank/nope: the policy has no effect"),
        (
            "Namespace",
            "a policy can be attached to its own namespace (bank) only: it has no effect",
        ),
    ] {
        assert_eq!(
            findings(&policy("p", (kind, "nope"), &[])),
            [format!("AuthorizationPolicy bank/p: spec.targetRef: {message}")]
        );
    }
    let outbound = route("out", "group: '', kind: Service, name: ledger", "");
    let said = findings(&(outbound + &policy("p", ("HTTPRoute", "out"), &[])));
    assert!(
        said.iter()
            .any(|said| said.contains("HTTPRoute bank/out is not attached to a Server: the policy has no effect")),
        "{said:?}"
    );
}

#[test]
fn of_two_for_one_the_second_is_told() {
    assert_eq!(
        findings(&server("zz", "http", "")),
        [
            "Server bank/zz: spec.port: Server bank/ledger is for port http of the same pods and comes first by name: this one has no effect \
          there"
        ]
    );
    assert_eq!(
        findings(&(limit("a", "ledger", "") + &limit("b", "ledger", ""))),
        [
            "HTTPLocalRateLimitPolicy bank/b: spec.targetRef: HTTPLocalRateLimitPolicy bank/a limits the same Server and comes first by name: no \
          rate is limited by this one"
        ]
    );
}

#[test]
fn limits_and_routes_without_effect_are_told() {
    assert_eq!(
        findings(&limit("a", "nope", "")),
        ["HTTPLocalRateLimitPolicy bank/a: spec.targetRef: there is no Server bank/nope: no rate is limited by it"]
    );
    let opaque = server("aa", "8081", ", proxyProtocol: opaque");
    let said = findings(
        &(opaque + &limit("a", "aa", "") + &route("r", "group: policy.linkerd.io, kind: Server, name: aa", "")),
    );
    for message in ["no rate is limited by it", "the route has no effect"] {
        let message = format!("Server bank/aa does not look at requests (proxyProtocol): {message}");
        assert!(said.iter().any(|said| said.ends_with(&message)), "{said:?}");
    }
    let filters = "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: ledger, port: 8080}}}]";
    let said = findings(&route("r", TO_SERVER, filters));
    let message = "the filter RequestMirror is not supported on a route of a Server; write it on a route of the Service; what this rule takes \
                   is answered with an error";
    assert!(said.iter().any(|said| said.ends_with(message)), "{said:?}");
}

#[test]
fn older_authorizations_are_checked_too() {
    let older = |server: &str| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {{name: old, namespace: bank}}\n\
             spec: {{server: {server}, client: {{meshTLS: {{serviceAccounts: [{{name: ledger}}]}}}}}}\n"
        )
    };
    assert_eq!(findings(&older("{selector: {matchLabels: {team: books}}}")), [""; 0]);
    assert_eq!(
        findings(&older("{name: nope}")),
        ["ServerAuthorization bank/old: spec.server: there is no Server bank/nope: it lets nobody in anywhere"]
    );
    assert_eq!(
        findings(&older("{selector: {matchLabels: {team: nope}}}")),
        [
            "ServerAuthorization bank/old: spec.server: no Server of namespace bank has these labels: it lets nobody in anywhere"
        ]
    );
}
