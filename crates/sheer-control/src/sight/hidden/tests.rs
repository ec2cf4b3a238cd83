//! Who is hidden in a shop where one workload has sight disabled. Others of sight try themselves on the same shop.

use super::*;

const WRITTEN: &str = "
apiVersion: v1
kind: Service
metadata: {name: quiet, namespace: shop}
spec: {clusterIP: 10.96.0.3, selector: {app: quiet}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.4, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: split, namespace: shop}
spec: {clusterIP: 10.96.0.5, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: some, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: split}]
  rules: [{backendRefs: [{name: web, port: 80}, {name: quiet, port: 80}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: quiet, namespace: shop, annotations: {sheer.dev/sight: disabled}}
spec:
  selector: {matchLabels: {app: quiet}}
  template: {metadata: {labels: {app: quiet}}, spec: {containers: [{name: a, image: a}]}}
";
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 10.77.0.4}
";
const QUIET: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: quiet-0, namespace: shop, labels: {app: quiet}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 10.77.0.5}
";

/// `quiet` is hidden, `web` is not, and a route of `split` leads to either.
pub(in crate::sight) fn shop() -> Hidden {
    Hidden::of(&shop_now())
}

/// The same, as it stands.
pub(in crate::sight) fn shop_now() -> Snapshot {
    Snapshot::of(WRITTEN, &format!("{PODS}{QUIET}"))
}

fn outbound(original: &str, endpoint: Option<&str>) -> v1::Exchange {
    let leg = |remote: &str, original: &str| v1::Leg {
        remote: remote.to_owned(),
        original: original.to_owned(),
        ..v1::Leg::default()
    };
    v1::Exchange {
        direction: "outbound".to_owned(),
        client: Some(leg("10.77.0.9:4000", original)),
        upstream: endpoint.map(|endpoint| leg(endpoint, "")),
        ..v1::Exchange::default()
    }
}

/// Also before an endpoint is chosen, and where nothing runs that could be one.
#[test]
fn what_goes_to_a_hidden_workload_is_hidden_from_the_head_on() {
    let hidden = shop();
    let judge = |original, endpoint, called| hidden.judge(&outbound(original, endpoint), called, "");
    let quiet = "quiet.shop.svc.cluster.local:80";
    let web = "web.shop.svc.cluster.local:80";
    let split = "split.shop.svc.cluster.local:80";
    assert_eq!(judge("10.96.0.3:80", None, quiet), Verdict::Hidden);
    assert_eq!(judge("10.96.0.3:80", None, ""), Verdict::Hidden, "by its address alone");
    assert_eq!(judge("", None, quiet), Verdict::Hidden, "by its name alone");
    assert_eq!(judge("10.77.0.5:8080", None, ""), Verdict::Hidden, "to the pod itself");
    assert_eq!(judge("10.96.0.4:80", None, web), Verdict::Shown);
    assert_eq!(judge("10.96.0.5:80", None, split), Verdict::Unknown);
    assert_eq!(judge("10.96.0.5:80", Some("10.77.0.5:80"), split), Verdict::Hidden);
    assert_eq!(judge("10.96.0.5:80", Some("10.77.0.4:80"), split), Verdict::Shown);

    let gone = Hidden::of(&Snapshot::of(WRITTEN, PODS));
    assert_eq!(
        gone.judge(&outbound("10.96.0.3:80", None), quiet, ""),
        Verdict::Hidden,
        "nothing runs behind it"
    );
    let connection = |remote: &str, original: &str, name: &str| v1::Connection {
        direction: "outbound".to_owned(),
        remote: remote.to_owned(),
        original: original.to_owned(),
        name: name.to_owned(),
        ..v1::Connection::default()
    };
    assert!(hidden.hides_connection(&connection("10.77.0.9:4000", "10.96.0.3:80", "")));
    assert!(hidden.hides_connection(&connection("10.77.0.9:4000", "", quiet)));
    assert!(!hidden.hides_connection(&connection("10.77.0.9:4000", "10.96.0.4:80", web)));
    // Between sidecars, by who runs there: whoever is gone may have been hidden.
    let mesh = |remote: &str| v1::Connection {
        peer: "mesh".to_owned(),
        ..connection(remote, "", "")
    };
    assert!(hidden.hides_connection(&mesh("10.77.0.5:80")) && hidden.hides_connection(&mesh("10.77.0.8:80")));
    assert!(!hidden.hides_connection(&mesh("10.77.0.4:80")));
    let latest = Latest::default();
    latest.of(&Snapshot::of(WRITTEN, &format!("{PODS}{QUIET}")));
    assert!(
        latest.of(&Snapshot::of(WRITTEN, PODS)).is_at("10.77.0.5:80"),
        "its recordings are there still"
    );
}

/// A request passes several proxies: a name that one workload hides, or a namespace, none of them shows.
#[test]
fn names_that_are_redacted_hold_for_the_whole_mesh() {
    let written = format!(
        "{WRITTEN}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {{sheer.dev/redact-fields: 'iban, pin'}}}}\n"
    );
    let pods = PODS.replace(
        "labels: {app: web}",
        "labels: {app: web}, annotations: {sheer.dev/redact-headers: 'x-tenant,x-name'}",
    );
    let [headers, fields] = Hidden::of(&Snapshot::of(&written, &pods)).redacted();
    assert_eq!(
        (headers.join(" "), fields.join(" ")),
        ("x-name x-tenant".to_owned(), "iban pin".to_owned())
    );
}

#[test]
fn names_of_services_in_all_their_forms() {
    for name in [
        "a.b.svc.cluster.local:80",
        "a.b.svc.cluster.local",
        "a-0.a.b.svc.cluster.local:1",
        "A.B:80",
        "a.b",
    ] {
        assert_eq!(service_of(name).as_deref(), Some("b/a"), "{name}");
    }
    assert_eq!(service_of("localhost:80"), None);
}
