//! Which rule takes a request, and why the others do not.

use http::HeaderName;

use super::{Decision, Loser, Stage, words};
use crate::routes::{Found, Judged, PathMatch, RequestMatch, RequestView, Routes, Rule, Why};

/// The decisions "route" and "rule". The rule is none where no rule takes the request: then the only decision says so.
pub(super) fn decide<'a, R>(routes: &'a Routes<R>, request: &RequestView<'_>) -> (Vec<Decision>, Option<Found<'a, R>>) {
    let Judged { winner, losers } = routes.judge(request);
    let Some(found) = winner else {
        let losers = losers
            .iter()
            .map(|(rule, why)| loser(rule, why, None, request))
            .collect();
        let none = Decision::new(
            Stage::Route,
            None,
            "no route",
            format!("no rule matches {}", request_line(request)),
        );
        return (vec![none.over(losers)], None);
    };
    let rule = found.rule;
    let (own, others): (Vec<_>, Vec<_>) = losers.iter().partition(|(other, _)| other.route == rule.route);
    let tell = |(other, why): &&(&std::sync::Arc<Rule<R>>, Why)| loser(other, why, Some(&found), request);
    let others: Vec<Loser> = others.iter().map(tell).collect();
    let own: Vec<Loser> = own.iter().map(tell).collect();
    let why_route = match (others.is_empty(), rule.route.is_default()) {
        (true, true) => "there is no route of a user".to_owned(),
        (true, false) => "the only route".to_owned(),
        (false, _) => "one of its rules matches best".to_owned(),
    };
    let route = Decision::new(Stage::Route, Some(&rule.route), words::object(&rule.route), why_route).over(others);
    let matched = rule.matches.get(found.matched);
    let why_rule = match matched.map(words::request_match) {
        Some(text) if text != "every request" => format!("{text} matches {}", request_line(request)),
        Some(_) | None => "it takes every request".to_owned(),
    };
    let choice = format!(
        "rule {}: {}",
        rule.index + 1,
        words::conditions(&rule.hosts, &rule.matches)
    );
    let rule = Decision::new(Stage::Rule, Some(&rule.route), choice, why_rule)
        .of_rule(rule.index)
        .over(own);
    (vec![route, rule], Some(found))
}

fn request_line(request: &RequestView<'_>) -> String {
    format!("{} {}", request.method, request.path)
}

fn loser<R>(rule: &Rule<R>, why: &Why, winner: Option<&Found<'_, R>>, request: &RequestView<'_>) -> Loser {
    Loser {
        object: rule.route.clone(),
        rule: Some(rule.index),
        choice: format!(
            "rule {}: {}",
            rule.index + 1,
            words::conditions(&rule.hosts, &rule.matches)
        ),
        why: because(rule, why, winner, request),
    }
}

fn because<R>(rule: &Rule<R>, why: &Why, winner: Option<&Found<'_, R>>, request: &RequestView<'_>) -> String {
    match why {
        Why::Host => format!(
            "it is for {}, the request is for {}",
            words::host_list(&rule.hosts),
            request.host.unwrap_or("no host")
        ),
        Why::Path => path(&rule.matches, request.path),
        Why::Method => format!(
            "it takes {}, the request is a {}",
            methods(&rule.matches),
            request.method
        ),
        Why::Header(name) => header(&rule.matches, name, request),
        Why::Query(name) => query(&rule.matches, name, request),
        Why::Condition => {
            let conditions: Vec<_> = rule
                .matches
                .iter()
                .filter_map(|found| found.condition.as_ref())
                .map(words::condition)
                .collect();
            format!("{} does not hold", conditions.join(" or "))
        }
        Why::LessSpecific(what) => format!("matches, but {}", more_specific(what, winner)),
        Why::Later => "matches as well as the one that is taken, but stands behind it".to_owned(),
    }
}

fn path(matches: &[RequestMatch], path: &str) -> String {
    let mut paths: Vec<_> = matches
        .iter()
        .filter_map(|found| found.path.as_ref())
        .map(words::path)
        .collect();
    paths.dedup();
    match &paths[..] {
        [one] => format!("path {one} does not match {path}"),
        several => format!("none of its paths ({}) matches {path}", several.join(", ")),
    }
}

fn methods(matches: &[RequestMatch]) -> String {
    let mut methods: Vec<_> = matches
        .iter()
        .filter_map(|found| found.method.as_ref())
        .map(ToString::to_string)
        .collect();
    methods.dedup();
    methods.join(" or ")
}

fn header(matches: &[RequestMatch], name: &HeaderName, request: &RequestView<'_>) -> String {
    let headers = matches.iter().flat_map(|found| &found.headers);
    let mut wanted: Vec<_> = headers
        .filter(|header| header.name == name)
        .map(words::header)
        .collect();
    wanted.dedup();
    let values: Vec<_> = request
        .headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let found = if values.is_empty() {
        "is absent".to_owned()
    } else {
        format!("is {}", values.join(", "))
    };
    format!("it wants {}, which {found}", wanted.join(" or "))
}

fn query(matches: &[RequestMatch], name: &str, request: &RequestView<'_>) -> String {
    let queries = matches.iter().flat_map(|found| &found.query);
    let mut wanted: Vec<_> = queries.filter(|query| query.name == name).map(words::query).collect();
    wanted.dedup();
    format!(
        "it wants {}, the query is {}",
        wanted.join(" or "),
        request.query.filter(|query| !query.is_empty()).unwrap_or("empty")
    )
}

/// What the winner has that this one has not.
fn more_specific<R>(what: &str, winner: Option<&Found<'_, R>>) -> String {
    let path = winner.and_then(|found| found.rule.matches.get(found.matched)?.path.as_ref());
    match (what, path) {
        ("path", Some(PathMatch::Exact(_))) => "another rule has the exact path".to_owned(),
        ("path", Some(PathMatch::Prefix(_))) => "another rule has a longer path prefix".to_owned(),
        ("path", _) => "another rule has a path".to_owned(),
        ("method", _) => "another rule names the method".to_owned(),
        ("host", _) => "another route names the host more exactly".to_owned(),
        ("number of headers", _) => "another rule matches more headers".to_owned(),
        ("number of query parameters", _) => "another rule matches more query parameters".to_owned(),
        (other, _) => format!("another rule has a more specific {other}"),
    }
}
