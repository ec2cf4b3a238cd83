//! Connections that are no HTTP.

use sheer_policy::{
    ProtocolPlan,
    outbound::{Refusal, StreamRule},
    routes::HostMatch,
};

use super::*;

fn stream_route(kind: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: {kind}
metadata: {{name: stream, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: echo, port: 80}}]
{spec}"
    )
}

fn words(rules: &[StreamRule]) -> Vec<String> {
    let one = |rule: &StreamRule| format!("{}: {}", rule.route, backend_words(&rule.backends));
    rules.iter().map(one).collect()
}

#[test]
fn tls_routes_by_server_name() {
    let route = stream_route(
        "TLSRoute",
        "  hostnames: [db.example.com, '*.example.org']\n  rules: [{backendRefs: [{name: echo-v1, port: 80, weight: 9}, {name: echo-v2, port: 80, weight: 1}]}]\n",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_eq!(policy.protocol, ProtocolPlan::Tls);
    assert_eq!(words(&policy.tls), ["TLSRoute mesh/stream: echo-v1:80*9 echo-v2:80*1"]);
    assert_eq!(
        policy.tls[0].server_names,
        [
            HostMatch::Exact("db.example.com".to_owned()),
            HostMatch::Suffix(".example.org".to_owned())
        ]
    );
}

#[test]
fn tcp_routes() {
    let route = stream_route("TCPRoute", "  rules: [{backendRefs: [{name: echo-v1, port: 8080}]}]\n");
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_eq!(policy.protocol, ProtocolPlan::Opaque);
    assert_eq!(words(&policy.opaque), ["TCPRoute mesh/stream: echo-v1:8080"]);
    let own = stream_route("TCPRoute", "  rules: [{}]\n");
    assert_eq!(
        words(&policy_of(&(echoes() + &own), "mesh", "mesh/echo", 80).opaque),
        ["TCPRoute mesh/stream: echo:80"]
    );
}

#[test]
fn a_route_whose_backends_are_none_refuses_connections() {
    let route = stream_route("TCPRoute", "  rules: [{backendRefs: [{name: gone, port: 8080}]}]\n");
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_eq!(words(&policy.opaque), ["TCPRoute mesh/stream: nowhere"]);
    assert_eq!(
        policy.opaque[0].refuses,
        Some(Refusal::Invalid("there is no Service mesh/gone".into()))
    );
    let half = stream_route(
        "TCPRoute",
        "  rules: [{backendRefs: [{name: gone, port: 8080}, {name: echo-v1, port: 80}]}]\n",
    );
    assert_eq!(
        words(&policy_of(&(echoes() + &half), "mesh", "mesh/echo", 80).opaque),
        ["TCPRoute mesh/stream: invalid*1 echo-v1:80*1"]
    );
}

#[test]
fn tcp_routes_count_on_ports_that_are_never_inspected() {
    let opaque = echoes().replace("{name: http, port: 80}", "{name: http, port: 80, appProtocol: tcp}");
    let route = stream_route("TCPRoute", "  rules: [{backendRefs: [{name: echo-v1, port: 80}]}]\n");
    let http = http_route(
        "ignored",
        "echo",
        "  rules: [{backendRefs: [{name: echo-v2, port: 80}]}]\n",
    );
    let policy = policy_of(&(opaque + &route + &http), "mesh", "mesh/echo", 80);
    assert_eq!(words(&policy.opaque), ["TCPRoute mesh/stream: echo-v1:80"]);
}
