use std::fmt::Write;

use super::*;

fn findings(text: &str) -> String {
    let loaded = parse(Path::new("bank.yaml"), text);
    loaded.findings.iter().fold(String::new(), |mut all, finding| {
        writeln!(all, "{finding}").unwrap();
        all
    })
}

const LEDGER: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ledger
  namespace: bank
spec:
  replicas: 3
  selector:
    matchLabels: {app: ledger}
  template:
    metadata:
      labels: {app: ledger}
      annotations:
        config.linkerd.io/opaque-ports: '5432'
    spec:
      serviceAccountName: ledger
      containers:
      - name: ledger
        image: bank:1
        command: [bank, ledger]
        env:
        - name: POD
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        ports:
        - {name: grpc, containerPort: 50051}
        readinessProbe:
          grpc: {port: 50051}
---
apiVersion: v1
kind: Service
metadata:
  name: ledger
  namespace: bank
  annotations:
spec:
  selector: {app: ledger}
  ports:
  - {port: 80, targetPort: grpc, appProtocol: grpc}
";

#[test]
fn a_good_file_has_objects_and_no_findings() {
    let loaded = parse(Path::new("bank.yaml"), LEDGER);
    assert_eq!(loaded.findings, []);
    let [deployment, service] = &loaded.manifests[..] else {
        panic!("{loaded:?}")
    };
    assert_eq!(
        (deployment.object.id().to_string().as_str(), deployment.line),
        ("Deployment bank/ledger", 1)
    );
    assert_eq!(
        (service.object.id().to_string().as_str(), service.line),
        ("Service bank/ledger", 29)
    );
    let Object::Deployment(deployment) = &deployment.object else {
        panic!("{deployment:?}")
    };
    assert_eq!(
        (
            deployment.spec.replicas,
            deployment.spec.template.spec.service_account()
        ),
        (3, "ledger")
    );
}

#[test]
fn json_and_lists_are_read_as_well() {
    let manifests = parse(Path::new("bank.yaml"), LEDGER).manifests;
    let items: Vec<_> = manifests.iter().map(|manifest| manifest.object.to_manifest()).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    let again = parse(Path::new("bank.json"), &serde_json::to_string_pretty(&list).unwrap());
    assert_eq!(again.findings, []);
    let objects = |loaded: &[Manifest]| {
        loaded
            .iter()
            .map(|manifest| manifest.object.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(objects(&again.manifests), objects(&manifests));
}

#[test]
fn wrong_types_and_missing_fields_are_named_with_line_and_field() {
    let broken = LEDGER
        .replace("replicas: 3", "replicas: three")
        .replace("  - {port: 80, ", "  - {port: 80000, ");
    insta::assert_snapshot!(findings(&broken), @r#"
    error: bank.yaml:7: Deployment bank/ledger: spec.replicas: invalid type: string "three", expected a whole number
    error: bank.yaml:38: Service bank/ledger: spec.ports[0].port: invalid value: integer `80000`, expected a whole number from 0 to 65535
    "#);
    let broken = LEDGER
        .replace("  selector:\n    matchLabels: {app: ledger}\n", "")
        .replace("matchLabels", "x");
    insta::assert_snapshot!(findings(&broken), @"error: bank.yaml:6: Deployment bank/ledger: spec: missing field `selector`");
    let broken = LEDGER.replace(
        "- name: POD\n          valueFrom: {fieldRef: {fieldPath: metadata.name}}",
        "- {name: PORT, value: 8080}",
    );
    insta::assert_snapshot!(findings(&broken), @"error: bank.yaml:22: Deployment bank/ledger: spec.template.spec.containers[0].env[0].value: invalid type: integer `8080`, expected a string: put it in quotes");
    assert_eq!(
        parse(Path::new("bank.yaml"), &broken).manifests,
        [],
        "nothing of a file with an error is taken over"
    );
}

#[test]
fn what_is_not_honoured_is_named() {
    let text = LEDGER
        .replace(
            "        image: bank:1\n",
            "        image: bank:1\n        volumeMounts: []\n        redinessProbe: {}\n",
        )
        .replace("        readinessProbe:", "        livenessProbe:")
        .replace(
            "  selector: {app: ledger}\n",
            "  selector: {app: ledger}\n  type: NodePort\n  sessionAffinity: None\n",
        )
        .replace(
            "        config.linkerd.io/opaque-ports: '5432'",
            "        config.linkerd.io/proxy-await: enabled\n        sheer.dev/injct: disabled",
        );
    let others = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: a, namespace: bank}\n---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\n---\n---\n# nothing\n";
    insta::assert_snapshot!(findings(&(text + others)), @r#"
    warning: bank.yaml:14: Deployment bank/ledger: spec.template.metadata.annotations["config.linkerd.io/proxy-await"]: not honoured: Linkerd's meaning does not apply
    warning: bank.yaml:15: Deployment bank/ledger: spec.template.metadata.annotations["sheer.dev/injct"]: not an annotation that Sheer knows: left out
    warning: bank.yaml:21: Deployment bank/ledger: spec.template.spec.containers[0].volumeMounts: not honoured: nothing is mounted, the program sees this machine's files
    warning: bank.yaml:22: Deployment bank/ledger: spec.template.spec.containers[0].redinessProbe: not a field that Sheer knows: left out; is it spelt and indented right?
    warning: bank.yaml:29: Deployment bank/ledger: spec.template.spec.containers[0].livenessProbe: not run: a program that ends is started again, one that hangs is not
    warning: bank.yaml:40: Service bank/ledger: spec.type: treated as ClusterIP: reach it from outside by the annotation sheer.dev/publish
    warning: bank.yaml:46: ConfigMap a: not honoured: nothing is mounted, and no variable is set from it
    warning: bank.yaml:50: Endpoints bank/a: not honoured: the endpoints of a Service are the ready pods that it selects
    warning: bank.yaml:54: Widget a: example.com/v1 Widget is not a type that Sheer knows: left out
    "#);
}

#[test]
fn values_that_no_type_holds_are_errors() {
    let text = LEDGER
        .replace("matchLabels: {app: ledger}", "matchLabels: {app: leger}")
        .replace("'5432'", "'5432,mysql'")
        .replace("grpc: {port: 50051}", "httpGet: {port: web}")
        .replace(
            "kind: Service\nmetadata:\n  name: ledger",
            "kind: Service\nmetadata:\n  name: Ledger_1",
        )
        .replace("- {port: 80,", "- {port: 80}\n  - {port: 80,");
    insta::assert_snapshot!(findings(&text), @r#"
    error: bank.yaml:8: Deployment bank/ledger: spec.selector: does not match spec.template.metadata.labels: the workload would not know its own pods
    error: bank.yaml:14: Deployment bank/ledger: spec.template.metadata.annotations["config.linkerd.io/opaque-ports"]: "mysql" is neither a port nor a range of ports
    error: bank.yaml:27: Deployment bank/ledger: spec.template.spec.containers[0].readinessProbe.httpGet.port: no container has a port named web
    error: bank.yaml:32: Service bank/Ledger_1: metadata.name: "Ledger_1" is not a name: lower-case letters, digits, '-' and '.', no more than 253 of them
    error: bank.yaml:38: Service bank/Ledger_1: spec.ports[0].name: missing: a Service with several ports names each of them
    error: bank.yaml:39: Service bank/Ledger_1: spec.ports[1].name: missing: a Service with several ports names each of them
    error: bank.yaml:39: Service bank/Ledger_1: spec.ports[1].port: 80 twice in one Service
    "#);
}

#[test]
fn broken_yaml_and_wrong_versions_are_errors() {
    insta::assert_snapshot!(findings("a: 1\nb: [\nc: }\n"), @"error: bank.yaml:2: is not valid YAML: mismatched bracket '[' closed by '}'");
    insta::assert_snapshot!(findings("apiVersion: v1\nkind: Service\nkind: Pod\n"), @"error: bank.yaml:3: is not valid YAML: duplicate mapping key: kind");
    insta::assert_snapshot!(findings("just text"), @"error: bank.yaml:1: not a Kubernetes object: apiVersion and kind must be given as text");
    insta::assert_snapshot!(findings("apiVersion: apps/v1beta1\nkind: Deployment\n"), @"error: bank.yaml:2: Deployment: apiVersion: Deployment is read as apps/v1, not as apps/v1beta1");
    insta::assert_snapshot!(findings("apiVersion: v1\nkind: Deployment\n"), @"error: bank.yaml:2: Deployment: apiVersion: Deployment is read as apps/v1, not as v1");
    insta::assert_snapshot!(findings("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"), @"warning: bank.yaml:2: AuthorizationPolicy: security.istio.io/v1 AuthorizationPolicy is not a type that Sheer knows: left out");
    insta::assert_snapshot!(findings("\u{0}\u{1}\t- %@`"), @r"error: bank.yaml:1: is not valid YAML: unexpected character: `\u{0}'");
}

#[test]
fn an_object_in_two_files_is_an_error_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.yaml"), LEDGER).unwrap();
    fs::write(path("b.yml"), LEDGER.split("---\n").nth(1).unwrap()).unwrap();
    fs::write(path("notes.txt"), "not: a manifest").unwrap();
    fs::write(path(".a.yaml.swp"), "not: a manifest").unwrap();
    let loaded = load(&[folder.path().to_owned(), path("a.yaml"), path("missing.yaml")]);
    assert_eq!(loaded.manifests.len(), 2);
    let text: Vec<String> = loaded
        .findings
        .iter()
        .map(|f| f.to_string().replace(&*folder.path().to_string_lossy(), ""))
        .collect();
    assert_eq!(
        text,
        [
            "error: /b.yml:1: Service bank/ledger: defined twice: also in /a.yaml:29, which stays in force",
            "error: /missing.yaml: cannot be read: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn references_that_lead_nowhere_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let text = LEDGER.to_owned()
        + "---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bank}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: bank}
spec: {selector: {app: ledger}, clusterIP: 10.0.0.1, ports: [{port: 80, targetPort: http, appProtocol: quic}]}
---
apiVersion: v1
kind: Service
metadata: {name: twin, namespace: bank}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}
---
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: {name: web, namespace: bank}
spec: {podSelector: {matchLabels: {app: web}}, port: 80}
---
apiVersion: policy.sheer.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: bank}
spec:
  targetRef: {kind: Server, name: ledger}
  requiredAuthenticationRefs: [{kind: MeshTLSAuthentication, name: callers}, {kind: ServiceAccount, name: payments}]
";
    fs::write(folder.path().join("bank.yaml"), text).unwrap();
    let loaded = load(&[folder.path().to_owned()]);
    assert_eq!(loaded.manifests.len(), 7, "all in force");
    let findings: Vec<String> = loaded
        .findings
        .iter()
        .map(|f| f.to_string().replace(&*folder.path().to_string_lossy(), ""))
        .collect();
    insta::assert_snapshot!(findings.join("\n"), @r#"
    warning: /bank.yaml:40: Service bank/web: spec.selector: matches no workload of namespace bank: the Service has no endpoints
    warning: /bank.yaml:45: Service bank/other: spec.ports[0].targetPort: no container that the Service selects has a port named http: this port has no endpoints
    warning: /bank.yaml:48: Service bank/other: spec.ports[0].appProtocol: "quic" is not known: the port is never inspected (known are http, h2c, grpc, tcp, https)
    warning: /bank.yaml:50: Service bank/twin: spec.clusterIP: 10.0.0.1 is the address of Service bank/other too (/bank.yaml:45): only one of them is reached
    warning: /bank.yaml:55: Server bank/web: spec.podSelector: matches no workload of namespace bank: the Server guards nothing
    warning: /bank.yaml:60: AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs: at most one NetworkAuthentication and one of MeshTLSAuthentication and ServiceAccount can be fulfilled: nobody is let in by this policy
    warning: /bank.yaml:60: AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs[0]: there is no MeshTLSAuthentication bank/callers: nobody is let in by this policy
    warning: /bank.yaml:60: AuthorizationPolicy bank/callers: spec.requiredAuthenticationRefs[1]: there is no ServiceAccount bank/payments, and no workload runs as it: nobody has this identity
    warning: /bank.yaml:60: AuthorizationPolicy bank/callers: spec.targetRef: there is no Server bank/ledger: the policy has no effect
    "#);
}

/// What is wrong with an HTTPRoute of which one field is given, without file and line.
fn of_rule(rule: &str) -> String {
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: a, namespace: bank}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: ledger}}], rules: [{{{rule}}}]}}\n"
    );
    findings(&route).replace("bank.yaml:4: HTTPRoute bank/a: spec.rules[0]", "")
}

#[test]
fn mistakes_in_routes_are_named_by_field() {
    let cases = [
        "matches: [{path: {value: books}}]",
        "matches: [{path: {type: RegularExpression, value: '(/a'}}]",
        "matches: [{path: {type: Prefix, value: /a}}]",
        "matches: [{headers: [{name: 'x y', value: a}]}]",
        "matches: [{method: 'GE T'}]",
        "filters: [{type: RequestRedirect}]",
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp, statusCode: 200}}]",
        "filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]",
        "matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]",
        "backendRefs: [{name: ledger}]",
        "timeouts: {request: 1s, backendRequest: 2s}",
        "timeouts: {request: soon}",
        "retry: {codes: [200], attempts: 0}",
        "sessionPersistence: {absoluteTimeout: 1h, sessionName: sid}",
        "corsPolicy: {}",
    ];
    let told: String = cases.iter().map(|case| format!("{case}\n{}", of_rule(case))).collect();
    insta::assert_snapshot!(told);
}

#[test]
fn annotations_of_no_effect_and_contradictions_are_named() {
    let of = |kind: &str, annotations: &str| {
        let (version, spec) = match kind {
            "Service" => ("v1", "spec: {ports: [{port: 80}]}"),
            "GRPCRoute" | "HTTPRoute" => ("gateway.networking.k8s.io/v1", "spec: {}"),
            _ => ("v1", ""),
        };
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, namespace: bank, annotations: {{{annotations}}}}}\n{spec}\n"
        );
        let head = format!("bank.yaml:3: {kind} bank/a: metadata.annotations");
        format!("{kind} {annotations}\n{}", findings(&text).replace(&head, ""))
    };
    let told = [
        of(
            "Service",
            "retry.linkerd.io/http: 5xx, timeout.linkerd.io/request: 1s, balancer.linkerd.io/failure-accrual: consecutive",
        ),
        of("Service", "retry.linkerd.io/http: often"),
        of("Service", "retry.linkerd.io/grpc: 'unavailable,down'"),
        of("Service", "retry.linkerd.io/limit: '2'"),
        of(
            "Service",
            "retry.linkerd.io/http: 5xx, retry.linkerd.io/timeout: 2s, timeout.linkerd.io/request: 1s",
        ),
        of(
            "Service",
            "timeout.linkerd.io/response: 2s, timeout.linkerd.io/request: 1s",
        ),
        of(
            "Service",
            "balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3'",
        ),
        of(
            "Service",
            "balancer.linkerd.io/failure-accrual: consecutive, balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold: '0.5'",
        ),
        of(
            "Service",
            "balancer.linkerd.io/failure-accrual: consecutive, balancer.linkerd.io/failure-accrual-consecutive-min-penalty: 2m",
        ),
        of("Service", "balancer.alpha.linkerd.io/load-biaser-penalty: 2s"),
        of(
            "Service",
            "balancer.sheer.dev/session-affinity-header: x, balancer.sheer.dev/session-affinity-cookie: sid",
        ),
        of("Service", "balancer.sheer.dev/locality-spill-over: '3'"),
        of("Service", "balancer.linkerd.io/slow-start: 3s"),
        of("HTTPRoute", "balancer.linkerd.io/failure-accrual: consecutive"),
        of(
            "GRPCRoute",
            "retry.linkerd.io/http: 5xx, hedge.sheer.dev/max-attempts: '3'",
        ),
        of("Namespace", "timeout.linkerd.io/request: 1s"),
    ];
    insta::assert_snapshot!(told.concat());
}

#[test]
fn fields_that_are_honoured_in_one_value_alone_are_named_in_any_other() {
    let with = |pod: &str, workload: &str| {
        let text = format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: a, namespace: bank}}\nspec:\n  selector: {{matchLabels: {{app: a}}}}\n{workload}  template:\n    \
             metadata: {{labels: {{app: a}}}}\n    spec:\n      containers: [{{name: app, command: [sleep]}}]\n{pod}"
        );
        findings(&text)
    };
    let silent = with(
        "      restartPolicy: Always\n      dnsPolicy: ClusterFirst\n",
        "  minReadySeconds: 0\n  podManagementPolicy: OrderedReady\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}\n  strategy: {rollingUpdate: {maxSurge: 1}}\n",
    );
    assert_eq!(silent, "");
    insta::assert_snapshot!(with(
        "      restartPolicy: Never\n      dnsPolicy: None\n",
        "  minReadySeconds: 5\n  podManagementPolicy: Parallel\n  updateStrategy: {rollingUpdate: {partition: 1}}\n  strategy: {type: Recreate}\n",
    ));
}

#[test]
fn what_becomes_a_part_of_a_dns_name_has_63_bytes() {
    let (fits, long) = ("a".repeat(63), "a".repeat(64));
    let account =
        |name: &str| format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: bank}}\n");
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{name}, namespace: bank}}\nspec: {{serviceAccountName: {name}, containers: [{{name: app, command: [sleep]}}]}}\n"
        )
    };
    assert_eq!(findings(&account(&fits)) + &findings(&pod(&fits)), "");
    for text in [account(&long), pod(&long)] {
        assert!(
            findings(&text).contains("64 characters: a part of a DNS name"),
            "{}",
            findings(&text)
        );
    }
}

#[test]
fn annotations_of_pods_have_an_effect_only_where_pods_get_them_from() {
    let own = "metadata:\n  name: ledger\n  namespace: bank\nspec:\n  replicas";
    let on_the_object = LEDGER.replace(
        own,
        "metadata:\n  name: ledger\n  namespace: bank\n  annotations:\n    sheer.dev/inject: disabled\n    \
         config.sheer.dev/skip-outbound-ports: '80'\n    balancer.sheer.dev/weight: '2'\n    sheer.dev/publish: 18080:8080\n\
         spec:\n  replicas",
    );
    let on_the_service = on_the_object.replace(
        "  annotations:\nspec:",
        "  annotations:\n    linkerd.io/inject: disabled\n    config.sheer.dev/opaque-ports: '80'\n    sheer.dev/publish: 18081:80\nspec:",
    );
    insta::assert_snapshot!(findings(&on_the_service), @r#"
    warning: bank.yaml:7: Deployment bank/ledger: metadata.annotations["sheer.dev/inject"]: of no effect on a Deployment: write it on its pods, under spec.template.metadata.annotations
    warning: bank.yaml:8: Deployment bank/ledger: metadata.annotations["config.sheer.dev/skip-outbound-ports"]: of no effect on a Deployment: write it on its pods, under spec.template.metadata.annotations
    warning: bank.yaml:9: Deployment bank/ledger: metadata.annotations["balancer.sheer.dev/weight"]: of no effect on a Deployment: write it on its pods, under spec.template.metadata.annotations
    warning: bank.yaml:40: Service bank/ledger: metadata.annotations["linkerd.io/inject"]: of no effect on a Service: write it on a Pod or Namespace
    "#);
    let on_both = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: bank\n  annotations: {sheer.dev/inject: disabled, sheer.dev/sight: \
                   disabled, config.linkerd.io/skip-outbound-ports: '80', config.sheer.dev/proxy-log-level: debug}\n---\n"
        .to_owned()
        + &LEDGER.replace("config.linkerd.io/opaque-ports: '5432'", "sheer.dev/inject: disabled\n        sheer.dev/sight: disabled");
    assert_eq!(findings(&on_both), "");
}

#[test]
fn what_hides_takes_effect_on_what_makes_pods_too() {
    let own = "metadata:\n  name: ledger\n  namespace: bank\nspec:\n  replicas";
    let hides = "sheer.dev/sight: disabled\n    sheer.dev/redact-headers: x-tenant\n    sheer.dev/redact-fields: iban";
    let on_the_object = LEDGER.replace(
        own,
        &format!("metadata:\n  name: ledger\n  namespace: bank\n  annotations:\n    {hides}\nspec:\n  replicas"),
    );
    assert!(on_the_object.contains(hides));
    assert_eq!(findings(&on_the_object), "");
    let on_the_service = LEDGER.replace("  annotations:\nspec:", &format!("  annotations:\n    {hides}\nspec:"));
    insta::assert_snapshot!(findings(&on_the_service), @r#"
    warning: bank.yaml:35: Service bank/ledger: metadata.annotations["sheer.dev/sight"]: of no effect on a Service: write it on a Pod or Namespace or Deployment or StatefulSet
    "#);
}

#[test]
fn values_of_the_sidecars_annotations_are_checked_with_file_and_line() {
    let with = |annotations: &[&str]| {
        let lines = annotations.join("\n        ");
        findings(&LEDGER.replace("config.linkerd.io/opaque-ports: '5432'", &lines))
    };
    insta::assert_snapshot!(with(&[
        "config.sheer.dev/proxy-log-level: '==='",
        "config.sheer.dev/proxy-log-format: xml",
        "config.sheer.dev/proxy-cpu-limit: lots",
        "config.sheer.dev/shutdown-grace-period: forever",
        "sheer.dev/publish: '99999:80'",
        "sheer.dev/sight: closed",
    ]), @r#"
    error: bank.yaml:14: Deployment bank/ledger: spec.template.metadata.annotations["config.sheer.dev/proxy-log-level"]: "===" is not a filter: invalid filter directive; write it as info,sheer_proxy=debug
    error: bank.yaml:15: Deployment bank/ledger: spec.template.metadata.annotations["config.sheer.dev/proxy-log-format"]: "xml" must be plain or json
    error: bank.yaml:16: Deployment bank/ledger: spec.template.metadata.annotations["config.sheer.dev/proxy-cpu-limit"]: "lots" is not a number of CPUs, as 1 or 1500m
    error: bank.yaml:17: Deployment bank/ledger: spec.template.metadata.annotations["config.sheer.dev/shutdown-grace-period"]: "forever" is not a length of time, as 10s, 1m30s or 500ms
    error: bank.yaml:18: Deployment bank/ledger: spec.template.metadata.annotations["sheer.dev/publish"]: "99999:80" is not HOST-PORT:PORT, as 18080:8080
    error: bank.yaml:19: Deployment bank/ledger: spec.template.metadata.annotations["sheer.dev/sight"]: "closed" must be enabled or disabled
    "#);
    let good = [
        "config.linkerd.io/proxy-log-level: warn,linkerd=info,[{headers}]=off",
        "config.sheer.dev/proxy-log-format: JSON",
        "config.sheer.dev/proxy-cpu-limit: 1500m",
        "config.sheer.dev/shutdown-grace-period: 1m30s",
        "sheer.dev/publish: '18080:8080, 9000, 9001:'",
    ];
    assert_eq!(with(&good), "");
}
