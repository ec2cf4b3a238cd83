//! Where a request goes.

use std::sync::Arc;

use http::StatusCode;
use sheer_api::Verdict;

use super::{Answer, Decision, Explanation, Loser, Outcome, Stage, rule, words};
use crate::{
    ProtocolPlan,
    outbound::{
        AbortAnswer, Backend, BackendTarget, Backends, Filter, HttpPolicy, HttpRule, OutboundPolicy, Refusal,
        RetryBudget, RouteBackend, StreamRule,
    },
    routes::{PathMatch, RequestView, Rule},
};

/// gRPC codes of answers.
const NOT_FOUND: u16 = 5;
const UNAVAILABLE: u16 = 14;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Traffic<'a> {
    /// A request of HTTP/1.
    Http1(RequestView<'a>),
    /// A request of HTTP/2, gRPC among them.
    Http2(RequestView<'a>),
    /// TLS of the application, with the name that it asks for.
    Tls(Option<&'a str>),
    /// Bytes.
    Opaque,
}

/// An explanation, and where the request may go.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The decisions.
    pub explanation: Explanation,
    /// Backends that may take it, the likeliest first; none where it is not forwarded.
    pub backends: Vec<Arc<Backend>>,
    /// What becomes of the request on its way to the likeliest.
    pub changes: Changes,
}

/// What filters make of a request before it is sent.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// In order.
    pub filters: Vec<Filter>,
    /// The path by which the rule took the request.
    pub path: Option<PathMatch>,
}

/// What a destination's policy does with what is sent there.
pub fn explain(policy: &OutboundPolicy, traffic: &Traffic<'_>) -> Outbound {
    let mut decisions = vec![protocol(policy, traffic)];
    match (policy.protocol, traffic) {
        (ProtocolPlan::Opaque, _) | (_, Traffic::Opaque) => stream(decisions, &policy.opaque),
        (ProtocolPlan::Tls, Traffic::Tls(name)) => {
            let taken = policy.tls_rule(*name);
            tls(decisions, &policy.tls, taken, *name)
        }
        (_, Traffic::Tls(name)) if !policy.tls.is_empty() => {
            let taken = policy.tls_rule(*name);
            tls(decisions, &policy.tls, taken, *name)
        }
        (_, Traffic::Tls(_)) => stream(decisions, &policy.opaque),
        (ProtocolPlan::Http1, Traffic::Http1(request) | Traffic::Http2(request)) => {
            http(&mut decisions, &policy.http1, &policy.budget, request)
        }
        (ProtocolPlan::Detect { .. }, Traffic::Http1(request)) => {
            http(&mut decisions, &policy.http1, &policy.budget, request)
        }
        (_, Traffic::Http1(request) | Traffic::Http2(request)) => {
            http(&mut decisions, &policy.http2, &policy.budget, request)
        }
    }
}

fn protocol(policy: &OutboundPolicy, traffic: &Traffic<'_>) -> Decision {
    let sent = match traffic {
        Traffic::Http1(_) => "http/1",
        Traffic::Http2(_) => "http/2",
        Traffic::Tls(_) => "tls",
        Traffic::Opaque => "opaque",
    };
    let (choice, why) = match policy.protocol {
        ProtocolPlan::Detect { .. } => (sent, "nobody says it: the first bytes do"),
        said => (words::protocol(said), "the policy says it"),
    };
    Decision::new(Stage::Protocol, Some(&policy.parent), choice, why)
}

fn http(
    decisions: &mut Vec<Decision>,
    policy: &HttpPolicy,
    budget: &RetryBudget,
    request: &RequestView<'_>,
) -> Outbound {
    let (routing, found) = rule::decide(&policy.routes, request);
    decisions.extend(routing);
    let decisions = std::mem::take(decisions);
    let Some(found) = found else {
        return ended(
            decisions,
            Outcome::Refused,
            refusal("no-route", StatusCode::NOT_FOUND, NOT_FOUND),
        );
    };
    let rule = found.rule;
    let mut decisions = decisions;
    for filter in &rule.action.filters {
        decisions.push(filtered(rule, filter));
        if let Some((outcome, answer)) = answered_by(filter) {
            return ended(decisions, outcome, answer);
        }
    }
    decisions.extend(extras(rule, budget));
    let (decision, backends) = backend(Some(&rule.route), &rule.action.backends);
    decisions.push(decision);
    decisions.extend(of_backend(&rule.action.backends));
    let path = rule.matches.get(found.matched).and_then(|found| found.path.clone());
    let of_backend = likeliest(&rule.action.backends).map_or(&[][..], |backend| &backend.filters);
    let filters = rule.action.filters.iter().chain(of_backend).cloned().collect();
    Outbound {
        changes: Changes { filters, path },
        ..forwarded(decisions, backends, policy)
    }
}

/// Filters, copies, timeouts and retries of a rule.
fn extras(rule: &Rule<HttpRule>, budget: &RetryBudget) -> Vec<Decision> {
    let HttpRule {
        mirrors,
        timeouts,
        retry,
        hedge,
        ..
    } = &rule.action;
    let said = "the rule says so";
    let decide = |stage, choice, why: &str| Decision::new(stage, Some(&rule.route), choice, why).of_rule(rule.index);
    let copies = mirrors
        .iter()
        .map(|mirror| decide(Stage::Filter, words::mirror(mirror), said));
    let mut decisions: Vec<Decision> = copies.collect();
    let timeouts = words::timeouts(timeouts);
    if !timeouts.is_empty() {
        decisions.push(decide(Stage::Timeout, timeouts.join(", "), said));
    }
    if let Some(retry) = retry {
        let within = format!(
            "{said}; within the destination's budget of {} of its traffic plus {} a second",
            words::percent(budget.ratio),
            budget.min_per_second
        );
        decisions.push(decide(Stage::Retry, words::retry(retry), &within));
    }
    if let Some(hedge) = hedge {
        decisions.push(decide(Stage::Retry, words::hedge(hedge), said));
    }
    decisions
}

fn filtered(rule: &Rule<HttpRule>, filter: &Filter) -> Decision {
    Decision::new(
        Stage::Filter,
        Some(&rule.route),
        words::filter(filter),
        "the rule says so",
    )
    .of_rule(rule.index)
}

/// Filters that are set for the backend alone.
fn of_backend(backends: &Backends) -> Vec<Decision> {
    let filters = likeliest(backends).into_iter().flat_map(|backend| {
        let object = &backend.backend.object;
        let tell = move |filter| {
            Decision::new(
                Stage::Filter,
                Some(object),
                words::filter(filter),
                "of this backend alone",
            )
        };
        backend.filters.iter().map(tell)
    });
    filters.collect()
}

/// The backend that most requests go to.
fn likeliest(backends: &Backends) -> Option<&RouteBackend> {
    match backends {
        Backends::None => None,
        Backends::First(first) => first.first(),
        Backends::Weighted(weighted) => weighted
            .iter()
            .max_by_key(|(_, weight)| *weight)
            .map(|(backend, _)| backend),
    }
}

/// The answer of a filter that answers every request.
pub(super) fn answered_by(filter: &Filter) -> Option<(Outcome, Answer)> {
    match filter {
        Filter::Redirect(redirect) => {
            let answer = Answer {
                verdict: Verdict::Policy,
                reason: "",
                status: Some(redirect.status),
                grpc_status: None,
            };
            Some((Outcome::Redirected, answer))
        }
        Filter::Abort(abort) if abort.share.numerator >= abort.share.denominator => {
            let (status, grpc_status) = match abort.answer {
                AbortAnswer::Http(status) => (Some(status), None),
                AbortAnswer::Grpc(code) => (Some(StatusCode::OK), Some(code)),
            };
            let answer = Answer {
                verdict: Verdict::Policy,
                reason: "fault-injected",
                status,
                grpc_status,
            };
            Some((Outcome::Answered, answer))
        }
        Filter::Abort(_)
        | Filter::RequestHeaders(_)
        | Filter::ResponseHeaders(_)
        | Filter::Rewrite(_)
        | Filter::Delay(_) => None,
    }
}

fn takes(rule: &StreamRule, name: Option<&str>) -> bool {
    rule.server_names.is_empty() || name.is_some_and(|name| rule.server_names.iter().any(|wanted| wanted.matches(name)))
}

fn tls(mut decisions: Vec<Decision>, rules: &[StreamRule], taken: Option<&StreamRule>, name: Option<&str>) -> Outbound {
    let asked = name.unwrap_or("no name");
    let why = |rule: &StreamRule| {
        if takes(rule, name) {
            "takes it too, but is less specific or stands behind".to_owned()
        } else {
            format!(
                "it is for {}, the client asks for {asked}",
                words::host_list(&rule.server_names)
            )
        }
    };
    let losers = others(rules, taken, why);
    let Some(rule) = taken else {
        let none = Decision::new(
            Stage::Route,
            None,
            "no route",
            format!("no rule is for the server name {asked}"),
        );
        decisions.push(none.over(losers));
        return ended(decisions, Outcome::Refused, reset("no-route", Verdict::Policy));
    };
    let why = if rule.server_names.is_empty() {
        "it takes every server name".to_owned()
    } else {
        format!("{} matches {asked}", words::host_list(&rule.server_names))
    };
    let route = Decision::new(Stage::Route, Some(&rule.route), words::object(&rule.route), why);
    decisions.push(route.over(losers));
    stream_rule(decisions, rule)
}

fn stream(mut decisions: Vec<Decision>, rules: &[StreamRule]) -> Outbound {
    let Some(rule) = rules.first() else {
        let none = Decision::new(Stage::Route, None, "no route", "the policy has none for connections");
        decisions.push(none);
        return ended(decisions, Outcome::Refused, reset("no-route", Verdict::Policy));
    };
    let losers = others(rules, Some(rule), |_| "the first is taken".to_owned());
    let route = Decision::new(
        Stage::Route,
        Some(&rule.route),
        words::object(&rule.route),
        "connections take the first route",
    );
    decisions.push(route.over(losers));
    stream_rule(decisions, rule)
}

fn others(rules: &[StreamRule], taken: Option<&StreamRule>, why: impl Fn(&StreamRule) -> String) -> Vec<Loser> {
    let is_taken = |rule: &&StreamRule| taken.is_none_or(|taken| !std::ptr::eq(taken, *rule));
    let tell = |rule: &StreamRule| Loser {
        object: rule.route.clone(),
        rule: None,
        choice: if rule.server_names.is_empty() {
            "every connection".to_owned()
        } else {
            words::host_list(&rule.server_names)
        },
        why: why(rule),
    };
    rules.iter().filter(is_taken).map(tell).collect()
}

fn stream_rule(mut decisions: Vec<Decision>, rule: &StreamRule) -> Outbound {
    if let Some(refusal) = &rule.refuses {
        let why = match refusal {
            Refusal::Forbidden => "an operator forbids it, or the Service has no such port".to_owned(),
            Refusal::Invalid(why) => format!("the route is invalid: {why}"),
        };
        decisions.push(Decision::new(
            Stage::Filter,
            Some(&rule.route),
            "refuses connections",
            why,
        ));
        return ended(decisions, Outcome::Refused, reset("forbidden", Verdict::Policy));
    }
    let (decision, backends) = backend(Some(&rule.route), &rule.backends);
    decisions.push(decision);
    forwarded(decisions, backends, &HttpPolicy::default())
}

/// Which backend takes it, and the others with their shares.
fn backend(route: Option<&crate::ObjectRef>, backends: &Backends) -> (Decision, Vec<Arc<Backend>>) {
    let none = |why: &str| {
        let decision = Decision::new(Stage::Backend, route, "none", why);
        (decision, Vec::new())
    };
    let tell = |choice: &RouteBackend, why: String| {
        let name = words::route_backend(choice);
        Decision::new(Stage::Backend, Some(&choice.backend.object), name, why)
    };
    match backends {
        Backends::None => none("the rule names no backend"),
        Backends::First(all) => {
            let Some((first, others)) = all.split_first() else {
                return none("the rule names no backend");
            };
            let why = if others.is_empty() {
                "the only backend"
            } else {
                "the first that can be reached is taken"
            };
            let losers = others
                .iter()
                .map(|other| lost(other, "taken where those before it cannot be reached".to_owned()));
            let decision = tell(first, why.to_owned()).over(losers.collect());
            (decision, all.iter().map(|one| Arc::clone(&one.backend)).collect())
        }
        Backends::Weighted(all) => weighted(all, none, tell),
    }
}

fn weighted(
    all: &[(RouteBackend, u32)],
    none: impl Fn(&str) -> (Decision, Vec<Arc<Backend>>),
    tell: impl Fn(&RouteBackend, String) -> Decision,
) -> (Decision, Vec<Arc<Backend>>) {
    let total: u64 = all.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut ranked: Vec<&(RouteBackend, u32)> = all.iter().collect();
    ranked.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let Some(((first, weight), others)) = ranked.split_first().map(|(first, others)| (*first, others)) else {
        return none("the rule names no backend");
    };
    if total == 0 {
        return none("every backend of the rule has weight 0");
    }
    let share = |weight: u32| words::percent(f64::from(weight) / total as f64);
    let why = if all.len() == 1 {
        "the only backend".to_owned()
    } else {
        format!("weight {weight}: {} of requests, drawn for each", share(*weight))
    };
    let losers = others.iter().map(|(other, weight)| {
        let why = match weight {
            0 => "weight 0: it takes none".to_owned(),
            _ => format!("weight {weight}: {} of requests go there instead", share(*weight)),
        };
        lost(other, why)
    });
    let decision = tell(first, why).over(losers.collect());
    let takers = ranked.iter().filter(|(_, weight)| *weight > 0);
    (decision, takers.map(|(one, _)| Arc::clone(&one.backend)).collect())
}

fn lost(backend: &RouteBackend, why: String) -> Loser {
    Loser {
        object: backend.backend.object.clone(),
        rule: None,
        choice: words::route_backend(backend),
        why,
    }
}

fn forwarded(mut decisions: Vec<Decision>, backends: Vec<Arc<Backend>>, policy: &HttpPolicy) -> Outbound {
    let Some(first) = backends.first() else {
        return ended(
            decisions,
            Outcome::Refused,
            refusal("invalid-backend", StatusCode::INTERNAL_SERVER_ERROR, UNAVAILABLE),
        );
    };
    if let BackendTarget::Invalid { why } = &first.target {
        let why = why.to_string();
        if let Some(decision) = decisions.iter_mut().rev().find(|one| one.stage == Stage::Backend) {
            decision.why = format!("{}; it cannot be used: {why}", decision.why);
        }
        return ended(
            decisions,
            Outcome::Refused,
            refusal("invalid-backend", StatusCode::INTERNAL_SERVER_ERROR, UNAVAILABLE),
        );
    }
    let mut choosing = words::balancing(&first.balancing);
    choosing.extend(policy.accrual.as_ref().map(words::accrual));
    if !choosing.is_empty() {
        let object = first.object.clone();
        decisions.push(Decision::new(
            Stage::Endpoint,
            Some(&object),
            choosing.join("; "),
            "the backend says so",
        ));
    }
    Outbound {
        changes: Changes::default(),
        explanation: Explanation::forwarded(decisions),
        backends,
    }
}

fn ended(decisions: Vec<Decision>, outcome: Outcome, answer: Answer) -> Outbound {
    Outbound {
        changes: Changes::default(),
        explanation: Explanation::ended(decisions, outcome, answer),
        backends: Vec::new(),
    }
}

fn refusal(reason: &'static str, status: StatusCode, grpc_status: u16) -> Answer {
    Answer {
        verdict: Verdict::Policy,
        reason,
        status: Some(status),
        grpc_status: Some(grpc_status),
    }
}

fn reset(reason: &'static str, verdict: Verdict) -> Answer {
    Answer {
        verdict,
        reason,
        status: None,
        grpc_status: None,
    }
}
