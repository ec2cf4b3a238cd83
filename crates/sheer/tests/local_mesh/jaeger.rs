//! What Jaeger makes of the spans that sidecars export: its own collector takes them, its own query service is asked as its pages ask it
//! (tools/jaeger). A trace has to be there what `sheer trace` says that it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    harness::{Mesh, User, meshed_client},
    traces::{BANK, bank, namespace, payment, pod, show, tool, tree},
};

/// Jaeger in a pod without a sidecar, with its own defaults: OTLP over gRPC on 4317 and over HTTP on 4318, questions on 16686.
fn jaeger(program: &Path) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: jaeger, namespace: tracing }}
spec: {{ selector: {{ app: jaeger }}, ports: [{{ name: grpc, port: 4317 }}, {{ name: http, port: 4318 }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: jaeger, namespace: tracing }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: jaeger }} }}
  template:
    metadata: {{ labels: {{ app: jaeger }}, annotations: {{ sheer.dev/inject: disabled }} }}
    spec:
      containers:
        - name: jaeger
          command: [{program}]
          ports: [{{ containerPort: 4317 }}, {{ containerPort: 4318 }}, {{ containerPort: 16686 }}]
"#,
        program = program.display(),
    )
}

/// What Jaeger's HTTP API has at a path; null where it has nothing.
fn ask(mesh: &Mesh, path: &str) -> Value {
    let answer = mesh.shell(
        "deploy/jaeger",
        &format!("curl -sg 'http://127.0.0.1:16686/api/{path}'"),
    );
    let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"));
    answer["data"].take()
}

/// Ids of the traces that a search finds.
fn found(mesh: &Mesh, search: &str) -> BTreeSet<String> {
    let traces = ask(mesh, &format!("traces?limit=1000&{search}"));
    let ids = traces.as_array().into_iter().flatten();
    ids.map(|trace| text(&trace["traceID"])).collect()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// A span as Jaeger has it, with its process.
struct Span {
    span: Value,
    process: Value,
}

impl Span {
    fn id(&self) -> String {
        text(&self.span["spanID"])
    }

    fn tag(&self, key: &str) -> &Value {
        tag(&self.span, key)
    }

    /// Start and end, in microseconds.
    fn times(&self) -> (u64, u64) {
        let [start, duration] = ["startTime", "duration"].map(|name| self.span[name].as_u64().expect("a time"));
        (start, start + duration)
    }

    /// What it says in words of `sheer trace`.
    fn said(&self, attributes: &Value) -> Value {
        let events = self.span["logs"].as_array().expect("a list").iter();
        let event = |event: &Value| {
            let mut fields = event["fields"].as_array().expect("a list").iter();
            fields
                .find(|field| field["key"] == "event")
                .map(|field| field["value"].clone())
        };
        let attributes = attributes.as_object().expect("attributes").keys();
        json!({
            "operation": self.span["operationName"],
            "references": self.span["references"],
            "kind": self.tag("span.kind"),
            "error": self.tag("error"),
            "status": self.tag("otel.status_code"),
            "message": self.tag("otel.status_description"),
            "duration_us": self.span["duration"],
            "service": self.process["serviceName"],
            "namespace": tag(&self.process, "k8s.namespace.name"),
            "pod": tag(&self.process, "k8s.pod.name"),
            "events": events.map(event).collect::<Vec<_>>(),
            "attributes": attributes.map(|key| (key, self.tag(key))).collect::<BTreeMap<_, _>>(),
        })
    }
}

fn tag<'a>(of: &'a Value, key: &str) -> &'a Value {
    let mut tags = of["tags"].as_array().expect("tags").iter();
    tags.find(|tag| tag["key"] == key)
        .map_or(&Value::Null, |tag| &tag["value"])
}

/// What Jaeger has to say of a span that `sheer trace show -o json` has.
fn expected(trace: &str, span: &Value) -> Value {
    let parent = text(&span["parent_span_id"]);
    let references = match parent.as_str() {
        "" => json!([]),
        parent => json!([{ "refType": "CHILD_OF", "traceID": trace, "spanID": parent }]),
    };
    let failed = span["failed"] == true;
    let events = span["events"].as_array().expect("events").iter();
    json!({
        "operation": span["name"],
        "references": references,
        "kind": span["kind"],
        "error": failed.then_some(true),
        "status": failed.then_some("ERROR"),
        "message": Some(&span["message"]).filter(|message| **message != ""),
        "duration_us": (span["duration_ms"].as_f64().expect("a time") * 1e3).round() as u64,
        "service": text(&span["workload"]).rsplit('/').next(),
        "namespace": span["namespace"],
        "pod": span["pod"],
        "events": events.map(|event| &event["name"]).collect::<Vec<_>>(),
        "attributes": span["attributes"],
    })
}

/// A trace of which nothing was left to be guessed: every context was passed on.
fn is_told(trace: &Value) -> bool {
    tree(trace).iter().all(|span| span["joined_by_wire"] == false)
}

/// Jaeger's spans of a trace, by id, once they are as many as `sheer trace` has: each is the same in both.
fn same_in_both(mesh: &Mesh, trace: &Value) -> BTreeMap<String, Span> {
    let id = text(&trace["trace_id"]);
    let (shown, spans) = mesh.wait(&format!("Jaeger has all spans of trace {id}"), || {
        let shown = show(mesh, &id);
        let found = ask(mesh, &format!("traces/{id}"));
        let found = found.get(0).filter(|found| found["traceID"] == id.as_str())?;
        let with_process = |span: &Value| Span {
            span: span.clone(),
            process: found["processes"][span["processID"].as_str().expect("a process")].clone(),
        };
        let spans: Vec<Span> = found["spans"].as_array()?.iter().map(with_process).collect();
        (spans.len() == tree(&shown).len()).then_some((shown, spans))
    });
    let first = spans.iter().map(|span| span.times().0).min();
    assert_eq!(first, shown["start_unix_ns"].as_u64().map(|start| start / 1_000));
    let spans: BTreeMap<String, Span> = spans.into_iter().map(|span| (span.id(), span)).collect();
    for span in tree(&shown) {
        let own = &spans.get(&text(&span["span_id"]));
        let own = own.unwrap_or_else(|| panic!("Jaeger does not have {span:#}"));
        assert_eq!(own.said(&span["attributes"]), expected(&id, span), "{span:#}");
        // Ids that are there twice, parents that are not there. Clocks of two processes may differ by what a scheduler makes of it.
        let warnings = own.span["warnings"].as_array().into_iter().flatten();
        let grave: Vec<&Value> = warnings
            .filter(|warning| !text(warning).starts_with("clock skew adjustment disabled"))
            .collect();
        assert!(grave.is_empty(), "{grave:?} of {span:#}");
    }
    spans
}

fn a_payment_is_found(mesh: &Mesh) {
    let all: Vec<String> = ["client"].iter().chain(&BANK).map(|name| (*name).to_owned()).collect();
    let is_whole = |trace: &Value| {
        let workloads = trace["workloads"].as_array().expect("a list").len();
        workloads == all.len() && trace["failed"] == false && is_told(trace)
    };
    let trace = payment(mesh, "a payment over all services", &["--service", "gateway"], is_whole);
    let spans = same_in_both(mesh, &trace);
    assert!(spans.values().all(|span| span.tag("error").is_null()));
    let services = ask(mesh, "services");
    let services = services.as_array().expect("a list");
    assert!(all.iter().all(|name| services.contains(&json!(name))), "{services:?}");
    let operations = ask(mesh, "operations?service=payments");
    let served = json!({ "name": "bank.v1.Payments/Pay", "spanKind": "server" });
    assert!(operations.as_array().expect("a list").contains(&served), "{operations}");
    let id = text(&trace["trace_id"]);
    assert!(found(mesh, "service=ledger&operation=bank.v1.Ledger/Post").contains(&id));
    assert!(!found(mesh, r#"service=payments&tags={"error":"true"}"#).contains(&id));
}

/// Switches a fault of a workload, or of one of its pods.
fn fault(mesh: &Mesh, whom: &str, arguments: &str) {
    let said = mesh.shell(
        whom,
        &format!("{}/bank fault local {arguments}", mesh.folder().display()),
    );
    let name = whom.rsplit('/').next().expect("a name");
    assert!(said.contains(name), "{said}");
}

fn a_failure_is_found_by_its_tags(mesh: &Mesh) {
    fault(mesh, "deploy/fx", "--errors 1");
    let failed = |trace: &Value| trace["failed_at"] == "bank/deploy/fx" && is_told(trace);
    let trace = payment(
        mesh,
        "a payment that fails at fx",
        &["--failed", "--service", "gateway"],
        failed,
    );
    fault(mesh, "deploy/fx", "--clear");
    let spans = same_in_both(mesh, &trace);
    let at_fx = spans.values().find(|span| span.process["serviceName"] == "fx");
    let at_fx = at_fx.expect("a span of fx");
    assert_eq!(
        (
            at_fx.tag("span.kind"),
            at_fx.tag("error"),
            at_fx.tag("rpc.grpc.status_code")
        ),
        (&json!("server"), &json!(true), &json!(14))
    );
    let by_tags = r#"service=fx&tags={"error":"true","rpc.grpc.status_code":"14"}"#;
    assert!(found(mesh, by_tags).contains(&text(&trace["trace_id"])));
}

fn attempts_are_children_of_their_request(mesh: &Mesh) {
    let paid = |trace: &Value| trace["http_status"] == 201 && is_told(trace);
    // A pod that payments go to.
    let before = payment(mesh, "a payment", &["--service", "ledger"], paid);
    let pod = format!("pod/{}", pod(&before, "deploy/ledger"));
    fault(mesh, &pod, "--errors 1");
    let retried = |trace: &Value| paid(trace) && tree(trace).iter().any(|span| span["kind"] == "internal");
    let trace = payment(
        mesh,
        "a payment whose posting was tried again",
        &["--service", "ledger"],
        retried,
    );
    fault(mesh, &pod, "--clear");
    let spans = same_in_both(mesh, &trace);
    let whole = spans.values().find(|span| span.tag("span.kind") == "internal");
    let whole = whole.expect("a request of several attempts");
    assert!(whole.tag("error").is_null(), "it was made good");
    let mut attempts: Vec<&Span> = spans
        .values()
        .filter(|span| span.span["references"][0]["spanID"] == whole.id())
        .collect();
    attempts.sort_by_key(|attempt| attempt.tag("http.request.resend_count").as_u64());
    let (last, before) = attempts.split_last().expect("attempts");
    assert!(!before.is_empty() && before.iter().all(|attempt| *attempt.tag("error") == true));
    assert_eq!(
        (last.tag("error"), last.tag("http.request.resend_count")),
        (&Value::Null, &json!(before.len()))
    );
    let (start, end) = whole.times();
    for attempt in attempts {
        // Each time is cut to microseconds by itself.
        let (begun, ended) = attempt.times();
        assert!(start <= begun && ended <= end + 1, "{}", attempt.span);
    }
}

fn jaeger_has_what_sheer_shows(protocol: &[&str]) {
    let mesh = Mesh::new(User::Current);
    bank(&mesh, protocol);
    mesh.write("jaeger.yaml", &jaeger(&tool("jaeger")))
        .write("shop.yaml", &namespace("shop", protocol))
        .write("client.yaml", &meshed_client())
        .up();
    a_payment_is_found(&mesh);
    a_failure_is_found_by_its_tags(&mesh);
    attempts_are_children_of_their_request(&mesh);
}

#[test]
fn jaeger_has_what_sheer_shows_over_grpc() {
    jaeger_has_what_sheer_shows(&["trace-collector: jaeger.tracing:4317", "trace-protocol: grpc"]);
}

#[test]
fn jaeger_has_what_sheer_shows_over_http() {
    jaeger_has_what_sheer_shows(&["trace-collector: jaeger.tracing:4318", "trace-protocol: http/protobuf"]);
}
