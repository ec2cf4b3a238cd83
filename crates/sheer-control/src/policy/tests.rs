//! Objects in, whole messages out.

use sheer_api::linkerd::{
    inbound::{authn, proxy_protocol as inbound_protocol},
    meta::metadata,
    outbound::proxy_protocol,
};

use super::*;

const BANK: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec:
  clusterIP: 10.78.0.1
  selector: {app: ledger}
  ports:
  - {name: any, port: 80}
  - {name: grpc, port: 81, appProtocol: grpc}
  - {name: web, port: 82, appProtocol: http}
  - {name: h2c, port: 83, appProtocol: kubernetes.io/h2c}
  - {name: sql, port: 5432}
  - {name: odd, port: 84, appProtocol: example.com/odd}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ledger-0, namespace: bank, labels: {app: ledger}}
spec:
  serviceAccountName: books
  containers:
  - name: ledger
    ports: [{name: web, containerPort: 8080}, {name: grpc, containerPort: 50051}]
    readinessProbe: {httpGet: {path: /ready, port: web}}
    livenessProbe: {httpGet: {port: 8080}}
status: {phase: Running, podIP: 10.77.0.5, conditions: [{type: Ready, status: 'True'}]}
";

fn outbound_policy(port: u16) -> OutboundPolicy {
    let snapshot = Snapshot::of(BANK, "");
    outbound::of_service(
        &snapshot,
        &MeshConfig::for_tests(),
        snapshot.find_service("bank", "ledger").unwrap(),
        port,
        "web",
    )
    .policy
}

#[test]
fn outbound_detects() {
    insta::assert_debug_snapshot!(outbound_policy(80));
}

#[test]
fn outbound_undefined_port_is_refused() {
    insta::assert_debug_snapshot!(outbound_policy(9999));
}

#[test]
fn outbound_protocol_is_what_the_service_says() {
    let kind = |port| match outbound_policy(port).protocol.unwrap().kind.unwrap() {
        proxy_protocol::Kind::Detect(_) => "detect",
        proxy_protocol::Kind::Opaque(_) => "opaque",
        proxy_protocol::Kind::Http1(_) => "http1",
        proxy_protocol::Kind::Http2(_) => "http2",
        proxy_protocol::Kind::Grpc(_) => "grpc",
        proxy_protocol::Kind::Tls(_) => "tls",
    };
    assert_eq!(
        [80, 81, 82, 83, 5432, 84].map(kind),
        ["detect", "grpc", "http1", "http2", "opaque", "opaque"]
    );
}

fn inbound_policy(written: &str, port: u16) -> Server {
    let snapshot = Snapshot::of(written, POD);
    let pod = snapshot.find_pod("bank", "ledger-0").unwrap();
    inbound::of_port(&snapshot, &MeshConfig::for_tests(), pod, port).server
}

/// Who comes in, a line an authorization: where from, as whom, by which rule.
fn who(server: &Server) -> Vec<String> {
    let net = |net: &sheer_api::linkerd::net::IpNetwork| ipnet::IpNet::try_from(*net).unwrap().to_string();
    let one = |authz: &sheer_api::linkerd::inbound::Authz| {
        let networks: Vec<_> = authz
            .networks
            .iter()
            .map(|network| {
                let except: Vec<_> = network.except.iter().map(net).collect();
                let except = if except.is_empty() {
                    String::new()
                } else {
                    format!(" but {}", except.join(" "))
                };
                net(network.net.as_ref().unwrap()) + &except
            })
            .collect();
        let clients = match authz.authentication.clone().unwrap().permit.unwrap() {
            authn::Permit::Unauthenticated(_) => "anybody".to_owned(),
            authn::Permit::MeshTls(tls) => match tls.clients.unwrap() {
                authn::permit_mesh_tls::Clients::Unauthenticated(_) => "any TLS".to_owned(),
                authn::permit_mesh_tls::Clients::Identities(clients) => {
                    let names = clients.identities.into_iter().map(|identity| identity.name);
                    let suffixes = clients
                        .suffixes
                        .into_iter()
                        .map(|suffix| format!("*.{}", suffix.parts.join(".")));
                    names.chain(suffixes).collect::<Vec<_>>().join(" or ")
                }
            },
        };
        let rule = match authz.metadata.clone().unwrap().kind.unwrap() {
            metadata::Kind::Default(name) => name,
            metadata::Kind::Resource(resource) => format!("{}/{}", resource.kind, resource.name),
        };
        assert_eq!(authz.labels.len(), 3, "older proxies read labels instead of metadata");
        format!("{rule}: {clients} from {}", networks.join(", "))
    };
    server.authorizations.iter().map(one).collect()
}

#[test]
fn default_policies() {
    let of = |policy: &str| {
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: bank, annotations: {{config.linkerd.io/default-inbound-policy: {policy}}}}}\n"
        );
        let server = inbound_policy(&namespace, 50051);
        assert_eq!(
            (server.labels["kind"].as_str(), server.labels["name"].as_str()),
            ("default", policy)
        );
        who(&server).join("; ")
    };
    assert_eq!(
        of("all-unauthenticated"),
        "all-unauthenticated: anybody from 0.0.0.0/0, ::/0"
    );
    assert_eq!(of("all-authenticated"), "all-authenticated: *. from 0.0.0.0/0, ::/0");
    assert_eq!(
        of("cluster-unauthenticated"),
        "cluster-unauthenticated: anybody from 10.77.0.0/16"
    );
    assert_eq!(
        of("cluster-authenticated"),
        "cluster-authenticated: *. from 10.77.0.0/16"
    );
    assert_eq!(
        of("all-tls-unauthenticated"),
        "all-tls-unauthenticated: any TLS from 0.0.0.0/0, ::/0"
    );
    assert_eq!(of("audit"), "audit: anybody from 0.0.0.0/0, ::/0");
    assert_eq!(of("deny"), "");
    assert_eq!(
        who(&inbound_policy("", 50051)),
        ["all-unauthenticated: anybody from 0.0.0.0/0, ::/0"],
        "the mesh's own default"
    );
}

#[test]
fn probes_are_let_in_whatever_the_policy() {
    let deny = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bank, annotations: {config.linkerd.io/default-inbound-policy: deny}}\n";
    let routes = |port| match inbound_policy(deny, port).protocol.unwrap().kind.unwrap() {
        inbound_protocol::Kind::Detect(detect) => detect.http_routes,
        other => panic!("{other:?}"),
    };
    assert_eq!(routes(50051).len(), 1, "no probe on this port");
    let [default, probe] = &routes(8080)[..] else { panic!() };
    assert!(default.authorizations.is_empty());
    let paths: Vec<_> = probe.rules[0]
        .matches
        .iter()
        .map(|m| m.path.clone().unwrap().kind.unwrap())
        .collect();
    use sheer_api::linkerd::http_route::path_match::Kind;
    assert_eq!(paths, [Kind::Exact("/".to_owned()), Kind::Exact("/ready".to_owned())]);
    assert!(probe.rules[0].matches.iter().all(|m| m.method.is_some()), "GET only");
    assert_eq!(probe.authorizations.len(), 1);
}

const SERVER: &str = "
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: {name: ledger-grpc, namespace: bank}
spec: {podSelector: {matchLabels: {app: ledger}}, port: grpc, proxyProtocol: gRPC}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: bank}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: ledger-grpc}
  requiredAuthenticationRefs:
  - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: callers}
  - {group: policy.linkerd.io, kind: NetworkAuthentication, name: here, namespace: shared}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: callers, namespace: bank}
spec:
  identities: ['*.partner.example']
  identityRefs: [{kind: ServiceAccount, name: payments}, {kind: Namespace, name: ops}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: here, namespace: shared}
spec: {networks: [{cidr: 10.77.0.0/16, except: [10.77.9.0/24, 10.77.8.1]}]}
";

#[test]
fn a_server_lets_in_whom_its_policies_name() {
    let server = inbound_policy(SERVER, 50051);
    assert!(matches!(
        server.protocol.as_ref().unwrap().kind,
        Some(inbound_protocol::Kind::Grpc(_))
    ));
    assert_eq!(
        (server.labels["kind"].as_str(), server.labels["name"].as_str()),
        ("server", "ledger-grpc")
    );
    assert_eq!(
        who(&server),
        [
            "authorizationpolicy/callers: payments.bank.serviceaccount.identity.sheer.cluster.local or *.partner.example or \
          *.ops.serviceaccount.identity.sheer.cluster.local from 10.77.0.0/16 but 10.77.9.0/24 10.77.8.1/32"
        ]
    );
    assert_eq!(
        inbound_policy(SERVER, 8080).labels["kind"],
        "default",
        "another port of the pod is not the Server's"
    );
}

#[test]
fn a_policy_that_cannot_be_fulfilled_lets_nobody_in() {
    let missing = SERVER.replace("metadata: {name: here, ", "metadata: {name: there, ");
    assert_eq!(who(&inbound_policy(&missing, 50051)), [""; 0]);
    let alone = SERVER.split("---").next().unwrap();
    assert_eq!(
        who(&inbound_policy(alone, 50051)),
        [""; 0],
        "a Server without policies denies"
    );
    let open = alone.replace(
        "proxyProtocol: gRPC",
        "proxyProtocol: gRPC, accessPolicy: all-authenticated",
    );
    assert_eq!(
        who(&inbound_policy(&open, 50051)),
        ["all-authenticated: *. from 0.0.0.0/0, ::/0"]
    );
}

#[test]
fn a_policy_of_the_namespace_is_for_all_its_servers() {
    let policy = "---\napiVersion: policy.sheer.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: all, namespace: bank}\nspec: {targetRef: {kind: Namespace, name: bank}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: payments}]}\n";
    let written = SERVER.split("---").next().unwrap().to_owned() + policy;
    assert_eq!(
        who(&inbound_policy(&written, 50051)),
        ["authorizationpolicy/all: payments.bank.serviceaccount.identity.sheer.cluster.local from 0.0.0.0/0, ::/0"]
    );
}
