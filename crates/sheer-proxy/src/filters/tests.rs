use bytes::Bytes;
use http::{Method, StatusCode};
use proptest::prelude::*;
use sheer_policy::outbound::PathModifier;

use super::*;
use crate::http1::{HeaderCase, Target};

fn h2(uri: &str) -> Head {
    Head {
        method: Method::GET,
        uri: uri.parse().expect("a URI"),
        origin: Origin::Http2,
        headers: HeaderMap::new(),
        protocol: None,
        target: None,
        case: HeaderCase::default(),
        upgrade: None,
    }
}

fn h1(target: &str, host: &str) -> Head {
    let target = Target::parse(Bytes::copy_from_slice(target.as_bytes()), &Method::GET).expect("a target");
    let mut head = h2("/");
    head.uri = target.uri().expect("a URI");
    head.origin = Origin::Http1 {
        http10: false,
        absolute_form: target.form() == TargetForm::Absolute,
    };
    head.target = Some(target);
    head.headers.insert(HOST, HeaderValue::from_str(host).expect("a value"));
    head
}

fn prefix(prefix: &str) -> PathMatch {
    PathMatch::Prefix(prefix.to_owned())
}

/// The table of `HTTPPathModifier.replacePrefixMatch`.
#[test]
fn prefixes_are_replaced_as_the_specification_says() {
    for (path, matched, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/a", "/", "/xyz", "/xyz/a"),
    ] {
        let modifier = PathModifier::Prefix(replacement.into());
        assert_eq!(
            replaced(path, &modifier, Some(&prefix(matched))),
            expected,
            "{path} {matched} {replacement}"
        );
    }
    let exact = PathMatch::Exact("/foo".to_owned());
    let modifier = PathModifier::Prefix("/xyz".into());
    assert_eq!(replaced("/foo", &modifier, Some(&exact)), "/foo");
    assert_eq!(replaced("/foo", &PathModifier::Full("/all".into()), None), "/all");
}

#[test]
fn redirects_say_what_was_asked_for() {
    let nothing = Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: StatusCode::FOUND,
    };
    let at = |head: &Head, redirect: &Redirect| {
        let location = location(head, redirect, Some(&prefix("/a"))).expect("a location");
        location.to_str().expect("ASCII").to_owned()
    };
    let request = h2("http://web.shop:8080/a/b?q=1");
    assert_eq!(at(&request, &nothing), "http://web.shop:8080/a/b?q=1");
    let https = Redirect {
        scheme: Some(Scheme::HTTPS),
        ..nothing.clone()
    };
    assert_eq!(at(&request, &https), "https://web.shop/a/b?q=1");
    let port = Redirect {
        port: Some(8443),
        host: Some("other".into()),
        path: Some(PathModifier::Prefix("/z".into())),
        ..https
    };
    assert_eq!(at(&request, &port), "https://other:8443/z/b?q=1");
    let default = Redirect {
        port: Some(80),
        ..nothing.clone()
    };
    assert_eq!(at(&request, &default), "http://web.shop/a/b?q=1");
    assert_eq!(at(&h1("/a?x", "web.shop"), &nothing), "http://web.shop/a?x");
}

#[test]
fn rewriting_changes_what_each_protocol_says() {
    let to = Rewrite {
        host: Some("other:81".into()),
        path: Some(PathModifier::Prefix("/z".into())),
    };
    let mut request = h2("http://web.shop/a/b?q=1");
    rewrite(&mut request, &to, Some(&prefix("/a")));
    assert_eq!(request.uri, "http://other:81/z/b?q=1");
    assert!(!request.headers.contains_key(HOST));

    let mut request = h1("/a/b?q=1", "web.shop");
    rewrite(&mut request, &to, Some(&prefix("/a")));
    assert_eq!(&*request.http1_target(), b"/z/b?q=1");
    assert_eq!(request.headers[HOST], "other:81");
    assert_eq!(request.authority(), Some("other:81"));

    let mut request = h1("http://web.shop/a/b", "web.shop");
    rewrite(&mut request, &to, Some(&prefix("/a")));
    assert_eq!(&*request.http1_target(), b"http://other:81/z/b");
    assert_eq!(request.target.map(|target| target.form()), Some(TargetForm::Absolute));
}

#[test]
fn what_frames_a_message_is_not_changed() {
    let mut headers = HeaderMap::new();
    for name in ["content-length", "host", "te", "x-old"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    let before = headers.clone();
    let mut all = HeaderMap::new();
    for name in [
        "connection",
        "transfer-encoding",
        "content-length",
        "host",
        "l5d-orig-proto",
    ] {
        all.insert(HeaderName::from_static(name), HeaderValue::from_static("2"));
    }
    let modifier = HeaderModifier {
        add: all.clone(),
        remove: all.keys().cloned().collect(),
        set: all,
    };
    modify(&mut headers, &modifier);
    assert_eq!(headers, before);
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec(("x-[a-d]", "[a-z]{0,4}"), 0..8).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                name.parse::<HeaderName>().expect("a name"),
                value.parse::<HeaderValue>().expect("a value"),
            );
        }
        map
    })
}

proptest! {
    /// Every field ends as the last of add, set and remove that names it says; the others stay as they were.
    #[test]
    fn the_last_word_of_a_modifier_holds(before in fields(), add in fields(), set in fields(), removed in fields()) {
        let modifier = HeaderModifier { add: add.clone(), set: set.clone(), remove: removed.keys().cloned().collect() };
        let mut after = before.clone();
        modify(&mut after, &modifier);
        for name in ["x-a", "x-b", "x-c", "x-d"] {
            let values = |map: &HeaderMap| map.get_all(name).iter().cloned().collect::<Vec<_>>();
            let expected = if removed.contains_key(name) {
                Vec::new()
            } else if set.contains_key(name) {
                values(&set)
            } else {
                [values(&before), values(&add)].concat()
            };
            prop_assert_eq!(values(&after), expected);
        }
    }

    /// A rewritten path is a path, and keeps the query, whatever the request and the rule.
    #[test]
    fn rewritten_paths_are_paths(path in "(/[a-z]{0,3}){1,4}", query in "[a-z=&]{0,6}", matched in "(/[a-z]{0,2}){1,2}", to in "/?[a-z]{0,3}/?") {
        let mut request = h2(&format!("http://web.shop{path}?{query}"));
        let to = Rewrite { host: None, path: Some(PathModifier::Prefix(to.as_str().into())) };
        rewrite(&mut request, &to, Some(&PathMatch::Prefix(matched)));
        prop_assert!(request.uri.path().starts_with('/'));
        prop_assert_eq!(request.uri.query(), Some(query.as_str()));
        prop_assert_eq!(request.uri.host(), Some("web.shop"));
    }
}
