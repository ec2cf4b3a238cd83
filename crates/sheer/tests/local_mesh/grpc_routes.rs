//! GRPCRoutes that users write, with real sidecars and the ledger of the sample: which replica answers is what the replica itself says.

use std::fs;

use serde_json::Value;

use crate::harness::{Mesh, User, meshed_client, meshed_web};

/// The ledger of the sample, under a name, without others.
pub(crate) fn ledger(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: shop }}
spec: {{ selector: {{ app: {name} }}, ports: [{{ name: grpc, port: 9000, targetPort: grpc, appProtocol: grpc }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, namespace: shop }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      containers:
        - name: ledger
          command: [./bank, ledger]
          ports: [{{ name: grpc, containerPort: 9000 }}]
          readinessProbe: {{ grpc: {{ port: 9000 }}, periodSeconds: 1 }}
"
    )
}

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: books, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: blue }]
  rules:
  - matches:
    - method: { service: bank.v1.Faults, method: Show }
      headers: [{ name: x-canary, value: 'yes' }]
    backendRefs: [{ name: green, port: 9000 }]
  - matches: [{ method: { service: bank.v1.Faults } }]
    backendRefs: [{ name: blue, port: 9000 }]
---
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: { name: blue, namespace: shop }
spec: { podSelector: { matchLabels: { app: blue } }, port: grpc, proxyProtocol: gRPC }
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: reads, namespace: shop }
spec:
  parentRefs: [{ group: policy.sheer.dev, kind: Server, name: blue }]
  rules:
  - matches: [{ method: { service: bank.v1.Faults, method: Show } }, { method: { service: grpc.health.v1.Health } }]
    filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-guarded, value: by-sheer }] } }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: writes, namespace: shop }
spec:
  parentRefs: [{ group: policy.sheer.dev, kind: Server, name: blue }]
  rules: [{ matches: [{ method: { service: bank.v1.Faults, method: Set } }] }]
---
apiVersion: policy.sheer.dev/v1alpha1
kind: NetworkAuthentication
metadata: { name: everywhere, namespace: shop }
spec: { networks: [{ cidr: 0.0.0.0/0 }, { cidr: '::/0' }] }
---
apiVersion: policy.sheer.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: readers, namespace: shop }
spec:
  targetRef: { group: gateway.networking.k8s.io, kind: GRPCRoute, name: reads }
  requiredAuthenticationRefs: [{ group: policy.sheer.dev, kind: NetworkAuthentication, name: everywhere }]
---
apiVersion: policy.sheer.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: writers, namespace: shop }
spec:
  targetRef: { group: gateway.networking.k8s.io, kind: GRPCRoute, name: writes }
  requiredAuthenticationRefs: [{ kind: ServiceAccount, name: writer }]
";

/// Calls a method of `blue` with an empty message; head, body and trailers of the answer.
pub(crate) fn call(mesh: &Mesh, from: &str, method: &str, more: &str) -> String {
    let script = format!(
        "curl -sS --max-time 10 --http2-prior-knowledge -D - -X POST -H 'content-type: application/grpc' -H 'te: trailers' {more} \
         --data-binary @empty --output - http://blue:9000/{method} | tr -c '[:print:]\\n' ' '"
    );
    mesh.shell(from, &script)
}

#[test]
fn methods_are_routed_and_guarded_one_by_one() {
    let mesh = Mesh::new(User::Current);
    drop(meshed_web(1));
    assert!(
        mesh.folder().join("bank").exists(),
        "build the sample with `cargo build --bin bank`"
    );
    let writer = meshed_client()
        .replace("name: client", "name: writer")
        .replace("spec: { containers", "spec: { serviceAccountName: writer, containers");
    mesh.write("blue.yaml", &ledger("blue"))
        .write("green.yaml", &ledger("green"))
        .write("routes.yaml", ROUTES)
        .write("client.yaml", &meshed_client())
        .write("writer.yaml", &writer)
        .up();
    // One message of no bytes.
    fs::write(mesh.folder().join("empty"), [0; 5]).expect("written");
    let show = "bank.v1.Faults/Show";
    let blue = call(&mesh, "client", show, "");
    assert!(blue.contains("blue-") && blue.contains("grpc-status: 0"), "{blue}");
    assert!(blue.contains("x-guarded: by-sheer"), "{blue}");
    let green = call(&mesh, "client", show, "-H 'x-canary: yes'");
    assert!(green.contains("green-") && !green.contains("x-guarded"), "{green}");
    // To set nothing changes nothing, and is answered. Who may not write never reaches it.
    let written = call(&mesh, "writer", "bank.v1.Faults/Set", "");
    assert!(
        written.contains("blue-") && written.contains("grpc-status: 0"),
        "{written}"
    );
    let denied = call(&mesh, "client", "bank.v1.Faults/Set", "");
    assert!(
        denied.contains("grpc-status: 7") && denied.contains("sheer-verdict: policy"),
        "{denied}"
    );
    let lost = call(&mesh, "client", "bank.v1.Other/Any", "");
    assert!(
        lost.contains("grpc-status: 5") && lost.contains("sheer-reason: no-route"),
        "{lost}"
    );
    let page = mesh.shell("client", "curl -sS --max-time 5 http://127.0.0.1:4191/metrics");
    let of_rule = |rule: &str| {
        let lines = page.lines().filter(|line| {
            line.starts_with("outbound_grpc_route_request_statuses_total{")
                && line.contains("route_name=\"books\"")
                && line.contains(&format!("route_rule=\"{rule}\""))
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    assert_eq!((of_rule("0"), of_rule("1")), (1, 2), "{page}");

    let explain = |from: &str| -> Value {
        let words = [
            "policy",
            "explain",
            "-n",
            "shop",
            "--to",
            "svc/blue:9000",
            "--method",
            "POST",
        ];
        let more = ["--path", "/bank.v1.Faults/Set", "--from", from, "-o", "json"];
        let output = mesh.run(&[&words[..], &more].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let (denied, forwarded) = (explain("pod/client"), explain("pod/writer"));
    assert_eq!(
        (&denied["outcome"], &denied["grpc_status"]),
        (&"denied".into(), &7.into()),
        "{denied:#}"
    );
    assert_eq!(forwarded["outcome"], "forwarded", "{forwarded:#}");
    assert!(
        forwarded.to_string().contains("AuthorizationPolicy shop/writers"),
        "{forwarded:#}"
    );
}
