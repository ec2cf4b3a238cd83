//! The contract with proxies that others wrote: every service of the proxy API over the wire, and in each answer what a
//! linkerd2-proxy insists on (an answer that it cannot convert is as bad as none).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]

use std::{net::Ipv4Addr, path::Path, time::Duration};

use rcgen::{CertificateParams, DnType, KeyPair};
use sheer_api::linkerd::{
    destination::{GetDestination, WeightedAddr, destination_client::DestinationClient, tls_identity, update},
    identity::{CertifyRequest, identity_client::IdentityClient},
    inbound::{
        Authz, PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient, proxy_protocol as inbound,
    },
    meta::{Metadata, metadata},
    net::TcpAddress,
    outbound::{
        Backend, GrpcRoute, HttpRoute, OpaqueRoute, OutboundPolicy, TrafficSpec, backend, grpc_route, http_route,
        opaque_route, outbound_policies_client::OutboundPoliciesClient, proxy_protocol as outbound, traffic_spec,
    },
};
use sheer_control::{
    Bound, ControlOptions, Ports,
    identity::token::{Signer, Workload},
};
use tonic::transport::Channel;

const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec:
  clusterIP: 10.78.0.1
  selector: {app: ledger}
  ports:
  - {name: any, port: 80, targetPort: 8080}
  - {name: grpc, port: 81, targetPort: 8080, appProtocol: grpc}
  - {name: h2c, port: 82, targetPort: 8080, appProtocol: kubernetes.io/h2c}
  - {name: http, port: 83, targetPort: 8080, appProtocol: http}
  - {name: sql, port: 5432}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: ledger-grpc, namespace: bank}
spec: {podSelector: {}, port: 50051, proxyProtocol: gRPC, accessPolicy: all-authenticated}
";

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod",
"metadata": {"name": "ledger-0", "namespace": "bank", "labels": {"app": "ledger"}, "annotations": {"sheer.dev/meshed": "true"}},
"spec": {"serviceAccountName": "ledger", "containers": [{"name": "ledger", "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}}]},
"status": {"phase": "Running", "podIP": "10.77.0.5", "conditions": [{"type": "Ready", "status": "True"}]}}"#;

/// A control plane with a service and a pod, and channels to its three ports.
async fn control(folder: &Path) -> [Channel; 3] {
    std::fs::write(folder.join("bank.yaml"), MANIFESTS).unwrap();
    std::fs::create_dir(folder.join("status")).unwrap();
    std::fs::write(folder.join("status/ledger-0.json"), POD).unwrap();
    let mut options = ControlOptions::new(folder.join("identity"), Ipv4Addr::LOCALHOST.into());
    options.ports = Ports {
        identity: 0,
        destination: 0,
        policy: 0,
    };
    options.manifests = vec![folder.join("bank.yaml")];
    options.status = Some(folder.join("status"));
    let bound = Bound::new(options).await.unwrap();
    let addresses = bound.addresses().unwrap();
    tokio::spawn(bound.serve(std::future::pending()));
    addresses.map(|address| {
        Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy()
    })
}

fn destination(path: &str) -> GetDestination {
    GetDestination {
        scheme: "k8s".to_owned(),
        path: path.to_owned(),
        context_token: r#"{"ns":"bank","pod":"web-0"}"#.to_owned(),
    }
}

fn check_metadata(metadata: Option<&Metadata>) {
    match metadata
        .and_then(|metadata| metadata.kind.as_ref())
        .expect("metadata with a kind")
    {
        metadata::Kind::Default(name) => assert!(!name.is_empty()),
        metadata::Kind::Resource(resource) => {
            assert!(
                !resource.group.is_empty() && !resource.kind.is_empty() && !resource.name.is_empty(),
                "{resource:?}"
            );
        }
    }
}

fn check_endpoint(endpoint: &WeightedAddr) {
    let address = endpoint.addr.expect("an address");
    assert!(
        address.ip.is_some() && address.port > 0 && endpoint.weight > 0,
        "{endpoint:?}"
    );
    let identity = endpoint.tls_identity.as_ref().expect("a meshed pod has an identity");
    let Some(tls_identity::Strategy::DnsLikeIdentity(name)) = &identity.strategy else {
        panic!("{identity:?}")
    };
    assert_eq!(name.name, "ledger.bank.serviceaccount.identity.sheer.cluster.local");
    assert_eq!(identity.server_name.as_ref(), Some(name));
    let hint = endpoint.protocol_hint.as_ref().expect("a hint");
    assert!(hint.protocol.is_some());
    assert_eq!(hint.opaque_transport.as_ref().expect("a transport").inbound_port, 4143);
    check_metadata(endpoint.resource_ref.as_ref());
}

#[tokio::test]
async fn destination_get_and_get_profile() {
    let folder = tempfile::tempdir().unwrap();
    let [_, channel, _] = control(folder.path()).await;
    let mut client = DestinationClient::new(channel);
    let mut stream = client
        .get(destination("ledger.bank.svc.cluster.local:80"))
        .await
        .unwrap()
        .into_inner();
    let Some(update::Update::Add(set)) = stream.message().await.unwrap().unwrap().update else {
        panic!("an add first")
    };
    set.addrs.iter().for_each(check_endpoint);
    assert_eq!(
        (
            set.addrs.len(),
            set.metric_labels["namespace"].as_str(),
            set.metric_labels["service"].as_str()
        ),
        (1, "bank", "ledger")
    );
    // Names that are none of ours are refused, so that the proxy looks elsewhere; those that could be are "does not exist".
    for foreign in ["example.com:80", "10.78.0.1:80", ""] {
        let refused = client.get(destination(foreign)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{foreign}");
    }
    let mut stream = client
        .get(destination("nothing.bank.svc.cluster.local:80"))
        .await
        .unwrap()
        .into_inner();
    let Some(update::Update::NoEndpoints(no)) = stream.message().await.unwrap().unwrap().update else {
        panic!()
    };
    assert!(!no.exists);

    let mut profile = async |path: &str| {
        client
            .get_profile(destination(path))
            .await
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap()
    };
    let service = profile("10.78.0.1:5432").await;
    assert_eq!(
        (service.fully_qualified_name.as_str(), service.opaque_protocol),
        ("ledger.bank.svc.cluster.local", true)
    );
    check_metadata(service.parent_ref.as_ref());
    let pod = profile("10.77.0.5:8080").await;
    check_endpoint(pod.endpoint.as_ref().expect("an endpoint"));
    let unknown = profile("192.0.2.1:443").await;
    assert_eq!(
        (
            unknown.endpoint,
            unknown.parent_ref,
            unknown.fully_qualified_name.as_str()
        ),
        (None, None, "")
    );
    for profile in [service.retry_budget, pod.retry_budget, unknown.retry_budget] {
        assert!(profile.is_some_and(|budget| budget.ttl.is_some()));
    }
}

fn check_backend(backend: Option<&Backend>, port: u32) {
    let backend = backend.expect("a backend");
    check_metadata(backend.metadata.as_ref());
    let queue = backend.queue.as_ref().expect("a queue");
    assert_eq!((queue.capacity, queue.failfast_timeout.unwrap().seconds), (10_000, 3));
    let Some(backend::Kind::Balancer(balancer)) = &backend.kind else {
        panic!("{backend:?}")
    };
    let Some(backend::endpoint_discovery::Kind::Dst(dst)) = &balancer.discovery.as_ref().unwrap().kind else {
        panic!()
    };
    assert_eq!(dst.path, format!("ledger.bank.svc.cluster.local:{port}"));
    let Some(backend::balance_p2c::Load::PeakEwma(load)) = &balancer.load else {
        panic!("{balancer:?}")
    };
    assert_eq!(
        (load.default_rtt.unwrap().nanos, load.decay.unwrap().seconds),
        (30_000_000, 10)
    );
}

fn check_http(routes: &[HttpRoute], port: u32) {
    assert_eq!(routes.len(), 1);
    check_metadata(routes[0].metadata.as_ref());
    let rule = &routes[0].rules[0];
    assert!(
        rule.matches
            .iter()
            .all(|m| m.path.as_ref().is_some_and(|path| path.kind.is_some()))
    );
    let Some(http_route::distribution::Kind::FirstAvailable(first)) = &rule.backends.as_ref().unwrap().kind else {
        panic!()
    };
    check_backend(first.backends[0].backend.as_ref(), port);
}

fn check_grpc(routes: &[GrpcRoute], port: u32) {
    assert_eq!(routes.len(), 1);
    check_metadata(routes[0].metadata.as_ref());
    let rule = &routes[0].rules[0];
    assert!(
        rule.matches.iter().all(|m| m.rpc.is_some()),
        "without it the whole policy is invalid"
    );
    let Some(grpc_route::distribution::Kind::FirstAvailable(first)) = &rule.backends.as_ref().unwrap().kind else {
        panic!()
    };
    check_backend(first.backends[0].backend.as_ref(), port);
}

fn check_opaque(routes: &[OpaqueRoute], port: u32) {
    assert_eq!(routes.len(), 1, "exactly one");
    check_metadata(routes[0].metadata.as_ref());
    let Some(opaque_route::distribution::Kind::FirstAvailable(first)) =
        &routes[0].rules[0].backends.as_ref().unwrap().kind
    else {
        panic!()
    };
    check_backend(first.backends[0].backend.as_ref(), port);
}

fn check_outbound(policy: &OutboundPolicy, port: u32) -> &'static str {
    check_metadata(policy.metadata.as_ref());
    match policy.protocol.as_ref().unwrap().kind.as_ref().expect("a protocol") {
        outbound::Kind::Detect(detect) => {
            assert_eq!(detect.timeout.expect("needed").seconds, 10);
            check_opaque(&detect.opaque.as_ref().expect("needed").routes, port);
            check_http(&detect.http1.as_ref().expect("needed").routes, port);
            check_http(&detect.http2.as_ref().expect("needed").routes, port);
            "detect"
        }
        outbound::Kind::Opaque(opaque) => {
            check_opaque(&opaque.routes, port);
            "opaque"
        }
        outbound::Kind::Http1(http) => {
            check_http(&http.routes, port);
            "http1"
        }
        outbound::Kind::Http2(http) => {
            check_http(&http.routes, port);
            "http2"
        }
        outbound::Kind::Grpc(grpc) => {
            check_grpc(&grpc.routes, port);
            "grpc"
        }
        outbound::Kind::Tls(_) => "tls",
    }
}

#[tokio::test]
async fn outbound_policies_get_and_watch() {
    let folder = tempfile::tempdir().unwrap();
    let [.., channel] = control(folder.path()).await;
    let mut client = OutboundPoliciesClient::new(channel);
    let spec = |target| TrafficSpec {
        source_workload: r#"{"ns":"bank","pod":"web-0"}"#.to_owned(),
        target: Some(target),
    };
    let by_address = |ip: [u8; 4], port| {
        traffic_spec::Target::Addr(TcpAddress {
            ip: Some(Ipv4Addr::from(ip).into()),
            port,
        })
    };
    for (port, protocol) in [
        (80, "detect"),
        (81, "grpc"),
        (82, "http2"),
        (83, "http1"),
        (5432, "opaque"),
    ] {
        let got = client
            .get(spec(by_address([10, 78, 0, 1], port)))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(check_outbound(&got, port), protocol);
        let authority = traffic_spec::Target::Authority(format!("ledger.bank.svc.cluster.local:{port}"));
        let named = client.get(spec(authority)).await.unwrap().into_inner();
        assert_eq!(named, got, "by name as by address");
        let watched = client
            .watch(spec(by_address([10, 78, 0, 1], port)))
            .await
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap();
        assert_eq!(watched, Some(got), "watched as got");
    }
    // "Not found" is what makes a linkerd2-proxy go by the profile of a pod.
    let refused = client.watch(spec(by_address([10, 77, 0, 5], 8080))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    // Outside the mesh it is told to forward, by a stream that a later EgressNetwork reaches.
    let outside = client.get(spec(by_address([192, 0, 2, 1], 8080))).await.unwrap();
    check_metadata(outside.get_ref().metadata.as_ref());
    let Some(outbound::Kind::Detect(detect)) = outside.into_inner().protocol.unwrap().kind else {
        panic!()
    };
    assert_eq!(detect.http2.unwrap().routes.len(), 1);
    let undefined = client
        .get(spec(by_address([10, 78, 0, 1], 9)))
        .await
        .unwrap()
        .into_inner();
    let Some(outbound::Kind::Opaque(opaque)) = undefined.protocol.unwrap().kind else {
        panic!()
    };
    assert!(matches!(
        opaque.routes[0].rules[0].filters[0].kind,
        Some(opaque_route::filter::Kind::Forbidden(_))
    ));
}

fn check_authorization(authz: &Authz) {
    assert!(!authz.networks.is_empty(), "without networks it is ignored");
    assert!(authz.networks.iter().all(|network| network.net.is_some()));
    assert!(
        authz
            .authentication
            .as_ref()
            .is_some_and(|authentication| authentication.permit.is_some())
    );
    check_metadata(authz.metadata.as_ref());
    check_labels(&authz.labels, &["group", "kind", "name"]);
}

fn check_labels(labels: &std::collections::HashMap<String, String>, expected: &[&str]) {
    let mut keys: Vec<_> = labels.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, expected, "the same keys always");
}

fn check_inbound(server: &Server) -> &'static str {
    check_labels(&server.labels, &["group", "kind", "name", "namespace"]);
    assert!(!server.authorizations.is_empty());
    server.authorizations.iter().for_each(check_authorization);
    match server.protocol.as_ref().unwrap().kind.as_ref().expect("a protocol") {
        inbound::Kind::Detect(detect) => {
            assert_eq!(detect.timeout.expect("needed").seconds, 10);
            for route in &detect.http_routes {
                check_metadata(route.metadata.as_ref());
                route.authorizations.iter().for_each(check_authorization);
                assert!(route.rules.iter().all(|rule| !rule.matches.is_empty()));
            }
            "detect"
        }
        inbound::Kind::Grpc(grpc) => {
            for route in &grpc.routes {
                check_metadata(route.metadata.as_ref());
                assert!(
                    route
                        .rules
                        .iter()
                        .all(|rule| rule.matches.iter().all(|m| m.rpc.is_some()))
                );
            }
            "grpc"
        }
        inbound::Kind::Opaque(_) => "opaque",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn inbound_policies_get_port_and_watch_port() {
    let folder = tempfile::tempdir().unwrap();
    let [.., channel] = control(folder.path()).await;
    let mut client = InboundServerPoliciesClient::new(channel);
    for workload in [r#"{"ns":"bank","pod":"ledger-0"}"#, "bank:ledger-0"] {
        for (port, protocol) in [(8080, "detect"), (50051, "grpc"), (5432, "opaque"), (4191, "detect")] {
            let spec = PortSpec {
                workload: workload.to_owned(),
                port,
            };
            let got = client.get_port(spec.clone()).await.unwrap().into_inner();
            assert_eq!(check_inbound(&got), protocol, "{port}");
            let watched = client
                .watch_port(spec)
                .await
                .unwrap()
                .into_inner()
                .message()
                .await
                .unwrap();
            assert_eq!(watched, Some(got));
        }
    }
    for (workload, port) in [("", 80), ("bank", 80), ("bank:ledger-0", 0), ("bank:ledger-0", 70_000)] {
        let refused = client
            .get_port(PortSpec {
                workload: workload.to_owned(),
                port,
            })
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn identity_certify_speaks_der() {
    let folder = tempfile::tempdir().unwrap();
    let [channel, ..] = control(folder.path()).await;
    let workload = Workload {
        namespace: "bank".to_owned(),
        service_account: "ledger".to_owned(),
        pod: "ledger-0".to_owned(),
    };
    let signer = Signer::load_or_create(&folder.path().join("identity")).unwrap();
    let identity = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![identity.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, identity);
    let csr = params.serialize_request(&key).unwrap();
    let request = CertifyRequest {
        identity: identity.to_owned(),
        token: signer.sign(&workload, Duration::from_secs(60)).into_bytes(),
        certificate_signing_request: csr.der().to_vec(),
    };
    let response = IdentityClient::new(channel)
        .certify(request)
        .await
        .unwrap()
        .into_inner();
    let chain = [&response.leaf_certificate, &response.intermediate_certificates[0]];
    let [leaf, issuer] = chain.map(|der| x509_parser::parse_x509_certificate(der).expect("DER").1);
    assert_eq!(leaf.issuer(), issuer.subject());
    assert!(issuer.is_ca() && !leaf.is_ca());
    assert_eq!(
        response.valid_until.unwrap().seconds,
        leaf.validity().not_after.timestamp()
    );
}
