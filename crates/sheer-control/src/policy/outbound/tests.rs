//! Objects in, decisions out: what is compiled goes through the proxies' own reading of it ([`sheer_policy`]), and the decision is asserted.

mod annotations;
mod conformance;
mod egress;
mod faults;
mod profile;
mod references;
mod streams;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use sheer_policy::{
    ObjectRef,
    outbound::{BackendTarget, Backends, Filter, HttpRule, OutboundPolicy, PathModifier, RouteBackend},
    routes::{RequestView, Rule},
};

use super::*;

/// What a client of a namespace is told of a Service's port, as its proxy reads it.
fn policy_of(written: &str, client: &str, service: &str, port: u16) -> OutboundPolicy {
    let snapshot = Snapshot::of(written, "");
    let (namespace, name) = service.split_once('/').unwrap();
    let service = snapshot.find_service(namespace, name).unwrap();
    read(of_service(&snapshot, &MeshConfig::for_tests(), service, port, client))
}

fn read(compiled: Compiled) -> OutboundPolicy {
    sheer_policy::wire::outbound::policy(compiled.policy, Some(&compiled.extras), DETECT_TIMEOUT)
}

/// A request, as `GET /path?query name=value name=value`.
struct Asked {
    method: Method,
    path: String,
    query: Option<String>,
    host: Option<String>,
    headers: HeaderMap,
}

fn asked(text: &str) -> Asked {
    let mut words = text.split(' ');
    let method = words.next().unwrap().parse().unwrap();
    let target = words.next().unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        headers.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let host = headers.remove("host").map(|value| value.to_str().unwrap().to_owned());
    Asked {
        method,
        path: path.to_owned(),
        query,
        host,
        headers,
    }
}

/// The rule that takes a request of HTTP/2.
fn rule_for<'a>(policy: &'a OutboundPolicy, request: &str) -> Option<&'a Rule<HttpRule>> {
    let asked = asked(request);
    let view = RequestView {
        method: &asked.method,
        host: asked.host.as_deref(),
        path: &asked.path,
        query: asked.query.as_deref(),
        headers: &asked.headers,
    };
    policy.http2.routes.find(&view).map(|found| &**found.rule)
}

/// What becomes of a request, in words: filters, then backends with their shares.
fn decide(policy: &OutboundPolicy, request: &str) -> String {
    rule_for(policy, request).map_or_else(|| "no route".to_owned(), |rule| outcome(&rule.action))
}

fn outcome(rule: &HttpRule) -> String {
    let mut words: Vec<String> = rule.filters.iter().map(filter_words).collect();
    words.extend(rule.mirrors.iter().map(|mirror| {
        let share = format!("{}/{}", mirror.share.numerator, mirror.share.denominator);
        format!("mirror {share} to {}", name(&mirror.backend.object))
    }));
    words.push(backend_words(&rule.backends));
    words.join(", ")
}

fn backend_words(backends: &Backends) -> String {
    match backends {
        Backends::None => "nowhere".to_owned(),
        Backends::First(backends) => backends
            .iter()
            .map(route_backend_words)
            .collect::<Vec<_>>()
            .join(" or "),
        Backends::Weighted(backends) => {
            let words = backends
                .iter()
                .map(|(backend, weight)| format!("{}*{weight}", route_backend_words(backend)));
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

fn route_backend_words(route: &RouteBackend) -> String {
    let mut words = match &route.backend.target {
        BackendTarget::Forward(endpoint) => format!("->{}", endpoint.addr),
        BackendTarget::Balance { path, .. } => {
            assert!(
                path.ends_with(&format!(".svc.cluster.local:{}", route.backend.object.port)),
                "{path}"
            );
            name(&route.backend.object)
        }
        BackendTarget::Invalid { .. } => "invalid".to_owned(),
    };
    for filter in &route.filters {
        words.push_str(&format!("[{}]", filter_words(filter)));
    }
    words
}

/// `echo-v1:8080`, with its namespace where it is not the tests' usual one.
fn name(object: &ObjectRef) -> String {
    let namespace = if object.namespace == "mesh" {
        String::new()
    } else {
        format!("{}/", object.namespace)
    };
    format!("{namespace}{}:{}", object.name, object.port)
}

fn filter_words(filter: &Filter) -> String {
    let fields = |sign: &str, map: &HeaderMap| -> String {
        map.iter()
            .map(|(name, value)| format!(" {sign}{name}={}", value.to_str().unwrap()))
            .collect()
    };
    let path = |path: &Option<PathModifier>| match path {
        Some(PathModifier::Full(path)) => format!(" path {path}"),
        Some(PathModifier::Prefix(path)) => format!(" prefix {path}"),
        None => String::new(),
    };
    let host = |host: &Option<std::sync::Arc<str>>| host.as_ref().map_or(String::new(), |host| format!(" host {host}"));
    match filter {
        Filter::RequestHeaders(said) | Filter::ResponseHeaders(said) => {
            let what = if matches!(filter, Filter::RequestHeaders(_)) {
                "request"
            } else {
                "response"
            };
            let removed: String = said.remove.iter().map(|name| format!(" -{name}")).collect();
            format!("{what}{}{}{removed}", fields("+", &said.add), fields("=", &said.set))
        }
        Filter::Redirect(said) => {
            let scheme = said
                .scheme
                .as_ref()
                .map_or(String::new(), |scheme| format!(" {scheme}"));
            let port = said.port.map_or(String::new(), |port| format!(" port {port}"));
            format!(
                "{}{scheme}{}{port}{}",
                said.status.as_u16(),
                host(&said.host),
                path(&said.path)
            )
        }
        Filter::Rewrite(said) => format!("rewrite{}{}", host(&said.host), path(&said.path)),
        Filter::Abort(said) => format!(
            "abort {:?} {}/{}: {}",
            said.answer, said.share.numerator, said.share.denominator, said.message
        ),
        Filter::Delay(said) => format!(
            "delay {:?} {}/{}",
            said.delay, said.share.numerator, said.share.denominator
        ),
    }
}

/// Services `echo`, `echo-v1` and `echo-v2` with ports 80 and 8080, as Gateway API's conformance tests have them.
fn echoes() -> String {
    let service = |name: &str, address: u8| {
        format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: mesh}}
spec:
  clusterIP: 10.96.0.{address}
  selector: {{app: echo}}
  ports: [{{name: http, port: 80}}, {{name: http-alt, port: 8080}}, {{name: grpc, port: 7070, appProtocol: grpc}}]
"
        )
    };
    service("echo", 1) + &service("echo-v1", 2) + &service("echo-v2", 3)
}

/// An HTTPRoute of `mesh` with `spec` after its parents.
fn http_route(name: &str, parent: &str, rules: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {parent}}}]
{rules}"
    )
}

/// Each request with what becomes of it.
fn assert_decisions(policy: &OutboundPolicy, cases: &[(&str, &str)]) {
    let decided: Vec<_> = cases
        .iter()
        .map(|(request, _)| (*request, decide(policy, request)))
        .collect();
    let expected: Vec<_> = cases
        .iter()
        .map(|(request, outcome)| (*request, (*outcome).to_owned()))
        .collect();
    assert_eq!(decided, expected);
}
