//! Faults to inject.

use super::*;

fn fault(spec: &str) -> String {
    format!(
        "---\napiVersion: policy.sheer.dev/v1alpha1\nkind: HTTPFault\nmetadata: {{name: fault, namespace: mesh}}\nspec: {{{spec}}}\n"
    )
}

const FILTER: &str =
    "filters: [{type: ExtensionRef, extensionRef: {group: policy.sheer.dev, kind: HTTPFault, name: fault}}]";

#[test]
fn of_requests() {
    let decide = |spec: &str| {
        let route = http_route("fault", "echo", &format!("  rules: [{{{FILTER}}}]\n"));
        decide(
            &policy_of(&(echoes() + &fault(spec) + &route), "mesh", "mesh/echo", 80),
            "GET /",
        )
    };
    assert_eq!(decide("delay: {duration: 2s}"), "delay 2s 1/1, echo:80");
    assert_eq!(
        decide("abort: {httpStatus: 503, percent: 12.5, message: try later}"),
        "abort Http(503) 125000/1000000: try later, echo:80"
    );
    assert_eq!(
        decide("delay: {duration: 10ms, percent: 50}, abort: {httpStatus: 500}"),
        "delay 10ms 500000/1000000, abort Http(500) 1/1: injected by an HTTPFault, echo:80",
        "the delay first"
    );
    assert_eq!(
        decide("abort: {grpcCode: 14}"),
        "abort Grpc(14) 1/1: injected by an HTTPFault, echo:80"
    );
}

#[test]
fn of_calls() {
    let route = format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: fault, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: echo}}]
  rules: [{{{FILTER}}}]
"
    );
    let compiled = |spec: &str| {
        let snapshot = Snapshot::of(&(echoes() + &fault(spec) + &route), "");
        let service = snapshot.find_service("mesh", "echo").unwrap();
        of_service(&snapshot, &MeshConfig::for_tests(), service, 7070, "mesh")
    };
    let abort = compiled("abort: {grpcCode: 8, percent: 1}");
    assert_eq!(abort.extras, v1::OutboundExtras::default(), "Linkerd's API can say it");
    assert_eq!(
        decide(&read(abort), "POST /a/b"),
        "abort Grpc(8) 10000/1000000: injected by an HTTPFault, echo:7070"
    );
    assert_eq!(
        decide(&read(compiled("abort: {httpStatus: 503}")), "POST /a/b"),
        "abort Http(503) 1/1: injected by an HTTPFault, echo:7070"
    );
}
