//! Whether a request may come in at a workload's port.

use http::StatusCode;
use sheer_api::Verdict;

use super::{Answer, Client, Decision, Explanation, Loser, Outcome, Stage, authorization, rule, words};
use crate::{
    inbound::{InboundPolicy, RateLimit},
    routes::RequestView,
};

/// gRPC codes of answers.
const PERMISSION_DENIED: u16 = 7;
const NOT_FOUND: u16 = 5;
const RESOURCE_EXHAUSTED: u16 = 8;

/// What a port's policy does with a request of a client; without a request, with a connection.
pub fn explain(
    policy: &InboundPolicy,
    port: u16,
    client: &Client<'_>,
    request: Option<&RequestView<'_>>,
) -> Explanation {
    let mut decisions = vec![
        server(policy, port),
        Decision::new(
            Stage::Protocol,
            Some(&policy.server),
            words::protocol(policy.protocol),
            protocol_why(policy),
        ),
    ];
    let mut of_route = None;
    if let Some(request) = request
        && !policy.routes.is_empty()
    {
        let (routing, found) = rule::decide(&policy.routes, request);
        decisions.extend(routing);
        match found {
            Some(found) => of_route = Some(found.rule),
            None => return Explanation::ended(decisions, Outcome::Refused, no_route()),
        }
    }
    let route_rules = of_route.into_iter().flat_map(|rule| rule.action.authorizations.iter());
    let judged = authorization::judge(policy.authorizations.iter().chain(route_rules), client);
    let allowed = judged.winner.is_some();
    decisions.push(admission(policy, client, &judged));
    if !allowed {
        return Explanation::ended(decisions, Outcome::Denied, denied());
    }
    // A probe that is refused for the load of others would take the pod out of service.
    let is_probe = of_route.is_some_and(|rule| rule.route.is_default() && rule.route.name == "probe");
    if let Some(limit) = policy.rate_limit.as_ref().filter(|_| !is_probe) {
        let (decision, takes_any) = rate_limit(limit, client);
        decisions.push(decision);
        if !takes_any {
            return Explanation::ended(decisions, Outcome::Limited, limited());
        }
    }
    let filters = of_route.map_or(&[][..], |rule| &rule.action.filters);
    for filter in filters {
        let object = of_route.map(|rule| &rule.route);
        decisions.push(Decision::new(
            Stage::Filter,
            object,
            words::filter(filter),
            "the rule says so",
        ));
        if let Some((outcome, answer)) = super::outbound::answered_by(filter) {
            return Explanation::ended(decisions, outcome, answer);
        }
    }
    Explanation::forwarded(decisions)
}

fn server(policy: &InboundPolicy, port: u16) -> Decision {
    let why = if policy.server.is_default() {
        "no Server selects the port: the default policy holds".to_owned()
    } else {
        format!("it selects port {port} of the workload")
    };
    Decision::new(Stage::Server, Some(&policy.server), words::object(&policy.server), why)
}

fn protocol_why(policy: &InboundPolicy) -> &'static str {
    match policy.protocol {
        crate::ProtocolPlan::Detect { .. } => "nobody says it: the first bytes do",
        _ => "the policy says it",
    }
}

fn admission(policy: &InboundPolicy, client: &Client<'_>, judged: &authorization::Judged<'_>) -> Decision {
    let losers: Vec<Loser> = judged.losers.clone();
    let who = client
        .identities
        .first()
        .map_or_else(|| client.address.to_string(), |name| words::identity(name));
    match judged.winner {
        Some(rule) => Decision::new(
            Stage::Policy,
            Some(&rule.policy),
            format!("let in by {}", rule.policy),
            format!("{who} is let in: {}", words::lets_in(rule)),
        ),
        None if losers.is_empty() => Decision::new(
            Stage::Policy,
            Some(&policy.server),
            "denied",
            format!("{} lets nobody in", policy.server),
        ),
        None => Decision::new(
            Stage::Policy,
            Some(&policy.server),
            "denied",
            format!("no authorization of {} lets {who} in", policy.server),
        ),
    }
    .over(losers)
}

/// Which of a policy's limits hold for a client, and whether they take any request at all.
fn rate_limit(limit: &RateLimit, client: &Client<'_>) -> (Decision, bool) {
    let over = limit.overrides.iter().find(|over| {
        over.identities
            .iter()
            .any(|name| client.identities.iter().any(|own| own.eq_ignore_ascii_case(name)))
    });
    let own = over.map(|over| over.requests_per_second).or(limit.identity);
    let mut parts = Vec::new();
    parts.extend(limit.total.map(|rate| format!("{rate} a second of all clients")));
    parts.extend(own.map(|rate| match over {
        Some(_) => format!("{rate} a second by an override for this client"),
        None => format!("{rate} a second of this client"),
    }));
    let takes_any = limit.total != Some(0) && own != Some(0);
    let choice = if parts.is_empty() {
        "no limit".to_owned()
    } else {
        parts.join(", ")
    };
    let why = if takes_any {
        "more than that is answered with 429"
    } else {
        "a limit of 0 takes nothing"
    };
    (Decision::new(Stage::Limit, Some(&limit.policy), choice, why), takes_any)
}

fn denied() -> Answer {
    Answer {
        verdict: Verdict::Policy,
        reason: "policy-denied",
        status: Some(StatusCode::FORBIDDEN),
        grpc_status: Some(PERMISSION_DENIED),
    }
}

fn no_route() -> Answer {
    Answer {
        verdict: Verdict::Policy,
        reason: "no-route",
        status: Some(StatusCode::NOT_FOUND),
        grpc_status: Some(NOT_FOUND),
    }
}

fn limited() -> Answer {
    Answer {
        verdict: Verdict::Policy,
        reason: "rate-limited",
        status: Some(StatusCode::TOO_MANY_REQUESTS),
        grpc_status: Some(RESOURCE_EXHAUSTED),
    }
}
