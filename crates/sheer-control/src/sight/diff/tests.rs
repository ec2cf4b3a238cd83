//! Samples in, what is told of their changes out.

use super::*;
use crate::{config::MeshConfig, server::Streams};

const BANK: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.96.0.3, selector: {app: ledger}, ports: [{port: 8080, targetPort: 9000}]}
";
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ledger-0, namespace: bank, labels: {app: ledger}, annotations: {sheer.dev/meshed: 'true'}}
spec: {serviceAccountName: ledger, containers: [{name: a, ports: [{containerPort: 9000}]}]}
status: {phase: Running, podIP: 10.77.0.5, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}, annotations: {sheer.dev/meshed: 'true'}}
spec: {serviceAccountName: web, containers: [{name: a}]}
status: {phase: Running, podIP: 10.77.0.6, conditions: [{type: Ready, status: 'True'}]}
";
/// Takes one path, and lets nobody in.
const CHANGE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one, namespace: bank}
spec:
  parentRefs: [{group: '', kind: Service, name: ledger}]
  rules: [{matches: [{path: {type: Exact, value: /one}}], backendRefs: [{name: ledger, port: 8080}]}]
---
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: {name: ledger, namespace: bank}
spec: {podSelector: {matchLabels: {app: ledger}}, port: 9000}
---
apiVersion: policy.sheer.dev/v1beta3
kind: HTTPRoute
metadata: {name: one, namespace: bank}
spec:
  parentRefs: [{group: policy.sheer.dev, kind: Server, name: ledger}]
  rules: [{matches: [{path: {type: Exact, value: /one}}]}]
";

/// What would change for a request to `/secret`, at the proxy of `web` or of `ledger`.
async fn changes(written: &str, pods: &str, direction: &str) -> Vec<v1::PolicyChange> {
    let snapshot = Arc::new(Snapshot::of(written, pods));
    let loaded = manifests::parse(Path::new("new.yaml"), CHANGE);
    let changed = Arc::new(snapshot.with(&loaded.manifests, &[]));
    let (_down, shutdown) = tokio::sync::watch::channel(false);
    let view = |snapshot: &Arc<Snapshot>| {
        let config = Arc::new(MeshConfig::for_tests());
        View::new(Arc::clone(snapshot), config, Streams::new(shutdown.clone()))
    };
    let mut replay = Replay {
        before: Decider::new(view(&snapshot)),
        after: Decider::new(view(&changed)),
        hidden: Arc::new(Hidden::of(&snapshot)),
        changes: BTreeMap::new(),
    };
    let (namespace, pod, address) = match direction {
        "inbound" => ("bank", "ledger-0", "0.0.0.0:9000"),
        _ => ("shop", "web-0", "10.96.0.3:8080"),
    };
    let sample = v1::TrafficSample {
        direction: direction.to_owned(),
        address: address.to_owned(),
        request: Some(v1::RequestHead {
            method: "DELETE".to_owned(),
            path: "/secret".to_owned(),
            ..v1::RequestHead::default()
        }),
        client_identity: MeshConfig::for_tests().identity("shop", "web"),
        client_address: "10.77.0.6".to_owned(),
        weight: 7,
        ..v1::TrafficSample::default()
    };
    let pod = Arc::clone(snapshot.find_pod(namespace, pod).expect("runs"));
    replay.sample(&snapshot, &pod, &sample).await.expect("decided");
    let changes = replay.changes.into_iter();
    changes.map(|(group, count)| group.message(count)).collect()
}

#[tokio::test]
async fn requests_that_nobody_may_look_at_are_counted_and_not_named() {
    let namespace = |name: &str| {
        format!(
            "{BANK}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, annotations: {{sheer.dev/sight: disabled}}}}\n"
        )
    };
    let on_pod = PODS.replace("sheer.dev/meshed", "sheer.dev/sight: disabled, sheer.dev/meshed");
    for direction in ["outbound", "inbound"] {
        let shown = changes(BANK, PODS, direction).await;
        assert_eq!(shown[0].examples, ["DELETE /secret"]);
        assert!(shown[0].after.contains("/secret"), "{shown:#?}");
        for (written, pods) in [
            (namespace("bank"), PODS),
            (namespace("shop"), PODS),
            (BANK.to_owned(), on_pod.as_str()),
        ] {
            let hidden = changes(&written, pods, direction).await;
            assert_eq!((hidden.len(), hidden[0].requests), (1, 7), "{hidden:#?}");
            let told = format!("{hidden:?}");
            assert!(!told.contains("secret") && !told.contains("DELETE"), "{told}");
            assert_eq!(hidden[0].kind, shown[0].kind);
        }
    }
}
