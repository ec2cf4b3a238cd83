//! Gateway API's conformance cases for meshes: what each of them sends, and where it has to go.

use super::*;

#[test]
fn mesh_basic() {
    let policy = policy_of(&echoes(), "mesh", "mesh/echo", 80);
    assert_decisions(&policy, &[("GET /", "echo:80")]);
    assert_eq!(rule_for(&policy, "GET /").unwrap().route, ObjectRef::default_of("http"));
}

/// A parent is the address of its Service, whatever host a request names.
#[test]
fn mesh_frontend_and_hostname() {
    let route = http_route(
        "frontend",
        "echo-v2",
        "  rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Header-Set, value: set}]}}]}]\n",
    );
    let written = echoes() + &route;
    let [v1, v2] = ["mesh/echo-v1", "mesh/echo-v2"].map(|service| policy_of(&written, "mesh", service, 80));
    let set = "response =x-header-set=set, echo-v2:80";
    assert_decisions(&v2, &[("GET / host=echo-v2", set), ("GET / host=echo-v1", set)]);
    assert_decisions(
        &v1,
        &[
            ("GET / host=echo-v1", "echo-v1:80"),
            ("GET / host=echo-v2", "echo-v1:80"),
        ],
    );
}

#[test]
fn mesh_split() {
    let route = http_route(
        "split",
        "echo",
        "
  rules:
  - matches: [{path: {type: Exact, value: /v1}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: Exact, value: /v2}}]
    backendRefs: [{name: echo-v2, port: 80}]
",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_decisions(
        &policy,
        &[
            ("GET /v1", "echo-v1:80*1"),
            ("GET /v2", "echo-v2:80*1"),
            // A route replaces what a Service does without one.
            ("GET /v3", "no route"),
        ],
    );
}

#[test]
fn mesh_ports() {
    let of_port = |name: &str, parent: &str, value: &str| {
        format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: echo, {parent}}}]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Header-Set, value: {value}}}]}}}}]
    backendRefs: [{{name: echo, port: 80}}]
"
        )
    };
    let written = echoes() + &of_port("one", "port: 80", "v1") + &of_port("two", "sectionName: http-alt", "v2");
    let decide = |port| decide(&policy_of(&written, "mesh", "mesh/echo", port), "GET /");
    assert_eq!(decide(80), "response =x-header-set=v1, echo:80*1");
    assert_eq!(decide(8080), "response =x-header-set=v2, echo:80*1");
    let every = echoes() + &of_port("both", "namespace: mesh", "all");
    assert_eq!(
        [80, 8080].map(|port| self::decide(&policy_of(&every, "mesh", "mesh/echo", port), "GET /")),
        [
            "response =x-header-set=all, echo:80*1",
            "response =x-header-set=all, echo:80*1"
        ]
    );
}

#[test]
fn mesh_httproute_matching() {
    let route = http_route(
        "matching",
        "echo",
        "
  rules:
  - matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    let (v1, v2) = ("echo-v1:8080*1", "echo-v2:8080*1");
    assert_decisions(
        &policy,
        &[
            ("GET /", v1),
            ("GET /example", v1),
            ("GET / version=one", v1),
            ("GET /v2", v2),
            ("GET /v2/example", v2),
            ("GET / version=two", v2),
            ("GET /v2/", v2),
            ("GET /v2example", v1),
            ("GET /foo/v2/example", v1),
        ],
    );
}

#[test]
fn mesh_httproute_query_param_matching() {
    let route = http_route(
        "query",
        "echo",
        "
  rules:
  - matches: [{queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{queryParams: [{name: animal, value: dolphin}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
  - matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}, {queryParams: [{name: ANIMAL, value: Whale}]}]
    backendRefs: [{name: echo, port: 8080}]
",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_decisions(
        &policy,
        &[
            ("GET /?animal=whale", "echo-v1:8080*1"),
            ("GET /?animal=dolphin", "echo-v2:8080*1"),
            ("GET /?animal=dolphin&color=blue", "echo:8080*1"),
            ("GET /?color=blue&animal=dolphin", "echo:8080*1"),
            ("GET /?ANIMAL=Whale", "echo:8080*1"),
            ("GET /?animal=whale&otherparam=irrelevant", "echo-v1:8080*1"),
            ("GET /?color=blue", "no route"),
            ("GET /?animal=dog", "no route"),
            ("GET /?animal=whaledolphin", "no route"),
            ("GET /", "no route"),
        ],
    );
}

#[test]
fn mesh_httproute_request_header_modifier() {
    let route = http_route(
        "headers",
        "echo",
        "
  rules:
  - matches: [{path: {value: /set}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set-overwrites-values}]}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {value: /multiple}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Header-Set-1, value: header-set-1}, {name: X-Header-Set-2, value: header-set-2}]
        add: [{name: X-Header-Add-1, value: header-add-1}]
        remove: [X-Header-Remove-1, X-Header-Remove-2]
    backendRefs: [{name: echo-v1, port: 80}]
",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_decisions(
        &policy,
        &[
            ("GET /set", "request =x-header-set=set-overwrites-values, echo-v1:80*1"),
            (
                "GET /multiple",
                "request +x-header-add-1=header-add-1 =x-header-set-1=header-set-1 =x-header-set-2=header-set-2 -x-header-remove-1 -x-header-remove-2, echo-v1:80*1",
            ),
        ],
    );
}

/// Redirects by host, status (301, 302, 303, 307, 308), path, port and scheme.
#[test]
fn mesh_httproute_redirects() {
    let redirect = |path: &str, said: &str| {
        format!(
            "  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{{type: RequestRedirect, requestRedirect: {{{said}}}}}]\n"
        )
    };
    let rules = "  rules:\n".to_owned()
        + &redirect("/hostname", "hostname: example.org")
        + &redirect("/status", "statusCode: 301")
        + &redirect("/303", "statusCode: 303, hostname: example.org")
        + &redirect("/307", "statusCode: 307")
        + &redirect("/308", "statusCode: 308")
        + &redirect("/full", "path: {type: ReplaceFullPath, replaceFullPath: /new}")
        + &redirect(
            "/original-prefix",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}",
        )
        + &redirect("/port", "port: 8083")
        + &redirect("/scheme", "scheme: https, port: 443");
    let policy = policy_of(
        &(echoes() + &http_route("redirect", "echo", &rules)),
        "mesh",
        "mesh/echo",
        80,
    );
    assert_decisions(
        &policy,
        &[
            ("GET /hostname", "302 host example.org, echo:80"),
            ("GET /status", "301, echo:80"),
            ("GET /303", "303 host example.org, echo:80"),
            ("GET /307", "307, echo:80"),
            ("GET /308", "308, echo:80"),
            ("GET /full/x", "302 path /new, echo:80"),
            ("GET /original-prefix/lemon", "302 prefix /replacement-prefix, echo:80"),
            ("GET /port", "302 port 8083, echo:80"),
            ("GET /scheme", "302 https port 443, echo:80"),
        ],
    );
}

#[test]
fn mesh_httproute_rewrite_path() {
    let rewrite = |path: &str, said: &str| {
        format!(
            "  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{{type: URLRewrite, urlRewrite: {{{said}}}}}]\n    backendRefs: [{{name: echo-v1, port: 80}}]\n"
        )
    };
    let rules = "  rules:\n".to_owned()
        + &rewrite(
            "/prefix/one",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}",
        )
        + &rewrite(
            "/strip-prefix",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}",
        )
        + &rewrite("/full/one", "path: {type: ReplaceFullPath, replaceFullPath: /one}")
        + &rewrite("/host", "hostname: one.example.org");
    let policy = policy_of(
        &(echoes() + &http_route("rewrite", "echo", &rules)),
        "mesh",
        "mesh/echo",
        80,
    );
    assert_decisions(
        &policy,
        &[
            ("GET /prefix/one/two", "rewrite prefix /one, echo-v1:80*1"),
            ("GET /strip-prefix/three", "rewrite prefix /, echo-v1:80*1"),
            ("GET /full/one/two", "rewrite path /one, echo-v1:80*1"),
            ("GET /host", "rewrite host one.example.org, echo-v1:80*1"),
        ],
    );
}

#[test]
fn mesh_httproute_weight() {
    let weighted = |v1, v2| {
        let rules = format!(
            "  rules: [{{backendRefs: [{{name: echo-v1, port: 8080, weight: {v1}}}, {{name: echo-v2, port: 8080, weight: {v2}}}]}}]\n"
        );
        let policy = policy_of(
            &(echoes() + &http_route("weight", "echo", &rules)),
            "mesh",
            "mesh/echo",
            80,
        );
        decide(&policy, "GET /")
    };
    assert_eq!(weighted(70, 30), "echo-v1:8080*70 echo-v2:8080*30");
    assert_eq!(weighted(1, 0), "echo-v1:8080*1 echo-v2:8080*0");
    assert_eq!(
        weighted(0, 0),
        "invalid[abort Http(500) 1/1: every backend of the rule has weight 0]*1",
        "nothing is forwarded"
    );
}

#[test]
fn mesh_httproute_named_rule() {
    let route = http_route(
        "named",
        "echo",
        "
  rules:
  - {name: named-rule, matches: [{path: {type: Exact, value: /named}}], backendRefs: [{name: echo-v1, port: 80}]}
  - {matches: [{path: {type: Exact, value: /unnamed}}], backendRefs: [{name: echo-v2, port: 80}]}
",
    );
    let policy = policy_of(&(echoes() + &route), "mesh", "mesh/echo", 80);
    assert_decisions(
        &policy,
        &[("GET /named", "echo-v1:80*1"), ("GET /unnamed", "echo-v2:80*1")],
    );
}

#[test]
fn mesh_httproute_mirror() {
    let rules = "  rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 80}, percent: 20}}], backendRefs: [{name: echo-v1, port: 80}]}]\n";
    let policy = policy_of(
        &(echoes() + &http_route("mirror", "echo", rules)),
        "mesh",
        "mesh/echo",
        80,
    );
    assert_decisions(&policy, &[("GET /", "mirror 20/100 to echo-v2:80, echo-v1:80*1")]);
}

#[test]
fn mesh_consumer_route() {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: consumer, namespace: consumer}
spec:
  parentRefs: [{group: '', kind: Service, name: echo-v1, namespace: mesh, port: 80}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Header-Set, value: set}]}}]
    backendRefs: [{name: echo-v1, namespace: mesh, port: 80}]
";
    let producer = http_route(
        "producer",
        "echo-v1",
        "  rules: [{backendRefs: [{name: echo-v2, port: 80}]}]\n",
    );
    let (alone, both) = (echoes() + route, echoes() + route + &producer);
    let decide = |written: &str, client, port| decide(&policy_of(written, client, "mesh/echo-v1", port), "GET /");
    // The client may go to the parent anyhow: no grant is asked for.
    assert_eq!(
        decide(&alone, "consumer", 80),
        "response =x-header-set=set, echo-v1:80*1"
    );
    assert_eq!(decide(&alone, "consumer", 8080), "echo-v1:8080");
    assert_eq!(decide(&alone, "other", 80), "echo-v1:80");
    assert_eq!(
        decide(&both, "consumer", 80),
        "response =x-header-set=set, echo-v1:80*1",
        "consumer routes replace those of the producer"
    );
    assert_eq!(decide(&both, "other", 80), "echo-v2:80*1");
}

fn grpc_route(rules: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: grpc, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: echo, port: 7070}}]
{rules}"
    )
}

#[test]
fn mesh_grpcroute_weight() {
    let rules = "  rules: [{backendRefs: [{name: echo-v1, port: 7070, weight: 90}, {name: echo-v2, port: 7070, weight: 10}, {name: echo, port: 7070, weight: 0}]}]\n";
    let policy = policy_of(&(echoes() + &grpc_route(rules)), "mesh", "mesh/echo", 7070);
    assert_decisions(
        &policy,
        &[(
            "POST /proto.EchoTestService/Echo",
            "echo-v1:7070*90 echo-v2:7070*10 echo:7070*0",
        )],
    );
    assert!(rule_for(&policy, "POST /a/b").unwrap().is_grpc);
}

#[test]
fn mesh_grpcroute_request_header_modifier_and_mirror() {
    let rules = "
  rules:
  - matches: [{method: {service: proto.EchoTestService, method: Echo}, headers: [{name: x, value: '1'}]}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Header-Add, value: add}], remove: [X-Header-Remove]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: set}]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 7070}}}
    backendRefs: [{name: echo-v1, port: 7070}]
";
    let policy = policy_of(&(echoes() + &grpc_route(rules)), "mesh", "mesh/echo", 7070);
    assert_decisions(
        &policy,
        &[
            (
                "POST /proto.EchoTestService/Echo x=1",
                "request +x-header-add=add -x-header-remove, response =x-answer=set, mirror 1/1 to echo-v2:7070, echo-v1:7070*1",
            ),
            ("POST /proto.EchoTestService/Echo", "no route"),
        ],
    );
}

#[test]
fn mesh_grpcroute_matching() {
    let rules = "
  rules:
  - matches: [{method: {service: bank.Ledger, method: Post}}]
    backendRefs: [{name: echo-v1, port: 7070}]
  - matches: [{method: {service: bank.Ledger}}, {method: {method: Health}}]
    backendRefs: [{name: echo-v2, port: 7070}]
  - matches: [{method: {type: RegularExpression, service: 'acme\\.[a-z]+', method: 'Get.*'}}, {method: {type: RegularExpression, method: List|Scan}}]
    backendRefs: [{name: echo, port: 7070}]
";
    let written = echoes() + &grpc_route(rules);
    let policy = policy_of(&written, "mesh", "mesh/echo", 7070);
    assert_decisions(
        &policy,
        &[
            ("POST /bank.Ledger/Post", "echo-v1:7070*1"),
            ("POST /bank.Ledger/Read", "echo-v2:7070*1"),
            ("POST /any.Service/Health", "echo-v2:7070*1"),
            ("POST /acme.books/GetOne", "echo:7070*1"),
            ("POST /acme.Books/GetOne", "no route"),
            ("POST /acme.books/Put", "no route"),
            ("POST /any.Service/Scan", "echo:7070*1"),
            ("POST /any.Service/Scanner", "no route"),
        ],
    );
    // A proxy without the extras matches too little, never too much.
    let snapshot = Snapshot::of(&written, "");
    let service = snapshot.find_service("mesh", "echo").unwrap();
    let compiled = of_service(&snapshot, &MeshConfig::for_tests(), service, 7070, "mesh");
    let plain = sheer_policy::wire::outbound::policy(compiled.policy, None, DETECT_TIMEOUT);
    assert_decisions(
        &plain,
        &[
            ("POST /bank.Ledger/Post", "echo-v1:7070*1"),
            ("POST /acme.books/GetOne", "no route"),
            ("POST /any.Service/Scan", "no route"),
        ],
    );
}
