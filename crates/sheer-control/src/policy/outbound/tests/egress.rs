//! Traffic to addresses outside the mesh.

use std::net::SocketAddr;

use sheer_policy::outbound::Refusal;

use super::*;
use crate::{policy::shared::SharedPolicies, target::Target};

fn network(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: EgressNetwork\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn ask(written: &str, client: &str, address: &str) -> Option<OutboundPolicy> {
    let snapshot = Snapshot::of(written, "");
    let target = Target::Address(address.parse::<SocketAddr>().unwrap());
    let shared = SharedPolicies::default().find(&snapshot, &MeshConfig::for_tests(), &target, client)?;
    Some(read(shared.compiled.clone()))
}

#[test]
fn addresses_of_nobody_are_forwarded_but_those_of_the_cluster() {
    let policy = ask("", "web", "203.0.113.9:443").unwrap();
    assert_eq!(policy.parent, ObjectRef::default_of("egress-fallback"));
    assert_eq!(decide(&policy, "GET /"), "->203.0.113.9:443");
    assert!(ask("", "web", "10.77.0.9:443").is_none(), "a pod that is gone");
    assert!(ask(&network("web", "all", "trafficPolicy: Deny"), "web", "10.77.0.9:443").is_none());
}

#[test]
fn the_policy_of_the_network_is_for_what_no_route_takes() {
    let allowed = ask(&network("web", "all", "trafficPolicy: Allow"), "web", "203.0.113.9:443").unwrap();
    assert_eq!(allowed.parent.to_string(), "EgressNetwork web/all:443");
    assert_eq!(allowed.parent.group, "policy.sheer.dev");
    assert_eq!(decide(&allowed, "GET /"), "->203.0.113.9:443");
    assert_eq!(allowed.opaque[0].refuses, None);

    let denied = ask(&network("web", "all", "trafficPolicy: Deny"), "web", "203.0.113.9:443").unwrap();
    assert_eq!(
        decide(&denied, "GET /"),
        "abort Http(403) 1/1: traffic not allowed, ->203.0.113.9:443"
    );
    assert_eq!(denied.opaque[0].refuses, Some(Refusal::Forbidden));
    assert_eq!(denied.opaque[0].route, ObjectRef::default_of("tcp-egress-deny"));

    let other = ask(&network("web", "all", "trafficPolicy: Deny"), "bank", "203.0.113.9:443").unwrap();
    assert_eq!(
        decide(&other, "GET /"),
        "->203.0.113.9:443",
        "another namespace's network"
    );
    let global = ask(
        &network("sheer-egress", "all", "trafficPolicy: Deny"),
        "bank",
        "203.0.113.9:443",
    )
    .unwrap();
    assert_eq!(global.parent.namespace, "sheer-egress");
}

#[test]
fn the_smallest_network_counts_then_the_clients_own() {
    let written = network("web", "all", "trafficPolicy: Deny")
        + &network(
            "web",
            "partner",
            "trafficPolicy: Allow, networks: [{cidr: 203.0.113.0/24, except: [203.0.113.7]}]",
        )
        + &network("sheer-egress", "everybody", "trafficPolicy: Deny");
    let name = |client, address| ask(&written, client, address).unwrap().parent.name;
    assert_eq!(name("web", "203.0.113.9:443"), "partner");
    assert_eq!(name("web", "203.0.113.7:443"), "all");
    assert_eq!(name("web", "198.51.100.1:443"), "all");
    assert_eq!(name("bank", "198.51.100.1:443"), "everybody");
}

#[test]
fn routes_of_a_network_by_host_and_server_name() {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: partner, namespace: web}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: 80}]
  hostnames: [api.partner.example]
  rules: [{matches: [{path: {value: /v1}}], backendRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: partner, namespace: web}
spec:
  parentRefs: [{group: policy.sheer.dev, kind: EgressNetwork, name: all, port: 443}]
  hostnames: [api.partner.example]
  rules: [{backendRefs: [{group: policy.sheer.dev, kind: EgressNetwork, name: all}]}]
";
    let written = network("web", "all", "trafficPolicy: Deny") + route;
    let policy = ask(&written, "web", "203.0.113.9:80").unwrap();
    assert_decisions(
        &policy,
        &[
            ("GET /v1/x host=api.partner.example", "->203.0.113.9:80*1"),
            (
                "GET /v2 host=api.partner.example",
                "abort Http(403) 1/1: traffic not allowed, ->203.0.113.9:80",
            ),
            (
                "GET /v1 host=other.example",
                "abort Http(403) 1/1: traffic not allowed, ->203.0.113.9:80",
            ),
        ],
    );
    let tls = ask(&written, "web", "203.0.113.9:443").unwrap().tls;
    assert_eq!(backend_words(&tls[0].backends), "->203.0.113.9:443");
    assert_eq!(tls[1].route, ObjectRef::default_of("tls-egress-deny"));
    assert_eq!(tls[1].refuses, Some(Refusal::Forbidden));
}

#[test]
fn what_is_asked_for_by_many_is_compiled_once() {
    let written = echoes()
        + &http_route(
            "split",
            "echo",
            "  rules: [{backendRefs: [{name: echo-v1, port: 80}]}]\n",
        );
    let (first, again) = (Snapshot::of(&written, ""), Snapshot::of(&written, ""));
    let changed = Snapshot::of(
        &written.replace("name: echo-v1, port: 80}", "name: echo-v2, port: 80}"),
        "",
    );
    let (shared, config) = (SharedPolicies::default(), MeshConfig::for_tests());
    let echo = Target::Address("10.96.0.1:80".parse().unwrap());
    let find = |snapshot: &Snapshot, client: &str| shared.find(snapshot, &config, &echo, client).unwrap();
    let policy = find(&first, "web");
    assert!(std::sync::Arc::ptr_eq(&policy, &find(&first, "bank")), "whoever asks");
    assert!(
        std::sync::Arc::ptr_eq(&policy, &find(&again, "web")),
        "equal is the same"
    );
    assert_ne!(policy.encoded, find(&changed, "web").encoded);
    assert_eq!(find(&first, "web").encoded, policy.encoded, "a stream that is behind");
}
