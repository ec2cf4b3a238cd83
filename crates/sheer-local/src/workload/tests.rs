//! Manifests in, what shall run out.

use std::path::Path;

use super::*;

fn objects(text: &str) -> Vec<Manifest> {
    let loaded = sheer_control::manifests::parse(Path::new("test.yaml"), text);
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    loaded.manifests
}

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: bank, annotations: { config.linkerd.io/skip-outbound-ports: "3306", team: red } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: bank, annotations: { sheer.dev/publish: "19000:80" } }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: bank }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata:
      labels: { app: web }
      annotations: { sheer.dev/publish: "18080:8080, 18081", config.sheer.dev/skip-inbound-ports: "9000-9010" }
    spec:
      containers: [{ name: app, command: [python3], args: [-m, http.server] }]
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: bank, annotations: { linkerd.io/inject: disabled } }
spec: { containers: [{ name: app, command: [sleep, "1"] }] }
"#;

fn id(kind: WorkloadKind, name: &str) -> WorkloadId {
    WorkloadId {
        namespace: "bank".into(),
        kind,
        name: name.into(),
    }
}

#[test]
fn annotations_of_the_namespace_are_defaults_of_its_pods() {
    let desired = desired(&objects(MANIFEST), &Overrides::default());
    let web = &desired.workloads[&id(WorkloadKind::Deployment, "web")];
    let mesh = web.mesh.as_ref().expect("meshed");
    assert_eq!(
        (mesh.skip_outbound.as_slice(), mesh.skip_inbound.as_slice()),
        ([3306..=3306].as_slice(), [9000..=9010].as_slice())
    );
    assert!(!web.annotations.contains_key("team"));
    assert_eq!(
        desired.workloads[&id(WorkloadKind::Pod, "client")].mesh,
        None,
        "injection is disabled"
    );
    assert_eq!(desired.warnings, Vec::<String>::new());
}

#[test]
fn ports_are_published_by_workloads_and_services() {
    let desired = desired(&objects(MANIFEST), &Overrides::default());
    let web = PublishTarget::Workload(id(WorkloadKind::Deployment, "web"));
    let service = PublishTarget::Service("bank".into(), "web".into());
    let expected = [(18080, web.clone(), 8080), (18081, web, 18081), (19000, service, 80)];
    assert_eq!(
        desired.published,
        expected
            .map(|(host, target, port)| (host, Publication { target, port }))
            .into()
    );
}

#[test]
fn what_cannot_be_run_or_read_is_said() {
    let text = MANIFEST
        .replace("command: [python3], args: [-m, http.server]", "image: nginx")
        .replace("18080:8080, 18081", "18080:, 19000");
    let desired = desired(&objects(&text), &Overrides::default());
    insta::assert_snapshot!(desired.warnings.join("\n"), @r#"
    bank deploy/web: container app has no command, and images are not pulled: it is not started. Give it a command.
    bank deploy/web: annotation sheer.dev/publish: 18080: leads nowhere, as no port is declared: write it, as 18080:8080
    bank deploy/web: annotation sheer.dev/publish: port 19000 of the host is published twice; the last one counts
    "#);
}

#[test]
fn a_scale_by_command_lasts_until_the_manifest_changes() {
    let web = id(WorkloadKind::Deployment, "web");
    let mut overrides = Overrides {
        replicas: BTreeMap::from([(web.clone(), (5, 2))]),
        ..Overrides::default()
    };
    assert_eq!(desired(&objects(MANIFEST), &overrides).workloads[&web].replicas, 5);
    let edited = MANIFEST.replace("replicas: 2", "replicas: 3");
    assert_eq!(desired(&objects(&edited), &overrides).workloads[&web].replicas, 3);
    overrides.forget_ended(&desired(&objects(MANIFEST), &overrides));
    assert_eq!(desired(&objects(MANIFEST), &overrides).workloads[&web].replicas, 5);
    overrides.forget_ended(&desired(&objects(&edited), &overrides));
    let back = desired(&objects(MANIFEST), &overrides);
    assert_eq!(
        back.workloads[&web].replicas, 2,
        "the old number in the manifest does not bring it back"
    );
}

#[test]
fn only_the_template_makes_new_pods() {
    let web = id(WorkloadKind::Deployment, "web");
    let hash = |text: &str, overrides: &Overrides| desired(&objects(text), overrides).workloads[&web].hash.clone();
    let none = Overrides::default();
    let before = hash(MANIFEST, &none);
    assert_eq!(before, hash(&MANIFEST.replace("replicas: 2", "replicas: 9"), &none));
    assert_ne!(before, hash(&MANIFEST.replace("http.server", "http.client"), &none));
    assert_ne!(
        before,
        hash(&MANIFEST.replace("\"3306\"", "\"3307\""), &none),
        "the namespace's annotations are part of the pod"
    );
    let restarted = Overrides {
        restarts: BTreeMap::from([(web.clone(), 1)]),
        ..Overrides::default()
    };
    assert_ne!(before, hash(MANIFEST, &restarted));
}

#[test]
fn what_the_control_plane_reads_of_the_namespace_makes_no_new_pods() {
    let web = id(WorkloadKind::Deployment, "web");
    let hash = |text: &str| {
        desired(&objects(text), &Overrides::default()).workloads[&web]
            .hash
            .clone()
    };
    let with = |annotation: &str| hash(&MANIFEST.replace("team: red", annotation));
    let before = hash(MANIFEST);
    for read_live in [
        "sheer.dev/sight: disabled",
        "linkerd.io/sight: disabled",
        "sheer.dev/redact-headers: x-tenant",
        "sheer.dev/redact-fields: iban",
    ] {
        assert_eq!(before, with(read_live), "{read_live}");
    }
    for of_the_pod in ["sheer.dev/inject: disabled", "config.sheer.dev/recorder: 'off'"] {
        assert_ne!(before, with(of_the_pod), "{of_the_pod}");
    }
}

#[test]
fn references_are_typed_as_for_kubectl() {
    let web = id(WorkloadKind::Deployment, "web");
    let matches = |text: &str, pod: &str| text.parse::<Reference>().expect("a reference").matches(&web, pod);
    assert!(matches("deploy/web", "web-6d9f4-0") && matches("web", "web-6d9f4-0"));
    assert!(matches("web-6d9f4-0", "web-6d9f4-0") && matches("pod/web-6d9f4-0", "web-6d9f4-0"));
    assert!(!matches("sts/web", "web-6d9f4-0") && !matches("deploy/web-6d9f4-0", "web-6d9f4-0"));
    assert!(
        "svc/web".parse::<Reference>().is_err()
            && "deploy/".parse::<Reference>().is_err()
            && "../x".parse::<Reference>().is_err()
    );
}
