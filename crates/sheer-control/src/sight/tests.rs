//! Logic: snapshots in, what an operator means and what a changed policy does out.

use std::sync::Arc;

use sheer_api::v1;

use super::*;
use crate::manifests;

const BANK: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.96.0.3, selector: {app: ledger}, ports: [{port: 8080, targetPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: bank}
spec: {clusterIP: 10.96.0.4, selector: {app: ledger}, ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ledger, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  template: {metadata: {labels: {app: ledger}}, spec: {containers: [{name: a, image: a}]}}
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
metadata: {name: web-0, namespace: bank, labels: {app: web}, annotations: {sheer.dev/meshed: 'true'}}
spec: {serviceAccountName: web, containers: [{name: a}]}
status: {phase: Running, podIP: 10.77.0.6, conditions: [{type: Ready, status: 'True'}]}
";

fn snapshot() -> Arc<Snapshot> {
    Arc::new(Snapshot::of(BANK, PODS))
}

#[test]
fn what_operators_mean() {
    let snapshot = snapshot();
    let config = MeshConfig::for_tests();
    let pods = |reference: &str, namespace: &str| match resolve::pods(&snapshot, reference, namespace) {
        Ok(pods) => pods
            .iter()
            .map(|pod| pod.metadata.name.clone())
            .collect::<Vec<_>>()
            .join(" "),
        Err(status) => status.message().to_owned(),
    };
    assert_eq!(pods("ns/bank", ""), "ledger-0 web-0");
    assert!(
        pods("ns/nowhere", "").contains("no pod runs in namespace nowhere"),
        "{}",
        pods("ns/nowhere", "")
    );
    for reference in [
        "deploy/ledger",
        "ledger",
        "pod/ledger-0",
        "ledger-0",
        "deploy/ledger.bank",
    ] {
        assert_eq!(pods(reference, ""), "ledger-0", "{reference}");
    }
    assert!(pods("sts/ledger", "").starts_with("no pod of sts/ledger runs"));
    assert!(pods("ledger", "shop").contains("in namespace shop"));
    assert!(pods("svc/ledger", "").contains("names no workload"));
    let to = |to: &str| match resolve::destination(&snapshot, &config, to, "bank") {
        Ok(to) => format!("{} {}", to.address, to.authority),
        Err(status) => status.message().to_owned(),
    };
    for name in [
        "svc/ledger:8080",
        "ledger:8080",
        "svc/ledger",
        "ledger.bank:8080",
        "ledger.bank.svc.cluster.local:8080",
    ] {
        assert_eq!(to(name), "10.96.0.3:8080 ledger.bank:8080", "{name}");
    }
    assert_eq!(to("pod/ledger-0:9000"), "10.77.0.5:9000 10.77.0.5:9000");
    assert_eq!(to("1.1.1.1:53"), "1.1.1.1:53 1.1.1.1:53");
    assert_eq!(to("two"), "two has the ports 80, 81: choose one, as two:80");
    assert_eq!(to("fx:80"), "there is no service fx in namespace bank");
    assert!(to("ledger:http").contains("has no port"));
}

#[test]
fn decisions_know_their_file_and_line() {
    let places = places::Places::of(&snapshot());
    let object = |kind: &str, namespace: &str, name: &str| {
        Some(v1::ObjectRef {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..v1::ObjectRef::default()
        })
    };
    let mut decisions = [
        object("Service", "bank", "two"),
        object("deployment", "", "ledger"),
        object("default", "", "http"),
    ]
    .map(|object| v1::Decision {
        object,
        ..v1::Decision::default()
    });
    places.fill(&mut decisions, "bank");
    let found: Vec<_> = decisions.iter().map(|one| (one.file.as_str(), one.line)).collect();
    assert_eq!(found, [("test.yaml", 7), ("test.yaml", 12), ("", 0)]);
    assert_eq!(
        decisions[1].object.as_ref().map(|object| object.namespace.as_str()),
        Some("bank")
    );
}

/// Two objects of one name, in two groups.
#[test]
fn routes_of_the_two_groups_are_told_apart() {
    let route = |group: &str| {
        format!(
            "---\napiVersion: {group}\nkind: HTTPRoute\nmetadata: {{name: twin, namespace: bank}}\n\
             spec: {{parentRefs: [{{group: '', kind: Service, name: ledger}}], rules: [{{}}]}}\n"
        )
    };
    let written = format!(
        "{BANK}{}{}",
        route("gateway.networking.k8s.io/v1"),
        route("policy.linkerd.io/v1beta3")
    );
    let snapshot = Snapshot::of(&written, PODS);
    let line = |group: &str| {
        let mut decision = v1::Decision {
            object: Some(v1::ObjectRef {
                group: group.to_owned(),
                kind: "HTTPRoute".to_owned(),
                namespace: "bank".to_owned(),
                name: "twin".to_owned(),
                ..v1::ObjectRef::default()
            }),
            ..v1::Decision::default()
        };
        places::Places::of(&snapshot).fill(std::slice::from_mut(&mut decision), "bank");
        decision.line
    };
    assert!(line("gateway.networking.k8s.io") > 0);
    assert!(line("policy.linkerd.io") > line("gateway.networking.k8s.io"));
    assert_eq!(line("policy.sheer.dev"), line("policy.linkerd.io"));

    // A rule stands on its own line, what is written in one line on that.
    let written = format!(
        "{BANK}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: long, namespace: bank}}\nspec:\n  rules:\n  - matches:\n    - {{}}\n  - backendRefs: []\n"
    );
    let places = places::Places::of(&Snapshot::of(&written, PODS));
    let line = |rule: u32| {
        let object = Some(v1::ObjectRef {
            group: "gateway.networking.k8s.io".to_owned(),
            kind: "HTTPRoute".to_owned(),
            name: "long".to_owned(),
            ..v1::ObjectRef::default()
        });
        let decision = v1::Decision {
            object,
            rule,
            ..v1::Decision::default()
        };
        let mut decisions = [decision];
        places.fill(&mut decisions, "bank");
        decisions[0].line
    };
    let first = line(0);
    assert_eq!([1, 2, 9].map(line), [first + 5, first + 7, first]);

    let asked = |group: &str, name: &str| v1::ObjectRef {
        group: group.to_owned(),
        kind: "httproute".to_owned(),
        name: name.to_owned(),
        ..v1::ObjectRef::default()
    };
    let deleted = |group: &str, name: &str| diff::deleted(&snapshot, &[asked(group, name)]);
    let ids = deleted("policy.sheer.dev", "twin").unwrap();
    assert_eq!(ids[0].kind, crate::objects::Kind::PolicyHttpRoute);
    let after = snapshot.with(&[], &ids);
    assert_eq!(after.written().len(), snapshot.written().len() - 1);
    let several = deleted("", "twin").unwrap_err();
    assert!(
        several.message().contains("name its namespace, or its group"),
        "{several}"
    );
    let none = deleted("", "gone").unwrap_err();
    assert!(none.message().contains("there is no httproute/gone"), "{none}");
}

#[tokio::test]
async fn the_control_planes_own_view_explains_both_halves() {
    let (down, shutdown) = tokio::sync::watch::channel(false);
    let view = View::new(snapshot(), Arc::new(MeshConfig::for_tests()), Streams::new(shutdown));
    let pod = |name: &str| Arc::clone(view.snapshot.find_pod("bank", name).expect("runs"));
    let asked = v1::ExplainRequest {
        request: Some(v1::RequestHead::default()),
        ..v1::ExplainRequest::default()
    };
    let out = view
        .explain_outbound(&pod("web-0"), "10.96.0.3:8080".parse().unwrap(), &asked)
        .await
        .unwrap();
    assert_eq!(
        (out.outcome.as_str(), out.endpoints[0].address.as_str()),
        ("forwarded", "10.77.0.5:9000")
    );
    let caller = view.caller(&pod("web-0"), true).unwrap();
    let inside = view
        .explain_inbound(&pod("ledger-0"), 9000, &caller, asked.request.as_ref())
        .await
        .unwrap();
    assert_eq!(inside.outcome, "forwarded");

    let changed = "
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: {name: ledger, namespace: bank}
spec: {podSelector: {matchLabels: {app: ledger}}, port: 9000}
";
    let loaded = manifests::parse(std::path::Path::new("new.yaml"), changed);
    let changed = View::new(
        Arc::new(view.snapshot.with(&loaded.manifests, &[])),
        Arc::new(MeshConfig::for_tests()),
        Streams::new(down.subscribe()),
    );
    let denied = changed
        .explain_inbound(&pod("ledger-0"), 9000, &caller, asked.request.as_ref())
        .await
        .unwrap();
    assert_eq!((denied.outcome.as_str(), denied.status), ("denied", 403));
    assert_eq!(changed.snapshot.written().len(), 4);
}
