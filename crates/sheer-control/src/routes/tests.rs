//! Manifests in, conditions and findings out.

use std::path::Path;

use super::{status::ConditionType, *};
use crate::manifests;

const ECHO: &str = "
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: mesh}
spec: {clusterIP: 10.96.0.1, selector: {app: echo}, ports: [{name: http, port: 80}, {name: alt, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: mesh}
spec: {clusterIP: None, ports: [{port: 80}]}
";

fn route(name: &str, parent: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: mesh}}\nspec: {{parentRefs: [{{{parent}}}]{rest}}}\n"
    )
}

/// Conditions of the first parent of the first route, as `+Accepted ResolvedRefs(BackendNotFound)`.
fn conditions(written: &str) -> String {
    let loaded = manifests::parse(Path::new("test.yaml"), &(ECHO.to_owned() + written));
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    let index = RouteIndex::new(loaded.manifests.iter().map(|manifest| &manifest.object));
    let statuses = status(&index);
    let word = |condition: &Condition| {
        let name = condition.kind.as_str();
        match (condition.kind, condition.holds) {
            (ConditionType::Accepted | ConditionType::ResolvedRefs, true) => format!("+{name}"),
            _ => format!("{name}({})", condition.reason),
        }
    };
    statuses[0].parents[0]
        .conditions
        .iter()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

const PARENT: &str = "group: '', kind: Service, name: echo";

#[test]
fn accepted() {
    let of = |parent: &str| conditions(&route("a", parent, ""));
    assert_eq!(of(PARENT), "+Accepted +ResolvedRefs");
    assert_eq!(
        of(&format!("{PARENT}, port: 81, sectionName: alt")),
        "+Accepted +ResolvedRefs"
    );
    let no_parent = "Accepted(NoMatchingParent) +ResolvedRefs";
    assert_eq!(of(&format!("{PARENT}, port: 82")), no_parent);
    assert_eq!(of(&format!("{PARENT}, port: 80, sectionName: alt")), no_parent);
    assert_eq!(of("group: '', kind: Service, name: nobody"), no_parent);
    assert_eq!(of("group: '', kind: Service, name: headless"), no_parent);
    assert_eq!(
        of("group: policy.linkerd.io, kind: EgressNetwork, name: all"),
        no_parent
    );
}

#[test]
fn a_port_has_only_routes_of_what_it_speaks() {
    let of = |kind: &str, protocol: &str| {
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: said, namespace: mesh}}\nspec: {{ports: [{{port: 80, appProtocol: {protocol}}}]}}\n"
        );
        conditions(&(service + &route("a", "group: '', kind: Service, name: said", "").replace("HTTPRoute", kind)))
    };
    let refused = "Accepted(NotAllowedByListeners) +ResolvedRefs";
    assert_eq!(of("HTTPRoute", "tcp"), refused);
    assert_eq!(of("GRPCRoute", "http"), refused);
    assert_eq!(of("GRPCRoute", "kubernetes.io/h2c"), "+Accepted +ResolvedRefs");
    assert_eq!(of("HTTPRoute", "grpc"), "+Accepted +ResolvedRefs");
}

#[test]
fn conflicts() {
    let http = route("a", PARENT, "");
    let grpc = |parent: &str| {
        http.replace("HTTPRoute", "GRPCRoute")
            .replace(PARENT, parent)
            .replace("name: a", "name: z")
    };
    let conflicted = "Accepted(RouteReasonConflicted) +ResolvedRefs";
    assert_eq!(conditions(&(http.clone() + &grpc(PARENT))), conflicted);
    assert_eq!(
        conditions(&(http.clone() + &grpc(&format!("{PARENT}, port: 80")))),
        "+Accepted +ResolvedRefs",
        "it counts on the other port"
    );
    let profile = "---\napiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: echo.mesh.svc.cluster.local, namespace: mesh}\nspec: {routes: [{name: all, condition: {pathRegex: '.*'}}]}\n";
    assert_eq!(conditions(&(http + profile)), conflicted);
}

#[test]
fn resolved_refs() {
    let of = |backend: &str| {
        conditions(&route(
            "a",
            PARENT,
            &format!(", rules: [{{backendRefs: [{{{backend}}}]}}]"),
        ))
    };
    assert_eq!(of("name: echo, port: 80"), "+Accepted +ResolvedRefs");
    assert_eq!(of("name: nobody, port: 80"), "+Accepted ResolvedRefs(BackendNotFound)");
    assert_eq!(of("name: echo, port: 82"), "+Accepted ResolvedRefs(BackendNotFound)");
    assert_eq!(of("kind: Secret, name: echo"), "+Accepted ResolvedRefs(InvalidKind)");
    assert_eq!(
        of("name: far, namespace: elsewhere, port: 80"),
        "+Accepted ResolvedRefs(RefNotPermitted)"
    );
}

#[test]
fn rules_that_cannot_be_applied() {
    let of = |rules: &str| conditions(&route("a", PARENT, &format!(", rules: [{rules}]")));
    let cors = "{filters: [{type: CORS}]}";
    assert_eq!(of(cors), "Accepted(UnsupportedValue) +ResolvedRefs");
    assert_eq!(
        of(&format!("{{}}, {cors}")),
        "+Accepted +ResolvedRefs PartiallyInvalid(UnsupportedValue)"
    );
    let missing =
        "{filters: [{type: ExtensionRef, extensionRef: {group: policy.sheer.dev, kind: HTTPFault, name: x}}]}";
    assert_eq!(of(missing), "+Accepted ResolvedRefs(FilterNotFound)");
}

#[test]
fn what_is_said_of_routes_is_found() {
    let written = ECHO.to_owned()
        + &route("a", PARENT, ", rules: [{backendRefs: [{name: gone, port: 80}]}]")
        + &route("b", "kind: Service, name: echo", "")
        + &route("c", "name: front", "")
        + &route("d", &format!("{PARENT}, port: 9"), "");
    let loaded = manifests::parse(Path::new("test.yaml"), &written);
    let found: Vec<_> = findings(&loaded.manifests).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(found.join("\n"));
}
