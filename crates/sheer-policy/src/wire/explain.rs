//! Explanations as `sheer.v1` says them.

use sheer_api::v1;

use crate::{
    ObjectRef,
    explain::{Decision, Explanation, Loser, words},
    outbound::HttpRule,
    routes::Rule,
};

/// An object, as several messages of `sheer.v1` refer to it.
pub fn object(object: &ObjectRef) -> v1::ObjectRef {
    v1::ObjectRef {
        group: object.group.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        section: object.section.clone(),
        port: object.port.into(),
    }
}

/// A decision; file and line are the control plane's to know.
pub fn decision(decision: &Decision) -> v1::Decision {
    v1::Decision {
        stage: decision.stage.as_str().to_owned(),
        object: decision.object.as_ref().map(object),
        choice: decision.choice.clone(),
        why: decision.why.clone(),
        losers: decision.losers.iter().map(loser).collect(),
        file: String::new(),
        line: 0,
    }
}

fn loser(loser: &Loser) -> v1::Loser {
    v1::Loser {
        object: Some(object(&loser.object)),
        choice: loser.choice.clone(),
        why: loser.why.clone(),
        file: String::new(),
        line: 0,
    }
}

/// A whole explanation. Endpoints and the age of the state are for whoever holds them to add.
pub fn explanation(said: &Explanation) -> v1::Explanation {
    let answer = said.answer.as_ref();
    v1::Explanation {
        decisions: said.decisions.iter().map(decision).collect(),
        outcome: said.outcome.as_str().to_owned(),
        verdict: answer.map_or_else(String::new, |answer| answer.verdict.to_string()),
        reason: answer.map_or("", |answer| answer.reason).to_owned(),
        status: answer
            .and_then(|answer| answer.status)
            .map_or(0, |status| status.as_u16().into()),
        grpc_status: answer
            .and_then(|answer| answer.grpc_status)
            .map_or(-1, i32::from),
        state_age_ms: 0,
        endpoints: Vec::new(),
    }
}

/// A rule of an outbound route. How many requests it took is the proxy's to know.
pub fn outbound_rule(rule: &Rule<HttpRule>) -> v1::RouteState {
    v1::RouteState {
        route: Some(object(&rule.route)),
        rule: u32::try_from(rule.index).unwrap_or(u32::MAX),
        matches: words::conditions(&rule.hosts, &rule.matches),
        actions: words::actions(&rule.action).join("; "),
        backends: words::backends(&rule.action.backends),
        requests: 0,
    }
}
