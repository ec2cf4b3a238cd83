//! Objects and points in, what of their differences is documented out.

use sheer_api::v1::{Exchange, Leg};

use super::*;
use crate::{config::MeshConfig, server::Streams, sight::watch::diff::compare::differences};

const BANK: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.96.0.3, selector: {app: ledger}, ports: [{port: 8080, targetPort: 9000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: bank}
spec:
  parentRefs: [{group: '', kind: Service, name: ledger}]
  rules:
  - matches: [{headers: [{name: x-api-token, value: beta}]}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-beta, value: '1'}]}}
    backendRefs: [{name: ledger, port: 8080}]
  - matches: [{path: {type: PathPrefix, value: /v1}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        add: [{name: x-team, value: books}]
        set: [{name: x-kind, value: new}, {name: x-user-token, value: secret}]
        remove: [x-old]
    - {type: URLRewrite, urlRewrite: {hostname: inner, path: {type: ReplacePrefixMatch, replacePrefixMatch: /api}}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-served-by]}}
    backendRefs: [{name: ledger, port: 8080}]
---
apiVersion: policy.sheer.dev/v1beta3
kind: Server
metadata: {name: ledger, namespace: bank}
spec: {podSelector: {matchLabels: {app: ledger}}, port: 9000, proxyProtocol: HTTP/2}
---
apiVersion: policy.sheer.dev/v1beta3
kind: HTTPRoute
metadata: {name: guard, namespace: bank}
spec:
  parentRefs: [{group: policy.sheer.dev, kind: Server, name: ledger}]
  rules:
  - filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-guard, value: seen}]}}
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

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Values that begin with `hash:` are replaced.
fn list(fields: Fields<'_>) -> Vec<ShownField> {
    let field = |(name, value): &(&str, &str)| ShownField {
        name: (*name).to_owned(),
        value: value.as_bytes().to_vec(),
        redacted: value.starts_with("hash:"),
        ..ShownField::default()
    };
    fields.iter().map(field).collect()
}

fn point(protocol: &str, request: Fields<'_>, response: Fields<'_>) -> Option<PointView> {
    Some(PointView {
        request: list(request),
        response: list(response),
        protocol: protocol.to_owned(),
        ..PointView::default()
    })
}

fn exchange(client: Leg, upstream: Leg) -> Option<Exchange> {
    Some(Exchange {
        client: Some(client),
        upstream: Some(upstream),
        ..Exchange::default()
    })
}

/// From `web-0` to `ledger`, as the caller's proxy saw it.
fn outbound(client: Option<PointView>, upstream: Option<PointView>) -> RequestDiff {
    let original = Leg {
        original: "10.96.0.3:8080".to_owned(),
        ..Leg::default()
    };
    RequestDiff {
        source: "bank/web-0".to_owned(),
        destination: "bank/ledger-0".to_owned(),
        outbound: Some(ExchangeView {
            exchange: exchange(original, Leg::default()),
            client,
            upstream,
            ..ExchangeView::default()
        }),
        ..RequestDiff::default()
    }
}

/// The same as the callee's proxy saw it.
fn inbound(client: Option<PointView>, upstream: Option<PointView>) -> RequestDiff {
    let application = Leg {
        remote: "10.77.0.5:9000".to_owned(),
        ..Leg::default()
    };
    RequestDiff {
        inbound: Some(ExchangeView {
            exchange: exchange(Leg::default(), application),
            client,
            upstream,
            ..ExchangeView::default()
        }),
        outbound: None,
        ..outbound(None, None)
    }
}

/// Each difference by name, with why where that is documented.
async fn told(diff: &RequestDiff) -> Vec<(String, String)> {
    let (_down, shutdown) = tokio::sync::watch::channel(false);
    let snapshot = Arc::new(Snapshot::of(BANK, PODS));
    let view = View::new(snapshot, Arc::new(MeshConfig::for_tests()), Streams::new(shutdown));
    let by_route = ByRoute::of(&view, diff).await;
    let all = differences(diff, &by_route).into_iter();
    let why = |documented, why| if documented { why } else { "UNEXPLAINED".to_owned() };
    all.map(|one| (one.field, why(one.documented, one.why))).collect()
}

fn expected(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, why): &(&str, &str)| ((*name).to_owned(), (*why).to_owned());
    all.iter().map(owned).collect()
}

const MODIFIED: &str = "HTTPRoute bank/canary, rule 2, does it: its RequestHeaderModifier";
const ANSWERED: &str = "HTTPRoute bank/canary, rule 2, does it: its ResponseHeaderModifier";
const REWRITTEN: &str = "HTTPRoute bank/canary, rule 2, does it: its URLRewrite";

#[tokio::test]
async fn what_filters_of_a_route_do_is_documented_and_the_rule_is_named() {
    let diff = outbound(
        point(
            "http/2",
            &[
                (":method", "GET"),
                (":authority", "ledger.bank:8080"),
                (":path", "/v1/books?page=2"),
                ("x-kind", "old"),
                ("x-old", "1"),
                ("x-team", "own"),
            ],
            &[(":status", "200")],
        ),
        point(
            "http/2",
            &[
                (":method", "GET"),
                (":authority", "inner"),
                (":path", "/api/books?page=2"),
                ("x-kind", "new"),
                ("x-team", "own"),
                ("x-team", "books"),
                ("x-user-token", "hash:1"),
            ],
            &[(":status", "200"), ("x-served-by", "ledger-0")],
        ),
    );
    let all = [
        (":authority", REWRITTEN),
        (":path", REWRITTEN),
        ("x-kind", MODIFIED),
        ("x-old", MODIFIED),
        ("x-team", MODIFIED),
        ("x-user-token", MODIFIED),
        ("x-served-by", ANSWERED),
    ];
    assert_eq!(told(&diff).await, expected(&all));
}

#[tokio::test]
async fn http_1_has_the_host_in_another_field() {
    let diff = outbound(
        point(
            "http/1",
            &[(":method", "GET"), (":path", "/v1"), ("Host", "ledger")],
            &[],
        ),
        point(
            "http/2",
            &[
                (":method", "GET"),
                (":authority", "inner"),
                (":path", "/api"),
                ("x-team", "books"),
                ("x-kind", "new"),
                ("x-user-token", "hash:1"),
            ],
            &[],
        ),
    );
    let told = told(&diff).await;
    let rewritten: Vec<_> = told.iter().filter(|(_, why)| why == REWRITTEN).collect();
    assert_eq!(rewritten.len(), 3, "{told:#?}");
    assert!(told.iter().all(|(_, why)| why != "UNEXPLAINED"), "{told:#?}");
}

/// A route with filters is no excuse for anything but what these filters do.
#[tokio::test]
async fn what_no_filter_does_stays_unexplained() {
    let at = |more: Fields<'_>, response: Fields<'_>| {
        point(
            "http/2",
            &[&[(":method", "GET"), (":authority", "inner")], more].concat(),
            response,
        )
    };
    let diff = outbound(
        at(
            &[(":path", "/v1"), ("x-kind", "old"), ("x-tag", "a")],
            &[(":status", "200")],
        ),
        at(
            &[
                (":path", "/other"),
                ("x-kind", "newer"),
                ("x-tag", "b"),
                ("x-team", "boats"),
            ],
            &[(":status", "200"), ("x-other", "1")],
        ),
    );
    let names = [":path", "x-kind", "x-tag", "x-team", "x-other"];
    assert_eq!(told(&diff).await, expected(&names.map(|name| (name, "UNEXPLAINED"))));
    // Nor is a rule that does not take the request.
    let diff = outbound(
        at(&[(":path", "/v2")], &[]),
        at(&[(":path", "/v2"), ("x-team", "books")], &[]),
    );
    assert_eq!(told(&diff).await, expected(&[("x-team", "UNEXPLAINED")]));
    // Nor a filter of the caller's side for what happens at the callee's.
    let diff = inbound(
        at(&[(":path", "/v1")], &[]),
        at(&[(":path", "/v1"), ("x-team", "books")], &[]),
    );
    assert_eq!(told(&diff).await, expected(&[("x-team", "UNEXPLAINED")]));
}

#[tokio::test]
async fn a_route_of_a_server_changes_what_comes_in() {
    let at = |more: Fields<'_>| point("http/2", &[&[(":method", "GET"), (":path", "/v1")], more].concat(), &[]);
    let why = "HTTPRoute bank/guard, rule 1, does it: its RequestHeaderModifier";
    let diff = inbound(at(&[]), at(&[("x-guard", "seen")]));
    assert_eq!(told(&diff).await, expected(&[("x-guard", why)]));
    let diff = outbound(at(&[]), at(&[("x-guard", "seen")]));
    assert_eq!(told(&diff).await, expected(&[("x-guard", "UNEXPLAINED")]));
}

/// Which rule took the request is not known where it looks at a value that nobody is shown.
#[tokio::test]
async fn a_rule_that_looks_at_a_secret_may_have_taken_the_request() {
    let at = |token: &str, more: Fields<'_>| {
        let head = [(":method", "GET"), (":path", "/v2"), ("x-api-token", token)];
        point("http/2", &[&head, more].concat(), &[])
    };
    let diff = outbound(at("hash:7", &[]), at("hash:7", &[("x-beta", "1")]));
    let why = "HTTPRoute bank/canary, rule 1, does it: its RequestHeaderModifier";
    assert_eq!(told(&diff).await, expected(&[("x-beta", why)]));
    let diff = outbound(at("other", &[]), at("other", &[("x-beta", "1")]));
    assert_eq!(told(&diff).await, expected(&[("x-beta", "UNEXPLAINED")]));
}
