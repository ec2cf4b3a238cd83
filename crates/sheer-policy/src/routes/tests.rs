//! The index finds what looking at every rule finds; and Gateway API's order of precedence.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use regex::Regex;

use super::*;

fn rule(hosts: Vec<HostMatch>, matches: Vec<RequestMatch>) -> Rule<()> {
    Rule {
        route: ObjectRef::default(),
        index: 0,
        is_grpc: false,
        hosts: hosts.into(),
        matches,
        action: (),
    }
}

fn path(path: PathMatch) -> RequestMatch {
    RequestMatch {
        path: Some(path),
        ..RequestMatch::default()
    }
}

/// Few words, so that random rules and requests meet.
fn segments() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..4)
        .prop_map(|segments| segments.iter().map(|segment| format!("/{segment}")).collect())
}

fn whole(regex: &str) -> Regex {
    Regex::new(&format!("^(?:{regex})$")).unwrap()
}

fn condition() -> impl Strategy<Value = Condition> {
    let one = prop_oneof![
        4 => prop::sample::select(vec!["/a.*", "/b", ".*b", "/a/.*"]).prop_map(|regex| Condition::Path(whole(regex))),
        1 => method().prop_map(Condition::Method),
    ];
    one.prop_recursive(3, 8, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            2 => several().prop_map(Condition::All),
            1 => several().prop_map(Condition::Any),
            1 => inner.clone().prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let regexes = vec!["/a.*", "/[ab]+", ".*b", "/a/.*"];
    prop_oneof![
        segments().prop_map(PathMatch::Exact),
        segments().prop_map(PathMatch::Prefix),
        prop::sample::select(regexes).prop_map(|regex| PathMatch::Regex(whole(regex))),
        prop::sample::select(vec!["a", "b"]).prop_map(|method| PathMatch::GrpcMethod(method.to_owned())),
    ]
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    let name = prop::sample::select(vec!["x-a", "x-b"]).prop_map(HeaderName::from_static);
    let value = prop_oneof![
        4 => prop::sample::select(vec!["1", "2", "3"]).prop_map(|value| ValueMatch::Exact(value.as_bytes().to_vec())),
        2 => prop::sample::select(vec!["[12]", "[^1]", "3|4", ".?"])
            .prop_map(|regex| ValueMatch::Regex(BytesRegex::new(&format!("^(?:{regex})$")).unwrap())),
    ];
    (name, value).prop_map(|(name, value)| HeaderMatch { name, value })
}

fn query_match() -> impl Strategy<Value = QueryMatch> {
    let value = prop_oneof![
        prop::sample::select(vec!["1", "2 3"]).prop_map(|value| ValueMatch::Exact(value.to_owned())),
        prop::sample::select(vec!["1?", "2.*", "[12].*"]).prop_map(|regex| ValueMatch::Regex(whole(regex))),
    ];
    (prop::sample::select(vec!["q", "r"]), value).prop_map(|(name, value)| QueryMatch {
        name: name.to_owned(),
        value,
    })
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::GET, Method::POST])
}

fn request_match() -> impl Strategy<Value = RequestMatch> {
    (
        prop::option::of(path_match()),
        prop::option::of(method()),
        prop::collection::vec(header_match(), 0..3),
        prop::collection::vec(query_match(), 0..2),
        prop::option::weighted(0.3, condition()),
    )
        .prop_map(|(path, method, headers, query, condition)| RequestMatch {
            path,
            method,
            headers,
            query,
            condition,
        })
}

fn host_match() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        prop::sample::select(vec!["a.example", "B.a.example", "example"]).prop_map(|n| HostMatch::Exact(n.to_owned())),
        prop::sample::select(vec![".example", ".A.example"]).prop_map(|n| HostMatch::Suffix(n.to_owned())),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Rule<()>>> {
    let one = (
        prop::collection::vec(host_match(), 0..3),
        prop::collection::vec(request_match(), 0..4),
    );
    prop::collection::vec(one.prop_map(|(hosts, matches)| rule(hosts, matches)), 0..60)
}

#[derive(Debug)]
struct Asked {
    method: Method,
    host: Option<&'static str>,
    path: String,
    query: Option<&'static str>,
    headers: HeaderMap,
}

fn asked() -> impl Strategy<Value = Asked> {
    let field = (
        prop::sample::select(vec!["x-a", "x-b"]),
        prop::sample::select(vec!["1", "2", "3", "4"]),
    );
    (
        method(),
        prop::sample::select(vec![
            None,
            Some("a.example"),
            Some("A.EXAMPLE:80"),
            Some("b.a.example"),
            Some("x.b.a.example"),
            Some("[::1]:80"),
        ]),
        prop_oneof![segments(), Just("/".to_owned()), segments().prop_map(|path| path + "/")],
        prop::sample::select(vec![
            None,
            Some("q=1"),
            Some("q&r=27"),
            Some("r=2+3&q=%31"),
            Some("q=2%203&q=1"),
        ]),
        prop::collection::vec(field, 0..4),
    )
        .prop_map(|(method, host, path, query, fields)| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, HeaderValue::from_static(value));
            }
            Asked {
                method,
                host,
                path,
                query,
                headers,
            }
        })
}

impl Asked {
    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            host: self.host,
            path: &self.path,
            query: self.query,
            headers: &self.headers,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_finds_what_looking_at_every_rule_finds(rules in rules(), asked in prop::collection::vec(asked(), 1..20)) {
        let routes = Routes::new(rules);
        for asked in asked {
            let place = |found: Option<Found<'_, ()>>| {
                found.map(|found| {
                    let rule = routes.rules().iter().position(|rule| Arc::ptr_eq(rule, found.rule));
                    (rule, found.matched)
                })
            };
            let naive = matching::find(routes.rules(), &asked.view());
            prop_assert_eq!(place(routes.find(&asked.view())), place(naive), "{:?}", asked);
        }
    }
}

/// The place of the rule that takes `GET path` with a header.
fn taken(rules: Vec<Rule<()>>, path: &str, header: Option<(&'static str, &'static str)>) -> Option<usize> {
    let routes = Routes::new(rules);
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = header {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let view = RequestView {
        method: &Method::GET,
        host: Some("a.example"),
        path,
        query: None,
        headers: &headers,
    };
    let found = routes.find(&view)?;
    routes.rules().iter().position(|rule| Arc::ptr_eq(rule, found.rule))
}

#[test]
fn precedence_is_gateway_apis() {
    let exact = |text: &str| path(PathMatch::Exact(text.to_owned()));
    let prefix = |text: &str| path(PathMatch::Prefix(text.to_owned()));
    let with_header = |found: RequestMatch| RequestMatch {
        headers: vec![HeaderMatch {
            name: HeaderName::from_static("x-a"),
            value: ValueMatch::Exact(b"1".to_vec()),
        }],
        ..found
    };
    let all = || {
        vec![
            rule(vec![], vec![]),
            rule(vec![], vec![prefix("/api")]),
            rule(vec![], vec![prefix("/api/v1")]),
            rule(vec![], vec![exact("/api/v1")]),
            rule(vec![], vec![with_header(prefix("/api"))]),
            rule(
                vec![],
                vec![RequestMatch {
                    method: Some(Method::GET),
                    ..prefix("/api")
                }],
            ),
            rule(vec![HostMatch::Exact("a.example".to_owned())], vec![exact("/host")]),
            rule(vec![], vec![prefix("/api")]),
        ]
    };
    let cases = [
        ("/", None, 0),
        ("/apiv1", None, 0),
        ("/api/v1", None, 3),
        ("/api/v1/x", None, 2),
        ("/api/v2", None, 5),
        ("/api/v2", Some(("x-a", "1")), 5),
        ("/host", None, 6),
    ];
    for (path, header, expected) in cases {
        assert_eq!(taken(all(), path, header), Some(expected), "{path} {header:?}");
    }
    // Equal in everything: the first.
    let equal = vec![rule(vec![], vec![prefix("/api")]), rule(vec![], vec![prefix("/api")])];
    assert_eq!(taken(equal, "/api", None), Some(0));
    let fewer = vec![
        rule(vec![], vec![prefix("/api")]),
        rule(vec![], vec![with_header(prefix("/api"))]),
    ];
    assert_eq!(taken(fewer, "/api", Some(("x-a", "1"))), Some(1));
}

/// A path of nothing but slashes must not cost more for each of them.
#[test]
fn hostile_paths_cost_no_more_than_the_prefixes_there_are() {
    let path = "/a".repeat(30_000);
    let rules = (0..1_000)
        .map(|i| rule(vec![], vec![super::tests::path(PathMatch::Prefix(format!("/p{i}")))]))
        .collect();
    assert_eq!(taken(rules, &path, None), None);
}
