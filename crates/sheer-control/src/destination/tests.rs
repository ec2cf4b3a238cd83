//! Objects in, whole messages out.

use std::collections::HashMap;

use sheer_api::linkerd::destination::{
    Http2ClientParams, ProtocolHint, TlsIdentity, WeightedAddr,
    http2_client_params::KeepAlive,
    protocol_hint::{H2, Opaque, OpaqueTransport, Protocol},
    tls_identity::{DnsLikeIdentity, Strategy},
    update,
};
use sheer_api::linkerd::meta::{Metadata, Resource, metadata};

use super::{endpoints::Sent, *};

const BANK: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: ledger, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  template: {metadata: {labels: {app: ledger}}, spec: {containers: [{name: ledger}]}}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec:
  clusterIP: 10.78.0.1
  selector: {app: ledger}
  ports:
  - {name: grpc, port: 80, targetPort: grpc}
  - {name: sql, port: 5432}
";

/// A ready pod, in a line.
fn pod(name: &str, ip: &str, annotations: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: bank, labels: {{app: ledger}}, annotations: {{{annotations}}}}}
spec: {{serviceAccountName: books, containers: [{{name: ledger, ports: [{{name: grpc, containerPort: 50051}}]}}]}}
status: {{phase: Running, podIP: \"{ip}\", conditions: [{{type: Ready, status: 'True'}}]}}
"
    )
}

const MESHED: &str = "sheer.dev/meshed: 'true'";

fn resolve(snapshot: &Snapshot, port: u16) -> endpoints::Endpoints {
    endpoints::of_service(
        snapshot,
        &MeshConfig::for_tests(),
        snapshot.find_service("bank", "ledger").unwrap(),
        port,
    )
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn added(endpoints: endpoints::Endpoints) -> (Vec<WeightedAddr>, HashMap<String, String>) {
    let update = Sent::default()
        .advance(Some(Arc::new(endpoints)))
        .swap_remove(0)
        .update
        .unwrap();
    let update::Update::Add(set) = update else {
        panic!("{update:?}")
    };
    (set.addrs, set.metric_labels)
}

/// What a meshed pod of these tests looks like.
fn meshed(address: &str, pod: &str, protocol: Protocol) -> WeightedAddr {
    let identity = DnsLikeIdentity {
        name: "books.bank.serviceaccount.identity.sheer.cluster.local".to_owned(),
    };
    let seconds = |seconds| Some(std::time::Duration::from_secs(seconds).try_into().unwrap());
    WeightedAddr {
        addr: Some(address.parse::<std::net::SocketAddr>().unwrap().into()),
        weight: 10_000,
        metric_labels: map(&[
            ("pod", pod),
            ("deployment", "ledger"),
            ("serviceaccount", "books"),
            ("control_plane_ns", "sheer"),
            ("zone", ""),
        ]),
        tls_identity: Some(TlsIdentity {
            strategy: Some(Strategy::DnsLikeIdentity(identity.clone())),
            server_name: Some(identity),
        }),
        protocol_hint: Some(ProtocolHint {
            protocol: Some(protocol),
            opaque_transport: Some(OpaqueTransport { inbound_port: 4143 }),
        }),
        authority_override: None,
        http2: Some(Http2ClientParams {
            keep_alive: Some(KeepAlive {
                interval: seconds(10),
                timeout: seconds(3),
                while_idle: true,
            }),
            ..Http2ClientParams::default()
        }),
        resource_ref: Some(Metadata {
            kind: Some(metadata::Kind::Resource(Resource {
                group: "core".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.to_owned(),
                namespace: "bank".to_owned(),
                ..Resource::default()
            })),
        }),
    }
}

#[test]
fn a_meshed_pod_has_identity_hint_and_labels() {
    let snapshot = Snapshot::of(BANK, &pod("ledger-0", "10.77.0.5", MESHED));
    let (endpoints, labels) = added(resolve(&snapshot, 80));
    assert_eq!(endpoints, [meshed("10.77.0.5:50051", "ledger-0", Protocol::H2(H2 {}))]);
    assert_eq!(labels, map(&[("namespace", "bank"), ("service", "ledger")]));
    // A default opaque port.
    let (endpoints, _) = added(resolve(&snapshot, 5432));
    assert_eq!(
        endpoints,
        [meshed("10.77.0.5:5432", "ledger-0", Protocol::Opaque(Opaque {}))]
    );
}

#[test]
fn an_unmeshed_pod_and_a_skipped_port_are_plain() {
    let plain = pod("ledger-0", "10.77.0.5", "")
        + &pod(
            "ledger-1",
            "10.77.0.6",
            &format!("{MESHED}, config.linkerd.io/skip-inbound-ports: 50000-50100"),
        );
    let (endpoints, _) = added(resolve(&Snapshot::of(BANK, &plain), 80));
    assert_eq!(endpoints.len(), 2);
    for endpoint in endpoints {
        assert_eq!(
            (endpoint.tls_identity, endpoint.protocol_hint, endpoint.http2),
            (None, None, None)
        );
        assert!(!endpoint.metric_labels.contains_key("control_plane_ns"));
    }
}

#[test]
fn only_ready_pods_that_the_selector_matches_are_endpoints() {
    let count = |pods: String| match Sent::default()
        .advance(Some(Arc::new(resolve(&Snapshot::of(BANK, &pods), 80))))
        .swap_remove(0)
        .update
        .unwrap()
    {
        update::Update::Add(set) => set.addrs.len(),
        other => panic!("{other:?}"),
    };
    let ready = pod("ledger-0", "10.77.0.5", MESHED);
    assert_eq!(
        count(ready.clone() + &pod("ledger-1", "10.77.0.6", MESHED).replace("status: 'True'", "status: 'False'")),
        1
    );
    assert_eq!(
        count(ready.clone() + &pod("ledger-1", "10.77.0.6", MESHED).replace("app: ledger", "app: web")),
        1
    );
    assert_eq!(
        count(ready.clone() + &pod("ledger-1", "10.77.0.6", MESHED).replace("Running", "Failed")),
        1
    );
    assert_eq!(
        count(ready.clone() + &pod("ledger-1", "10.77.0.6", MESHED).replace("bank", "other")),
        1
    );
    assert_eq!(count(ready + &pod("ledger-1", "10.77.0.6", MESHED)), 2);
}

#[test]
fn the_family_of_the_services_address_decides() {
    let dual = pod("ledger-0", "10.77.0.5", MESHED).replace(
        "podIP: \"10.77.0.5\"",
        "podIP: 10.77.0.5, podIPs: [{ip: 10.77.0.5}, {ip: 'fd77::5'}]",
    );
    let address = |bank: &str, pods: &str| added(resolve(&Snapshot::of(bank, pods), 80)).0[0].addr.unwrap();
    let v6: std::net::SocketAddr = "[fd77::5]:50051".parse().unwrap();
    assert_eq!(address(&BANK.replace("10.78.0.1", "fd78::1"), &dual), v6.into());
    let v4: std::net::SocketAddr = "10.77.0.5:50051".parse().unwrap();
    assert_eq!(address(BANK, &dual), v4.into());
    assert_eq!(
        address(BANK, &pod("ledger-0", "fd77::5", MESHED)),
        v6.into(),
        "a pod of the other family is better than none"
    );
}

/// Updates in a few words.
fn words(updates: Vec<Update>) -> Vec<String> {
    let word = |update: Update| match update.update.unwrap() {
        update::Update::Add(set) => format!("+{}", set.addrs.len()),
        update::Update::Remove(set) => format!("-{}", set.addrs.len()),
        update::Update::NoEndpoints(no) => format!("none, exists: {}", no.exists),
    };
    updates.into_iter().map(word).collect()
}

#[test]
fn updates_are_the_smallest_and_never_redundant() {
    let state = |pods: &str| Some(Arc::new(resolve(&Snapshot::of(BANK, pods), 80)));
    let (one, two) = (
        pod("ledger-0", "10.77.0.5", MESHED),
        pod("ledger-1", "10.77.0.6", MESHED),
    );
    let mut sent = Sent::default();
    let mut advance = |new| words(sent.advance(new));
    assert_eq!(advance(None), ["none, exists: false"]);
    assert_eq!(advance(None), [""; 0]);
    assert_eq!(advance(state("")), ["none, exists: true"]);
    assert_eq!(advance(state("")), [""; 0]);
    assert_eq!(advance(state(&one)), ["+1"]);
    assert_eq!(advance(state(&(one.clone() + &two))), ["+1"]);
    assert_eq!(advance(state(&(one.clone() + &two))), [""; 0]);
    assert_eq!(advance(state(&two)), ["-1"]);
    assert_eq!(advance(state(&one)), ["+1", "-1"], "first what is new");
    assert_eq!(
        advance(state(&one.replace("books", "other"))),
        ["+1"],
        "the same address with another identity"
    );
    // A remove that leaves nothing is "no endpoints, exists" already.
    assert_eq!(advance(state("")), ["-1"]);
    assert_eq!(advance(state("")), [""; 0]);
    assert_eq!(advance(None), ["none, exists: false"]);
}

#[test]
fn profiles() {
    let config = MeshConfig::for_tests();
    let snapshot = Snapshot::of(BANK, &pod("ledger-0", "10.77.0.5", MESHED));
    let profile = |address: &str| match Target::parse(address, "cluster.local").unwrap().find(&snapshot) {
        Found::Service(service, port) => profile::of_service(&snapshot, &config, service, port, "web"),
        Found::Pod(pod, address) => profile::of_pod(&snapshot, &config, pod, address),
        Found::Nothing => profile::unknown(),
    };
    let service = profile("10.78.0.1:80");
    assert_eq!(
        (service.fully_qualified_name.as_str(), service.opaque_protocol),
        ("ledger.bank.svc.cluster.local", false)
    );
    assert!(service.parent_ref.is_some() && service.endpoint.is_none() && service.retry_budget.is_some());
    assert_eq!(profile("ledger.bank.svc.cluster.local:80"), service);
    assert!(profile("10.78.0.1:5432").opaque_protocol);

    let direct = profile("10.77.0.5:50051");
    let mut expected = meshed("10.77.0.5:50051", "ledger-0", Protocol::H2(H2 {}));
    expected.metric_labels.insert("namespace".to_owned(), "bank".to_owned());
    assert_eq!(
        (
            direct.endpoint,
            direct.opaque_protocol,
            direct.fully_qualified_name.as_str()
        ),
        (Some(expected), false, "")
    );

    assert_eq!(profile("192.0.2.1:80"), profile::unknown());
}

#[test]
fn opaque_ports_of_service_pod_and_namespace() {
    let config = MeshConfig::for_tests();
    let opaque = |bank: &str, pods: &str, port| {
        let snapshot = Snapshot::of(bank, pods);
        profile::of_service(
            &snapshot,
            &config,
            snapshot.find_service("bank", "ledger").unwrap(),
            port,
            "web",
        )
        .opaque_protocol
    };
    let on_service = |ports: &str| {
        BANK.replace(
            "kind: Service\nmetadata: {",
            &format!("kind: Service\nmetadata: {{annotations: {{config.linkerd.io/opaque-ports: '{ports}'}}, "),
        )
    };
    let in_namespace = format!(
        "{BANK}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: bank, annotations: {{config.sheer.dev/opaque-ports: '80'}}}}\n"
    );
    let pod_says = pod("ledger-0", "10.77.0.5", "config.sheer.dev/opaque-ports: '50051'");
    let server = format!(
        "{BANK}---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: ledger, namespace: bank}}\nspec: {{podSelector: {{}}, port: grpc, proxyProtocol: opaque}}\n"
    );
    assert!(!opaque(BANK, "", 80));
    assert!(opaque(&on_service("80"), "", 80));
    assert!(
        !opaque(&on_service("80"), "", 5432),
        "an annotation replaces the default list"
    );
    assert!(opaque(&in_namespace, "", 80));
    assert!(
        opaque(BANK, &pod_says, 80),
        "a pod says so of the port that the service leads to"
    );
    assert!(
        !opaque(&on_service("1"), &pod_says, 80),
        "the service's own word counts"
    );
    assert!(opaque(&server, &pod("ledger-0", "10.77.0.5", MESHED), 80));
}

#[test]
fn endpoints_are_computed_once_and_stay_the_same_value_while_nothing_changed() {
    let (config, shared) = (MeshConfig::for_tests(), shared::SharedEndpoints::default());
    let key = ("bank".to_owned(), "ledger".to_owned(), 80, None);
    let one = pod("ledger-0", "10.77.0.5", MESHED);
    let (first, second) = (Snapshot::of(BANK, &one), Snapshot::of(BANK, &one));
    let third = Snapshot::of(BANK, &(one + &pod("ledger-1", "10.77.0.6", MESHED)));
    let find = |snapshot: &Snapshot| shared.find(snapshot, &config, &key).unwrap();
    let a = find(&first);
    assert!(Arc::ptr_eq(&a, &find(&first)), "once a snapshot");
    assert!(Arc::ptr_eq(&a, &find(&second)), "equal is the same");
    let c = find(&third);
    assert_ne!(a, c);
    assert_eq!(find(&first), a, "a stream that is behind");
    assert!(Arc::ptr_eq(&c, &find(&third)), "does not disturb the newest");
    let gone = Snapshot::of("", "");
    assert!(shared.find(&gone, &config, &key).is_none());
}

#[test]
fn a_pod_says_its_zone_and_weight() {
    let heavy = pod("ledger-0", "10.77.0.5", "balancer.sheer.dev/weight: '2.5'")
        .replace("{app: ledger}", "{app: ledger, topology.kubernetes.io/zone: eu-1a}");
    let none = pod("ledger-1", "10.77.0.6", "balancer.sheer.dev/weight: '0'");
    let snapshot = Snapshot::of(BANK, &(heavy + &none));
    let (endpoints, _) = added(resolve(&snapshot, 80));
    let said: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.weight, endpoint.metric_labels["zone"].as_str()))
        .collect();
    assert_eq!(said, [(25_000, "eu-1a"), (1, "")]);
}

#[test]
fn a_pod_of_a_headless_service_is_found_by_its_name() {
    let headless = BANK.replace("clusterIP: 10.78.0.1", "clusterIP: None");
    let pods = pod("ledger-0", "10.77.0.5", MESHED) + &pod("ledger-1", "10.77.0.6", "");
    let snapshot = Snapshot::of(&headless, &pods);
    let (config, shared) = (MeshConfig::for_tests(), SharedEndpoints::default());
    let of = |snapshot: &Snapshot, name: &str| {
        let key = ("bank".to_owned(), "ledger".to_owned(), 80, Some(name.to_owned()));
        shared.find(snapshot, &config, &key)
    };
    let (endpoints, labels) = added(Arc::unwrap_or_clone(of(&snapshot, "ledger-0").unwrap()));
    assert_eq!(endpoints, [meshed("10.77.0.5:50051", "ledger-0", Protocol::H2(H2 {}))]);
    assert_eq!(labels, map(&[("namespace", "bank"), ("service", "ledger")]));
    assert!(of(&snapshot, "ledger-7").is_none());

    let found = |snapshot: &Snapshot, path: &str| match Target::parse(path, "cluster.local").unwrap().find(snapshot) {
        Found::Pod(pod, address) => format!("{} at {address}", pod.metadata.name),
        Found::Service(..) | Found::Nothing => "nothing".to_owned(),
    };
    let profile = |path: &str| found(&snapshot, path);
    assert_eq!(
        profile("ledger-1.ledger.bank.svc.cluster.local:80"),
        "ledger-1 at 10.77.0.6:50051"
    );
    assert_eq!(
        profile("ledger-1.ledger.bank.svc.cluster.local:9999"),
        "ledger-1 at 10.77.0.6:9999",
        "a port that the service does not name is the pod's own"
    );
    assert_eq!(profile("ledger-2.ledger.bank.svc.cluster.local:80"), "nothing");
    let balanced = Snapshot::of(BANK, &pods);
    assert_eq!(
        found(&balanced, "ledger-1.ledger.bank.svc.cluster.local:80"),
        "nothing",
        "behind a virtual address pods have no names"
    );
    assert!(of(&balanced, "ledger-1").is_none());
}
