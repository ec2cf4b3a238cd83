//! Objects in, whole decisions out: what the control plane sends, read as a proxy reads it and asked as a proxy asks it.

use std::time::Duration;

use http::{HeaderMap, Method};
use sheer_policy::{
    ProtocolPlan,
    inbound::{Authentication, Authorization, InboundPolicy},
    outbound::{AbortAnswer, Filter},
    routes::RequestView,
    wire,
};

use super::*;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ledger-0, namespace: bank, labels: {app: ledger}}
spec:
  containers:
  - name: ledger
    ports: [{name: web, containerPort: 8080}, {name: grpc, containerPort: 50051}]
    readinessProbe: {httpGet: {path: /ready, port: web}}
status: {phase: Running, podIP: 10.77.0.5}
";

const WEB: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: bank, labels: {team: books}}
spec: {podSelector: {matchLabels: {app: ledger}}, port: web}
";

const GRPC: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: grpc, namespace: bank}
spec: {podSelector: {matchLabels: {app: ledger}}, port: grpc, proxyProtocol: gRPC}
";

/// Two routes of the web port, of which one has a policy.
const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: admin, namespace: bank}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  hostnames: ['ledger.bank', '*.example.com']
  rules:
  - matches: [{path: {value: /admin}, method: POST}, {path: {type: RegularExpression, value: '/v[0-9]/admin'}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: books}]}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: public, namespace: bank}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  rules: [{matches: [{path: {type: Exact, value: /public}}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: admins, namespace: bank}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: admin}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: ops}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: bank}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: payments}]
";

fn compiled(written: &str, port: u16) -> Compiled {
    let snapshot = Snapshot::of(written, POD);
    let pod = snapshot.find_pod("bank", "ledger-0").unwrap();
    of_port(&snapshot, &MeshConfig::for_tests(), pod, port)
}

fn sent(written: &str, port: u16) -> api::Server {
    compiled(written, port).server
}

fn policy(written: &str, port: u16) -> InboundPolicy {
    let Compiled { server, extras } = compiled(written, port);
    wire::inbound::policy(server, Some(&extras), Duration::from_secs(10))
}

/// A line each: whom, by which rule.
fn who(authorizations: &[Authorization]) -> Vec<String> {
    let one = |rule: &Authorization| {
        let clients = match &rule.authentication {
            Authentication::Unauthenticated => "anybody".to_owned(),
            Authentication::MeshTlsAny => "any TLS".to_owned(),
            Authentication::MeshTls { identities, suffixes } => {
                let names = identities
                    .iter()
                    .map(|name| name.split('.').take(2).collect::<Vec<_>>().join("."));
                let suffixes = suffixes.iter().map(|suffix| format!("*.{}", suffix.join(".")));
                names.chain(suffixes).collect::<Vec<_>>().join(" or ")
            }
        };
        format!("{}: {clients} from {}", rule.policy, rule.networks[0].0)
    };
    authorizations.iter().map(one).collect()
}

/// The route that takes a request, and whom it lets in beside the Server.
fn taken(policy: &InboundPolicy, method: &Method, host: &str, path: &str) -> (String, Vec<String>) {
    let view = RequestView {
        method,
        host: Some(host),
        path,
        query: None,
        headers: &HeaderMap::new(),
    };
    policy
        .routes
        .find(&view)
        .map_or(("nothing".to_owned(), vec![]), |found| {
            (found.rule.route.to_string(), who(&found.rule.action.authorizations))
        })
}

#[test]
fn routes_of_a_server_decide_with_it() {
    let policy = policy(&format!("{WEB}{ROUTES}"), 8080);
    assert_eq!(policy.server.to_string(), "Server bank/web");
    assert_eq!(
        who(&policy.authorizations),
        ["AuthorizationPolicy bank/callers: payments.bank from 0.0.0.0/0"]
    );
    let admins = || vec!["AuthorizationPolicy bank/admins: ops.bank from 0.0.0.0/0".to_owned()];
    let probes = || vec!["default probe: anybody from 0.0.0.0/0".to_owned()];
    for (method, host, path, expected) in [
        (
            Method::POST,
            "ledger.bank",
            "/admin/x",
            ("HTTPRoute bank/admin", admins()),
        ),
        (
            Method::GET,
            "a.example.com",
            "/v2/admin",
            ("HTTPRoute bank/admin", admins()),
        ),
        (Method::GET, "ledger.bank", "/admin", ("nothing", vec![])),
        (Method::POST, "example.com", "/admin", ("nothing", vec![])),
        (Method::GET, "any", "/public", ("HTTPRoute bank/public", vec![])),
        (Method::GET, "any", "/public/x", ("nothing", vec![])),
        // Still let through where users have routes of their own.
        (Method::GET, "any", "/ready", ("default probe", probes())),
        (Method::POST, "any", "/ready", ("nothing", vec![])),
    ] {
        let (route, extended) = taken(&policy, &method, host, path);
        assert_eq!((route.as_str(), extended), expected, "{method} {host} {path}");
    }
    let [admin, ..] = policy.routes.rules() else { panic!() };
    let group = |rule: &sheer_policy::routes::Rule<_>| rule.route.group.clone();
    assert_eq!(group(admin), "gateway.networking.k8s.io");
    assert_eq!(group(&policy.routes.rules()[1]), "policy.linkerd.io");
    assert!(matches!(&admin.action.filters[..], [Filter::RequestHeaders(change)] if change.set["x-team"] == "books"));
}

/// It could open a port that is not its own, or take its requests.
#[test]
fn a_route_of_another_namespace_has_no_effect() {
    let other = ROUTES.replace("{name: admin, namespace: bank}", "{name: admin, namespace: evil}");
    let other = other.replace(
        "kind: Server, name: web}]\n  hostnames",
        "kind: Server, name: web, namespace: bank}]\n  hostnames",
    );
    let policy = policy(&format!("{WEB}{other}"), 8080);
    assert_eq!(taken(&policy, &Method::POST, "ledger.bank", "/admin").0, "nothing");
    assert_eq!(
        taken(&policy, &Method::GET, "ledger.bank", "/public").0,
        "HTTPRoute bank/public"
    );
}

const GRPC_ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: pay, namespace: bank}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: grpc}]
  rules: [{matches: [{method: {service: bank.Ledger, method: Pay}}, {method: {service: bank.Audit}}, {method: {method: Ping}}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: payers, namespace: bank}
spec: {targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: pay}, requiredAuthenticationRefs: []}
";

const LIMIT: &str = "
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: slow, namespace: bank}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: grpc}
  total: {requestsPerSecond: 100}
  identity: {requestsPerSecond: 20}
  overrides: [{requestsPerSecond: 50, clientRefs: [{kind: ServiceAccount, name: payments}, {kind: ServiceAccount, name: ops, namespace: ops}]}]
";

/// Linkerd's form of gRPC where it can say all, and the same rules in the form of HTTP where it cannot.
#[test]
fn grpc_routes_mean_the_same_in_either_form() {
    let by_regex = GRPC_ROUTE.replace(
        "{service: bank.Audit}",
        "{type: RegularExpression, service: 'bank[.]Aud.*'}",
    );
    for (objects, is_grpc) in [
        (GRPC_ROUTE.to_owned(), true),
        (format!("{GRPC_ROUTE}{LIMIT}"), false),
        (by_regex, false),
    ] {
        let sent = sent(&format!("{GRPC}{objects}"), 50051);
        let kind = sent.protocol.clone().unwrap().kind.unwrap();
        assert_eq!(matches!(kind, Kind::Grpc(_)), is_grpc, "{kind:?}");
        let policy = wire::inbound::policy(sent, None, Duration::from_secs(10));
        assert_eq!(policy.protocol, ProtocolPlan::Http2);
        assert_eq!(policy.rate_limit.is_some(), objects.contains("slow"));
        for (path, expected) in [
            ("/bank.Ledger/Pay", "GRPCRoute bank/pay"),
            ("/bank.Audit/Any", "GRPCRoute bank/pay"),
            ("/any.Service/Ping", "GRPCRoute bank/pay"),
            ("/bank.Ledger/Steal", "nothing"),
            ("/bankXLedger/Pay", "nothing"),
        ] {
            let (route, extended) = taken(&policy, &Method::POST, "ledger", path);
            assert_eq!(route, expected, "{path}");
            assert_eq!(extended.is_empty(), expected == "nothing", "{path}");
        }
    }
}

#[test]
fn a_limit_names_identities() {
    let policy = policy(&format!("{GRPC}{LIMIT}"), 50051);
    let limit = policy.rate_limit.unwrap();
    assert_eq!(limit.policy.to_string(), "HTTPLocalRateLimitPolicy bank/slow");
    assert_eq!((limit.total, limit.identity), (Some(100), Some(20)));
    let [over] = &limit.overrides[..] else { panic!() };
    assert_eq!(over.requests_per_second, 50);
    assert_eq!(
        over.identities,
        [
            "payments.bank.serviceaccount.identity.sheer.cluster.local",
            "ops.ops.serviceaccount.identity.sheer.cluster.local"
        ]
    );
}

#[test]
fn filters_that_cannot_be_applied_are_not_skipped() {
    let mirror = ROUTES.replace(
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: books}]}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: ledger, port: 80}}}",
    );
    let policy = policy(&format!("{WEB}{mirror}"), 8080);
    let [Filter::Abort(abort)] = &policy.routes.rules()[0].action.filters[..] else {
        panic!()
    };
    assert!(matches!(abort.answer, AbortAnswer::Http(status) if status == 500));
    assert!(abort.message.contains("RequestMirror"), "{}", abort.message);
}

/// What Linkerd's API has no words for goes beside it: a linkerd2-proxy does less, never something else.
#[test]
fn filters_without_words_are_told_in_extras() {
    let fault = "---
apiVersion: policy.sheer.dev/v1alpha1
kind: HTTPFault
metadata: {name: slow, namespace: bank}
spec: {delay: {duration: 20ms}, abort: {httpStatus: 503, percent: 50}}
";
    let filters = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: books}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}
    - {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /api}}}
    - {type: ExtensionRef, extensionRef: {group: policy.sheer.dev, kind: HTTPFault, name: slow}}";
    let one = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: books}]}}";
    let written = format!("{WEB}{}{fault}", ROUTES.replace(one, filters));
    let kinds = |policy: &InboundPolicy| {
        let filters = policy.routes.rules()[0].action.filters.iter();
        let kinds = filters.map(|filter| match filter {
            Filter::RequestHeaders(_) => "request",
            Filter::ResponseHeaders(_) => "response",
            Filter::Rewrite(_) => "rewrite",
            Filter::Delay(_) => "delay",
            Filter::Abort(_) => "abort",
            Filter::Redirect(_) => "redirect",
        });
        kinds.collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&policy(&written, 8080)),
        ["request", "response", "rewrite", "delay", "abort"]
    );
    let alone = wire::inbound::policy(sent(&written, 8080), None, Duration::from_secs(10));
    assert_eq!(kinds(&alone), ["request"]);

    let grpc = GRPC_ROUTE.replace(
        "{method: {method: Ping}}]}]",
        "{method: {method: Ping}}], filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}]}]",
    );
    assert_ne!(grpc, GRPC_ROUTE);
    for limit in ["", LIMIT] {
        let policy = policy(&format!("{GRPC}{grpc}{limit}"), 50051);
        assert_eq!(kinds(&policy), ["response"], "in either form");
    }
}

#[test]
fn older_authorizations_let_in_whom_they_name() {
    let older = |server: &str, client: &str| {
        format!(
            "{WEB}---\napiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {{name: old, namespace: bank}}\n\
             spec: {{server: {server}, client: {client}}}\n"
        )
    };
    for (server, client, expected) in [
        (
            "{name: web}",
            "{unauthenticated: true, networks: [{cidr: 10.0.0.0/8}]}",
            "anybody from 10.0.0.0/8",
        ),
        (
            "{selector: {matchLabels: {team: books}}}",
            "{meshTLS: {unauthenticatedTLS: true}}",
            "any TLS from 0.0.0.0/0",
        ),
        (
            "{name: web}",
            "{meshTLS: {identities: ['*.x.example'], serviceAccounts: [{name: payments}]}}",
            "payments.bank or *.x.example from 0.0.0.0/0",
        ),
    ] {
        let policy = policy(&older(server, client), 8080);
        assert_eq!(
            who(&policy.authorizations),
            [format!("ServerAuthorization bank/old: {expected}")]
        );
    }
    for server in ["{name: other}", "{selector: {matchLabels: {team: other}}}"] {
        assert_eq!(
            who(&policy(&older(server, "{unauthenticated: true}"), 8080).authorizations),
            [""; 0]
        );
    }
}

#[test]
fn ports_that_require_an_identity_are_let_in_with_one_only() {
    let of = |policy: &str, port: u16| {
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: bank\n  annotations:\n    config.linkerd.io/default-inbound-policy: {policy}\n    \
             config.linkerd.io/proxy-require-identity-inbound-ports: '8000-8999'\n"
        );
        self::policy(&namespace, port).server.name
    };
    assert_eq!(of("all-unauthenticated", 8080), "all-authenticated");
    assert_eq!(of("all-unauthenticated", 50051), "all-unauthenticated");
    assert_eq!(of("cluster-unauthenticated", 8080), "cluster-authenticated");
    assert_eq!(
        (of("deny", 8080).as_str(), of("audit", 8080).as_str()),
        ("deny", "audit")
    );
}

/// Who has a rule is counted under that rule, and only the rest under `audit`.
#[test]
fn the_default_policy_of_a_server_comes_last() {
    let audited = WEB.replace("port: web}", "port: web, accessPolicy: audit}");
    let policy = policy(&format!("{audited}{ROUTES}"), 8080);
    assert_eq!(
        who(&policy.authorizations),
        [
            "AuthorizationPolicy bank/callers: payments.bank from 0.0.0.0/0",
            "default audit: anybody from 0.0.0.0/0"
        ]
    );
}
