//! What it costs to find a rule: `cargo bench -p sheer-policy`. Nanoseconds a request, the best of many rounds, for one rule and for a thousand
//! of the same kind.

use std::{hint::black_box, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;
use sheer_policy::{
    ObjectRef,
    routes::{Condition, HeaderMatch, PathMatch, QueryMatch, RequestMatch, RequestView, Routes, Rule, ValueMatch},
};

const ROUNDS: usize = 200;
const REQUESTS: usize = 2_000;

fn main() {
    println!(
        "{:<24} {:>10} {:>12} {:>10}",
        "rules", "one, ns", "thousand, ns", "more, ns"
    );
    for kind in [
        "exact path",
        "path prefix",
        "gRPC method",
        "header value",
        "prefix and header",
        "regular expression",
        "header pattern",
        "query value",
        "query pattern",
        "profile condition",
    ] {
        let (one, thousand) = (measure(kind, 1), measure(kind, 1_000));
        println!("{kind:<24} {one:>10.1} {thousand:>12.1} {:>10.1}", thousand - one);
    }
}

fn measure(kind: &str, count: usize) -> f64 {
    let routes = Routes::new((0..count).map(|i| rule(kind, i)).collect());
    let queries: Vec<String> = (0..64)
        .map(|i| format!("page=2&tenant=tenant-{}", i * 7 % count))
        .collect();
    let (paths, headers): (Vec<_>, Vec<_>) = (0..64).map(|i| request(kind, i * 7 % count)).unzip();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for i in 0..REQUESTS {
            let view = RequestView {
                method: &Method::POST,
                host: Some("ledger.bank:8080"),
                path: &paths[i % 64],
                query: kind.starts_with("query").then(|| &*queries[i % 64]),
                headers: &headers[i % 64],
            };
            black_box(routes.find(black_box(&view)).is_some());
        }
        best = best.min(began.elapsed().as_nanos() as f64 / REQUESTS as f64);
    }
    best
}

fn rule(kind: &str, i: usize) -> Rule<()> {
    let path = match kind {
        "exact path" => Some(PathMatch::Exact(format!("/v1/accounts/{i}"))),
        "path prefix" => Some(PathMatch::Prefix(format!("/v1/tenant-{i}"))),
        "regular expression" => Some(PathMatch::Regex(regex(i))),
        "gRPC method" => Some(PathMatch::Exact(format!("/bank.v1.Service{i}/Call"))),
        "prefix and header" => Some(PathMatch::Prefix("/v1".to_owned())),
        _ => None,
    };
    let value = match kind {
        "header value" | "prefix and header" => Some(ValueMatch::Exact(format!("tenant-{i}").into_bytes())),
        "header pattern" => Some(ValueMatch::Regex(pattern(i).parse().expect("an expression"))),
        _ => None,
    };
    let header = value.map(|value| HeaderMatch {
        name: HeaderName::from_static("x-tenant"),
        value,
    });
    let value = match kind {
        "query value" => Some(ValueMatch::Exact(format!("tenant-{i}"))),
        "query pattern" => Some(ValueMatch::Regex(pattern(i).parse().expect("an expression"))),
        _ => None,
    };
    let parameter = value.map(|value| QueryMatch {
        name: "tenant".to_owned(),
        value,
    });
    let condition = || Condition::All(vec![Condition::Method(Method::POST), Condition::Path(regex(i))]);
    Rule {
        route: ObjectRef::default_of("bench"),
        index: i,
        is_grpc: false,
        hosts: [].into(),
        matches: vec![RequestMatch {
            path,
            headers: header.into_iter().collect(),
            query: parameter.into_iter().collect(),
            condition: (kind == "profile condition").then(condition),
            ..RequestMatch::default()
        }],
        action: (),
    }
}

fn pattern(i: usize) -> String {
    format!("^(?:[a-z]+-{i})$")
}

fn regex(i: usize) -> Regex {
    Regex::new(&format!("^(?:/v1/tenant-{i}/orders/[0-9]+)$")).expect("an expression")
}

fn request(kind: &str, i: usize) -> (String, HeaderMap) {
    let mut headers = HeaderMap::new();
    for name in ["content-type", "te", "user-agent", "authorization"] {
        headers.insert(name, HeaderValue::from_static("something that requests have"));
    }
    let tenant = HeaderValue::from_str(&format!("tenant-{i}")).expect("a value");
    headers.insert("x-tenant", tenant);
    let path = match kind {
        "exact path" => format!("/v1/accounts/{i}"),
        "gRPC method" => format!("/bank.v1.Service{i}/Call"),
        "prefix and header" => "/v1/a/b".to_owned(),
        _ => format!("/v1/tenant-{i}/orders/17"),
    };
    (path, headers)
}
